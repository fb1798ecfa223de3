use std::collections::BTreeMap;

use duplex_core::{EventName, IdempotencyKey, Tags};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use crate::CommandError;

/// What a message says.
#[derive(Debug, Clone)]
pub enum Payload {
    /// One JSON value; the same as `Args` with one element.
    Data(Box<RawValue>),
    /// A JSON array of positional arguments.
    Args(Box<RawValue>),
}

/// A message to publish.
#[derive(Debug, Clone)]
pub struct Message {
    /// What kind of message it is, 1 to 128 bytes, not beginning with `$`. `message` if it is `None`.
    pub event: Option<String>,
    /// What it says.
    pub payload: Payload,
    /// What travels with it: at most 16 entries and 1,024 bytes.
    pub tags: BTreeMap<String, String>,
    /// Names this act of publishing, 1 to 64 bytes, so that it can be repeated without being done twice.
    pub idempotency_key: Option<String>,
}

impl Payload {
    /// One value.
    pub fn data(value: impl Into<Value>) -> Self {
        Self::Data(raw(&value.into()))
    }

    /// Positional arguments.
    pub fn args(values: impl IntoIterator<Item = Value>) -> Self {
        Self::Args(raw(&Value::Array(values.into_iter().collect())))
    }
}

impl Message {
    /// A message that says one value.
    pub fn data(value: impl Into<Value>) -> Self {
        Self::of(Payload::data(value))
    }

    /// A message of positional arguments.
    pub fn args(values: impl IntoIterator<Item = Value>) -> Self {
        Self::of(Payload::args(values))
    }

    /// A message with this payload.
    pub fn of(payload: Payload) -> Self {
        Self { event: None, payload, tags: BTreeMap::new(), idempotency_key: None }
    }

    /// The same with a name.
    pub fn event(self, name: impl Into<String>) -> Self {
        Self { event: Some(name.into()), ..self }
    }

    /// The same with one more tag.
    pub fn tag(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.insert(name.into(), value.into());
        self
    }

    /// The same, so that it can be repeated without being done twice.
    pub fn idempotency_key(self, key: impl Into<String>) -> Self {
        Self { idempotency_key: Some(key.into()), ..self }
    }

    pub(crate) fn check(&self) -> Result<(), CommandError> {
        let name = |field| move |problem| CommandError::Name { field, problem };
        if let Some(event) = &self.event {
            EventName::parse(event).map_err(name("event"))?;
        }
        if let Some(key) = &self.idempotency_key {
            IdempotencyKey::parse(key).map_err(name("idempotency_key"))?;
        }
        Tags::parse(self.tags.clone()).map_err(name("tags"))?;
        Ok(())
    }
}

fn raw(value: &impl Serialize) -> Box<RawValue> {
    to_raw_value(value).expect("a value is JSON")
}
