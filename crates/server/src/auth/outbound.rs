//! Requests that the server sends: to addresses it may reach, over TLS, with a limit on everything.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, HeaderValue};
use http::uri::{PathAndQuery, Scheme, Uri};
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use tracing::warn;

use super::address::is_public;

/// Longest head of an answer, bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most headers of an answer.
const HEADERS_MAX: usize = 64;
/// A name may stand for several addresses; no single one may use up more than this part of the time.
const ATTEMPTS: u32 = 3;

/// Whether requests may go to this machine and to private networks, and then also without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub enum PrivateAddresses {
    Allowed,
    #[default]
    Refused,
}

/// Sends requests. Each has a connection of its own, so any runtime may send.
pub struct Outbound {
    private: PrivateAddresses,
    /// `None` if nobody is trusted to say who a server is.
    tls: Option<TlsConnector>,
}

/// Where requests may be sent: made by [`Outbound::endpoint`] only.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Whose certificate the server must have; `None` without TLS.
    tls: Option<ServerName<'static>>,
    host: Box<str>,
    port: u16,
    authority: HeaderValue,
    path: PathAndQuery,
}

/// A request to send.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Request {
    pub method: Method,
    pub endpoint: Endpoint,
    /// Beside `Host`, `Connection` and `Content-Length`, which are added.
    pub headers: HeaderMap,
    pub body: Bytes,
    pub limits: Limits,
}

/// What an answer may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Longest body, bytes.
    pub body_bytes_max: usize,
    /// How long it may take altogether, from resolving the name to the last byte.
    pub time_max: Duration,
}

/// What came back. Any status is an answer, a redirect too: none is followed.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Answer {
    pub status: StatusCode,
    pub body: Bytes,
}

/// Why requests cannot be sent to a URL. The text says what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum EndpointError {
    #[error("the URL is not valid; write it as `https://host/path`")]
    Malformed,
    #[error("the URL is not `https`; only if private addresses are allowed may it be `http`")]
    NotSecure,
    #[error("the URL contains a user or password; remove them")]
    HasUser,
    #[error("the URL is `https`, but this system trusts no certificate authority; install `ca-certificates`")]
    NobodyTrusted,
}

