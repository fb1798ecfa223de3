//! How a node shows that it is one: each request that it sends on says from whom, when and for which client, signed with a key
//! that only nodes have.

use std::net::IpAddr;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use duplex_core::NodeId;
use duplex_transport::http::{Body, text};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};

use crate::auth::Secret;

/// The header field with the proof: node, time, address of the client, signature.
pub(crate) const FORWARDED: HeaderName = HeaderName::from_static("duplex-forwarded");

/// How far the clocks of two nodes may be apart, ms.
const SKEW_MS_MAX: u64 = 30_000;

/// A key of its own for each purpose, so that nothing that was signed for one is good for another.
pub(crate) fn derived_key(secret: &Secret, purpose: &str) -> hmac::Key {
    let secret = hmac::Key::new(hmac::HMAC_SHA256, secret.bytes());
    hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&secret, purpose.as_bytes()).as_ref())
}

/// Signs what this node sends on, and checks what others do.
pub(crate) struct Proofs {
    key: hmac::Key,
    own: NodeId,
}

/// Why a request is not believed. The text is for operators: no client comes here.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unproven {
    #[error("this address is for other nodes of the cluster; clients connect to server.listen")]
    Absent,
    #[error("the header duplex-forwarded cannot be read; check that all nodes run the same version")]
    Malformed,
    #[error(
        "the header duplex-forwarded is not signed as it should be; check that cluster.secret is the same on all nodes"
    )]
    Forged,
    #[error("the request was sent on {} s {}; set the clocks of the nodes, which may be 30 s apart", apart_ms / 1_000, if *is_late { "ago" } else { "in the future" })]
    Untimely { apart_ms: u64, is_late: bool },
    #[error("only requests for sessions of this node are answered here")]
    Misdirected,
}

impl Unproven {
    /// How it is refused, so that a node that sends requests on can tell it from what clients are answered.
    pub fn answer(&self) -> Response<Body> {
        let mut response = text(StatusCode::FORBIDDEN, format!("{self}\n"));
        response.headers_mut().insert(FORWARDED, HeaderValue::from_static("refused"));
        response
    }
}

impl Proofs {
    /// Of this node.
    pub fn new(secret: &Secret, own: NodeId) -> Self {
        Self { key: derived_key(secret, "duplex: forwarded requests, 1"), own }
    }

    /// The proof for a request of the client at this address.
    ///
    /// Only method and target are signed: what else it says is for the session that the target names.
    pub fn prove<B>(&self, request: &Request<B>, client: IpAddr, now_ms: u64) -> HeaderValue {
        let claims = format!("{} {now_ms} {client}", self.own);
        let signed = signed(&claims, request.method(), target(request));
        let signature = hmac::sign(&self.key, signed.as_bytes());
        let proof = format!("{claims} {}", BASE64_URL_SAFE_NO_PAD.encode(signature));
        HeaderValue::from_str(&proof).expect("digits, letters and addresses can stand in a header")
    }

    /// Whether a node has sent a request on; if so, the address of its client.
    ///
    /// # Errors
    /// What is wrong with the proof.
    pub fn check<B>(&self, request: &Request<B>, now_ms: u64) -> Result<IpAddr, Unproven> {
        let mut proofs = request.headers().get_all(FORWARDED).iter();
        let (Some(proof), None) = (proofs.next(), proofs.next()) else { return Err(Unproven::Absent) };
        let read = || {
            let (claims, signature) = proof.to_str().ok()?.rsplit_once(' ')?;
            let mut parts = claims.split(' ');
            let (_node, time_ms, client) = (NodeId::parse(parts.next()?)?, parts.next()?, parts.next()?);
            let time_ms = time_ms.parse::<u64>().ok()?;
            let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?;
            parts.next().is_none().then_some((claims, time_ms, client.parse().ok()?, signature))
        };
        let (claims, time_ms, client, signature) = read().ok_or(Unproven::Malformed)?;
        // It compares in constant time.
        let signed = signed(claims, request.method(), target(request));
        hmac::verify(&self.key, signed.as_bytes(), &signature).map_err(|_| Unproven::Forged)?;
        match now_ms.abs_diff(time_ms) {
            0..=SKEW_MS_MAX => Ok(client),
            apart_ms => Err(Unproven::Untimely { apart_ms, is_late: time_ms < now_ms }),
        }
    }
}

/// What a request asks for, as it stands in its first line.
pub(super) fn target<B>(request: &Request<B>) -> &str {
    request.uri().path_and_query().map_or("/", |target| target.as_str())
}

/// No part of it has a space in it.
fn signed(claims: &str, method: &Method, target: &str) -> String {
    format!("{claims} {method} {target}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_732_330_000_000;

    fn proofs(secret: &str) -> Proofs {
        Proofs::new(&Secret::new(secret.repeat(32)).unwrap(), NodeId::from_random([7; 8]))
    }

    fn request(method: Method, target: &str, proofs: &[&str]) -> Request<()> {
        let request = Request::builder().method(method).uri(target);
        let with = |request: http::request::Builder, proof: &&str| request.header(FORWARDED, *proof);
        proofs.iter().fold(request, with).body(()).unwrap()
    }

    #[test]
    fn a_proof_is_good_for_its_request_and_its_time_alone() {
        let client: IpAddr = "2001:db8::1".parse().unwrap();
        let target = "/session/x?after=1";
        let proof = proofs("a").prove(&request(Method::GET, target, &[]), client, NOW);
        let check = |by: &str, method: Method, target: &str, now_ms| {
            proofs(by).check(&request(method, target, &[proof.to_str().unwrap()]), now_ms)
        };
        for now_ms in [NOW, NOW + 30_000, NOW - 30_000] {
            assert_eq!(check("a", Method::GET, target, now_ms), Ok(client));
        }
        let untimely = |is_late| Err(Unproven::Untimely { apart_ms: 30_001, is_late });
        assert_eq!(check("a", Method::GET, target, NOW + 30_001), untimely(true));
        assert_eq!(check("a", Method::GET, target, NOW - 30_001), untimely(false));
        assert_eq!(check("b", Method::GET, target, NOW), Err(Unproven::Forged));
        assert_eq!(check("a", Method::POST, target, NOW), Err(Unproven::Forged));
        assert_eq!(check("a", Method::GET, "/session/x?after=2", NOW), Err(Unproven::Forged));
    }

    #[test]
    fn what_is_no_proof_or_was_changed_is_none() {
        let proofs = proofs("a");
        let good = proofs.prove(&request(Method::GET, "/", &[]), "192.0.2.1".parse().unwrap(), NOW);
        let good = good.to_str().unwrap();
        let check = |given: &[&str]| proofs.check(&request(Method::GET, "/", given), NOW);
        assert!(check(&[good]).is_ok());
        assert_eq!(check(&[]), Err(Unproven::Absent));
        assert_eq!(check(&[good, good]), Err(Unproven::Absent));
        for (changed, error) in [
            (good.replace("192.0.2.1", "192.0.2.2"), Unproven::Forged),
            (good.replace("0707", "0708"), Unproven::Forged),
            (good.replace("1732330000000", "1732330000001"), Unproven::Forged),
            (good[..good.len() - 3].to_owned(), Unproven::Forged),
            (good.replace("192.0.2.1", "nobody"), Unproven::Malformed),
            (good.replace("192.0.2.1 ", "192.0.2.1 x "), Unproven::Malformed),
            (String::new(), Unproven::Malformed),
        ] {
            assert_eq!(check(&[&changed]), Err(error), "{changed}");
        }
    }
}
