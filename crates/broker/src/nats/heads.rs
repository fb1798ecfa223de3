//! What this node, which has published in a channel, knows of it: where the next publication stands, if nobody else has
//! published meanwhile.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use duplex_core::{BrokerError, ChannelName, Draft, IdempotencyKey, Position, Publication, Retention};

use super::history::{Place, is_behind};
use crate::envelope::digest;

/// Channels that are remembered: at least so many of those that were used last, and at most twice as many.
const REMEMBERED: usize = 16_384;

#[derive(Default)]
pub(super) struct Heads(Mutex<Both>);

/// Who is not in the young ones and is used becomes one; when there are too many of them, the old ones go.
#[derive(Default)]
struct Both {
    young: HashMap<ChannelName, Remembered>,
    old: HashMap<ChannelName, Remembered>,
}

struct Remembered {
    /// What was seen last, to notice when it is lost.
    seen: Option<Position>,
    head: Option<Head>,
}

/// Where the next publication stands.
#[derive(Debug, Clone)]
pub(super) struct Head {
    /// The last sequence of the channel's subject.
    pub sequence: u64,
    /// `None` before the first one of an epoch.
    pub at: Option<Position>,
    pub retention: Retention,
    /// Of the message that follows.
    pub links: Vec<u64>,
    /// Idempotency keys of what is kept, if they were read.
    pub keys: Option<Keys>,
}

impl Head {
    pub fn of(place: &Place) -> Self {
        let newest = place.newest.as_ref().map(|newest| &newest.batch);
        Self {
            sequence: place.sequence,
            at: newest.map(|batch| batch.top),
            retention: newest.map_or(Retention { publications: 0, ttl_ms: 0 }, |batch| batch.retention),
            links: place.links(),
            keys: None,
        }
    }
}

/// Idempotency keys of a channel.
#[derive(Debug, Clone, Default)]
pub(super) struct Keys(HashMap<IdempotencyKey, Used>);

#[derive(Debug, Clone)]
struct Used {
    at: Position,
    says: String,
    until_ms: u64,
}

impl Keys {
    /// Those of what is kept.
    pub fn of<'a>(publications: impl IntoIterator<Item = &'a Publication>, until_ms: u64) -> Self {
        let mut keys = Self::default();
        for publication in publications {
            keys.add(&publication.draft, publication.position, until_ms);
        }
        keys
    }

    pub fn add(&mut self, draft: &Draft, at: Position, until_ms: u64) {
        if let Some(key) = &draft.key {
            self.0.insert(key.clone(), Used { at, says: digest(draft), until_ms });
        }
    }

    /// What to answer to who repeats what is kept: `kept` publications up to `top`.
    pub fn answer(
        &self,
        draft: &Draft,
        top: u64,
        kept: usize,
        now_ms: u64,
    ) -> Option<Result<Position, BrokerError>> {
        let used = self.0.get(draft.key.as_ref()?)?;
        let is_kept = used.at.offset.saturating_add(kept as u64) > top && used.until_ms >= now_ms;
        let answer = if used.says == digest(draft) { Ok(used.at) } else { Err(BrokerError::KeyReused) };
        is_kept.then_some(answer)
    }

    /// Forgets those of what is not kept any more, when there are many of them.
    pub fn tidy(&mut self, top: u64, kept: usize, now_ms: u64) {
        if self.0.len() > 64 + kept.saturating_mul(2) {
            self.0.retain(|_, used| {
                used.at.offset.saturating_add(kept as u64) > top && used.until_ms >= now_ms
            });
        }
    }
}

impl Heads {
    /// Takes what is known of the channel, to publish in it.
    pub fn take(&self, name: &ChannelName) -> Option<Head> {
        self.lock().young(name)?.head.take()
    }

    /// What was seen last.
    pub fn known(&self, name: &ChannelName) -> Option<Position> {
        self.lock().young(name)?.seen
    }

    /// This was published, or read.
    pub fn put(&self, name: &ChannelName, head: Head) {
        let mut both = self.lock();
        if both.young.len() >= REMEMBERED {
            both.old = std::mem::take(&mut both.young);
        }
        let remembered = Remembered { seen: head.at, head: Some(head) };
        both.young.insert(name.clone(), remembered);
    }

    /// The connection is another one: everything may have changed meanwhile.
    pub fn doubt_all(&self) {
        let mut both = self.lock();
        let Both { young, old } = &mut *both;
        young.values_mut().chain(old.values_mut()).for_each(|remembered| remembered.head = None);
    }

    fn lock(&self) -> MutexGuard<'_, Both> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Both {
    fn young(&mut self, name: &ChannelName) -> Option<&mut Remembered> {
        if let Some(remembered) = self.old.remove(name) {
            self.young.entry(name.clone()).or_insert(remembered);
        }
        self.young.get_mut(name)
    }
}

impl Place {
    /// The same, as if nothing were there that is older than what was seen: NATS has lost some of it, and offsets must not
    /// mean two things.
    pub fn unless_behind(mut self, seen: Option<Position>) -> Self {
        if let (Some(newest), Some(seen)) = (&self.newest, seen)
            && is_behind(newest.batch.top, seen)
        {
            self.newest = None;
        }
        self
    }
}
