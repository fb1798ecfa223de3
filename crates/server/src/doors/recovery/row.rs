//! What is kept of a client at the broker, so that it may come back to any node, whatever becomes of the one it was at.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use duplex_core::{
    BrokerError, ChannelName, ClientId, Cluster, Epoch, Kept, NodeId, Pending, Position, Row, UserId,
};
use duplex_engine::{Keeper, Membership, Memory, Record};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use super::Secret;
use crate::drain::Unfinished;

/// How long a row is kept. That of a client that is there is written again before.
pub(super) const TTL: Duration = Duration::from_secs(3_600);
/// The same in milliseconds.
pub(super) const TTL_MS: u64 = TTL.as_secs() * 1_000;
/// How long it is known that there is none: longer than an older one may be on its way.
const GONE_TTL: Duration = Duration::from_secs(60);
/// Versions that one node may write before another goes on from there: it counts on from the next multiple.
const TERM: u64 = 1 << 20;

/// Clients of a shard whose rows are to be written.
pub(super) type Changes = RefCell<VecDeque<Secret>>;

/// Writes the row of one client, for as long as it is at this node.
pub(super) struct Keeping {
    secret: Secret,
    /// This node.
    own: NodeId,
    cluster: Arc<dyn Cluster>,
    unfinished: Unfinished,
    changes: Rc<Changes>,
    noted: Cell<Noted>,
    /// The newest version that was written.
    version: Cell<u64>,
    /// The version of the row that others may go by; 0 if there is none.
    relied_on: Arc<AtomicU64>,
}

/// Whether a client stands among the [`Changes`].
#[derive(Debug, Clone, Copy, PartialEq)]
enum Noted {
    Yes,
    No,
}

/// The version from which on another node writes a row.
pub(super) fn next_term(version: u64) -> u64 {
    (version / TERM + 1) * TERM
}

impl Keeping {
    /// Goes on from `version`, which is kept; from 0 if nothing is.
    pub fn new(
        (secret, own): (Secret, NodeId),
        version: u64,
        (cluster, unfinished): (Arc<dyn Cluster>, Unfinished),
        changes: Rc<Changes>,
    ) -> Rc<Self> {
        let (noted, relied_on) = (Cell::new(Noted::No), Arc::new(AtomicU64::new(version)));
        Rc::new(Self {
            secret,
            own,
            cluster,
            unfinished,
            changes,
            noted,
            version: Cell::new(version),
            relied_on,
        })
    }

    /// The newest version that was written, or is gone on from.
    pub fn version(&self) -> u64 {
        self.version.get()
    }

    /// Writes it. If that fails, it will be tried again.
    pub fn write(self: &Rc<Self>, record: &Record, namespace: &str, ttl: Duration) -> JoinHandle<()> {
        let kept = self.keep(Some(Form::of(record, namespace)), ttl);
        self.relied_on.store(self.version.get(), Relaxed);
        let (own, work) = (Rc::downgrade(self), self.unfinished.begin());
        tokio::task::spawn_local(async move {
            let kept = kept.await;
            drop(work);
            // Too late is as good: the client is at another node.
            if let Err(error) = kept {
                tracing::debug!(%error, "what a client may come back by was not kept");
                tokio::time::sleep(Duration::from_secs(1)).await;
                own.upgrade().inspect(|own| own.changed());
            }
        })
    }

    /// The client cannot come back by it.
    pub fn erase(&self) {
        if self.relied_on.load(Relaxed) != 0 {
            drop(self.keep(None, GONE_TTL));
        }
    }

    /// It is taken off the [`Changes`].
    pub fn seen_to(&self) {
        self.noted.set(Noted::No);
    }

    fn keep(&self, client: Option<Form>, ttl: Duration) -> Pending<Result<Kept, BrokerError>> {
        let content = Content { o: self.own.to_string(), client };
        let content = serde_json::to_vec(&content).expect("strings and numbers always serialize").into();
        self.version.set(self.version.get() + 1);
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        self.cluster.keep(self.secret, Row { version: self.version.get(), content }, ttl_ms)
    }
}

impl Keeper for Keeping {
    fn changed(&self) {
        if self.noted.replace(Noted::Yes) == Noted::No {
            self.changes.borrow_mut().push_back(self.secret);
        }
    }

