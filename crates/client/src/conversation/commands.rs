//! Commands that wait to be sent, and those that wait to be answered.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use crate::{CommandError, End};

/// Commands that may be under way at once. A server allows more (`client.in_flight_max`), of which some are kept free for
/// subscriptions.
const IN_FLIGHT_MAX: usize = 64;
/// Commands that may wait to be sent; then those who ask must wait.
const WAITING_MAX: usize = 256;
/// Of `{"id":9007199254740991,` and a comma behind the command.
const ID_BYTES: usize = 25;
const BRACKETS_BYTES: usize = 2;

/// What came of a command: the object of its answer.
pub(crate) type Answer = Result<Box<RawValue>, CommandError>;
/// Who waits for an answer.
pub(crate) type Asker = oneshot::Sender<Answer>;

/// A command without its id.
#[derive(Debug)]
pub(crate) struct Command {
    /// What comes behind the id: `"publish":{…}}`.
    tail: String,
}

impl Command {
    pub fn new(kind: &str, body: &impl Serialize) -> Self {
        let body = serde_json::to_string(body).expect("bodies of commands are maps of JSON values");
        Self { tail: format!("\"{kind}\":{body}}}") }
    }

    /// As long as it can become, alone in a message.
    pub fn bytes(&self) -> usize {
        self.tail.len() + ID_BYTES
    }
}

/// Why a command was sent.
#[derive(Debug)]
pub(crate) enum Purpose {
    Caller(Asker),
    Connect,
    Refresh,
    Subscribe {
        channel: Box<str>,
        turn: u64,
    },
    /// Nobody waits for the answer.
    Silent,
}

#[derive(Debug)]
pub(crate) struct Waiting {
    command: Command,
    purpose: Purpose,
    /// When it has waited long enough. Without, it belongs to this connection and ends with it.
    expires: Option<Instant>,
}

/// Ids count up for as long as the client lives, so that a late answer cannot be taken for another's.
#[derive(Debug, Default)]
pub(crate) struct Commands {
    last_id: u64,
    waiting: VecDeque<Waiting>,
    sent: BTreeMap<u64, Purpose>,
}

impl Commands {
    pub fn push(&mut self, command: Command, purpose: Purpose, expires: Option<Instant>) {
        self.waiting.push_back(Waiting { command, purpose, expires });
    }

    pub fn has_room(&self) -> bool {
        self.waiting.len() < WAITING_MAX
    }

    /// All that waits, until [`put_back`](Self::put_back).
    pub fn set_aside(&mut self) -> VecDeque<Waiting> {
        std::mem::take(&mut self.waiting)
    }

    pub fn put_back(&mut self, waiting: VecDeque<Waiting>) {
        self.waiting.extend(waiting);
    }

    /// As long as a message with the first command alone can be.
    pub fn first_bytes(&self) -> usize {
        self.waiting.front().map_or(0, |waiting| waiting.command.bytes() + BRACKETS_BYTES)
    }

    /// As many of the commands that wait as go into one message, and the id of the first.
    pub fn next(&mut self, bytes_max: usize) -> Option<(u64, String)> {
        self.refuse_too_long(bytes_max);
        let first_id = self.last_id + 1;
        let (mut message, mut bytes) = (String::from("["), BRACKETS_BYTES);
        while let Some(waiting) = self.waiting.front()
            && self.sent.len() < IN_FLIGHT_MAX
            && (bytes + waiting.command.bytes() <= bytes_max || message.len() == 1)
            && let Some(waiting) = self.waiting.pop_front()
        {
            bytes += waiting.command.bytes();
            self.last_id += 1;
            self.sent.insert(self.last_id, waiting.purpose);
            message.push_str(&format!("{{\"id\":{},{},", self.last_id, waiting.command.tail));
            self.refuse_too_long(bytes_max);
        }
        message.pop();
        match self.last_id + 1 - first_id {
            0 => None,
            1 => Some((first_id, message.split_off(1))),
            _ => Some((first_id, message + "]")),
        }
    }

    /// Who asked for something that the server does not take is told so, and stands in nobody's way. What nobody waits for,
    /// such as a token that is too long, is for the server to refuse.
    fn refuse_too_long(&mut self, bytes_max: usize) {
        while let Some(Waiting { command, purpose: Purpose::Caller(_), .. }) = self.waiting.front()
            && command.bytes() + BRACKETS_BYTES > bytes_max
            && let Some(Waiting { command, purpose: Purpose::Caller(asker), .. }) = self.waiting.pop_front()
        {
            let error = CommandError::TooLong { bytes: command.bytes() + BRACKETS_BYTES, bytes_max };
            drop(asker.send(Err(error)));
        }
    }

    /// What the command with this id was sent for. An answer of an earlier connection finds nothing.
    pub fn answered(&mut self, id: u64) -> Option<Purpose> {
        self.sent.remove(&id)
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.waiting.iter().find_map(|waiting| waiting.expires)
    }

    /// Those that have waited too long, which was `within`, are not sent any more.
    pub fn expire(&mut self, now: Instant, within: Duration) {
        let late = |waiting: &mut Waiting| waiting.expires.is_some_and(|expires| expires <= now);
        let mut kept = VecDeque::new();
        for mut waiting in self.waiting.drain(..) {
            match (late(&mut waiting), waiting.purpose) {
                (true, Purpose::Caller(asker)) => drop(asker.send(Err(CommandError::Timeout { within }))),
                (_, purpose) => kept.push_back(Waiting { purpose, ..waiting }),
            }
        }
        self.waiting = kept;
    }

    /// The connection is over. What belonged to it is over too; the rest waits for the next.
    pub fn lost(&mut self, end: &End) {
        for purpose in std::mem::take(&mut self.sent).into_values() {
            if let Purpose::Caller(asker) = purpose {
                drop(asker.send(Err(CommandError::Unknown(end.clone()))));
            }
        }
        self.waiting.retain(|waiting| waiting.expires.is_some());
    }

    /// Nothing that waits will be sent.
    pub fn fail(&mut self, end: &End) {
        for waiting in self.waiting.drain(..) {
            if let Purpose::Caller(asker) = waiting.purpose {
                drop(asker.send(Err(CommandError::Closed(end.clone()))));
            }
        }
    }
}
