//! What the parts of Duplex say to each other.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

use crate::{
    Answer, ChannelName, ClientId, CloseReason, Command, Draft, Emission, EncodingId, EventName, FrameQueue,
    Identity, Json, Member, NodeId, Payload, Position, PresenceChange, Present, Publication, Refusal,
    Retention, ShardId, ShardSet, Ticket,
};

/// One message of a client, as it lies in the transport's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Frame<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
}

/// One message to a client. A text is valid UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Message {
    Text(Bytes),
    Binary(Bytes),
}

/// What a protocol wants done.
#[derive(Debug)]
pub enum Step {
    /// Send this to the client.
    Send(Message),
    /// Send these, and nothing of anybody's between them.
    SendTogether(Vec<Message>),
    /// Carry this out, and tell the protocol the answer.
    Ask(Ticket, Command),
    /// The client's answer to an earlier [`Protocol::request`]: an array of arguments, or why it has none.
    Reply(RequestId, Result<Json, String>),
    /// From now on the client wants publications in this wire form. Only before it is subscribed to anything.
    Encode(EncodingId),
    /// Close the connection; the text says what was wrong, for the client's developer.
    Close(&'static CloseReason, String),
}

/// Ties a client's answer to what the application asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(pub u64);

/// Whether a client can answer the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Able {
    Yes,
    No,
}

/// Where a protocol puts its steps; the engine drains it after each input, in order.
pub type Steps = std::collections::VecDeque<Step>;

/// A client protocol: frames <-> conversation. A value without I/O or clock, one per client.
pub trait Protocol {
    /// The connection is open. Called once, before anything else.
    fn open(&mut self, steps: &mut Steps);

    /// The client sent `frame`.
    fn receive(&mut self, frame: Frame<'_>, steps: &mut Steps);

    /// The engine answers an earlier [`Step::Ask`].
    fn answer(&mut self, ticket: Ticket, answer: Answer, steps: &mut Steps);

    /// The application asks the client for something. A protocol whose clients can answer sends it on, and gives the answer
    /// as [`Step::Reply`]; the others do nothing.
    fn request(
        &mut self,
        request: RequestId,
        event: &EventName,
        payload: &Payload,
        steps: &mut Steps,
    ) -> Able {
        let _ = (request, event, payload, steps);
        Able::No
    }

    /// The client goes. What the application asked it, and it has not answered, it will not answer any more.
    fn unanswered(&mut self) -> Vec<RequestId> {
        Vec::new()
    }

    /// The client of a [`Stream`](crate::Stream) gets an event of its channel, which is written already.
    fn item(&self, stream: &str, event: &[u8]) -> Message {
        let _ = stream;
        Message::Binary(Bytes::copy_from_slice(event))
    }

    /// How long the client may go without a heartbeat, ms, however long others may.
    fn silence_max_ms(&self) -> u32 {
        u32::MAX
    }

    /// Whether there are clients that answer no ping at all: one that has never answered any is then taken for such a one.
    fn may_ignore_pings(&self) -> bool {
        false
    }

    /// The transport sends a heartbeat. A protocol that has one of its own sends it, too.
    fn beat(&mut self, steps: &mut Steps) {
        let _ = steps;
    }

    /// The server closes the session: the last chance to say something. Only `Send` steps count.
    fn closing(&mut self, closing: &Closing<'_>, steps: &mut Steps) {
        let _ = (closing, steps);
    }
}

/// How a session ends.
#[derive(Debug, Clone, Copy)]
pub struct Closing<'a> {
    /// Why.
    pub reason: &'static CloseReason,
    /// For the client's developer; may be empty.
    pub detail: &'a str,
    /// How long the client should wait before it comes back, ms, if the server wants to spread its clients.
    pub after_ms: Option<u32>,
}

/// What happens in a channel, as its subscribers hear of it.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum Event {
    Publication(Arc<Publication>),
    Presence(Arc<PresenceChange>),
}

impl Event {
    /// Where it happens.
    pub fn channel(&self) -> &ChannelName {
        match self {
            Self::Publication(publication) => &publication.draft.channel,
            Self::Presence(change) => &change.channel,
        }
    }
}

/// One wire form of what happens in channels, shared by every subscriber that wants that form.
pub trait Encode: Send + Sync {
    /// The frame every subscriber of this encoding gets, transport framing included. Not empty.
    fn publication(&self, publication: &Publication) -> Bytes;

    /// The same for someone who joined or left.
    fn presence(&self, change: &PresenceChange) -> Bytes;
}

/// What the engine knows of a transport: a way to put frames on the wire. Lives on its shard's thread.
///
/// No method calls back into the engine.
pub trait Link {
    /// Wraps one message as this transport carries it.
    fn frame(&self, message: Message) -> Bytes;

