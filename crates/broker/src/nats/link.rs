//! The thread that has the connection, and what comes by it.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use async_nats::{Client, Event, Message, Subscriber};
use duplex_core::{Change, ChannelName, NodeId};
use futures_util::StreamExt;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{interval, sleep};

use super::batch::Batch;
use super::connection::Connection;
use super::notes::hear_notes;
use super::target::NatsTarget;
use super::{Shared, random};

/// Between two tries to connect, at most.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How often this node says that it is alive, which it hears itself, too.
const PROBE: Duration = Duration::from_secs(2);
/// Without having heard that for so long, it is deaf.
pub(super) const DEAF: Duration = Duration::from_secs(6);
/// Channels that are asked for before it is waited for the server.
const ASKED_AT_ONCE: usize = 512;
/// Messages of one subscription that may wait for this thread.
const UNREAD_MAX: usize = 65_536;

/// What is asked of the connection.
pub(super) enum Wire {
    Listen(ChannelName),
    Ignore(ChannelName),
}

/// When this node has heard itself last, and the others.
pub(super) struct Heard {
    itself: Mutex<Instant>,
    others: Mutex<HashMap<NodeId, Instant>>,
    /// More was asked for than could wait: all channels must be asked for again.
    lost: AtomicBool,
}

impl Default for Heard {
    fn default() -> Self {
        Self { itself: Mutex::new(Instant::now()), others: Mutex::default(), lost: AtomicBool::new(false) }
    }
}

impl Heard {
    fn itself(&self) {
        *self.itself.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn is_deaf(&self) -> bool {
        self.itself.lock().unwrap_or_else(PoisonError::into_inner).elapsed() > DEAF
            || self.lost.swap(false, Relaxed)
    }

    pub fn lost(&self) {
        self.lost.store(true, Relaxed);
    }

    fn other(&self, node: NodeId) {
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        // Nodes that are long gone are not remembered for ever.
        if others.len() > 4_096 {
            others.retain(|_, heard| heard.elapsed() < 10 * DEAF);
        }
        others.insert(node, Instant::now());
    }

    /// How long ago a node was heard, if ever.
    pub fn ago(&self, node: NodeId) -> Option<Duration> {
        let others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        others.get(&node).map(Instant::elapsed)
    }
}

/// Starts the thread. It ends when nobody has the broker any more.
pub(super) fn start(
    runtime: Runtime,
    shared: Weak<Shared>,
    target: NatsTarget,
    wires: mpsc::Receiver<Wire>,
) -> io::Result<()> {
    std::thread::Builder::new().name("nats".into()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                () = run(&shared, &target, wires) => {}
                () = super::life::beat(&shared) => {}
            }
        });
    })?;
    Ok(())
}

/// Makes one connection after the other, for as long as the broker is there.
async fn run(shared: &Weak<Shared>, target: &NatsTarget, mut wires: mpsc::Receiver<Wire>) {
    let mut pause = Duration::from_millis(50);
    loop {
        let news = Arc::new(News::default());
        match connect(target, Arc::clone(&news)).await {
            Ok(client) => {
                pause = Duration::from_millis(50);
                let connection = Arc::new(Connection::new(client, format!("_INBOX.{:016x}", random())));
                let ended = attend(shared, &connection, &mut wires, &news).await;
                connection.over();
                let Some(shared) = shared.upgrade() else { return };
                shared.up.send_replace(None);
                if matches!(ended, Ok(Ended::Over)) {
                    return;
                }
                tracing::warn!("the connection to NATS broke off, or nothing comes by it; making another");
            }
            Err(error) => {
                tracing::warn!(%error, "no connection to NATS; what is published is refused until there is one");
            }
        }
        pause = (pause * 2).min(PAUSE_MAX);
        sleep(pause).await;
        if shared.strong_count() == 0 {
            return;
        }
    }
}

/// What is known of a connection beside what comes by it.
#[derive(Default)]
struct News {
    gone: Notify,
    /// Something was dropped that we were too slow for.
    dropped: AtomicBool,
}

async fn connect(target: &NatsTarget, news: Arc<News>) -> Result<Client, async_nats::Error> {
    let options = target.options().ping_interval(PROBE).subscription_capacity(UNREAD_MAX);
    let options = options.event_callback(move |event| {
        let news = Arc::clone(&news);
        async move {
            match event {
                Event::Disconnected | Event::Closed | Event::LameDuckMode => news.gone.notify_one(),
                Event::SlowConsumer(_) => news.dropped.store(true, Relaxed),
                Event::ServerError(error) => tracing::warn!(%error, "NATS says that something is wrong"),
                _ => {}
            }
        }
    });
    let client = options.connect(target.servers()).await?;
    if !client.is_server_compatible(2, 9, 0) {
        return Err(
            format!("NATS {} is too old; 2.9 or later is needed", client.server_info().version).into()
        );
    }
    Ok(client)
}

/// Why a connection is given up.
enum Ended {
    Broken,
    /// The broker is gone.
    Over,
}

/// What listens by one connection; it ends with it.
struct Ears {
    tasks: JoinSet<()>,
    channels: HashMap<ChannelName, AbortHandle>,
}

