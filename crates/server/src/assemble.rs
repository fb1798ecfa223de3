//! Puts a server together: a broker, a node, its shards and the acceptor, each on the thread it belongs to.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use duplex_core::{Backend, ShardId};
use duplex_engine::{Gauges, Ground, Node, Shard};
use duplex_transport::{Acceptor, SocketOptions, websocket};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};

use crate::api::Station;
use crate::authority::{Authority, Credentials, Gate};
use crate::carrier::Carrier;
use crate::cluster::{self, Inlet, Nodes, Notes, Onward, Proofs, Talk};
use crate::config::{Change, changes};
use crate::doors::{self, Away, Engines, Errand, Hubs, Recoveries, Registry, Signer, Site, Whereabouts};
use crate::drain::Unfinished;
use crate::live::Live;
use crate::options::Mode;
use crate::places::{Places, Refused};
use crate::threads::{Speech, Worker, accept, start_shard, sweep};
use crate::tls::Tls;
use crate::{Options, drain};

/// Errands that may wait for a shard; beyond it, who asks is told to try again.
const WAITING_ERRANDS_MAX: usize = 1_024;
/// File descriptors that are not for connections: event loops, logs, the listener.
const FILES_RESERVED: usize = 64;
/// Sessions that a shard has room for from the start, at most.
const SESSIONS_RESERVED_MAX: usize = 1 << 17;

/// Why a server does not start. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Without authentication nobody but this machine may connect.
    #[error(
        "{0}: {1} is not a loopback address, and in dev mode everybody who can reach it could do \
         everything; listen on 127.0.0.1 or [::1], or configure `auth`"
    )]
    NotLoopback(&'static str, SocketAddr),
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
    /// The same, of another address.
    #[error("{option}: cannot listen on {address}: {error}; stop what uses it, or choose another")]
    BindOther {
        /// Which.
        option: &'static str,
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
    secure_address: Option<SocketAddr>,
    advertised: Option<SocketAddr>,
    tls: Option<Arc<Tls>>,
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
    secure: Option<Acceptor>,
    /// Where clients connect by TLS.
    secure_address: Option<SocketAddr>,
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
        let bind_other =
            |option, address| bind(address).map_err(|error| StartError::BindOther { option, address, error });
        let secure = options.tls.listen.map(|address| bind_other("tls.listen", address)).transpose()?;
        let secure_address = secure.as_ref().map(Acceptor::address).transpose()?;
        let peers =
            options.cluster.listen.map(|address| bind_other("cluster.listen", address)).transpose()?;
        let bound = peers.as_ref().map(Acceptor::address).transpose()?;
        let advertised = bound.map(|bound| cluster::advertised(&options.cluster, bound));
        Ok(Self { address: clients.address()?, clients, secure, secure_address, peers, advertised })
    }
}

/// What every shard is made from.
#[derive(Clone)]
pub(crate) struct Parts {
    pub node: Arc<Node>,
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
    pub live: watch::Receiver<Arc<Live>>,
    pub stage: watch::Receiver<Stage>,
    pub tls: Option<Arc<Tls>>,
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
        let (live, credentials, tls) = Self::check(&options)?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let listeners = runtime.block_on(async { Listeners::bind(&options) })?;
        let Listeners { address, secure_address, advertised, .. } = listeners;
        tracing::debug!(connections = connections(&options).node, "may connect at once");
        let (live, live_now) = watch::channel(Arc::new(live));
        let (stage, stage_now) = watch::channel(Stage::Serving);
        let now = (live_now, stage_now.clone());
        let (parts, errands, notes) = Parts::new(&options, (credentials, tls), around, now, advertised)?;
        let (mut threads, mut workers) = (Vec::new(), Vec::new());
        for (id, errands) in parts.node.shards().zip(errands) {
            let (thread, worker) = start_shard(id, parts.clone(), errands)?;
            threads.push(thread);
            workers.push(worker);
        }
        let acceptor = parts.clone();
        threads.push(
            thread::Builder::new()
                .name("acceptor".into())
                .spawn(move || accept_all(&runtime, listeners, &workers, notes, &acceptor))?,
        );
        let Parts { node, nodes, unfinished, authority, places, ready, tls, .. } = parts;
        ready.store(true, Relaxed);
        let (mode, options) = (options.mode, Mutex::new(options));
        let own = Self {
            address,
            secure_address,
            advertised,
            tls,
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

    fn check(options: &Options) -> Result<(Live, Credentials, Option<Arc<Tls>>), StartError> {
        let addresses = [("server.listen", Some(options.listen)), ("tls.listen", options.tls.listen)];
        for (option, address) in addresses {
            if let Some(address) = address.filter(|address| !address.ip().is_loopback())
                && options.mode == Mode::Dev
            {
                return Err(StartError::NotLoopback(option, address));
            }
        }
        if !(1..=duplex_core::ShardSet::MAX).contains(&options.shards) {
            return Err(StartError::Shards(options.shards));
        }
        cluster::check(&options.cluster).map_err(StartError::Options)?;
        let live = Live::new(options).map_err(StartError::Options)?;
        let credentials = Credentials::load(options).map_err(StartError::Options)?;
        let tls = Tls::load(&options.tls).map_err(StartError::Options)?;
        Ok((live, credentials, tls))
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
        let (live, credentials, _) = Self::check(&options)?;
        if let Some(tls) = &self.tls {
            tls.reload().map_err(StartError::Options)?;
        }
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

    /// Where clients connect by TLS, if they do.
    pub fn secure_address(&self) -> Option<SocketAddr> {
        self.secure_address
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

/// Brings clients to their shards, and talks to other nodes, until the server stops.
fn accept_all(runtime: &Runtime, listeners: Listeners, workers: &[Worker], notes: Notes, parts: &Parts) {
    let Listeners { clients, secure, peers, .. } = listeners;
    let Parts { places, errands, tls, .. } = parts;
    let (stage, mut stages) = (|| parts.stage.clone(), parts.stage.clone());
    let away = Away::new(Arc::clone(&parts.whereabouts), Arc::clone(errands));
    let talking = cluster::listen(Arc::clone(&parts.talk), notes, parts.station(), away);
    runtime.block_on(async {
        let from_clients = accept(clients, Speech::Plain, workers, places, stage());
        let from_secure = async {
            if let Some(acceptor) = secure {
                accept(acceptor, Speech::Tls, workers, places, stage()).await;
            }
        };
        let from_peers = async {
            if let Some(acceptor) = peers {
                cluster::accept(acceptor, Arc::clone(errands), Arc::clone(places), stage()).await;
            }
        };
        let sweeping = sweep(&parts.carrier, places, tls.as_deref(), stage());
        // Nodes talk until the last client has left.
        let talking = async {
            tokio::select! { () = talking => {}, _ = stages.wait_for(|stage| *stage == Stage::Over) => {} }
        };
        tokio::join!(from_clients, from_secure, from_peers, sweeping, talking);
    });
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
        (credentials, tls): (Credentials, Option<Arc<Tls>>),
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
            tls,
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

    /// What the doors of shard `id` need.
    pub fn site(&self, id: ShardId, taken: Arc<AtomicUsize>) -> Rc<Site> {
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
