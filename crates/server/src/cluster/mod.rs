//! Several nodes that are one server: who is there, what they ask each other, and how a request gets to the node that has
//! its session.

mod nodes;
mod talk;

pub use nodes::{Known, Nodes, Peer};
pub(crate) use talk::{Gathered, Inlet, Notes, Talk, listen};

use duplex_core::NodeId;

/// The id of a node that starts.
pub(crate) fn new_node() -> NodeId {
    let mut random = [0; 8];
    getrandom::fill(&mut random).expect("the operating system gives random bytes");
    NodeId::from_random(random)
}
