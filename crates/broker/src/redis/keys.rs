//! The names of everything that is kept in Redis. What belongs to a channel has a hash tag, so that a cluster keeps it
//! together.

use duplex_core::{ChannelName, NodeId, RowKey};

/// Names that begin with a prefix of the application's.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// In a cluster, keys that share what stands between the first `{` and the next `}` are on one server. A name that
    /// begins with `}` would leave nothing between them, so `_` stands before it, and before names that begin so.
    fn of(&self, kind: char, channel: &str) -> String {
        let guard = if channel.starts_with(['}', '_']) { "_" } else { "" };
        format!("{}:{kind}:{{{guard}{channel}}}", self.prefix)
    }

    /// Epoch and offset.
    pub fn meta(&self, channel: &str) -> String {
        self.of('m', channel)
    }

    /// Publications.
    pub fn history(&self, channel: &str) -> String {
        self.of('h', channel)
    }

    /// Idempotency keys.
    pub fn idempotency(&self, channel: &str) -> String {
        self.of('i', channel)
    }

    pub fn members(&self, channel: &str) -> String {
        self.of('p', channel)
    }

    pub fn users(&self, channel: &str) -> String {
        self.of('u', channel)
    }

    /// Where what happens in a channel is told.
    pub fn live(&self, channel: &str) -> String {
        self.of('c', channel)
    }

    /// The channel whose [`live`](Self::live) this is.
    pub fn channel(&self, live: &str) -> Option<ChannelName> {
        let rest = live.strip_prefix(&self.prefix)?.strip_prefix(":c:{")?.strip_suffix('}')?;
        ChannelName::parse(rest.strip_prefix('_').unwrap_or(rest)).ok()
    }

    /// The place of a publication among those of all channels.
    pub fn order(&self) -> String {
        format!("{}:order", self.prefix)
    }

    pub fn nodes(&self) -> String {
        format!("{}:nodes", self.prefix)
    }

    /// Which life of the broker's memory this is. In a cluster it is where the nodes are.
    pub fn era(&self) -> String {
        format!("{}:{{{}:nodes}}:era", self.prefix, self.prefix)
    }

    /// Channels in which clients of a node are present.
    pub fn presence_of(&self, node: &str) -> String {
        format!("{}:at:{node}", self.prefix)
    }

    /// Where notes for a node are told.
    pub fn notes(&self, node: NodeId) -> String {
        format!("{}:n:{node}", self.prefix)
    }

    /// Where notes for all nodes are told.
    pub fn notes_for_all(&self) -> String {
        format!("{}:n:all", self.prefix)
    }

    pub fn row(&self, key: RowKey) -> String {
        format!("{}:r:{:032x}", self.prefix, u128::from_be_bytes(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_found_again_whatever_braces_its_name_has() {
        let keys = Keys::new("duplex");
        for name in ["news", "a}b", "}x", "{x", "_}x", "_", "chat:é #ann,bob"] {
            let live = keys.live(name);
            let tag = live.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
            assert!(tag.is_some_and(|(tag, _)| !tag.is_empty()), "{live}");
            assert_eq!(keys.channel(&live), ChannelName::parse(name).ok(), "{live}");
        }
        assert_eq!(keys.channel("other:c:{news}"), None);
        assert_eq!(keys.channel("duplex:n:all"), None);
    }
}