    fn unsettle(&self) -> Option<Pending<Result<(), BrokerError>>> {
        let before = self.relied_on.load(Relaxed);
        if before == 0 {
            return None;
        }
        self.changed();
        let (kept, relied_on) = (self.keep(None, TTL), Arc::clone(&self.relied_on));
        Some(Box::pin(async move {
            if kept.await? == Kept::TooLate {
                return Err(BrokerError::Refused("its client has come back to another node".to_owned()));
            }
            // Unless a newer one was written meanwhile.
            let _ = relied_on.compare_exchange(before, 0, Relaxed, Relaxed);
            Ok(())
        }))
    }
}

/// A row as it is written. Names are short; what is not known is passed over, so that a later version may add to it.
#[derive(Serialize, Deserialize)]
struct Content {
    /// The node that wrote it.
    o: String,
    /// `None` if the client cannot come back by it.
    #[serde(flatten)]
    client: Option<Form>,
}

#[derive(Serialize, Deserialize)]
struct Form {
    /// The namespace.
    n: String,
    /// The client, and its user.
    i: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    u: Option<String>,
    /// What it had seen before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    b: Option<(String, u64)>,
    /// Its channels, with epoch and offset; 1 if it is in it still.
    c: Vec<(String, String, u64, u8)>,
    /// What it was sent.
    s: Vec<(u32, u64)>,
    /// 1: that is all.
    w: u8,
}

impl Form {
    fn of(record: &Record, namespace: &str) -> Self {
        let channel = |(name, at, membership): &(ChannelName, Position, Membership)| {
            (name.to_string(), at.epoch.to_string(), at.offset, u8::from(*membership == Membership::Joined))
        };
        Self {
            n: namespace.to_owned(),
            i: record.client.to_string(),
            u: record.user.as_ref().map(|user| user.to_string()),
            b: record.before.map(|at| (at.epoch.to_string(), at.offset)),
            c: record.channels.iter().map(channel).collect(),
            s: record.steps.clone(),
            w: u8::from(record.memory == Memory::Whole),
        }
    }

    fn record(self) -> Option<Record> {
        let position = |epoch: &str, offset| Some(Position { epoch: Epoch::parse(epoch)?, offset });
        let channel = |(name, epoch, offset, joined): (String, String, u64, u8)| {
            let membership = if joined == 1 { Membership::Joined } else { Membership::Left };
            Some((ChannelName::parse(&name).ok()?, position(&epoch, offset)?, membership))
        };
        let before = match self.b {
            Some((epoch, offset)) => Some(position(&epoch, offset)?),
            None => None,
        };
        Some(Record {
            client: ClientId::parse(&self.i)?,
            user: self.u.map(|user| UserId::parse(&user)).transpose().ok()?,
            before,
            channels: self.c.into_iter().map(channel).collect::<Option<_>>()?,
            steps: self.s,
            memory: if self.w == 1 { Memory::Whole } else { Memory::Shortened },
        })
    }
}

/// The node that wrote a row.
pub(super) fn writer(content: &[u8]) -> Option<NodeId> {
    NodeId::parse(&serde_json::from_slice::<Content>(content).ok()?.o)
}

/// What a row says of a client of this namespace, if it says anything.
pub(super) fn read(content: &[u8], namespace: &str) -> Option<Record> {
    let form = serde_json::from_slice::<Content>(content).ok()?.client?;
    if form.n == namespace { form.record() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let at = |offset| Position { epoch: Epoch::from_random([7; 6]), offset };
        let name = |name| ChannelName::parse(name).unwrap();
        let record = Record {
            client: ClientId::from_random([1; 16]),
            user: Some(UserId::parse("ada").unwrap()),
            before: Some(at(3)),
            channels: vec![
                (name("a \"b\""), at(9), Membership::Joined),
                (name("c"), at(0), Membership::Left),
            ],
            steps: vec![(0, 8), (0, 9)],
            memory: Memory::Shortened,
        };
        let content = |record: &Record, namespace: &str| {
            let (o, client) = (NodeId::from_random([9; 8]).to_string(), Some(Form::of(record, namespace)));
            serde_json::to_vec(&Content { o, client }).unwrap()
        };
        let written = content(&record, "/chat");
        assert_eq!(writer(&written), Some(NodeId::from_random([9; 8])));
        assert_eq!(read(&written, "/chat"), Some(record.clone()));
        assert_eq!(read(&written, "/"), None);
        let gone = br#"{"o":"0909090909090909"}"#;
        assert_eq!((read(gone, "/chat"), writer(gone)), (None, Some(NodeId::from_random([9; 8]))));
        assert_eq!((read(b"", "/chat"), writer(b"")), (None, None));
        let bare = Record { user: None, before: None, channels: Vec::new(), memory: Memory::Whole, ..record };
        let written = content(&bare, "/");
        assert_eq!(read(&written, "/"), Some(bare));
    }
}
