//! The thread that has the connections.

use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use duplex_core::{BrokerError, Change, ChannelName, Epoch, NodeId, Position, Publication};
use redis::aio::ConnectionLike;
use redis::{Cmd, PushInfo, PushKind, RedisError, RedisResult, Value};
use tokio::sync::{Notify, mpsc};
use tokio::time::{interval, sleep, timeout};

use super::keys::Keys;
use super::target::{ANSWER, Connection, RedisTarget};
use super::{Call, ORDER, Shared, Wire, Work, all_scripts};
use crate::envelope::read_draft;
use crate::listeners::Then;

/// Between two tries to connect, at most.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How often this node says something to itself, to hear whether it hears.
const PROBE: Duration = Duration::from_secs(2);
/// Without having heard that for so long, it is deaf.
const DEAF: Duration = Duration::from_secs(8);
/// Lanes of calls to a cluster: those in different ones do not wait for one another.
const LANES: usize = 64;
/// Calls that may wait in one lane.
const LANE_MAX: usize = 4_096;
/// Channels that are asked for with one command.
const ASKED_AT_ONCE: usize = 512;

/// When this node has heard itself last.
pub(super) struct Heard(Mutex<Instant>);

impl Default for Heard {
    fn default() -> Self {
        Self(Mutex::new(Instant::now()))
    }
}

impl Heard {
    fn now(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn ago(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

/// Starts the thread. It ends when nobody has the broker any more.
pub(super) fn start(
    shared: Weak<Shared>,
    target: RedisTarget,
    calls: mpsc::Receiver<Call>,
    wires: mpsc::Receiver<Wire>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("redis".into()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                () = carry_calls(&shared, &target, calls) => {}
                () = listen(&shared, &target, wires) => {}
                () = super::presence::beat(&shared) => {}
            }
        });
    })?;
    Ok(())
}

/// Waits longer each time, at most [`PAUSE_MAX`].
struct Pause(Duration);

impl Pause {
    const START: Self = Self(Duration::from_millis(50));

    fn longer(&mut self) -> Duration {
        self.0 = (self.0 * 2).min(PAUSE_MAX);
        self.0
    }
}

