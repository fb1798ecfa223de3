use duplex_core::Rate;

/// What the engine allows and how long it waits. Every limit is finite.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Bytes that may wait for one client before it counts as slow. Default 1 MiB.
    pub outbox_bytes: usize,
    /// Channels one client may be subscribed to. Default 128.
    pub subscriptions: usize,
    /// Messages one client may send. Default 1,000 per second, 1,000 at once.
    pub messages: Rate,
    /// Publications that may wait for one shard, bytes. Beyond it its subscribers are told to reconnect. Default 64 MiB.
    pub inbox_bytes: usize,
    /// Silence after which a client is pinged, ms. Default 25,000: NATs and proxies forget idle connections after 30 s.
    pub heartbeat_ms: u32,
    /// How long a pinged client may stay silent, ms. Default 10,000.
    pub pong_ms: u32,
    /// How long a connection may take to say `connect`, ms. Default 10,000.
    pub connect_ms: u32,
    /// How long a closed connection may take to take its leave, ms. Default 5,000.
    pub close_ms: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            outbox_bytes: 1 << 20,
            subscriptions: 128,
            messages: Rate { per_second: 1_000, burst: 1_000 },
            inbox_bytes: 64 << 20,
            heartbeat_ms: 25_000,
            pong_ms: 10_000,
            connect_ms: 10_000,
            close_ms: 5_000,
        }
    }
}
