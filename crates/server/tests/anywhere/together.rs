//! Nodes that know each other.

use std::net::SocketAddr;
use std::time::Duration;

use duplex::{Cluster, Options, Peer, Settings, Timeouts};

use crate::support::tokens::secret;
use crate::support::{Levels, Running, start};

/// What the nodes know each other by.
pub const SECRET: &str = "a secret of all nodes that is long enough";
/// What is left when everybody has gone.
pub const GONE: Levels = Levels::of(0, 0);

/// Options of a node that gives its clients little time to take their leave, never sends a heartbeat by itself, and lets
/// connections of requests be idle for as long as a story may take.
pub fn options() -> Options {
    let options = crate::support::options();
    let timeouts = Timeouts { head: Duration::from_secs(60), ..Timeouts::default() };
    let settings = Settings { close_ms: 500, heartbeat_ms: 300_000, ..options.settings };
    let cluster = Cluster {
        listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        advertise: None,
        secret: Some(secret(SECRET)),
    };
    Options { settings, timeouts, cluster, ..options }
}

/// Starts so many nodes; each is told of the others.
pub fn nodes<const N: usize>(options: &Options) -> [Running; N] {
    let nodes = [(); N].map(|()| start(options.clone()));
    for node in &nodes {
        nodes.iter().for_each(|peer| introduce(node, peer));
    }
    nodes
}

/// Where a node listens for others.
pub fn entrance(node: &Running) -> SocketAddr {
    node.server().advertised().expect("it listens for others")
}

/// Tells a node of another.
pub fn introduce(node: &Running, peer: &Running) {
    let address = entrance(peer);
    let _ = node.server().nodes().heard(peer.server().nodes().own(), Peer { address: Some(address) });
}
