use duplex_core::Rate;

/// What the engine allows and how long it waits. Every limit is finite.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Bytes that may wait for one client before it counts as slow. Default 1 MiB.
    pub outbox_bytes: usize,
    /// Bytes that may wait for all clients of the node together. Beyond it, those with most waiting are disconnected, until
    /// half of it is left. Default 512 MiB.
    pub outboxes_bytes: usize,
    /// Channels one client may be subscribed to. Default 128.
    pub subscriptions: usize,
    /// Connections one user may have. Default 100.
    pub connections_per_user: usize,
    /// Commands of one client that may be under way at once. Default 64.
    pub in_flight: usize,
    /// Messages one client may send. Default 1,000 per second, 1,000 at once.
    pub messages: Rate,
    /// Publications that may wait for one shard, bytes. Beyond it its subscribers are told to reconnect. Default 64 MiB.
    pub inbox_bytes: usize,
    /// Silence after which a client is pinged, ms. Default 25,000: NATs and proxies forget idle connections after 30 s.
    pub heartbeat_ms: u32,
    /// How long a pinged client may stay silent, ms. Default 10,000.
    pub pong_ms: u32,
    /// How long the transport of a client may take nothing of what waits for it, ms. Default 7,000.
    pub stall_ms: u32,
    /// How long a session may be without a transport, ms. Default 30,000.
    pub linger_ms: u32,
    /// How long a connection may take to say `connect`, ms. Default 10,000.
    pub connect_ms: u32,
    /// How long a closed connection may take to take its leave, ms. Default 5,000.
    pub close_ms: u32,
    /// How long a client whose token has expired may take to show a new one, ms. Default 25,000.
    pub expiry_grace_ms: u32,
    /// How long the backend may take to answer a call, ms. Default 5,000.
    pub call_ms: u32,
    /// How often each channel's subscribers are checked against the channel's position, ms. Default 25,000.
    pub position_check_ms: u32,
    /// Members listed in an answer about presence. Default 1,000.
    pub members_listed: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            outbox_bytes: 1 << 20,
            outboxes_bytes: 512 << 20,
            subscriptions: 128,
            connections_per_user: 100,
            in_flight: 64,
            messages: Rate { per_second: 1_000, burst: 1_000 },
            inbox_bytes: 64 << 20,
            heartbeat_ms: 25_000,
            pong_ms: 10_000,
            stall_ms: 7_000,
            linger_ms: 30_000,
            connect_ms: 10_000,
            close_ms: 5_000,
            expiry_grace_ms: 25_000,
            call_ms: 5_000,
            position_check_ms: 25_000,
            members_listed: 1_000,
        }
    }
}
