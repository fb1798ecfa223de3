//! The certificate that clients are shown, and how they speak TLS. Files that change are read again, while the server runs;
//! connections that are there keep what they have.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use duplex_transport::Stream;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::options;

/// How long before its end a certificate is warned of.
const EXPIRES_SOON: Duration = Duration::from_secs(14 * 86_400);
/// How often that is said.
const REMIND: Duration = Duration::from_secs(86_400);

/// How clients speak TLS.
pub(crate) struct Tls {
    config: Arc<ServerConfig>,
    certificate: Arc<Certificate>,
}

/// A certificate and its key, as they are in files.
#[derive(Debug)]
struct Certificate {
    files: Files,
    state: Mutex<State>,
}

#[derive(Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

#[derive(Debug)]
struct State {
    current: Arc<CertifiedKey>,
    /// When the files had changed last, as far as was seen.
    changed: [Option<SystemTime>; 2],
    reminded: Option<SystemTime>,
}

impl Tls {
    /// As the options say; `None` if clients do not speak it.
    ///
    /// # Errors
    /// What is wrong, with the path of the option.
    pub fn load(options: &options::Tls) -> Result<Option<Arc<Self>>, String> {
        let options::Tls { listen, certificate, key, .. } = options;
        let (certificate, key) = match (listen, certificate, key) {
            (None, None, None) => return Ok(None),
            (None, ..) => return Err("tls.listen: nobody can connect by TLS; set the address at which to listen, such as 0.0.0.0:8443".into()),
            (Some(_), Some(certificate), Some(key)) => (certificate.clone(), key.clone()),
            (Some(_), None, _) => return Err("tls.certificate: set the file with the certificate, and behind it those that lead to its root, in PEM".into()),
            (Some(_), _, None) => return Err("tls.key: set the file with the private key of tls.certificate, in PEM".into()),
        };
        let certificate = Arc::new(Certificate::read(Files { certificate, key })?);
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.expect("the provider has all that TLS 1.2 and 1.3 need");
        let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(&certificate) as _;
        let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Some(Arc::new(Self { config: Arc::new(config), certificate })))
    }

    /// A connection after its handshake; `None` if that failed, or took longer than `patience`. Those who say nothing hold a
    /// place among connections meanwhile, and nothing that others wait for.
    pub async fn accept(&self, socket: TcpStream, patience: Duration) -> Option<Stream> {
        match timeout(patience, Stream::secure(socket, Arc::clone(&self.config))).await {
            Ok(Ok(stream)) => Some(stream),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a TLS handshake failed");
                None
            }
            Err(_) => None,
        }
    }

    /// Reads the files again.
    ///
    /// # Errors
    /// What is wrong with them; then what was read before stays.
    pub fn reload(&self) -> Result<(), String> {
        self.certificate.reload()
    }

    /// Looks whether the files have changed, and whether the certificate ends soon. Call it about once a second.
    pub fn watch(&self, now: SystemTime) {
        self.certificate.watch(now);
    }
}

impl Certificate {
    fn read(files: Files) -> Result<Self, String> {
        let changed = files.changed();
        let current = Arc::new(files.read()?);
        Ok(Self { files, state: Mutex::new(State { current, changed, reminded: None }) })
    }

    fn reload(&self) -> Result<(), String> {
        let changed = self.files.changed();
        let read = self.files.read();
        let mut state = self.lock();
        state.changed = changed;
        state.current = Arc::new(read?);
        state.reminded = None;
        Ok(())
    }

    fn watch(&self, now: SystemTime) {
        if self.files.changed() != self.lock().changed {
            match self.reload() {
                Ok(()) => tracing::info!("the certificate was read again"),
                // One of the two may come a moment later.
                Err(error) => {
                    tracing::warn!(error, "the certificate was not read again; the one before stays")
                }
            }
        }
        let mut state = self.lock();
        let is_due = state.reminded.is_none_or(|at| now.duration_since(at).is_ok_and(|since| since > REMIND));
        if is_due && let Some(ends) = state.current.end_entity_cert().ok().and_then(|cert| ends(cert)) {
            match ends.duration_since(now) {
                Err(_) => tracing::warn!("the certificate (tls.certificate) has expired: clients refuse it"),
                Ok(left) if left < EXPIRES_SOON => {
                    let days = left.as_secs() / 86_400;
                    tracing::warn!(days, "the certificate (tls.certificate) expires soon");
                }
                Ok(_) => {}
            }
            state.reminded = Some(now);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.lock().current))
    }
}

impl Files {
    fn changed(&self) -> [Option<SystemTime>; 2] {
        let changed = |path: &Path| std::fs::metadata(path).and_then(|file| file.modified()).ok();
        [changed(&self.certificate), changed(&self.key)]
    }

