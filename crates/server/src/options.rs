use std::net::SocketAddr;

use duplex_broker::Retention;
use duplex_engine::Settings;
use duplex_transport::SocketOptions;
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
    /// How sockets are set up.
    pub sockets: SocketOptions,
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
            sockets: SocketOptions::default(),
        }
    }
}
