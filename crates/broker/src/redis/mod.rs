//! Redis, or what speaks like it (Valkey): publications, history, presence and notes of nodes that share it.
//!
//! One thread has two connections: one carries calls, in order and without waiting for one another, the other what is
//! published. Either is made again when it breaks or is silent for too long, and what was missed meanwhile is read.
//! Everything that must happen together is one script.

mod keys;
mod link;
mod presence;
mod target;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use duplex_core::{
    Broker, BrokerError, ChannelName, Cluster, Deliver, Draft, Epoch, Extent, Health, History, Kept,
    NOTE_BYTES_MAX, NodeId, Order, Page, Past, Pending, Position, Publication, Recipient, Retention, Row,
    RowKey, ShardId,
};
use redis::{Cmd, FromRedisValue, Script, ScriptInvocation, Value};
use tokio::sync::{Notify, mpsc, oneshot};

pub use self::target::{RedisTarget, RedisTargetError};

use self::keys::Keys;
use self::presence::Roll;
use crate::envelope::{digest, read_draft, write_draft};
use crate::listeners::{Listeners, Then, Wanted};

/// Calls that may wait for the connection.
const CALLS_MAX: usize = 16_384;
/// Channels that may wait to be asked for.
const WIRES_MAX: usize = 65_536;
/// How long a call may take in all.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long what was published before history was read may be on its way.
const ON_ITS_WAY: Duration = Duration::from_secs(2);
/// How long a channel's epoch and offset are kept beyond its history, ms. Whoever reads them keeps them longer.
const META_TTL_MS: u64 = 3_600_000;

macro_rules! scripts {
    ($($name:ident = $file:literal;)*) => {
        $(static $name: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!($file)));)*
        fn all_scripts() -> Vec<&'static Script> {
            vec![$(&*$name),*]
        }
    };
}

scripts! {
    PUBLISH = "scripts/publish.lua";
    HISTORY = "scripts/history.lua";
    RENEW = "scripts/renew.lua";
    JOIN = "scripts/join.lua";
    LEAVE = "scripts/leave.lua";
    PRESENT = "scripts/present.lua";
    BEAT = "scripts/beat.lua";
    KEEP = "scripts/keep.lua";
    ORDER = "scripts/order.lua";
}

/// The broker of nodes that share a Redis.
pub struct Redis {
    shared: Arc<Shared>,
}

/// What all who call, and the thread, share.
struct Shared {
    id: NodeId,
    keys: Keys,
    /// The word that publishes: in a cluster, publications stay on the server of their channel.
    publish: &'static str,
    is_cluster: bool,
    listeners: Listeners,
    node: Arc<dyn Deliver>,
    roll: Roll,
    is_reachable: AtomicBool,
    /// There is a connection that was not there before.
    connected: Notify,
    calls: mpsc::Sender<Call>,
    wires: mpsc::Sender<Wire>,
    /// There were more of them than may wait: all channels must be asked for again.
    wires_lost: AtomicBool,
    heard: link::Heard,
}

/// What is asked of Redis, and who waits for the answer.
struct Call {
    work: Work,
    /// Calls with the same number keep their order.
    lane: usize,
    answer: oneshot::Sender<Result<Value, BrokerError>>,
}

enum Work {
    Command(Cmd),
    Script(Box<ScriptInvocation<'static>>),
}

/// What is asked of the connection that listens.
enum Wire {
    Listen(ChannelName),
    Ignore(ChannelName),
}

impl Redis {
    /// Begins to connect to `target`, and goes on with it for as long as the process lives. What is kept there begins with
    /// `prefix`.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub fn start(
        target: RedisTarget,
        prefix: &str,
        id: NodeId,
        node: Arc<dyn Deliver>,
    ) -> std::io::Result<Self> {
        let (calls, called) = mpsc::channel(CALLS_MAX);
        let (wires, wired) = mpsc::channel(WIRES_MAX);
        let is_cluster = target.is_cluster();
        let shared = Arc::new(Shared {
            id,
            keys: Keys::new(prefix),
            publish: if is_cluster { "SPUBLISH" } else { "PUBLISH" },
            is_cluster,
            listeners: Listeners::new(Arc::clone(&node)),
            node,
            roll: Roll::default(),
            is_reachable: AtomicBool::new(false),
            connected: Notify::new(),
            calls,
            wires,
            wires_lost: AtomicBool::new(false),
            heard: link::Heard::default(),
        });
        link::start(Arc::downgrade(&shared), target, called, wired)?;
        Ok(Self { shared })
    }
}

