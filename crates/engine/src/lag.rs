//! What a subscriber has not got yet: what it missed and is still being sent, and, in channels where it may be thinned out,
//! what it was too slow for.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use duplex_core::{Budget, Event, Spent};

use crate::inbox::weight;
use crate::node::Delivery;
use crate::policy::{Overload, Policy};

/// Memory a publication of the past is counted as, bytes: it is shared with history and with all who recover.
const PAST_BYTES: usize = 16;

/// What a session has not got yet. There only for a session that recovers much, is slow, or whose rate is limited.
#[derive(Default)]
pub(crate) struct Lag {
    channels: Vec<Behind>,
    /// Memory of what waits, bytes.
    bytes: usize,
    pace: Pace,
}

/// Whether the shard's clock will look at it.
#[derive(Default, PartialEq)]
enum Pace {
    #[default]
    Unlisted,
    Listed,
}

/// The same in one channel.
struct Behind {
    channel: u32,
    waiting: Waiting,
    sent: Budget,
}

/// What waits, in the order in which it will be sent.
enum Waiting {
    /// With the memory each is counted as.
    Queue(VecDeque<(Arc<Delivery>, usize)>),
    /// The newest for each key. A key keeps its place in the line when a newer value comes, so that each has its turn.
    Newest { keys: VecDeque<Box<str>>, values: HashMap<Box<str>, Arc<Delivery>> },
}

/// What became of a delivery that could not be sent at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It waits.
    Added,
    /// It waits, and so many others were dropped for it.
    InPlaceOf(u64),
    /// There is no room for it, and nothing may be dropped.
    Full,
}

impl Lag {
    /// Memory of what waits, bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing of this channel waits and its rate allows another delivery, which is then counted.
    pub fn passes(&mut self, channel: u32, policy: &Policy, now_ms: u64) -> bool {
        let behind = self.behind(channel, policy);
        behind.waiting.is_empty() && behind.may_send(policy, now_ms)
    }

    /// Whether something of this channel waits, so that whatever comes must wait behind it.
    pub fn holds(&self, channel: u32) -> bool {
        self.channels.iter().any(|behind| behind.channel == channel && !behind.waiting.is_empty())
    }

    /// Keeps a publication of the past until it can be sent.
    pub fn keep_past(&mut self, channel: u32, policy: &Policy, delivery: Arc<Delivery>) {
        match &mut self.behind(channel, policy).waiting {
            Waiting::Queue(queue) => {
                queue.push_back((delivery, PAST_BYTES));
                self.bytes += PAST_BYTES;
            }
            Waiting::Newest { .. } => drop(self.keep(channel, policy, delivery, usize::MAX)),
        }
    }

    /// Keeps a delivery until it can be sent; at most `bytes_max` are kept for a session.
    pub fn keep(&mut self, channel: u32, policy: &Policy, delivery: Arc<Delivery>, bytes_max: usize) -> Kept {
        let added = weight(&delivery.event);
        let room = bytes_max.saturating_sub(added);
        let before = self.bytes;
        if policy.overload == Overload::Disconnect && before > room {
            return Kept::Full;
        }
        let (dropped, freed) = match &mut self.behind(channel, policy).waiting {
            Waiting::Queue(queue) => {
                let (mut dropped, mut freed) = (0, 0);
                while before - freed > room
                    && let Some((_, weight)) = queue.pop_front()
                {
                    freed += weight;
                    dropped += 1;
                }
                queue.push_back((delivery, added));
                (dropped, freed)
            }
            Waiting::Newest { keys, values } => {
                let key = key(policy, &delivery.event);
                if let Some(value) = values.get_mut(key) {
                    (1, weight(&std::mem::replace(value, delivery).event))
                } else {
                    let (mut dropped, mut freed) = (0, 0);
                    while before - freed > room
                        && let Some(oldest) = keys.pop_front()
                    {
                        freed += values.remove(&oldest).map_or(0, |oldest| weight(&oldest.event));
                        dropped += 1;
                    }
                    let key: Box<str> = key.into();
                    keys.push_back(key.clone());
                    values.insert(key, delivery);
                    (dropped, freed)
                }
            }
        };
        self.bytes = before + added - freed;
        if dropped == 0 { Kept::Added } else { Kept::InPlaceOf(dropped) }
    }

