//! One WebSocket connection of the load: how far its handshake is, and whole messages.

use mio::net::TcpStream;

use super::frames::{self, Opcode};
use super::pipe::{Pipe, Scratch, Socket};
use crate::failure::Failure;

/// What a client hears.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// It may speak: the server has agreed to speak WebSocket, or has opened a session.
    Open,
    /// What the server says, in frames of the kind that the link is for.
    Said(&'a [u8]),
}

/// One WebSocket connection.
pub struct Link {
    pub pipe: Pipe,
    /// How many it has answered.
    pub pings: u64,
    kind: Opcode,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Upgrading,
    Open,
}

impl Link {
    /// On a socket that is connecting, for text.
    pub fn new(socket: TcpStream, path: &str) -> Self {
        Self::of(Opcode::Text, socket, path)
    }

    /// The same for frames of this kind, both ways.
    pub fn of(kind: Opcode, socket: TcpStream, path: &str) -> Self {
        Self { pipe: Pipe::new(socket, upgrade_request(path)), pings: 0, kind, stage: Stage::Upgrading }
    }

    /// The socket may have become readable or writable: sends what waits and reads once. Then [`Link::next`] has what
    /// was read, to the end, before the scratch is another's.
    pub fn advance(&mut self, scratch: &mut Scratch) -> Result<Socket, Failure> {
        self.pipe.advance(scratch)
    }

    /// The next whole message of what was read. Pings are answered on the way.
    pub fn next<'s>(&mut self, scratch: &'s mut Scratch) -> Result<Option<Message<'s>>, Failure> {
        if self.stage == Stage::Upgrading {
            let Some(head) = upgraded(scratch.unread())? else { return Ok(self.keep(scratch)) };
            scratch.take(head);
            self.stage = Stage::Open;
            return Ok(Some(Message::Open));
        }
        loop {
            let next = frames::first(scratch.unread())
                .map_err(|start| Failure::Misbehaved(format!("a frame that starts with {:02x?}", start.0)))?;
            let Some((frame, length)) = next else { return Ok(self.keep(scratch)) };
            match frame.opcode {
                // SignalR's answer to the handshake is text, whatever follows.
                kind if kind == self.kind || kind == Opcode::Text => {
                    let header = length - frame.payload.len();
                    let range = scratch.take(length);
                    return Ok(Some(Message::Said(scratch.at(range.start + header..range.end))));
                }
                Opcode::Ping => {
                    self.pipe.send(|out| frames::masked(Opcode::Pong, frame.payload, out))?;
                    self.pings += 1;
                    scratch.take(length);
                }
                Opcode::Close => return Err(Failure::Disconnected { how: close_reason(frame.payload) }),
                Opcode::Pong | Opcode::Text | Opcode::Binary => return Err(strange(frame.payload)),
            }
        }
    }

    /// Sends several messages in one write.
    pub fn say_all(&mut self, texts: impl IntoIterator<Item = Vec<u8>>) -> Result<(), Failure> {
        let kind = self.kind;
        self.pipe.send(|out| {
            for text in texts {
                frames::masked(kind, &text, out);
            }
        })
    }

    fn keep(&mut self, scratch: &Scratch) -> Option<Message<'static>> {
        self.pipe.keep(scratch);
        None
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