impl Shared {
    /// Asks Redis; takes effect in the order of calls.
    fn call(&self, lane: usize, work: Work) -> Pending<Result<Value, BrokerError>> {
        let (answer, answered) = oneshot::channel();
        let sent = self.calls.try_send(Call { work, lane, answer });
        Box::pin(async move {
            match sent {
                Ok(()) => answered.await.unwrap_or(Err(BrokerError::NoAnswer)),
                Err(mpsc::error::TrySendError::Full(_)) => Err(BrokerError::Busy),
                Err(mpsc::error::TrySendError::Closed(_)) => Err(BrokerError::Unreachable),
            }
        })
    }

    fn command(&self, command: Cmd) -> Pending<Result<Value, BrokerError>> {
        self.call(0, Work::Command(command))
    }

    /// Something that must happen at once, for a channel.
    fn script(
        &self,
        channel: &str,
        script: ScriptInvocation<'static>,
    ) -> Pending<Result<Value, BrokerError>> {
        self.call(lane(channel), Work::Script(Box::new(script)))
    }

    fn publish(&self, draft: &Draft, retention: Retention) -> Pending<Result<Position, BrokerError>> {
        let name: &str = &draft.channel;
        let mut script = PUBLISH.prepare_invoke();
        script.key(self.keys.meta(name)).key(self.keys.history(name)).key(self.keys.idempotency(name));
        if !self.is_cluster {
            script.key(self.keys.order());
        }
        script
            .arg(fresh_epoch())
            .arg(write_draft(draft))
            .arg(retention.publications)
            .arg(retention.ttl_ms)
            .arg(retention.ttl_ms.saturating_add(META_TTL_MS))
            .arg(self.keys.live(name))
            .arg(self.publish);
        match &draft.key {
            Some(key) => script.arg(key.as_str()).arg(digest(draft)),
            None => script.arg("").arg(""),
        };
        let called = self.script(name, script);
        Box::pin(async move {
            let (epoch, offset): (String, i64) = read(called.await?)?;
            let epoch = Epoch::parse(&epoch).ok_or_else(|| not_ours("an epoch"))?;
            let offset = u64::try_from(offset).map_err(|_| BrokerError::KeyReused)?;
            Ok(Position { epoch, offset })
        })
    }

    /// The position, how many publications are kept, and those from `range`, in its order.
    fn read(&self, name: &ChannelName, range: &Range) -> Pending<Result<(History, usize), BrokerError>> {
        let mut script = HISTORY.prepare_invoke();
        script.key(self.keys.meta(name)).key(self.keys.history(name));
        script.arg(fresh_epoch()).arg(META_TTL_MS);
        script.arg(&range.from).arg(&range.to).arg(range.most);
        script.arg(i32::from(range.order == Order::NewestFirst));
        let called = self.script(name, script);
        let name = name.clone();
        Box::pin(async move {
            let (epoch, offset, kept, entries): (String, u64, usize, Vec<Value>) = read(called.await?)?;
            let epoch = Epoch::parse(&epoch).ok_or_else(|| not_ours("an epoch"))?;
            let entries = entries.into_iter().map(|entry| publication(entry, epoch, &name));
            let past = Past::Kept(entries.collect::<Result<_, _>>()?);
            Ok((History { position: Position { epoch, offset }, past }, kept))
        })
    }

    async fn history(self: Arc<Self>, name: ChannelName, extent: Extent) -> Result<History, BrokerError> {
        let (mut history, kept) = self.read(&name, &Range::of(extent)).await?;
        if !reaches_back(extent, history.position, kept) {
            history.past = Past::Lost;
        }
        if let (Past::Kept(publications), Extent::After(since)) = (&history.past, extent)
            && history.position.offset - since.offset != publications.len() as u64
        {
            history.past = Past::Lost;
        }
        self.arrived(&name, history.position).await?;
        Ok(history)
    }