    /// The next delivery that may be sent now, and its channel. `policy` is that of a channel.
    pub fn next<'p>(
        &mut self,
        policy: impl Fn(u32) -> &'p Policy,
        now_ms: u64,
    ) -> Option<(u32, Arc<Delivery>)> {
        // Channels take turns: the one that was served goes to the end.
        for _ in 0..self.channels.len() {
            let mut behind = self.channels.remove(0);
            let channel = behind.channel;
            let may = !behind.waiting.is_empty() && behind.may_send(policy(channel), now_ms);
            let next = may.then(|| behind.waiting.pop()).flatten();
            self.channels.push(behind);
            if let Some((next, weight)) = next {
                self.bytes -= weight;
                return Some((channel, next));
            }
        }
        None
    }

    /// Whether nothing waits and nothing must be remembered. `policy` is that of a channel.
    pub fn is_idle<'p>(&self, policy: impl Fn(u32) -> &'p Policy) -> bool {
        self.bytes == 0 && !self.channels.iter().any(|behind| policy(behind.channel).deliveries.is_some())
    }

    /// Whether the shard's clock must be told to look at it; from here on it counts as told.
    pub fn is_to_be_paced(&mut self) -> bool {
        self.bytes > 0 && std::mem::replace(&mut self.pace, Pace::Listed) == Pace::Unlisted
    }

    /// The clock has looked at it.
    pub fn paced(&mut self) {
        self.pace = Pace::Unlisted;
    }

    /// The session leaves a channel.
    pub fn forget(&mut self, channel: u32) {
        let Some(index) = self.channels.iter().position(|behind| behind.channel == channel) else { return };
        self.bytes -= self.channels.swap_remove(index).waiting.bytes();
    }

    fn behind(&mut self, channel: u32, policy: &Policy) -> &mut Behind {
        let index = self.channels.iter().position(|behind| behind.channel == channel);
        let index = index.unwrap_or_else(|| {
            let waiting = Waiting::new(&policy.overload);
            self.channels.push(Behind { channel, waiting, sent: Budget::default() });
            self.channels.len() - 1
        });
        &mut self.channels[index]
    }
}

impl Behind {
    fn may_send(&mut self, policy: &Policy, now_ms: u64) -> bool {
        policy.deliveries.is_none_or(|rate| self.sent.spend(1, rate, now_ms) == Spent::Within)
    }
}

impl Waiting {
    fn new(overload: &Overload) -> Self {
        match overload {
            Overload::Disconnect | Overload::DropOldest => Self::Queue(VecDeque::new()),
            Overload::Latest { .. } => Self::Newest { keys: VecDeque::new(), values: HashMap::new() },
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Queue(queue) => queue.is_empty(),
            Self::Newest { keys, .. } => keys.is_empty(),
        }
    }

    /// The first in line, and the memory it was counted as.
    fn pop(&mut self) -> Option<(Arc<Delivery>, usize)> {
        match self {
            Self::Queue(queue) => queue.pop_front(),
            Self::Newest { keys, values } => {
                let next = values.remove(&keys.pop_front()?)?;
                let weight = weight(&next.event);
                Some((next, weight))
            }
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Queue(queue) => queue.iter().map(|(_, weight)| weight).sum(),
            Self::Newest { values, .. } => values.values().map(|delivery| weight(&delivery.event)).sum(),
        }
    }
}

/// What makes a newer publication take the place of an older one. Publications without the tag are one kind of their own.
fn key<'a>(policy: &Policy, event: &'a Event) -> &'a str {
    match (&policy.overload, event) {
        (Overload::Latest { key: Some(tag) }, Event::Publication(publication)) => {
            publication.draft.tags.pairs().get(&**tag).map_or("", String::as_str)
        }
        _ => "",
    }
}
