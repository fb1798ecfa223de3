//! Finding an HTTP/1 head in received bytes (RFC 9112, 2 to 5), for use without an HTTP server.

use super::HttpVersion;

/// The longest head we read, in bytes.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// The most headers we read.
pub const HEADERS_MAX: usize = 100;

/// Why bytes are not an HTTP/1 head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// More than [`HEAD_BYTES_MAX`] without an end.
    #[error("the head is longer than {limit} bytes")]
    TooLong {
        /// [`HEAD_BYTES_MAX`].
        limit: usize,
    },
    /// More than [`HEADERS_MAX`] headers.
    #[error("the head has more than {limit} headers")]
    TooManyHeaders {
        /// [`HEADERS_MAX`].
        limit: usize,
    },
    /// Not HTTP/1, or not as strict as we want it: bare line feeds and folded headers are refused.
    #[error("the head is not HTTP/1")]
    Malformed,
}

impl HeadError {
    /// The status to answer with (RFC 6585, 5).
    pub fn status(&self) -> u16 {
        match self {
            Self::TooLong { .. } | Self::TooManyHeaders { .. } => 431,
            Self::Malformed => 400,
        }
    }
}

/// The head of a request, borrowed from the bytes it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead<'a> {
    /// The method, in the case it came in.
    pub method: &'a str,
    /// The request target, untouched.
    pub target: &'a str,
    /// The protocol version.
    pub version: HttpVersion,
    headers: Vec<(&'a str, &'a [u8])>,
}

impl<'a> RequestHead<'a> {
    /// The headers in the order they came in, for [`check`](super::check).
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + Clone {
        self.headers.iter().copied()
    }
}

/// Reads a request head from the start of `bytes` and says how long it is, or `None` when more bytes are needed. Use a
/// [`RequestReader`] where bytes come in small pieces.
///
/// # Errors
/// The bytes are not, or will not become, a request head within the limits.
pub fn parse_request(bytes: &[u8]) -> Result<Option<(RequestHead<'_>, usize)>, HeadError> {
    RequestReader::default().read(bytes)
}

/// Reads a request head that arrives in pieces; remembers how far it looked, so that the cost stays linear.
#[derive(Clone, Debug, Default)]
pub struct RequestReader {
    end: HeadEnd,
}

impl RequestReader {
    /// Like [`parse_request`]; each call gets all bytes received so far.
    ///
    /// # Errors
    /// The bytes are not, or will not become, a request head within the limits.
    pub fn read<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<(RequestHead<'a>, usize)>, HeadError> {
        let Some(length) = self.end.find(bytes)? else { return Ok(None) };
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(&bytes[..length]).map_err(parse_error)? {
            httparse::Status::Complete(parsed) if parsed == length => {}
            _ => return Err(HeadError::Malformed),
        }
        let (Some(method), Some(target)) = (request.method, request.path) else {
            return Err(HeadError::Malformed);
        };
        let version = version(request.version)?;
        let headers = pairs(request.headers);
        Ok(Some((RequestHead { method, target, version, headers }, length)))
    }
}

/// The head of a response.
pub(super) struct ResponseHead<'a> {
    pub status: u16,
    pub version: HttpVersion,
    pub headers: Vec<(&'a str, &'a [u8])>,
}

/// Parses a response head that [`HeadEnd`] found.
pub(super) fn parse_response(head: &[u8]) -> Result<ResponseHead<'_>, HeadError> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(head).map_err(parse_error)? {
        httparse::Status::Complete(parsed) if parsed == head.len() => {}
        _ => return Err(HeadError::Malformed),
    }
    let status = response.code.ok_or(HeadError::Malformed)?;
    let version = version(response.version)?;
    Ok(ResponseHead { status, version, headers: pairs(response.headers) })
}

/// Looks for the empty line that ends a head, going on where it stopped.
#[derive(Clone, Debug, Default)]
pub(super) struct HeadEnd {
    looked: usize,
}

impl HeadEnd {
    /// The length of the head, the empty line included.
    pub(super) fn find(&mut self, bytes: &[u8]) -> Result<Option<usize>, HeadError> {
        let within = &bytes[..bytes.len().min(HEAD_BYTES_MAX)];
        for at in self.looked.min(within.len())..within.len() {
            if within[at] != b'\n' {
                continue;
            }
            if !within[..at].ends_with(b"\r") {
                return Err(HeadError::Malformed);
            }
            if within[..at].ends_with(b"\r\n\r") {
                return Ok(Some(at + 1));
            }
        }
        if bytes.len() >= HEAD_BYTES_MAX {
            return Err(HeadError::TooLong { limit: HEAD_BYTES_MAX });
        }
        self.looked = within.len();
        Ok(None)
    }
}

fn pairs<'a>(headers: &[httparse::Header<'a>]) -> Vec<(&'a str, &'a [u8])> {
    headers.iter().map(|header| (header.name, header.value)).collect()
}

fn version(minor: Option<u8>) -> Result<HttpVersion, HeadError> {
    match minor {
        Some(0) => Ok(HttpVersion::Http10),
        Some(1) => Ok(HttpVersion::Http11),
        _ => Err(HeadError::Malformed),
    }
}

fn parse_error(error: httparse::Error) -> HeadError {
    match error {
        httparse::Error::TooManyHeaders => HeadError::TooManyHeaders { limit: HEADERS_MAX },
        _ => HeadError::Malformed,
    }
}
