//! What a request asks for, and how it is refused. The order in which things are checked is that of the official server.

use std::borrow::Cow;

use super::Version;

/// What carries packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Transport {
    Polling,
    WebSocket,
}

/// A request for a session, or of one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Wanted {
    pub version: Version,
    pub transport: Transport,
    /// The session it belongs to; `None` asks for one.
    pub sid: Option<String>,
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Refused {
    UnknownTransport,
    UnknownSession,
    /// A session begins with GET.
    Method,
    BadRequest,
    /// Somebody does not want it; the text says why.
    Forbidden(String),
    UnsupportedVersion,
}

impl Wanted {
    /// Reads the query of a request, whose decoded parameters `parameter` gives.
    ///
    /// # Errors
    /// What is wrong with it, whatever the session.
    pub fn parse(parameter: impl Fn(&str) -> Option<String>) -> Result<Self, Refused> {
        let transport = match parameter("transport").as_deref() {
            Some("polling") => Transport::Polling,
            Some("websocket") => Transport::WebSocket,
            _ => return Err(Refused::UnknownTransport),
        };
        let version = if parameter("EIO").as_deref() == Some("4") { Version::V4 } else { Version::V3 };
        // JSONP: the answer would be a script that any page may load.
        if parameter("j").is_some() {
            return Err(Refused::BadRequest);
        }
        Ok(Self { version, transport, sid: parameter("sid").filter(|sid| !sid.is_empty()) })
    }
}

impl Refused {
    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Self::Forbidden(_) => 403,
            _ => 400,
        }
    }

    fn code(&self) -> u8 {
        match self {
            Self::UnknownTransport => 0,
            Self::UnknownSession => 1,
            Self::Method => 2,
            Self::BadRequest => 3,
            Self::Forbidden(_) => 4,
            Self::UnsupportedVersion => 5,
        }
    }

    /// In words: the body of a refused WebSocket.
    pub fn message(&self) -> Cow<'_, str> {
        Cow::Borrowed(match self {
            Self::UnknownTransport => "Transport unknown",
            Self::UnknownSession => "Session ID unknown",
            Self::Method => "Bad handshake method",
            Self::BadRequest => "Bad request",
            Self::Forbidden(message) => message,
            Self::UnsupportedVersion => "Unsupported protocol version",
        })
    }

    /// The body of a refused request.
    pub fn json(&self) -> String {
        let message = serde_json::to_string(&self.message()).expect("a string always serializes");
        format!(r#"{{"code":{},"message":{message}}}"#, self.code())
    }
}
