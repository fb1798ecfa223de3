//! The floor: what fan-out and echo cost when nothing is there but `epoll` and `send`.
//!
//! An honest best effort for this one work: edge-triggered readiness, one read buffer, unmasking in place, and one
//! `send` per subscriber for all that one read of the publisher brought. No limits, no timers, no protocol.

use std::io::{self, ErrorKind, Read, Write};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};

use crate::load::link::ACCEPT;

const LISTENER: Token = Token(usize::MAX);
const PARENT: Token = Token(usize::MAX - 1);

/// Serves until the process ends, or the pipe on stdin does.
pub fn serve(mut listener: TcpListener) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    watch_parent(poll.registry());
    let mut floor = Floor { peers: Vec::new(), subscribers: Vec::new(), out: Vec::new() };
    let mut scratch = vec![0; 64 * 1024];
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &events {
            match event.token() {
                LISTENER => floor.accept(&listener, poll.registry())?,
                PARENT => return Ok(()),
                Token(key) => floor.ready(key, &mut scratch),
            }
        }
    }
}

/// The benchmark holds our stdin: when it dies, however it dies, we end too.
#[cfg(unix)]
fn watch_parent(registry: &Registry) {
    let mut stdin = mio::unix::SourceFd(&0);
    // A file or /dev/null cannot be watched, and need not be: then a person started us.
    let _ = registry.register(&mut stdin, PARENT, Interest::READABLE);
}

#[cfg(not(unix))]
fn watch_parent(_: &Registry) {}

struct Floor {
    peers: Vec<Option<Peer>>,
    subscribers: Vec<usize>,
    /// Server frames on their way, reused.
    out: Vec<u8>,
}

struct Peer {
    socket: TcpStream,
    role: Role,
    tail: Vec<u8>,
    unsent: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Upgrading,
    Subscriber,
    Publisher,
    Echo,
}

/// The peer is gone or not worth keeping.
struct Gone;