    /// Waits until what was published before `position` has been delivered here.
    async fn arrived(self: &Arc<Self>, name: &ChannelName, position: Position) -> Result<(), BrokerError> {
        let Some(on_its_way) = self.listeners.read(name, position) else { return Ok(()) };
        if tokio::time::timeout(ON_ITS_WAY, on_its_way).await.is_ok() {
            return Ok(());
        }
        tracing::warn!(channel = ?name, "what was published does not arrive; it is read");
        if let Then::Mend(since) = self.listeners.doubt(name) {
            tokio::time::timeout(PATIENCE, Arc::clone(self).mend(name.clone(), since)).await.ok();
        }
        Ok(())
    }

    /// Reads what did not arrive, until it is there.
    async fn mend(self: Arc<Self>, name: ChannelName, mut since: Position) {
        while self.listeners.wants(&name) == Wanted::Still {
            match self.read_after(&name, since).await {
                Ok(history) => match self.listeners.mended(&name, history) {
                    Then::Nothing => return,
                    Then::Mend(next) => since = next,
                },
                Err(error) => {
                    tracing::debug!(channel = ?name, %error, "cannot read what was missed yet");
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            }
        }
    }

    async fn read_after(&self, name: &ChannelName, since: Position) -> Result<History, BrokerError> {
        let (mut history, kept) = self.read(name, &Range::of(Extent::After(since))).await?;
        let at = history.position;
        if at.epoch == since.epoch && at.offset < since.offset {
            // A failover that lost what was not copied yet, or a crash. Offsets must not mean two things.
            let mut script = RENEW.prepare_invoke();
            script.key(self.keys.meta(name)).key(self.keys.history(name)).key(self.keys.idempotency(name));
            script.arg(fresh_epoch()).arg(since.epoch.to_string()).arg(since.offset).arg(META_TTL_MS);
            self.script(name, script).await?;
            (history, _) = self.read(name, &Range::of(Extent::Nothing)).await?;
            history.past = Past::Lost;
        } else if !reaches_back(Extent::After(since), at, kept) {
            history.past = Past::Lost;
        }
        Ok(history)
    }

    /// Someone begins to listen.
    fn listen(self: &Arc<Self>, name: &ChannelName, shard: ShardId) -> Pending<Result<(), BrokerError>> {
        if !self.is_reachable.load(Relaxed) {
            return Box::pin(std::future::ready(Err(BrokerError::Unreachable)));
        }
        let ask = || self.wire(Wire::Listen(name.clone()));
        self.listeners.add(name, shard, ask).opened(PATIENCE)
    }

    fn ignore(&self, name: &ChannelName, shard: ShardId) {
        self.listeners.remove(name, shard, || self.wire(Wire::Ignore(name.clone())));
    }

    fn wire(&self, wire: Wire) {
        if self.wires.try_send(wire).is_err() {
            self.wires_lost.store(true, Relaxed);
        }
    }
}

impl Broker for Redis {
    fn publish(&self, draft: Draft, retention: Retention) -> Pending<Result<Position, BrokerError>> {
        self.shared.publish(&draft, retention)
    }

    fn listen(&self, channel: &ChannelName, shard: ShardId) -> Pending<Result<(), BrokerError>> {
        self.shared.listen(channel, shard)
    }

    fn ignore(&self, channel: &ChannelName, shard: ShardId) {
        self.shared.ignore(channel, shard);
    }

    fn history(&self, channel: &ChannelName, extent: Extent) -> Pending<Result<History, BrokerError>> {
        Box::pin(Arc::clone(&self.shared).history(channel.clone(), extent))
    }
}

impl Cluster for Redis {
    fn send(&self, to: Recipient, note: Bytes) {
        if note.len() > NOTE_BYTES_MAX {
            return tracing::error!(
                bytes = note.len(),
                "a note to another node is too long, and was not sent"
            );
        }
        let channel = match to {
            Recipient::All => self.shared.keys.notes_for_all(),
            Recipient::One(node) => self.shared.keys.notes(node),
        };
        let note = [b"1", self.shared.id.to_string().as_bytes(), &note].concat();
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(channel).arg(note);
        // Whether it arrives is not known anyway.
        drop(self.shared.command(publish));
    }

    fn keep(&self, key: RowKey, row: Row, ttl_ms: u64) -> Pending<Result<Kept, BrokerError>> {
        let key = self.shared.keys.row(key);
        let mut keep = KEEP.prepare_invoke();
        keep.key(&key).arg(format!("{:016x}", row.version)).arg(&*row.content).arg(ttl_ms.max(1));
        let called = self.shared.script(&key, keep);
        Box::pin(async move { Ok(if read(called.await?)? { Kept::Now } else { Kept::TooLate }) })
    }

