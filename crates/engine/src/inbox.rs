use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use duplex_core::{ChannelName, ClientId, CloseReason, Event, Identity, UserId};
use tokio::sync::Notify;

use crate::inquiry::Inquiry;
use crate::node::Delivery;

/// Most notes that may wait for one shard.
const NOTES_MAX: usize = 1_024;

/// What is on its way to one shard. Any thread puts in, the shard takes much at once.
pub(crate) struct Inbox {
    waiting: Mutex<Waiting>,
    bytes_max: usize,
    /// Wakes the shard: once per burst, however many deliveries it has.
    pub wake: Notify,
}

/// What an inbox holds.
#[derive(Default)]
pub(crate) struct Waiting {
    pub deliveries: Vec<Arc<Delivery>>,
    bytes: usize,
    /// Channels of which deliveries were dropped because the inbox was full: their subscribers must be told.
    pub missed: HashSet<ChannelName>,
    /// What else is to be done.
    pub notes: Vec<Note>,
}

/// Whether something was left in an inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    Nothing,
    Some,
}

/// Something to be done with sessions, wherever they are.
#[derive(Debug, Clone)]
pub(crate) enum Note {
    Close(Whom, &'static CloseReason),
    Ask(Arc<Inquiry>),
}

/// Which sessions are meant.
#[derive(Debug, Clone)]
pub enum Whom {
    /// This one.
    Client(ClientId),
    /// Those of a user.
    User(UserId),
    /// Those of a user whose tokens were issued at this time or before, milliseconds since 1970 UTC, or do not say when.
    UserUntil(UserId, u64),
    /// Those with this token.
    Token(Arc<str>),
}

impl Whom {
    /// Whether a session is meant.
    pub(crate) fn is(&self, client: ClientId, identity: &Identity) -> bool {
        match self {
            Self::Client(id) => *id == client,
            Self::User(user) => identity.user.as_ref() == Some(user),
            Self::UserUntil(user, until_ms) => {
                identity.user.as_ref() == Some(user)
                    && identity.issued_ms.is_none_or(|issued_ms| issued_ms <= *until_ms)
            }
            Self::Token(token) => identity.token.as_ref() == Some(token),
        }
    }
}

/// There is no room for more notes now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too much of this is under way; try again in a second")]
pub struct NoRoom;

impl Inbox {
    pub fn new(bytes_max: usize) -> Self {
        Self { waiting: Mutex::default(), bytes_max, wake: Notify::new() }
    }

    /// Never blocks: what does not fit is dropped, and remembered as missed.
    pub fn push(&self, delivery: Arc<Delivery>) {
        let mut waiting = self.lock();
        let first = waiting.is_empty();
        let weight = weight(&delivery.event);
        if waiting.bytes + weight > self.bytes_max {
            waiting.missed.insert(delivery.channel().clone());
        } else {
            waiting.bytes += weight;
            waiting.deliveries.push(delivery);
        }
        drop(waiting);
        if first {
            self.wake.notify_one();
        }
    }

    /// Something of this channel will not come.
    pub fn missed(&self, channel: &ChannelName) {
        self.lock().missed.insert(channel.clone());
        self.wake.notify_one();
    }

    /// Leaves a note for the shard.
    pub fn note(&self, note: Note) -> Result<(), NoRoom> {
        let mut waiting = self.lock();
        if waiting.notes.len() >= NOTES_MAX {
            return Err(NoRoom);
        }
        waiting.notes.push(note);
        drop(waiting);
        self.wake.notify_one();
        Ok(())
    }

    /// Takes all that waits.
    pub fn take(&self) -> Waiting {
        std::mem::take(&mut *self.lock())
    }

    /// Takes what came first, at least one delivery and at most about so many bytes, and says whether that is all.
    pub fn take_some(&self, bytes_max: usize) -> (Waiting, Rest) {
        let mut waiting = self.lock();
        if waiting.bytes <= bytes_max {
            return (std::mem::take(&mut *waiting), Rest::Nothing);
        }
        let mut bytes = 0;
        let taken = waiting.deliveries.iter().take_while(|delivery| {
            let fits = bytes < bytes_max;
            bytes += if fits { weight(&delivery.event) } else { 0 };
            fits
        });
        let taken = taken.count();
        let left = waiting.deliveries.split_off(taken);
        let left = Waiting { deliveries: left, bytes: waiting.bytes - bytes, ..Waiting::default() };
        let rest = if left.deliveries.is_empty() { Rest::Nothing } else { Rest::Some };
        (std::mem::replace(&mut *waiting, left), rest)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.deliveries.is_empty() && self.missed.is_empty()
    }
}

/// Memory an event is counted as, bytes.
pub(crate) fn weight(event: &Event) -> usize {
    /// Of a presence change: it holds names only.
    const CHANGE: usize = 256;
    match event {
        Event::Publication(publication) => publication.weight(),
        Event::Presence(_) => CHANGE,
    }
}

#[cfg(test)]
mod tests {
    use duplex_core::{Draft, Epoch, EventName, Json, Payload, Position, Publication, Tags};

    use super::*;
    use crate::Node;

    fn delivery(node: &Node, offset: u64) -> Arc<Delivery> {
        let draft = Draft {
            channel: ChannelName::parse("news").unwrap(),
            event: EventName::default(),
            payload: Payload::Data(Json::check(serde_json::from_str("1").unwrap()).unwrap()),
            tags: Tags::default(),
            client: None,
            time_ms: 0,
            key: None,
            audience: Default::default(),
        };
        let position = Position { epoch: Epoch::from_random([7; 6]), offset };
        node.delivery(Event::Publication(Arc::new(Publication { position, order: 0, draft })))
    }

    fn offsets(waiting: &Waiting) -> Vec<u64> {
        let offset = |delivery: &Arc<Delivery>| match &delivery.event {
            Event::Publication(publication) => publication.position.offset,
            Event::Presence(_) => unreachable!("there are none here"),
        };
        waiting.deliveries.iter().map(offset).collect()
    }

    #[test]
    fn portions_have_everything_once_and_in_order_and_give_back_the_room() {
        let node = Node::new(1, Vec::new(), 0);
        let one = weight(&delivery(&node, 1).event);
        let inbox = Inbox::new(10 * one);
        (1..=11).for_each(|offset| inbox.push(delivery(&node, offset)));
        let (first, rest) = inbox.take_some(4 * one);
        assert_eq!((offsets(&first), rest), (vec![1, 2, 3, 4], Rest::Some));
        assert_eq!(first.missed.len(), 1, "the eleventh did not fit");
        (12..=15).for_each(|offset| inbox.push(delivery(&node, offset)));
        let (second, rest) = inbox.take_some(1);
        assert_eq!((offsets(&second), rest), (vec![5], Rest::Some), "at least one");
        let (last, rest) = inbox.take_some(100 * one);
        assert_eq!((offsets(&last), rest), (vec![6, 7, 8, 9, 10, 12, 13, 14, 15], Rest::Nothing));
        assert_eq!(last.missed.len(), 0, "there was room again");
        assert_eq!(offsets(&inbox.take()), vec![0; 0]);
    }
}
