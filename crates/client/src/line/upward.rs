//! A session's messages on their way up. Each is kept until it is known to have arrived: by the answer to its POST, by an
//! answer to one of its commands, or by what the next transport says.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use crate::backoff::jitter;
use crate::conversation::Outgoing;
use crate::{End, Times};

use super::{Posted, WRITES_MAX, WireId};

/// Frames that have arrived over a response are acknowledged when there are so many bytes of them.
const UNACKNOWLEDGED_BYTES_MAX: usize = 16 * 1024;

/// What goes up, and how.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Up {
    Write {
        wire: WireId,
        message: Bytes,
    },
    /// With a number, a message; without, only the count of frames.
    Post {
        number: Option<u64>,
        message: Bytes,
    },
}

#[derive(Debug)]
struct Numbered {
    number: u64,
    message: Outgoing,
}

/// Whether a POST is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Posting {
    No,
    Yes {
        number: Option<u64>,
    },
    /// It failed, and is repeated then.
    Again(Instant),
}

/// Whether it is known which messages have arrived. What a socket took may have, and a POST must wait until it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arrived {
    Known,
    Unknown,
}

#[derive(Debug)]
pub(super) struct Upward {
    /// Of the last message. The body of the request that opened the session was number 1.
    number: u64,
    kept: VecDeque<Numbered>,
    posting: Posting,
    /// The last message that a POST was begun with: it may arrive late, and only a POST with the same number is then not
    /// carried out again.
    posted: u64,
    failures: u32,
    socket: Option<WireId>,
    /// The last message that was given to the socket, or that had arrived before.
    sent: u64,
    writes: usize,
    arrived: Arrived,
    unacknowledged_bytes: usize,
    /// When frames must be acknowledged.
    due: Option<Instant>,
}

impl Upward {
    pub fn new() -> Self {
        Self {
            number: 1,
            kept: VecDeque::new(),
            posting: Posting::No,
            posted: 1,
            failures: 0,
            socket: None,
            sent: 1,
            writes: 0,
            arrived: Arrived::Known,
            unacknowledged_bytes: 0,
            due: None,
        }
    }

    /// Over HTTP one message is under way at a time: what comes meanwhile goes up together in the next.
    pub fn writable(&self) -> bool {
        match self.socket {
            Some(_) => self.writes < WRITES_MAX,
            None => self.kept.is_empty() && self.arrived == Arrived::Known,
        }
    }

    pub fn send(&mut self, message: Outgoing) {
        self.number += 1;
        self.kept.push_back(Numbered { number: self.number, message });
    }

    /// A transport has begun, and the server has `received` so many messages.
    pub fn attach(&mut self, socket: Option<WireId>, received: u64) {
        (self.socket, self.sent, self.writes, self.arrived) = (socket, received, 0, Arrived::Known);
        self.settle(|message| message.number <= received);
    }

    /// Another request has begun that is no socket, and whatever carried the session before has ended.
    pub fn reattach(&mut self) {
        (self.socket, self.arrived) = (None, Arrived::Known);
    }

    /// What carried the session is gone.
    pub fn detach(&mut self) {
        if self.socket.take().is_some() {
            self.arrived = Arrived::Unknown;
        }
    }

    pub fn written(&mut self) {
        self.writes = self.writes.saturating_sub(1);
    }

    /// Messages arrive in order, so an answer tells of all up to its own.
    pub fn answered(&mut self, id: u64) {
        self.settle(|message| message.message.first_id <= id);
    }

    fn settle(&mut self, arrived: impl Fn(&Numbered) -> bool) {
        while self.kept.front().is_some_and(&arrived) {
            self.kept.pop_front();
        }
    }

    /// A frame of this length arrived that nothing has acknowledged yet.
    pub fn owe(&mut self, bytes: usize, times: &Times, now: Instant) {
        self.unacknowledged_bytes += bytes;
        let due =
            if self.unacknowledged_bytes > UNACKNOWLEDGED_BYTES_MAX { now } else { now + times.acknowledge };
        self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
    }

    /// What came of a POST. An error ends the session.
    pub fn concluded(&mut self, posted: Posted, times: &Times, now: Instant, chance: u32) -> Result<(), End> {
        let Posting::Yes { number } = self.posting else { return Ok(()) };
        let after = match posted {
            Ok(answer) if answer.is_success() => {
                (self.failures, self.posting) = (0, Posting::No);
                if let Some(number) = number {
                    self.settle(|message| message.number <= number);
                }
                return Ok(());
            }
            Ok(answer) if !matches!(answer.status, 408 | 429 | 500..) => return Err(answer.end()),
            Ok(answer) => answer.after,
            Err(_) => None,
        };
        let delay = after.unwrap_or_else(|| jitter(times, self.failures, chance));
        self.failures = self.failures.saturating_add(1);
        self.posting = Posting::Again(now + delay);
        Ok(())
    }

    pub fn deadline(&self) -> Option<Instant> {
        match self.posting {
            Posting::Again(at) => Some(at),
            Posting::Yes { .. } => None,
            Posting::No => self.due.filter(|_| self.socket.is_none() && self.arrived == Arrived::Known),
        }
    }

    /// What goes up now. Ask until there is nothing.
    pub fn next(&mut self, now: Instant) -> Option<Up> {
        if matches!(self.posting, Posting::Again(at) if at <= now) {
            self.posting = Posting::No;
        }
        let begun = self.kept.front().is_some_and(|first| first.number <= self.posted);
        match self.socket {
            Some(wire) if !begun => self.write(wire),
            _ if self.posting != Posting::No => None,
            _ if begun || self.arrived == Arrived::Known => self.post(now),
            _ => None,
        }
    }

    fn write(&mut self, wire: WireId) -> Option<Up> {
        let next = self.kept.iter().find(|message| message.number > self.sent)?;
        self.sent = next.number;
        self.writes += 1;
        Some(Up::Write { wire, message: next.message.bytes.clone() })
    }

    fn post(&mut self, now: Instant) -> Option<Up> {
        let first = self.kept.front();
        if first.is_none() && self.due.is_none_or(|due| due > now) {
            return None;
        }
        let number = first.map(|first| first.number);
        let message = first.map_or(Bytes::new(), |first| first.message.bytes.clone());
        self.posted = number.unwrap_or(self.posted);
        (self.unacknowledged_bytes, self.due) = (0, None);
        self.posting = Posting::Yes { number };
        Some(Up::Post { number, message })
    }
}

#[cfg(test)]
mod tests;
