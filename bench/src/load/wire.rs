//! What carries a client's messages, whatever they are.

use super::dialect::Dialect;
use super::link::{Link, Message};
use super::manner::Manner;
use super::pipe::{Scratch, Socket};
use super::requests::Requests;
use crate::failure::Failure;

/// How clients reach a server, which says how they speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    WebSocket(Dialect),
    Requests(Manner),
}

impl Transport {
    /// How clients speak.
    pub fn dialect(self) -> Dialect {
        match self {
            Self::WebSocket(dialect) => dialect,
            Self::Requests(manner) => manner.dialect(),
        }
    }
}

/// One client's connection, or two of them.
pub enum Wire {
    WebSocket(Link),
    Requests(Requests),
}

impl Wire {
    /// A socket may have become readable or writable: sends what waits and reads once.
    pub fn advance(&mut self, scratch: &mut Scratch) -> Result<Socket, Failure> {
        match self {
            Self::WebSocket(link) => link.advance(scratch),
            Self::Requests(requests) => requests.advance(scratch),
        }
    }

    /// The next whole message of what was read.
    pub fn next<'s>(&mut self, scratch: &'s mut Scratch) -> Result<Option<Message<'s>>, Failure> {
        match self {
            Self::WebSocket(link) => link.next(scratch),
            Self::Requests(requests) => requests.next(scratch),
        }
    }

    /// Says what it has got, where that needs a request of its own.
    pub fn acknowledgement(&self) -> Option<Vec<u8>> {
        match self {
            Self::WebSocket(_) => None,
            Self::Requests(requests) => requests.acknowledgement(),
        }
    }

    /// Sends several messages at once.
    pub fn say_all(&mut self, texts: impl IntoIterator<Item = Vec<u8>>) -> Result<(), Failure> {
        match self {
            Self::WebSocket(link) => link.say_all(texts),
            Self::Requests(requests) => requests.say_all(texts),
        }
    }
}