    /// What to send to a client that was silent, and whether it must answer. Without bytes the link sends it by itself when
    /// it is asked to write next, which happens at once.
    fn heartbeat(&self) -> Heartbeat;

    /// Writes from the front of `queue` what the transport takes now, without blocking.
    fn write(&self, queue: &mut FrameQueue) -> Written;

    /// The last frame of a connection that is closed for `reason`; `detail` is for the client's developer.
    /// After it nothing is framed.
    fn farewell(&self, reason: &'static CloseReason, detail: &str) -> Option<Bytes>;

    /// Ends the connection now, whatever is still queued.
    fn abort(&self);

    /// It is known who the client is: from now on it may send what the settings allow. Before, a transport lets it send
    /// little.
    fn admitted(&self) {}

    /// Bytes of what was taken out of the queue and the transport has not taken yet: while there are fewer and fewer, it is
    /// not stuck.
    fn unsent_bytes(&self) -> usize {
        0
    }

    /// Bytes of what was taken out of the queue and is kept nevertheless, since the client may not have got it.
    fn kept_bytes(&self) -> usize {
        0
    }
}

/// How a transport keeps an idle connection alive.
#[derive(Debug, Clone)]
pub enum Heartbeat {
    /// The client answers this, so silence after it means that it is gone.
    Ping(Bytes),
    /// Only keeps proxies from cutting the connection.
    Comment(Bytes),
}

/// How a write went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// The queue is empty.
    All,
    /// The transport is full; it will say when there is room.
    Blocked,
    /// There is no transport now, or the one that was there takes nothing more; another may come and say so.
    Away,
    /// The connection is dead.
    Dead,
}

/// A future that any thread may poll.
pub type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What carries publications between shards and nodes, and keeps history.
///
/// A contract: every implementation passes the same tests.
///
/// Calls take effect in the order in which one thread makes them, as soon as the future was polled once: a publisher's
/// second publication never overtakes its first.
pub trait Broker: Send + Sync {
    /// One atomic act: gives the draft the next offset, appends it to the channel's history and hands it to all that
    /// listen, in the order of offsets. If it fails, none of the three happened. If a publication with the draft's
    /// idempotency key is kept in the channel's history, nothing happens and the answer is its position.
    /// `retention` is what the channel keeps from here on.
    fn publish(&self, draft: Draft, retention: Retention) -> Pending<Result<Position, BrokerError>>;

    /// From when this resolves until [`ignore`](Self::ignore), each publication of the channel is delivered to `shard`,
    /// once and in order. Without it, a subscriber would miss what is published between its history and its first delivery.
    /// If it fails, whoever on the shard listened before does so still, and `ignore` ends it as ever.
    fn listen(&self, channel: &ChannelName, shard: ShardId) -> Pending<Result<(), BrokerError>>;

    /// `shard` wants no more of the channel. One delivery that was under way may still arrive.
    fn ignore(&self, channel: &ChannelName, shard: ShardId);

    /// The channel's position, and the wanted part of what is kept of it, both at one moment.
    fn history(&self, channel: &ChannelName, extent: Extent) -> Pending<Result<History, BrokerError>>;
}

/// Who is in which channel, on all nodes.
///
/// Calls take effect in the order in which one thread makes them, as soon as the future was polled once.
pub trait Presence: Send + Sync {
    /// `member` is present in the channel until it leaves, or until this node is known to be dead. If it was present
    /// already, nothing happens. With [`Tell::Everyone`] all that listen to the channel hear of it, once, and once that it
    /// left.
    fn join(&self, channel: &ChannelName, member: Member, tell: Tell) -> Pending<Result<(), BrokerError>>;

    /// The client is no longer present in the channel.
    fn leave(&self, channel: &ChannelName, client: ClientId);

    /// Who is present in the channel; at most `limit` members are listed.
    fn present(&self, channel: &ChannelName, limit: usize) -> Pending<Result<Present, BrokerError>>;
}

/// Who hears that someone joined or left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Tell {
    Everyone,
    Nobody,
}

/// The user's application: decides who a client is and what it may do, and answers calls.
pub trait Backend: Send + Sync {
    /// Who the client is that shows this token, or none.
    ///
    /// # Errors
    /// [`ErrorCode::Unauthorized`](crate::ErrorCode), [`TokenExpired`](crate::ErrorCode) or, if it cannot be decided now,
    /// [`NotAvailable`](crate::ErrorCode).
    fn connect(&self, token: Option<&str>) -> Pending<Result<Identity, Refusal>>;

    /// Whether this subscription token lets the user of `identity` subscribe to the channel.
    fn subscribe(
        &self,
        identity: &Identity,
        channel: &ChannelName,
        token: &str,
    ) -> Pending<Result<(), Refusal>>;

    /// A client was let in. Says what it is told first, or `None` at once.
    fn connected(&self, arrival: Arrival) -> Option<Pending<Vec<Emission>>> {
        let _ = arrival;
        None
    }