/// Carries calls for as long as anybody may call.
async fn carry_calls(shared: &Weak<Shared>, target: &RedisTarget, mut calls: mpsc::Receiver<Call>) {
    let mut pause = Pause::START;
    loop {
        let Some(strong) = shared.upgrade() else { return };
        let keys = strong.keys.clone();
        drop(strong);
        let connecting = timeout(ANSWER, connect(target, &keys));
        let connected = tokio::select! {
            connected = connecting => connected,
            () = refuse(&mut calls) => return,
        };
        let error = match connected {
            Ok(Ok(connection)) => {
                let Some(strong) = shared.upgrade() else { return };
                strong.is_reachable.store(true, Relaxed);
                strong.connected.notify_one();
                drop(strong);
                tracing::info!("connected to Redis");
                pause = Pause::START;
                let ended = carry(connection, &mut calls).await;
                let Some(strong) = shared.upgrade() else { return };
                strong.is_reachable.store(false, Relaxed);
                match ended {
                    Ended::Broken => "it broke off or does not answer".to_owned(),
                    Ended::Over => return,
                }
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it does not answer".to_owned(),
        };
        tracing::warn!(error, "no connection to Redis; what is published is refused until there is one");
        tokio::select! {
            () = sleep(pause.longer()) => {}
            () = refuse(&mut calls) => return,
        }
        if shared.strong_count() == 0 {
            return;
        }
    }
}

/// Refuses what is called until it is dropped; returns when nobody can call any more.
async fn refuse(calls: &mut mpsc::Receiver<Call>) {
    while let Some(call) = calls.recv().await {
        drop(call.answer.send(Err(BrokerError::Unreachable)));
    }
}

/// With the scripts in Redis' cache, calls keep their order.
async fn connect(target: &RedisTarget, keys: &Keys) -> RedisResult<Connection> {
    let mut connection = target.connect(None::<fn(PushInfo) -> Result<(), ()>>).await?;
    // At once: Redis may be far away.
    let loading = all_scripts().into_iter().map(|script| {
        let mut connection = connection.clone();
        async move { script.load_async(&mut connection).await }
    });
    futures_util::future::try_join_all(loading).await?;
    if let Connection::Single(_) = connection {
        // A Redis that takes no writes now gives out no order either.
        let put_forward = ORDER.key(keys.order()).invoke_async::<i64>(&mut connection).await;
        drop(put_forward.inspect_err(|error| tracing::debug!(%error, "the order was not put forward")));
    }
    Ok(connection)
}

enum Ended {
    Broken,
    /// Nobody can call any more.
    Over,
}

async fn carry(connection: Connection, calls: &mut mpsc::Receiver<Call>) -> Ended {
    let broken = Arc::new(Notify::new());
    let lanes = match connection {
        Connection::Single(_) => None,
        Connection::Cluster(_) => Some(lanes(&connection, &broken)),
    };
    let mut some = Vec::new();
    loop {
        tokio::select! {
            count = calls.recv_many(&mut some, 256) => {
                if count == 0 {
                    return Ended::Over;
                }
            }
            () = broken.notified() => return Ended::Broken,
        }
        for call in some.drain(..) {
            let (connection, broken) = (connection.clone(), Arc::clone(&broken));
            match &lanes {
                // Tasks run in the order in which they are spawned, and each hands its command on when it runs first.
                None => drop(tokio::spawn(carry_one(connection, call, broken))),
                Some(lanes) => {
                    if let Err(full) = lanes[call.lane % LANES].try_send(call) {
                        drop(full.into_inner().answer.send(Err(BrokerError::Busy)));
                    }
                }
            }
        }
    }
}

/// Where calls to a cluster wait for one another: its client keeps no order by itself.
fn lanes(connection: &Connection, broken: &Arc<Notify>) -> Vec<mpsc::Sender<Call>> {
    let lane = |_| {
        let (sender, mut calls) = mpsc::channel::<Call>(LANE_MAX);
        let (connection, broken) = (connection.clone(), Arc::clone(broken));
        tokio::spawn(async move {
            while let Some(call) = calls.recv().await {
                carry_one(connection.clone(), call, Arc::clone(&broken)).await;
            }
        });
        sender
    };
    (0..LANES).map(lane).collect()
}

async fn carry_one(connection: Connection, call: Call, broken: Arc<Notify>) {
    let Call { work, answer, .. } = call;
    let silent = || RedisError::from(io::Error::from(io::ErrorKind::TimedOut));
    let answered = timeout(ANSWER, ask(connection, &work)).await.unwrap_or_else(|_| Err(silent()));
    let answered = answered.map_err(|error| {
        if is_broken(&error) {
            broken.notify_one();
        }
        broker_error(&error)
    });
    drop(answer.send(answered));
}

async fn ask(mut connection: Connection, work: &Work) -> RedisResult<Value> {
    match work {
        Work::Command(command) => connection.req_packed_command(command).await.and_then(Value::extract_error),
        Work::Script(script) => script.invoke_async(&mut connection).await,
    }
}

/// Whether another connection may do better.
fn is_broken(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_timeout()
        || error.is_connection_dropped()
        || error.code() == Some("READONLY")
}

fn broker_error(error: &RedisError) -> BrokerError {
    match error.code() {
        Some("OOM") => return BrokerError::Full,
        Some(
            "READONLY" | "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "NOREPLICAS" | "MISCONF",
        ) => {
            return BrokerError::Unreachable;
        }
        _ => {}
    }
    match () {
        () if error.is_connection_refusal() => BrokerError::Unreachable,
        () if error.is_io_error() || error.is_timeout() || error.is_connection_dropped() => {
            BrokerError::NoAnswer
        }
        () => BrokerError::Refused(error.to_string()),
    }
}

/// Listens for as long as the broker is there.
async fn listen(shared: &Weak<Shared>, target: &RedisTarget, mut wires: mpsc::Receiver<Wire>) {
    let mut pause = Pause::START;
    loop {
        let gone = Arc::new(Notify::new());
        let pushed = {
            let (shared, gone) = (Weak::clone(shared), Arc::clone(&gone));
            move |push: PushInfo| match shared.upgrade() {
                Some(shared) => {
                    shared.take(push, &gone);
                    Ok(())
                }
                None => Err(()),
            }
        };
        let connected = timeout(ANSWER, target.connect(Some(pushed))).await;
        if let Ok(Ok(connection)) = connected {
            pause = Pause::START;
            if attend(shared, connection, &mut wires, &gone).await.is_none() {
                return;
            }
            tracing::warn!(
                "the connection to Redis that listens broke off, or nothing comes by it; making another"
            );
        }
        sleep(pause.longer()).await;
        if shared.strong_count() == 0 {
            return;
        }
    }
}

/// One connection that listens, until it must be given up. `None` if the broker is gone.
async fn attend(
    shared: &Weak<Shared>,
    connection: Connection,
    wires: &mut mpsc::Receiver<Wire>,
    gone: &Arc<Notify>,
) -> Option<()> {
    {
        let shared = shared.upgrade()?;
        // What was asked for until now is in the list.
        while wires.try_recv().is_ok() {}
        shared.heard.now();
        let mut notes = redis::cmd("SUBSCRIBE");
        notes.arg(shared.keys.notes(shared.id)).arg(shared.keys.notes_for_all());
        send(&connection, notes, gone);
        for some in shared.listeners.ask_again().chunks(ASKED_AT_ONCE) {
            subscribe(&shared, &connection, some, gone);
        }
    }
    let mut probes = interval(PROBE);
    let mut some = Vec::new();
    loop {
        tokio::select! {
            count = wires.recv_many(&mut some, ASKED_AT_ONCE) => {
                if count == 0 {
                    return None;
                }
                change(&*shared.upgrade()?, &connection, some.drain(..), gone);
            }
            () = gone.notified() => return Some(()),
            _ = probes.tick() => {
                let shared = shared.upgrade()?;
                if shared.heard.ago() > DEAF || shared.wires_lost.swap(false, Relaxed) {
                    return Some(());
                }
                let mut probe = redis::cmd("PUBLISH");
                probe.arg(shared.keys.notes(shared.id)).arg(PROBE_NOTE);
                drop(shared.command(probe));
            }
        }
    }
}

/// What a node says to itself.
const PROBE_NOTE: &str = "probe";

/// Sends a command that is answered by what is pushed. If it fails, the connection is given up.
fn send(connection: &Connection, command: Cmd, gone: &Arc<Notify>) {
    let (mut connection, gone) = (connection.clone(), Arc::clone(gone));
    tokio::spawn(async move {
        if connection.req_packed_command(&command).await.and_then(Value::extract_error).is_err() {
            gone.notify_one();
        }
    });
}

/// Asks for channels, and gives others back, in order.
fn change(shared: &Shared, connection: &Connection, wires: impl Iterator<Item = Wire>, gone: &Arc<Notify>) {
    let mut asked = Vec::new();
    for wire in wires {
        match wire {
            Wire::Listen(channel) => asked.push(channel),
            Wire::Ignore(channel) => {
                subscribe(shared, connection, &std::mem::take(&mut asked), gone);
                let mut ignore = redis::cmd(if shared.is_cluster { "SUNSUBSCRIBE" } else { "UNSUBSCRIBE" });
                ignore.arg(shared.keys.live(&channel));
                send(connection, ignore, gone);
            }
        }
    }
    subscribe(shared, connection, &asked, gone);
}

fn subscribe(shared: &Shared, connection: &Connection, channels: &[ChannelName], gone: &Arc<Notify>) {
    // In a cluster each may be on another server.
    let (word, at_once) = if shared.is_cluster { ("SSUBSCRIBE", 1) } else { ("SUBSCRIBE", ASKED_AT_ONCE) };
    for some in channels.chunks(at_once) {
        let mut command = redis::cmd(word);
        some.iter().for_each(|channel| _ = command.arg(shared.keys.live(channel)));
        send(connection, command, gone);
    }
}

impl Shared {
    /// Takes what Redis says by itself. Never waits.
    fn take(self: &Arc<Self>, push: PushInfo, gone: &Notify) {
        let text = |value: &Value| match value {
            Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
            Value::SimpleString(text) => Some(text.clone()),
            _ => None,
        };
        match (push.kind, &push.data[..]) {
            (PushKind::Disconnection, _) => gone.notify_one(),
            (PushKind::Subscribe | PushKind::SSubscribe, [channel, ..]) => {
                if let Some(channel) = text(channel).and_then(|live| self.keys.channel(&live)) {
                    let then = self.listeners.opened(&channel);
                    self.follow(&channel, then);
                }
            }
            (PushKind::Message | PushKind::SMessage, [channel, Value::BulkString(message)]) => {
                let Some(place) = text(channel) else { return };
                match self.keys.channel(&place) {
                    Some(channel) => self.told(channel, message),
                    None => self.noted(message),
                }
            }
            _ => {}
        }
    }

    fn follow(self: &Arc<Self>, channel: &ChannelName, then: Then) {
        if let Then::Mend(since) = then {
            tokio::spawn(Arc::clone(self).mend(channel.clone(), since));
        }
    }

    /// Something happened in a channel.
    fn told(self: &Arc<Self>, channel: ChannelName, message: &[u8]) {
        let understood = match message.split_first() {
            Some((b'P', rest)) => published(rest, &channel).map(|publication| {
                let then = self.listeners.publication(publication);
                self.follow(&channel, then);
            }),
            Some((b'J', rest)) => self.listeners.presence(&channel, rest, Change::Joined),
            Some((b'L', rest)) => self.listeners.presence(&channel, rest, Change::Left),
            _ => Err("it is not from Duplex".to_owned()),
        };
        if let Err(error) = understood {
            tracing::warn!(?channel, error, "what came from Redis is not understood, and passed over");
        }
    }

    /// A note, or what this node says to itself.
    fn noted(&self, message: &[u8]) {
        if message == PROBE_NOTE.as_bytes() {
            return self.heard.now();
        }
        let note = message.strip_prefix(b"1").and_then(|rest| rest.split_at_checked(16));
        let from = note.and_then(|(from, _)| NodeId::parse(std::str::from_utf8(from).ok()?));
        match (note, from) {
            (Some((_, note)), Some(from)) if from != self.id => {
                self.node.note(from, Bytes::copy_from_slice(note));
            }
            (Some(_), Some(_)) => {}
            _ => tracing::warn!("a note that came from Redis is not understood, and passed over"),
        }
    }
}

/// Reads `EPOCH OFFSET ORDER DRAFT`.
fn published(message: &[u8], channel: &ChannelName) -> Result<Publication, String> {
    let mut parts = message.splitn(4, |byte| *byte == b' ');
    let mut word = || parts.next().and_then(|part| std::str::from_utf8(part).ok());
    let position = (|| {
        let (epoch, offset) = (Epoch::parse(word()?)?, word()?.parse().ok()?);
        Some((Position { epoch, offset }, word()?.parse().ok()?))
    })();
    let (position, order) = position.ok_or("it has no position")?;
    let draft = parts.next().ok_or("it is cut off")?;
    let draft = read_draft(draft, channel.clone()).map_err(|error| error.to_string())?;
    Ok(Publication { position, order, draft })
}
