//! Requests of one connection, each sent to the next backend.
//!
//! A connection to a backend carries one request: nothing then depends on what is left of an earlier one.

use std::future::pending;
use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::body::Body;
use super::head::{self, After, HEAD_BYTES_MAX, Head};
use super::{Backends, relay, reset};

const PIECE_BYTES: usize = 16 * 1024;
/// What a client may send ahead, behind a request that is not answered yet.
const AHEAD_BYTES_MAX: usize = 64 * 1024;

const NO_BACKEND: &[u8] = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// A socket and what was read from it and not passed on.
struct Side {
    socket: TcpStream,
    ahead: Vec<u8>,
}

/// How a request and its answer ended.
enum End {
    /// Another request may come.
    Answered,
    /// The answer was the last on its connection.
    Last,
    /// From now on the connection is something else.
    Upgraded,
    /// The client has gone away before it was answered.
    ClientGone,
    /// The backend broke off before it had answered anything.
    NoAnswer,
    /// The backend broke off within its answer.
    Broken,
}

/// Serves a client until it goes.
pub(super) async fn serve(client: TcpStream, backends: &Backends) {
    let mut client = Side { socket: client, ahead: Vec::new() };
    loop {
        let read = client.read_head().await;
        let Ok(Some(bytes)) = read else { return };
        let Some(backend) = backends.connect().await else { return client.refuse().await };
        let mut backend = Side { socket: backend, ahead: Vec::new() };
        let Some(request) = Head::parse(&bytes) else {
            // What is not understood is the backend's to judge.
            client.ahead.splice(0..0, bytes);
            return join(client, backend).await;
        };
        match exchange(&mut client, &mut backend, &request, &bytes).await {
            End::Answered => {}
            End::Last => {
                // An answer that came before the whole request would be lost with a reset: the client may finish.
                let _ = client.socket.shutdown().await;
                return client.drain().await;
            }
            End::Upgraded => return join(client, backend).await,
            End::ClientGone => return reset(&backend.socket),
            End::NoAnswer => return client.refuse().await,
            End::Broken => return reset(&client.socket),
        }
    }
}

/// Both sides, from here on as they come.
async fn join(mut client: Side, mut backend: Side) {
    let to_backend = backend.socket.write_all(&client.ahead).await;
    let to_client = client.socket.write_all(&backend.ahead).await;
    if to_backend.is_ok() && to_client.is_ok() {
        relay(client.socket, backend.socket).await;
    }
}

impl Side {
    /// The next head, with the empty line behind it. Nothing if no more comes; what is too long or cut off as it is.
    async fn read_head(&mut self) -> io::Result<Option<Vec<u8>>> {
        let (mut reader, _) = self.socket.split();
        read_head(&mut reader, &mut self.ahead).await
    }

    async fn refuse(&mut self) {
        // A client that has gone needs no answer.
        let _ = self.socket.write_all(NO_BACKEND).await;
        let _ = self.socket.shutdown().await;
        self.drain().await;
    }

    /// Reads on until the client has closed its side, for a moment at most.
    async fn drain(&mut self) {
        let mut piece = [0; PIECE_BYTES];
        let reading = async { while self.socket.read(&mut piece).await.is_ok_and(|length| length > 0) {} };
        let _ = tokio::time::timeout(std::time::Duration::from_secs(1), reading).await;
    }
}

async fn read_head(reader: &mut ReadHalf<'_>, ahead: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    loop {
        if let Some(end) = head::end(ahead) {
            let rest = ahead.split_off(end);
            return Ok(Some(std::mem::replace(ahead, rest)));
        }
        let is_over = ahead.len() > HEAD_BYTES_MAX || reader.read_buf(ahead).await? == 0;
        if is_over {
            let bytes = std::mem::take(ahead);
            return Ok((!bytes.is_empty()).then_some(bytes));
        }
    }
}

