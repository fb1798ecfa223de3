use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use duplex_core::{
    Attendance, Broker, BrokerError, Change, ChannelName, ClientId, Deliver, Draft, Epoch, Event, Extent,
    History, IdempotencyKey, Member, Order, Page, Past, Pending, Position, Presence, PresenceChange, Present,
    Publication, Retention, ShardId, ShardSet, Tell,
};

use crate::members::Members;

/// Channels are spread over this many locks, so that publishers on different shards rarely meet.
const STRIPES: usize = 64;
/// Generations of channel names per stripe: a power of two.
const GENERATIONS: usize = 1 << 10;

/// How much all channels together may take. What each channel keeps comes with its publications.
#[derive(Debug, Clone, Copy)]
pub struct Capacity {
    /// Memory of all histories together, bytes. Default 64 MiB. Over it, the history that would be the first to expire
    /// loses its oldest publications.
    pub bytes: usize,
    /// Channels that have subscribers, history or presence. Default 1,000,000.
    pub channels: usize,
}

impl Default for Capacity {
    fn default() -> Self {
        Self { bytes: 64 << 20, channels: 1_000_000 }
    }
}

/// The broker of a single node: channels live in this process and history ends with it.
pub struct Memory {
    stripes: Box<[Mutex<Stripe>]>,
    hasher: RandomState,
    capacity: Capacity,
    held: Held,
    node: Arc<dyn Deliver>,
}

/// What all stripes hold together.
#[derive(Default)]
struct Held {
    bytes: AtomicUsize,
    channels: AtomicUsize,
}

struct Stripe {
    channels: HashMap<ChannelName, Channel>,
    generations: Generations,
    /// Channels with history, the first to expire first.
    by_expiry: BTreeMap<Expiry, ChannelName>,
    publications: u64,
}

/// Where the epochs of new channels come from. A channel that is forgotten before anything was published in it gets the
/// same epoch when it comes back, so that those who knew it recover; for others a new generation begins, together with all
/// names that share its place here.
struct Generations {
    hasher: RandomState,
    /// Those of this process are unlike those of another.
    first: u64,
    passed: Box<[u32]>,
}

/// When a channel's history ends, milliseconds since 1970 UTC, and a number that no other channel of the stripe has.
type Expiry = (u64, u64);

struct Channel {
    top: Position,
    /// The newest publications; their offsets are contiguous and end at `top`.
    ring: VecDeque<Arc<Publication>>,
    /// Offsets of the publications in the ring that have an idempotency key.
    keys: HashMap<IdempotencyKey, u64>,
    /// Key of this channel in `by_expiry`, if it has history.
    expiry: Option<Expiry>,
    listeners: ShardSet,
    members: Option<Box<Members>>,
}

impl Memory {
    /// A broker that hands publications to `node`.
    pub fn new(capacity: Capacity, node: Arc<dyn Deliver>) -> Self {
        Self {
            stripes: (0..STRIPES).map(|_| Mutex::new(Stripe::new())).collect(),
            hasher: RandomState::new(),
            capacity,
            held: Held::default(),
            node,
        }
    }

