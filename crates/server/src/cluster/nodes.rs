use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use duplex_core::NodeId;

/// This node, and the others that are known to live. Whoever is not in here has no sessions, as far as this node knows.
#[derive(Debug)]
pub struct Nodes {
    own: NodeId,
    peers: RwLock<HashMap<NodeId, Peer>>,
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
        Self { own, peers: RwLock::default() }
    }

    /// The id of this node.
    pub fn own(&self) -> NodeId {
        self.own
    }

    /// Whether no other node is known.
    pub fn is_alone(&self) -> bool {
        self.read().is_empty()
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
        assert!(nodes.is_alone());
        nodes.heard(other, peer(1));
        nodes.heard(other, peer(2));
        assert_eq!((nodes.address_of(other), nodes.peers()), (peer(2).address, vec![(other, peer(2))]));
        nodes.gone(other);
        assert_eq!((nodes.address_of(other), nodes.is_alone()), (None, true));
    }
}
