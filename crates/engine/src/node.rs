use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::{Bytes, BytesMut};
use duplex_core::{
    Audience, ChannelName, CloseReason, Deliver, Encode, EncodingId, Event, ShardId, ShardSet, UserId,
};

use crate::inbox::{Inbox, NoRoom, Note, Whom};
use crate::inquiry::Inquiries;

/// What the shards of a process share.
pub struct Node {
    inboxes: Vec<Inbox>,
    encodings: Vec<Encoding>,
    /// How many connections each user has.
    users: Mutex<HashMap<UserId, usize>>,
    pub(crate) inquiries: Inquiries,
    pub(crate) gauges: Gauges,
}

/// A wire form, and the one to use in its place where nothing is to be compressed.
pub struct Encoding {
    /// Makes the frames.
    pub encode: Box<dyn Encode>,
    /// Frames of this encoding are understood by the same clients; its own id if it does not compress.
    pub plain: EncodingId,
    /// Whether frames that go out together may be one piece of bytes.
    pub pieces: Pieces,
}

/// Whether frames that go out together may be one piece of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pieces {
    /// They may: each frame says where it ends.
    Joined,
    /// Each is one by itself: a link tells them apart.
    Single,
}

/// How much there is of what must not leak.
#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct Gauges {
    pub(crate) sessions: AtomicUsize,
    pub(crate) subscriptions: AtomicUsize,
    pub(crate) outbox_bytes: AtomicUsize,
    /// By place in [`CloseReason::ALL`].
    closed: [AtomicU64; CloseReason::ALL.len()],
    pub(crate) thinned_out: AtomicU64,
}

impl Gauges {
    /// Sessions now, on all shards.
    pub fn sessions(&self) -> usize {
        self.sessions.load(Relaxed)
    }

    /// Subscriptions now, on all shards.
    pub fn subscriptions(&self) -> usize {
        self.subscriptions.load(Relaxed)
    }

    /// Bytes that wait for clients, on all shards, as of each shard's last tick.
    pub fn outbox_bytes(&self) -> usize {
        self.outbox_bytes.load(Relaxed)
    }

    /// Sessions that were closed for this reason, since the start.
    pub fn closed(&self, reason: &CloseReason) -> u64 {
        place(reason).map_or(0, |place| self.closed[place].load(Relaxed))
    }

    /// Publications that slow subscribers did not get because their namespace lets them be thinned out, since the start.
    pub fn thinned_out(&self) -> u64 {
        self.thinned_out.load(Relaxed)
    }

    pub(crate) fn count_closed(&self, reason: &CloseReason) {
        if let Some(place) = place(reason) {
            self.closed[place].fetch_add(1, Relaxed);
        }
    }
}

fn place(reason: &CloseReason) -> Option<usize> {
    CloseReason::ALL.iter().position(|known| known.code == reason.code)
}

impl Node {
    /// A node of `shards` shards (1 to [`ShardSet::MAX`]) whose subscribers may want any of `encodings`.
    /// At most `inbox_bytes` of publications wait for each shard.
    pub fn new(shards: usize, encodings: Vec<Encoding>, inbox_bytes: usize) -> Self {
        assert!((1..=ShardSet::MAX).contains(&shards), "a node has 1 to {} shards", ShardSet::MAX);
        let inboxes = (0..shards).map(|_| Inbox::new(inbox_bytes)).collect();
        let (users, inquiries, gauges) = Default::default();
        Self { inboxes, encodings, users, inquiries, gauges }
    }

    /// The ids of its shards.
    pub fn shards(&self) -> impl Iterator<Item = ShardId> {
        (0..self.inboxes.len()).filter_map(ShardId::new)
    }

    /// How much there is of what must not leak.
    pub fn gauges(&self) -> &Gauges {
        &self.gauges
    }

    /// Closes sessions for a reason, on whatever shard they are.
    ///
    /// # Errors
    /// Too much of this is under way; some may be closed.
    pub fn close(&self, whom: &Whom, reason: &'static CloseReason) -> Result<(), NoRoom> {
        self.inboxes.iter().try_for_each(|inbox| inbox.note(Note::Close(whom.clone(), reason)))
    }

