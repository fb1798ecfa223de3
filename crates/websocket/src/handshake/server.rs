use super::extension::{self, Deflate};
use super::fields::{Single, elements, is_host, list_contains, token, values};
use super::key;
use crate::Compression;

/// The HTTP version of a request; an upgrade needs 1.1 (RFC 6455, 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// Checks an upgrade request (RFC 6455, 4.2.1). Header names may be in any case.
///
/// # Errors
/// What is wrong with the request and which status says so; judged in this order: method, version, `Host`, body,
/// `Upgrade`, `Connection`, `Sec-WebSocket-Version`, `Sec-WebSocket-Key`.
pub fn check<'a, I>(method: &str, version: HttpVersion, headers: I) -> Result<Offer<'a>, Refusal>
where
    I: Iterator<Item = (&'a str, &'a [u8])> + Clone,
{
    if method != "GET" {
        return Err(Refusal::NotGet);
    }
    if version == HttpVersion::Http10 {
        return Err(Refusal::Http10);
    }
    check_host(Single::of(values(headers.clone(), "host")))?;
    check_no_body(headers.clone())?;
    check_upgrade(headers.clone())?;
    let key = check_key(Single::of(values(headers.clone(), "sec-websocket-key")))?;
    Ok(Offer {
        accept: key::accept(key),
        protocols: values(headers.clone(), "sec-websocket-protocol").collect(),
        deflate: extension::choose(values(headers, "sec-websocket-extensions")),
    })
}

fn check_host(host: Single<'_>) -> Result<(), Refusal> {
    match host {
        Single::Missing => Err(Refusal::HostMissing),
        Single::Repeated => Err(Refusal::HostRepeated),
        Single::One(host) if is_host(host) => Ok(()),
        Single::One(_) => Err(Refusal::HostInvalid),
    }
}

/// After the head comes the protocol, so there must be no body in between.
fn check_no_body<'a>(headers: impl Iterator<Item = (&'a str, &'a [u8])> + Clone) -> Result<(), Refusal> {
    let mut lengths = values(headers.clone(), "content-length");
    let chunked = values(headers, "transfer-encoding").next().is_some();
    match chunked || lengths.any(|length| length != b"0") {
        true => Err(Refusal::BodyPresent),
        false => Ok(()),
    }
}

fn check_upgrade<'a>(headers: impl Iterator<Item = (&'a str, &'a [u8])> + Clone) -> Result<(), Refusal> {
    if !list_contains(values(headers.clone(), "upgrade"), "websocket") {
        return Err(Refusal::UpgradeMissing);
    }
    if !list_contains(values(headers.clone(), "connection"), "upgrade") {
        return Err(Refusal::ConnectionMissing);
    }
    match Single::of(values(headers, "sec-websocket-version")) {
        Single::One(b"13") => Ok(()),
        _ => Err(Refusal::VersionUnsupported),
    }
}

fn check_key(key: Single<'_>) -> Result<&[u8], Refusal> {
    match key {
        Single::Missing => Err(Refusal::KeyMissing),
        Single::Repeated => Err(Refusal::KeyRepeated),
        Single::One(key) if key::is_valid(key) => Ok(key),
        Single::One(_) => Err(Refusal::KeyInvalid),
    }
}

/// A request that may be upgraded, and what the client would like.
#[derive(Clone, Debug)]
pub struct Offer<'a> {
    accept: String,
    protocols: Vec<&'a [u8]>,
    deflate: Option<Deflate>,
}

impl Offer<'_> {
    /// The subprotocols in the client's order of preference (RFC 6455, 1.9). What is not a token is left out.
    pub fn protocols(&self) -> impl Iterator<Item = &str> {
        self.protocols.iter().flat_map(|value| elements(value)).filter_map(token)
    }

    /// Accepts with `protocol`, which is left out unless the client offered it, and with compression if the client
    /// offered it and `willing` allows it (RFC 6455, 4.2.2).
    pub fn accept(self, protocol: Option<&str>, willing: Compression) -> Accept {
        let protocol = protocol.filter(|wanted| self.protocols().any(|offered| offered == *wanted));
        Accept {
            protocol: protocol.map(str::to_owned),
            deflate: self.deflate.filter(|_| willing == Compression::PerMessage),
            extensions: self.deflate.filter(|_| willing == Compression::PerMessage).map(Deflate::answer),
            accept: self.accept,
        }
    }
}

