use std::fmt;

/// A status code that says why a connection ended (RFC 6455, 7.4, and the IANA registry it set up).
///
/// [`parse`](Self::parse) is the way from a number, and it gives only codes that may appear on the wire; the three
/// constants that may not ([`NO_STATUS`](Self::NO_STATUS), [`ABNORMAL`](Self::ABNORMAL), [`TLS`](Self::TLS)) exist
/// for logs and counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// The purpose of the connection is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// The endpoint goes away: a server shuts down, a page is left.
    pub const GOING_AWAY: Self = Self(1001);
    /// The peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// The endpoint does not take this kind of data.
    pub const UNSUPPORTED: Self = Self(1003);
    /// Never sent: the close frame had no code.
    pub const NO_STATUS: Self = Self(1005);
    /// Never sent: the connection ended without a close frame.
    pub const ABNORMAL: Self = Self(1006);
    /// The data did not fit its type, such as text that is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// The peer broke a rule of ours.
    pub const POLICY: Self = Self(1008);
    /// The message is larger than we accept.
    pub const TOO_BIG: Self = Self(1009);
    /// A client misses an extension the server did not agree to.
    pub const EXTENSION_MISSING: Self = Self(1010);
    /// Something unexpected happened on our side.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// The service restarts; come back after a random delay.
    pub const SERVICE_RESTART: Self = Self(1012);
    /// The service is overloaded; come back later.
    pub const TRY_AGAIN_LATER: Self = Self(1013);
    /// A gateway got an invalid answer from upstream.
    pub const BAD_GATEWAY: Self = Self(1014);
    /// Never sent: the TLS handshake failed.
    pub const TLS: Self = Self(1015);

    /// The code for a number that may appear in a close frame: 1000–1003, 1007–1014 and 3000–4999
    /// (RFC 6455, 7.4.1 and 7.4.2).
    pub const fn parse(code: u16) -> Option<Self> {
        let code = Self(code);
        if code.may_be_sent() { Some(code) } else { None }
    }

    /// Whether the code may appear in a close frame (RFC 6455, 7.4.1).
    pub const fn may_be_sent(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }

    /// The number.
    pub const fn value(self) -> u16 {
        self.0
    }
}

impl From<CloseCode> for u16 {
    fn from(code: CloseCode) -> Self {
        code.0
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