    /// Connections a user has.
    pub fn connections(&self, user: &str) -> usize {
        self.lock_users().get(user).copied().unwrap_or(0)
    }

    /// Counts another connection of a user, if it may have one more.
    pub(crate) fn take_place(&self, user: &UserId, limit: usize) -> Result<(), TooMany> {
        let mut users = self.lock_users();
        let count = users.entry(user.clone()).or_default();
        if *count >= limit {
            return Err(TooMany);
        }
        *count += 1;
        Ok(())
    }

    /// A connection of the user has ended.
    pub(crate) fn free_place(&self, user: &UserId) {
        let mut users = self.lock_users();
        let Some(count) = users.get_mut(user) else { return };
        *count -= 1;
        if *count == 0 {
            users.remove(user);
        }
    }

    fn lock_users(&self) -> std::sync::MutexGuard<'_, HashMap<UserId, usize>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The encoding to use for a client that wants `encoding` where nothing is to be compressed.
    pub(crate) fn plain(&self, encoding: EncodingId) -> EncodingId {
        self.encodings[encoding.index()].plain
    }

    pub(crate) fn inbox(&self, shard: ShardId) -> &Inbox {
        &self.inboxes[shard.index()]
    }

    /// The frames of a run of publications in one encoding, back to back.
    pub(crate) fn encode(&self, run: &[Arc<Delivery>], encoding: EncodingId) -> Bytes {
        match run {
            [one] => one.encoded(self, encoding).clone(),
            many => {
                let frames = || many.iter().map(|delivery| delivery.encoded(self, encoding));
                let mut joined = BytesMut::with_capacity(frames().map(Bytes::len).sum());
                frames().for_each(|frame| joined.extend_from_slice(frame));
                joined.freeze()
            }
        }
    }

    /// The frames of a run of publications in one encoding, in as few pieces as it allows.
    pub(crate) fn pieces(&self, run: &[Arc<Delivery>], encoding: EncodingId) -> Vec<Bytes> {
        match self.encodings[encoding.index()].pieces {
            Pieces::Joined => vec![self.encode(run, encoding)],
            Pieces::Single => run.iter().map(|delivery| delivery.encoded(self, encoding).clone()).collect(),
        }
    }

    pub(crate) fn delivery(&self, event: Event) -> Arc<Delivery> {
        let encoded = self.encodings.iter().map(|_| OnceLock::new()).collect();
        Arc::new(Delivery { event, encoded })
    }
}

impl Deliver for Node {
    fn deliver(&self, shards: ShardSet, event: Event) {
        let delivery = self.delivery(event);
        for shard in shards.iter() {
            self.inbox(shard).push(Arc::clone(&delivery));
        }
    }

    fn missed(&self, shards: ShardSet, channel: &ChannelName) {
        shards.iter().for_each(|shard| self.inbox(shard).missed(channel));
    }
}

/// The user has as many connections as allowed.
#[derive(Debug)]
pub(crate) struct TooMany;

/// An event on its way to the subscribers of this node: each encoding is made at most once.
pub(crate) struct Delivery {
    pub event: Event,
    encoded: Box<[OnceLock<Bytes>]>,
}

impl Delivery {
    pub fn channel(&self) -> &ChannelName {
        self.event.channel()
    }

    /// Whether every subscriber gets it.
    pub fn is_for_everyone(&self) -> bool {
        self.audience().is_none_or(Audience::is_everyone)
    }

    /// Who gets it, if it is a publication.
    pub fn audience(&self) -> Option<&Audience> {
        match &self.event {
            Event::Publication(publication) => Some(&publication.draft.audience),
            Event::Presence(_) => None,
        }
    }

    fn encoded(&self, node: &Node, encoding: EncodingId) -> &Bytes {
        let index = encoding.index();
        let encode = &node.encodings[index].encode;
        self.encoded[index].get_or_init(|| match &self.event {
            Event::Publication(publication) => encode.publication(publication),
            Event::Presence(change) => encode.presence(change),
        })
    }
}
