//! NATS with JetStream: publications, history, presence and notes of nodes that share it.
//!
//! One thread has one connection. Publications are stored in a stream, which tells them on: only what JetStream has stored
//! is ever delivered. When the connection breaks or nothing comes by it, another is made, and what was missed is read.

mod batch;
mod channel;
mod connection;
mod heads;
mod history;
mod jetstream;
mod lanes;
mod life;
mod link;
mod notes;
mod presence;
mod publish;
mod rows;
mod streams;
mod subjects;
mod target;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use duplex_core::{
    Broker, BrokerError, ChannelName, Cluster, Deliver, Draft, Extent, Health, History, Kept, NodeId,
    Pending, Position, Recipient, Retention, Row, RowKey, ShardId,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;

pub use self::target::{NatsMedium, NatsStorage, NatsTarget, NatsTargetError};

use self::connection::Connection;
use self::heads::Heads;
use self::lanes::Lanes;
use self::streams::Streams;
use self::subjects::Subjects;
use crate::listeners::Listeners;

/// Calls that may be under way.
const CALLS_MAX: usize = 16_384;
/// Channels that may wait to be asked for.
const WIRES_MAX: usize = 65_536;
/// How long a call may take in all.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long what was published before history was read may be on its way.
const ON_ITS_WAY: Duration = Duration::from_secs(2);
/// Between two tries of a call.
const AGAIN: Duration = Duration::from_millis(50);
/// Between two tries to read what was missed.
const MEND_AGAIN: Duration = Duration::from_millis(500);
/// Channels whose missed publications are read at the same time.
const MENDED_AT_ONCE: usize = 64;

/// The broker of nodes that share a NATS server or cluster.
pub struct Nats {
    shared: Arc<Shared>,
}

/// What all who call, and the thread, share.
struct Shared {
    id: NodeId,
    subjects: Subjects,
    storage: NatsStorage,
    runtime: tokio::runtime::Handle,
    listeners: Listeners,
    node: Arc<dyn Deliver>,
    up: watch::Sender<Option<Arc<Connection>>>,
    calls: Arc<Semaphore>,
    streams: Streams,
    heads: Heads,
    channels: Lanes<ChannelName, channel::Job>,
    members: Lanes<ChannelName, presence::Job>,
    rows: Lanes<RowKey, rows::Job>,
    roll: presence::Roll,
    mending: Semaphore,
    wires: mpsc::Sender<link::Wire>,
    heard: link::Heard,
    notes: AtomicU64,
    /// One note after the other is sent.
    noting: tokio::sync::Mutex<()>,
    /// How far the server's clock is ahead of ours, ms.
    skew_ms: AtomicI64,
}

/// Who waits for an answer, and how long.
struct Answer<T> {
    sender: oneshot::Sender<Result<T, BrokerError>>,
    deadline: Instant,
    _call: OwnedSemaphorePermit,
}

impl<T> Answer<T> {
    fn give(self, answer: Result<T, BrokerError>) {
        drop(self.sender.send(answer));
    }
}

impl Nats {
    /// Begins to connect to `target`, and goes on with it for as long as the process lives. What is kept there begins with
    /// `prefix`.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub fn start(
        target: NatsTarget,
        storage: NatsStorage,
        prefix: &str,
        id: NodeId,
        node: Arc<dyn Deliver>,
    ) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (wires, wired) = mpsc::channel(WIRES_MAX);
        let shared = Arc::new(Shared {
            id,
            subjects: Subjects::new(prefix),
            storage,
            runtime: runtime.handle().clone(),
            listeners: Listeners::new(Arc::clone(&node)),
            node,
            up: watch::Sender::new(None),
            calls: Arc::new(Semaphore::new(CALLS_MAX)),
            streams: Streams::default(),
            heads: Heads::default(),
            channels: Lanes::default(),
            members: Lanes::default(),
            rows: Lanes::default(),
            roll: presence::Roll::default(),
            mending: Semaphore::new(MENDED_AT_ONCE),
            wires,
            heard: link::Heard::default(),
            notes: AtomicU64::new(0),
            noting: tokio::sync::Mutex::default(),
            skew_ms: AtomicI64::new(0),
        });
        link::start(runtime, Arc::downgrade(&shared), target, wired)?;
        Ok(Self { shared })
    }
}

