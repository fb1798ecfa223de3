use std::net::SocketAddr;
use std::time::Duration;

use duplex_broker::Retention;
use duplex_core::Rate;
use duplex_engine::Settings;
use duplex_transport::{SocketOptions, websocket};
use duplex_websocket::Limits;

use crate::guard::Origin;

/// How a server is set up. The default is dev mode: everything is open, to programs on this machine only.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen: a loopback address, since there is no authentication in dev mode. Default `127.0.0.1:8000`.
    pub listen: SocketAddr,
    /// Threads that serve clients, 1 to 64. Default: one per core.
    pub shards: usize,
    /// Origins of foreign pages that may connect. Pages of this server always may. Default: none.
    pub allowed_origins: Vec<Origin>,
    /// Limits of the WebSocket codec. Messages of the HTTP API have the same limit.
    pub websocket: Limits,
    /// Limits and times of sessions.
    pub settings: Settings,
    /// How much history is kept.
    pub retention: Retention,
    /// Payload bytes per second that a client with compression may send, after inflating. Default 16 MiB.
    pub inflated_bytes_per_second: u32,
    /// How sockets are set up.
    pub sockets: SocketOptions,
    /// How long clients may take to finish what they have begun.
    pub timeouts: Timeouts,
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

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { head: seconds(10), body: seconds(10), message: seconds(30) }
    }
}

impl Default for Options {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8000)),
            shards: cores.min(duplex_core::ShardSet::MAX),
            allowed_origins: Vec::new(),
            websocket: Limits::default(),
            settings: Settings::default(),
            retention: Retention::default(),
            inflated_bytes_per_second: 16 << 20,
            sockets: SocketOptions::default(),
            timeouts: Timeouts::default(),
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
            unfinished_max: self.timeouts.message,
            inflated: Rate { per_second, burst: per_second.max(longest) },
        }
    }
}
