use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use duplex_core::{Identity, UserId};
use serde::{Deserialize, Serialize};

/// Most users and tokens together. Each takes about 100 bytes.
const ENTRIES_MAX: usize = 100_000;

/// Whose tokens no longer hold although they are not expired.
#[derive(Debug)]
pub struct Revocations {
    ttl_ms: u64,
    entries_max: usize,
    entries: RwLock<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    users: HashMap<UserId, RevokedUser>,
    /// Until when each token is refused, milliseconds since 1970 UTC.
    tokens: HashMap<Box<str>, u64>,
}

#[derive(Debug, Clone, Copy)]
struct RevokedUser {
    /// Tokens issued in this second or before are refused.
    second: u64,
    until_ms: u64,
}

/// There is no room for another revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{max} users and tokens are revoked, which is the most; replace the key that tokens are signed with")]
pub struct RevocationsFull {
    /// Most users and tokens together.
    pub max: usize,
}

impl Revocations {
    /// A user stays revoked for `ttl`. It must be no shorter than tokens hold, or older ones hold again.
    pub fn new(ttl: Duration) -> Self {
        Self::with_room(ttl, ENTRIES_MAX)
    }

    fn with_room(ttl: Duration, entries_max: usize) -> Self {
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        Self { ttl_ms, entries_max, entries: RwLock::default() }
    }

    /// Refuses every token of `user` that was issued until now, or at a time it does not tell. `iat` has seconds, so those
    /// of this second are refused too, and those of the next are not.
    ///
    /// # Errors
    /// 100,000 users and tokens are revoked.
    pub fn revoke_user(&self, user: &UserId, now_ms: u64) -> Result<(), RevocationsFull> {
        let until_ms = now_ms.saturating_add(self.ttl_ms);
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        if !entries.users.contains_key(user) {
            entries.make_room(self.entries_max, now_ms)?;
        }
        entries.users.insert(user.clone(), RevokedUser { second: now_ms / 1_000, until_ms });
        Ok(())
    }

    /// Refuses the token whose `jti` this is until `until_ms`, best when it expires, but not for longer than the TTL.
    ///
    /// # Errors
    /// 100,000 users and tokens are revoked.
    pub fn revoke_token(&self, token: &str, until_ms: u64, now_ms: u64) -> Result<(), RevocationsFull> {
        let until_ms = until_ms.min(now_ms.saturating_add(self.ttl_ms));
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        if !entries.tokens.contains_key(token) {
            entries.make_room(self.entries_max, now_ms)?;
        }
        entries.tokens.insert(token.into(), until_ms);
        Ok(())
    }

    /// Whether the token that `identity` was read from is refused.
    pub fn is_revoked(&self, identity: &Identity, now_ms: u64) -> bool {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let token = identity.token.as_ref().and_then(|token| entries.tokens.get(&**token));
        let user = identity.user.as_ref().and_then(|user| entries.users.get(user));
        token.is_some_and(|until_ms| now_ms < *until_ms)
            || user.is_some_and(|user| user.refuses(identity.issued_ms, now_ms))
    }
}

/// Users and tokens that are revoked, as nodes tell each other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// A user, up to which second its tokens are refused, and until when.
    users: Vec<(String, u64, u64)>,
    /// A token's `jti`, and until when it is refused.
    tokens: Vec<(String, u64)>,
}

impl Revoked {
    /// The same in portions of at most `size`.
    pub fn portions(&self, size: usize) -> impl Iterator<Item = Self> {
        let users = self.users.chunks(size).map(|some| Self { users: some.to_vec(), ..Self::default() });
        users.chain(self.tokens.chunks(size).map(|some| Self { tokens: some.to_vec(), ..Self::default() }))
    }
}

impl Revocations {
    /// All that is revoked.
    pub fn all(&self) -> Revoked {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let users =
            entries.users.iter().map(|(user, revoked)| (user.to_string(), revoked.second, revoked.until_ms));
        let tokens = entries.tokens.iter().map(|(token, until_ms)| (token.to_string(), *until_ms));
        Revoked { users: users.collect(), tokens: tokens.collect() }
    }

    /// What another node has revoked is revoked here, too.
    ///
    /// # Errors
    /// 100,000 users and tokens are revoked.
    pub fn add(&self, revoked: &Revoked, now_ms: u64) -> Result<(), RevocationsFull> {
        for (name, second, until_ms) in &revoked.users {
            let Ok(user) = UserId::parse(name) else { continue };
            let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
            let known = entries.users.get(&user).copied();
            if known.is_none() {
                entries.make_room(self.entries_max, now_ms)?;
            }
            let known = known.unwrap_or(RevokedUser { second: 0, until_ms: 0 });
            let both = RevokedUser {
                second: known.second.max(*second),
                until_ms: known.until_ms.max((*until_ms).min(now_ms.saturating_add(self.ttl_ms))),
            };
            entries.users.insert(user, both);
        }
        revoked.tokens.iter().try_for_each(|(token, until_ms)| self.revoke_token(token, *until_ms, now_ms))
    }
}

