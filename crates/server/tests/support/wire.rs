//! A TCP connection on which a test writes what it likes.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use duplex_websocket::{Opcode, encode};
use socket2::SockRef;

use super::PATIENCE;
use super::frames::{Incoming, take_frame};
use super::http::Response;

/// What a client must send to open a WebSocket, beside the request line.
pub const UPGRADE: &str = "Host: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                           Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
/// Offers compression.
pub const DEFLATE: &str = "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover\r\n";

pub struct Wire {
    stream: TcpStream,
    unread: Vec<u8>,
    /// Until when the next answer must be there.
    deadline: Instant,
}

/// What a read brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Fill {
    More,
    /// The peer has closed or reset the connection.
    End,
}

impl Wire {
    pub fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).expect("the server accepts connections"))
    }

    /// A client whose kernel takes little that the client has not read.
    pub fn connect_narrow(address: SocketAddr) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.expect("the system gives a socket");
        socket.set_recv_buffer_size(4_096).expect("a receive buffer can be small");
        socket.connect(&address.into()).expect("the server accepts connections");
        Self::over(socket.into())
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a fresh socket takes options");
        stream.set_write_timeout(Some(PATIENCE)).expect("a fresh socket takes options");
        Self { stream, unread: Vec::new(), deadline: Instant::now() + PATIENCE }
    }

    /// A WebSocket at `target`; `headers` are added to the request.
    pub fn websocket(address: SocketAddr, target: &str, headers: &str) -> Self {
        let mut wire = Self::connect(address);
        wire.upgrade(target, headers);
        wire
    }

    /// Makes a WebSocket of this connection.
    pub fn upgrade(&mut self, target: &str, headers: &str) -> Response {
        self.send(format!("GET {target} HTTP/1.1\r\n{UPGRADE}{headers}\r\n").as_bytes());
        let response = self.response().expect("an answer to the upgrade");
        assert_eq!(response.status, 101, "{target}: {response:?}");
        response
    }

    /// Sends, unless the peer has hung up already: then what it answered is what counts.
    pub fn send(&mut self, bytes: &[u8]) {
        self.deadline = Instant::now() + PATIENCE;
        drop(self.stream.write_all(bytes));
    }

    /// As [`send`](Self::send), in pieces of one byte as far as the kernels like.
    pub fn drip(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.send(&[*byte]));
    }

    pub fn send_frame(&mut self, opcode: Opcode, payload: &[u8]) {
        let mut frame = Vec::new();
        encode::masked(opcode, payload, [0x37, 0xfa, 0x21, 0x3d], &mut frame);
        self.send(&frame);
    }

    pub fn send_text(&mut self, text: &str) {
        self.send_frame(Opcode::Text, text.as_bytes());
    }

    /// Says that nothing more comes.
    pub fn finish_sending(&mut self) {
        // The peer may be gone already.
        drop(self.stream.shutdown(std::net::Shutdown::Write));
    }

    /// Resets the connection.
    pub fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("an open socket takes options");
    }

    /// The next frame; [`Incoming::End`] when the connection has ended.
    pub fn next(&mut self) -> Incoming {
        loop {
            if let Some((frame, length)) = take_frame(&self.unread) {
                self.unread.drain(..length);
                return frame;
            }
            if self.fill() == Fill::End {
                assert!(self.unread.is_empty(), "the connection ended inside a frame: {:02x?}", self.unread);
                return Incoming::End;
            }
        }
    }

    /// The next text message; pings are passed over.
    pub fn text(&mut self) -> String {
        loop {
            match self.next() {
                Incoming::Text(text) => return text,
                Incoming::Ping(_) => {}
                other => panic!("expected a text message, got {other:?}"),
            }
        }
    }

    /// All frames to the end of the connection; a close frame is answered.
    pub fn until_end(&mut self) -> Vec<Incoming> {
        let mut frames = Vec::new();
        loop {
            match self.next() {
                Incoming::End => return frames,
                frame => {
                    if let Incoming::Close(..) = frame {
                        self.send_frame(Opcode::Close, &1000u16.to_be_bytes());
                    }
                    frames.push(frame);
                }
            }
        }
    }

    /// The next response, or `None` if the connection ended before one was complete.
    pub fn response(&mut self) -> Option<Response> {
        loop {
            if let Some((response, length)) = Response::take(&self.unread) {
                self.unread.drain(..length);
                return Some(response);
            }
            if self.fill() == Fill::End {
                return None;
            }
        }
    }

    /// Whether something has come, or the end.
    pub fn has_something(&self) -> bool {
        self.stream.set_nonblocking(true).expect("an open socket takes options");
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).expect("an open socket takes options");
        !self.unread.is_empty() || peeked.is_ok()
    }

    /// Bytes that came and were not taken yet; [`fill`](Self::fill) adds to them.
    pub fn unread(&mut self) -> &mut Vec<u8> {
        &mut self.unread
    }

    /// Whether the connection ends; what comes before is kept unread.
    pub fn wait_for_end(&mut self) {
        while self.fill() == Fill::More {}
    }

    /// Reads once. Panics if nothing comes in time.
    pub fn fill(&mut self) -> Fill {
        self.fill_little(16 << 10)
    }

    /// The same, but no more than so many bytes.
    pub fn fill_little(&mut self, bytes_max: usize) -> Fill {
        let left = self.deadline.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "not within {PATIENCE:?}; unread: {:?}", self.shown());
        self.stream.set_read_timeout(Some(left)).expect("the time left is not zero");
        let mut buffer = vec![0; bytes_max];
        match self.stream.read(&mut buffer) {
            Ok(0) => Fill::End,
            Ok(length) => {
                self.unread.extend_from_slice(&buffer[..length]);
                Fill::More
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("nothing came within {PATIENCE:?}; unread: {:?}", self.shown())
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Fill::More,
            Err(_) => Fill::End,
        }
    }

    /// Gives the peer [`PATIENCE`] again.
    pub fn renew_deadline(&mut self) {
        self.deadline = Instant::now() + PATIENCE;
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.unread[..self.unread.len().min(200)]).into_owned()
    }
}
