//! One TCP connection of the load: what it still has to send, and what of its bytes waits for the rest.

use std::io::{ErrorKind, Read, Write};
use std::ops::Range;

use mio::net::TcpStream;

use crate::failure::Failure;

/// Where every connection reads into: longer than anything that a server sends here.
pub struct Scratch {
    bytes: Vec<u8>,
    /// What has been read and not yet taken.
    unread: Range<usize>,
}

impl Scratch {
    pub fn new(length: usize) -> Self {
        Self { bytes: vec![0; length], unread: 0..0 }
    }

    /// What has been read and not yet taken.
    pub fn unread(&self) -> &[u8] {
        &self.bytes[self.unread.clone()]
    }

    /// Takes the first `length` of the unread bytes. Says where they stand.
    pub fn take(&mut self, length: usize) -> Range<usize> {
        let start = self.unread.start;
        self.unread.start += length;
        start..start + length
    }

    /// The bytes that stand there.
    pub fn at(&self, range: Range<usize>) -> &[u8] {
        &self.bytes[range]
    }
}

/// Whether there may be more to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Socket {
    Full,
    Empty,
}

/// One TCP connection.
pub struct Pipe {
    pub socket: TcpStream,
    stage: Stage,
    /// The start of something whose end has not arrived.
    tail: Vec<u8>,
    /// What the socket had no room for.
    unsent: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Connecting,
    Open,
}

impl Pipe {
    /// On a socket that is connecting; `first` is sent as soon as it is connected.
    pub fn new(socket: TcpStream, first: impl Into<Vec<u8>>) -> Self {
        Self { socket, stage: Stage::Connecting, tail: Vec::new(), unsent: first.into() }
    }

    /// The socket may have become readable or writable: sends what waits and reads once. What was read is to be taken, or
    /// kept with [`Pipe::keep`], before the scratch is another's.
    pub fn advance(&mut self, scratch: &mut Scratch) -> Result<Socket, Failure> {
        if self.stage == Stage::Connecting {
            if !self.is_connected()? {
                scratch.unread = 0..0;
                return Ok(Socket::Empty);
            }
            self.stage = Stage::Open;
        }
        self.flush()?;
        self.read(scratch)
    }

    /// Sends, or will as soon as there is room, what `write` appends.
    pub fn send(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), Failure> {
        write(&mut self.unsent);
        self.flush()
    }

    /// What is left waits for the rest of it.
    pub fn keep(&mut self, scratch: &Scratch) {
        self.tail.clear();
        self.tail.extend_from_slice(scratch.unread());
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
        while self.stage == Stage::Open && !self.unsent.is_empty() {
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
                Ok(0) if room == 0 => return Err(Failure::Misbehaved("a message without end".into())),
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
}
