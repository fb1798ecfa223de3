use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// Longest channel name, bytes of UTF-8.
const CHANNEL_BYTES_MAX: usize = 255;
/// Longest event name, bytes of UTF-8.
const EVENT_BYTES_MAX: usize = 128;
/// Names of events that official Socket.IO clients take for a breach of the protocol.
const SOCKET_IO_EVENTS: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];
/// Longest idempotency key, bytes of UTF-8.
const KEY_BYTES_MAX: usize = 64;
/// Most tags of one publication.
const TAGS_MAX: usize = 16;
/// Most bytes of all tag names and values of one publication together.
const TAGS_BYTES_MAX: usize = 1_024;

/// Why a name was refused. The text completes "channel: …" or "event: …" and says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum NameError {
    #[error("is empty; give it 1 to {max} bytes")]
    Empty { max: usize },
    #[error("has {bytes} bytes; at most {max} are allowed")]
    TooLong { bytes: usize, max: usize },
    #[error("contains a control character at byte {at}; remove it")]
    Control { at: usize },
    #[error(
        "begins with ':', which leaves its namespace empty; put a namespace before the ':' or leave it out"
    )]
    EmptyNamespace,
    #[error("begins with '$', which is kept for the server's own events; choose another name")]
    Reserved,
    #[error("is one of Socket.IO's own events, and would make its clients break off; choose another name")]
    OfSocketIo,
    #[error("there are {count} tags; at most {TAGS_MAX} are allowed")]
    TooManyTags { count: usize },
}

/// The name of a channel: 1 to 255 bytes of UTF-8, no control characters, compared byte by byte.
///
/// The part before the first `:` is its namespace; without one it belongs to the default namespace.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelName(Arc<str>);

impl ChannelName {
    /// The only way to get one: checks `name`.
    pub fn parse(name: &str) -> Result<Self, NameError> {
        check(name, CHANNEL_BYTES_MAX)?;
        if name.starts_with(':') {
            return Err(NameError::EmptyNamespace);
        }
        Ok(Self(name.into()))
    }

    /// The part before the first `:`, if there is one.
    pub fn namespace(&self) -> Option<&str> {
        self.0.split_once(':').map(|(namespace, _)| namespace)
    }

    /// The users behind the first `#`, separated by commas: `dm:#alice,bob` is for them alone.
    pub fn users(&self) -> Option<impl Iterator<Item = &str>> {
        self.0.split_once('#').map(|(_, users)| users.split(','))
    }
}

/// The name of a publication's event: 1 to 128 bytes of UTF-8, no control characters, not beginning with `$`, none of
/// Socket.IO's own. Default `message`. So are those of methods, but for the last.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct EventName(Option<Box<str>>);

impl EventName {
    /// The event of a publication that names none.
    pub const DEFAULT: &'static str = "message";

    /// Checks the name of what is published, or told to clients.
    pub fn parse(name: &str) -> Result<Self, NameError> {
        match SOCKET_IO_EVENTS.contains(&name) {
            true => Err(NameError::OfSocketIo),
            false => Self::of_method(name),
        }
    }

    /// Checks the name of what a backend is asked: no client hears it, so Socket.IO's own events are as good as any.
    pub fn of_method(name: &str) -> Result<Self, NameError> {
        check(name, EVENT_BYTES_MAX)?;
        if name.starts_with('$') {
            return Err(NameError::Reserved);
        }
        Ok(if name == Self::DEFAULT { Self::default() } else { Self(Some(name.into())) })
    }

    /// Whether this is the event of a publication that names none.
    pub fn is_default(&self) -> bool {
        self.0.is_none()
    }
}

/// Names one act of publishing, so that a publisher that is not sure can repeat it: 1 to 64 bytes of UTF-8, no control
/// characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(Box<str>);

impl IdempotencyKey {
    /// The only way to get one: checks `key`.
    pub fn parse(key: &str) -> Result<Self, NameError> {
        check(key, KEY_BYTES_MAX)?;
        Ok(Self(key.into()))
    }

    /// The key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a publisher attaches to a publication beside its payload: at most 16 pairs, 1,024 bytes in all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tags(BTreeMap<String, String>);

impl Tags {
    /// The only way to get non-empty ones: checks number and size.
    pub fn parse(tags: BTreeMap<String, String>) -> Result<Self, NameError> {
        if tags.len() > TAGS_MAX {
            return Err(NameError::TooManyTags { count: tags.len() });
        }
        let bytes = tags.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > TAGS_BYTES_MAX {
            return Err(NameError::TooLong { bytes, max: TAGS_BYTES_MAX });
        }
        Ok(Self(tags))
    }

