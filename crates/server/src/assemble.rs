//! Puts a server together: a broker, a node, its shards and the acceptor, each on the thread it belongs to.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use duplex_core::{Backend, ShardId};
use duplex_engine::{Gauges, Ground, Node, Shard, unix_ms};
use duplex_transport::{Acceptor, BUSY, SocketOptions, TOO_MANY, turn_away, websocket};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, interval};

use crate::api::Station;
use crate::authority::{Authority, Credentials, Gate};
use crate::carrier::Carrier;
use crate::cluster::{self, Inlet, Nodes, Notes, Onward, Proofs, Talk};
use crate::config::{Change, changes};
use crate::doors::{
    self, Away, Caller, Engines, Entrance, Errand, Hubs, Recoveries, Registry, Seat, Signer, Site,
    Whereabouts,
};
use crate::drain::Unfinished;
use crate::live::Live;
use crate::options::Mode;
use crate::places::{Full, Place, Places, Refused};
use crate::{Options, drain};

/// Errands that may wait for a shard; beyond it, who asks is told to try again.
const WAITING_ERRANDS_MAX: usize = 1_024;
/// Accepted sockets that may wait for a shard; beyond it they wait in the kernel's backlog.
const WAITING_SOCKETS_MAX: usize = 1_024;
/// File descriptors that are not for connections: event loops, logs, the listener.
const FILES_RESERVED: usize = 64;
/// Sessions that a shard has room for from the start, at most.
const SESSIONS_RESERVED_MAX: usize = 1 << 17;
/// How often a shard looks at its deadlines.
const TICK: Duration = Duration::from_millis(100);
/// How often expired history is dropped.
const SWEEP: Duration = Duration::from_secs(1);

/// Why a server does not start. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Without authentication nobody but this machine may connect.
    #[error(
        "server.listen: {0} is not a loopback address, and in dev mode everybody who can reach it could do \
         everything; listen on 127.0.0.1 or [::1], or configure `auth`"
    )]
    NotLoopback(SocketAddr),
    /// Options that contradict each other, or name what is not there.
    #[error("{0}")]
    Options(String),
    /// As many as can be numbered.
    #[error("server.shards: {0} is not between 1 and {max}", max = duplex_core::ShardSet::MAX)]
    Shards(usize),
    /// Most often the port is taken.
    #[error(
        "server.listen: cannot listen on {address}: {error}; stop what uses it, or choose another with --listen"
    )]
    Bind {
        /// Where it should have listened.
        address: SocketAddr,
        /// What the operating system said.
        error: io::Error,
    },
    /// It does not answer, and the options say not to wait for it.
    #[error(
        "broker.url: the broker cannot be reached; start it, name the right one, or set broker.at_start to \
         \"wait\""
    )]
    Broker,
    /// The same, of the address for other nodes.
    #[error("cluster.listen: cannot listen on {address}: {error}; stop what uses it, or choose another")]
    BindCluster {
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
    advertised: Option<SocketAddr>,
    node: Arc<Node>,
    nodes: Arc<Nodes>,
    unfinished: Unfinished,
    places: Arc<Places>,
    authority: Arc<Authority>,
    ready: Arc<AtomicBool>,
    /// For whom it is open, whatever a reload says.
    mode: Mode,
    /// What it was configured with last.
    options: Mutex<Options>,
    live: watch::Sender<Arc<Live>>,
    stage: watch::Sender<Stage>,
    threads: Vec<JoinHandle<()>>,
}

/// How far a server has come in its life.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Stage {
    Serving,
    /// No new connections; clients are sent away.
    Draining,
    /// Time is over.
    Over,
}

/// Where connections come in.
struct Listeners {
    clients: Acceptor,
    address: SocketAddr,
    peers: Option<Acceptor>,
    /// The address that other nodes are told.
    advertised: Option<SocketAddr>,
}

