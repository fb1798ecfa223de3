use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::names::{NameError, check};
use crate::{ChannelName, Json};

/// Longest user id, bytes of UTF-8.
const USER_BYTES_MAX: usize = 255;
/// Longest pattern of a grant, bytes of UTF-8.
const PATTERN_BYTES_MAX: usize = 255;

/// The id of a user, as the application gives it: 1 to 255 bytes of UTF-8, no control characters, compared byte by byte.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct UserId(Arc<str>);

impl UserId {
    /// The only way to get one: checks `id`.
    pub fn parse(id: &str) -> Result<Self, NameError> {
        check(id, USER_BYTES_MAX)?;
        Ok(Self(id.into()))
    }
}

/// What a client may want to do in a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Action {
    Subscribe,
    Publish,
    Presence,
    History,
}

/// Channel names, with `*` for any characters, none too: `chat:*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Box<str>);

impl Pattern {
    /// The only way to get one: checks `pattern`.
    pub fn parse(pattern: &str) -> Result<Self, NameError> {
        check(pattern, PATTERN_BYTES_MAX)?;
        Ok(Self(pattern.into()))
    }

    /// Whether `name` is one of those meant. Takes time in proportion to both lengths multiplied, at worst.
    pub fn matches(&self, name: &str) -> bool {
        let Some((start, rest)) = self.0.split_once('*') else { return *self.0 == *name };
        let Some(mut name) = name.strip_prefix(start) else { return false };
        let mut pieces = rest.split('*');
        let end = pieces.next_back().unwrap_or_default();
        for piece in pieces {
            // The first place is as good as any later one: what follows then has the most room.
            let Some(at) = name.find(piece) else { return false };
            name = &name[at + piece.len()..];
        }
        name.ends_with(end)
    }
}

/// What a token allows beyond what a channel's namespace allows everybody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Grants {
    pub subscribe: Vec<Pattern>,
    pub publish: Vec<Pattern>,
    pub presence: Vec<Pattern>,
    pub history: Vec<Pattern>,
}

impl Grants {
    /// Whether `action` is allowed in `channel`.
    pub fn allow(&self, action: Action, channel: &ChannelName) -> bool {
        let patterns = match action {
            Action::Subscribe => &self.subscribe,
            Action::Publish => &self.publish,
            Action::Presence => &self.presence,
            Action::History => &self.history,
        };
        patterns.iter().any(|pattern| pattern.matches(channel))
    }
}

/// Who a client is. The default is an anonymous one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// `None` for an anonymous client.
    pub user: Option<UserId>,
    /// What others see of the client in presence.
    pub info: Option<Json>,
    /// Channels the client is subscribed to as soon as it is connected. It may subscribe to them.
    pub channels: Vec<ChannelName>,
    /// What it may do.
    pub grants: Grants,
    /// Until when this holds, milliseconds since 1970 UTC.
    pub expires_ms: Option<u64>,
    /// Since when this holds, milliseconds since 1970 UTC.
    pub issued_ms: Option<u64>,
    /// The id of the token that says so, by which it can be revoked.
    pub token: Option<Arc<str>>,
}

impl Identity {
    /// Whether the token allows `action` in `channel`.
    pub fn allows(&self, action: Action, channel: &ChannelName) -> bool {
        self.grants.allow(action, channel) || (action == Action::Subscribe && self.channels.contains(channel))
    }
}

impl Deref for UserId {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for UserId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, name, matches) in [
            ("chat", "chat", true),
            ("chat", "chats", false),
            ("chat:*", "chat:", true),
            ("chat:*", "chat:a:b", true),
            ("chat:*", "Chat:a", false),
            ("*", "anything", true),
            ("*:log", "a:log", true),
            ("*:log", "a:log:b", false),
            ("a*b*c", "abc", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("a*a", "a", false),
            ("dm:#*,bob", "dm:#alice,bob", true),
            ("a.c", "abc", false),
        ] {
            assert_eq!(Pattern::parse(pattern).unwrap().matches(name), matches, "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_made_to_be_slow_is_not() {
        let pattern = Pattern::parse(&"*a".repeat(127)).unwrap();
        assert!(!pattern.matches(&format!("{}b", "a".repeat(254))));
    }

    #[test]
    fn a_channel_to_join_may_be_subscribed_to_and_nothing_else() {
        let news = ChannelName::parse("news").unwrap();
        let identity = Identity { channels: vec![news.clone()], ..Identity::default() };
        assert!(identity.allows(Action::Subscribe, &news));
        assert!(!identity.allows(Action::Publish, &news));
    }
}
