//! Who may open a connection: a browser sends along which page it acts for, and a page of another site must not act for
//! the person in front of it.

use std::str::FromStr;

use http::{HeaderMap, HeaderValue, StatusCode, header};

/// Why a text is not an origin.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an origin; write it like https://app.example or http://localhost:3000")]
pub struct OriginError(String);

/// The origin of a page: scheme, host and port (RFC 6454), written as `https://app.example:8443`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    host: String,
    port: Option<u16>,
}

impl FromStr for Origin {
    type Err = OriginError;

    /// Case does not matter, and neither does naming the scheme's own port.
    fn from_str(text: &str) -> Result<Self, OriginError> {
        let parse = || {
            let (scheme, authority) = text.split_once("://")?;
            let scheme = scheme.to_ascii_lowercase();
            let (host, port) = host_and_port(authority)?;
            let port = port.or_else(|| default_port(&scheme));
            let plain = scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
            (plain && !scheme.is_empty()).then_some(Self { scheme, host, port })
        };
        parse().ok_or_else(|| OriginError(text.to_owned()))
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { scheme, host, port } = self;
        match port {
            Some(port) if default_port(scheme) != Some(*port) => write!(f, "{scheme}://{host}:{port}"),
            _ => write!(f, "{scheme}://{host}"),
        }
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

/// Splits `host`, `host:port` or `[v6]:port`; the host in lower case.
fn host_and_port(authority: &str) -> Option<(String, Option<u16>)> {
    let end = if authority.starts_with('[') {
        authority.find(']')? + 1
    } else {
        authority.find(':').unwrap_or(authority.len())
    };
    let (host, rest) = authority.split_at(end);
    let port = match rest {
        "" => None,
        _ => Some(rest.strip_prefix(':')?.parse().ok()?),
    };
    let plain = !host.is_empty()
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte));
    plain.then(|| (host.to_ascii_lowercase(), port))
}

/// Which requests are let in.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    allowed: Vec<Origin>,
    hosts: Hosts,
}

/// Which names this server may be called by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Hosts {
    /// Only loopback names. Any other name that leads here is a rebound one: the page behind it is of another site,
    /// though its origin and our host are the same text.
    Loopback,
    /// Any: nothing is open here to whoever merely reaches it.
    Any,
}

/// Why a request is not let in.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Stranger {
    #[error("send one Host header that names this server")]
    NoHost,
    #[error("this server answers to localhost, 127.0.0.1 and [::1] only; address it by one of them")]
    Host,
    #[error(
        "pages of this origin may not connect; start the server with --allow-origin and the page's origin"
    )]
    Origin,
}

impl Stranger {
    /// RFC 9112, 3.2: without a host a request is malformed; the others are understood and refused.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NoHost => StatusCode::BAD_REQUEST,
            Self::Host | Self::Origin => StatusCode::FORBIDDEN,
        }
    }
}

/// For whom a request acts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Visitor {
    /// A program, or a page of this server.
    Own,
    /// An allowed page of another origin: answers must say that it may read them (CORS).
    Guest(HeaderValue),
}

impl Guard {
    pub fn new(allowed: Vec<Origin>, hosts: Hosts) -> Self {
        Self { allowed, hosts }
    }

    /// Checks `Host` and `Origin`.
    pub fn admit(&self, headers: &HeaderMap) -> Result<Visitor, Stranger> {
        let host = single(headers, header::HOST).flatten().and_then(host_and_port).ok_or(Stranger::NoHost)?;
        if self.hosts == Hosts::Loopback && !is_loopback(&host.0) {
            return Err(Stranger::Host);
        }
        let Some(origin) = single(headers, header::ORIGIN) else { return Ok(Visitor::Own) };
        let origin: Origin = origin.and_then(|origin| origin.parse().ok()).ok_or(Stranger::Origin)?;
        if origin.is_at(&host) {
            return Ok(Visitor::Own);
        }
        let value = headers.get(header::ORIGIN).filter(|_| self.allowed.contains(&origin));
        value.cloned().map(Visitor::Guest).ok_or(Stranger::Origin)
    }
}

impl Origin {
    /// Whether a page of this origin was loaded from `host`, whatever terminates TLS in front of us.
    fn is_at(&self, (host, port): &(String, Option<u16>)) -> bool {
        self.host == *host && self.port == port.or_else(|| default_port(&self.scheme))
    }
}

/// The value of a header: `None` if it is not there, `Some(None)` if it is there twice or not text.
fn single(headers: &HeaderMap, name: header::HeaderName) -> Option<Option<&str>> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    Some(if values.next().is_none() { first.to_str().ok() } else { None })
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host == "[::1]"
        || host.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(host: &[&str], origin: &[&str]) -> &'static str {
        let allowed =
            ["https://ok.example", "http://other.example:3000"].map(|origin| origin.parse().unwrap());
        let mut headers = HeaderMap::new();
        for (name, values) in [(header::HOST, host), (header::ORIGIN, origin)] {
            for value in values {
                headers.append(&name, value.parse().unwrap());
            }
        }
        match Guard::new(allowed.to_vec(), Hosts::Loopback).admit(&headers) {
            Ok(Visitor::Own) => "own",
            Ok(Visitor::Guest(_)) => "guest",
            Err(Stranger::NoHost) => "no host",
            Err(Stranger::Host) => "host",
            Err(Stranger::Origin) => "origin",
        }
    }

    #[test]
    fn a_foreign_page_is_not_let_in_however_it_is_spelled() {
        let here = ["localhost:8000"];
        for (origin, admitted) in [
            ("http://localhost:8000", "own"),
            ("HTTP://LOCALHOST:8000", "own"),
            ("http://localhost", "origin"),
            ("http://localhost:8001", "origin"),
            ("http://localhost:8000.evil.example", "origin"),
            ("https://ok.example", "guest"),
            ("https://OK.example:443", "guest"),
            ("http://ok.example", "origin"),
            ("https://ok.example.evil", "origin"),
            ("https://ok.example:444", "origin"),
            ("https://evil.example/https://ok.example", "origin"),
            ("https://ok.example@evil.example", "origin"),
            ("http://other.example:3000", "guest"),
            ("null", "origin"),
            ("", "origin"),
            ("file://", "origin"),
        ] {
            assert_eq!(admit(&here, &[origin]), admitted, "{origin:?}");
        }
        assert_eq!(admit(&here, &[]), "own", "a program");
        assert_eq!(admit(&here, &["http://localhost:8000", "https://evil.example"]), "origin");
    }

    #[test]
    fn a_name_that_is_not_ours_is_not_answered() {
        for (host, admitted) in [
            (&["127.0.0.1:8000"][..], "own"),
            (&["127.1.2.3"], "own"),
            (&["[::1]:8000"], "own"),
            (&["LocalHost"], "own"),
            (&["rebound.example:8000"], "host"),
            (&["127.0.0.1.evil.example"], "host"),
            (&[], "no host"),
            (&[""], "no host"),
            (&["a b"], "no host"),
            (&["localhost:99999"], "no host"),
            (&["localhost", "localhost"], "no host"),
        ] {
            assert_eq!(admit(host, &[]), admitted, "{host:?}");
        }
        assert_eq!(admit(&["rebound.example:8000"], &["http://rebound.example:8000"]), "host");
    }
}