impl Listeners {
    /// Call it on the runtime that will accept.
    fn bind(options: &Options) -> Result<Self, StartError> {
        let bind = |address| Acceptor::bind(address, options.sockets);
        let clients =
            bind(options.listen).map_err(|error| StartError::Bind { address: options.listen, error })?;
        let peers = options
            .cluster
            .listen
            .map(|address| bind(address).map_err(|error| StartError::BindCluster { address, error }));
        let peers = peers.transpose()?;
        let bound = peers.as_ref().map(Acceptor::address).transpose()?;
        let advertised = bound.map(|bound| cluster::advertised(&options.cluster, bound));
        Ok(Self { address: clients.address()?, clients, peers, advertised })
    }
}

/// A shard as the acceptor sees it.
struct Worker {
    sockets: mpsc::Sender<(TcpStream, SocketAddr, Seat)>,
    /// Connections it has or will have.
    taken: Arc<AtomicUsize>,
}

/// What every shard is made from.
#[derive(Clone)]
struct Parts {
    node: Arc<Node>,
    carrier: Carrier,
    talk: Arc<Talk>,
    nodes: Arc<Nodes>,
    proofs: Option<Arc<Proofs>>,
    unfinished: Unfinished,
    authority: Arc<Authority>,
    backend: Arc<dyn Backend>,
    places: Arc<Places>,
    ready: Arc<AtomicBool>,
    errands: Arc<[mpsc::Sender<Errand>]>,
    whereabouts: Whereabouts,
    signer: Arc<Signer>,
    live: watch::Receiver<Arc<Live>>,
    stage: watch::Receiver<Stage>,
    socket_options: SocketOptions,
}

impl Server {
    /// Starts one: when this returns, it accepts connections.
    ///
    /// # Errors
    /// What is wrong with the options, or what the operating system refused.
    pub fn start(options: Options) -> Result<Self, StartError> {
        Self::start_with(options, |configured| configured)
    }

    /// Starts one whose backend is what `around` makes of the configured one, which knows tokens and has no answer to calls.
    ///
    /// # Errors
    /// The same.
    pub fn start_with(
        options: Options,
        around: impl FnOnce(Arc<dyn Backend>) -> Arc<dyn Backend>,
    ) -> Result<Self, StartError> {
        let (live, credentials) = Self::check(&options)?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let Listeners { clients, address, peers, advertised } =
            runtime.block_on(async { Listeners::bind(&options) })?;
        tracing::debug!(connections = connections(&options).node, "may connect at once");
        let (live, live_now) = watch::channel(Arc::new(live));
        let (stage, stage_now) = watch::channel(Stage::Serving);
        let (parts, errands, notes) =
            Parts::new(&options, credentials, around, (live_now, stage_now.clone()), advertised)?;
        let (mut threads, mut workers) = (Vec::new(), Vec::new());
        for (id, errands) in parts.node.shards().zip(errands) {
            let (thread, worker) = start_shard(id, parts.clone(), errands)?;
            threads.push(thread);
            workers.push(worker);
        }
        let away = Away::new(Arc::clone(&parts.whereabouts), Arc::clone(&parts.errands));
        let talking = cluster::listen(Arc::clone(&parts.talk), notes, parts.station(), away);
        let Parts {
            node,
            nodes,
            unfinished,
            authority,
            places,
            ready,
            carrier,
            errands,
            stage: mut stages,
            ..
        } = parts;
        let counted = Arc::clone(&places);
        threads.push(thread::Builder::new().name("acceptor".into()).spawn(move || {
            runtime.block_on(async {
                let from_peers = async {
                    if let Some(acceptor) = peers {
                        cluster::accept(acceptor, errands, Arc::clone(&counted), stage_now.clone()).await;
                    }
                };
                let from_clients =
                    accept(clients, workers, Arc::clone(&counted), &carrier, stage_now.clone());
                // Nodes talk until the last client has left.
                let over = stages.wait_for(|stage| *stage == Stage::Over);
                let talking = async {
                    tokio::select! { () = talking => {}, _ = over => {} }
                };
                tokio::join!(from_clients, from_peers, talking);
            });
        })?);
        ready.store(true, Relaxed);
        let (mode, options) = (options.mode, Mutex::new(options));
        let own = Self {
            address,
            advertised,
            node,
            nodes,
            unfinished,
            places,
            authority,
            ready,
            mode,
            options,
            live,
            stage,
            threads,
        };
        Ok(own)
    }

