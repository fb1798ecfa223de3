use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use duplex_core::ChannelName;
use tokio::sync::Notify;

use crate::node::Delivery;

/// Publications on their way to one shard. Any thread puts in, the shard takes all at once.
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
}

impl Inbox {
    pub fn new(bytes_max: usize) -> Self {
        Self { waiting: Mutex::default(), bytes_max, wake: Notify::new() }
    }

    /// Never blocks: what does not fit is dropped, and remembered as missed.
    pub fn push(&self, delivery: Arc<Delivery>) {
        let mut waiting = self.lock();
        let first = waiting.deliveries.is_empty() && waiting.missed.is_empty();
        let weight = delivery.publication.weight();
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

    /// Takes all that waits.
    pub fn take(&self) -> Waiting {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