    fn kept(&self, key: RowKey) -> Pending<Result<Option<Row>, BrokerError>> {
        let key = self.shared.keys.row(key);
        let mut get = redis::cmd("GET");
        get.arg(&key);
        let called = self.shared.call(lane(&key), Work::Command(get));
        Box::pin(async move { read::<Option<Vec<u8>>>(called.await?)?.map(row).transpose() })
    }

    fn health(&self) -> Health {
        match self.shared.is_reachable.load(Relaxed) {
            true => Health::Reachable,
            false => Health::Unreachable,
        }
    }
}

fn row(kept: Vec<u8>) -> Result<Row, BrokerError> {
    let (version, _) = kept.split_first_chunk::<16>().ok_or_else(|| not_ours("a row"))?;
    let version = std::str::from_utf8(version).ok().and_then(|digits| u64::from_str_radix(digits, 16).ok());
    let version = version.ok_or_else(|| not_ours("a row"))?;
    Ok(Row { version, content: Bytes::from(kept).slice(16..) })
}

/// Which entries of a stream are wanted: their ids are offsets.
struct Range {
    from: String,
    to: String,
    most: usize,
    order: Order,
}

impl Range {
    fn of(extent: Extent) -> Self {
        let (mut from, mut to) = ("-".to_owned(), "+".to_owned());
        let after = |since: Position| format!("({}-0", since.offset);
        let (most, order) = match extent {
            Extent::Nothing => (0, Order::OldestFirst),
            Extent::After(since) => {
                from = after(since);
                (usize::try_from(i64::MAX).unwrap_or(usize::MAX), Order::OldestFirst)
            }
            Extent::Page(Page { since, limit, order }) => {
                match (since, order) {
                    (None, _) => {}
                    (Some(since), Order::OldestFirst) => from = after(since),
                    (Some(since), Order::NewestFirst) => to = after(since),
                }
                (limit, order)
            }
        };
        Self { from, to, most, order }
    }
}

/// Whether what is kept, `kept` publications up to `top`, reaches back to where a reader wants to go on.
fn reaches_back(extent: Extent, top: Position, kept: usize) -> bool {
    let since = match extent {
        Extent::Nothing | Extent::Page(Page { since: None, .. }) => return true,
        Extent::After(since) | Extent::Page(Page { since: Some(since), .. }) => since,
    };
    let behind = top.offset.checked_sub(since.offset).filter(|_| top.epoch == since.epoch);
    behind.is_some_and(|behind| behind <= kept as u64)
}

/// Reads an entry of history.
fn publication(entry: Value, epoch: Epoch, name: &ChannelName) -> Result<Arc<Publication>, BrokerError> {
    let (id, fields): (String, Vec<Vec<u8>>) = read(entry)?;
    let offset = id.split_once('-').and_then(|(offset, _)| offset.parse().ok());
    let offset = offset.ok_or_else(|| not_ours("an id in a stream"))?;
    let [_, draft, _, order] = &fields[..] else { return Err(not_ours("an entry of a stream")) };
    let order = std::str::from_utf8(order).ok().and_then(|order| order.parse().ok());
    let order = order.ok_or_else(|| not_ours("an entry of a stream"))?;
    let draft = read_draft(draft, name.clone());
    let draft =
        draft.map_err(|error| BrokerError::Refused(format!("what is kept is not understood: {error}")))?;
    Ok(Arc::new(Publication { position: Position { epoch, offset }, order, draft }))
}

fn read<T: FromRedisValue>(value: Value) -> Result<T, BrokerError> {
    redis::from_redis_value(value).map_err(|_| not_ours("an answer"))
}

fn not_ours(what: &str) -> BrokerError {
    BrokerError::Refused(format!("{what} is not what this server writes; use another prefix"))
}

fn lane(channel: &str) -> usize {
    channel.bytes().fold(0_usize, |hash, byte| hash.wrapping_mul(31).wrapping_add(usize::from(byte)))
}

fn fresh_epoch() -> String {
    let mut random = [0; 6];
    getrandom::fill(&mut random).expect("the operating system gives random bytes");
    Epoch::from_random(random).to_string()
}
