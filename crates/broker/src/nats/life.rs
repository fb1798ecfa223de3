//! Which nodes are alive. A node says so every few seconds, and that it has members in the presence stream; what a dead one
//! leaves behind is deleted by the others.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant as Clock};

use bytes::Bytes;
use duplex_core::NodeId;
use futures_util::future::join_all;
use tokio::time::Instant;

use super::connection::{ANSWER, Connection, Failure};
use super::jetstream::{Deleted, Stored};
use super::link::DEAF;
use super::presence::{AT_ONCE, Again, Enlisted, Job, Stay, member};
use super::streams::Plan;
use super::{Shared, local_ms, random};

/// How often a node looks whether its members are still there, and which nodes are dead.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// A node that has not been heard for this long, and longer than [`DEAF`], is dead.
const SILENT: Duration = Duration::from_secs(9);

/// Sees to it that this node's members are there, and takes away what dead nodes have left behind, for as long as the broker
/// is there.
pub(super) async fn beat(shared: &Weak<Shared>) {
    let mut silent = HashMap::new();
    let Some(mut up) = shared.upgrade().map(|shared| shared.up.subscribe()) else { return };
    loop {
        let Some(shared) = shared.upgrade() else { return };
        if let Some(connection) = shared.connection()
            && let Err(failure) = shared.look(&connection, &mut silent).await
        {
            match failure {
                Failure::Nobody => {
                    tracing::warn!("JetStream does not answer; it must be enabled on the NATS server")
                }
                failure => tracing::debug!(?failure, "cannot look whether nodes are alive"),
            }
        }
        drop(shared);
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            changed = up.changed() => {
                if changed.is_err() {
                    return;
                }
                // Who was silent may have been heard meanwhile.
                silent.clear();
            }
        }
    }
}

impl Shared {
    async fn look(
        self: &Arc<Self>,
        connection: &Connection,
        silent: &mut HashMap<NodeId, Clock>,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + ANSWER;
        let stream = self.subjects.presence_stream();
        let plan = Plan::presence(&self.subjects, self.storage);
        self.streams.ensure(connection, &plan, deadline).await?;
        let looked = self.enlist(connection, &stream, deadline).await;
        if let Err(Failure::Nobody) = looked {
            self.streams.forget(&stream);
        }
        looked?;
        for channel in self.roll.channels(|entry| entry.stay == Stay::Gone) {
            let gone = self.roll.of(&channel, Stay::Gone);
            for (member, _) in gone {
                self.enter_members(&channel, Job::Leave(member.client));
            }
        }
        let rosters = connection.subjects(&stream, &self.subjects.rosters(), deadline).await?;
        let nodes: HashSet<NodeId> =
            rosters.iter().filter_map(|subject| self.subjects.roster_of(subject)).collect();
        silent.retain(|node, _| nodes.contains(node));
        for node in nodes.into_iter().filter(|node| *node != self.id) {
            if self.heard.ago(node).is_some_and(|ago| ago < DEAF) {
                silent.remove(&node);
            } else if silent.entry(node).or_insert_with(Clock::now).elapsed() > SILENT {
                self.reap(connection, &stream, node).await?;
                silent.remove(&node);
            }
        }
        Ok(())
    }

    /// Writes that this node has members. If that is not there any more, they are written again, too.
    async fn enlist(
        self: &Arc<Self>,
        connection: &Connection,
        stream: &str,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let era = self.era(connection, stream, deadline).await?;
        let subject = self.subjects.roster(self.id);
        let last = connection.last(stream, &subject, deadline).await?;
        let sequence = last.map(|last| last.sequence);
        let before = *self.roll.enlisted.borrow();
        if before.is_some_and(|before| before.era == era && Some(before.sequence) == sequence) {
            return Ok(());
        }
        let sent_ms = local_ms();
        if connection.store(subject.clone(), None, Bytes::from_static(b"1"), deadline).await?
            == Stored::Conflict
        {
            return Ok(());
        }
        let Some(kept) = connection.last(stream, &subject, deadline).await? else { return Ok(()) };
        let skew_ms = kept.stored_ms.cast_signed().wrapping_sub(sent_ms.cast_signed());
        self.skew_ms.store(skew_ms, Relaxed);
        self.roll.enlisted.send_replace(Some(Enlisted { era, sequence: kept.sequence }));
        if let Some(before) = before {
            tracing::warn!("this node's presence was forgotten, and is told again");
            let why = if before.era == era { Again::Back } else { Again::Lost };
            for channel in self.roll.channels(|_| true) {
                self.enter_members(&channel, Job::Again(why));
            }
        }
        Ok(())
    }

    /// Which life of the stream this is.
    async fn era(&self, connection: &Connection, stream: &str, deadline: Instant) -> Result<u64, Failure> {
        let subject = self.subjects.era();
        loop {
            if let Some(kept) = connection.last(stream, &subject, deadline).await? {
                let era =
                    std::str::from_utf8(&kept.payload).ok().and_then(|era| u64::from_str_radix(era, 16).ok());
                return Ok(era.unwrap_or(0));
            }
            let fresh = format!("{:x}", random());
            connection.store(subject.clone(), Some(0), fresh.into(), deadline).await?;
        }
    }

    /// Takes away what a dead node has left behind. First that is marked: should it not be dead, it finds the mark, and
    /// what it writes then is newer.
    async fn reap(&self, connection: &Connection, stream: &str, node: NodeId) -> Result<(), Failure> {
        let (subject, deadline) = (self.subjects.roster(node), Instant::now() + ANSWER);
        let Some(last) = connection.last(stream, &subject, deadline).await? else { return Ok(()) };
        let dead = Bytes::from_static(b"1dead");
        let Stored::At(mark) = connection.store(subject, Some(last.sequence), dead, deadline).await? else {
            return Ok(());
        };
        tracing::warn!(%node, "a node is dead; its clients are no longer present");
        let seats = connection.subjects(stream, &self.subjects.seats_of(node), deadline).await?;
        for some in seats.chunks(AT_ONCE) {
            let deadline = Instant::now() + ANSWER;
            let reaped =
                join_all(some.iter().map(|seat| self.reap_seat(connection, stream, seat, mark, deadline)));
            for reaped in reaped.await {
                reaped?;
            }
        }
        connection.delete(stream, mark, Instant::now() + ANSWER).await.map(drop)
    }

    async fn reap_seat(
        &self,
        connection: &Connection,
        stream: &str,
        subject: &str,
        mark: u64,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let Some(kept) = connection.last(stream, subject, deadline).await? else { return Ok(()) };
        if kept.sequence > mark
            || connection.delete(stream, kept.sequence, deadline).await? == Deleted::Before
        {
            return Ok(());
        }
        if let (Some(seat), Some((member, tell))) = (self.subjects.seat_of(subject), member(&kept)) {
            self.tell_change(&seat.channel, b'L', &member, tell).await;
        }
        Ok(())
    }
}
