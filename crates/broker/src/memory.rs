use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use duplex_core::{
    Broker, BrokerError, ChannelName, Deliver, Draft, Epoch, Extent, History, IdempotencyKey, Order, Page,
    Past, Pending, Position, Publication, ShardId, ShardSet,
};

/// Channels are spread over this many locks, so that publishers on different shards rarely meet.
const STRIPES: usize = 64;

/// How much history is kept. Whatever ends first, ends it.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Publications per channel. Default 100.
    pub publications: usize,
    /// How long after its last publication a channel's history is kept, milliseconds. Default 300,000 (5 min).
    pub ttl_ms: u64,
    /// Memory of all histories together, bytes. Default 64 MiB. Over it, the channel that was published to the longest
    /// ago loses its oldest publications first.
    pub bytes: usize,
    /// Channels that have subscribers or history. Default 1,000,000.
    pub channels: usize,
}

impl Default for Retention {
    fn default() -> Self {
        Self { publications: 100, ttl_ms: 300_000, bytes: 64 << 20, channels: 1_000_000 }
    }
}

/// The broker of a single node: channels live in this process and history ends with it.
pub struct Memory {
    stripes: Box<[Mutex<Stripe>]>,
    hasher: RandomState,
    retention: Retention,
    held: Held,
    node: Arc<dyn Deliver>,
}

/// What all stripes hold together.
#[derive(Default)]
struct Held {
    bytes: AtomicUsize,
    channels: AtomicUsize,
}

#[derive(Default)]
struct Stripe {
    channels: HashMap<ChannelName, Channel>,
    /// Channels with history, the one published to the longest ago first.
    by_age: BTreeMap<u64, ChannelName>,
    publications: u64,
}

struct Channel {
    top: Position,
    /// The newest publications; their offsets are contiguous and end at `top`.
    ring: VecDeque<Arc<Publication>>,
    /// Offsets of the publications in the ring that have an idempotency key.
    keys: HashMap<IdempotencyKey, u64>,
    /// Key of this channel in `by_age`, if it has history.
    age: Option<u64>,
    listeners: ShardSet,
}

impl Memory {
    /// A broker that hands publications to `node`.
    pub fn new(retention: Retention, node: Arc<dyn Deliver>) -> Self {
        Self {
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            retention,
            held: Held::default(),
            node,
        }
    }

    /// Forgets the history of channels that were last published to longer than the retention's `ttl_ms` ago.
    /// Call it about once a second; `now_ms` is the clock that stamps publications.
    pub fn sweep(&self, now_ms: u64) {
        let before_ms = now_ms.saturating_sub(self.retention.ttl_ms);
        for stripe in &self.stripes {
            let mut stripe = lock(stripe);
            while stripe.drop_oldest_if(&self.held, |publication| publication.draft.time_ms < before_ms) {}
        }
    }

    /// Memory of all histories together, bytes.
    pub fn held_bytes(&self) -> usize {
        self.held.bytes.load(Relaxed)
    }

    /// Channels that have subscribers or history.
    pub fn channels(&self) -> usize {
        self.held.channels.load(Relaxed)
    }

    fn stripe(&self, channel: &ChannelName) -> MutexGuard<'_, Stripe> {
        lock(&self.stripes[self.hasher.hash_one(channel) as usize % STRIPES])
    }

    fn append(&self, draft: Draft) -> Result<Position, BrokerError> {
        let mut stripe = self.stripe(&draft.channel);
        stripe.publications += 1;
        let age = stripe.publications;
        let channel = stripe.channel(&draft.channel, &self.held, self.retention)?;
        if let Some(before) = channel.published_before(&draft) {
            return before;
        }
        channel.top.offset += 1;
        let position = channel.top;
        let publication = Arc::new(Publication { position, draft });
        // Still under the lock, so that deliveries keep the order of offsets. `deliver` never blocks.
        if !channel.listeners.is_empty() {
            self.node.deliver(channel.listeners, Arc::clone(&publication));
        }
        stripe.keep(publication, age, &self.held, self.retention);
        Ok(position)
    }

    fn read(&self, name: &ChannelName, extent: Extent) -> Result<History, BrokerError> {
        let mut stripe = self.stripe(name);
        let channel = stripe.channel(name, &self.held, self.retention)?;
        let history = History { position: channel.top, past: channel.past(extent) };
        stripe.forget_if_idle(name, &self.held);
        Ok(history)
    }
}

impl Broker for Memory {
    fn publish(&self, draft: Draft) -> Pending<Result<Position, BrokerError>> {
        ready(self.append(draft))
    }

    fn listen(&self, channel: &ChannelName, shard: ShardId) -> Pending<Result<(), BrokerError>> {
        let mut stripe = self.stripe(channel);
        let listened = stripe.channel(channel, &self.held, self.retention);
        ready(listened.map(|channel| channel.listeners.insert(shard)))
    }

    fn ignore(&self, channel: &ChannelName, shard: ShardId) {
        let mut stripe = self.stripe(channel);
        if let Some(found) = stripe.channels.get_mut(channel) {
            found.listeners.remove(shard);
            stripe.forget_if_idle(channel, &self.held);
        }
    }

    fn history(&self, channel: &ChannelName, extent: Extent) -> Pending<Result<History, BrokerError>> {
        ready(self.read(channel, extent))
    }
}

