use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use duplex_core::{ChannelName, Deliver, Encode, EncodingId, Publication, ShardId, ShardSet};

use crate::inbox::Inbox;

/// What the shards of a process share.
pub struct Node {
    inboxes: Vec<Inbox>,
    encodings: Vec<Box<dyn Encode>>,
    pub(crate) gauges: Gauges,
}

/// How much there is of what must not leak.
#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct Gauges {
    pub(crate) sessions: AtomicUsize,
    pub(crate) subscriptions: AtomicUsize,
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
}

impl Node {
    /// A node of `shards` shards (1 to [`ShardSet::MAX`]) whose subscribers may want any of `encodings`.
    /// At most `inbox_bytes` of publications wait for each shard.
    pub fn new(shards: usize, encodings: Vec<Box<dyn Encode>>, inbox_bytes: usize) -> Self {
        assert!((1..=ShardSet::MAX).contains(&shards), "a node has 1 to {} shards", ShardSet::MAX);
        let inboxes = (0..shards).map(|_| Inbox::new(inbox_bytes)).collect();
        Self { inboxes, encodings, gauges: Gauges::default() }
    }

    /// The ids of its shards.
    pub fn shards(&self) -> impl Iterator<Item = ShardId> {
        (0..self.inboxes.len()).filter_map(ShardId::new)
    }

    /// How much there is of what must not leak.
    pub fn gauges(&self) -> &Gauges {
        &self.gauges
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

    pub(crate) fn delivery(&self, publication: Arc<Publication>) -> Arc<Delivery> {
        let encoded = self.encodings.iter().map(|_| OnceLock::new()).collect();
        Arc::new(Delivery { publication, encoded })
    }
}

impl Deliver for Node {
    fn deliver(&self, shards: ShardSet, publication: Arc<Publication>) {
        let delivery = self.delivery(publication);
        for shard in shards.iter() {
            self.inbox(shard).push(Arc::clone(&delivery));
        }
    }
}

/// A publication on its way to the subscribers of this node: each encoding is made at most once.
pub(crate) struct Delivery {
    pub publication: Arc<Publication>,
    encoded: Box<[OnceLock<Bytes>]>,
}

impl Delivery {
    pub fn channel(&self) -> &ChannelName {
        &self.publication.draft.channel
    }

    fn encoded(&self, node: &Node, encoding: EncodingId) -> &Bytes {
        let index = encoding.index();
        self.encoded[index].get_or_init(|| node.encodings[index].publication(&self.publication))
    }
}
