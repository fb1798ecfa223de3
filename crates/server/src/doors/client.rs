use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use duplex_core::{CloseReason, Frame};
use duplex_engine::{SessionKey, Shard};
use duplex_transport::Handler;

/// A connection's place on its shard, by which the acceptor balances. Dropping it frees the place.
pub(crate) struct Seat(Arc<AtomicUsize>);

impl Seat {
    /// Takes a place; `taken` counts them.
    pub fn take(taken: Arc<AtomicUsize>) -> Self {
        taken.fetch_add(1, Relaxed);
        Self(taken)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// A session as its transport sees it.
pub(crate) struct Client {
    pub shard: Rc<Shard>,
    pub key: SessionKey,
    /// Kept for as long as the connection lasts.
    pub _seat: Rc<Seat>,
}

impl Handler for Client {
    fn message(&self, frame: Frame<'_>) {
        self.shard.receive(self.key, frame);
    }

    fn heard(&self) {
        self.shard.heard(self.key);
    }

    fn reply(&self, wire: Bytes) {
        self.shard.queue(self.key, wire);
    }

    fn close(&self, reason: &'static CloseReason, detail: &str) {
        self.shard.close(self.key, reason, detail);
    }

    fn writable(&self) {
        self.shard.writable(self.key);
    }

    fn ended(&self) {
        self.shard.ended(self.key);
    }
}
