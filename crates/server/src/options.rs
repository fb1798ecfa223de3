use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use duplex_broker::{Capacity, NatsStorage, NatsTarget, RedisTarget};
use duplex_core::Rate;
use duplex_engine::{Allow, Overload, Policy, Settings, Visibility, Who};
use duplex_transport::{SocketOptions, websocket};
use duplex_websocket::Limits;

use crate::auth::{Anonymous, Expiry, Issuer, PrivateAddresses, Secret};
use crate::guard::Origin;
use crate::hubs::Hub;

/// How a server is set up. The default is dev mode: everything is open, to programs on this machine only.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether everything is open to programs on this machine, or nothing to anybody without a token or key.
    pub mode: Mode,
    /// Where to listen. In dev mode a loopback address. Default `127.0.0.1:8000`.
    pub listen: SocketAddr,
    /// How clients connect by TLS. Default: not at all.
    pub tls: Tls,
    /// Threads that serve clients, 1 to 64. Default: one per core.
    pub shards: usize,
    /// Origins of foreign pages that may connect. Pages of this server always may. Default: none.
    pub allowed_origins: Vec<Origin>,
    /// Addresses of proxies, whose `X-Forwarded-For` is believed. Default: this machine.
    pub trusted_proxies: Vec<IpAddr>,
    /// How many may connect.
    pub connections: Connections,
    /// Limits of the WebSocket codec. Messages of the HTTP API have the same limit.
    pub websocket: Limits,
    /// Longest message of a client that is not connected yet, bytes. Default 16 KiB.
    pub first_message_bytes: usize,
    /// Frames of a session that were sent and may not have arrived, bytes; beyond one frame, older ones are forgotten.
    /// Default 64 KiB.
    pub retained_bytes: usize,
    /// Limits and times of sessions.
    pub settings: Settings,
    /// How much all histories together may take, if they are in this process.
    pub capacity: Capacity,
    /// What carries publications between nodes, and keeps history.
    pub broker: BrokerOptions,
    /// What is allowed and kept in the channels of each namespace. `default` is for channels without one.
    pub namespaces: BTreeMap<String, Namespace>,
    /// Which tokens and keys are believed.
    pub auth: Auth,
    /// Payload bytes per second that a client with compression may send, after inflating. Default 16 MiB.
    pub inflated_bytes_per_second: u32,
    /// How sockets are set up.
    pub sockets: SocketOptions,
    /// How long clients may take to finish what they have begun.
    pub timeouts: Timeouts,
    /// How clients are sent away when the server stops.
    pub drain: Drain,
    /// What clients of Socket.IO meet.
    pub socketio: SocketIo,
    /// Where clients of SignalR connect, and which channels they meet there. Default `/signalr`, all channels.
    pub hubs: Vec<Hub>,
    /// How other nodes reach this one. Default: not at all.
    pub cluster: Cluster,
}

/// For whom a server is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// To every program on this machine, for everything.
    Dev,
    /// To those who show a token or key, for what it allows.
    Closed,
}

/// How clients connect by TLS.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// Where to listen for them.
    pub listen: Option<SocketAddr>,
    /// A file with the certificate, and behind it those that lead to its root, in PEM.
    pub certificate: Option<PathBuf>,
    /// A file with its private key, in PEM.
    pub key: Option<PathBuf>,
}

/// What carries publications between nodes, and keeps history.
#[derive(Debug, Clone)]
pub struct BrokerOptions {
    /// Where it is. Default: in this process, for a single node.
    pub place: BrokerPlace,
    /// What all that is kept in a broker of several applications begins with. Default `duplex`.
    pub prefix: String,
    /// How NATS stores what is published. Default: on files, on one server.
    pub nats: NatsStorage,
    /// What happens when it cannot be reached at the start. Default: the server waits for it.
    pub at_start: AtStart,
}

/// Where the broker is.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)]
pub enum BrokerPlace {
    /// In this process: for a single node.
    #[default]
    Memory,
    /// A Redis, and the URL that was given for it.
    Redis(Box<RedisTarget>, String),
    /// The same of NATS.
    Nats(Box<NatsTarget>, String),
}

