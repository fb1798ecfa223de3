//! Puts a server together: a broker, a node, its shards and the acceptor, each on the thread it belongs to.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use duplex_broker::Memory;
use duplex_core::{Broker, CloseReason, ShardId};
use duplex_engine::{Gauges, Node, Shard, unix_ms};
use duplex_protocol::native::Welcome;
use duplex_transport::{Acceptor, http, websocket};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, interval, sleep};

use crate::Options;
use crate::api::BodyLimits;
use crate::doors::{self, Seat, Site};
use crate::guard::{Guard, Hosts};

/// Accepted sockets that may wait for a shard; beyond it they wait in the kernel's backlog.
const WAITING_SOCKETS_MAX: usize = 1_024;
/// How often a shard looks at its deadlines.
const TICK: Duration = Duration::from_millis(100);
/// How often expired history is dropped.
const SWEEP: Duration = Duration::from_secs(1);

/// Why a server does not start. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Without authentication nobody but this machine may connect.
    #[error(
        "listen: {0} is not a loopback address, and without authentication everybody who can reach it could do \
         everything; listen on 127.0.0.1 or [::1]"
    )]
    NotLoopback(SocketAddr),
    /// As many as can be numbered.
    #[error("shards: {0} is not between 1 and {max}", max = duplex_core::ShardSet::MAX)]
    Shards(usize),
    /// Most often the port is taken.
    #[error(
        "listen: cannot listen on {address}: {error}; stop what uses it, or choose another with --listen"
    )]
    Bind {
        /// Where it should have listened.
        address: SocketAddr,
        /// What the operating system said.
        error: io::Error,
    },
    /// The operating system gives no more threads or event queues.
    #[error("cannot start a thread or its event loop: {0}")]
    System(#[from] io::Error),
}

/// A running server.
pub struct Server {
    address: SocketAddr,
    node: Arc<Node>,
    ready: Arc<AtomicBool>,
    stopping: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
}

/// A shard as the acceptor sees it.
struct Worker {
    sockets: mpsc::Sender<(TcpStream, Seat)>,
    /// Connections it has or will have.
    taken: Arc<AtomicUsize>,
}

/// What every shard is made from.
#[derive(Clone)]
struct Parts {
    node: Arc<Node>,
    broker: Arc<Memory>,
    guard: Arc<Guard>,
    welcome: Arc<Welcome>,
    ready: Arc<AtomicBool>,
    options: Options,
}

impl Server {
    /// Starts one: when this returns, it accepts connections.
    ///
    /// # Errors
    /// What is wrong with the options, or what the operating system refused.
    pub fn start(options: Options) -> Result<Self, StartError> {
        if !options.listen.ip().is_loopback() {
            return Err(StartError::NotLoopback(options.listen));
        }
        if !(1..=duplex_core::ShardSet::MAX).contains(&options.shards) {
            return Err(StartError::Shards(options.shards));
        }
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let acceptor = runtime.block_on(async { Acceptor::bind(options.listen, options.sockets) });
        let acceptor = acceptor.map_err(|error| StartError::Bind { address: options.listen, error })?;
        let address = acceptor.address()?;
        let parts = Parts::new(options);
        let (node, ready, broker) =
            (Arc::clone(&parts.node), Arc::clone(&parts.ready), Arc::clone(&parts.broker));
        let (stopping, stop) = watch::channel(false);
        let (mut threads, mut workers) = (Vec::new(), Vec::new());
        for id in node.shards() {
            let (thread, worker) = start_shard(id, parts.clone(), stop.clone())?;
            threads.push(thread);
            workers.push(worker);
        }
        threads.push(thread::Builder::new().name("acceptor".into()).spawn(move || {
            runtime.block_on(accept(acceptor, workers, &broker, stop));
        })?);
        ready.store(true, Relaxed);
        Ok(Self { address, node, ready, stopping, threads })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How much there is of what must not leak.
    pub fn gauges(&self) -> &Gauges {
        self.node.gauges()
    }

    /// Stops it: no new connections, each client is told to come back later, and when they have left, or the time for
    /// that is over, this returns.
    pub fn stop(self) {
        self.ready.store(false, Relaxed);
        self.stopping.send_replace(true);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the server had panicked");
            }
        }
    }
}

