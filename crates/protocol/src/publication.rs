//! Publications as JSON, the form that the native protocol, Server-Sent Events and the HTTP API share.

use std::borrow::Cow;
use std::collections::BTreeMap;

use duplex_core::{
    Audience, ChannelName, ClientId, Effort, EventName, IdempotencyKey, Json, JsonError, NameError, Payload,
    Position, Publication, Recovered, Tags,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Most clients that a publication leaves out.
const EXCLUDED_MAX: usize = 100;

/// What a publisher writes: `{"channel":…,"event":…,"data":…,"tags":…}`, with `args` in the place of `data` if it likes.
#[derive(Debug, Deserialize)]
pub struct PublishRequest<'a> {
    #[serde(borrow)]
    channel: Cow<'a, str>,
    #[serde(borrow, default)]
    event: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    args: Option<&'a RawValue>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    #[serde(borrow, default)]
    idempotency_key: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    exclude: Vec<Cow<'a, str>>,
    #[serde(default)]
    volatile: bool,
}

/// What a caller writes: `{"method":…,"data":…}`, with `args` in the place of `data` if it likes.
#[derive(Debug, Deserialize)]
pub(crate) struct CallRequest<'a> {
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    args: Option<&'a RawValue>,
}

/// A publication that was checked.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Publish {
    pub channel: ChannelName,
    pub event: EventName,
    pub payload: Payload,
    pub tags: Tags,
    pub key: Option<IdempotencyKey>,
    pub audience: Audience,
}

/// `null` is a value like any other.
pub(crate) fn present<'de: 'a, 'a, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// What is wrong with a publication. The text names the field and says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum PublicationError {
    #[error("channel: {0}")]
    Channel(NameError),
    #[error("event: {0}")]
    Event(NameError),
    #[error("method: {0}")]
    Method(NameError),
    #[error("data: {0}")]
    Data(JsonError),
    #[error("args: {0}")]
    Args(JsonError),
    #[error("args: is not an array; give an array, or use data for a single value")]
    ArgsNotArray,
    #[error("there is neither data nor args; give one of them")]
    NoPayload,
    #[error("there are both data and args; give one of them")]
    TwoPayloads,
    #[error("tags: {0}")]
    Tags(NameError),
    #[error("idempotency_key: {0}")]
    Key(NameError),
    #[error("exclude: {0:?} is not a client's id; ids are 32 hexadecimal digits")]
    NotAClient(String),
    #[error("exclude: has {count} clients; at most {EXCLUDED_MAX} are allowed")]
    TooManyExcluded { count: usize },
}

impl PublishRequest<'_> {
    /// Checks every part.
    pub fn check(self) -> Result<Publish, PublicationError> {
        let channel = ChannelName::parse(&self.channel).map_err(PublicationError::Channel)?;
        let event = match self.event {
            Some(event) => EventName::parse(&event).map_err(PublicationError::Event)?,
            None => EventName::default(),
        };
        let payload = payload(self.data, self.args)?;
        let tags = Tags::parse(self.tags).map_err(PublicationError::Tags)?;
        let key = self.idempotency_key.map(|key| IdempotencyKey::parse(&key)).transpose();
        let audience = audience(&self.exclude, self.volatile)?;
        Ok(Publish { channel, event, payload, tags, key: key.map_err(PublicationError::Key)?, audience })
    }
}

/// What a backend asks clients: an event with `data`, or with `args` in its place, or with nothing.
///
/// # Errors
/// What is wrong with it.
pub fn question(
    event: &str,
    data: Option<&RawValue>,
    args: Option<&RawValue>,
) -> Result<(EventName, Payload), PublicationError> {
    let event = EventName::parse(event).map_err(PublicationError::Event)?;
    let nothing = serde_json::from_str("[]").expect("an array is JSON");
    let args = if data.is_none() && args.is_none() { Some(nothing) } else { args };
    Ok((event, payload(data, args)?))
}

impl CallRequest<'_> {
    /// Checks every part.
    pub fn check(self) -> Result<(EventName, Payload), PublicationError> {
        let method = EventName::of_method(&self.method).map_err(PublicationError::Method)?;
        Ok((method, payload(self.data, self.args)?))
    }
}

fn audience(exclude: &[Cow<'_, str>], volatile: bool) -> Result<Audience, PublicationError> {
    if exclude.len() > EXCLUDED_MAX {
        return Err(PublicationError::TooManyExcluded { count: exclude.len() });
    }
    let client = |id: &Cow<'_, str>| {
        ClientId::parse(id).ok_or_else(|| PublicationError::NotAClient(id.chars().take(64).collect()))
    };
    let effort = if volatile { Effort::Volatile } else { Effort::Wait };
    Ok(Audience { except: exclude.iter().map(client).collect::<Result<_, _>>()?, effort })
}

fn payload(data: Option<&RawValue>, args: Option<&RawValue>) -> Result<Payload, PublicationError> {
    match (data, args) {
        (Some(data), None) => Json::check(data).map(Payload::Data).map_err(PublicationError::Data),
        (None, Some(args)) if !args.get().starts_with('[') => Err(PublicationError::ArgsNotArray),
        (None, Some(args)) => Json::check(args).map(Payload::Args).map_err(PublicationError::Args),
        (None, None) => Err(PublicationError::NoPayload),
        (Some(_), Some(_)) => Err(PublicationError::TwoPayloads),
    }
}

/// Where a publication or a subscription stands, as an answer.
#[derive(Debug, Serialize)]
pub(crate) struct Standing<'a> {
    channel: &'a str,
    epoch: String,
    offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    recovered: Option<bool>,
}

impl<'a> Standing<'a> {
    pub fn new(channel: &'a str, position: Position, recovered: Recovered) -> Self {
        let recovered = match recovered {
            Recovered::NotAsked => None,
            Recovered::All => Some(true),
            Recovered::Nothing => Some(false),
        };
        Self { channel, epoch: position.epoch.to_string(), offset: position.offset, recovered }
    }
}

/// Appends the publication object. The payload is copied as it was written; says where it begins.
pub(crate) fn write_publication(publication: &Publication, out: &mut Vec<u8>) -> usize {
    let Publication { position, draft, .. } = publication;
    out.extend_from_slice(b"{\"channel\":");
    write_json(&*draft.channel, out);
    write_text(format_args!(r#","epoch":"{}","offset":{},"event":"#, position.epoch, position.offset), out);
    write_json(&*draft.event, out);
    out.push(b',');
    write_payload(&draft.payload, out);
    let payload_at = out.len() - draft.payload.json().as_str().len();
    if !draft.tags.pairs().is_empty() {
        out.extend_from_slice(b",\"tags\":");
        write_json(draft.tags.pairs(), out);
    }
    if let Some(client) = draft.client {
        write_text(format_args!(r#","client":"{client}""#), out);
    }
    write_text(format_args!(r#","time":{}}}"#, draft.time_ms), out);
    payload_at
}

/// Appends `"data":…` or `"args":…`.
pub(crate) fn write_payload(payload: &Payload, out: &mut Vec<u8>) {
    let (key, json) = match payload {
        Payload::Data(json) => ("\"data\":", json),
        Payload::Args(json) => ("\"args\":", json),
    };
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(json.as_str().as_bytes());
}

pub(crate) fn write_json(value: &(impl Serialize + ?Sized), out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("names, numbers and maps of strings always serialize");
}

pub(crate) fn write_text(text: std::fmt::Arguments<'_>, out: &mut Vec<u8>) {
    std::io::Write::write_fmt(out, text).expect("writing to memory does not fail");
}