/// Why there is no answer. The text completes "cannot send: …".
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum OutboundError {
    #[error("the name is not resolved: {0}")]
    Unresolved(io::Error),
    #[error("the name stands for {address}, which is not on the public internet")]
    PrivateAddress { address: SocketAddr },
    #[error("no connection: {0}")]
    Unreachable(io::Error),
    #[error("TLS: {0}")]
    Tls(io::Error),
    #[error("HTTP: {0}")]
    Http(#[from] hyper::Error),
    #[error("the request is not valid: {0}")]
    Invalid(#[from] http::Error),
    #[error("the body of the answer has more than {max} bytes")]
    BodyTooLong { max: usize },
    #[error("the body of the answer is broken off")]
    BodyBroken,
    #[error("no answer within {time_max:?}")]
    TooSlow { time_max: Duration },
}

impl Outbound {
    /// Trusts the certificate authorities that the operating system trusts.
    pub fn new(private: PrivateAddresses) -> Self {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            warn!(%error, "some certificate authorities of the system are not read");
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        Self::trusting(roots, private)
    }

    fn trusting(roots: RootCertStore, private: PrivateAddresses) -> Self {
        if roots.is_empty() {
            return Self { private, tls: None };
        }
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has cipher suites for each of its versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { private, tls: Some(TlsConnector::from(Arc::new(config))) }
    }

    /// Checks where `url` leads, as far as that can be seen without resolving its name.
    pub fn endpoint(&self, url: &str) -> Result<Endpoint, EndpointError> {
        let url: Uri = url.parse().map_err(|_| EndpointError::Malformed)?;
        let (Some(scheme), Some(authority), Some(path)) =
            (url.scheme(), url.authority(), url.path_and_query())
        else {
            return Err(EndpointError::Malformed);
        };
        if authority.as_str().contains('@') {
            return Err(EndpointError::HasUser);
        }
        // An IPv6 address stands in brackets in a URL, and without them everywhere else.
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let tls = self.tls_name(scheme, host)?;
        Ok(Endpoint {
            host: host.into(),
            port: authority.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 }),
            tls,
            authority: HeaderValue::from_str(authority.as_str()).map_err(|_| EndpointError::Malformed)?,
            path: path.clone(),
        })
    }

    /// Whose certificate to ask for, if the scheme asks for one.
    fn tls_name(&self, scheme: &Scheme, host: &str) -> Result<Option<ServerName<'static>>, EndpointError> {
        if *scheme == Scheme::HTTP && self.private == PrivateAddresses::Allowed {
            return Ok(None);
        }
        if *scheme != Scheme::HTTPS {
            return Err(EndpointError::NotSecure);
        }
        if self.tls.is_none() {
            return Err(EndpointError::NobodyTrusted);
        }
        ServerName::try_from(host.to_owned()).map(Some).map_err(|_| EndpointError::Malformed)
    }

    /// Sends a request on a new connection. It must be polled in a tokio runtime with I/O and time.
    pub async fn send(&self, request: Request) -> Result<Answer, OutboundError> {
        let time_max = request.limits.time_max;
        let answer = timeout(time_max, self.exchange(request)).await;
        answer.unwrap_or(Err(OutboundError::TooSlow { time_max }))
    }

    async fn exchange(&self, request: Request) -> Result<Answer, OutboundError> {
        let stream = self.connect(&request).await?;
        match (&request.endpoint.tls, &self.tls) {
            (Some(name), Some(connector)) => {
                let stream = connector.connect(name.clone(), stream).await.map_err(OutboundError::Tls)?;
                converse(stream, request).await
            }
            _ => converse(stream, request).await,
        }
    }

    /// Connects to exactly the addresses that were checked: a second look-up could give others (DNS rebinding).
    async fn connect(&self, request: &Request) -> Result<TcpStream, OutboundError> {
        let attempt_max = request.limits.time_max / ATTEMPTS;
        let mut failure = io::Error::from(io::ErrorKind::NotFound);
        for address in self.addresses(&request.endpoint).await? {
            match timeout(attempt_max, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => failure = error,
                Err(_) => failure = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(OutboundError::Unreachable(failure))
    }

    /// All addresses of the endpoint's name. One that is not allowed spoils them all: it was put there by somebody.
    async fn addresses(&self, endpoint: &Endpoint) -> Result<Vec<SocketAddr>, OutboundError> {
        let found = lookup_host((&*endpoint.host, endpoint.port)).await.map_err(OutboundError::Unresolved)?;
        let found: Vec<_> = found.collect();
        match found.iter().find(|address| !is_public(address.ip())) {
            Some(address) if self.private == PrivateAddresses::Refused => {
                Err(OutboundError::PrivateAddress { address: *address })
            }
            _ => Ok(found),
        }
    }
}

async fn converse<S>(stream: S, request: Request) -> Result<Answer, OutboundError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .handshake(TokioIo::new(stream))
        .await?;
    let body_bytes_max = request.limits.body_bytes_max;
    let request = on_the_wire(request)?;
    let answer = async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, body_bytes_max).collect().await;
        let body = body.map_err(|error| body_error(&*error, body_bytes_max))?;
        Ok(Answer { status: head.status, body: body.to_bytes() })
    };
    let driven = async {
        // What goes wrong with the connection, the answer says as well.
        let _ = connection.await;
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        answer = answer => answer,
        never = driven => match never {},
    }
}

fn on_the_wire(request: Request) -> Result<http::Request<Full<Bytes>>, OutboundError> {
    let Request { method, endpoint, headers, body, .. } = request;
    let mut wire =
        http::Request::builder().method(method).uri(Uri::from(endpoint.path)).body(Full::new(body))?;
    *wire.headers_mut() = headers;
    wire.headers_mut().insert(HOST, endpoint.authority);
    wire.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(wire)
}