    /// Checks options without starting anything.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check_options(options: &Options) -> Result<(), StartError> {
        Self::check(options).map(|_| ())
    }

    fn check(options: &Options) -> Result<(Live, Credentials), StartError> {
        if options.mode == Mode::Dev && !options.listen.ip().is_loopback() {
            return Err(StartError::NotLoopback(options.listen));
        }
        if !(1..=duplex_core::ShardSet::MAX).contains(&options.shards) {
            return Err(StartError::Shards(options.shards));
        }
        cluster::check(&options.cluster).map_err(StartError::Options)?;
        let live = Live::new(options).map_err(StartError::Options)?;
        let credentials = Credentials::load(options).map_err(StartError::Options)?;
        Ok((live, credentials))
    }

    /// From now on `options` hold, as far as they can change while the server runs; says what has changed. Files they name
    /// are read again.
    ///
    /// # Errors
    /// What is wrong with them; then everything stays as it is.
    pub fn reload(&self, options: Options) -> Result<Vec<Change>, StartError> {
        let mut current = self.options.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = changes(&current, &options);
        let options = Options { mode: self.mode, ..options };
        let (live, credentials) = Self::check(&options)?;
        self.authority.replace(credentials);
        self.places.set(connections(&options), options.trusted_proxies.clone());
        self.live.send_replace(Arc::new(live));
        *current = options;
        Ok(changed)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where other nodes reach it, if they do.
    pub fn advertised(&self) -> Option<SocketAddr> {
        self.advertised
    }

    /// This node, and those it knows: requests for sessions of theirs are sent on to them.
    pub fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    /// How much there is of what must not leak.
    pub fn gauges(&self) -> &Gauges {
        self.node.gauges()
    }

    /// Connections now.
    pub fn connections(&self) -> usize {
        self.places.connections()
    }

    /// How many connections were turned away since the start, and why.
    pub fn refused(&self) -> &Refused {
        self.places.refused()
    }

    /// Stops it: no new connections, each client is told to come back, and when they have left, or the time for that is
    /// over, this returns. Says how many were cut off.
    pub fn stop(self) -> usize {
        self.ready.store(false, Relaxed);
        let drain = self.live.borrow().drain;
        let deadline = std::time::Instant::now() + drain.timeout;
        thread::sleep(drain.notice);
        self.places.close();
        self.stage.send_replace(Stage::Draining);
        drain::watch(&self.node, &self.unfinished, deadline);
        let cut_off = self.node.gauges().sessions();
        self.stage.send_replace(Stage::Over);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the server had panicked");
            }
        }
        cut_off
    }
}

/// Never more than there are file descriptors for.
fn connections(options: &Options) -> crate::Connections {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let files = files.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX));
    let node = options.connections.node.min(files.saturating_sub(FILES_RESERVED).max(1));
    crate::Connections { node, ..options.connections }
}

