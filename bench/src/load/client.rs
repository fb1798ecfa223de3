//! One client of a race: what it is there for, and which publication it is due.

use super::dialect::{Dialect, Greeting, Heard, Role};
use super::link::{Message, strange};
use super::pipe::{Scratch, Socket};
use super::wire::Wire;
use crate::failure::Failure;

/// What is done with a delivery. The client is given to answer on.
pub trait Listener: FnMut(&mut Client, u64) -> Result<(), Failure> {}
impl<F: FnMut(&mut Client, u64) -> Result<(), Failure>> Listener for F {}

/// A client in one role.
pub struct Client {
    wire: Wire,
    dialect: Dialect,
    role: Role,
    stage: Stage,
    /// The number of the delivery that comes next.
    due: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Greeting,
    Ready,
}

impl Client {
    /// A client on a wire that is connecting.
    pub fn new(wire: Wire, dialect: Dialect, role: Role) -> Self {
        Self { wire, dialect, role, stage: Stage::Greeting, due: 0 }
    }

    /// Connected, in conversation and, where the protocol has it, subscribed.
    pub fn is_ready(&self) -> bool {
        self.stage == Stage::Ready
    }

    /// The socket may have become readable or writable: does all that can be done now.
    pub fn advance(&mut self, scratch: &mut Scratch, listener: &mut impl Listener) -> Result<(), Failure> {
        loop {
            let socket = self.wire.advance(scratch)?;
            while let Some(message) = self.wire.next(scratch)? {
                self.take(&message, listener)?;
            }
            if socket == Socket::Empty {
                return Ok(());
            }
        }
    }

    /// Says what it has got, where that needs a request of its own.
    pub fn acknowledgement(&self) -> Option<Vec<u8>> {
        self.wire.acknowledgement()
    }

    /// Says message `sequence` in the words of its role: publishes, or asks for an echo.
    pub fn say(&mut self, sequence: u64) -> Result<(), Failure> {
        self.say_all(sequence..sequence + 1)
    }

    /// Says several messages in one write.
    pub fn say_all(&mut self, sequences: std::ops::Range<u64>) -> Result<(), Failure> {
        let (dialect, role) = (self.dialect, self.role);
        self.wire.say_all(sequences.map(|sequence| dialect.speech(role, sequence)))
    }

    fn take(&mut self, message: &Message<'_>, listener: &mut impl Listener) -> Result<(), Failure> {
        match message {
            Message::Open => self.greeted(self.dialect.opening(self.role), b""),
            Message::Said(text) if self.is_ready() => self.heard(text, listener),
            Message::Said(text) => self.greeted(self.dialect.greet(self.role, text), text),
        }
    }

    fn greeted(&mut self, greeting: Greeting, text: &[u8]) -> Result<(), Failure> {
        match greeting {
            Greeting::Wait => Ok(()),
            Greeting::Say(words) => self.wire.say_all([words.to_vec()]),
            Greeting::Ready => {
                self.stage = Stage::Ready;
                Ok(())
            }
            Greeting::Strange => Err(strange(text)),
        }
    }

    /// Everything in one message, which is more than one thing where the dialect has it so.
    fn heard(&mut self, said: &[u8], listener: &mut impl Listener) -> Result<(), Failure> {
        let mut rest = said;
        loop {
            let (text, after) = self.dialect.split(rest).ok_or_else(|| strange(rest))?;
            self.heard_one(text, listener)?;
            if after.is_empty() {
                return Ok(());
            }
            rest = after;
        }
    }

    fn heard_one(&mut self, text: &[u8], listener: &mut impl Listener) -> Result<(), Failure> {
        match self.dialect.hear(self.role, text) {
            Heard::Delivery(sequence) if sequence == self.due => {
                self.due += 1;
                listener(self, sequence)
            }
            Heard::Delivery(got) => Err(Failure::OutOfOrder { expected: self.due, got }),
            Heard::Heartbeat(answer) => self.wire.say_all([answer.to_vec()]),
            Heard::Strange => Err(strange(text)),
        }
    }
}
