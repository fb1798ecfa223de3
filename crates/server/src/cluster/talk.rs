//! What nodes say to each other: that they live, what a backend asks all of them, and what they answer.
//!
//! A note is JSON. Which version of this it is, the broker says; a kind that is not known here is passed over, so that nodes
//! of two versions can be one cluster while one replaces the other.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use duplex_core::{ChannelName, Cluster, Deliver, Event, Health, NodeId, Recipient, RowKey, ShardSet};
use duplex_engine::{Node, unix_ms};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::time::{interval, timeout, timeout_at};

use super::{Known, Nodes, Peer};
use crate::api::{Endpoint, Station};
use crate::auth::Revoked;
use crate::doors::Away;

/// How often a node says that it lives.
const BEAT: Duration = Duration::from_secs(3);
/// How often a node that starts looks whether the broker is there.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// A node that was not heard for so long is gone.
const SILENCE: Duration = Duration::from_secs(12);
/// Notes that may wait to be read; beyond it they are dropped, as on the way.
const NOTES_MAX: usize = 4_096;
/// Revocations in one note.
const REVOKED_AT_ONCE: usize = 1_000;
/// How much longer than a question other nodes are waited for: the way there and back.
const WAY: Duration = Duration::from_secs(1);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Note<'a> {
    /// The sender lives.
    Here { address: Option<SocketAddr> },
    /// It will not any more.
    Leaving,
    /// What a backend asks of all nodes: a request of the HTTP API.
    Ask {
        id: u64,
        #[serde(borrow)]
        endpoint: Cow<'a, str>,
        #[serde(borrow)]
        body: &'a RawValue,
    },
    /// What comes of it at the sender.
    Answer {
        id: u64,
        #[serde(borrow)]
        body: &'a RawValue,
    },
    /// Who was revoked before the receiver came.
    Revoked(Revoked),
    /// A client of Socket.IO has come back, to the sender, that was at the receiver: which is to let go of it, and to write down
    /// where it stood. It is named by the key of its row.
    Release { id: u64, client: RowKey },
}

/// Who waits for answers to which question.
type Asked = HashMap<u64, mpsc::Sender<Answer>>;

/// Who has answered, and what.
type Answer = (NodeId, Box<RawValue>);

/// How this node talks to the others.
pub(crate) struct Talk {
    nodes: Arc<Nodes>,
    /// `None` for a node that has no others.
    cluster: Option<Arc<dyn Cluster>>,
    /// Where the others reach this node.
    address: Option<SocketAddr>,
    asked: Mutex<Asked>,
    next: AtomicU64,
    /// Nodes that did not answer in time, and were not heard since: they may be dead.
    silent: Mutex<HashSet<NodeId>>,
}

/// What other nodes have answered.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    pub answers: Vec<Answer>,
    /// Those that have not answered in time.
    pub silent: Vec<NodeId>,
}

impl Talk {
    pub fn new(nodes: Arc<Nodes>, cluster: Option<Arc<dyn Cluster>>, address: Option<SocketAddr>) -> Self {
        if cluster.is_none() {
            // Nobody else need know.
            nodes.introduce();
        }
        let (asked, silent) = (Mutex::default(), Mutex::default());
        Self { nodes, cluster, address, asked, next: AtomicU64::new(0), silent }
    }

    /// This node and the others.
    pub fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    /// Asks all other nodes, and waits for their answers, or for `within` and the way.
    pub async fn gather(&self, endpoint: Endpoint, body: &[u8], within: Duration) -> Gathered {
        let mut silent: Vec<NodeId> = self.nodes.peers().into_iter().map(|(id, _)| id).collect();
        let body = serde_json::from_slice::<&RawValue>(if body.is_empty() { b"{}" } else { body });
        let (false, Ok(body)) = (silent.is_empty(), body) else {
            return Gathered { silent, ..Gathered::default() };
        };
        let id = self.next.fetch_add(1, Relaxed);
        let (sender, mut receiver) = mpsc::channel(silent.len());
        self.lock().insert(id, sender);
        let _asking = Asking { talk: self, id };
        self.send(Recipient::All, &Note::Ask { id, endpoint: endpoint.name().into(), body });
        let deadline = tokio::time::Instant::now() + within + WAY;
        let mut answers = Vec::new();
        while !silent.is_empty() {
            let Ok(Some((from, answer))) = timeout_at(deadline, receiver.recv()).await else { break };
            // Who came meanwhile has answered, too.
            silent.retain(|node| *node != from);
            answers.push((from, answer));
        }
        Gathered { answers, silent }
    }

    /// Has another node let go of a client; returns when it has, or does not answer.
    pub async fn release(&self, node: NodeId, client: RowKey) {
        if !self.nodes.knows(node) || self.silent().contains(&node) {
            return;
        }
        let id = self.next.fetch_add(1, Relaxed);
        let (sender, mut receiver) = mpsc::channel(1);
        self.lock().insert(id, sender);
        let _asking = Asking { talk: self, id };
        self.send(Recipient::One(node), &Note::Release { id, client });
        if timeout(WAY, receiver.recv()).await.is_err() {
            self.silent().insert(node);
        }
    }