impl BrokerPlace {
    /// Reads a URL; the word `memory`, or nothing, is for this process.
    ///
    /// # Errors
    /// It names no broker.
    pub fn parse(url: &str) -> Result<Self, String> {
        if matches!(url, "" | "memory") {
            return Ok(Self::Memory);
        }
        if ["nats://", "tls://"].iter().any(|scheme| url.starts_with(scheme)) {
            let target = NatsTarget::parse(url).map_err(|error| error.to_string())?;
            return Ok(Self::Nats(Box::new(target), url.to_owned()));
        }
        let target = RedisTarget::parse(url).map_err(|error| error.to_string())?;
        Ok(Self::Redis(Box::new(target), url.to_owned()))
    }

    pub(crate) fn url(&self) -> &str {
        match self {
            Self::Memory => "",
            Self::Redis(_, url) | Self::Nats(_, url) => url,
        }
    }
}

/// What happens when the broker cannot be reached at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtStart {
    /// The server starts, is not ready, and waits for it.
    Wait,
    /// The server does not start.
    Exit,
}

impl Default for BrokerOptions {
    fn default() -> Self {
        Self {
            place: BrokerPlace::Memory,
            prefix: "duplex".to_owned(),
            nats: NatsStorage::default(),
            at_start: AtStart::Wait,
        }
    }
}

/// How many may connect.
#[derive(Debug, Clone, Copy)]
pub struct Connections {
    /// To this node at once. Default 100,000, but never more than the process has file descriptors for.
    pub node: usize,
    /// From one address at once; of IPv6 the first 64 bits count. Default 1,000.
    pub per_address: usize,
    /// From one address, per second and at once. Default 100 and 1,000.
    pub per_address_rate: Rate,
    /// Clients that may be let in, per second and at once. The last quarter is for those who come back. Default 5,000
    /// and 20,000.
    pub clients: Rate,
}

/// Which tokens and keys are believed.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Auth {
    pub hmac_secret: Option<Secret>,
    /// Files with public keys in PEM.
    pub public_keys: Vec<PathBuf>,
    pub jwks: Vec<Issuer>,
    pub issuer: Option<String>,
    pub audience: Option<String>,
    pub expiry: Expiry,
    pub anonymous: Anonymous,
    pub private_addresses: PrivateAddresses,
    /// `name:key`, for backends.
    pub api_keys: Vec<String>,
    /// How long it is remembered that something was revoked. Default 24 h.
    pub revocation_ttl: Duration,
}

/// What is allowed and kept in the channels of a namespace. What is `None` depends on the mode.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Namespace {
    pub policy: Policy,
    pub subscribe: Option<Who>,
    pub publish: Option<Who>,
    pub presence: Option<Who>,
    pub history: Option<Who>,
    pub attendance: Option<Visibility>,
    pub slow: Slow,
    /// The tag by which `Slow::Latest` tells publications apart.
    pub key: Option<String>,
    /// A regular expression for the whole name of a channel.
    pub pattern: Option<String>,
    /// A file with a JSON Schema for payloads.
    pub schema: Option<PathBuf>,
}

/// What happens to a subscriber that reads more slowly than is published, see [`Overload`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Slow {
    Disconnect,
    DropOldest,
    Latest,
}

/// How long a client may take to finish what it has begun.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// The head of a request, or the next request on an idle connection. Default 10 s.
    pub head: Duration,
    /// The body of a request. Default 10 s.
    pub body: Duration,
    /// A WebSocket message. Default 30 s.
    pub message: Duration,
}

/// How clients are sent away when the server stops.
#[derive(Debug, Clone, Copy)]
pub struct Drain {
    /// How long `/readyz` says no before the listener closes, so that load balancers notice. Default none.
    pub notice: Duration,
    /// Clients sent away per second, and more if the time would not suffice. Default 5,000.
    pub clients_per_second: usize,
    /// Over how long the clients are asked to spread when they come back. Default 5 s.
    pub spread: Duration,
    /// How long all of it may take. Default 30 s.
    pub timeout: Duration,
}

/// What clients of Socket.IO meet.
#[derive(Debug, Clone, Copy)]
pub struct SocketIo {
    /// Whether clients of Socket.IO 2, which speak older protocols, are let in. Default no.
    pub version_2: Version2,
    /// Whether a client that comes back gets what it missed. Default no: it shows in events.
    pub recovery: ConnectionRecovery,
    /// How long it may stay away for that. Default 2 min.
    pub recovery_ttl: Duration,
}

