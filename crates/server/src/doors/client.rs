use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use duplex_core::{CloseReason, Frame};
use duplex_engine::{SessionKey, Shard};
use duplex_transport::Handler;

use crate::places::{AddressPlace, Place};

/// A connection's place on its shard, by which the acceptor balances, and its place on the node. Dropping it frees both.
pub(crate) struct Seat {
    taken: Mutex<Arc<AtomicUsize>>,
    _place: Place,
}

/// Who is at the other end of a connection.
pub(crate) struct Caller {
    pub peer: IpAddr,
    pub entrance: Entrance,
    /// Kept for as long as the connection lasts.
    pub seat: Arc<Seat>,
}

/// Where a connection came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entrance {
    /// Where clients do.
    Public,
    /// Where other nodes do: who its client is, each request says.
    Peers,
}

impl Seat {
    /// Takes a place; `taken` counts them.
    pub fn take(taken: Arc<AtomicUsize>, place: Place) -> Self {
        taken.fetch_add(1, Relaxed);
        Self { taken: Mutex::new(taken), _place: place }
    }

    /// The connection goes to another shard, whose connections `taken` counts.
    pub fn move_to(&self, taken: &Arc<AtomicUsize>) {
        taken.fetch_add(1, Relaxed);
        let mut here = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *here, Arc::clone(taken)).fetch_sub(1, Relaxed);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.taken.get_mut().unwrap_or_else(PoisonError::into_inner).fetch_sub(1, Relaxed);
    }
}

/// A session as its transport sees it.
pub(crate) struct Client {
    pub shard: Rc<Shard>,
    pub key: SessionKey,
    /// Kept for as long as the connection lasts.
    pub _caller: Arc<Caller>,
    /// The same, if it came through a proxy.
    pub _place: Option<AddressPlace>,
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