    /// Forgets the histories that have expired. Call it about once a second; `now_ms` is the clock that stamps publications.
    pub fn sweep(&self, now_ms: u64) {
        for stripe in &self.stripes {
            let mut stripe = lock(stripe);
            while stripe.by_expiry.first_key_value().is_some_and(|(expiry, _)| expiry.0 < now_ms) {
                stripe.drop_oldest(&self.held);
            }
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

    fn append(&self, draft: Draft, retention: Retention) -> Result<Position, BrokerError> {
        let mut stripe = self.stripe(&draft.channel);
        let channel = stripe.channel(&draft.channel, &self.held, self.capacity)?;
        if let Some(before) = channel.published_before(&draft) {
            return before;
        }
        channel.top.offset += 1;
        let position = channel.top;
        let publication = Arc::new(Publication { position, order: 0, draft });
        // Still under the lock, so that deliveries keep the order of offsets. `deliver` never blocks.
        if !channel.listeners.is_empty() {
            self.node.deliver(channel.listeners, Event::Publication(Arc::clone(&publication)));
        }
        stripe.keep(publication, retention, &self.held, self.capacity);
        Ok(position)
    }

    fn read(&self, name: &ChannelName, extent: Extent) -> Result<History, BrokerError> {
        let mut stripe = self.stripe(name);
        let channel = stripe.channel(name, &self.held, self.capacity)?;
        let history = History { position: channel.top, past: channel.past(extent) };
        stripe.forget_if_idle(name, &self.held);
        Ok(history)
    }

    fn enter(&self, name: &ChannelName, member: Member, tell: Tell) -> Result<(), BrokerError> {
        let mut stripe = self.stripe(name);
        let channel = stripe.channel(name, &self.held, self.capacity)?;
        let member = Arc::new(member);
        if let Some(tell) = channel.members.get_or_insert_default().join(Arc::clone(&member), tell) {
            self.tell(channel, name, member, Change::Joined, tell);
        }
        Ok(())
    }

    /// Still under the lock, so that everyone hears of joining and leaving in the same order.
    fn tell(&self, channel: &Channel, name: &ChannelName, member: Arc<Member>, change: Change, tell: Tell) {
        if tell == Tell::Everyone && !channel.listeners.is_empty() {
            let change = PresenceChange { channel: name.clone(), member, change };
            self.node.deliver(channel.listeners, Event::Presence(Arc::new(change)));
        }
    }
}

impl Broker for Memory {
    fn publish(&self, draft: Draft, retention: Retention) -> Pending<Result<Position, BrokerError>> {
        ready(self.append(draft, retention))
    }

    fn listen(&self, channel: &ChannelName, shard: ShardId) -> Pending<Result<(), BrokerError>> {
        let mut stripe = self.stripe(channel);
        let listened = stripe.channel(channel, &self.held, self.capacity);
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

impl Presence for Memory {
    fn join(&self, channel: &ChannelName, member: Member, tell: Tell) -> Pending<Result<(), BrokerError>> {
        ready(self.enter(channel, member, tell))
    }

    fn leave(&self, name: &ChannelName, client: ClientId) {
        let mut stripe = self.stripe(name);
        let Some(channel) = stripe.channels.get_mut(name) else { return };
        let Some(members) = &mut channel.members else { return };
        let left = members.leave(client);
        if members.is_empty() {
            channel.members = None;
        }
        if let Some((member, tell)) = left {
            self.tell(channel, name, member, Change::Left, tell);
            stripe.forget_if_idle(name, &self.held);
        }
    }

    fn present(&self, name: &ChannelName, limit: usize) -> Pending<Result<Present, BrokerError>> {
        let stripe = self.stripe(name);
        let members = stripe.channels.get(name).and_then(|channel| channel.members.as_ref());
        let nobody = || Present { attendance: Attendance::default(), members: Vec::new() };
        ready(Ok(members.map_or_else(nobody, |members| members.present(limit))))
    }
}

impl Stripe {
    fn new() -> Self {
        Self {
            channels: HashMap::new(),
            generations: Generations::new(),
            by_expiry: BTreeMap::new(),
            publications: 0,
        }
    }

    /// The channel; a new one with a new epoch if it is not there.
    fn channel(
        &mut self,
        name: &ChannelName,
        held: &Held,
        capacity: Capacity,
    ) -> Result<&mut Channel, BrokerError> {
        if !self.channels.contains_key(name) {
            if held.channels.load(Relaxed) >= capacity.channels {
                return Err(BrokerError::TooManyChannels { limit: capacity.channels });
            }
            held.channels.fetch_add(1, Relaxed);
            self.channels.insert(name.clone(), Channel::new(self.generations.epoch(name)));
        }
        Ok(self.channels.get_mut(name).expect("it is there or was just inserted"))
    }

    /// Appends to the channel's ring, then sees to it that nothing takes more room than it may.
    fn keep(&mut self, publication: Arc<Publication>, retention: Retention, held: &Held, capacity: Capacity) {
        let name = publication.draft.channel.clone();
        let now_ms = publication.draft.time_ms;
        let channel = self.channels.get_mut(&name).expect("the caller has just published to it");
        channel.append(publication, held);
        while channel.ring.len() > retention.publications || channel.is_expired(now_ms, retention.ttl_ms) {
            channel.drop_oldest(held);
        }
        self.publications += 1;
        let kept = !channel.ring.is_empty();
        let expiry = kept.then_some((now_ms.saturating_add(retention.ttl_ms), self.publications));
        if let Some(before) = std::mem::replace(&mut channel.expiry, expiry) {
            self.by_expiry.remove(&before);
        }
        match expiry {
            Some(expiry) => drop(self.by_expiry.insert(expiry, name)),
            None => self.forget_if_idle(&name, held),
        }
        while held.bytes.load(Relaxed) > capacity.bytes && !self.by_expiry.is_empty() {
            self.drop_oldest(held);
        }
    }

    /// Drops the oldest publication of the history that would be the first to expire.
    fn drop_oldest(&mut self, held: &Held) {
        let Some(first) = self.by_expiry.first_entry() else { return };
        let channel = self.channels.get_mut(first.get()).expect("a channel in by_expiry is in channels");
        channel.drop_oldest(held);
        if channel.ring.is_empty() {
            channel.expiry = None;
            let name = first.remove();
            self.forget_if_idle(&name, held);
        }
    }

    /// Forgets a channel that nobody listens to or is present in and that has no history.
    fn forget_if_idle(&mut self, name: &ChannelName, held: &Held) {
        let Some(channel) = self.channels.get(name).filter(|channel| channel.is_idle()) else { return };
        if channel.top.offset > 0 {
            self.generations.pass(name);
        }
        self.channels.remove(name);
        held.channels.fetch_sub(1, Relaxed);
    }
}

impl Generations {
    fn new() -> Self {
        let mut random = [0; 8];
        getrandom::fill(&mut random).expect("the operating system gives random bytes");
        let passed = vec![0; GENERATIONS].into_boxed_slice();
        Self { hasher: RandomState::new(), first: u64::from_ne_bytes(random), passed }
    }

    fn epoch(&self, name: &ChannelName) -> Epoch {
        let generation = self.first.wrapping_add(self.passed[self.place(name)].into());
        let [_, _, bytes @ ..] = generation.to_be_bytes();
        Epoch::from_random(bytes)
    }

    fn pass(&mut self, name: &ChannelName) {
        let passed = &mut self.passed[self.place(name)];
        *passed = passed.wrapping_add(1);
    }

    fn place(&self, name: &ChannelName) -> usize {
        self.hasher.hash_one(name) as usize % GENERATIONS
    }
}

impl Channel {
    fn new(epoch: Epoch) -> Self {
        Self {
            top: Position { epoch, offset: 0 },
            ring: VecDeque::new(),
            keys: HashMap::new(),
            expiry: None,
            listeners: ShardSet::default(),
            members: None,
        }
    }

    fn is_idle(&self) -> bool {
        self.listeners.is_empty() && self.ring.is_empty() && self.members.is_none()
    }

    /// Whether the oldest publication is too old to be kept.
    fn is_expired(&self, now_ms: u64, ttl_ms: u64) -> bool {
        self.ring.front().is_some_and(|oldest| oldest.draft.time_ms.saturating_add(ttl_ms) < now_ms)
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
