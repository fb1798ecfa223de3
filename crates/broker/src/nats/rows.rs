//! Rows: the newest message of a subject each. It says itself how long it counts, since a stream keeps all alike.

use std::sync::Arc;

use bytes::Bytes;
use duplex_core::{BrokerError, Kept, Pending, Row, RowKey};
use tokio::time::Instant;

use super::connection::{Connection, Failure};
use super::jetstream::{self, Stored};
use super::lanes::Driver;
use super::streams::Plan;
use super::{AGAIN, Answer, Shared, ready};

pub(super) enum Job {
    Keep { row: Row, ttl_ms: u64, answer: Answer<Kept> },
    Read(Answer<Option<Row>>),
}

impl Shared {
    pub fn keep(self: &Arc<Self>, key: RowKey, row: Row, ttl_ms: u64) -> Pending<Result<Kept, BrokerError>> {
        match self.call() {
            Ok((answer, answered)) => {
                self.enter_row(key, Job::Keep { row, ttl_ms, answer });
                answered
            }
            Err(error) => ready(Err(error)),
        }
    }

    pub fn kept(self: &Arc<Self>, key: RowKey) -> Pending<Result<Option<Row>, BrokerError>> {
        match self.call() {
            Ok((answer, answered)) => {
                self.enter_row(key, Job::Read(answer));
                answered
            }
            Err(error) => ready(Err(error)),
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
                        let stored = self.store_row(key, &row, ttl_ms, answer.deadline).await;
                        answer.give(stored.map_err(BrokerError::from));
                    }
                    Job::Read(answer) => {
                        let read = self.read_row(key, answer.deadline).await;
                        answer.give(read.map_err(Failure::of_reading));
                    }
                }
            }
        }
    }

    async fn store_row(
        &self,
        key: RowKey,
        row: &Row,
        ttl_ms: u64,
        deadline: Instant,
    ) -> Result<Kept, Failure> {
        let plan = Plan::rows(&self.subjects, self.storage, ttl_ms);
        let head = format!("1{ttl_ms} {} ", row.version);
        let written = Bytes::from([head.as_bytes(), &row.content].concat());
        loop {
            let connection = self.connection().ok_or(Failure::Nobody)?;
            self.streams.ensure(&connection, &plan, deadline).await?;
            let last = self.last_row(&connection, key, deadline).await?;
            if last.as_ref().is_some_and(|last| last.row.version >= row.version) {
                return Ok(Kept::TooLate);
            }
            let expected = last.map_or(0, |last| last.sequence);
            let subject = self.subjects.row(key);
            match connection.store(subject, Some(expected), written.clone(), deadline).await {
                Ok(Stored::At(_)) => return Ok(Kept::Now),
                Ok(Stored::Conflict) if Instant::now() < deadline => {}
                Err(Failure::Nobody) if Instant::now() + AGAIN < deadline => {
                    self.streams.forget(&plan.name);
                    tokio::time::sleep(AGAIN).await;
                }
                Ok(Stored::Conflict) => return Err(Failure::Late),
                Err(failure) => return Err(failure),
            }
        }
    }

    async fn read_row(&self, key: RowKey, deadline: Instant) -> Result<Option<Row>, Failure> {
        let connection = self.connection().ok_or(Failure::Nobody)?;
        let last = self.last_row(&connection, key, deadline).await?;
        Ok(last.filter(|last| last.until_ms > self.now_ms()).map(|last| last.row))
    }

    async fn last_row(
        &self,
        connection: &Connection,
        key: RowKey,
        deadline: Instant,
    ) -> Result<Option<Last>, Failure> {
        match connection.last(&self.subjects.row_stream(), &self.subjects.row(key), deadline).await {
            Err(failure) if failure.is_no_stream() => Ok(None),
            last => Ok(last?.and_then(Last::read)),
        }
    }
}

/// What was written last under a key, if nobody else writes there.
struct Last {
    row: Row,
    until_ms: u64,
    sequence: u64,
}

impl Last {
    fn read(jetstream::Kept { sequence, payload, stored_ms }: jetstream::Kept) -> Option<Self> {
        let mut spaces =
            payload.iter().enumerate().filter(|(_, byte)| **byte == b' ').map(|(place, _)| place);
        let (first, second) = (spaces.next()?, spaces.next()?);
        let word = |range| std::str::from_utf8(&payload[range]).ok();
        let ttl_ms: u64 = word(0..first)?.strip_prefix('1')?.parse().ok()?;
        let version = word(first + 1..second)?.parse().ok()?;
        let row = Row { version, content: payload.slice(second + 1..) };
        Some(Self { row, until_ms: stored_ms.saturating_add(ttl_ms), sequence })
    }
}
