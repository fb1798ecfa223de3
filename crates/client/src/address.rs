//! Where the server is.

use http::HeaderValue;
use http::uri::Uri;
use tokio_rustls::rustls::pki_types::ServerName;

/// Why a URL is not the address of a server. The text says what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It is not a URL with a host.
    #[error("the URL is not valid; write it as `https://host:port`, with a path if the server has one")]
    Malformed,
    /// Its scheme is another one.
    #[error("the URL has another scheme; use http, https, ws or wss")]
    Scheme,
    /// It has a user or a query, which would go to everybody's logs.
    #[error("the URL has a user or a query; remove it, and give tokens as an option")]
    Surplus,
}

/// A server's address: `ws` and `http` are the same, and so are `wss` and `https`.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    /// Whose certificate the server must have; `None` without TLS.
    pub tls: Option<ServerName<'static>>,
    pub host: Box<str>,
    pub port: u16,
    /// As the `Host` header says it.
    pub authority: HeaderValue,
    /// Without a slash at the end.
    prefix: Box<str>,
}

impl Address {
    pub fn parse(url: &str) -> Result<Self, AddressError> {
        let url: Uri = url.trim().parse().map_err(|_| AddressError::Malformed)?;
        let (Some(scheme), Some(authority)) = (url.scheme_str(), url.authority()) else {
            return Err(AddressError::Malformed);
        };
        if authority.as_str().contains('@') || url.query().is_some() {
            return Err(AddressError::Surplus);
        }
        let secure = match scheme {
            "http" | "ws" => false,
            "https" | "wss" => true,
            _ => return Err(AddressError::Scheme),
        };
        // An IPv6 address stands in brackets in a URL, and without them everywhere else.
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let tls = secure.then(|| ServerName::try_from(host.to_owned())).transpose();
        Ok(Self {
            tls: tls.map_err(|_| AddressError::Malformed)?,
            host: host.into(),
            port: authority.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            authority: HeaderValue::from_str(authority.as_str()).map_err(|_| AddressError::Malformed)?,
            prefix: url.path().trim_end_matches('/').into(),
        })
    }

    /// The request target of a path of the server's.
    pub fn target(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_perhaps_a_path() {
        for (url, expected) in [
            ("http://127.0.0.1:8000", "plain 127.0.0.1 8000 127.0.0.1:8000 /ws"),
            ("ws://localhost/", "plain localhost 80 localhost /ws"),
            ("wss://chat.example/a/b/", "tls chat.example 443 chat.example /a/b/ws"),
            ("https://[::1]:9", "tls ::1 9 [::1]:9 /ws"),
        ] {
            let Address { tls, host, port, authority, .. } = &Address::parse(url).unwrap();
            let tls = if tls.is_some() { "tls" } else { "plain" };
            let target = Address::parse(url).unwrap().target("/ws");
            assert_eq!(format!("{tls} {host} {port} {} {target}", authority.to_str().unwrap()), expected);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        for (url, expected) in [
            ("", AddressError::Malformed),
            ("localhost:8000", AddressError::Malformed),
            ("/ws", AddressError::Malformed),
            ("ftp://host", AddressError::Scheme),
            ("http://a:b@host", AddressError::Surplus),
            ("http://host/?token=x", AddressError::Surplus),
            ("https://ex ample", AddressError::Malformed),
        ] {
            assert_eq!(Address::parse(url).unwrap_err(), expected, "{url}");
        }
    }
}