    /// The pairs, by name.
    pub fn pairs(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}

pub(crate) fn check(name: &str, max: usize) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty { max });
    }
    if name.len() > max {
        return Err(NameError::TooLong { bytes: name.len(), max });
    }
    match name.char_indices().find(|(_, c)| c.is_control()) {
        Some((at, _)) => Err(NameError::Control { at }),
        None => Ok(()),
    }
}

/// The public id of a client: 128 random bits, shown as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(u128);

impl ClientId {
    /// An id made of 16 random bytes.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(u128::from_ne_bytes(bytes))
    }

    /// The bytes it was made of.
    pub fn bytes(self) -> [u8; 16] {
        self.0.to_ne_bytes()
    }
}

impl ClientId {
    /// Reads what [`Display`](fmt::Display) wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let canonical = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        canonical.then(|| u128::from_str_radix(text, 16).ok()).flatten().map(Self)
    }
}

/// One run of one node: 64 random bits, shown as 16 hexadecimal digits. A node that is started again is another one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u64);

impl NodeId {
    /// An id made of 8 random bytes.
    pub fn from_random(bytes: [u8; 8]) -> Self {
        Self(u64::from_be_bytes(bytes))
    }

    /// The bytes it was made of.
    pub fn bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }

    /// Reads what [`Display`](fmt::Display) wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let canonical = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        canonical.then(|| u64::from_str_radix(text, 16).ok()).flatten().map(Self)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Which shard of this node, counted from 0; a node has at most [`ShardSet::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardId(u8);

impl ShardId {
    /// The shard with this index, or `None` from [`ShardSet::MAX`] on.
    pub fn new(index: usize) -> Option<Self> {
        (index < ShardSet::MAX).then_some(Self(index as u8))
    }

    /// Its index, from 0.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A set of shards of one node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShardSet(u64);

impl ShardSet {
    /// The most shards a node can have.
    pub const MAX: usize = 64;

    /// Adds a shard.
    pub fn insert(&mut self, shard: ShardId) {
        self.0 |= 1 << shard.0;
    }

    /// Takes a shard out.
    pub fn remove(&mut self, shard: ShardId) {
        self.0 &= !(1 << shard.0);
    }

    /// Whether no shard is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The shards in it, by index.
    pub fn iter(self) -> impl Iterator<Item = ShardId> {
        (0..Self::MAX as u8).filter(move |shard| self.0 >> shard & 1 == 1).map(ShardId)
    }
}

/// Which wire form of publications a subscriber wants: an index into the node's list of encodings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncodingId(pub u8);

impl EncodingId {
    /// Its index in the node's list of encodings.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl Deref for ChannelName {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for ChannelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Deref for EventName {
    type Target = str;
    fn deref(&self) -> &str {
        self.0.as_deref().unwrap_or(Self::DEFAULT)
    }
}

impl fmt::Debug for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Debug for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_name_is_refused_with_the_reason() {
        let long = "x".repeat(256);
        for (name, refused) in [
            ("", Some(NameError::Empty { max: 255 })),
            (long.as_str(), Some(NameError::TooLong { bytes: 256, max: 255 })),
            ("a\nb", Some(NameError::Control { at: 1 })),
            ("a\u{85}", Some(NameError::Control { at: 1 })),
            (":b", Some(NameError::EmptyNamespace)),
            ("news", None),
            ("dm:#alice,bob", None),
            ("__proto__", None),
            (&long[1..], None),
        ] {
            assert_eq!(ChannelName::parse(name).err(), refused, "{name:?}");
        }
    }

    #[test]
    fn a_shard_set_holds_the_first_and_the_last_shard() {
        let mut set = ShardSet::default();
        let ends = [0, ShardSet::MAX - 1].map(|index| ShardId::new(index).expect("in range"));
        ends.iter().for_each(|shard| set.insert(*shard));
        assert_eq!(set.iter().collect::<Vec<_>>(), ends);
        ends.iter().for_each(|shard| set.remove(*shard));
        assert!(set.is_empty());
        assert_eq!(ShardId::new(ShardSet::MAX), None);
    }
}