    fn read(&self) -> Result<CertifiedKey, String> {
        let wrong = |option: &str, path: &Path, error: pem::Error| {
            let what = match error {
                pem::Error::NoItemsFound => "there is none of it in this file, or it is not PEM".to_owned(),
                pem::Error::Io(error) => error.to_string(),
                error => error.to_string(),
            };
            format!("{option}: {}: {what}", path.display())
        };
        let chain =
            CertificateDer::pem_file_iter(&self.certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let chain = chain.map_err(|error| wrong("tls.certificate", &self.certificate, error))?;
        if chain.is_empty() {
            return Err(wrong("tls.certificate", &self.certificate, pem::Error::NoItemsFound));
        }
        let key =
            PrivateKeyDer::from_pem_file(&self.key).map_err(|error| wrong("tls.key", &self.key, error))?;
        CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map_err(|error| {
            format!("tls.key: {}: it does not go with tls.certificate: {error}", self.key.display())
        })
    }
}

/// When a certificate ends (RFC 5280, 4.1): the second time in its validity.
fn ends(certificate: &[u8]) -> Option<SystemTime> {
    let (_, certificate, _) = element(certificate)?;
    let (_, mut rest, _) = element(certificate)?;
    // Version (if it is there), serial number, algorithm and issuer come before it.
    let (tag, _, after) = element(rest)?;
    if tag == 0xa0 {
        rest = after;
    }
    for _ in 0..3 {
        (_, _, rest) = element(rest)?;
    }
    let (_, validity, _) = element(rest)?;
    let (_, _, end) = element(validity)?;
    let (tag, time, _) = element(end)?;
    let time = std::str::from_utf8(time).ok()?.strip_suffix('Z')?;
    // Years of two digits are those from 1950 to 2049.
    let (year, rest) = match tag {
        0x17 => {
            let (year, rest) = time.split_at_checked(2)?;
            let year: i64 = year.parse().ok()?;
            (if year < 50 { 2_000 + year } else { 1_900 + year }, rest)
        }
        _ => {
            let (year, rest) = time.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
    };
    let number = |from: usize| rest.get(from..from + 2)?.parse::<i64>().ok();
    let (month, day) = (number(0)?, number(2)?);
    // Days since 1970 in the Gregorian calendar, of years that begin in March.
    let (march_year, march_month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * march_year + march_year / 4 - march_year / 100
        + march_year / 400
        + (153 * march_month + 2) / 5
        + day
        - 719_469;
    let seconds = days * 86_400 + number(4)? * 3_600 + number(6)? * 60 + number(8)?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).ok()?))
}

/// The first element of DER: its tag, its content, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first >= 0x80 {
        let (bytes, behind) = rest.split_at_checked(usize::from(first & 0x7f))?;
        if bytes.len() > 4 {
            return None;
        }
        length = bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        rest = behind;
    }
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a certificate and a key as if so many seconds after 1970.
    fn write(files: &Files, key: Option<&rcgen::KeyPair>, seconds: u64) {
        let own = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.self_signed(&own).unwrap();
        std::fs::write(&files.certificate, certificate.pem()).unwrap();
        std::fs::write(&files.key, key.unwrap_or(&own).serialize_pem()).unwrap();
        for path in [&files.certificate, &files.key] {
            let file = std::fs::File::options().write(true).open(path).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
        }
    }

    #[test]
    fn files_that_change_are_read_again_and_those_that_do_not_fit_are_not_used() {
        let folder = std::env::temp_dir().join(format!("duplex-certificate-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let files = || Files { certificate: folder.join("certificate.pem"), key: folder.join("key.pem") };
        write(&files(), None, 1);
        let certificate = Certificate::read(files()).unwrap();
        let shown = || certificate.lock().current.end_entity_cert().unwrap().to_vec();
        let first = shown();
        certificate.watch(SystemTime::now());
        assert_eq!(shown(), first);
        write(&files(), Some(&rcgen::KeyPair::generate().unwrap()), 2);
        certificate.watch(SystemTime::now());
        assert_eq!(shown(), first, "the key is another's");
        write(&files(), None, 3);
        certificate.watch(SystemTime::now());
        assert_ne!(shown(), first);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_certificate_says_when_it_ends() {
        for (year, month, day, seconds) in [
            (2026, 11, 25, 1_795_564_800),
            (2028, 2, 29, 1_835_395_200),
            (2049, 12, 31, 2_524_521_600),
            (2050, 1, 1, 2_524_608_000),
            (2400, 3, 1, 13_574_649_600),
        ] {
            let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            params.not_after = rcgen::date_time_ymd(year, month, day);
            let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
            let expected = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(ends(certificate.der()), Some(expected), "{year}-{month}-{day}");
            for cut in 0..certificate.der().len() {
                assert_eq!(ends(&certificate.der()[..cut]), None);
            }
        }
    }
}
