//! The streams: made when they are first needed, and made larger when more is to be kept. They never shrink by themselves,
//! since other nodes may want what this one does not: what is kept of a channel is said with its publications.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use duplex_core::{ChannelName, Retention};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::connection::{Connection, Failure};
use super::subjects::Subjects;
use super::target::{NatsMedium, NatsStorage};

/// Messages of a channel are kept at least for so long, ms: a channel that is only listened to is written of anew when half
/// of it is over, so that its position is not forgotten.
const AGE_MIN_MS: u64 = 120_000;
/// Messages that only say where a channel stands, and are kept beside those with publications.
const MARKERS: u64 = 2;

/// What a stream keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// Messages of each subject.
    pub messages: u64,
    /// How long each of them, ms.
    pub age_ms: u64,
}

impl Limits {
    /// What is needed to keep so much of a channel.
    pub fn of(retention: Retention) -> Self {
        Self {
            messages: (retention.publications.max(1) as u64).saturating_add(MARKERS),
            age_ms: retention.ttl_ms.max(AGE_MIN_MS),
        }
    }

    fn covers(self, other: Self) -> bool {
        self.messages >= other.messages && self.age_ms >= other.age_ms
    }

    /// Reads a configuration, in which nothing and less mean that there is no limit.
    fn read(config: &Value) -> Self {
        let limit = |name: &str| {
            let limit = config.get(name).and_then(Value::as_i64).unwrap_or(0);
            u64::try_from(limit).ok().filter(|limit| *limit > 0)
        };
        Self {
            messages: limit("max_msgs_per_subject").unwrap_or(u64::MAX),
            age_ms: limit("max_age").map_or(u64::MAX, |age| age / NS_IN_MS),
        }
    }

    fn write(self, config: &mut Value) {
        let age = self.age_ms.checked_mul(NS_IN_MS).and_then(|age| i64::try_from(age).ok());
        config["max_msgs_per_subject"] = i64::try_from(self.messages).unwrap_or(-1).into();
        config["max_age"] = age.unwrap_or(0).into();
    }
}

const NS_IN_MS: u64 = 1_000_000;

/// How a stream is made.
pub(super) struct Plan {
    pub name: String,
    pub subjects: Vec<String>,
    /// Where all that is stored is told, too.
    pub told: Option<(String, String)>,
    pub storage: NatsStorage,
    pub limits: Limits,
}

impl Plan {
    /// The stream of a channel's history.
    pub fn history(subjects: &Subjects, storage: NatsStorage, channel: &ChannelName, limits: Limits) -> Self {
        Self {
            name: subjects.history_stream(channel),
            subjects: vec![subjects.histories(channel)],
            told: Some((subjects.histories(channel), subjects.lives())),
            storage,
            limits,
        }
    }

    /// The stream of those who are present. What it loses its nodes write again, so it need not be on a disk.
    pub fn presence(subjects: &Subjects, storage: NatsStorage) -> Self {
        Self {
            name: subjects.presence_stream(),
            subjects: subjects.presences(),
            told: None,
            storage: NatsStorage { medium: NatsMedium::Memory, ..storage },
            limits: Limits { messages: 1, age_ms: u64::MAX },
        }
    }

    /// The stream of rows.
    pub fn rows(subjects: &Subjects, storage: NatsStorage, ttl_ms: u64) -> Self {
        Self {
            name: subjects.row_stream(),
            subjects: vec![subjects.rows()],
            told: None,
            storage,
            limits: Limits { messages: 1, age_ms: ttl_ms.max(AGE_MIN_MS) },
        }
    }

    fn config(&self) -> Value {
        let medium = match self.storage.medium {
            NatsMedium::File => "file",
            NatsMedium::Memory => "memory",
        };
        let mut config = json!({
            "name": self.name, "subjects": self.subjects, "retention": "limits", "discard": "old",
            "max_consumers": -1, "max_msgs": -1, "max_bytes": -1, "max_msg_size": -1,
            "storage": medium, "num_replicas": self.storage.replicas, "allow_direct": true,
        });
        if let Some((source, destination)) = &self.told {
            config["republish"] = json!({ "src": source, "dest": destination });
        }
        self.limits.write(&mut config);
        config
    }
}

/// What is known of the streams.
#[derive(Default)]
pub(super) struct Streams {
    known: Mutex<HashMap<String, Limits>>,
    /// One at a time makes or changes them.
    making: tokio::sync::Mutex<()>,
}

impl Streams {
    /// Sees to it that the stream is there and keeps enough; says what it keeps.
    pub async fn ensure(
        &self,
        connection: &Connection,
        plan: &Plan,
        deadline: Instant,
    ) -> Result<Limits, Failure> {
        if let Some(limits) = self.known(plan) {
            return Ok(limits);
        }
        let making = tokio::time::timeout_at(deadline, self.making.lock()).await;
        let _making = making.map_err(|_| Failure::Late)?;
        if let Some(limits) = self.known(plan) {
            return Ok(limits);
        }
        let config = match connection.stream(&plan.name, deadline).await? {
            None => {
                let made: Result<Value, _> =
                    connection.api(&format!("STREAM.CREATE.{}", plan.name), &plan.config(), deadline).await;
                match made {
                    Ok(_) => plan.config(),
                    // Another node was faster; what it made is looked at.
                    Err(Failure::Refused { code: NAME_IN_USE, .. }) => {
                        connection.stream(&plan.name, deadline).await?.ok_or(Failure::Nobody)?
                    }
                    Err(failure) => return Err(failure),
                }
            }
            Some(config) => config,
        };
        let limits = self.enlarge(connection, plan, config, deadline).await?;
        self.lock().insert(plan.name.clone(), limits);
        Ok(limits)
    }

    async fn enlarge(
        &self,
        connection: &Connection,
        plan: &Plan,
        mut config: Value,
        deadline: Instant,
    ) -> Result<Limits, Failure> {
        let limits = Limits::read(&config);
        let republish = plan.config().get("republish").cloned();
        if limits.covers(plan.limits) && config.get("republish") == republish.as_ref() {
            return Ok(limits);
        }
        let larger = Limits {
            messages: limits.messages.max(plan.limits.messages),
            age_ms: limits.age_ms.max(plan.limits.age_ms),
        };
        larger.write(&mut config);
        if let Some(republish) = republish {
            config["republish"] = republish;
        }
        tracing::info!(stream = plan.name, ?larger, "a stream is to keep more, or to tell what it keeps");
        connection.api::<Value>(&format!("STREAM.UPDATE.{}", plan.name), &config, deadline).await?;
        Ok(larger)
    }

    /// The stream was not there, or may be another.
    pub fn forget(&self, name: &str) {
        self.lock().remove(name);
    }

    pub fn forget_all(&self) {
        self.lock().clear();
    }

    fn known(&self, plan: &Plan) -> Option<Limits> {
        self.lock().get(&plan.name).copied().filter(|limits| limits.covers(plan.limits))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Limits>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const NAME_IN_USE: u32 = 10_058;