impl Parts {
    fn new(options: Options) -> Self {
        let node = Arc::new(Node::new(options.shards, doors::encodings(), options.settings.inbox_bytes));
        let welcome = Welcome {
            version: env!("CARGO_PKG_VERSION"),
            heartbeat_ms: options.settings.heartbeat_ms,
            message_bytes_max: options.websocket.message_bytes,
            subscriptions_max: options.settings.subscriptions,
        };
        Self {
            broker: Arc::new(Memory::new(options.retention, node.clone())),
            node,
            guard: Arc::new(Guard::new(options.allowed_origins.clone(), Hosts::Loopback)),
            welcome: Arc::new(welcome),
            ready: Arc::default(),
            options,
        }
    }

    fn site(&self, id: ShardId) -> Rc<Site> {
        let broker: Arc<dyn Broker> = self.broker.clone();
        Rc::new(Site {
            shard: Shard::new(id, Arc::clone(&self.node), Arc::clone(&broker), self.options.settings),
            broker,
            guard: Arc::clone(&self.guard),
            sockets: websocket::Shared::new(self.options.websocket_settings()),
            welcome: Arc::clone(&self.welcome),
            bodies: BodyLimits {
                bytes_max: self.options.websocket.message_bytes,
                timeout: self.options.timeouts.body,
            },
            head_timeout: self.options.timeouts.head,
            ready: Arc::clone(&self.ready),
        })
    }
}

/// Starts the thread of a shard; returns when its event loop is there.
fn start_shard(
    id: ShardId,
    parts: Parts,
    stop: watch::Receiver<bool>,
) -> io::Result<(JoinHandle<()>, Worker)> {
    let (sockets, waiting) = mpsc::channel(WAITING_SOCKETS_MAX);
    let (report, started) = std::sync::mpsc::sync_channel(1);
    let thread = thread::Builder::new().name(format!("shard-{}", id.index())).spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        let (runtime, outcome) = match runtime {
            Ok(runtime) => (Some(runtime), Ok(())),
            Err(error) => (None, Err(error)),
        };
        // The starter waits for it, unless it has given up; then there is nobody to tell.
        let _ = report.send(outcome);
        if let Some(runtime) = runtime {
            runtime.block_on(run_shard(parts.site(id), parts.options.settings.close_ms, waiting, stop));
        }
    })?;
    started.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))?;
    Ok((thread, Worker { sockets, taken: Arc::default() }))
}

/// Accepts connections until the server stops; each goes to the shard with the fewest.
async fn accept(acceptor: Acceptor, workers: Vec<Worker>, broker: &Memory, mut stop: watch::Receiver<bool>) {
    let accepting = acceptor.run(async |stream| {
        let Some(worker) = workers.iter().min_by_key(|worker| worker.taken.load(Relaxed)) else { return };
        let seat = Seat::take(Arc::clone(&worker.taken));
        // It fails only if the shard has stopped; then the connection is dropped with it.
        let _ = worker.sockets.send((stream, seat)).await;
    });
    let sweeping = async {
        let mut sweeps = interval(SWEEP);
        loop {
            sweeps.tick().await;
            broker.sweep(unix_ms());
        }
    };
    tokio::select! {
        () = accepting => {}
        () = sweeping => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

/// The life of a shard.
async fn run_shard(
    site: Rc<Site>,
    close_ms: u32,
    mut sockets: mpsc::Receiver<(TcpStream, Seat)>,
    mut stop: watch::Receiver<bool>,
) {
    let turns = tokio::task::spawn_local(Rc::clone(&site.shard).turns());
    let ticks = tokio::task::spawn_local(ticks(Rc::clone(&site.shard)));
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            socket = sockets.recv() => match socket {
                Some((stream, seat)) => serve(&site, stream, seat),
                None => break,
            }
        }
    }
    site.shard.close_all(&CloseReason::RESTART);
    let deadline = Instant::now() + Duration::from_millis(u64::from(close_ms)) + TICK * 5;
    while site.shard.sessions() > 0 && Instant::now() < deadline {
        sleep(TICK / 10).await;
    }
    turns.abort();
    ticks.abort();
}

fn serve(site: &Rc<Site>, stream: TcpStream, seat: Seat) {
    let stream = match tokio::net::TcpStream::from_std(stream) {
        Ok(stream) => stream,
        Err(error) => return tracing::warn!(%error, "cannot serve a connection"),
    };
    let (site, seat) = (Rc::clone(site), Rc::new(seat));
    tokio::task::spawn_local(async move {
        http::serve(stream, site.head_timeout, |request| {
            doors::answer(Rc::clone(&site), Rc::clone(&seat), request)
        })
        .await;
    });
}

async fn ticks(shard: Rc<Shard>) {
    let start = Instant::now();
    let mut ticks = interval(TICK);
    loop {
        ticks.tick().await;
        shard.tick(u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX));
    }
}
