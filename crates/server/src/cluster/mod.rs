//! Several nodes that are one server: who is there, what they ask each other, and how a request gets to the node that has
//! its session.

mod nodes;
mod talk;
mod proof;
mod entrance;
mod forward;

pub(crate) use entrance::accept;
pub(crate) use forward::{Forwarded, Onward, destination, send_on};
pub use nodes::{Known, Nodes, Peer};
pub(crate) use proof::{Proofs, Unproven, derived_key};
pub(crate) use talk::{Gathered, Inlet, Notes, Talk, listen};

use std::net::SocketAddr;

use duplex_core::NodeId;

use crate::options::Cluster;

/// The id of a node that starts.
pub(crate) fn new_node() -> NodeId {
    let mut random = [0; 8];
    getrandom::fill(&mut random).expect("the operating system gives random bytes");
    NodeId::from_random(random)
}

/// Whether other nodes can reach this one, and believe it.
///
/// # Errors
/// What is wrong, with the path of the option.
pub(crate) fn check(options: &Cluster) -> Result<(), String> {
    let Cluster { listen, advertise, secret } = options;
    match (listen, advertise) {
        (None, None) => return Ok(()),
        (None, Some(_)) => {
            return Err(
                "cluster.advertise: nobody listens there; set cluster.listen, too, or leave it out".into()
            );
        }
        (Some(listen), None) if listen.ip().is_unspecified() => {
            return Err(format!(
                "cluster.advertise: cluster.listen is {listen}, which is no address for others; set the one at which \
                 other nodes reach this one"
            ));
        }
        (Some(_), Some(told)) if told.ip().is_unspecified() || told.port() == 0 => {
            return Err(format!(
                "cluster.advertise: {told} is no address for others; set the one at which other nodes reach this one"
            ));
        }
        (Some(_), _) => {}
    }
    match secret {
        Some(_) => Ok(()),
        None => Err("cluster.secret: nodes that listen for each other must know each other; set the same secret of at \
                     least 32 bytes on each, for example from `openssl rand -base64 32`, best as DUPLEX_CLUSTER__SECRET"
            .into()),
    }
}

/// The address that other nodes are told, of a node that listens for them at `bound`.
pub(crate) fn advertised(options: &Cluster, bound: SocketAddr) -> SocketAddr {
    options.advertise.unwrap_or(bound)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Secret;

    #[test]
    fn what_is_missing_is_named_with_its_path() {
        let address = |text: &str| (!text.is_empty()).then(|| text.parse().unwrap());
        for (listen, advertise, secret, wrong) in [
            ("", "", false, ""),
            ("", "", true, ""),
            ("127.0.0.1:0", "", true, ""),
            ("0.0.0.0:8001", "10.0.0.1:8001", true, ""),
            ("127.0.0.1:0", "", false, "cluster.secret: "),
            ("", "10.0.0.1:8001", true, "cluster.advertise: nobody listens"),
            ("0.0.0.0:8001", "", true, "cluster.advertise: cluster.listen is 0.0.0.0:8001"),
            ("[::]:8001", "", true, "cluster.advertise: cluster.listen is [::]:8001"),
            ("0.0.0.0:8001", "0.0.0.0:8001", true, "cluster.advertise: 0.0.0.0:8001"),
            ("0.0.0.0:8001", "10.0.0.1:0", true, "cluster.advertise: 10.0.0.1:0"),
        ] {
            let secret = secret.then(|| Secret::new("x".repeat(32)).unwrap());
            let options = Cluster { listen: address(listen), advertise: address(advertise), secret };
            match check(&options) {
                Ok(()) => assert_eq!(wrong, "", "{listen} {advertise}"),
                Err(error) => assert!(!wrong.is_empty() && error.starts_with(wrong), "{error}"),
            }
        }
    }
}