    /// Waits for the broker.
    async fn until_reachable(&self) {
        while self.cluster.as_ref().is_some_and(|cluster| cluster.health() == Health::Unreachable) {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    fn send(&self, to: Recipient, note: &Note<'_>) {
        if let Some(cluster) = &self.cluster {
            cluster.send(to, serde_json::to_vec(note).expect("strings and numbers always serialize").into());
        }
    }

    fn silent(&self) -> MutexGuard<'_, HashSet<NodeId>> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answered(&self, id: u64, from: NodeId, body: &RawValue) {
        if let Some(waiting) = self.lock().get(&id) {
            // Whoever answers twice finds no room in the end.
            drop(waiting.try_send((from, body.to_owned())));
        }
    }
}

/// A question that is waited for. Whoever asked may go before it is answered.
struct Asking<'a> {
    talk: &'a Talk,
    id: u64,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.talk.lock().remove(&self.id);
    }
}

/// Where what comes from the broker goes.
pub(crate) struct Inlet {
    node: Arc<Node>,
    notes: mpsc::Sender<(NodeId, Bytes)>,
}

/// Notes of other nodes, as they come.
pub(crate) type Notes = mpsc::Receiver<(NodeId, Bytes)>;

impl Inlet {
    pub fn new(node: Arc<Node>) -> (Self, Notes) {
        let (notes, waiting) = mpsc::channel(NOTES_MAX);
        (Self { node, notes }, waiting)
    }
}

impl Deliver for Inlet {
    fn deliver(&self, shards: ShardSet, event: Event) {
        self.node.deliver(shards, event);
    }

    fn missed(&self, shards: ShardSet, channel: &ChannelName) {
        self.node.missed(shards, channel);
    }

    fn note(&self, from: NodeId, note: Bytes) {
        if self.notes.try_send((from, note)).is_err() {
            tracing::warn!(%from, "too many notes of other nodes wait; one is dropped");
        }
    }
}

/// Says that this node lives, hears who else does, and answers what they ask, until it is dropped.
pub(crate) async fn listen(talk: Arc<Talk>, mut notes: Notes, station: Station, away: Away) {
    let mut heard = HashMap::new();
    let mut beats = interval(BEAT);
    talk.until_reachable().await;
    loop {
        tokio::select! {
            note = notes.recv() => match note {
                Some((from, note)) => take(&talk, (&station, &away), (from, &note), &mut heard),
                None => return,
            },
            _ = beats.tick() => {
                talk.send(Recipient::All, &Note::Here { address: talk.address });
                talk.nodes.introduce();
                heard.retain(|id, at: &mut Instant| {
                    let lives = at.elapsed() < SILENCE;
                    if !lives {
                        tracing::warn!(node = %id, "a node is not heard any more");
                        talk.nodes.gone(*id);
                        talk.silent().remove(id);
                    }
                    lives
                });
            }
        }
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.send(Recipient::All, &Note::Leaving);
    }
}

fn take(
    talk: &Arc<Talk>,
    (station, away): (&Station, &Away),
    (from, note): (NodeId, &[u8]),
    heard: &mut HashMap<NodeId, Instant>,
) {
    let note = match serde_json::from_slice(note) {
        Ok(note) => note,
        Err(error) => {
            return tracing::warn!(%from, %error, "a note of another node is not understood, and passed over");
        }
    };
    talk.silent().remove(&from);
    match note {
        Note::Here { address } => {
            heard.insert(from, Instant::now());
            if talk.nodes.heard(from, Peer { address }) == Known::Newly {
                tracing::info!(node = %from, "another node is there");
                welcome(talk, station, from);
            }
        }
        Note::Leaving => {
            heard.remove(&from);
            talk.nodes.gone(from);
        }
        Note::Ask { id, endpoint, body } => {
            let Some(endpoint) = Endpoint::at(&format!("/api/v1/{endpoint}")) else { return };
            let (talk, station, body) = (Arc::clone(talk), station.clone(), body.to_owned());
            tokio::spawn(async move {
                if let Ok(answer) = endpoint.of_this_node(&station, body.get().as_bytes()).await
                    && let Ok(body) = serde_json::from_slice(&answer)
                {
                    talk.send(Recipient::One(from), &Note::Answer { id, body });
                }
            });
        }
        Note::Answer { id, body } => talk.answered(id, from, body),
        Note::Revoked(revoked) => station.authority.revoke_all(&revoked, unix_ms()),
        Note::Release { id, client } => {
            let talk = Arc::clone(talk);
            let released =
                move || talk.send(Recipient::One(from), &Note::Answer { id, body: RawValue::NULL });
            away.release(client, Box::new(released));
        }
    }
}

/// Tells a node that has come what it cannot know.
fn welcome(talk: &Talk, station: &Station, newcomer: NodeId) {
    talk.send(Recipient::One(newcomer), &Note::Here { address: talk.address });
    for some in station.authority.revoked().portions(REVOKED_AT_ONCE) {
        talk.send(Recipient::One(newcomer), &Note::Revoked(some));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_asks_and_goes_leaves_nothing_behind() {
        let [own, other] = [1, 2].map(|byte| NodeId::from_random([byte; 8]));
        let nodes = Arc::new(Nodes::new(own));
        nodes.heard(other, Peer { address: None });
        let talk = Talk::new(nodes, None, None);
        let asking = talk.gather(Endpoint::Info, b"", Duration::from_secs(60));
        assert!(tokio::time::timeout(Duration::ZERO, asking).await.is_err());
        assert_eq!(talk.lock().len(), 0);
    }
}
