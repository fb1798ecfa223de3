//! What a channel's history is and where it ends, read from its stream.
//!
//! The newest message says where the channel stands. Each names some of those before it, which are read at once; where one
//! is missing, history ends.

use std::sync::Arc;

use duplex_core::{
    BrokerError, ChannelName, Epoch, Extent, History, Order, Page, Past, Position, Publication, Retention,
};
use futures_util::future::join_all;
use tokio::time::Instant;

use super::batch::{Batch, LINKS_MAX};
use super::connection::{Connection, Failure};
use super::jetstream::{Kept, Stored};
use super::streams::{Limits, Plan};
use super::{PATIENCE, Shared, random};
use crate::listeners::{Then, Wanted};

/// A message of a channel's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub sequence: u64,
    pub stored_ms: u64,
    pub batch: Batch,
}

/// Where a channel stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The last sequence of its subject, whatever that is; 0 if there is none.
    pub sequence: u64,
    /// The newest message that is understood.
    pub newest: Option<Piece>,
}

/// What no channel keeps.
const NOTHING: Retention = Retention { publications: 0, ttl_ms: 0 };

impl Place {
    /// Links of the message that follows.
    pub fn links(&self) -> Vec<u64> {
        let Some(newest) = &self.newest else { return Vec::new() };
        let before = newest.batch.links.iter().copied();
        std::iter::once(newest.sequence).chain(before).take(LINKS_MAX).collect()
    }
}

impl Shared {
    /// What is known of a channel, without making anything.
    pub async fn place(
        &self,
        connection: &Connection,
        name: &ChannelName,
        deadline: Instant,
    ) -> Result<Place, Failure> {
        let (stream, subject) = (self.subjects.history_stream(name), self.subjects.history(name));
        let last = match connection.last(&stream, &subject, deadline).await {
            Err(failure) if failure.is_no_stream() => {
                self.streams.forget(&stream);
                None
            }
            last => last?,
        };
        let Some(last) = last else { return Ok(Place { sequence: 0, newest: None }) };
        let sequence = last.sequence;
        let newest = match piece(last, name) {
            None => understood_before(connection, &stream, &subject, name, sequence, deadline).await?,
            newest => newest,
        };
        Ok(Place { sequence, newest })
    }