impl Entries {
    fn len(&self) -> usize {
        self.users.len() + self.tokens.len()
    }

    /// Drops what has ended, once there is no room without that.
    fn make_room(&mut self, max: usize, now_ms: u64) -> Result<(), RevocationsFull> {
        if self.len() >= max {
            self.users.retain(|_, user| now_ms < user.until_ms);
            self.tokens.retain(|_, until_ms| now_ms < *until_ms);
        }
        if self.len() < max { Ok(()) } else { Err(RevocationsFull { max }) }
    }
}

impl RevokedUser {
    fn refuses(&self, issued_ms: Option<u64>, now_ms: u64) -> bool {
        now_ms < self.until_ms && issued_ms.is_none_or(|issued| issued / 1_000 <= self.second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One hour.
    const TTL: Duration = Duration::from_secs(3_600);
    const NOW: u64 = 1_700_000_000_500;

    fn user(name: &str) -> UserId {
        UserId::parse(name).unwrap()
    }

    fn identity(name: &str, issued_ms: Option<u64>, token: Option<&str>) -> Identity {
        Identity { user: Some(user(name)), issued_ms, token: token.map(Into::into), ..Identity::default() }
    }

    #[test]
    fn a_revoked_user_comes_back_with_a_token_of_the_next_second_only() {
        let revocations = Revocations::new(TTL);
        revocations.revoke_user(&user("alice"), NOW).unwrap();
        for (name, issued_ms, revoked) in [
            ("alice", None, true),
            ("alice", Some(0), true),
            ("alice", Some(1_699_999_999_000), true),
            ("alice", Some(1_700_000_000_000), true),
            ("alice", Some(1_700_000_001_000), false),
            ("bob", Some(0), false),
            ("Alice", None, false),
        ] {
            let found = revocations.is_revoked(&identity(name, issued_ms, None), NOW + 5_000);
            assert_eq!(found, revoked, "{name} {issued_ms:?}");
        }
        assert!(!revocations.is_revoked(&Identity::default(), NOW));
    }

    #[test]
    fn a_user_that_is_revoked_again_is_revoked_from_then_on() {
        let revocations = Revocations::with_room(TTL, 1);
        let later = identity("alice", Some(NOW + 60_000), None);
        revocations.revoke_user(&user("alice"), NOW).unwrap();
        assert!(!revocations.is_revoked(&later, NOW + 61_000));
        revocations.revoke_user(&user("alice"), NOW + 60_000).unwrap();
        assert!(revocations.is_revoked(&later, NOW + 61_000));
        assert!(revocations.is_revoked(&later, NOW + 3_600_000));
        assert!(!revocations.is_revoked(&later, NOW + 3_660_000));
    }

    #[test]
    fn what_one_node_has_revoked_another_learns_and_forgets_nothing_for_it() {
        let (one, other) = (Revocations::new(TTL), Revocations::new(TTL));
        one.revoke_user(&user("alice"), NOW).unwrap();
        one.revoke_token("t", NOW + 60_000, NOW).unwrap();
        other.revoke_user(&user("alice"), NOW + 5_000).unwrap();
        let portions: Vec<Revoked> = one.all().portions(1).collect();
        assert_eq!(portions.len(), 2);
        portions.iter().for_each(|some| other.add(some, NOW).unwrap());
        assert!(other.is_revoked(&identity("bob", None, Some("t")), NOW + 59_000));
        let between = identity("alice", Some(NOW + 3_000), None);
        assert_eq!((one.is_revoked(&between, NOW), other.is_revoked(&between, NOW)), (false, true));
    }

    #[test]
    fn a_revoked_token_is_refused_until_it_would_have_expired() {
        let revocations = Revocations::new(TTL);
        revocations.revoke_token("t1", NOW + 100, NOW).unwrap();
        revocations.revoke_token("t2", u64::MAX, NOW).unwrap();
        for (token, after_ms, revoked) in [
            (Some("t1"), 99, true),
            (Some("t1"), 100, false),
            (Some("t2"), 3_599_999, true),
            (Some("t2"), 3_600_000, false),
            (Some("t3"), 0, false),
            (None, 0, false),
        ] {
            let identity = identity("alice", Some(NOW), token);
            assert_eq!(revocations.is_revoked(&identity, NOW + after_ms), revoked, "{token:?} {after_ms}");
        }
    }

    #[test]
    fn revocations_have_a_limit_and_make_room_as_they_end() {
        let revocations = Revocations::with_room(TTL, 2);
        revocations.revoke_user(&user("a"), NOW).unwrap();
        revocations.revoke_token("t", NOW + 10, NOW).unwrap();
        assert_eq!(revocations.revoke_user(&user("b"), NOW + 9), Err(RevocationsFull { max: 2 }));
        assert_eq!(revocations.revoke_token("u", NOW + 99, NOW + 9), Err(RevocationsFull { max: 2 }));
        assert_eq!(revocations.revoke_user(&user("a"), NOW + 9), Ok(()));
        assert_eq!(revocations.revoke_user(&user("b"), NOW + 10), Ok(()));
    }
}