impl Shared {
    /// The connection, if there is one now.
    fn connection(&self) -> Option<Arc<Connection>> {
        self.up.borrow().clone()
    }

    /// The connection, as soon as there is one that is not broken.
    async fn connection_by(&self, deadline: Instant) -> Option<Arc<Connection>> {
        let mut up = self.up.subscribe();
        let is_good = |up: &Option<Arc<Connection>>| up.as_ref().is_some_and(|up| !up.is_over());
        let waiting = tokio::time::timeout_at(deadline, up.wait_for(is_good)).await;
        waiting.ok()?.ok()?.clone()
    }

    /// Begins a call, unless there are too many, or it would only fail later.
    #[allow(clippy::type_complexity)]
    fn call<T: Send + 'static>(&self) -> Result<(Answer<T>, Pending<Result<T, BrokerError>>), BrokerError> {
        if self.connection().is_none() {
            return Err(BrokerError::Unreachable);
        }
        let permit = Arc::clone(&self.calls).try_acquire_owned().map_err(|_| BrokerError::Busy)?;
        let (sender, receiver) = oneshot::channel();
        let answer = Answer { sender, deadline: Instant::now() + PATIENCE, _call: permit };
        let answered = Box::pin(async move { receiver.await.unwrap_or(Err(BrokerError::NoAnswer)) });
        Ok((answer, answered))
    }

    /// Milliseconds since 1970, by the server's clock.
    fn now_ms(&self) -> u64 {
        local_ms().saturating_add_signed(self.skew_ms.load(Relaxed))
    }

    /// Someone begins to listen.
    fn listen(self: &Arc<Self>, name: &ChannelName, shard: ShardId) -> Pending<Result<(), BrokerError>> {
        let ask = || self.wire(link::Wire::Listen(name.clone()));
        self.listeners.add(name, shard, ask).opened(PATIENCE)
    }

    fn ignore(&self, name: &ChannelName, shard: ShardId) {
        self.listeners.remove(name, shard, || self.wire(link::Wire::Ignore(name.clone())));
    }

    fn wire(&self, wire: link::Wire) {
        if self.wires.try_send(wire).is_err() {
            self.heard.lost();
        }
    }
}

impl Broker for Nats {
    fn publish(&self, draft: Draft, retention: Retention) -> Pending<Result<Position, BrokerError>> {
        self.shared.publish(draft, retention)
    }

    fn listen(&self, channel: &ChannelName, shard: ShardId) -> Pending<Result<(), BrokerError>> {
        self.shared.listen(channel, shard)
    }

    fn ignore(&self, channel: &ChannelName, shard: ShardId) {
        self.shared.ignore(channel, shard);
    }

    fn history(&self, channel: &ChannelName, extent: Extent) -> Pending<Result<History, BrokerError>> {
        self.shared.history(channel, extent)
    }
}

impl Cluster for Nats {
    fn send(&self, to: Recipient, note: Bytes) {
        self.shared.send_note(to, note);
    }

    fn keep(&self, key: RowKey, row: Row, ttl_ms: u64) -> Pending<Result<Kept, BrokerError>> {
        self.shared.keep(key, row, ttl_ms)
    }

    fn kept(&self, key: RowKey) -> Pending<Result<Option<Row>, BrokerError>> {
        self.shared.kept(key)
    }

    fn health(&self) -> Health {
        match self.shared.connection() {
            Some(_) => Health::Reachable,
            None => Health::Unreachable,
        }
    }
}

fn ready<T: Send + 'static>(value: T) -> Pending<T> {
    Box::pin(std::future::ready(value))
}

fn local_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn random() -> u64 {
    let mut random = [0; 8];
    getrandom::fill(&mut random).expect("the operating system gives random bytes");
    u64::from_ne_bytes(random)
}
