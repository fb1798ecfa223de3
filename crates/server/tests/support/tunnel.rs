//! TLS for clients that speak none: whatever goes through it reaches the server as `https` and `wss`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use socket2::SockRef;
use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;

/// What the kernel may hold of what a client has not read. With less than a segment of the loopback (64 KiB) it would stall.
const BUFFER_BYTES: usize = 128 << 10;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("an event loop"));

/// A certificate for `localhost` and its key, in files of their own.
pub struct Certificate {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Certificate {
    /// A new one, in a folder for this `name`.
    pub fn new(name: &str) -> Self {
        let folder =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("tls-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for tests");
        let own = Self { certificate: folder.join("certificate.pem"), key: folder.join("key.pem") };
        own.renew();
        own
    }

    /// Writes another one into the same files.
    pub fn renew(&self) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("a certificate");
        std::fs::write(&self.certificate, certificate.pem()).expect("a file");
        std::fs::write(&self.key, key.serialize_pem()).expect("a file");
    }

    /// What a client goes by that believes in this certificate alone.
    pub fn trusted(&self, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_file(&self.certificate).expect("it was written");
        roots.add(certificate).expect("a root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions);
        let mut config =
            builder.expect("the provider has them").with_root_certificates(roots).with_no_client_auth();
        // Whoever comes again would not look at the certificate again.
        config.resumption = rustls::client::Resumption::disabled();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(config)
    }
}

/// Where clients without TLS reach the server that speaks TLS at `server`.
pub fn to(server: SocketAddr, config: Arc<ClientConfig>) -> SocketAddr {
    let listener = RUNTIME.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    RUNTIME.spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(pass(client, server, Arc::clone(&config)));
        }
    });
    address
}

async fn pass(mut client: TcpStream, server: SocketAddr, config: Arc<ClientConfig>) {
    let Ok(stream) = TcpStream::connect(server).await else { return };
    for socket in [&client, &stream] {
        socket.set_nodelay(true).expect("a fresh socket takes options");
        // Who reads slowly is felt at the other end.
        SockRef::from(socket).set_send_buffer_size(BUFFER_BYTES).expect("a fresh socket takes options");
        SockRef::from(socket).set_recv_buffer_size(BUFFER_BYTES).expect("a fresh socket takes options");
    }
    let name = ServerName::try_from("localhost").expect("a name");
    let Ok(mut stream) = TlsConnector::from(config).connect(name, stream).await else { return };
    if copy_bidirectional(&mut client, &mut stream).await.is_err() {
        // Whoever breaks off, breaks off at both ends.
        let _ = client.set_zero_linger();
        let _ = stream.get_ref().0.set_zero_linger();
    }
    let _ = stream.shutdown().await;
}