impl Floor {
    fn accept(&mut self, listener: &TcpListener, registry: &Registry) -> io::Result<()> {
        loop {
            match listener.accept() {
                Ok((mut socket, _)) => {
                    socket.set_nodelay(true)?;
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    registry.register(&mut socket, Token(self.peers.len()), interest)?;
                    let role = Role::Upgrading;
                    self.peers.push(Some(Peer { socket, role, tail: Vec::new(), unsent: Vec::new() }));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn ready(&mut self, key: usize, scratch: &mut [u8]) {
        if self.serve_peer(key, scratch).is_err() {
            self.peers[key] = None;
            self.subscribers.retain(|&subscriber| subscriber != key);
        }
    }

    fn serve_peer(&mut self, key: usize, scratch: &mut [u8]) -> Result<(), Gone> {
        let Some(peer) = &mut self.peers[key] else { return Ok(()) };
        if !peer.unsent.is_empty() {
            peer.send(&[])?;
        }
        loop {
            let Some(peer) = &mut self.peers[key] else { return Ok(()) };
            let kept = peer.tail.len();
            scratch[..kept].copy_from_slice(&peer.tail);
            let count = match peer.socket.read(&mut scratch[kept..]) {
                Ok(0) => return Err(Gone),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(Gone),
            };
            // A short read has emptied the socket.
            let emptied = kept + count < scratch.len();
            self.take(key, &mut scratch[..kept + count])?;
            if emptied {
                return Ok(());
            }
        }
    }

    fn take(&mut self, key: usize, bytes: &mut [u8]) -> Result<(), Gone> {
        let Some(peer) = &mut self.peers[key] else { return Ok(()) };
        if peer.role == Role::Upgrading {
            peer.upgrade(bytes)?;
            if peer.role == Role::Subscriber {
                self.subscribers.push(key);
            }
            return Ok(());
        }
        self.out.clear();
        let used = translate(bytes, &mut self.out)?;
        peer.tail.clear();
        peer.tail.extend_from_slice(&bytes[used..]);
        if self.out.is_empty() {
            return Ok(());
        }
        match peer.role {
            Role::Echo => peer.send(&self.out),
            Role::Publisher => {
                self.fan_out();
                Ok(())
            }
            Role::Subscriber | Role::Upgrading => Ok(()),
        }
    }

    fn fan_out(&mut self) {
        for &key in &self.subscribers {
            if let Some(peer) = &mut self.peers[key] {
                // Whoever is gone is found so by its own readiness event.
                let _ = peer.send(&self.out);
            }
        }
    }
}

impl Peer {
    /// Answers the opening handshake of the load, which is the same for every client.
    fn upgrade(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        if !bytes.ends_with(b"\r\n\r\n") {
            self.tail = bytes.to_vec();
            return Ok(());
        }
        self.tail.clear();
        self.role = match bytes.split(|&byte| byte == b' ').nth(1) {
            Some(b"/subscribe") => Role::Subscriber,
            Some(b"/publish") => Role::Publisher,
            Some(b"/echo") => Role::Echo,
            _ => return Err(Gone),
        };
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
        );
        self.send(answer.as_bytes())
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        if self.unsent.is_empty() {
            let sent = self.write(bytes)?;
            if sent < bytes.len() {
                self.unsent.extend_from_slice(&bytes[sent..]);
            }
            return Ok(());
        }
        self.unsent.extend_from_slice(bytes);
        let unsent = std::mem::take(&mut self.unsent);
        let sent = self.write(&unsent)?;
        self.unsent.extend_from_slice(&unsent[sent..]);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<usize, Gone> {
        match self.socket.write(bytes) {
            Ok(sent) => Ok(sent),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            Err(_) => Err(Gone),
        }
    }
}

/// Turns each whole client frame into a server frame in `out`; returns how many bytes were used.
fn translate(bytes: &mut [u8], out: &mut Vec<u8>) -> Result<usize, Gone> {
    let mut used = 0;
    loop {
        let rest = &mut bytes[used..];
        let (start, length) = match rest {
            [_, second, ..] if *second & 0x7f < 126 => (6, usize::from(*second & 0x7f)),
            [_, 0xfe, high, low, ..] => (8, usize::from(u16::from_be_bytes([*high, *low]))),
            [_, 0xff, ..] => return Err(Gone),
            _ => return Ok(used),
        };
        if rest.len() < start + length {
            return Ok(used);
        }
        let (first, second) = (rest[0], rest[1] & 0x7f);
        let (head, body) = rest.split_at_mut(start);
        let mask = [head[start - 4], head[start - 3], head[start - 2], head[start - 1]];
        unmask(&mut body[..length], mask);
        if matches!(first, 0x81 | 0x82) {
            out.extend_from_slice(&[first, second]);
            out.extend_from_slice(&head[2..start - 4]);
            out.extend_from_slice(&body[..length]);
        }
        used += start + length;
    }
}

/// Eight bytes at a time (RFC 6455, 5.3).
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let wide = u64::from_ne_bytes([mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3]]);
    let (chunks, rest) = payload.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::frames::{self, Opcode};

    #[test]
    fn each_client_frame_becomes_the_same_server_frame() {
        let mut bytes = Vec::new();
        let payloads = [vec![b'a'; 3], vec![b'b'; 128], vec![b'c'; 300]];
        for payload in &payloads {
            frames::masked(Opcode::Text, payload, &mut bytes);
        }
        let whole = bytes.len();
        frames::masked(Opcode::Text, b"cut short", &mut bytes);
        let end = bytes.len() - 1;
        let mut out = Vec::new();
        assert_eq!(translate(&mut bytes[..end], &mut out).ok(), Some(whole));
        let mut at = 0;
        for payload in &payloads {
            let (frame, length) = frames::first(&out[at..]).expect("readable").expect("whole");
            assert_eq!(frame.payload, payload);
            at += length;
        }
        assert_eq!(at, out.len());
    }
}
