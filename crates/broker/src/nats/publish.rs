//! Publishing: what waits in a channel's lane becomes one message, which is stored only if the channel's last message is the
//! one that we know. Whoever loses that race reads what was published instead, and tries again.

use std::time::Duration;

use bytes::Bytes;
use duplex_core::{BrokerError, ChannelName, Draft, Position, Retention};
use tokio::time::Instant;

use super::batch::{Batch, LINKS_MAX};
use super::connection::{Connection, Failure};
use super::heads::{Head, Keys};
use super::history::{Piece, fresh_epoch, piece};
use super::jetstream::Stored;
use super::streams::{Limits, Plan};
use super::{AGAIN, Answer, Shared, random};

/// Publications in one message.
pub(super) const BATCH_MAX: usize = 32;
/// Bytes in one message, if there are several publications in it.
pub(super) const BATCH_BYTES_MAX: usize = 128 << 10;

/// One publication that waits.
pub(super) struct Publish {
    pub draft: Draft,
    pub written: Bytes,
    pub retention: Retention,
    pub answer: Answer<Position>,
}

/// What becomes of a publication.
enum Fate {
    /// It repeats one that is kept.
    Repeats(Result<Position, BrokerError>),
    /// It is the one with this index among those in the message.
    Follows(u64),
}

/// What may have been stored.
struct Unsure {
    /// It is the first one behind this sequence, if it is there.
    behind: u64,
    fates: Vec<Fate>,
}

/// How a try went.
enum Tried {
    Published,
    /// Somebody else was faster.
    Conflict,
}

/// Publications of one channel that are published together.
struct Batching<'a> {
    shared: &'a Shared,
    name: &'a ChannelName,
    all: Vec<Publish>,
    retention: Retention,
    deadline: Instant,
    /// Tells its message from all others, in each try.
    nonce: u64,
    /// The connection broke, so that a message may have been stored, or will be.
    unsure: Option<Unsure>,
}

impl Shared {
    /// Publishes, and answers each.
    pub async fn publish_all(&self, name: &ChannelName, all: Vec<Publish>) {
        let Some(first) = all.first() else { return };
        let (retention, deadline) = (first.retention, first.answer.deadline);
        let mut batching =
            Batching { shared: self, name, all, retention, deadline, nonce: random(), unsure: None };
        if let Err(error) = batching.run().await {
            batching.all.into_iter().for_each(|publish| publish.answer.give(Err(error.clone())));
        }
    }
}

