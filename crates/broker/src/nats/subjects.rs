//! The names of everything that is kept in NATS, and of everything that is told there.

use duplex_core::{ChannelName, ClientId, NodeId, RowKey};

use super::target::decoded;

/// Streams for history of all namespaces together, beside that of channels without a namespace.
const BUCKETS: u32 = 256;

/// Names that begin with a prefix of the application's.
#[derive(Debug, Clone)]
pub(super) struct Subjects {
    prefix: String,
}

/// Where a member of a channel is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seat {
    pub channel: ChannelName,
    pub client: ClientId,
    /// Tells users apart; `-` for nobody.
    pub user: String,
    pub node: NodeId,
}

impl Subjects {
    pub fn new(prefix: &str) -> Self {
        Self { prefix: token(prefix) }
    }

    /// The channels of a namespace share a stream: what they keep is limited alike. There are few streams, whatever
    /// namespaces clients think of.
    fn bucket(channel: &ChannelName) -> String {
        match channel.namespace() {
            None => "-".to_owned(),
            Some(namespace) => {
                let add = |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
                let hash = namespace.bytes().fold(0x811c_9dc5, add);
                format!("{:02x}", (hash ^ hash >> 16) % BUCKETS)
            }
        }
    }

    /// The stream that keeps the channel's publications.
    pub fn history_stream(&self, channel: &ChannelName) -> String {
        match &*Self::bucket(channel) {
            "-" => format!("{}-history", self.prefix),
            bucket => format!("{}-history-{bucket}", self.prefix),
        }
    }

    /// All subjects of that stream.
    pub fn histories(&self, channel: &ChannelName) -> String {
        format!("{}.h.{}.>", self.prefix, Self::bucket(channel))
    }

    /// The subject of the channel's publications in that stream.
    pub fn history(&self, channel: &ChannelName) -> String {
        format!("{}.h.{}.{}", self.prefix, Self::bucket(channel), token(channel))
    }

    /// Where all that is kept of channels is told.
    pub fn lives(&self) -> String {
        format!("{}.c.>", self.prefix)
    }

    /// Where what happens in a channel is told.
    pub fn live(&self, channel: &ChannelName) -> String {
        format!("{}.c.{}", self.prefix, token(channel))
    }

    pub fn presence_stream(&self) -> String {
        format!("{}-presence", self.prefix)
    }

    /// All subjects of that stream.
    pub fn presences(&self) -> Vec<String> {
        vec![format!("{}.p.>", self.prefix), format!("{}.q.*", self.prefix)]
    }

    pub fn seat(&self, seat: &Seat) -> String {
        let Seat { channel, client, user, node } = seat;
        format!("{}.p.{}.{client}.{user}.{node}", self.prefix, token(channel))
    }

    /// Reads what [`seat`](Self::seat) wrote.
    pub fn seat_of(&self, subject: &str) -> Option<Seat> {
        let mut parts = subject.strip_prefix(&self.prefix)?.strip_prefix(".p.")?.split('.');
        let channel = ChannelName::parse(&decoded(parts.next()?)?).ok()?;
        let (client, user) = (ClientId::parse(parts.next()?)?, parts.next()?.to_owned());
        let node = NodeId::parse(parts.next()?)?;
        parts.next().is_none().then_some(Seat { channel, client, user, node })
    }

    /// Everybody in a channel.
    pub fn seats_in(&self, channel: &ChannelName) -> String {
        format!("{}.p.{}.>", self.prefix, token(channel))
    }

    /// Everybody of a node.
    pub fn seats_of(&self, node: NodeId) -> String {
        format!("{}.p.*.*.*.{node}", self.prefix)
    }

    /// Where it is written that a node has members.
    pub fn roster(&self, node: NodeId) -> String {
        format!("{}.q.{node}", self.prefix)
    }

    /// All of those.
    pub fn rosters(&self) -> String {
        format!("{}.q.*", self.prefix)
    }

    /// Reads what [`roster`](Self::roster) wrote.
    pub fn roster_of(&self, subject: &str) -> Option<NodeId> {
        NodeId::parse(subject.strip_prefix(&self.prefix)?.strip_prefix(".q.")?)
    }

    /// Which life of the presence stream this is.
    pub fn era(&self) -> String {
        format!("{}.q.era", self.prefix)
    }

    pub fn row_stream(&self) -> String {
        format!("{}-rows", self.prefix)
    }

    /// All subjects of that stream.
    pub fn rows(&self) -> String {
        format!("{}.r.*", self.prefix)
    }

    pub fn row(&self, key: RowKey) -> String {
        format!("{}.r.{:032x}", self.prefix, u128::from_be_bytes(key))
    }

    /// Where notes for a node are told.
    pub fn notes(&self, node: NodeId) -> String {
        format!("{}.n.{node}", self.prefix)
    }

    /// Where notes for all nodes are told.
    pub fn notes_for_all(&self) -> String {
        format!("{}.n.all", self.prefix)
    }

    /// Where nodes say that they are alive.
    pub fn beats(&self) -> String {
        format!("{}.b", self.prefix)
    }

    /// Where nobody listens: who asks there is answered at once, after everything that was asked before.
    pub fn nowhere(&self) -> String {
        format!("{}.nowhere", self.prefix)
    }
}

/// A text as one token of a subject, or of a stream's name. What is read in logs is as readable as can be.
fn token(text: &str) -> String {
    let mut token = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b':' | b'#' | b',' | b'@' | b'=' => {
                token.push(char::from(byte));
            }
            _ => token.push_str(&format!("%{byte:02X}")),
        }
    }
    token
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_one_token_and_found_again() {
        let subjects = Subjects::new("duplex");
        for name in ["news", "a.b", "chat:*", ">", "é #ann,bob", "100%", "%41", "a/b\\c", &"ü".repeat(127)]
        {
            let channel = ChannelName::parse(name).unwrap();
            let seat = Seat {
                channel: channel.clone(),
                client: ClientId::from_random([7; 16]),
                user: "-".to_owned(),
                node: NodeId::from_random([9; 8]),
            };
            let subject = subjects.seat(&seat);
            assert_eq!(subject.split('.').count(), 6, "{subject}");
            assert_eq!(subjects.seat_of(&subject), Some(seat), "{subject}");
            assert!(!subjects.history(&channel).contains(['*', '>', ' ', '/', '\\']));
        }
        assert_eq!(subjects.seat_of("duplex.p.news"), None);
        assert_eq!(subjects.seat_of("other.p.a.b.c.d"), None);
    }

    #[test]
    fn channels_of_a_namespace_share_a_stream() {
        let subjects = Subjects::new("a.b");
        let stream = |name| subjects.history_stream(&ChannelName::parse(name).unwrap());
        assert_eq!(stream("news"), "a%2Eb-history");
        assert_eq!(stream("chat:1"), stream("chat:2"));
        assert_ne!(stream("chat:1"), stream("news"));
    }
}
