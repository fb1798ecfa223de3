//! The sessions of a shard that may change their transport, found by the secret that their client was given.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::rc::{Rc, Weak};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use duplex_core::{NodeId, ShardId};
use duplex_engine::SessionKey;
use duplex_protocol::native::Form;
use duplex_transport::movable::MovableLink;

use crate::places::AddressPlace;

/// 128 bits that nobody can guess.
pub(crate) type Secret = [u8; 16];

/// Names a session to its client and to nobody else, and says on which shard of which node it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SessionToken {
    pub node: NodeId,
    pub shard: ShardId,
    pub secret: Secret,
}

impl SessionToken {
    /// A fresh one.
    pub fn random(node: NodeId, shard: ShardId) -> Self {
        let mut secret = Secret::default();
        getrandom::fill(&mut secret).expect("the operating system gives random bytes");
        Self { node, shard, secret }
    }

    /// Reads one as it is written in a path. It comes from outside, so anything may be in it.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; 25] = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let (secret, rest) = bytes.split_first_chunk()?;
        let (node, [shard]) = rest.split_first_chunk()? else { return None };
        let (node, shard) = (NodeId::from_random(*node), ShardId::new(usize::from(*shard))?);
        Some(Self { node, shard, secret: *secret })
    }
}

impl fmt::Display for SessionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [&self.secret[..], &self.node.bytes()].concat();
        bytes.push(u8::try_from(self.shard.index()).expect("there are fewer shards"));
        f.write_str(&BASE64_URL_SAFE_NO_PAD.encode(bytes))
    }
}

/// The sessions of a shard.
#[derive(Default)]
pub(crate) struct Registry(RefCell<HashMap<Secret, Entry>>);

struct Entry {
    link: Weak<MovableLink>,
    key: SessionKey,
    form: Form,
}

/// A session that was found.
#[derive(Clone)]
pub(crate) struct Found {
    pub link: Rc<MovableLink>,
    pub key: SessionKey,
    pub form: Form,
}

impl Registry {
    /// From now on the session is found, until its [`Guard`] is dropped.
    pub fn add(&self, secret: Secret, session: &Found) {
        let Found { link, key, form } = session;
        self.0.borrow_mut().insert(secret, Entry { link: Rc::downgrade(link), key: *key, form: *form });
    }

    /// The session with this secret, unless it has ended.
    pub fn find(&self, secret: &Secret) -> Option<Found> {
        let entries = self.0.borrow();
        let Entry { link, key, form } = entries.get(secret)?;
        Some(Found { link: link.upgrade()?, key: *key, form: *form })
    }
}

/// What a session holds for as long as it lives.
pub(crate) struct Guard {
    pub registry: Rc<Registry>,
    pub secret: Secret,
    pub _place: Option<AddressPlace>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.registry.0.borrow_mut().remove(&self.secret);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_is_written_and_nothing_else_is() {
        let (node, shard) = (NodeId::from_random([7; 8]), ShardId::new(3).unwrap());
        let token = SessionToken { node, shard, secret: [0xfe; 16] };
        let text = token.to_string();
        assert_eq!((text.len(), SessionToken::parse(&text)), (34, Some(token)));
        let longer = format!("{text}AA");
        for forged in ["", "x", &text[1..], &longer, "../../etc/passwd", "%00", "_v7-_v7-_v7-_v7-_v7-_v7"] {
            assert_eq!(SessionToken::parse(forged), None, "{forged:?}");
        }
        let far = BASE64_URL_SAFE_NO_PAD.encode([0xff; 25]);
        assert_eq!(SessionToken::parse(&far), None, "there is no such shard");
    }
}