impl Batching<'_> {
    async fn run(&mut self) -> Result<(), BrokerError> {
        loop {
            let Some(connection) = self.shared.connection_by(self.deadline).await else {
                return Err(self.given_up(BrokerError::Unreachable));
            };
            // It has waited for others until its time was over.
            if Instant::now() >= self.deadline {
                return Err(self.given_up(BrokerError::Unreachable));
            }
            let failure = match self.attempt(&connection).await {
                Ok(Tried::Published) => return Ok(()),
                Ok(Tried::Conflict) => continue,
                Err(failure) => failure,
            };
            match failure {
                // With another connection it may become known what happened.
                Failure::Broken => {}
                Failure::Nobody => {
                    self.shared.streams.forget(&self.shared.subjects.history_stream(self.name));
                }
                failure => return Err(self.given_up(failure.into())),
            }
            if Instant::now() + AGAIN > self.deadline {
                return Err(self.given_up(BrokerError::Unreachable));
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// What to answer if this is the end.
    fn given_up(&self, error: BrokerError) -> BrokerError {
        if self.unsure.is_some() { BrokerError::NoAnswer } else { error }
    }

    async fn attempt(&mut self, connection: &Connection) -> Result<Tried, Failure> {
        let Shared { subjects, storage, streams, heads, .. } = self.shared;
        let plan = Plan::history(subjects, *storage, self.name, Limits::of(self.retention));
        streams.ensure(connection, &plan, self.deadline).await?;
        let mut head = match heads.take(self.name).filter(|_| self.unsure.is_none()) {
            Some(head) => head,
            None => match self.look(connection).await? {
                Some(head) => head,
                None => return Ok(Tried::Published),
            },
        };
        if head.keys.is_none() && self.all.iter().any(|publish| publish.draft.key.is_some()) {
            head.keys = Some(self.read_keys(connection, &head).await?);
        }
        let (batch, mut head, fates) = self.compose(head);
        if !batch.drafts.is_empty() {
            let subject = subjects.history(self.name);
            let stored = connection.store(subject, Some(head.sequence), batch.write(), self.deadline).await;
            match stored {
                Ok(Stored::At(sequence)) => {
                    head.sequence = sequence;
                    head.links.insert(0, sequence);
                    head.links.truncate(LINKS_MAX);
                }
                Ok(Stored::Conflict) => return Ok(Tried::Conflict),
                Err(failure) => {
                    if matches!(failure, Failure::Broken | Failure::Late) {
                        self.unsure = Some(Unsure { behind: head.sequence, fates });
                    }
                    return Err(failure);
                }
            }
        }
        self.done(&batch, head, fates);
        Ok(Tried::Published)
    }

    /// Reads where the channel stands. `None` if what was sent before is there: only its acknowledgement was lost.
    async fn look(&mut self, connection: &Connection) -> Result<Option<Head>, Failure> {
        let place = self.shared.place(connection, self.name, self.deadline).await?;
        let mut piece = place.newest.clone();
        let behind = self.unsure.as_ref().map_or(u64::MAX, |unsure| unsure.behind);
        while let Some(at) = piece.take().filter(|at| at.sequence > behind) {
            if at.batch.nonce == self.nonce
                && let Some(unsure) = self.unsure.take()
            {
                self.done(&at.batch, Head::of(&place), unsure.fates);
                return Ok(None);
            }
            piece = match at.batch.links.first() {
                Some(link) => self.piece(connection, *link).await?,
                None => None,
            };
        }
        let seen = self.shared.heads.known(self.name);
        Ok(Some(Head::of(&place.unless_behind(seen))))
    }

    async fn piece(&self, connection: &Connection, sequence: u64) -> Result<Option<Piece>, Failure> {
        let stream = self.shared.subjects.history_stream(self.name);
        let kept = connection.at(&stream, sequence, self.deadline).await?;
        Ok(kept.and_then(|kept| piece(kept, self.name)))
    }

    /// Idempotency keys of all that is kept.
    async fn read_keys(&self, connection: &Connection, head: &Head) -> Result<Keys, Failure> {
        let newest = match head.links.first() {
            Some(link) => self.piece(connection, *link).await?,
            None => None,
        };
        let Some(newest) = newest else { return Ok(Keys::default()) };
        let kept = self.shared.walk(connection, self.name, &newest, 1, self.deadline).await?;
        let until_ms = newest.stored_ms.saturating_add(head.retention.ttl_ms);
        Ok(Keys::of(kept.iter().map(|publication| &**publication), until_ms))
    }

    /// Gives the drafts their offsets; those that repeat what is kept have them already.
    fn compose(&self, mut head: Head) -> (Batch, Head, Vec<Fate>) {
        let mut top = head.at.unwrap_or_else(|| Position { epoch: fresh_epoch(), offset: 0 });
        let (mut kept, now_ms) = (head.retention.publications, self.shared.now_ms());
        let (mut drafts, mut fates) = (Vec::new(), Vec::new());
        for publish in &self.all {
            let keys = head.keys.as_ref();
            if let Some(before) = keys.and_then(|keys| keys.answer(&publish.draft, top.offset, kept, now_ms))
            {
                fates.push(Fate::Repeats(before));
                continue;
            }
            fates.push(Fate::Follows(drafts.len() as u64));
            top.offset += 1;
            kept = self.retention.publications;
            drafts.push(publish.written.clone());
            if let Some(keys) = &mut head.keys {
                keys.add(&publish.draft, top, now_ms.saturating_add(self.retention.ttl_ms));
                keys.tidy(top.offset, kept, now_ms);
            }
        }
        if !drafts.is_empty() {
            head.at = Some(top);
            head.retention = self.retention;
        }
        let (retention, nonce, links) = (self.retention, self.nonce, head.links.clone());
        (Batch { top, retention, nonce, links, drafts }, head, fates)
    }

    /// What was sent is there.
    fn done(&mut self, batch: &Batch, head: Head, fates: Vec<Fate>) {
        self.shared.heads.put(self.name, head);
        for (publish, fate) in self.all.drain(..).zip(fates) {
            publish.answer.give(match fate {
                Fate::Repeats(before) => before,
                Fate::Follows(index) => Ok(Position { offset: batch.before() + 1 + index, ..batch.top }),
            });
        }
    }
}

/// How often a node may be the fastest before it lets others be.
pub(super) const WINS_MAX: u32 = 16;
/// How long it does. The others need to read what was published, and publish.
pub(super) const YIELD: Duration = Duration::from_millis(2);