impl Stripe {
    /// The channel; a new one with a new epoch if it is not there.
    fn channel(
        &mut self,
        name: &ChannelName,
        held: &Held,
        retention: Retention,
    ) -> Result<&mut Channel, BrokerError> {
        if !self.channels.contains_key(name) {
            if held.channels.load(Relaxed) >= retention.channels {
                return Err(BrokerError::TooManyChannels { limit: retention.channels });
            }
            held.channels.fetch_add(1, Relaxed);
            self.channels.insert(name.clone(), Channel::new());
        }
        Ok(self.channels.get_mut(name).expect("it is there or was just inserted"))
    }

    /// Appends to the channel's ring and makes it the youngest, then enforces the retention.
    fn keep(&mut self, publication: Arc<Publication>, age: u64, held: &Held, retention: Retention) {
        let name = publication.draft.channel.clone();
        let oldest_ms = publication.draft.time_ms.saturating_sub(retention.ttl_ms);
        let channel = self.channels.get_mut(&name).expect("the caller has just published to it");
        channel.append(publication, held);
        while channel.ring.len() > retention.publications
            || channel.ring.front().is_some_and(|oldest| oldest.draft.time_ms < oldest_ms)
        {
            channel.drop_oldest(held);
        }
        if let Some(before) = channel.age.replace(age) {
            self.by_age.remove(&before);
        }
        self.by_age.insert(age, name);
        while held.bytes.load(Relaxed) > retention.bytes && self.drop_oldest_if(held, |_| true) {}
    }

    /// Drops the oldest publication of the channel that was published to the longest ago, if its newest one satisfies
    /// `condition`. Says whether it did.
    fn drop_oldest_if(&mut self, held: &Held, condition: impl Fn(&Publication) -> bool) -> bool {
        let Some((&age, name)) = self.by_age.first_key_value() else { return false };
        let name = name.clone();
        let channel = self.channels.get_mut(&name).expect("a channel in by_age is in channels");
        if !channel.ring.back().is_none_or(|newest| condition(newest)) {
            return false;
        }
        channel.drop_oldest(held);
        if channel.ring.is_empty() {
            channel.age = None;
            self.by_age.remove(&age);
            self.forget_if_idle(&name, held);
        }
        true
    }

    /// Forgets a channel that nobody listens to and that has no history. Should it come back, its epoch is a new one.
    fn forget_if_idle(&mut self, name: &ChannelName, held: &Held) {
        let idle = |channel: &Channel| channel.listeners.is_empty() && channel.ring.is_empty();
        if self.channels.get(name).is_some_and(idle) {
            self.channels.remove(name);
            held.channels.fetch_sub(1, Relaxed);
        }
    }
}

impl Channel {
    fn new() -> Self {
        let mut random = [0; 6];
        getrandom::fill(&mut random).expect("the operating system gives random bytes");
        let top = Position { epoch: Epoch::from_random(random), offset: 0 };
        Self { top, ring: VecDeque::new(), keys: HashMap::new(), age: None, listeners: ShardSet::default() }
    }

    fn drop_oldest(&mut self, held: &Held) {
        let Some(oldest) = self.ring.pop_front() else { return };
        held.bytes.fetch_sub(oldest.weight(), Relaxed);
        if let Some(key) = &oldest.draft.key {
            self.keys.remove(key);
        }
    }

    fn append(&mut self, publication: Arc<Publication>, held: &Held) {
        held.bytes.fetch_add(publication.weight(), Relaxed);
        if let Some(key) = &publication.draft.key {
            self.keys.insert(key.clone(), publication.position.offset);
        }
        self.ring.push_back(publication);
    }

    /// What to answer to a publisher that repeats itself.
    fn published_before(&self, draft: &Draft) -> Option<Result<Position, BrokerError>> {
        let offset = *self.keys.get(draft.key.as_ref()?)?;
        let first = self.ring.front().expect("a key is kept as long as its publication").position.offset;
        let before = &self.ring[usize::try_from(offset - first).expect("the ring is in memory")];
        Some(if before.draft.says_the_same(draft) {
            Ok(before.position)
        } else {
            Err(BrokerError::KeyReused)
        })
    }

    fn past(&self, extent: Extent) -> Past {
        let oldest_first = |skip, limit| self.ring.iter().skip(skip).take(limit).cloned().collect();
        let newest_first = |skip, limit| self.ring.iter().rev().skip(skip).take(limit).cloned().collect();
        let kept = match extent {
            Extent::Nothing => Some(Vec::new()),
            Extent::After(since) => self.index_after(since).map(|index| oldest_first(index, usize::MAX)),
            Extent::Page(Page { since, limit, order: Order::OldestFirst }) => {
                let index = since.map_or(Some(0), |since| self.index_after(since));
                index.map(|index| oldest_first(index, limit))
            }
            Extent::Page(Page { since, limit, order: Order::NewestFirst }) => {
                let index = since.map_or(Some(self.ring.len() + 1), |since| self.index_after(since));
                index.map(|index| newest_first(self.ring.len() + 1 - index, limit))
            }
        };
        kept.map_or(Past::Lost, Past::Kept)
    }

    /// Where in the ring the publication after `since` stands or will stand, if the ring reaches back so far.
    fn index_after(&self, since: Position) -> Option<usize> {
        let after = self.top.offset.checked_sub(since.offset).filter(|_| since.epoch == self.top.epoch)?;
        self.ring.len().checked_sub(usize::try_from(after).ok()?)
    }
}

/// A poisoned stripe is one whose holder panicked between two consistent states at worst; the others must go on.
fn lock(stripe: &Mutex<Stripe>) -> MutexGuard<'_, Stripe> {
    stripe.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ready<T: Send + 'static>(value: T) -> Pending<T> {
    Box::pin(std::future::ready(value))
}
