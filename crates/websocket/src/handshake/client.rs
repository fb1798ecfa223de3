use super::fields::{Single, is_host, list_contains, token, values};
use super::head::{HeadEnd, HeadError, ResponseHead, parse_response};
use super::{HttpVersion, extension, key};
use crate::Compression;

/// What a client asks for (RFC 6455, 4.1).
#[derive(Clone, Copy, Debug)]
pub struct ClientRequest<'a> {
    /// The `Host` header: name and, unless it is the default, port.
    pub host: &'a str,
    /// The request target: path and query.
    pub target: &'a str,
    /// Sixteen unpredictable bytes, new for each connection.
    pub key: [u8; 16],
    /// The subprotocols we speak, best first.
    pub protocols: &'a [&'a str],
    /// Whether to offer `permessage-deflate`.
    pub compression: Compression,
    /// Further headers, such as `Origin` or `Authorization`.
    pub headers: &'a [(&'a str, &'a str)],
}

impl ClientRequest<'_> {
    /// The bytes to send.
    ///
    /// # Errors
    /// A part would not survive as what it is, such as a line break in a header.
    pub fn head(&self) -> Result<Vec<u8>, InvalidRequest> {
        self.check()?;
        let key = key::base64(&self.key);
        let protocols = self.protocols.join(", ");
        let offer = match self.compression {
            Compression::PerMessage => extension::OFFER,
            Compression::Off => "",
        };
        let standard = [
            ("Host", self.host),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", &key),
            ("Sec-WebSocket-Protocol", &protocols),
            ("Sec-WebSocket-Extensions", offer),
        ];
        let mut head = format!("GET {} HTTP/1.1\r\n", self.target);
        let standard = standard.into_iter().filter(|(_, value)| !value.is_empty());
        for (name, value) in standard.chain(self.headers.iter().copied()) {
            head.extend([name, ": ", value, "\r\n"]);
        }
        head.push_str("\r\n");
        Ok(head.into_bytes())
    }

    fn check(&self) -> Result<(), InvalidRequest> {
        if !is_host(self.host.as_bytes()) {
            return Err(InvalidRequest::Host);
        }
        if !self.target.starts_with('/') || !self.target.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(InvalidRequest::Target);
        }
        if !self.protocols.iter().all(|protocol| token(protocol.as_bytes()).is_some()) {
            return Err(InvalidRequest::Protocol);
        }
        let fits = |value: &str| value.bytes().all(|byte| byte == b'\t' || !byte.is_ascii_control());
        if !self.headers.iter().all(|(name, value)| token(name.as_bytes()).is_some() && fits(value)) {
            return Err(InvalidRequest::Header);
        }
        Ok(())
    }
}

/// What of a [`ClientRequest`] cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequest {
    /// The host is empty or has characters a host cannot have.
    #[error("the host is not a host")]
    Host,
    /// The target does not start with a slash, or has white space or characters beyond ASCII.
    #[error("the target is not a path")]
    Target,
    /// A subprotocol is not a token.
    #[error("a subprotocol is not a token")]
    Protocol,
    /// A header's name is not a token or its value has a control character.
    #[error("a header cannot be written")]
    Header,
}

/// A client waiting for the answer to its [`ClientRequest`].
#[derive(Clone, Debug)]
pub struct ClientHandshake {
    accept: String,
    protocols: Vec<String>,
    compression: Compression,
    end: HeadEnd,
}

impl ClientHandshake {
    /// What to expect after `request` was sent.
    pub fn new(request: &ClientRequest<'_>) -> Self {
        Self {
            accept: key::accept(key::base64(&request.key).as_bytes()),
            protocols: request.protocols.iter().map(|protocol| (*protocol).to_owned()).collect(),
            compression: request.compression,
            end: HeadEnd::default(),
        }
    }

    /// Checks the answer (RFC 6455, 4.1). Each call gets all bytes received so far; `None` asks for more. Says how many
    /// bytes the head took: what follows are frames.
    ///
    /// # Errors
    /// The server did not agree, or not to what we asked.
    pub fn read(&mut self, bytes: &[u8]) -> Result<Option<(Agreed, usize)>, Rejected> {
        let Some(length) = self.end.find(bytes)? else { return Ok(None) };
        let head = parse_response(&bytes[..length])?;
        Ok(Some((self.judge(&head)?, length)))
    }

    fn judge(&self, head: &ResponseHead<'_>) -> Result<Agreed, Rejected> {
        if head.status != 101 {
            return Err(Rejected::Status { status: head.status });
        }
        let headers = head.headers.iter().copied();
        let upgrades = head.version == HttpVersion::Http11
            && list_contains(values(headers.clone(), "upgrade"), "websocket")
            && list_contains(values(headers.clone(), "connection"), "upgrade");
        if !upgrades {
            return Err(Rejected::NotUpgraded);
        }
        match Single::of(values(headers.clone(), "sec-websocket-accept")) {
            Single::One(accept) if accept == self.accept.as_bytes() => {}
            _ => return Err(Rejected::WrongAccept),
        }
        let protocol = self.protocol(Single::of(values(headers.clone(), "sec-websocket-protocol")))?;
        let compression = self.compression(Single::of(values(headers, "sec-websocket-extensions")))?;
        Ok(Agreed { protocol, compression })
    }

    fn protocol(&self, answer: Single<'_>) -> Result<Option<String>, Rejected> {
        let chosen = match answer {
            Single::Missing => return Ok(None),
            Single::One(chosen) => self.protocols.iter().find(|ours| ours.as_bytes() == chosen),
            Single::Repeated => None,
        };
        chosen.cloned().map(Some).ok_or(Rejected::UnknownProtocol)
    }

    fn compression(&self, answer: Single<'_>) -> Result<Compression, Rejected> {
        match (answer, self.compression) {
            (Single::Missing, _) => Ok(Compression::Off),
            (Single::One(value), Compression::PerMessage) if extension::is_legal_answer(value) => {
                Ok(Compression::PerMessage)
            }
            _ => Err(Rejected::UnknownExtension),
        }
    }
}

/// What client and server agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The subprotocol the server chose among ours.
    pub protocol: Option<String>,
    /// What the [`Decoder`](crate::Decoder) must be told, and whether compressed frames may be sent.
    pub compression: Compression,
}

/// Why a client gives up on a server's answer (RFC 6455, 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The answer is not an HTTP response.
    #[error("the answer is not readable: {0}")]
    Head(#[from] HeadError),
    /// Anything but 101.
    #[error("the server answered with status {status}")]
    Status {
        /// The status.
        status: u16,
    },
    /// `Upgrade` or `Connection` does not say so.
    #[error("the server did not upgrade the connection")]
    NotUpgraded,
    /// `Sec-WebSocket-Accept` is missing or does not answer our key.
    #[error("the server did not answer our key")]
    WrongAccept,
    /// A subprotocol we did not offer.
    #[error("the server chose a subprotocol we did not offer")]
    UnknownProtocol,
    /// An extension, or parameters of one, we did not offer.
    #[error("the server chose extensions we did not offer")]
    UnknownExtension,
}