fn body_error(error: &(dyn std::error::Error + 'static), max: usize) -> OutboundError {
    if error.is::<http_body_util::LengthLimitError>() {
        OutboundError::BodyTooLong { max }
    } else {
        OutboundError::BodyBroken
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::ServerConfig;
    use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

    use super::*;
    use crate::auth::tests::keys::{AUTHORITY_DER, LOCALHOST_DER, LOCALHOST_KEY_DER};

    fn der(base64: &str) -> Vec<u8> {
        STANDARD.decode(base64).unwrap()
    }

    fn trusting_the_test_authority(private: PrivateAddresses) -> Outbound {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(der(AUTHORITY_DER))).unwrap();
        Outbound::trusting(roots, private)
    }

    fn get(endpoint: Endpoint) -> Request {
        Request {
            method: Method::GET,
            endpoint,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            limits: Limits { body_bytes_max: 100, time_max: Duration::from_secs(5) },
        }
    }

    /// Sends a request to a TLS server whose certificate is for `localhost`, and shows what that one got.
    async fn over_tls(
        outbound: &Outbound,
        host: &str,
        answer: &str,
    ) -> (Result<Answer, OutboundError>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der(LOCALHOST_KEY_DER)));
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![CertificateDer::from(der(LOCALHOST_DER))], key)
            .unwrap();
        let serving = async {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = TlsAcceptor::from(Arc::new(config)).accept(stream).await else {
                return String::new();
            };
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n{}") {
                request.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            let _ = stream.shutdown().await;
            String::from_utf8(request).unwrap()
        };
        let endpoint = outbound.endpoint(&format!("https://{host}:{port}/a?b=c#d")).unwrap();
        let headers = HeaderMap::from_iter([(http::header::ACCEPT, HeaderValue::from_static("x/y"))]);
        let request = Request { method: Method::POST, body: Bytes::from("{}"), headers, ..get(endpoint) };
        let send = outbound.send(request);
        tokio::join!(send, serving)
    }

    #[tokio::test]
    async fn a_request_goes_out_as_it_is_and_the_answer_comes_back() {
        let outbound = trusting_the_test_authority(PrivateAddresses::Allowed);
        let (answer, request) =
            over_tls(&outbound, "localhost", "HTTP/1.1 418 X\r\ncontent-length: 2\r\n\r\nok").await;
        let answer = answer.unwrap();
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (418, &b"ok"[..]));
        assert!(request.starts_with("POST /a?b=c HTTP/1.1\r\n"), "{request}");
        for header in
            ["host: localhost:", "accept: x/y\r\n", "connection: close\r\n", "content-length: 2\r\n"]
        {
            assert!(request.contains(header), "{header} {request}");
        }
    }

    #[tokio::test]
    async fn a_server_with_a_certificate_for_another_name_or_of_nobody_is_not_trusted() {
        let trusting = trusting_the_test_authority(PrivateAddresses::Allowed);
        let (answer, request) = over_tls(&trusting, "127.0.0.1", "").await;
        assert!(matches!(answer, Err(OutboundError::Tls(_))) && request.is_empty());
        let mut other = RootCertStore::empty();
        other.add(CertificateDer::from(der(LOCALHOST_DER))).unwrap();
        let other = Outbound::trusting(other, PrivateAddresses::Allowed);
        let (answer, request) = over_tls(&other, "localhost", "").await;
        // The server's own certificate is no authority, so it proves nothing here.
        assert!(matches!(answer, Err(OutboundError::Tls(_))) && request.is_empty());
    }

    #[tokio::test]
    async fn private_addresses_are_refused_unless_they_are_allowed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let outbound = trusting_the_test_authority(PrivateAddresses::Refused);
        for host in [
            "localhost",
            "127.0.0.1",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "10.0.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "[fd00::1]",
            "[64:ff9b::7f00:1]",
        ] {
            let endpoint = outbound.endpoint(&format!("https://{host}:{port}/")).unwrap();
            let answer = outbound.send(get(endpoint)).await;
            assert!(matches!(answer, Err(OutboundError::PrivateAddress { .. })), "{host} {answer:?}");
        }
        let accepted = tokio::select! {
            biased;
            _ = listener.accept() => true,
            () = std::future::ready(()) => false,
        };
        assert!(!accepted, "nobody connected");
    }

    #[test]
    fn only_safe_urls_are_endpoints() {
        let strict = trusting_the_test_authority(PrivateAddresses::Refused);
        let lax = trusting_the_test_authority(PrivateAddresses::Allowed);
        let nobody = Outbound::trusting(RootCertStore::empty(), PrivateAddresses::Allowed);
        for (outbound, url, wanted) in [
            (&strict, "https://example.com", Ok(443)),
            (&strict, "https://example.com:8443/x?y", Ok(8443)),
            (&strict, "HTTPS://EXAMPLE.com/", Ok(443)),
            (&strict, "https://[2606:4700::1]/", Ok(443)),
            (&strict, "http://example.com/", Err(EndpointError::NotSecure)),
            (&strict, "gopher://example.com/", Err(EndpointError::NotSecure)),
            (&strict, "https://a@example.com/", Err(EndpointError::HasUser)),
            (&strict, "https:///x", Err(EndpointError::Malformed)),
            (&strict, "https://exa mple.com/", Err(EndpointError::Malformed)),
            (&strict, "https://-_-.\u{e9}/", Err(EndpointError::Malformed)),
            (&lax, "http://example.com/", Ok(80)),
            (&lax, "file://example.com/", Err(EndpointError::NotSecure)),
            (&nobody, "http://example.com/", Ok(80)),
            (&nobody, "https://example.com/", Err(EndpointError::NobodyTrusted)),
        ] {
            assert_eq!(outbound.endpoint(url).map(|endpoint| endpoint.port), wanted, "{url}");
        }
    }

    #[tokio::test]
    async fn an_answer_has_limits() {
        let outbound = trusting_the_test_authority(PrivateAddresses::Allowed);
        let long = "x".repeat(101);
        for (answer, wanted) in [
            (
                format!("HTTP/1.1 200 X\r\ncontent-length: 101\r\n\r\n{long}"),
                "the body of the answer has more than 100 bytes",
            ),
            (format!("HTTP/1.1 200 X\r\n\r\n{long}"), "the body of the answer has more than 100 bytes"),
            ("HTTP/1.1 200 X\r\ncontent-length: 9\r\n\r\nx".into(), "the body of the answer is broken off"),
            (format!("HTTP/1.1 200 X\r\na: {}\r\n\r\n", "x".repeat(20_000)), "HTTP: "),
            (format!("HTTP/1.1 200 X\r\n{}\r\n", "a: b\r\n".repeat(65)), "HTTP: "),
            ("nonsense\r\n\r\n".into(), "HTTP: "),
            (String::new(), "HTTP: "),
        ] {
            let (found, _) = over_tls(&outbound, "localhost", &answer).await;
            let found = found.unwrap_err().to_string();
            assert!(found.starts_with(wanted), "{found}");
        }
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let outbound = trusting_the_test_authority(PrivateAddresses::Allowed);
        for scheme in ["http", "https"] {
            let url = format!("{scheme}://localhost:{}/", listener.local_addr().unwrap().port());
            let limits = Limits { body_bytes_max: 100, time_max: Duration::from_millis(50) };
            let answer = outbound.send(Request { limits, ..get(outbound.endpoint(&url).unwrap()) }).await;
            assert!(matches!(answer, Err(OutboundError::TooSlow { .. })), "{answer:?}");
        }
    }
}
