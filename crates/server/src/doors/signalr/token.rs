//! What a client that has negotiated shows when it connects. Nothing is kept for it until then: the token says all itself.

use std::fmt;

use aws_lc_rs::{constant_time, digest, hmac};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use duplex_core::{Able, ClientId, NodeId, ShardId, UserId};
use http::Request;
use hyper::body::Incoming;

use super::{Place, Resume, Site, Visit};
use crate::auth::Secret;
use crate::cluster::derived_key;
use crate::doors::whose::Passage;
use crate::hubs::Hub;
use crate::query;

/// Bytes of the signature: half of what HMAC-SHA256 gives (RFC 2104, 5).
const SIGNATURE_BYTES: usize = 16;

/// In a token: its client wants to come back.
const RESUMES: u8 = 1;
/// In a token: its client can be asked.
const ANSWERS: u8 = 2;

/// Signs tokens, and knows its own.
pub(crate) struct Signer(hmac::Key);

impl Signer {
    /// With the key of all nodes that have this secret.
    pub fn derived(secret: &Secret) -> Self {
        Self(derived_key(secret, "duplex: connection tokens of SignalR, 1"))
    }

    /// With a key that nobody knows.
    pub fn random() -> Self {
        let mut key = [0; 32];
        getrandom::fill(&mut key).expect("the operating system gives random bytes");
        Self(hmac::Key::new(hmac::HMAC_SHA256, &key))
    }

    /// Of a token that is good for the hub at `path`.
    fn signature(&self, claims: &[u8], path: &str) -> [u8; SIGNATURE_BYTES] {
        let whole = hmac::sign(&self.0, &[claims, path.as_bytes()].concat());
        *whole.as_ref().first_chunk().expect("SHA-256 has 32 bytes")
    }
}

/// What a token says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConnectionToken {
    /// Where the connection will be: on this node,
    pub node: NodeId,
    /// and this shard of it.
    pub shard: ShardId,
    /// The id of its client.
    pub client: ClientId,
    /// When the client negotiated, milliseconds since 1970 UTC.
    pub issued_ms: u64,
    /// Whether the client wants to come back to it.
    pub resume: Resume,
    /// Whether the client can be asked for something.
    pub answers: Able,
    /// Who has negotiated.
    pub user: UserMark,
}

/// Tells users apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UserMark([u8; 8]);

impl UserMark {
    /// Of a user, or of nobody in particular.
    pub fn of(user: Option<&UserId>) -> Self {
        let digest = user.map(|user| digest::digest(&digest::SHA256, user.as_bytes()));
        Self(digest.and_then(|digest| digest.as_ref().first_chunk().copied()).unwrap_or_default())
    }
}

/// A token as it is written.
pub(super) struct Signed(Vec<u8>);

impl fmt::Display for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64_URL_SAFE_NO_PAD.encode(&self.0))
    }
}

impl ConnectionToken {
    /// Signs it for the hub at `path`.
    pub(super) fn sign(&self, signer: &Signer, path: &str) -> Signed {
        let shard = u8::try_from(self.shard.index()).expect("there are fewer shards");
        let mut flags = 0;
        if self.resume == Resume::Yes {
            flags |= RESUMES;
        }
        if self.answers == Able::Yes {
            flags |= ANSWERS;
        }
        let mut bytes = vec![shard, flags];
        bytes.extend_from_slice(&self.node.bytes());
        bytes.extend_from_slice(&self.issued_ms.to_be_bytes());
        bytes.extend_from_slice(&self.client.bytes());
        bytes.extend_from_slice(&self.user.0);
        let signature = signer.signature(&bytes, path);
        bytes.extend_from_slice(&signature);
        Signed(bytes)
    }

    /// Reads one that was signed with this key for the hub at `path`, perhaps by another node. It comes from outside, so anything may be in it.
    pub fn read(text: &str, signer: &Signer, path: &str) -> Option<Self> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        let (claims, signature) = bytes.split_last_chunk::<SIGNATURE_BYTES>()?;
        constant_time::verify_slices_are_equal(&signer.signature(claims, path), signature).ok()?;
        let (&[shard, flags], rest) = claims.split_first_chunk()?;
        let (node, rest) = rest.split_first_chunk()?;
        let (issued_ms, rest) = rest.split_first_chunk()?;
        let (client, user) = rest.split_first_chunk()?;
        Some(Self {
            node: NodeId::from_random(*node),
            shard: ShardId::new(usize::from(shard))?,
            client: ClientId::from_random(*client),
            issued_ms: u64::from_be_bytes(*issued_ms),
            resume: if flags & RESUMES != 0 { Resume::Yes } else { Resume::No },
            answers: if flags & ANSWERS != 0 { Able::Yes } else { Able::No },
            user: UserMark(user.try_into().ok()?),
        })
    }
}

/// The node of the connection that a request names, and how it is answered there.
pub(in crate::doors) fn whose(
    site: &Site,
    request: &Request<Incoming>,
    place: &Place,
) -> Option<(NodeId, Passage)> {
    let Place::Hub(hub) = place else { return None };
    let id = query::any_case(request.uri().query(), "id")?;
    let token = ConnectionToken::read(&id, &site.signer, &hub.path)?;
    let passage = match Visit::of(request)? {
        Visit::Upgrade => Passage::Upgrade,
        Visit::Events => Passage::Endless,
        Visit::Poll => Passage::Poll,
        Visit::Post | Visit::Delete => Passage::Plain,
    };
    Some((token.node, passage))
}

/// Reads a token of a connection that is on this node, or may be.
pub(super) fn token_of_ours(site: &Site, text: &str, hub: &Hub) -> Option<ConnectionToken> {
    let token = ConnectionToken::read(text, &site.signer, &hub.path)?;
    (token.node == site.nodes.own()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_where_it_was_signed_and_nowhere_else() {
        let signer = Signer::random();
        let token = ConnectionToken {
            node: NodeId::from_random([9; 8]),
            shard: ShardId::new(3).unwrap(),
            client: ClientId::from_random([7; 16]),
            issued_ms: 1_732_330_000_123,
            resume: Resume::Yes,
            answers: Able::No,
            user: UserMark::of(UserId::parse("ann").ok().as_ref()),
        };
        let text = token.sign(&signer, "/a").to_string();
        assert_eq!(ConnectionToken::read(&text, &signer, "/a"), Some(token));
        assert_eq!(ConnectionToken::read(&text, &Signer::random(), "/a"), None, "another server's");
        assert_eq!(ConnectionToken::read(&text, &signer, "/b"), None, "another hub's");
        for at in 0..text.len() {
            let mut forged = text.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            assert_eq!(ConnectionToken::read(&forged, &signer, "/a"), None, "{forged}");
        }
        for forged in ["", "AAAA", &text[1..], &format!("{text}AAAA")] {
            assert_eq!(ConnectionToken::read(forged, &signer, "/a"), None, "{forged}");
        }
    }
}
