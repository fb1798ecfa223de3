//! What clients send.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use duplex_core::{ChannelName, Detail, Payload, Position, Refusal};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::frame::{ID_MAX, Id};
use super::unknown;
use crate::history::Since;
use crate::publication::CallRequest;
use crate::{HistoryRequest, PublishRequest};

/// Commands in one message, at most.
const COMMANDS_MAX: usize = 128;

/// `{"id":…,"command":{…}}` with the command still unread.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub id: Id,
    name: Cow<'a, str>,
    body: &'a RawValue,
}

/// What a client asks for.
#[derive(Debug)]
pub(crate) enum Command {
    Ping,
    Connect(Introduction),
    Engine(duplex_core::Command),
}

/// How a client introduces itself.
#[derive(Debug)]
pub(crate) struct Introduction {
    pub token: Option<Box<str>>,
    /// Where it stood in the channels that its token wants it to be subscribed to.
    pub since: Box<[(ChannelName, Position)]>,
}

/// The commands of a message, each right or refused; an error if the message is not JSON at all.
pub(crate) fn parse(text: &str) -> Result<Vec<Result<Request<'_>, Refusal>>, String> {
    let whole: &RawValue = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    if !whole.get().starts_with('[') {
        return Ok(vec![one(whole)]);
    }
    let commands: Vec<&RawValue> =
        serde_json::from_str(whole.get()).map_err(|error| format!("not JSON: {error}"))?;
    if commands.is_empty() || commands.len() > COMMANDS_MAX {
        let found = commands.len();
        let message = format_args!("an array of {found} commands; send 1 to {COMMANDS_MAX} in one message");
        return Ok(vec![Err(Refusal::bad_request(message))]);
    }
    Ok(commands.into_iter().map(one).collect())
}

fn one(raw: &RawValue) -> Result<Request<'_>, Refusal> {
    serde_json::from_str(raw.get()).map_err(|error| Refusal::bad_request(plain(&error)))
}

/// The message of a serde_json error without the position in an inner text, which would mislead.
fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message).to_owned()
}

impl Request<'_> {
    /// Reads the command.
    pub fn command(&self) -> Result<Command, Refusal> {
        use duplex_core::Command::{Call, History, Presence, Publish, Refresh, Subscribe, Unsubscribe};
        Ok(Command::Engine(match &*self.name {
            "ping" => return Ok(Command::Ping),
            "connect" => return self.read::<ConnectBody<'_>>()?.check().map(Command::Connect),
            "refresh" => Refresh { token: self.read::<RefreshBody<'_>>()?.token.into() },
            "subscribe" => {
                let SubscribeBody { channel: name, since, token } = self.read()?;
                let since = since.map(|since| since.position()).transpose().map_err(Refusal::bad_request)?;
                Subscribe { channel: channel(&name)?, since, token: token.map(Into::into), stream: None }
            }
            "presence" => Presence {
                channel: channel(&self.read::<ChannelBody<'_>>()?.channel)?,
                detail: Detail::Members,
            },
            "presence_stats" => Presence {
                channel: channel(&self.read::<ChannelBody<'_>>()?.channel)?,
                detail: Detail::Count,
            },
            "call" => {
                let (method, payload): (_, Payload) =
                    self.read::<CallRequest<'_>>()?.check().map_err(Refusal::bad_request)?;
                Call { method, payload }
            }
            "unsubscribe" => Unsubscribe { channel: channel(&self.read::<ChannelBody<'_>>()?.channel)? },
            "history" => {
                let checked = self.read::<HistoryRequest<'_>>()?.check();
                let (channel, page) = checked.map_err(Refusal::bad_request)?;
                History { channel, page }
            }
            "publish" => {
                let checked = self.read::<PublishRequest<'_>>()?.check();
                let crate::Publish { channel, event, payload, tags, key, audience } =
                    checked.map_err(Refusal::bad_request)?;
                Publish { channel, event, payload, tags, key, audience }
            }
            other => return Err(unknown(other)),
        }))
    }

    fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Refusal> {
        let body = self.body.get();
        if !body.starts_with('{') {
            return Err(Refusal::bad_request(format_args!("{}: must be an object", self.name)));
        }
        serde_json::from_str(body)
            .map_err(|error| Refusal::bad_request(format_args!("{}: {}", self.name, plain(&error))))
    }
}

#[derive(Deserialize)]
struct ConnectBody<'a> {
    #[serde(borrow, default)]
    token: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    since: BTreeMap<Cow<'a, str>, Since<'a>>,
}

impl ConnectBody<'_> {
    fn check(self) -> Result<Introduction, Refusal> {
        if self.since.len() > COMMANDS_MAX {
            let count = self.since.len();
            let message = format_args!("since: names {count} channels; at most {COMMANDS_MAX} are allowed");
            return Err(Refusal::bad_request(message));
        }
        let since = self
            .since
            .iter()
            .map(|(name, since)| Ok((channel(name)?, since.position().map_err(Refusal::bad_request)?)));
        Ok(Introduction { token: self.token.map(Into::into), since: since.collect::<Result<_, Refusal>>()? })
    }
}

#[derive(Deserialize)]
struct RefreshBody<'a> {
    #[serde(borrow)]
    token: Cow<'a, str>,
}

#[derive(Deserialize)]
struct SubscribeBody<'a> {
    #[serde(borrow)]
    channel: Cow<'a, str>,
    #[serde(borrow, default)]
    since: Option<Since<'a>>,
    #[serde(borrow, default)]
    token: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct ChannelBody<'a> {
    #[serde(borrow)]
    channel: Cow<'a, str>,
}

fn channel(name: &str) -> Result<ChannelName, Refusal> {
    ChannelName::parse(name).map_err(|error| Refusal::bad_request(format_args!("channel: {error}")))
}

impl<'de: 'a, 'a> Deserialize<'de> for Request<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RequestVisitor)
    }
}

struct RequestVisitor;

impl<'de> Visitor<'de> for RequestVisitor {
    type Value = Request<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a command: an object such as {\"id\":1,\"subscribe\":{\"channel\":\"news\"}}")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let (mut id, mut command) = (Id::None, None);
        while let Some(key) = map.next_key::<Key<'de>>()? {
            if key.0 == "id" {
                if id != Id::None {
                    return Err(M::Error::custom("id: is there twice"));
                }
                id = map.next_value::<IdValue>()?.0;
            } else if command.is_none() {
                command = Some((key.0, map.next_value::<&RawValue>()?));
            } else {
                map.next_value::<IgnoredAny>()?;
                return Err(M::Error::custom("more than one command in an object; send an array of objects"));
            }
        }
        let (name, body) = command.ok_or_else(|| M::Error::custom("there is no command in the object"))?;
        Ok(Request { id, name, body })
    }
}

#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

struct IdValue(Id);

impl<'de> Deserialize<'de> for IdValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        match raw.get().parse() {
            Ok(id @ 1..=ID_MAX) => Ok(Self(Id::Given(id))),
            _ => Err(D::Error::custom(format_args!("id: must be an integer from 1 to {ID_MAX}"))),
        }
    }
}
