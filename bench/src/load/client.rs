//! One client: its socket, how far its handshake is, and which publication it is due.

use std::io::{ErrorKind, Read, Write};

use mio::net::TcpStream;

use super::dialect::{Dialect, Greeting, Heard, Role};
use super::frames::{self, Frame, Opcode};
use crate::failure::Failure;

/// What is done with a delivery. The client is given to answer on.
pub trait Listener: FnMut(&mut Client, u64) -> Result<(), Failure> {}
impl<F: FnMut(&mut Client, u64) -> Result<(), Failure>> Listener for F {}

/// One WebSocket connection of the load.
pub struct Client {
    pub socket: TcpStream,
    dialect: Dialect,
    role: Role,
    stage: Stage,
    /// The number of the delivery that comes next.
    due: u64,
    /// The start of a frame whose end has not arrived.
    tail: Vec<u8>,
    /// What the socket had no room for.
    unsent: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Connecting,
    Upgrading,
    Greeting,
    Ready,
}

impl Client {
    /// A client on a socket that is connecting.
    pub fn new(socket: TcpStream, dialect: Dialect, role: Role) -> Self {
        let stage = Stage::Connecting;
        Self { socket, dialect, role, stage, due: 0, tail: Vec::new(), unsent: Vec::new() }
    }

    /// Connected, upgraded and, where the protocol has it, subscribed.
    pub fn is_ready(&self) -> bool {
        self.stage == Stage::Ready
    }

    /// The socket may have become readable or writable: does all that can be done now.
    pub fn advance(&mut self, scratch: &mut [u8], listener: &mut impl Listener) -> Result<(), Failure> {
        if self.stage == Stage::Connecting {
            if !self.is_connected()? {
                return Ok(());
            }
            self.stage = Stage::Upgrading;
            let request = upgrade_request(self.dialect.path(self.role));
            self.send(request.as_bytes())?;
        }
        self.flush()?;
        self.read(scratch, listener)
    }

    /// Says message `sequence` in the words of its role: publishes, or asks for an echo.
    pub fn say(&mut self, sequence: u64) -> Result<(), Failure> {
        self.say_all(sequence..sequence + 1)
    }

    /// Says several messages in one write.
    pub fn say_all(&mut self, sequences: std::ops::Range<u64>) -> Result<(), Failure> {
        let mut bytes = Vec::new();
        for sequence in sequences {
            frames::masked(Opcode::Text, &self.dialect.speech(self.role, sequence), &mut bytes);
        }
        self.send(&bytes)
    }

    fn is_connected(&self) -> Result<bool, Failure> {
        if let Some(error) = self.socket.take_error().map_err(Failure::io("cannot connect"))? {
            return Err(Failure::io("cannot connect")(error));
        }
        match self.socket.peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(Failure::io("cannot connect")(error)),
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.unsent.extend_from_slice(bytes);
        self.flush()
    }

    fn flush(&mut self) -> Result<(), Failure> {
        while !self.unsent.is_empty() {
            match self.socket.write(&self.unsent) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Failure::Disconnected { how: error.to_string() }),
            }
        }
        Ok(())
    }

    fn read(&mut self, scratch: &mut [u8], listener: &mut impl Listener) -> Result<(), Failure> {
        loop {
            let kept = self.tail.len();
            scratch[..kept].copy_from_slice(&self.tail);
            let room = scratch.len() - kept;
            match self.socket.read(&mut scratch[kept..]) {
                Ok(0) if room == 0 => return Err(Failure::Misbehaved("a frame without end".into())),
                Ok(0) => return Err(Failure::Disconnected { how: "end of stream".into() }),
                Ok(count) => {
                    let bytes = &scratch[..kept + count];
                    let used = self.take(bytes, listener)?;
                    self.tail.clear();
                    self.tail.extend_from_slice(&bytes[used..]);
                    // A short read has emptied the socket; the next edge tells of more.
                    if count < room {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Failure::Disconnected { how: error.to_string() }),
            }
        }
    }

    /// Takes what is complete in `bytes`; returns how much that was.
    fn take(&mut self, bytes: &[u8], listener: &mut impl Listener) -> Result<usize, Failure> {
        let mut used = 0;
        if self.stage == Stage::Upgrading {
            let Some(head) = upgraded(bytes)? else { return Ok(0) };
            used = head;
            self.stage = Stage::Greeting;
            let opening = self.dialect.opening(self.role);
            self.greeted(opening, b"")?;
        }
        loop {
            let next = frames::first(&bytes[used..])
                .map_err(|start| Failure::Misbehaved(format!("a frame that starts with {:02x?}", start.0)))?;
            let Some((frame, length)) = next else { return Ok(used) };
            used += length;
            self.frame(&frame, listener)?;
        }
    }

    fn frame(&mut self, frame: &Frame<'_>, listener: &mut impl Listener) -> Result<(), Failure> {
        match frame.opcode {
            Opcode::Text if self.stage == Stage::Ready => self.heard(frame.payload, listener),
            Opcode::Text => {
                let greeting = self.dialect.greet(self.role, frame.payload);
                self.greeted(greeting, frame.payload)
            }
            Opcode::Ping => {
                let mut pong = Vec::new();
                frames::masked(Opcode::Pong, frame.payload, &mut pong);
                self.send(&pong)
            }
            Opcode::Close => Err(Failure::Disconnected { how: close_reason(frame.payload) }),
            Opcode::Pong | Opcode::Binary => Err(strange(frame.payload)),
        }
    }

    fn greeted(&mut self, greeting: Greeting, text: &[u8]) -> Result<(), Failure> {
        match greeting {
            Greeting::Wait => Ok(()),
            Greeting::Say(words) => self.send_text(words),
            Greeting::Ready => {
                self.stage = Stage::Ready;
                Ok(())
            }
            Greeting::Strange => Err(strange(text)),
        }
    }

    fn heard(&mut self, text: &[u8], listener: &mut impl Listener) -> Result<(), Failure> {
        match self.dialect.hear(self.role, text) {
            Heard::Delivery(sequence) if sequence == self.due => {
                self.due += 1;
                listener(self, sequence)
            }
            Heard::Delivery(got) => Err(Failure::OutOfOrder { expected: self.due, got }),
            Heard::Heartbeat(answer) => self.send_text(answer),
            Heard::Strange => Err(strange(text)),
        }
    }

    fn send_text(&mut self, text: &str) -> Result<(), Failure> {
        let mut frame = Vec::new();
        frames::masked(Opcode::Text, text.as_bytes(), &mut frame);
        self.send(&frame)
    }
}

/// RFC 6455, 1.3: the sample nonce, the same for all clients, and the answer it has to get.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// RFC 6455, 4.1: the opening handshake.
pub fn upgrade_request(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    )
}

/// The length of the head of the answer, once it is whole.
fn upgraded(bytes: &[u8]) -> Result<Option<usize>, Failure> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = String::from_utf8_lossy(&bytes[..end]);
    if head.starts_with("HTTP/1.1 101 ") && head.contains(ACCEPT) {
        return Ok(Some(end + 4));
    }
    Err(Failure::Misbehaved(format!("no upgrade: {head}")))
}

fn strange(payload: &[u8]) -> Failure {
    let text: String = String::from_utf8_lossy(payload).chars().take(200).collect();
    Failure::Misbehaved(format!("unexpected message {text}"))
}

fn close_reason(payload: &[u8]) -> String {
    match payload {
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            format!("close {code} {}", String::from_utf8_lossy(reason))
        }
        _ => "close without a code".into(),
    }
}
