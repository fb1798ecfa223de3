//! The nouns of Duplex and the seams between its parts.
//!
//! Everyone may import this crate; it imports nothing of ours. It has no runtime, no I/O, no clock and no
//! randomness: time, ids and seeds come in as arguments.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod names;
mod json;
mod publication;
mod identity;
mod presence;
mod close;
mod refusal;
mod command;
mod queue;
mod budget;
mod seams;

pub use budget::{Budget, Rate, Spent};
pub use close::{CloseReason, Return};
pub use command::{Answer, Command, Detail, Emission, Recovered, Stream, Ticket};
pub use identity::{Action, Grants, Identity, Pattern, UserId};
pub use json::{Json, JsonError, Span};
pub use names::{
    ChannelName, ClientId, EncodingId, EventName, IdempotencyKey, NameError, NodeId, ShardId, ShardSet, Tags,
};
pub use presence::{Attendance, Change, Member, PresenceChange, Present};
pub use publication::{Audience, Draft, Effort, Epoch, Payload, Position, Publication, Retention};
pub use queue::FrameQueue;
pub use refusal::{ErrorCode, Refusal};
pub use seams::{
    Able, Arrival, Backend, Broker, BrokerError, Call, Closing, Cluster, Deliver, Encode, Event, Extent,
    Frame, Health, Heartbeat, History, Kept, Link, Message, NOTE_BYTES_MAX, Order, Page, Past, Pending,
    Presence, Protocol, Recipient, RequestId, Row, RowKey, Said, Step, Steps, Tell, Written,
};