impl Parts {
    fn new(
        options: &Options,
        credentials: Credentials,
        around: impl FnOnce(Arc<dyn Backend>) -> Arc<dyn Backend>,
        (live, stage): (watch::Receiver<Arc<Live>>, watch::Receiver<Stage>),
        advertised: Option<SocketAddr>,
    ) -> Result<(Self, Vec<mpsc::Receiver<Errand>>, Notes), StartError> {
        let nodes = Arc::new(Nodes::new(cluster::new_node()));
        let node = Arc::new(Node::new(options.shards, doors::encodings(), options.settings.inbox_bytes));
        let (errands, waiting): (Vec<_>, _) =
            node.shards().map(|_| mpsc::channel(WAITING_ERRANDS_MAX)).unzip();
        let authority = Arc::new(Authority::new(credentials, options));
        let (inlet, notes) = Inlet::new(Arc::clone(&node));
        let carrier = Carrier::start(options, nodes.own(), Arc::new(inlet))?;
        let secret = options.cluster.secret.as_ref();
        let proofs = secret.map(|secret| Arc::new(Proofs::new(secret, nodes.own())));
        let parts = Self {
            backend: around(Arc::new(Gate(Arc::clone(&authority)))),
            talk: Arc::new(Talk::new(Arc::clone(&nodes), carrier.cluster.clone(), advertised)),
            carrier,
            node,
            nodes,
            proofs,
            unfinished: Unfinished::default(),
            authority,
            places: Places::new(connections(options), options.trusted_proxies.clone()),
            ready: Arc::default(),
            errands: errands.into(),
            whereabouts: Whereabouts::default(),
            signer: Arc::new(secret.map_or_else(Signer::random, Signer::derived)),
            live,
            stage,
            socket_options: options.sockets,
        };
        Ok((parts, waiting, notes))
    }

    fn station(&self) -> Station {
        Station {
            node: Arc::clone(&self.node),
            authority: Arc::clone(&self.authority),
            places: Arc::clone(&self.places),
        }
    }

    fn site(&self, id: ShardId, taken: Arc<AtomicUsize>) -> Rc<Site> {
        let live = Arc::clone(&self.live.borrow());
        let ground = Ground {
            node: Arc::clone(&self.node),
            broker: Arc::clone(&self.carrier.broker),
            presence: Arc::clone(&self.carrier.presence),
            backend: Arc::clone(&self.backend),
        };
        let rows = self.carrier.cluster.clone().map(|cluster| (cluster, self.unfinished.clone()));
        let shard = Shard::new(id, ground.clone(), live.settings, Arc::clone(&live.namespaces));
        // Some connections have two sessions.
        shard.reserve((2 * self.places.limit() / self.node.shards().count()).min(SESSIONS_RESERVED_MAX));
        Rc::new(Site {
            id,
            nodes: Arc::clone(&self.nodes),
            proofs: self.proofs.clone(),
            onward: Onward::new(self.socket_options, self.unfinished.clone()),
            shard,
            ground,
            authority: Arc::clone(&self.authority),
            places: Arc::clone(&self.places),
            sockets: websocket::Shared::new(live.sockets),
            live: std::cell::RefCell::new(live),
            ready: Arc::clone(&self.ready),
            carrier: self.carrier.clone(),
            station: self.station(),
            talk: Arc::clone(&self.talk),
            taken,
            sessions: Rc::<Registry>::default(),
            engines: Rc::<Engines>::default(),
            hubs: Rc::<Hubs>::default(),
            signer: Arc::clone(&self.signer),
            recoveries: Recoveries::new(id, Arc::clone(&self.whereabouts), rows),
            errands: Arc::clone(&self.errands),
        })
    }
}

/// Starts the thread of a shard; returns when its event loop is there.
fn start_shard(
    id: ShardId,
    parts: Parts,
    errands: mpsc::Receiver<Errand>,
) -> io::Result<(JoinHandle<()>, Worker)> {
    let taken: Arc<AtomicUsize> = Arc::default();
    let counted = Arc::clone(&taken);
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
            runtime.block_on(run_shard(parts.site(id, counted), parts, waiting, errands));
        }
    })?;
    started.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))?;
    Ok((thread, Worker { sockets, taken }))
}

