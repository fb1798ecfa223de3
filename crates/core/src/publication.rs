use std::fmt;

use crate::{ChannelName, ClientId, EventName, IdempotencyKey, Json, Tags};

/// Tells one life of a channel's history from the next: a new epoch means that history was lost.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch of no channel: [`from_random`](Self::from_random) never makes it.
    pub const NONE: Self = Self(u64::MAX);

    /// An epoch made of random bits. 48 bits, so that frames stay short.
    pub fn from_random(bytes: [u8; 6]) -> Self {
        let [a, b, c, d, e, f] = bytes;
        Self(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
    }

    /// Reads what [`Display`](fmt::Display) wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let canonical = (1..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
        canonical.then(|| u64::from_str_radix(text, 16).ok()).flatten().map(Self)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where a publication stands in its channel. Offsets count up by one inside an epoch; the first is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Position {
    pub epoch: Epoch,
    pub offset: u64,
}

/// What a publication says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// One value; the same as `Args` with one element.
    Data(Json),
    /// An array of positional arguments.
    Args(Json),
}

impl Payload {
    /// The JSON text of the value or of the array.
    pub fn json(&self) -> &Json {
        let (Self::Data(json) | Self::Args(json)) = self;
        json
    }
}

/// Who of a channel's subscribers gets a publication. By default everyone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audience {
    /// These clients do not, such as the one that published it.
    pub except: Box<[ClientId]>,
    /// Whether it is worth waiting for.
    pub effort: Effort,
}

/// What is done for a subscriber that is not ready to take a publication.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Effort {
    /// It waits for it, as the namespace's overload policy says.
    #[default]
    Wait,
    /// It misses it, also when it comes back: what is volatile is soon old.
    Volatile,
}

impl Audience {
    /// Whether every subscriber gets it, whatever happens.
    pub fn is_everyone(&self) -> bool {
        self.except.is_empty() && self.effort == Effort::Wait
    }
}

/// A message that has no place in its channel yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Where it is to be published.
    pub channel: ChannelName,
    /// What kind of message it is.
    pub event: EventName,
    /// What it says.
    pub payload: Payload,
    /// What the publisher attached to it.
    pub tags: Tags,
    /// Who published it; `None` for a backend.
    pub client: Option<ClientId>,
    /// When the server took it, milliseconds since 1970 UTC.
    pub time_ms: u64,
    /// Repeats with the same key are the same publication. Subscribers do not see it.
    pub key: Option<IdempotencyKey>,
    /// Who gets it.
    pub audience: Audience,
}

impl Draft {
    /// Whether `other` says the same, whoever says it and when.
    pub fn says_the_same(&self, other: &Self) -> bool {
        (&self.event, &self.payload, &self.tags) == (&other.event, &other.payload, &other.tags)
    }
}

/// What a channel keeps of what was published in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Newest publications kept; 0 keeps none.
    pub publications: usize,
    /// How long after its last publication a channel's history is kept, milliseconds.
    pub ttl_ms: u64,
}

/// One message in a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// Its place in the channel.
    pub position: Position,
    /// Its place among the publications of all channels, if the broker gives one: a node delivers them in this order. 0 where
    /// nothing is known of it.
    pub order: u64,
    /// The message.
    pub draft: Draft,
}

impl Publication {
    /// Memory this publication is counted as in limits, bytes.
    pub fn weight(&self) -> usize {
        let tags: usize =
            self.draft.tags.pairs().iter().map(|(name, value)| name.len() + value.len() + 96).sum();
        size_of::<Self>() + self.draft.event.len() + self.draft.payload.json().as_str().len() + tags
    }
}