/// Sends a request and brings its answer, both at once: either may take for ever.
async fn exchange(client: &mut Side, backend: &mut Side, request: &Head, bytes: &[u8]) -> End {
    let (mut client_reader, client_writer) = client.socket.split();
    let (backend_reader, mut backend_writer) = backend.socket.split();
    let mut left = request.request_body();
    let up = async {
        if backend_writer.write_all(bytes).await.is_err()
            || send_body(&mut client_reader, &mut client.ahead, &mut backend_writer, &mut left).await.is_err()
        {
            // The answer may have come before, and says more.
            return pending().await;
        }
        until_gone(&mut client_reader, &mut client.ahead).await;
    };
    let mut answer =
        Answer { reader: backend_reader, ahead: &mut backend.ahead, writer: client_writer, begun: Begun::No };
    let end = tokio::select! {
        end = answer.bring(request) => end,
        () = up => End::ClientGone,
    };
    match end {
        // What is left of the request is in the way of the next one.
        End::Answered if left != Body::Over => End::Last,
        end => end,
    }
}

/// Sends the body of a request. The client's end before that of the body is an error.
async fn send_body(
    reader: &mut ReadHalf<'_>,
    ahead: &mut Vec<u8>,
    writer: &mut WriteHalf<'_>,
    left: &mut Body,
) -> io::Result<()> {
    while *left != Body::Over {
        if ahead.is_empty() && reader.read_buf(ahead).await? == 0 {
            writer.shutdown().await?;
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let length = left.take(ahead);
        writer.write_all(&ahead[..length]).await?;
        ahead.drain(..length);
    }
    Ok(())
}

/// Returns when the client has gone. What it sends meanwhile is kept.
async fn until_gone(reader: &mut ReadHalf<'_>, ahead: &mut Vec<u8>) {
    while ahead.len() < AHEAD_BYTES_MAX {
        if !reader.read_buf(ahead).await.is_ok_and(|length| length > 0) {
            return;
        }
    }
    pending().await
}

/// An answer on its way from the backend to the client.
struct Answer<'a> {
    reader: ReadHalf<'a>,
    ahead: &'a mut Vec<u8>,
    writer: WriteHalf<'a>,
    begun: Begun,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Begun {
    No,
    Yes,
}

impl Answer<'_> {
    async fn bring(&mut self, request: &Head) -> End {
        match self.try_bring(request).await {
            Ok(end) => end,
            Err(_) if self.begun == Begun::No => End::NoAnswer,
            Err(_) => End::Broken,
        }
    }

    async fn try_bring(&mut self, request: &Head) -> io::Result<End> {
        loop {
            let bytes = read_head(&mut self.reader, self.ahead).await?;
            let bytes = bytes.ok_or(io::ErrorKind::UnexpectedEof)?;
            self.begun = Begun::Yes;
            self.writer.write_all(&bytes).await?;
            let response = Head::parse(&bytes);
            let status = response.as_ref().and_then(Head::status);
            match (response, status) {
                (_, Some(101)) => return Ok(End::Upgraded),
                // Provisional: the answer is still to come.
                (_, Some(100..200)) => {}
                (Some(response), _) => {
                    let body = self.bring_body(response.response_body(request.method())).await?;
                    let keeps = [request.after(), response.after()] == [After::Keep; 2];
                    return Ok(if keeps && body == Body::Over { End::Answered } else { End::Last });
                }
                (None, _) => {
                    self.bring_body(Body::UntilClose).await?;
                    return Ok(End::Last);
                }
            }
        }
    }

    /// Brings a body, and what it was at its end.
    async fn bring_body(&mut self, mut body: Body) -> io::Result<Body> {
        while body != Body::Over {
            if self.ahead.is_empty() {
                self.ahead.reserve(PIECE_BYTES);
                match (self.reader.read_buf(self.ahead).await?, body) {
                    (0, Body::UntilClose) => break,
                    (0, _) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    _ => {}
                }
            }
            let length = body.take(self.ahead);
            self.writer.write_all(&self.ahead[..length]).await?;
            self.ahead.drain(..length);
        }
        Ok(body)
    }
}
