//! Which NATS, and how what is published is stored there.

use std::time::Duration;

use async_nats::{ConnectOptions, ServerAddr};

/// How long it may take to connect to one server.
const CONNECT: Duration = Duration::from_secs(3);

/// Where NATS is, from a URL.
#[derive(Clone)]
pub struct NatsTarget {
    servers: Vec<ServerAddr>,
    login: Login,
}

#[derive(Clone)]
enum Login {
    Nobody,
    Token(String),
    User { name: String, password: String },
}

/// Why a URL names no NATS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum NatsTargetError {
    #[error(
        "{0:?} is no address of NATS; write nats://HOST:PORT, or nats://HOST:PORT,HOST:PORT for a cluster, with \
         USER:PASSWORD@ or TOKEN@ before the first host if it needs them, and tls:// if it wants TLS"
    )]
    Malformed(String),
    #[error(
        "{0:?} names user and password in a way that cannot be read; write what is special in them as %XX, as in %40 for @"
    )]
    Login(String),
}

impl NatsTarget {
    /// Reads a URL: `nats://[USER:PASSWORD@|TOKEN@]HOST:PORT,HOST:PORT`, or the same with `tls`.
    ///
    /// # Errors
    /// It names no NATS. The text shows no password.
    pub fn parse(url: &str) -> Result<Self, NatsTargetError> {
        let malformed = || NatsTargetError::Malformed(without_password(url));
        let (scheme, rest) = url.split_once("://").ok_or_else(malformed)?;
        if !["nats", "tls"].contains(&scheme) {
            return Err(malformed());
        }
        let (login, hosts) =
            rest.rsplit_once('@').map_or((None, rest), |(login, hosts)| (Some(login), hosts));
        let server = |address: &str| {
            let (host, port) = address.rsplit_once(':').filter(|(host, _)| is_host(host))?;
            let port: u16 = port.parse().ok().filter(|port| *port > 0)?;
            format!("{scheme}://{host}:{port}").parse().ok()
        };
        let servers: Option<Vec<ServerAddr>> =
            hosts.strip_suffix('/').unwrap_or(hosts).split(',').map(server).collect();
        let login = match login {
            None => Login::Nobody,
            Some(login) => {
                Login::parse(login).ok_or_else(|| NatsTargetError::Login(without_password(url)))?
            }
        };
        Ok(Self { servers: servers.ok_or_else(malformed)?, login })
    }

    pub(super) fn servers(&self) -> &[ServerAddr] {
        &self.servers
    }

    /// One connection, which is not made again by itself: what is asked must not wait for that unseen, and be done later.
    pub(super) fn options(&self) -> ConnectOptions {
        let options = match &self.login {
            Login::Nobody => ConnectOptions::new(),
            Login::Token(token) => ConnectOptions::with_token(token.clone()),
            Login::User { name, password } => {
                ConnectOptions::with_user_and_password(name.clone(), password.clone())
            }
        };
        options
            .name("duplex")
            .connection_timeout(CONNECT)
            .ignore_discovered_servers()
            .max_reconnects(self.servers.len())
            .reconnect_delay_callback(|_| Duration::ZERO)
    }
}

impl Login {
    fn parse(login: &str) -> Option<Self> {
        match login.split_once(':') {
            Some((name, password)) => Some(Self::User { name: decoded(name)?, password: decoded(password)? }),
            None => decoded(login).filter(|token| !token.is_empty()).map(Self::Token),
        }
    }
}

impl std::fmt::Debug for NatsTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("NatsTarget").field(&self.servers).finish()
    }
}

/// A name, an IPv4 address, or an IPv6 address in brackets.
fn is_host(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        }
    }
}

/// Reads `%XX`.
pub(super) fn decoded(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

/// A URL as it may be shown.
fn without_password(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => format!("{}…{}", &url[..scheme + 3], &url[at..]),
        (None, Some(at)) => format!("…{}", &url[at..]),
        _ => url.to_owned(),
    }
}

/// How streams are stored. Of streams that are there already nothing is changed but what they keep too little of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NatsStorage {
    /// On what.
    pub medium: NatsMedium,
    /// On how many servers of the cluster; 1 to 5.
    pub replicas: usize,
}

/// What streams are stored on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NatsMedium {
    /// What was published outlives a server that is started again.
    File,
    /// It does not, unless other servers have it.
    Memory,
}

impl Default for NatsStorage {
    fn default() -> Self {
        Self { medium: NatsMedium::File, replicas: 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_servers_and_nothing_else() {
        for (right, servers) in [
            ("nats://127.0.0.1:4222", 1),
            ("nats://user:secret@nats.internal:4222/", 1),
            ("nats://token@a:4222,b:4222,[::1]:4223", 3),
            ("tls://us%40er:p%3Aw@a:4222", 1),
        ] {
            assert_eq!(NatsTarget::parse(right).unwrap().servers().len(), servers, "{right}");
        }
        for wrong in
            ["", "a:4222", "http://a:1", "nats://a", "nats://a:x", "nats://a:1,", "nats://a b:1", "nats://:1"]
        {
            assert!(NatsTarget::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn errors_show_no_password() {
        for url in
            ["nats://user:secret@a", "nats://user:sec%ret@a:1", "user:secret@a:1", "nats://secret@a:b:c"]
        {
            let error = NatsTarget::parse(url).unwrap_err().to_string();
            assert!(!error.contains("sec") && error.contains("@a"), "{error}");
        }
        let target = NatsTarget::parse("nats://user:secret@a:1").unwrap();
        assert!(!format!("{target:?}").contains("secret"));
    }
}