/// Accepts connections until the server stops; each goes to the shard with the fewest.
async fn accept(
    acceptor: Acceptor,
    workers: Vec<Worker>,
    places: Arc<Places>,
    carrier: &Carrier,
    mut stage: watch::Receiver<Stage>,
) {
    let take = async |mut stream: TcpStream, peer: SocketAddr| {
        let place: Place = match places.take(peer.ip(), unix_ms()) {
            Ok(place) => place,
            Err(Full::Node) => return turn_away(&mut stream, BUSY),
            Err(Full::Address) => return turn_away(&mut stream, TOO_MANY),
        };
        let Some(worker) = workers.iter().min_by_key(|worker| worker.taken.load(Relaxed)) else { return };
        let seat = Seat::take(Arc::clone(&worker.taken), place);
        // It fails only if the shard has stopped; then the connection is dropped with it.
        let _ = worker.sockets.send((stream, peer, seat)).await;
    };
    let sweeping = async {
        let mut sweeps = interval(SWEEP);
        loop {
            sweeps.tick().await;
            carrier.sweep(unix_ms());
            places.sweep(unix_ms());
        }
    };
    tokio::select! {
        () = acceptor.run(take, |count| places.exhausted(count)) => {}
        () = sweeping => {}
        _ = stage.wait_for(|stage| *stage != Stage::Serving) => {}
    }
}

/// The life of a shard.
async fn run_shard(
    site: Rc<Site>,
    mut parts: Parts,
    mut sockets: mpsc::Receiver<(TcpStream, SocketAddr, Seat)>,
    errands: mpsc::Receiver<Errand>,
) {
    tokio::task::spawn_local(doors::run_errands(Rc::clone(&site), errands));
    let turns = tokio::task::spawn_local(Rc::clone(&site.shard).turns());
    let ticks = tokio::task::spawn_local(ticks(Rc::clone(&site)));
    loop {
        tokio::select! {
            _ = parts.stage.wait_for(|stage| *stage != Stage::Serving) => break,
            changed = parts.live.changed() => match changed {
                Ok(()) => site.go_by(Arc::clone(&parts.live.borrow_and_update())),
                Err(_) => break,
            },
            socket = sockets.recv() => match socket {
                Some((stream, peer, seat)) => serve(&site, stream, peer, seat),
                None => break,
            }
        }
    }
    drop(sockets);
    drain::send_away(&site.shard, site.live().drain, parts.node.shards().count(), parts.stage).await;
    turns.abort();
    ticks.abort();
}

fn serve(site: &Rc<Site>, stream: TcpStream, peer: SocketAddr, seat: Seat) {
    let stream = match tokio::net::TcpStream::from_std(stream) {
        Ok(stream) => stream,
        Err(error) => return tracing::warn!(%error, "cannot serve a connection"),
    };
    let caller = Caller { peer: peer.ip(), entrance: Entrance::Public, seat: Arc::new(seat) };
    doors::serve(site, stream.into(), Bytes::new(), Arc::new(caller));
}

async fn ticks(site: Rc<Site>) {
    let mut ticks = interval(TICK);
    let mut clock = Clock { now: Duration::ZERO, before: Instant::now() };
    loop {
        ticks.tick().await;
        let now = Instant::now();
        site.shard.tick(clock.advance(now));
        site.recoveries.sweep(&site, now);
        site.engines.sweep(now);
    }
}

/// The clock of a shard goes on while the shard does: after a pause, in which it could not read what clients sent, nobody
/// has been silent for as long as the pause was.
struct Clock {
    now: Duration,
    before: Instant,
}

impl Clock {
    /// Milliseconds of the shard's time.
    fn advance(&mut self, at: Instant) -> u64 {
        self.now += (at - self.before).min(TICK * 2);
        self.before = at;
        u64::try_from(self.now.as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_of_the_shard_is_not_a_silence_of_its_clients() {
        let start = Instant::now();
        let mut clock = Clock { now: Duration::ZERO, before: start };
        let at = |ms| start + Duration::from_millis(ms);
        let times = [100, 210, 60_000, 60_001, 60_100].map(|ms| clock.advance(at(ms)));
        assert_eq!(times, [100, 210, 410, 411, 510]);
    }
}
