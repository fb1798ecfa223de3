//! What is asked of one channel: in order, and at once where that makes no difference.

use std::collections::VecDeque;
use std::sync::Arc;

use duplex_core::{BrokerError, ChannelName, Draft, Extent, History, Pending, Position, Retention};

use super::batch::BATCH_HEAD;
use super::history::Place;
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

    /// Reads once where the channel stands, then for each what it wants. Those do not wait for one another.
    async fn read_all(self: &Arc<Self>, name: &ChannelName, all: Vec<(Extent, Answer<History>)>) {
        let Some((_, first)) = all.first() else { return };
        let standing = match self.connection() {
            Some(connection) => {
                let standing = self.standing(&connection, name, None, first.deadline).await;
                standing.map(|place| (connection, Arc::new(place))).map_err(|failure| failure.of_reading())
            }
            None => Err(BrokerError::Unreachable),
        };
        for (extent, answer) in all {
            match &standing {
                Ok((connection, place)) => {
                    let (connection, place) = (Arc::clone(connection), Arc::clone(place));
                    let reading = Arc::clone(self).read_one(connection, name.clone(), place, extent, answer);
                    self.runtime.spawn(reading);
                }
                Err(error) => answer.give(Err(error.clone())),
            }
        }
    }

    async fn read_one(
        self: Arc<Self>,
        connection: Arc<super::Connection>,
        name: ChannelName,
        place: Arc<Place>,
        extent: Extent,
        answer: Answer<History>,
    ) {
        let read = self.past(&connection, &name, &place, extent, answer.deadline).await;
        if let Ok(history) = &read {
            self.arrived(&name, history.position).await;
        }
        answer.give(read.map_err(|failure| failure.of_reading()));
    }
}

/// What can be read together.
fn histories(first: (Extent, Answer<History>), jobs: &mut VecDeque<Job>) -> Vec<(Extent, Answer<History>)> {
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