/// What the server agrees to.
#[derive(Clone, Debug)]
pub struct Accept {
    accept: String,
    protocol: Option<String>,
    extensions: Option<String>,
    deflate: Option<Deflate>,
}

impl Accept {
    /// The headers of the 101 response (RFC 6455, 4.2.2).
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let always =
            [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", &*self.accept)];
        let protocol = self.protocol.as_deref().map(|value| ("Sec-WebSocket-Protocol", value));
        let extensions = self.extensions.as_deref().map(|value| ("Sec-WebSocket-Extensions", value));
        always.into_iter().chain(protocol).chain(extensions)
    }

    /// The subprotocol agreed on.
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// What the [`Decoder`](crate::Decoder) must be told.
    pub fn compression(&self) -> Compression {
        match self.deflate {
            Some(_) => Compression::PerMessage,
            None => Compression::Off,
        }
    }

    /// Whether this client can take the compressed frames that everyone shares. No without compression, and no if it
    /// asked for a window below 15 bits (RFC 7692, 7.1.2.1): then it gets plain frames, which are always legal.
    pub fn shared_frames(&self) -> bool {
        self.deflate.is_some_and(Deflate::fits_window)
    }

    /// The whole head of the 101 response, for use without an HTTP server.
    pub fn response(&self) -> Vec<u8> {
        let mut response = String::from("HTTP/1.1 101 Switching Protocols\r\n");
        for (name, value) in self.headers() {
            response.extend([name, ": ", value, "\r\n"]);
        }
        response.push_str("\r\n");
        response.into_bytes()
    }
}

/// Why a request is not upgraded. The text tells the client what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// RFC 6455, 4.2.1, 1.
    #[error("use the GET method to open a WebSocket")]
    NotGet,
    /// RFC 6455, 4.2.1, 1.
    #[error("use HTTP/1.1 to open a WebSocket")]
    Http10,
    /// RFC 6455, 4.2.1, 2.
    #[error("send a Host header")]
    HostMissing,
    /// RFC 9112, 3.2.
    #[error("send only one Host header")]
    HostRepeated,
    /// RFC 9112, 3.2.
    #[error("send a valid Host header")]
    HostInvalid,
    /// The request announces a body, which would be mistaken for frames.
    #[error("send no body with a WebSocket request")]
    BodyPresent,
    /// RFC 6455, 4.2.1, 3.
    #[error("send the header `Upgrade: websocket`; proxies in between must pass it on")]
    UpgradeMissing,
    /// RFC 6455, 4.2.1, 4.
    #[error("send the header `Connection: Upgrade`; proxies in between must pass it on")]
    ConnectionMissing,
    /// RFC 6455, 4.4.
    #[error("send the header `Sec-WebSocket-Version: 13` once")]
    VersionUnsupported,
    /// RFC 6455, 4.2.1, 5.
    #[error("send a Sec-WebSocket-Key header")]
    KeyMissing,
    /// RFC 6455, 11.3.1.
    #[error("send only one Sec-WebSocket-Key header")]
    KeyRepeated,
    /// RFC 6455, 4.2.1, 5.
    #[error("send 16 random bytes in base64 as Sec-WebSocket-Key")]
    KeyInvalid,
}

impl Refusal {
    /// The status to answer with: 426 if what is missing is the upgrade itself or version 13, 400 for all else.
    pub fn status(&self) -> u16 {
        match self {
            Self::UpgradeMissing | Self::ConnectionMissing | Self::VersionUnsupported => 426,
            _ => 400,
        }
    }

    /// The headers the answer needs (RFC 6455, 4.4; RFC 9110, 15.5.22).
    pub fn headers(&self) -> &'static [(&'static str, &'static str)] {
        match self.status() {
            426 => &[("Sec-WebSocket-Version", "13"), ("Upgrade", "websocket"), ("Connection", "Upgrade")],
            _ => &[],
        }
    }
}
