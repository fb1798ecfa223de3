//! What a subscriber has not got yet, in channels where it may be thinned out.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use duplex_core::{Budget, Event, Spent};

use crate::inbox::weight;
use crate::node::Delivery;
use crate::policy::{Overload, Policy};

/// What a session has not got yet. There only for a session that is slow, or whose rate is limited.
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
    Queue(VecDeque<Arc<Delivery>>),
    /// The newest for each key. A key keeps its place in the line when a newer value comes, so that each has its turn.
    Newest {
        keys: VecDeque<Box<str>>,
        values: HashMap<Box<str>, Arc<Delivery>>,
    },
}

/// What became of a delivery that could not be sent at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It waits.
    Added,
    /// It waits, and so many others were dropped for it.
    InPlaceOf(u64),
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

    /// Keeps a delivery until it can be sent; at most `bytes_max` are kept for a session.
    pub fn keep(&mut self, channel: u32, policy: &Policy, delivery: Arc<Delivery>, bytes_max: usize) -> Kept {
        let before = self.bytes;
        let added = weight(&delivery.event);
        let behind = self.behind(channel, policy);
        let mut dropped = 0;
        let mut freed = 0;
        match &mut behind.waiting {
            Waiting::Queue(queue) => {
                while !queue.is_empty() && before + added - freed > bytes_max {
                    freed += queue.pop_front().map_or(0, |oldest| weight(&oldest.event));
                    dropped += 1;
                }
                queue.push_back(delivery);
            }
            Waiting::Newest { keys, values } => {
                let key = key(policy, &delivery.event);
                match values.get_mut(key) {
                    Some(value) => {
                        freed += weight(&std::mem::replace(value, delivery).event);
                        dropped += 1;
                    }
                    None => {
                        while !keys.is_empty() && before + added - freed > bytes_max {
                            let oldest = keys.pop_front().and_then(|oldest| values.remove(&oldest));
                            freed += oldest.map_or(0, |oldest| weight(&oldest.event));
                            dropped += 1;
                        }
                        let key: Box<str> = key.into();
                        keys.push_back(key.clone());
                        values.insert(key, delivery);
                    }
                }
            }
        }
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
            if let Some(next) = next {
                self.bytes -= weight(&next.event);
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

    fn pop(&mut self) -> Option<Arc<Delivery>> {
        match self {
            Self::Queue(queue) => queue.pop_front(),
            Self::Newest { keys, values } => keys.pop_front().and_then(|key| values.remove(&key)),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Queue(queue) => queue.iter().map(|delivery| weight(&delivery.event)).sum(),
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
