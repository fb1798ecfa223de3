use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::SendRequest;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};

use crate::ConnectError;
use crate::address::Address;

use super::AbortOnDrop;

/// Connections that are kept for another request: one for messages up, one for polls.
const IDLE_MAX: usize = 2;

/// A connection to the server, with TLS if its address says so.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Makes connections to the server.
pub(crate) struct Dialer {
    pub(super) address: Address,
    tls: Option<TlsConnector>,
    idle: Mutex<Vec<Kept>>,
}

/// An HTTP connection; dropping it closes it.
pub(super) struct Kept {
    pub sender: SendRequest<Full<Bytes>>,
    pub _driver: AbortOnDrop,
}

impl Dialer {
    /// Trusts the certificate authorities that the operating system trusts.
    pub fn new(address: Address) -> Result<Arc<Self>, ConnectError> {
        let tls = address.tls.is_some().then(connector).transpose()?;
        Ok(Arc::new(Self { address, tls, idle: Mutex::new(Vec::new()) }))
    }

    /// A fresh connection. The caller limits how long this may take.
    pub(super) async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let stream = self.reach().await?;
        // Messages are small, and somebody waits for each.
        stream.set_nodelay(true)?;
        match (&self.address.tls, &self.tls) {
            (Some(name), Some(connector)) => Ok(Box::new(connector.connect(name.clone(), stream).await?)),
            _ => Ok(Box::new(stream)),
        }
    }

    async fn reach(&self) -> io::Result<TcpStream> {
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name stands for no address");
        for address in lookup_host((&*self.address.host, self.address.port)).await? {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    pub(super) fn take_idle(&self) -> Option<Kept> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    pub(super) fn keep(&self, kept: Kept) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX && !kept.sender.is_closed() {
            idle.push(kept);
        }
    }
}

fn connector() -> Result<TlsConnector, ConnectError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(ConnectError::NobodyTrusted);
    }
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has cipher suites for each of its versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
