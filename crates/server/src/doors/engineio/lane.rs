//! A session's way to its client, where several sessions share one connection.

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;
use duplex_core::{CloseReason, FrameQueue, Heartbeat, Link, Message, Return, Written};
use duplex_protocol::socketio::is_fault;

use super::Connection;

/// The connection's own session; others have the numbers that their socket has.
pub(super) const OWN: u32 = 0;

/// The link of one of a connection's sessions.
pub(crate) struct Lane {
    connection: Rc<Connection>,
    number: u32,
    stage: Cell<Stage>,
}

/// How far a session has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It is not known who the client is.
    Stranger,
    Admitted,
    /// When all that waits is out, the session ends, and perhaps its connection.
    Closing(Ending),
    Ended,
}

/// What ends with a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Only the session: the client goes on with others.
    Session,
    /// The connection, for this reason.
    Connection(&'static CloseReason),
}

impl Lane {
    /// The link of session `number`.
    pub fn new(connection: &Rc<Connection>, number: u32) -> Rc<Self> {
        Rc::new(Self { connection: Rc::clone(connection), number, stage: Cell::new(Stage::Stranger) })
    }

    /// Nothing waits any more, or it will never go out.
    fn end(&self) {
        if let Stage::Closing(ending) = self.stage.get() {
            self.stage.set(Stage::Ended);
            self.connection.end_later(self.number, ending);
        }
    }

    /// What a reason to close means for the others: whoever is to stay away from one namespace may stay in another.
    fn ending(&self, reason: &'static CloseReason) -> Ending {
        let is_alone = self.stage.get() == Stage::Stranger
            || *reason == CloseReason::GOING_AWAY
            || reason.then == Return::Stay;
        match self.number {
            OWN => Ending::Connection(reason),
            _ if *reason == CloseReason::RESTART || is_fault(reason) => Ending::Connection(reason),
            _ if is_alone => Ending::Session,
            _ => Ending::Connection(reason),
        }
    }
}

impl Link for Lane {
    fn frame(&self, message: Message) -> Bytes {
        self.connection.frame(&message)
    }

    fn heartbeat(&self) -> Heartbeat {
        match self.number {
            OWN => self.connection.heartbeat(),
            _ => Heartbeat::Comment(Bytes::new()),
        }
    }

    fn write(&self, queue: &mut FrameQueue) -> Written {
        let written = self.connection.write(self.number, queue);
        if written == Written::All {
            self.end();
        }
        written
    }

    fn farewell(&self, reason: &'static CloseReason, detail: &str) -> Option<Bytes> {
        let ending = self.ending(reason);
        self.stage.set(Stage::Closing(ending));
        if self.number == OWN { self.connection.farewell(reason, detail) } else { None }
    }

    fn abort(&self) {
        if self.number == OWN || self.connection.is_interrupted_by(self.number) {
            self.connection.abort();
        }
        self.end();
    }

    fn admitted(&self) {
        self.stage.set(Stage::Admitted);
        self.connection.admitted(self.number);
    }
}