    /// Answers a client's call.
    fn call(&self, call: Call) -> Pending<Result<Said, Refusal>>;
}

/// A client that was let in.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// Which.
    pub client: ClientId,
    /// Whose client it is.
    pub identity: Arc<Identity>,
    /// What it says about itself, beside its token.
    pub hello: Option<Json>,
}

/// What the backend says to a client's call.
#[derive(Debug, Clone)]
pub struct Said {
    /// The answer.
    pub payload: Payload,
    /// Events for the client, which come before the answer.
    pub events: Vec<Emission>,
}

/// What a client asks the backend.
#[derive(Debug, Clone)]
pub struct Call {
    /// Who asks.
    pub client: ClientId,
    /// Whose client it is.
    pub identity: Arc<Identity>,
    /// What to do.
    pub method: EventName,
    /// With what.
    pub payload: Payload,
}

/// What a broker tells the node: where deliveries go. Never blocks.
pub trait Deliver: Send + Sync {
    /// `event` goes to `shards`.
    fn deliver(&self, shards: ShardSet, event: Event);

    /// Something that was published in the channel did not arrive, and cannot be had any more: its subscribers on `shards`
    /// must come back and recover, or be told that they cannot.
    fn missed(&self, shards: ShardSet, channel: &ChannelName);

    /// Another node sent this with [`Cluster::send`].
    fn note(&self, from: NodeId, note: Bytes) {
        let _ = (from, note);
    }
}

/// What nodes that share a broker say to each other, and what outlives one of them.
///
/// A contract: every implementation passes the same tests. The broker of a single node has none.
pub trait Cluster: Send + Sync {
    /// Sends a note of at most [`NOTE_BYTES_MAX`] to another node, or to all of them but this one. It may be lost, as when
    /// the broker cannot be reached; those that arrive from one node keep their order.
    fn send(&self, to: Recipient, note: Bytes);

    /// Keeps a row for `ttl_ms` from now, in place of what was kept under this key, unless the version of that is as high: then
    /// this one comes too late, and nothing happens. If it fails, it may still be kept later.
    fn keep(&self, key: RowKey, row: Row, ttl_ms: u64) -> Pending<Result<Kept, BrokerError>>;

    /// What is kept under this key.
    fn kept(&self, key: RowKey) -> Pending<Result<Option<Row>, BrokerError>>;

    /// Whether the broker can be reached now.
    fn health(&self) -> Health;
}

/// Longest note, bytes.
pub const NOTE_BYTES_MAX: usize = 2 << 20;

/// Names a row: 128 bits that nobody can guess.
pub type RowKey = [u8; 16];

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It is kept.
    Now,
    /// Another one is, which is as new or newer.
    TooLate,
}

/// What is kept under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Whoever writes it again counts it up.
    pub version: u64,
    /// What nodes agree upon.
    pub content: Bytes,
}

/// Who gets a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Recipient {
    All,
    One(NodeId),
}

/// Whether a broker can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Health {
    Reachable,
    Unreachable,
}

/// Which part of a channel's history is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Only the position.
    Nothing,
    /// All that was published after this position, oldest first.
    After(Position),
    /// So much of it.
    Page(Page),
}

/// A piece of history, to be read one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// The last position of the page before: this page begins behind it, in its own order. `None` begins at the end.
    pub since: Option<Position>,
    /// Publications at most.
    pub limit: usize,
    /// In which direction.
    pub order: Order,
}

/// In which direction history is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Order {
    OldestFirst,
    NewestFirst,
}

/// An answer of [`Broker::history`], true at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct History {
    /// The newest publication's position; offset 0 if there was none in this epoch.
    pub position: Position,
    pub past: Past,
}

/// What is kept of the wanted part of history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Past {
    /// All of it, in the wanted order.
    Kept(Vec<Arc<Publication>>),
    /// Some of it is gone: another epoch, or history does not reach back.
    Lost,
}

/// Why the broker did nothing. The text completes "cannot publish: …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// It cannot be reached.
    #[error("the broker is not reachable; try again later")]
    Unreachable,
    /// The idempotency key belongs to another message.
    #[error(
        "the idempotency key was used for another message in this channel; use a new key for a new message"
    )]
    KeyReused,
    /// Another channel would be one too many.
    #[error("the server keeps {limit} channels already; try again when some are idle")]
    TooManyChannels {
        /// The limit.
        limit: usize,
    },
    /// It has no memory left, or may not keep more.
    #[error("the broker has no room left; give it more memory or keep less history")]
    Full,
    /// It has not answered.
    #[error("the broker has not answered; whether it was done is not known")]
    NoAnswer,
    /// Too many calls are under way.
    #[error("too many calls to the broker are under way; try again in a second")]
    Busy,
    /// It said something else.
    #[error("the broker refused: {0}")]
    Refused(String),
}
