use std::sync::Arc;

use crate::{
    Attendance, Audience, ChannelName, ClientId, EncodingId, EventName, IdempotencyKey, Json, Page, Payload,
    Position, Present, Publication, Refusal, Tags, UserId,
};

/// Ties an answer to the command it answers. The protocol chooses it; nobody else reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(pub u64);

impl Ticket {
    /// For what a protocol asks by itself, on behalf of a client that has not: it does not count as the client's.
    pub const OWN: Self = Self(u64::MAX);
}

/// What a client asks of the engine, whatever protocol it speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Introduces the client.
    Connect {
        /// Says who it is; `None` for an anonymous client.
        token: Option<Box<str>>,
        /// What else it says about itself, for the backend.
        hello: Option<Json>,
    },
    /// Shows a newer token of the same user, so that the connection outlives the old one.
    Refresh {
        /// The token.
        token: Box<str>,
    },
    /// From now on, or from `since` on, wants what is published in `channel`.
    Subscribe {
        /// The channel.
        channel: ChannelName,
        /// The last position the client has seen, if it comes back.
        since: Option<Position>,
        /// Allows this subscription, if nothing else does.
        token: Option<Box<str>>,
        /// Wants it as a stream of its own; otherwise as everybody who wants the client's encoding.
        stream: Option<Stream>,
    },
    /// Wants no more of `channel`.
    Unsubscribe {
        /// The channel.
        channel: ChannelName,
    },
    /// Wants to read what is kept of `channel`.
    History {
        /// The channel.
        channel: ChannelName,
        /// How much of it.
        page: Page,
    },
    /// Wants to know who is subscribed to `channel`.
    Presence {
        /// The channel.
        channel: ChannelName,
        /// How much about it.
        detail: Detail,
    },
    /// Asks the backend.
    Call {
        /// What to do.
        method: EventName,
        /// With what.
        payload: Payload,
    },
    /// Publishes.
    Publish {
        /// Where.
        channel: ChannelName,
        /// What kind of message.
        event: EventName,
        /// What it says.
        payload: Payload,
        /// What is attached to it.
        tags: Tags,
        /// Repeats with the same key are the same publication.
        key: Option<IdempotencyKey>,
        /// Who gets it. A client may leave out nobody but itself.
        audience: Audience,
    },
}

impl Command {
    /// Wants what is published in `channel`, from now on or from `since` on, with nothing special about it.
    pub fn subscribe(channel: ChannelName, since: Option<Position>) -> Self {
        Self::Subscribe { channel, since, token: None, stream: None }
    }
}

/// What happens in one channel, told under a name that the client gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// What the client calls it.
    pub name: Box<str>,
    /// How each event is written, before [`Protocol::item`](crate::Protocol::item) puts it under the name. One whose
    /// frames are single.
    pub encoding: EncodingId,
}

/// An event for one client, outside of any channel.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Emission {
    pub event: EventName,
    pub payload: Payload,
}

/// How much a client wants to know about a channel's presence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Each member.
    Members,
    /// Only how many.
    Count,
}

/// Whether a client that gave `since` got everything after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovered {
    /// The client did not ask.
    NotAsked,
    /// Every publication after `since` follows.
    All,
    /// None of it follows: history no longer reaches back, or the epoch is another one.
    Nothing,
}

/// What the engine answers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Answer {
    /// To [`Command::Connect`].
    Connected {
        client: ClientId,
        user: Option<UserId>,
        /// How long its token is good for, ms.
        expires_in_ms: Option<u64>,
        /// Channels its token wants it to be subscribed to; the protocol asks for that.
        join: Vec<ChannelName>,
    },
    /// To [`Command::Refresh`].
    Refreshed { expires_in_ms: Option<u64> },
    /// To [`Command::Subscribe`]; what was recovered follows as publications.
    Subscribed { channel: ChannelName, position: Position, recovered: Recovered },
    /// After [`Subscribed`](Self::Subscribed), if the client gave `since`: what was recovered is on its way.
    Recovered { channel: ChannelName },
    /// To [`Command::Unsubscribe`]; no publication of the channel follows.
    Unsubscribed { channel: ChannelName },
    /// To [`Command::History`]; `position` is the channel's newest.
    History { channel: ChannelName, position: Position, publications: Vec<Arc<Publication>> },
    /// To [`Command::Presence`] with [`Detail::Members`].
    Present { channel: ChannelName, present: Present },
    /// To [`Command::Presence`] with [`Detail::Count`].
    Counted { channel: ChannelName, attendance: Attendance },
    /// To [`Command::Call`].
    Called { payload: Payload },
    /// To nothing in particular: the backend has something to say to this client alone.
    Told { events: Vec<Emission> },
    /// To [`Command::Publish`].
    Published { channel: ChannelName, position: Position },
    /// The command was not carried out.
    Refused(Refusal),
}
