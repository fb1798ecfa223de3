//! One WebSocket connection of the load: its socket, how far its handshake is, and whole messages.

use std::io::{ErrorKind, Read, Write};

use mio::net::TcpStream;

use super::frames::{self, Opcode};
use crate::failure::Failure;

/// Where every connection reads into: longer than any frame that a server sends here.
pub struct Scratch {
    bytes: Vec<u8>,
    /// What has been read and not yet taken.
    unread: std::ops::Range<usize>,
}

impl Scratch {
    pub fn new(length: usize) -> Self {
        Self { bytes: vec![0; length], unread: 0..0 }
    }
}

/// What a connection hears.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// The server has agreed to speak WebSocket.
    Upgraded,
    Text(&'a [u8]),
}

/// Whether there may be more to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Socket {
    Full,
    Empty,
}

/// One WebSocket connection.
pub struct Link {
    pub socket: TcpStream,
    path: &'static str,
    stage: Stage,
    /// The start of a frame whose end has not arrived.
    tail: Vec<u8>,
    /// What the socket had no room for.
    unsent: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Connecting,
    Upgrading,
    Open,
}

impl Link {
    /// On a socket that is connecting.
    pub fn new(socket: TcpStream, path: &'static str) -> Self {
        Self { socket, path, stage: Stage::Connecting, tail: Vec::new(), unsent: Vec::new() }
    }

    /// The socket may have become readable or writable: sends what waits and reads once. Then [`Link::next`] has what
    /// was read, to the end, before the scratch is another's.
    pub fn advance(&mut self, scratch: &mut Scratch) -> Result<Socket, Failure> {
        if self.stage == Stage::Connecting {
            if !self.is_connected()? {
                return Ok(Socket::Empty);
            }
            self.stage = Stage::Upgrading;
            self.unsent.extend_from_slice(upgrade_request(self.path).as_bytes());
        }
        self.flush()?;
        self.read(scratch)
    }

    /// The next whole message of what was read. Pings are answered on the way.
    pub fn next<'s>(&mut self, scratch: &'s mut Scratch) -> Result<Option<Message<'s>>, Failure> {
        if self.stage == Stage::Upgrading {
            let Some(head) = upgraded(&scratch.bytes[scratch.unread.clone()])? else {
                return self.keep(scratch);
            };
            scratch.unread.start += head;
            self.stage = Stage::Open;
            return Ok(Some(Message::Upgraded));
        }
        loop {
            let start = scratch.unread.start;
            let next = frames::first(&scratch.bytes[scratch.unread.clone()])
                .map_err(|start| Failure::Misbehaved(format!("a frame that starts with {:02x?}", start.0)))?;
            let Some((frame, length)) = next else { return self.keep(scratch) };
            scratch.unread.start += length;
            match frame.opcode {
                Opcode::Text => {
                    let payload = length - frame.payload.len();
                    return Ok(Some(Message::Text(&scratch.bytes[start + payload..start + length])));
                }
                Opcode::Ping => {
                    frames::masked(Opcode::Pong, frame.payload, &mut self.unsent);
                    self.flush()?;
                }
                Opcode::Close => return Err(Failure::Disconnected { how: close_reason(frame.payload) }),
                Opcode::Pong | Opcode::Binary => return Err(strange(frame.payload)),
            }
        }
    }

    /// Sends a text message.
    pub fn say(&mut self, text: &[u8]) -> Result<(), Failure> {
        frames::masked(Opcode::Text, text, &mut self.unsent);
        self.flush()
    }

    /// Sends several text messages in one write.
    pub fn say_all(&mut self, texts: impl IntoIterator<Item = Vec<u8>>) -> Result<(), Failure> {
        for text in texts {
            frames::masked(Opcode::Text, &text, &mut self.unsent);
        }
        self.flush()
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

    fn read(&mut self, scratch: &mut Scratch) -> Result<Socket, Failure> {
        let kept = self.tail.len();
        scratch.bytes[..kept].copy_from_slice(&self.tail);
        scratch.unread = 0..kept;
        let room = scratch.bytes.len() - kept;
        loop {
            match self.socket.read(&mut scratch.bytes[kept..]) {
                Ok(0) if room == 0 => return Err(Failure::Misbehaved("a frame without end".into())),
                Ok(0) => return Err(Failure::Disconnected { how: "end of stream".into() }),
                Ok(count) => {
                    scratch.unread.end = kept + count;
                    // A short read has emptied the socket; the next edge tells of more.
                    return Ok(if count < room { Socket::Empty } else { Socket::Full });
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Socket::Empty),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Failure::Disconnected { how: error.to_string() }),
            }
        }
    }

    /// What is left waits for the rest of it.
    fn keep<'s>(&mut self, scratch: &mut Scratch) -> Result<Option<Message<'s>>, Failure> {
        self.tail.clear();
        self.tail.extend_from_slice(&scratch.bytes[scratch.unread.clone()]);
        Ok(None)
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

/// A message that makes no sense here.
pub fn strange(payload: &[u8]) -> Failure {
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
