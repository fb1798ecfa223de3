/// Whether a client whose connection was closed should come back by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Return {
    /// Yes, after a randomised, growing delay.
    Reconnect,
    /// No: the same would happen again.
    Stay,
}

/// Why the server closes a connection: the one list every protocol words in its own way.
///
/// Codes follow RFC 6455, 7.4.1 where one fits, else 3000–3499 for "come back" and 3500–3999 for "do not".
#[derive(Debug, PartialEq, Eq)]
pub struct CloseReason {
    /// WebSocket close code, also used where other protocols have room for a number.
    pub code: u16,
    /// A short sentence for people.
    pub sentence: &'static str,
    /// Whether the client should come back.
    pub then: Return,
}

impl CloseReason {
    /// The client closed; we answer.
    pub const GOING_AWAY: Self = Self::new(1001, "going away", Return::Reconnect);
    /// A frame breaks RFC 6455.
    pub const PROTOCOL_ERROR: Self = Self::new(1002, "protocol error", Return::Stay);
    /// Text that is not UTF-8, or broken compression.
    pub const INVALID_DATA: Self = Self::new(1007, "invalid data", Return::Stay);
    /// Too many control frames or fragments, or a message unfinished for too long.
    pub const POLICY: Self = Self::new(1008, "policy violation", Return::Reconnect);
    /// A message over the limit.
    pub const TOO_BIG: Self = Self::new(1009, "message too big", Return::Stay);
    /// The server shuts down or restarts.
    pub const RESTART: Self = Self::new(1012, "server restart: come back", Return::Reconnect);
    /// The outbox is full.
    pub const SLOW: Self = Self::new(3008, "slow: reads more slowly than it is sent to", Return::Reconnect);
    /// The server could not keep this client's channels complete.
    pub const INSUFFICIENT_STATE: Self =
        Self::new(3010, "insufficient state: reconnect and recover", Return::Reconnect);
    /// Nothing came back after a ping.
    pub const NO_PONG: Self = Self::new(3012, "no pong", Return::Reconnect);
    /// More messages per second than allowed.
    pub const TOO_MANY_MESSAGES: Self = Self::new(3013, "too many messages", Return::Reconnect);
    /// What came is not a command at all.
    pub const BAD_REQUEST: Self = Self::new(3501, "bad request", Return::Stay);
    /// The client did not say `connect` in time.
    pub const STALE: Self = Self::new(3502, "stale: no connect command in time", Return::Stay);

    const fn new(code: u16, sentence: &'static str, then: Return) -> Self {
        Self { code, sentence, then }
    }
}
