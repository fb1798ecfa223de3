//! Where a session stands: what carries it, what a request or packet means now.

use super::{Packet, Refused, Transport, Version};

/// One session's course. A value without I/O or clock; what happens to its requests and sockets, it is told.
#[derive(Debug)]
pub struct Conversation {
    version: Version,
    stage: Stage,
    poll: Under,
    post: Under,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Polling,
    /// A WebSocket is being tried while polling goes on.
    Probing,
    WebSocket,
}

/// Whether a request is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Under {
    Way,
    NoWay,
}

/// Two requests of a kind at once: the session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overlap;

/// What a packet on a WebSocket that is being tried means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probed {
    /// Answer `3probe`, and see to it that the client's poll is answered.
    Answer,
    /// From now on the WebSocket carries the session.
    Switch,
    /// It is not what it should be: this WebSocket ends, and the session goes on as before.
    End,
}

/// What a packet of a client means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Received<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
    /// The answer to a heartbeat.
    Alive,
    /// In version 3 the client sends heartbeats, to be answered with this packet.
    Beat(&'static str),
    Ignored,
    /// The client has ended the session.
    Closed,
    /// The session must be closed: in version 4 only the server sends pings.
    Violation,
}

impl Conversation {
    /// A session that has just begun.
    pub fn new(version: Version, transport: Transport) -> Self {
        let stage = match transport {
            Transport::Polling => Stage::Polling,
            Transport::WebSocket => Stage::WebSocket,
        };
        Self { version, stage, poll: Under::NoWay, post: Under::NoWay }
    }

    /// The version spoken.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Whether the session is carried by polls.
    pub fn is_polled(&self) -> bool {
        self.stage != Stage::WebSocket
    }

    /// Whether a WebSocket is being tried.
    pub fn is_probed(&self) -> bool {
        self.stage == Stage::Probing
    }

    /// A request polls. It is to be answered when there is something.
    ///
    /// # Errors
    /// Another one does already: that one is answered with a close packet.
    pub fn poll(&mut self) -> Result<(), Overlap> {
        begin(&mut self.poll)
    }

    /// The poll is answered.
    pub fn polled(&mut self) {
        self.poll = Under::NoWay;
    }

    /// Whether a poll waits for an answer.
    pub fn is_waiting(&self) -> bool {
        self.poll == Under::Way
    }

    /// A request brings packets; its body is still to come.
    ///
    /// # Errors
    /// Another one does already.
    pub fn post(&mut self) -> Result<(), Overlap> {
        begin(&mut self.post)
    }

    /// All packets of the request were taken.
    pub fn posted(&mut self) {
        self.post = Under::NoWay;
    }

    /// A WebSocket for this session has come.
    ///
    /// # Errors
    /// One is there, or being tried.
    pub fn probe(&mut self) -> Result<(), Refused> {
        match self.stage {
            Stage::Polling => {
                self.stage = Stage::Probing;
                Ok(())
            }
            Stage::Probing | Stage::WebSocket => Err(Refused::BadRequest),
        }
    }

    /// A packet came on the WebSocket that is being tried.
    pub fn probed(&mut self, packet: Packet<'_>) -> Probed {
        match packet {
            Packet::Ping("probe") => Probed::Answer,
            Packet::Upgrade => {
                self.stage = Stage::WebSocket;
                Probed::Switch
            }
            _ => Probed::End,
        }
    }

    /// The WebSocket that was tried is gone, or took too long.
    pub fn probe_ended(&mut self) {
        if self.stage == Stage::Probing {
            self.stage = Stage::Polling;
        }
    }

    /// A packet came over what carries the session.
    pub fn receive<'a>(&self, packet: Packet<'a>) -> Received<'a> {
        match (packet, self.version) {
            (Packet::Text(text), _) => Received::Text(text),
            (Packet::Binary(bytes), _) => Received::Binary(bytes),
            (Packet::Pong, Version::V4) => Received::Alive,
            (Packet::Ping(_), Version::V3) => Received::Beat("3"),
            (Packet::Ping(_), Version::V4) => Received::Violation,
            (Packet::Close, _) => Received::Closed,
            (Packet::Pong, Version::V3) | (Packet::Open | Packet::Upgrade | Packet::Noop, _) => {
                Received::Ignored
            }
        }
    }
}

fn begin(under: &mut Under) -> Result<(), Overlap> {
    match std::mem::replace(under, Under::Way) {
        Under::NoWay => Ok(()),
        Under::Way => Err(Overlap),
    }
}
