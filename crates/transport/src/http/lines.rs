//! Requests to other servers, one after the other on connections that stay open.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::Stream;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::Instant;

use crate::dial::dial;
use crate::listener::SocketOptions;

/// Idle connections that are kept to one server.
const IDLE_MAX: usize = 8;
/// What hyper may hold of what is read, bytes. The longest head is within.
const BUFFER_BYTES_MAX: usize = 32 << 10;

/// The connections of one thread to other servers.
pub struct Lines {
    options: SocketOptions,
    idle: RefCell<HashMap<SocketAddr, Vec<Idle>>>,
}

struct Idle {
    line: Line,
    since: Instant,
}

/// A connection for one request after the other. Dropping it ends it, whatever is under way.
pub struct Line {
    address: SocketAddr,
    sender: SendRequest<Incoming>,
    task: JoinHandle<()>,
}

/// Why a request has no answer.
pub enum Unanswered {
    /// The connection had ended: nothing of the request was sent.
    Unsent(Box<Request<Incoming>>),
    /// The connection broke; what became of the request is not known.
    Broken(hyper::Error),
}

impl Lines {
    /// None yet.
    pub fn new(options: SocketOptions) -> Self {
        Self { options, idle: RefCell::default() }
    }

    /// A connection to `address`: one that has been idle for at most `idle_max`, or a new one.
    ///
    /// # Errors
    /// There is nobody; see [`fresh`](Self::fresh).
    pub async fn take(&self, address: SocketAddr, idle_max: Duration) -> io::Result<Line> {
        match self.take_idle(address, idle_max) {
            Some(line) => Ok(line),
            None => self.fresh(address).await,
        }
    }

    /// A new connection.
    ///
    /// # Errors
    /// Those of the operating system; [`TimedOut`](io::ErrorKind::TimedOut) after 2 s.
    pub async fn fresh(&self, address: SocketAddr) -> io::Result<Line> {
        let stream = self.bare(address).await?;
        let mut http = http1::Builder::new();
        http.max_buf_size(BUFFER_BYTES_MAX);
        let (sender, connection) = http.handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        // How it ended, whoever waits for an answer is told.
        let task = spawn_local(async move { drop(connection.await) });
        Ok(Line { address, sender, task })
    }

    /// A new connection as it is.
    ///
    /// # Errors
    /// The same.
    pub async fn bare(&self, address: SocketAddr) -> io::Result<Stream> {
        dial(address, self.options).await
    }

    /// Keeps a connection for the next request. The answer to the one before was read to its end.
    pub fn keep(&self, line: Line) {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|_, lines| {
            lines.retain(|idle| !idle.line.sender.is_closed());
            !lines.is_empty()
        });
        let lines = idle.entry(line.address).or_default();
        if lines.len() < IDLE_MAX && !line.sender.is_closed() {
            lines.push(Idle { line, since: Instant::now() });
        }
    }

    fn take_idle(&self, address: SocketAddr, idle_max: Duration) -> Option<Line> {
        let mut idle = self.idle.borrow_mut();
        let lines = idle.get_mut(&address)?;
        while let Some(Idle { line, since }) = lines.pop() {
            if line.sender.is_ready() && since.elapsed() < idle_max {
                return Some(line);
            }
        }
        None
    }
}

impl Line {
    /// Sends a request and waits for the head of its answer.
    ///
    /// # Errors
    /// There is none.
    pub async fn send(&mut self, request: Request<Incoming>) -> Result<Response<Incoming>, Unanswered> {
        self.sender.try_send_request(request).await.map_err(|mut error| match error.take_message() {
            Some(request) => Unanswered::Unsent(Box::new(request)),
            None => Unanswered::Broken(error.into_error()),
        })
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}