/// One connection, until it must be given up.
async fn attend(
    weak: &Weak<Shared>,
    connection: &Arc<Connection>,
    wires: &mut mpsc::Receiver<Wire>,
    news: &News,
) -> Result<Ended, async_nats::Error> {
    let mut ears = Ears { tasks: JoinSet::new(), channels: HashMap::new() };
    {
        let Some(shared) = weak.upgrade() else { return Ok(Ended::Over) };
        ears.open(&shared, connection).await?;
        // What was asked for until now is in the list.
        while wires.try_recv().is_ok() {}
        shared.up.send_replace(Some(Arc::clone(connection)));
        tracing::info!("connected to NATS");
        ears.listen(&shared, connection, shared.listeners.ask_again()).await?;
    }
    let (mut probes, mut some) = (interval(PROBE), Vec::new());
    loop {
        tokio::select! {
            count = wires.recv_many(&mut some, ASKED_AT_ONCE) => {
                let Some(shared) = weak.upgrade().filter(|_| count > 0) else { return Ok(Ended::Over) };
                ears.change(&shared, connection, some.drain(..)).await?;
            }
            () = news.gone.notified() => return Ok(Ended::Broken),
            _ = probes.tick() => {
                let Some(shared) = weak.upgrade() else { return Ok(Ended::Over) };
                if shared.heard.is_deaf() {
                    return Ok(Ended::Broken);
                }
                if news.dropped.swap(false, Relaxed) {
                    tracing::warn!("this node was too slow for what came from NATS; what was dropped is read");
                    shared.doubt_all();
                }
                let beat = shared.id.to_string().into();
                connection.client.publish(shared.subjects.beats(), beat).await?;
            }
        }
    }
}

impl Ears {
    /// Begins to hear answers, notes and beats.
    async fn open(
        &mut self,
        shared: &Arc<Shared>,
        connection: &Arc<Connection>,
    ) -> Result<(), async_nats::Error> {
        let client = &connection.client;
        let answers = client.subscribe(connection.inbox()).await?;
        self.tasks.spawn(Arc::clone(connection).read_answers(answers));
        let to_all = client.subscribe(shared.subjects.notes_for_all()).await?;
        let to_us = client.subscribe(shared.subjects.notes(shared.id)).await?;
        self.tasks.spawn(hear_notes(Arc::downgrade(shared), to_all, to_us));
        let beats = client.subscribe(shared.subjects.beats()).await?;
        self.tasks.spawn(hear_beats(Arc::downgrade(shared), beats));
        shared.heard.itself();
        self.round_trip(shared, connection).await?;
        // Whatever was known may have changed meanwhile.
        shared.streams.forget_all();
        shared.heads.doubt_all();
        Ok(())
    }

    /// Waits until the server has taken everything that was sent.
    async fn round_trip(&self, shared: &Shared, connection: &Connection) -> Result<(), async_nats::Error> {
        let trip = connection.round_trip(shared.subjects.nowhere()).await;
        trip.map_err(|failure| format!("{failure:?}").into())
    }

    async fn listen(
        &mut self,
        shared: &Arc<Shared>,
        connection: &Arc<Connection>,
        channels: Vec<ChannelName>,
    ) -> Result<(), async_nats::Error> {
        for some in channels.chunks(ASKED_AT_ONCE) {
            for channel in some {
                let subscriber = connection.client.subscribe(shared.subjects.live(channel)).await?;
                let hearing = hear(Arc::downgrade(shared), channel.clone(), subscriber);
                if let Some(before) = self.channels.insert(channel.clone(), self.tasks.spawn(hearing)) {
                    before.abort();
                }
            }
            self.round_trip(shared, connection).await?;
            for channel in some {
                let then = shared.listeners.opened(channel);
                shared.follow(channel, then);
            }
        }
        while self.tasks.try_join_next().is_some() {}
        Ok(())
    }

    /// Asks for channels, and gives others back, in order.
    async fn change(
        &mut self,
        shared: &Arc<Shared>,
        connection: &Arc<Connection>,
        wires: impl Iterator<Item = Wire>,
    ) -> Result<(), async_nats::Error> {
        let mut asked = Vec::new();
        for wire in wires {
            match wire {
                Wire::Listen(channel) => asked.push(channel),
                Wire::Ignore(channel) => {
                    asked.retain(|asked| *asked != channel);
                    if let Some(hearing) = self.channels.remove(&channel) {
                        hearing.abort();
                    }
                }
            }
        }
        self.listen(shared, connection, asked).await
    }
}

/// Hears what happens in a channel.
async fn hear(shared: Weak<Shared>, channel: ChannelName, mut messages: Subscriber) {
    while let Some(message) = messages.next().await {
        let Some(shared) = shared.upgrade() else { return };
        shared.told(&channel, &message);
    }
}

/// Hears which nodes are alive.
async fn hear_beats(shared: Weak<Shared>, mut beats: Subscriber) {
    while let Some(beat) = beats.next().await {
        let Some(shared) = shared.upgrade() else { return };
        match std::str::from_utf8(&beat.payload).ok().and_then(NodeId::parse) {
            Some(node) if node == shared.id => shared.heard.itself(),
            Some(node) => shared.heard.other(node),
            None => tracing::warn!("a beat that came from NATS is not understood, and passed over"),
        }
    }
}

impl Shared {
    /// Something happened in a channel.
    fn told(self: &Arc<Self>, channel: &ChannelName, message: &Message) {
        let understood = match message.payload.split_first() {
            Some((b'J', member)) => self.listeners.presence(channel, member, Change::Joined),
            Some((b'L', member)) => self.listeners.presence(channel, member, Change::Left),
            _ => Batch::read(&message.payload)
                .map_err(str::to_owned)
                .and_then(|batch| batch.publications(channel))
                .map(|all| {
                    for publication in all {
                        let then = self.listeners.publication(publication);
                        self.follow(channel, then);
                    }
                }),
        };
        if let Err(error) = understood {
            tracing::warn!(?channel, error, "what came from NATS is not understood, and passed over");
        }
    }

    /// Any of what came may be missing.
    fn doubt_all(self: &Arc<Self>) {
        for channel in self.listeners.names() {
            let then = self.listeners.doubt(&channel);
            self.follow(&channel, then);
        }
    }
}
