//! Rows: the newest message of a subject each. It says itself how long it counts, since a stream keeps all alike.

use std::sync::Arc;

use bytes::Bytes;
use duplex_core::{BrokerError, Pending, RowKey};
use tokio::time::Instant;

use super::connection::{ANSWER, Failure};
use super::lanes::Driver;
use super::streams::Plan;
use super::{AGAIN, Answer, Shared, ready};

pub(super) enum Job {
    Keep { row: Bytes, ttl_ms: u64, answer: Answer<()> },
    Kept(Answer<Option<Bytes>>),
    Forget,
}

/// What is kept of a row that is forgotten.
const FORGOTTEN: &[u8] = b"1-";

impl Shared {
    pub fn keep(self: &Arc<Self>, key: RowKey, row: Bytes, ttl_ms: u64) -> Pending<Result<(), BrokerError>> {
        match self.call() {
            Ok((answer, answered)) => {
                self.enter_row(key, Job::Keep { row, ttl_ms, answer });
                answered
            }
            Err(error) => ready(Err(error)),
        }
    }

    pub fn kept(self: &Arc<Self>, key: RowKey) -> Pending<Result<Option<Bytes>, BrokerError>> {
        match self.call() {
            Ok((answer, answered)) => {
                self.enter_row(key, Job::Kept(answer));
                answered
            }
            Err(error) => ready(Err(error)),
        }
    }

    pub fn forget(self: &Arc<Self>, key: RowKey) {
        if self.connection().is_some() {
            self.enter_row(key, Job::Forget);
        }
    }

    fn enter_row(self: &Arc<Self>, key: RowKey, job: Job) {
        if self.rows.push(&key, job) == Driver::Wanted {
            self.runtime.spawn(Arc::clone(self).drive_row(key));
        }
    }

    async fn drive_row(self: Arc<Self>, key: RowKey) {
        while let Some(jobs) = self.rows.take(&key) {
            for job in jobs {
                match job {
                    Job::Keep { row, ttl_ms, answer } => {
                        let written = [format!("1{ttl_ms} ").as_bytes(), &row].concat();
                        let stored = self.store_row(key, written.into(), ttl_ms, answer.deadline).await;
                        answer.give(stored.map_err(BrokerError::from));
                    }
                    Job::Kept(answer) => {
                        let read = self.read_row(key, answer.deadline).await;
                        answer.give(read.map_err(Failure::of_reading));
                    }
                    Job::Forget => {
                        let deadline = Instant::now() + ANSWER;
                        let stored = self.store_row(key, Bytes::from_static(FORGOTTEN), 0, deadline).await;
                        if let Err(failure) = stored {
                            tracing::debug!(
                                ?failure,
                                "a row was not forgotten, and is kept until its time is over"
                            );
                        }
                    }
                }
            }
        }
    }

    async fn store_row(
        &self,
        key: RowKey,
        written: Bytes,
        ttl_ms: u64,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let plan = Plan::rows(&self.subjects, self.storage, ttl_ms);
        loop {
            let connection = self.connection().ok_or(Failure::Nobody)?;
            self.streams.ensure(&connection, &plan, deadline).await?;
            let stored = connection.store(self.subjects.row(key), None, written.clone(), deadline).await;
            match stored {
                Err(Failure::Nobody) if Instant::now() + AGAIN < deadline => {
                    self.streams.forget(&plan.name);
                    tokio::time::sleep(AGAIN).await;
                }
                stored => return stored.map(drop),
            }
        }
    }

    async fn read_row(&self, key: RowKey, deadline: Instant) -> Result<Option<Bytes>, Failure> {
        let connection = self.connection().ok_or(Failure::Nobody)?;
        let last = connection.last(&self.subjects.row_stream(), &self.subjects.row(key), deadline).await;
        let last = match last {
            Err(failure) if failure.is_no_stream() => None,
            last => last?,
        };
        Ok(last.and_then(|last| {
            let space = last.payload.iter().position(|byte| *byte == b' ')?;
            let head = std::str::from_utf8(&last.payload[..space]).ok()?;
            let ttl_ms: u64 = head.strip_prefix('1')?.parse().ok()?;
            let is_kept = last.stored_ms.saturating_add(ttl_ms) > self.now_ms();
            is_kept.then(|| last.payload.slice(space + 1..))
        }))
    }
}
