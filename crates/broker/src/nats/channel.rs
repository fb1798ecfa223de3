//! What is asked of one channel: in order, and at once where that makes no difference.

use std::collections::VecDeque;
use std::sync::Arc;

use duplex_core::{BrokerError, ChannelName, Draft, Extent, History, Pending, Position, Retention};

use super::batch::BATCH_HEAD;
use super::connection::{Connection, Failure};
use super::history::{Place, Span};
use super::lanes::Driver;
use super::publish::{BATCH_BYTES_MAX, BATCH_MAX, Publish, WINS_MAX, YIELD};
use super::{Answer, Shared, ready};
use crate::envelope::write_draft;

pub(super) enum Job {
    Publish(Box<Publish>),
    History(Extent, Answer<History>),
}

impl Shared {
    pub fn publish(
        self: &Arc<Self>,
        draft: Draft,
        retention: Retention,
    ) -> Pending<Result<Position, BrokerError>> {
        let (answer, answered) = match self.call() {
            Ok(call) => call,
            Err(error) => return ready(Err(error)),
        };
        let (name, written) = (draft.channel.clone(), write_draft(&draft).into());
        self.enter(&name, Job::Publish(Box::new(Publish { draft, written, retention, answer })));
        answered
    }

    pub fn history(
        self: &Arc<Self>,
        name: &ChannelName,
        extent: Extent,
    ) -> Pending<Result<History, BrokerError>> {
        match self.call() {
            Ok((answer, answered)) => {
                self.enter(name, Job::History(extent, answer));
                answered
            }
            Err(error) => ready(Err(error)),
        }
    }

    fn enter(self: &Arc<Self>, name: &ChannelName, job: Job) {
        if self.channels.push(name, job) == Driver::Wanted {
            self.runtime.spawn(Arc::clone(self).drive(name.clone()));
        }
    }

    async fn drive(self: Arc<Self>, name: ChannelName) {
        let mut wins = 0;
        while let Some(mut jobs) = self.channels.take(&name) {
            while let Some(job) = jobs.pop_front() {
                match job {
                    Job::History(extent, answer) => {
                        let all = histories((extent, answer), &mut jobs);
                        self.read_all(&name, all).await;
                    }
                    Job::Publish(first) => {
                        let all = publications(*first, &mut jobs, self.batch_bytes_max());
                        self.publish_all(&name, all).await;
                        wins += 1;
                        if wins == WINS_MAX {
                            wins = 0;
                            tokio::time::sleep(YIELD).await;
                        }
                    }
                }
            }
        }
    }

    /// Bytes that several publications may have together.
    fn batch_bytes_max(&self) -> usize {
        let longest = self.connection().map_or(0, |connection| connection.client.max_payload());
        longest.saturating_sub(BATCH_HEAD).min(BATCH_BYTES_MAX)
    }

    /// Reads where the channel stands, once for all. So are the newest publications, which most want who come back; whoever
    /// wants more does not keep the others waiting.
    async fn read_all(self: &Arc<Self>, name: &ChannelName, all: Readers) {
        let Some((_, first)) = all.first() else { return };
        let deadline = first.deadline;
        let standing = match self.connection() {
            Some(connection) => {
                let standing = self.standing(&connection, name, None, deadline).await;
                standing.map(|place| (connection, Arc::new(place))).map_err(Failure::of_reading)
            }
            None => Err(BrokerError::Unreachable),
        };
        let (connection, place) = match standing {
            Ok(standing) => standing,
            Err(error) => return all.into_iter().for_each(|(_, answer)| answer.give(Err(error.clone()))),
        };
        let top = place.newest.as_ref().map_or(0, |newest| newest.batch.top.offset);
        let near = |extent: Extent| {
            let span = place.newest.as_ref().and_then(|newest| Span::of(extent, newest.batch.top));
            span.and_then(|span| span.low).is_none_or(|low| top - low < NEAR)
        };
        let (near, far): (Readers, Readers) = all.into_iter().partition(|(extent, _)| near(*extent));
        for reader in far {
            let (connection, place) = (Arc::clone(&connection), Arc::clone(&place));
            let (shared, name) = (Arc::clone(self), name.clone());
            self.runtime
                .spawn(async move { shared.read_some(&connection, &name, &place, vec![reader]).await });
        }
        self.read_some(&connection, name, &place, near).await;
    }

    async fn read_some(
        self: &Arc<Self>,
        connection: &Connection,
        name: &ChannelName,
        place: &Place,
        all: Readers,
    ) {
        let Some((_, first)) = all.first() else { return };
        let extents: Vec<Extent> = all.iter().map(|(extent, _)| *extent).collect();
        match self.pasts(connection, name, place, &extents, first.deadline).await {
            Ok(read) => {
                for (history, (_, answer)) in read.into_iter().zip(all) {
                    let (shared, name) = (Arc::clone(self), name.clone());
                    self.runtime.spawn(async move {
                        shared.arrived(&name, history.position).await;
                        answer.give(Ok(history));
                    });
                }
            }
            Err(failure) => {
                let error = failure.of_reading();
                all.into_iter().for_each(|(_, answer)| answer.give(Err(error.clone())));
            }
        }
    }
}

/// Those who want a part of history each.
type Readers = Vec<(Extent, Answer<History>)>;

/// Publications that are read while others wait.
const NEAR: u64 = 128;

/// What can be read together.
fn histories(first: (Extent, Answer<History>), jobs: &mut VecDeque<Job>) -> Readers {
    let mut all = vec![first];
    while let Some(Job::History(extent, answer)) = jobs.pop_front_if(|job| matches!(job, Job::History(..))) {
        all.push((extent, answer));
    }
    all
}

/// What can be published together.
fn publications(first: Publish, jobs: &mut VecDeque<Job>, bytes_max: usize) -> Vec<Publish> {
    let (mut bytes, retention) = (first.written.len(), first.retention);
    let mut all = vec![first];
    while all.len() < BATCH_MAX {
        let fits = |job: &mut Job| match job {
            Job::Publish(next) => {
                bytes += next.written.len();
                next.retention == retention && bytes <= bytes_max
            }
            Job::History(..) => false,
        };
        match jobs.pop_front_if(fits) {
            Some(Job::Publish(next)) => all.push(*next),
            _ => break,
        }
    }
    all
}