    /// Where a channel stands. If that is not known, a new epoch begins; if it would soon be forgotten, it is written again.
    pub async fn standing(
        &self,
        connection: &Connection,
        name: &ChannelName,
        seen: Option<Position>,
        deadline: Instant,
    ) -> Result<Place, Failure> {
        let plan = Plan::history(&self.subjects, self.storage, name, Limits::of(NOTHING));
        loop {
            let limits = self.streams.ensure(connection, &plan, deadline).await?;
            let mut place = self.place(connection, name, deadline).await?;
            let seen = [seen, self.heads.known(name)];
            let marker = match &place.newest {
                Some(newest) if !seen.iter().flatten().any(|seen| is_behind(newest.batch.top, *seen)) => {
                    let age_ms = self.now_ms().saturating_sub(newest.stored_ms);
                    if age_ms < limits.age_ms / 2 {
                        return Ok(place);
                    }
                    Batch { top: newest.batch.top, ..marker(&place, newest.batch.retention) }
                }
                newest => marker(&place, newest.as_ref().map_or(NOTHING, |newest| newest.batch.retention)),
            };
            let subject = self.subjects.history(name);
            match connection.store(subject, Some(place.sequence), marker.write(), deadline).await {
                Ok(Stored::At(sequence)) => {
                    place.sequence = sequence;
                    place.newest = Some(Piece { sequence, stored_ms: self.now_ms(), batch: marker });
                    return Ok(place);
                }
                Ok(Stored::Conflict) => {}
                Err(Failure::Nobody) => {
                    self.streams.forget(&plan.name);
                    tokio::time::sleep(super::AGAIN).await;
                    if Instant::now() > deadline {
                        return Err(Failure::Nobody);
                    }
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// The wanted parts of what is kept up to `place`, which is read once for all of them.
    pub async fn pasts(
        &self,
        connection: &Connection,
        name: &ChannelName,
        place: &Place,
        extents: &[Extent],
        deadline: Instant,
    ) -> Result<Vec<History>, Failure> {
        let newest = place.newest.as_ref().ok_or(Failure::Nobody)?;
        let position = newest.batch.top;
        let spans: Vec<Option<Span>> = extents.iter().map(|extent| Span::of(*extent, position)).collect();
        let kept = match spans.iter().flatten().filter_map(|span| span.low).min() {
            Some(low) => self.walk(connection, name, newest, low, deadline).await?,
            None => Vec::new(),
        };
        let past = |span: Option<Span>| span.map_or(Past::Lost, |span| span.past(&kept, position));
        Ok(spans.into_iter().map(|span| History { position, past: past(span) }).collect())
    }

    /// What is kept from `low` on, oldest first, without a gap up to the newest.
    pub async fn walk(
        &self,
        connection: &Connection,
        name: &ChannelName,
        newest: &Piece,
        low: u64,
        deadline: Instant,
    ) -> Result<Vec<Arc<Publication>>, Failure> {
        let stream = self.subjects.history_stream(name);
        let Retention { publications, ttl_ms } = newest.batch.retention;
        let low = low.max((newest.batch.top.offset + 1).saturating_sub(publications as u64));
        let fresh = |piece: &Piece| piece.stored_ms.saturating_add(ttl_ms) >= self.now_ms();
        let (mut pieces, mut kept) = (vec![newest.clone()], Vec::new());
        while let Some(oldest) = pieces.pop().filter(fresh) {
            match oldest.batch.publications(name) {
                // Backwards, as all of them.
                Ok(some) => {
                    kept.extend(some.into_iter().rev().filter(|p| p.position.offset >= low).map(Arc::new))
                }
                Err(error) => {
                    tracing::warn!(channel = ?name, error, "what NATS keeps is not understood; history ends there");
                    break;
                }
            }
            let wanted = oldest.batch.before().saturating_sub(low.saturating_sub(1));
            if wanted == 0 {
                break;
            }
            if !pieces.is_empty() {
                continue;
            }
            let most = usize::try_from(wanted).unwrap_or(usize::MAX);
            let some =
                oldest.batch.links.iter().take(most).map(|link| connection.at(&stream, *link, deadline));
            let some = join_all(some).await;
            let mut before = oldest;
            for kept in some {
                let Some(found) = kept?.and_then(|kept| piece(kept, name)) else { break };
                if found.batch.top.epoch != before.batch.top.epoch
                    || found.batch.top.offset != before.batch.before()
                {
                    break;
                }
                before = found.clone();
                pieces.insert(0, found);
            }
        }
        kept.reverse();
        Ok(kept)
    }

    /// Waits until what was published before `position` has been delivered here.
    pub async fn arrived(self: &Arc<Self>, name: &ChannelName, position: Position) {
        let Some(on_its_way) = self.listeners.read(name, position) else { return };
        if tokio::time::timeout(super::ON_ITS_WAY, on_its_way).await.is_ok() {
            return;
        }
        tracing::warn!(channel = ?name, "what was published does not arrive; it is read");
        if let Then::Mend(since) = self.listeners.doubt(name) {
            tokio::time::timeout(PATIENCE, Arc::clone(self).mend(name.clone(), since)).await.ok();
        }
    }

    pub fn follow(self: &Arc<Self>, name: &ChannelName, then: Then) {
        if let Then::Mend(since) = then {
            self.runtime.spawn(Arc::clone(self).mend(name.clone(), since));
        }
    }

    /// Reads what did not arrive, until it is there.
    async fn mend(self: Arc<Self>, name: ChannelName, mut since: Position) {
        while self.listeners.wants(&name) == Wanted::Still {
            let read = {
                let _turn = self.mending.acquire().await;
                self.read_after(&name, since).await
            };
            match read {
                Ok(history) => match self.listeners.mended(&name, history) {
                    Then::Nothing => return,
                    Then::Mend(next) => since = next,
                },
                Err(error) => {
                    tracing::debug!(channel = ?name, %error, "cannot read what was missed yet");
                    tokio::time::sleep(super::MEND_AGAIN).await;
                }
            }
        }
    }

    async fn read_after(&self, name: &ChannelName, since: Position) -> Result<History, BrokerError> {
        let connection = self.connection().ok_or(BrokerError::Unreachable)?;
        let deadline = Instant::now() + PATIENCE;
        let place = self.standing(&connection, name, Some(since), deadline).await?;
        let mut all = self.pasts(&connection, name, &place, &[Extent::After(since)], deadline).await?;
        all.pop().ok_or(BrokerError::NoAnswer)
    }
}

/// Whether NATS has lost what was seen already: offsets must not mean two things.
pub(super) fn is_behind(top: Position, seen: Position) -> bool {
    top.epoch == seen.epoch && top.offset < seen.offset
}

/// A message without publications, of a new epoch.
fn marker(place: &Place, retention: Retention) -> Batch {
    let top = Position { epoch: fresh_epoch(), offset: 0 };
    Batch { top, retention, nonce: random(), links: place.links(), drafts: Vec::new() }
}

pub(super) fn fresh_epoch() -> Epoch {
    let [_, _, bytes @ ..] = random().to_be_bytes();
    Epoch::from_random(bytes)
}

pub(super) fn piece(kept: Kept, name: &ChannelName) -> Option<Piece> {
    match Batch::read(&kept.payload) {
        Ok(batch) => Some(Piece { sequence: kept.sequence, stored_ms: kept.stored_ms, batch }),
        Err(error) => {
            let sequence = kept.sequence;
            tracing::warn!(channel = ?name, sequence, error, "what NATS keeps is not understood, and passed over");
            None
        }
    }
}

/// The newest message before `sequence` that is understood: others may have written there, too.
async fn understood_before(
    connection: &Connection,
    stream: &str,
    subject: &str,
    name: &ChannelName,
    sequence: u64,
    deadline: Instant,
) -> Result<Option<Piece>, Failure> {
    let mut back = 1;
    loop {
        let first = sequence.saturating_sub(back).max(1);
        let (mut at, mut newest) = (first, None);
        while let Some(kept) = connection.next(stream, subject, at, deadline).await? {
            if kept.sequence >= sequence {
                break;
            }
            at = kept.sequence + 1;
            newest = piece(kept, name).or(newest);
        }
        if newest.is_some() || first == 1 {
            return Ok(newest);
        }
        back = back.saturating_mul(4);
    }
}

/// Which offsets are wanted of a history.
pub(super) struct Span {
    extent: Extent,
    /// From here on.
    pub low: Option<u64>,
    /// If it does not reach back so far, it is lost.
    needed: Option<u64>,
}

impl Span {
    /// `None` if it is lost whatever is kept.
    pub fn of(extent: Extent, top: Position) -> Option<Self> {
        let (since, limit) = match extent {
            Extent::Nothing => return Some(Self { extent, low: None, needed: None }),
            Extent::After(since) => (Some(since), None),
            Extent::Page(Page { since, order: Order::OldestFirst, .. }) => (since, None),
            Extent::Page(Page { since, limit, order: Order::NewestFirst }) => (since, Some(limit as u64)),
        };
        if since.is_some_and(|since| since.epoch != top.epoch || since.offset > top.offset) {
            return None;
        }
        let low = match (since, limit) {
            (None, None) => 1,
            (Some(since), None) => since.offset + 1,
            (None, Some(limit)) => (top.offset + 1).saturating_sub(limit).max(1),
            (Some(since), Some(limit)) => since.offset.saturating_sub(limit).max(1),
        };
        let needed = since.map(|since| since.offset + 1);
        let low = low.min(needed.unwrap_or(u64::MAX));
        Some(Self { extent, low: (low <= top.offset).then_some(low), needed })
    }

    /// What of `kept`, which ends at `top`, it is.
    fn past(&self, kept: &[Arc<Publication>], top: Position) -> Past {
        let reaches_back_to = top.offset + 1 - kept.len() as u64;
        if self.needed.is_some_and(|needed| needed < reaches_back_to) {
            return Past::Lost;
        }
        let low = self.low.unwrap_or(u64::MAX);
        let kept = kept.iter().filter(|publication| publication.position.offset >= low).cloned();
        Past::Kept(match self.extent {
            Extent::Nothing | Extent::After(_) => kept.collect(),
            Extent::Page(Page { limit, order: Order::OldestFirst, .. }) => kept.take(limit).collect(),
            Extent::Page(Page { since, limit, order: Order::NewestFirst }) => {
                let before = since.map_or(u64::MAX, |since| since.offset);
                kept.rev().filter(|publication| publication.position.offset < before).take(limit).collect()
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;
    use std::time::Duration;

    use bytes::Bytes;
    use duplex_core::{Broker, Deliver, Event, NodeId, ShardSet};

    use super::*;
    use crate::nats::{Nats, NatsStorage, NatsTarget};

    struct Nobody;

    impl Deliver for Nobody {
        fn deliver(&self, _: ShardSet, _: Event) {}
        fn missed(&self, _: ShardSet, _: &ChannelName) {}
    }

    #[tokio::test]
    async fn a_channel_that_is_read_keeps_its_epoch_when_what_was_published_in_it_expires() {
        let server = duplex_rigs::Nats::start();
        let target = NatsTarget::parse(&server.url()).unwrap();
        let id = NodeId::from_random([1; 8]);
        let nats = Nats::start(target, NatsStorage::default(), "duplex", id, Arc::new(Nobody)).unwrap();
        let (shared, name) = (&nats.shared, ChannelName::parse("news").unwrap());
        let deadline = Instant::now() + 6 * PATIENCE;
        while shared.roll.is_enlisted().is_none() {
            assert!(Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let draft = crate::envelope::read_draft(b"1{\"d\":1,\"m\":0}", name.clone()).unwrap();
        let keep = Retention { publications: 10, ttl_ms: 1_000 };
        let at = nats.publish(draft.clone(), keep).await.unwrap();
        let extent = Extent::After(Position { offset: 0, ..at });
        let Past::Kept(kept) = nats.history(&name, extent).await.unwrap().past else { panic!("lost") };
        assert_eq!(kept.len(), 1);
        // Ninety seconds later, by the server's clock: the stream keeps it for 120.
        shared.skew_ms.fetch_add(90_000, Relaxed);
        let later = nats.history(&name, Extent::Nothing).await.unwrap().position;
        assert_eq!(later, at);
        assert_eq!(nats.history(&name, extent).await.unwrap().past, Past::Lost, "its time is over");
        let connection = shared.connection().unwrap();
        let stream = shared.subjects.history_stream(&name);
        let marker =
            connection.last(&stream, &shared.subjects.history(&name), deadline).await.unwrap().unwrap();
        assert!(marker.sequence > 1);
        assert_eq!(Batch::read(&marker.payload).map(|batch| batch.drafts), Ok(Vec::<Bytes>::new()));
        // The publication itself has expired.
        connection.delete(&stream, 1, deadline).await.unwrap();
        assert_eq!(nats.publish(draft, keep).await, Ok(Position { offset: 2, ..at }));
    }
}
