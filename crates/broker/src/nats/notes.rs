//! Notes between nodes, in as many parts as the server's longest message makes necessary.
//!
//! `1`, who sends it, its number, which part it is and how many there are, each in hexadecimal digits, then the part.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};

use async_nats::{Message, Subscriber};
use bytes::Bytes;
use duplex_core::{NOTE_BYTES_MAX, NodeId, Recipient};
use futures_util::{FutureExt, StreamExt};

use super::Shared;

/// Bytes before a part.
const HEAD: usize = 1 + 16 + 16 + 4 + 4;
/// Notes that were not complete yet; one more, and the others are given up.
const UNFINISHED_MAX: usize = 256;

/// One part of a note.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    from: NodeId,
    /// Counts up for each sender.
    number: u64,
    index: u16,
    count: u16,
    bytes: Bytes,
}

impl Part {
    fn read(bytes: &Bytes) -> Option<Self> {
        let head = std::str::from_utf8(bytes.get(..HEAD)?).ok().filter(|head| head.is_ascii())?;
        let hex = |from: usize, to: usize| u64::from_str_radix(&head[from..to], 16).ok();
        let part = Self {
            from: NodeId::parse(&head[1..17])?,
            number: hex(17, 33)?,
            index: hex(33, 37)? as u16,
            count: hex(37, 41)? as u16,
            bytes: bytes.slice(HEAD..),
        };
        (head.starts_with('1') && part.index < part.count).then_some(part)
    }

    fn write(&self) -> Bytes {
        let Self { from, number, index, count, bytes } = self;
        let head = format!("1{from}{number:016x}{index:04x}{count:04x}");
        [head.as_bytes(), bytes].concat().into()
    }
}

/// Notes of which some parts have not come.
#[derive(Default)]
struct Unfinished(HashMap<NodeId, (u64, Vec<Bytes>)>);

impl Unfinished {
    /// Takes the next part; gives the note when it is whole. A note of which a part is missing is lost.
    fn add(&mut self, part: Part) -> Option<Bytes> {
        if part.count == 1 {
            return Some(part.bytes);
        }
        if self.0.len() >= UNFINISHED_MAX {
            self.0.clear();
        }
        let (number, parts) = self.0.entry(part.from).or_default();
        if part.index == 0 {
            (*number, *parts) = (part.number, Vec::new());
        }
        let bytes: usize = parts.iter().map(Bytes::len).sum();
        if *number != part.number || parts.len() != usize::from(part.index) || bytes > NOTE_BYTES_MAX {
            self.0.remove(&part.from);
            return None;
        }
        parts.push(part.bytes);
        if parts.len() < usize::from(part.count) {
            return None;
        }
        self.0.remove(&part.from).map(|(_, parts)| parts.concat().into())
    }
}

impl Shared {
    pub fn send_note(self: &Arc<Self>, to: Recipient, note: Bytes) {
        if note.len() > NOTE_BYTES_MAX {
            return tracing::error!(
                bytes = note.len(),
                "a note to another node is too long, and was not sent"
            );
        }
        let Some(connection) = self.connection() else { return };
        let Ok(permit) = Arc::clone(&self.calls).try_acquire_owned() else {
            return tracing::warn!("a note to another node was not sent: too many calls are under way");
        };
        let subject = match to {
            Recipient::All => self.subjects.notes_for_all(),
            Recipient::One(node) => self.subjects.notes(node),
        };
        let (from, number) = (self.id, self.notes.fetch_add(1, Relaxed));
        let shared = Arc::clone(self);
        // Tasks begin in the order in which they are spawned, and who waits for a turn keeps it.
        self.runtime.spawn(async move {
            let (_permit, _turn) = (permit, shared.noting.lock().await);
            let longest = connection.client.max_payload().saturating_sub(HEAD).max(1);
            let Ok(count) = u16::try_from(note.len().div_ceil(longest).max(1)) else {
                return tracing::error!("a note to another node was not sent: the NATS server takes no message that is long enough");
            };
            for index in 0..count {
                let begin = usize::from(index) * longest;
                let bytes = note.slice(begin..note.len().min(begin + longest));
                connection.tell(subject.clone(), Part { from, number, index, count, bytes }.write()).await;
            }
        });
    }

    fn part(&self, message: &Message) -> Option<Part> {
        let part = Part::read(&message.payload);
        if part.is_none() {
            tracing::warn!("a note that came from NATS is not understood, and passed over");
        }
        part.filter(|part| part.from != self.id)
    }
}

/// Hands on the notes that come. Those to all and those to this node come by two ways: what is there of both is put in the
/// order in which it was sent.
pub(super) async fn hear_notes(shared: Weak<Shared>, mut to_all: Subscriber, mut to_us: Subscriber) {
    let mut unfinished = Unfinished::default();
    loop {
        let first = tokio::select! {
            message = to_all.next() => message,
            message = to_us.next() => message,
        };
        let (Some(first), Some(shared)) = (first, shared.upgrade()) else { return };
        let mut parts: Vec<Part> = shared.part(&first).into_iter().collect();
        for notes in [&mut to_all, &mut to_us] {
            while let Some(Some(message)) = notes.next().now_or_never() {
                parts.extend(shared.part(&message));
            }
        }
        parts.sort_by_key(|part| (part.number, part.index));
        for part in parts {
            let from = part.from;
            if let Some(note) = unfinished.add(part) {
                shared.node.note(from, note);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(number: u64, index: u16, count: u16, bytes: &'static str) -> Part {
        Part {
            from: NodeId::from_random([7; 8]),
            number,
            index,
            count,
            bytes: Bytes::from_static(bytes.as_bytes()),
        }
    }

    #[test]
    fn parts_are_read_as_they_were_written() {
        for part in [part(1, 0, 1, ""), part(u64::MAX, 2, 3, "é")] {
            assert_eq!(Part::read(&part.write()), Some(part));
        }
        for foreign in ["", "1", &"é".repeat(40), &"1".repeat(41), &"2".repeat(60)] {
            assert_eq!(Part::read(&Bytes::from(foreign.to_owned())), None, "{foreign}");
        }
    }

    #[test]
    fn a_note_is_handed_on_when_it_is_whole_and_never_otherwise() {
        let mut notes = Unfinished::default();
        assert_eq!(notes.add(part(1, 0, 1, "whole")), Some("whole".into()));
        assert_eq!(notes.add(part(2, 0, 2, "a")), None);
        assert_eq!(notes.add(part(2, 1, 2, "b")), Some("ab".into()));
        assert_eq!(notes.add(part(3, 0, 3, "a")), None);
        assert_eq!(notes.add(part(3, 2, 3, "c")), None);
        assert_eq!(notes.add(part(3, 1, 3, "b")), None);
        assert_eq!(notes.add(part(4, 0, 2, "x")), None);
        assert_eq!(notes.add(part(5, 1, 2, "y")), None);
    }
}
