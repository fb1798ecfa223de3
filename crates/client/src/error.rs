use std::fmt;
use std::time::Duration;

use duplex_core::NameError;

use crate::AddressError;

/// How a connection ended, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// A close code (`docs/errors.md`), the HTTP status that a request was refused with, 1006 if the connection broke or
    /// 1000 if the client closed it.
    pub code: u16,
    /// A sentence for people.
    pub reason: String,
    /// What the server says about coming back; `None` if it says nothing beside the code.
    pub reconnect: Option<bool>,
    /// After how long the server wants the client back.
    pub after: Option<Duration>,
}

impl End {
    /// The code of a connection that broke.
    pub const BROKEN: u16 = 1006;
    /// The code of a client that was closed.
    pub const CLOSED: u16 = 1000;

    pub(crate) fn new(code: u16, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into(), reconnect: None, after: None }
    }

    pub(crate) fn broken(reason: impl Into<String>) -> Self {
        Self::new(Self::BROKEN, reason)
    }

    pub(crate) fn closed() -> Self {
        Self::new(Self::CLOSED, "the client was closed")
    }

    /// Whether coming back in the same way would lead to the same end (`docs/protocol.md`, errors and closing).
    pub fn is_final(&self) -> bool {
        let final_code = matches!(self.code, 401 | 403 | 1000 | 1002 | 1007 | 1009 | 3500..);
        self.reconnect.map_or(final_code, |reconnect| !reconnect)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (code {})", self.reason, self.code)
    }
}

/// The server did not carry something out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} (code {code})")]
pub struct Refusal {
    /// An error code of `docs/errors.md`.
    pub code: u16,
    /// A sentence that says what to do.
    pub message: String,
}

/// Why a client cannot be made or does not connect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The address is none.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// None of the transports can be used: the list is empty, or names only Server-Sent Events for MessagePack.
    #[error("none of the transports can be used; allow one more")]
    NoTransport,
    /// The URL asks for TLS, and this system trusts no certificate authority.
    #[error(
        "the URL asks for TLS, but this system trusts no certificate authority; install `ca-certificates`"
    )]
    NobodyTrusted,
    /// The server does not want this client.
    #[error("the server refuses: {0}")]
    Refused(End),
    /// There was no connection in time. Only [`Client::connect`](crate::Client::connect) gives up.
    #[error("no connection within {within:?}: {last}")]
    Timeout {
        /// [`Times::connect`](crate::Times::connect).
        within: Duration,
        /// What the last try ended with.
        last: End,
    },
}

/// Why a command has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// A name is not one; nothing was sent.
    #[error("{field}: {problem}")]
    Name {
        /// Which of them.
        field: &'static str,
        /// What is wrong with it.
        problem: NameError,
    },
    /// The server did not carry it out.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The connection was lost before the answer came: it may have been carried out or not.
    #[error(
        "the connection was lost before the answer came ({0}); whether this was carried out is not known"
    )]
    Unknown(End),
    /// There was no connection in time; nothing was sent.
    #[error("there was no connection within {within:?}; the command was not sent")]
    Timeout {
        /// [`Times::command`](crate::Times::command).
        within: Duration,
    },
    /// The server takes no message of this length; nothing was sent.
    #[error("the command has {bytes} bytes; the server takes {bytes_max} at most")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The longest message that the server takes.
        bytes_max: usize,
    },
    /// The client is closed; nothing was sent.
    #[error("the client is closed: {0}")]
    Closed(End),
    /// The answer is not as `docs/protocol.md` says. The command was carried out.
    #[error("the server's answer cannot be read: {0}")]
    Unreadable(String),
}

/// Why there is no subscription. Refusals of the server come as events of the subscription.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// The channel's name is none.
    #[error("channel: {0}")]
    Channel(NameError),
    /// This client has a subscription to the channel already.
    #[error("this client has a subscription to the channel already; use that one, or another client")]
    Taken,
    /// The client is closed.
    #[error("the client is closed")]
    Closed,
}
