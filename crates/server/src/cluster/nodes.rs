use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use duplex_core::NodeId;
use tokio::time::{Instant, sleep};

/// Others answer a node that says that it is there. This is far more than the way there and back takes.
const ACQUAINTANCE: Duration = Duration::from_secs(1);
/// How often a node that has just come looks whether it has heard of another.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// This node, and the others that are known to live. Whoever is not in here has no sessions, as far as this node knows.
#[derive(Debug)]
pub struct Nodes {
    own: NodeId,
    peers: RwLock<HashMap<NodeId, Peer>>,
    /// Since when the others know of this one.
    introduced: OnceLock<Instant>,
}

/// Another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Where other nodes reach it: its `cluster.advertise`, if it has one.
    pub address: Option<SocketAddr>,
}

/// Whether a peer was known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Known {
    Already,
    Newly,
}

impl Nodes {
    /// A node that knows of no other.
    pub(crate) fn new(own: NodeId) -> Self {
        Self { own, peers: RwLock::default(), introduced: OnceLock::new() }
    }

    /// The id of this node.
    pub fn own(&self) -> NodeId {
        self.own
    }

    /// This node has told the others that it is there.
    pub(crate) fn introduce(&self) {
        self.introduced.get_or_init(Instant::now);
    }

    /// Whether the others know, or soon will, where sessions of this node are.
    pub(crate) fn is_introduced(&self) -> bool {
        self.introduced.get().is_some()
    }

    /// Where a living peer is reached. A node that has just come may not have heard of it yet: that is waited for, since the
    /// peer's sessions would be taken for unknown.
    pub(crate) async fn find(&self, id: NodeId) -> Option<SocketAddr> {
        let asked = Instant::now();
        let is_new = || self.introduced.get().is_none_or(|at| at.elapsed() < ACQUAINTANCE);
        while id != self.own && !self.read().contains_key(&id) && is_new() && asked.elapsed() < ACQUAINTANCE {
            sleep(LOOK_AGAIN).await;
        }
        self.address_of(id)
    }

    /// Whether it is a peer that lives.
    pub fn knows(&self, id: NodeId) -> bool {
        self.read().contains_key(&id)
    }

    /// Where a living peer is reached.
    pub fn address_of(&self, id: NodeId) -> Option<SocketAddr> {
        self.read().get(&id)?.address
    }

    /// The peers that live, in no order.
    pub fn peers(&self) -> Vec<(NodeId, Peer)> {
        self.read().iter().map(|(id, peer)| (*id, *peer)).collect()
    }

    /// A peer lives, and is there. Says whether it was known. What this node hears of itself is passed over.
    pub fn heard(&self, id: NodeId, peer: Peer) -> Known {
        match id == self.own || self.write().insert(id, peer).is_some() {
            true => Known::Already,
            false => Known::Newly,
        }
    }

    /// A peer does not live any more: its sessions are gone.
    pub fn gone(&self, id: NodeId) {
        self.write().remove(&id);
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<NodeId, Peer>> {
        self.peers.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<NodeId, Peer>> {
        self.peers.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_found_for_as_long_as_it_lives_and_a_node_is_not_its_own_peer() {
        let [own, other] = [1, 2].map(|byte| NodeId::from_random([byte; 8]));
        let nodes = Nodes::new(own);
        let peer = |port| Peer { address: Some(SocketAddr::from(([192, 0, 2, 1], port))) };
        nodes.heard(own, peer(1));
        assert!(nodes.peers().is_empty());
        nodes.heard(other, peer(1));
        nodes.heard(other, peer(2));
        assert_eq!((nodes.address_of(other), nodes.peers()), (peer(2).address, vec![(other, peer(2))]));
        nodes.gone(other);
        assert_eq!((nodes.address_of(other), nodes.peers()), (None, vec![]));
    }

    #[tokio::test]
    async fn a_node_that_has_just_come_waits_a_moment_to_hear_of_others() {
        let [own, other, dead] = [1, 2, 3].map(|byte| NodeId::from_random([byte; 8]));
        let nodes = Nodes::new(own);
        let peer = Peer { address: Some(SocketAddr::from(([192, 0, 2, 1], 1))) };
        let hears = async {
            sleep(LOOK_AGAIN).await;
            nodes.heard(other, peer);
        };
        assert_eq!(tokio::join!(nodes.find(other), hears).0, peer.address);
        nodes.introduce();
        let asked = Instant::now();
        assert_eq!(nodes.find(dead).await, None);
        assert!(asked.elapsed() >= ACQUAINTANCE);
        assert_eq!(nodes.find(own).await, None);
    }
}
