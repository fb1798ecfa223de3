//! HTTP/1.1 by hyper, and the way out of it: after an upgrade the bare socket is handed on.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::stream::StreamBody;

/// Longest head, bytes; hyper answers 431 beyond it.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Most header fields; hyper answers 431 beyond it.
const HEADERS_MAX: usize = 100;

/// What goes on with a socket after its upgrade; the bytes are what the client sent behind its request.
pub type Upgraded = Box<dyn FnOnce(TcpStream, Bytes)>;

/// The answer to a request.
pub enum Reply {
    /// An ordinary response.
    Response(Response<Body>),
    /// A 101 response; then the socket is handed on.
    Upgrade(Response<Body>, Upgraded),
}

/// The body of a response.
pub enum Body {
    /// All of it at once.
    Full(Full<Bytes>),
    /// Frames of a session as they come.
    Stream(StreamBody),
}

/// A response with a text body, which browsers are told not to interpret as anything else.
pub fn text(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    content(status, "text/plain; charset=utf-8", text.into())
}

/// A response with a body of the given content type.
pub fn content(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::Full(Full::new(body.into())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Why a request body could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyError {
    /// Longer than allowed.
    TooLong,
    /// Not there in time.
    TooSlow,
    /// The connection broke, or the chunks are malformed.
    Broken,
}

/// Reads a body of at most `bytes_max` within `timeout`. What was read of a longer one is not kept.
///
/// # Errors
/// Why it could not be read.
pub async fn read_body(body: Incoming, bytes_max: usize, timeout: Duration) -> Result<Bytes, BodyError> {
    if http_body::Body::size_hint(&body).lower() > bytes_max as u64 {
        return Err(BodyError::TooLong);
    }
    let collecting = Limited::new(body, bytes_max).collect();
    match tokio::time::timeout(timeout, collecting).await {
        Err(_elapsed) => Err(BodyError::TooSlow),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(BodyError::TooLong),
        Ok(Err(_)) => Err(BodyError::Broken),
    }
}

/// Serves the requests of one connection until it ends or is upgraded. A client may take `head_timeout` to send the head
/// of a request, and as long to send the next one on an idle connection.
pub async fn serve<F, A>(stream: TcpStream, head_timeout: Duration, answer: F)
where
    F: Fn(Request<Incoming>) -> A,
    A: Future<Output = Reply>,
{
    let upgrade: Rc<RefCell<Option<Upgraded>>> = Rc::default();
    let cut: Rc<Notify> = Rc::default();
    let service = service_fn(|request| {
        let (upgrade, cut) = (Rc::clone(&upgrade), Rc::clone(&cut));
        let answering = answer(request);
        async move {
            Ok::<_, Infallible>(match answering.await {
                Reply::Response(response) => {
                    if let Body::Stream(body) = response.body() {
                        body.cut_by(&cut);
                    }
                    response
                }
                Reply::Upgrade(response, upgraded) => {
                    *upgrade.borrow_mut() = Some(upgraded);
                    response
                }
            })
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    let connection = http.serve_connection(TokioIo::new(stream), service);
    let outcome = tokio::select! {
        outcome = connection.without_shutdown() => outcome,
        () = cut.notified() => return,
    };
    match outcome {
        Err(error) => tracing::debug!(%error, "an HTTP connection failed"),
        Ok(parts) => {
            if let Some(upgraded) = upgrade.take() {
                // hyper's 8 KiB buffer would stay alive behind an empty slice of it.
                let early = Bytes::copy_from_slice(&parts.read_buf);
                drop(parts.read_buf);
                upgraded(parts.io.into_inner(), early);
            }
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Full(body) => Pin::new(body).poll_frame(cx),
            Self::Stream(body) => {
                body.poll_next(cx).map(|bytes| bytes.map(|bytes| Ok(http_body::Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(body) => body.is_end_stream(),
            Self::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match self {
            Self::Full(body) => body.size_hint(),
            Self::Stream(_) => http_body::SizeHint::default(),
        }
    }
}