/// How other nodes reach this one.
#[derive(Debug, Clone, Default)]
pub struct Cluster {
    /// Where to listen for them. Default: nowhere.
    pub listen: Option<SocketAddr>,
    /// The address that they are told. Default: where it listens.
    pub advertise: Option<SocketAddr>,
    /// What they know each other by. Required with `listen`.
    pub secret: Option<Secret>,
}

/// Whether a client of Socket.IO that comes back gets what it missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ConnectionRecovery {
    On,
    Off,
}

/// Whether clients of Socket.IO 2 are let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Version2 {
    Allowed,
    Refused,
}

impl Default for SocketIo {
    fn default() -> Self {
        let (version_2, recovery) = (Version2::Refused, ConnectionRecovery::Off);
        Self { version_2, recovery, recovery_ttl: Duration::from_secs(120) }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { head: seconds(10), body: seconds(10), message: seconds(30) }
    }
}

impl Default for Drain {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { notice: Duration::ZERO, clients_per_second: 5_000, spread: seconds(5), timeout: seconds(30) }
    }
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            node: 100_000,
            per_address: 1_000,
            per_address_rate: Rate { per_second: 100, burst: 1_000 },
            clients: Rate { per_second: 5_000, burst: 20_000 },
        }
    }
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            hmac_secret: None,
            public_keys: Vec::new(),
            jwks: Vec::new(),
            issuer: None,
            audience: None,
            expiry: Expiry::Required,
            anonymous: Anonymous::Refused,
            private_addresses: PrivateAddresses::default(),
            api_keys: Vec::new(),
            revocation_ttl: Duration::from_secs(24 * 3_600),
        }
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            subscribe: None,
            publish: None,
            presence: None,
            history: None,
            attendance: None,
            slow: Slow::Disconnect,
            key: None,
            pattern: None,
            schema: None,
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            mode: Mode::Dev,
            listen: SocketAddr::from(([127, 0, 0, 1], 8000)),
            tls: Tls::default(),
            shards: cores.min(duplex_core::ShardSet::MAX),
            allowed_origins: Vec::new(),
            trusted_proxies: vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])],
            connections: Connections::default(),
            websocket: Limits::default(),
            first_message_bytes: 16 << 10,
            retained_bytes: 64 << 10,
            settings: Settings::default(),
            capacity: Capacity::default(),
            broker: BrokerOptions::default(),
            namespaces: BTreeMap::from([("default".to_owned(), Namespace::default())]),
            auth: Auth::default(),
            inflated_bytes_per_second: 16 << 20,
            sockets: SocketOptions::default(),
            timeouts: Timeouts::default(),
            drain: Drain::default(),
            socketio: SocketIo::default(),
            hubs: vec![Hub::default()],
            cluster: Cluster::default(),
        }
    }
}

impl Options {
    /// What a WebSocket connection may do. One message of the longest kind is always within.
    pub(crate) fn websocket_settings(&self) -> websocket::Settings {
        let longest = u32::try_from(self.websocket.message_bytes).unwrap_or(u32::MAX);
        let per_second = self.inflated_bytes_per_second;
        websocket::Settings {
            limits: self.websocket,
            first_message_bytes: self.first_message_bytes,
            unfinished_max: self.timeouts.message,
            inflated: Rate { per_second, burst: per_second.max(longest) },
        }
    }
}

impl Namespace {
    /// The policy in this mode, without rules.
    pub(crate) fn policy(&self, mode: Mode) -> Policy {
        let (who, attendance) = match mode {
            Mode::Dev => (Who::Anyone, Visibility::Asked),
            Mode::Closed => (Who::Token, Visibility::Hidden),
        };
        Policy {
            allow: Allow {
                subscribe: self.subscribe.unwrap_or(who),
                publish: self.publish.unwrap_or(who),
                presence: self.presence.unwrap_or(who),
                history: self.history.unwrap_or(who),
            },
            attendance: self.attendance.unwrap_or(attendance),
            overload: match self.slow {
                Slow::Disconnect => Overload::Disconnect,
                Slow::DropOldest => Overload::DropOldest,
                Slow::Latest => Overload::Latest { key: self.key.as_deref().map(Into::into) },
            },
            ..self.policy.clone()
        }
    }
}
