use std::sync::Arc;

use crate::{
    ChannelName, ClientId, EventName, IdempotencyKey, Page, Payload, Position, Publication, Refusal, Tags,
};

/// Ties an answer to the command it answers. The protocol chooses it; nobody else reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(pub u64);

/// What a client asks of the engine, whatever protocol it speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Introduces the client.
    Connect,
    /// From now on, or from `since` on, wants what is published in `channel`.
    Subscribe {
        /// The channel.
        channel: ChannelName,
        /// The last position the client has seen, if it comes back.
        since: Option<Position>,
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
    },
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
    Connected { client: ClientId },
    /// To [`Command::Subscribe`]; what was recovered follows as publications.
    Subscribed { channel: ChannelName, position: Position, recovered: Recovered },
    /// To [`Command::Unsubscribe`]; no publication of the channel follows.
    Unsubscribed { channel: ChannelName },
    /// To [`Command::History`]; `position` is the channel's newest.
    History { channel: ChannelName, position: Position, publications: Vec<Arc<Publication>> },
    /// To [`Command::Publish`].
    Published { channel: ChannelName, position: Position },
    /// The command was not carried out.
    Refused(Refusal),
}
