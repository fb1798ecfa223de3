//! A server in this process, and clients that say exactly what a test wants said.
//!
//! Whatever waits here has a deadline: a test fails with what it waited for, it never hangs.

#![allow(dead_code, reason = "each test file uses its own part")]

pub mod frames;
pub mod house;
pub mod http;
pub mod native;
pub mod neighbour;
#[cfg(target_os = "linux")]
pub mod program;
pub mod requests;
pub mod session;
pub mod tokens;
pub mod tunnel;
pub mod wire;

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

use duplex::backend::Backend;
use duplex::{Gauges, Options, Server, Settings, Tls};

/// How long something that must happen may take: far longer than it does, since machines that run tests are busy.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Pause between two looks at something that cannot be waited on.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Options of a server for a test: two shards on a free port, and little time to take one's leave.
pub fn options() -> Options {
    Options {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        shards: 2,
        settings: Settings { close_ms: 1_000, ..Settings::default() },
        ..Options::default()
    }
}

/// The same; each channel keeps so many publications.
pub fn keeping(publications: usize) -> Options {
    let mut options = options();
    for namespace in options.namespaces.values_mut() {
        namespace.policy.retention.publications = publications;
    }
    options
}

/// A server that stops when the test is over. Clients declared after it are dropped before it.
pub struct Running {
    server: Option<Server>,
    pub address: SocketAddr,
    /// Where it accepts connections, which clients may reach through a tunnel.
    accepts: SocketAddr,
}

/// Whether clients are to reach servers by TLS: then whatever a test says goes through it.
const TLS: &str = "DUPLEX_TEST_TLS";

/// Starts a server.
pub fn start(options: Options) -> Running {
    start_with(options, |configured| configured)
}

/// The same; its backend is what `around` makes of the configured one.
pub fn start_with(
    mut options: Options,
    around: impl FnOnce(Arc<dyn Backend>) -> Arc<dyn Backend>,
) -> Running {
    static CERTIFICATE: LazyLock<tunnel::Certificate> = LazyLock::new(|| tunnel::Certificate::new("shared"));
    let is_secure = std::env::var_os(TLS).is_some();
    if is_secure {
        let (certificate, key) = (CERTIFICATE.certificate.clone(), CERTIFICATE.key.clone());
        let listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        options.tls = Tls { listen, certificate: Some(certificate), key: Some(key) };
    }
    let server = Server::start_with(options, around).expect("a server starts on a free port");
    let (mut address, mut accepts) = (server.address(), server.address());
    if is_secure {
        accepts = server.secure_address().expect("it listens there, too");
        address = tunnel::to(accepts, CERTIFICATE.trusted(rustls::DEFAULT_VERSIONS));
    }
    Running { address, accepts, server: Some(server) }
}

impl Running {
    pub fn server(&self) -> &Server {
        self.server.as_ref().expect("it runs until it is stopped")
    }

    pub fn gauges(&self) -> &Gauges {
        self.server().gauges()
    }

    /// From now on these options hold; says what has changed.
    pub fn reload(&self, options: Options) -> Vec<duplex::config::Change> {
        self.server().reload(options).expect("the options are right")
    }

    /// Stops it and returns when it has.
    pub fn stop(mut self) {
        self.server.take().expect("it is stopped once").stop();
    }

    /// What must be the same again when a client has left.
    pub fn levels(&self) -> Levels {
        let gauges = self.gauges();
        Levels {
            sessions: gauges.sessions(),
            subscriptions: gauges.subscriptions(),
            sockets: sockets_held(self.accepts.port()),
        }
    }

    /// Waits until nothing is left of clients that came after `baseline` was taken.
    pub fn settle(&self, baseline: Levels) {
        let what = || format!("back to {baseline:?}, now {:?}", self.levels());
        let gauges = self.gauges();
        // The table of sockets is long: it is looked at when all else is right.
        eventually(what, || {
            gauges.sessions() == baseline.sessions
                && gauges.subscriptions() == baseline.subscriptions
                && sockets_held(self.accepts.port()) == baseline.sockets
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop();
        }
    }
}

/// How much a server holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Levels {
    pub sessions: usize,
    pub subscriptions: usize,
    /// Descriptors of accepted connections.
    pub sockets: usize,
}

impl Levels {
    /// Of a server with nobody but so many clients, each on a connection of its own.
    pub const fn of(sessions: usize, subscriptions: usize) -> Self {
        Self { sessions, subscriptions, sockets: if cfg!(target_os = "linux") { sessions } else { 0 } }
    }
}

/// Looks again and again until `holds`.
pub fn eventually(what: impl Fn() -> String, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {}", what());
        thread::sleep(LOOK_AGAIN);
    }
}

/// Connections of which this machine holds the end at `port` open in some process. Unlike a count of all descriptors it
/// is not disturbed by other tests of the same process. Elsewhere than on Linux it is always 0.
fn sockets_held(port: u16) -> usize {
    const LISTENING: &str = "0A";
    let port = format!(":{port:04X}");
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let held = table.lines().filter(|line| line.contains(&port)).filter(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, local, _, state, _, _, _, _, _, inode, ..] = fields[..] else { return false };
        // Without an inode no process holds it any more.
        local.ends_with(&port) && state != LISTENING && inode != "0"
    });
    held.count()
}
