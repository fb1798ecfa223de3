//! Socket.IO, protocol version 5 (<https://socket.io/docs/v4/socket-io-protocol/>), and version 4 for clients of Socket.IO 2:
//! namespaces, events and acknowledgements over Engine.IO messages.
//!
//! A connection carries a [`Socket`] for each namespace that its client is connected to. [`Sockets`] tells to which of them
//! a packet belongs.
//!
//! Socket.IO has no words for channels, so clients use events whose names begin with `$`: see `docs/socketio.md`.

mod attachments;
mod event;
mod namespace;
mod packet;
mod socket;
mod sockets;

pub use event::{Part, Shape, Stamp, Within, presence, publication};
pub use namespace::Namespace;
pub use packet::Breach;
pub use socket::{Introduction, Refused, RefusedData, Returning, Seen, Socket, is_fault, parse_stamp};
pub use sockets::{Lane, Routed, Sockets};

use duplex_core::{Answer, Command, Frame, Protocol, Step, Steps, Ticket};

/// How packets are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As text, with binary data in messages of its own behind it.
    Text,
    /// As MessagePack, by `socket.io-msgpack-parser`.
    MessagePack,
}

/// The protocol's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Version 4, of Socket.IO 2: the client is connected to `/` without asking.
    V4,
    /// Version 5, of Socket.IO 3 and 4.
    V5,
}

/// The protocol of a connection's own session, whose messages all belong to sockets.
#[derive(Debug)]
pub struct Quiet;

impl Protocol for Quiet {
    fn open(&mut self, steps: &mut Steps) {
        steps.push_back(Step::Ask(Ticket::OWN, Command::Connect { token: None, hello: None }));
    }

    fn receive(&mut self, _: Frame<'_>, _: &mut Steps) {}

    fn answer(&mut self, _: Ticket, _: Answer, _: &mut Steps) {}
}

#[cfg(test)]
mod tests;
