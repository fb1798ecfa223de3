//! HTTP/1.1 by hyper, and the ways out of it: after an upgrade, or to be answered by someone else, the bare socket is
//! handed on. Requests of this server to others, too.

mod raw;
mod ask;
mod lines;

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{Future, pending, poll_fn};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;

use crate::Stream;

pub use ask::{Asked, ask};
pub use lines::{Line, Lines, Unanswered};
use raw::Replay;
pub use raw::{Afterwards, Fields, attend, respond};

/// Longest head, bytes; hyper answers 431 beyond it.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Most header fields; hyper answers 431 beyond it.
const HEADERS_MAX: usize = 100;

/// What goes on with a socket after its upgrade; the bytes are what the client sent behind its request.
pub type Upgraded = Box<dyn FnOnce(Stream, Bytes)>;

/// What goes on with a socket whose request is still to be answered; the headers belong into the answer.
pub type TakenOver = Box<dyn FnOnce(Stream, Bytes, HeaderMap)>;

/// The answer to a request.
pub enum Reply {
    /// An ordinary response.
    Response(Response<Body>),
    /// A 101 response; then the socket is handed on.
    Upgrade(Response<Body>, Upgraded),
    /// The socket is handed on to be answered there. Only for requests without a body.
    TakeOver(HeaderMap, TakenOver),
}

impl Reply {
    /// The headers of the answer.
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        match self {
            Self::Response(response) | Self::Upgrade(response, _) => response.headers_mut(),
            Self::TakeOver(headers, _) => headers,
        }
    }
}

/// The body of a response.
pub type Body = Full<Bytes>;

/// A response with a text body, which browsers are told not to interpret as anything else.
pub fn text(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    content(status, "text/plain; charset=utf-8", text.into())
}

/// A response with a body of the given content type.
pub fn content(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()));
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

/// How a connection leaves HTTP.
enum Exit {
    Upgraded(Upgraded),
    TakenOver(HeaderMap, TakenOver),
}

/// Serves the requests of one connection until it ends or is handed on; `early` is what was read of it already. A client
/// may take `head_timeout` to send the head of a request, and as long to send the next one on an idle connection.
pub async fn serve<F, A>(stream: Stream, early: Bytes, head_timeout: Duration, answer: F)
where
    F: Fn(Request<Incoming>) -> A,
    A: Future<Output = Reply>,
{
    let exit: RefCell<Option<Exit>> = RefCell::default();
    let (answer, leave) = (&answer, &exit);
    let service = service_fn(|request| {
        // What answers is made in here: held by the block from outside, it would take its room twice.
        Box::pin(async move {
            let (response, way) = match answer(request).await {
                Reply::Response(response) => return Ok::<_, Infallible>(response),
                Reply::Upgrade(response, upgraded) => (Some(response), Exit::Upgraded(upgraded)),
                Reply::TakeOver(headers, taken) => (None, Exit::TakenOver(headers, taken)),
            };
            *leave.borrow_mut() = Some(way);
            match response {
                Some(response) => Ok(response),
                None => pending().await,
            }
        })
    });
    let flushed = Rc::new(Cell::new(true));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    let mut connection = http.serve_connection(Replay::new(stream, early, Rc::clone(&flushed)), service);
    // A request that is taken over has no response here: hyper would wait for it for ever. What it has not written yet of
    // earlier ones would be lost, so that is waited for.
    let is_taken = || matches!(*exit.borrow(), Some(Exit::TakenOver(..))) && flushed.get();
    let outcome = poll_fn(|cx| match connection.poll_without_shutdown(cx) {
        Poll::Pending if is_taken() => Poll::Ready(Ok(())),
        polled => polled,
    });
    if let Err(error) = outcome.await {
        return tracing::debug!(%error, "an HTTP connection failed");
    }
    let parts = connection.into_parts();
    let way = exit.take();
    if let Some(way) = way {
        // hyper's 8 KiB buffer would stay alive behind an empty slice of it.
        let (stream, early) = parts.io.into_inner(&parts.read_buf);
        drop(parts.read_buf);
        match way {
            Exit::Upgraded(upgraded) => upgraded(stream, early),
            Exit::TakenOver(headers, taken) => taken(stream, early, headers),
        }
    }
}
