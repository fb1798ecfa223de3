//! A connection in and out of hyper's hands: what was read of it is given back, and responses are written without it.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use crate::Stream;
use bytes::{Buf, Bytes};
use http::{HeaderMap, Method, StatusCode, header};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;

use crate::socket;

/// A socket of which something was read already.
pub(super) struct Replay {
    early: Bytes,
    io: TokioIo<Stream>,
    /// Whether hyper has nothing more to write than it has written.
    flushed: Rc<Cell<bool>>,
}

impl Replay {
    pub fn new(stream: Stream, early: Bytes, flushed: Rc<Cell<bool>>) -> Self {
        Self { early, io: TokioIo::new(stream), flushed }
    }

    /// The socket, and a copy of what was read and not used; `read` is the first part of it.
    pub fn into_inner(self, read: &[u8]) -> (Stream, Bytes) {
        (self.io.into_inner(), Bytes::from([read, &self.early].concat()))
    }
}

impl Read for Replay {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buffer);
        }
        let length = self.early.len().min(buffer.remaining());
        buffer.put_slice(&self.early[..length]);
        self.early.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl Write for Replay {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.flushed.set(false);
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // It is called when all was written.
        self.flushed.set(true);
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.flushed.set(false);
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }
}

/// What becomes of a connection when its response is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Afterwards {
    /// Another request may come.
    KeepAlive,
    /// It ends, and so the response.
    Close,
}

/// Header fields as they stand in a head: a tenth of what a map of them takes.
pub struct Fields(Box<[u8]>);

impl Fields {
    /// These.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut out = Vec::with_capacity(256);
        headers.iter().for_each(|(name, value)| field(&mut out, name.as_str(), value.as_bytes()));
        Self(out.into())
    }

    /// The head of a response with these (RFC 9112, 4). Without a length its body goes on until the connection ends (6.3, 8).
    pub fn head(&self, status: StatusCode, length: Option<usize>, then: Afterwards) -> Vec<u8> {
        let reason = status.canonical_reason().unwrap_or_default();
        let mut out = format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).into_bytes();
        out.extend_from_slice(&self.0);
        field(&mut out, header::DATE.as_str(), httpdate::fmt_http_date(SystemTime::now()).as_bytes());
        // RFC 9110, 8.6: nothing has no length.
        if let Some(length) = length.filter(|_| status != StatusCode::NO_CONTENT) {
            field(&mut out, header::CONTENT_LENGTH.as_str(), length.to_string().as_bytes());
        }
        if then == Afterwards::Close {
            field(&mut out, header::CONNECTION.as_str(), b"close");
        }
        out.extend_from_slice(b"\r\n");
        out
    }
}

impl Fields {
    /// The head of a request with these, and without a body (RFC 9112, 3).
    pub fn request(&self, method: &Method, target: &str) -> Vec<u8> {
        let mut out = format!("{method} {target} HTTP/1.1\r\n").into_bytes();
        out.extend_from_slice(&self.0);
        out.extend_from_slice(b"\r\n");
        out
    }
}

fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

/// Writes all of `bytes`.
///
/// # Errors
/// The connection broke.
pub(super) async fn write(stream: &Stream, bytes: &[u8]) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match stream.try_write(rest) {
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.writable().await?,
            Err(error) => return Err(error),
        }
    }
    while let Err(error) = stream.try_flush() {
        match error.kind() {
            io::ErrorKind::WouldBlock => stream.writable().await?,
            _ => return Err(error),
        }
    }
    Ok(())
}

/// Writes a whole response. Its reader may take `patience` over it.
///
/// # Errors
/// The connection broke, or its reader took too long.
pub async fn respond(stream: &Stream, response: &[u8], patience: Duration) -> io::Result<()> {
    let writing = tokio::time::timeout(patience, write(stream, response));
    writing.await.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()))
}

/// Waits for what a client is to be answered, for as long as the client is there: `None` if it has gone. What it sends
/// meanwhile is added to `early`.
pub async fn attend<T>(stream: &Stream, early: &mut Vec<u8>, answer: impl Future<Output = T>) -> Option<T> {
    let mut answer = pin!(answer);
    poll_fn(|cx| match answer.as_mut().poll(cx) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        Poll::Pending => socket::poll_gone(stream, early, cx).map(|()| None),
    })
    .await
}
