//! What clients of protocols without words for channels say by events and invocations whose names begin with `$`, and what
//! they are answered.

use std::borrow::Cow;

use duplex_core::{
    Answer, Audience, ChannelName, ClientId, CloseReason, Command, Detail, ErrorCode, EventName, NameError,
    Recovered, Refusal,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::arguments::Arguments;
use crate::history::{Since, Wanted};
use crate::publication::{Standing, write_json, write_text};

/// All there are.
pub(crate) const VERBS: [&str; 7] =
    ["$subscribe", "$unsubscribe", "$publish", "$broadcast", "$history", "$presence", "$refresh"];

/// Which channel a client means by a name.
type Naming<'a> = &'a dyn Fn(&str) -> Result<ChannelName, NameError>;

/// What an event asks for; the first of its arguments is its name. Every event that is not one of ours is a call to the backend.
pub(crate) fn command(
    channel: Naming<'_>,
    client: Option<ClientId>,
    name: &str,
    arguments: &Arguments,
) -> Result<Command, Refusal> {
    let values = arguments.values();
    let given = Given { named: channel, name, values: &values };
    match name {
        "$subscribe" => {
            given.at_most(2)?;
            let Subscription { since, token } = given.options()?;
            let since = since.map(|since| since.position()).transpose().map_err(Refusal::bad_request)?;
            let (channel, token) = (given.channel()?, token.map(Into::into));
            Ok(Command::Subscribe { channel, since, token, stream: None })
        }
        "$unsubscribe" => {
            given.at_most(1)?;
            Ok(Command::Unsubscribe { channel: given.channel()? })
        }
        "$publish" | "$broadcast" => {
            let event: Cow<'_, str> = given.read(2, "the event's name, a string")?;
            let event =
                EventName::parse(&event).map_err(|error| given.refuse(format_args!("event: {error}")))?;
            let payload =
                arguments.payload(3).map_err(|error| given.refuse(format_args!("arguments: {error}")))?;
            let (channel, tags) = (given.channel()?, Default::default());
            let except = client.filter(|_| name == "$broadcast").into_iter().collect();
            let audience = Audience { except, ..Audience::default() };
            Ok(Command::Publish { channel, event, payload, tags, key: None, audience })
        }
        "$history" => {
            given.at_most(2)?;
            let page = given.options::<Wanted<'_>>()?.check().map_err(|error| given.refuse(error))?;
            Ok(Command::History { channel: given.channel()?, page })
        }
        "$presence" => {
            given.at_most(2)?;
            let Presence { count } = given.options()?;
            let detail = if count { Detail::Count } else { Detail::Members };
            Ok(Command::Presence { channel: given.channel()?, detail })
        }
        "$refresh" => {
            given.at_most(1)?;
            let token: Cow<'_, str> = given.read(1, "the token, a string")?;
            Ok(Command::Refresh { token: token.into() })
        }
        name if name.starts_with('$') => Err(Refusal::new(
            ErrorCode::UnknownCommand,
            "unknown event; of those that begin with '$' there are $subscribe, $unsubscribe, $publish, $broadcast, \
             $history, $presence and $refresh",
        )),
        name => {
            let method = EventName::of_method(name)
                .map_err(|error| Refusal::bad_request(format_args!("event: {error}")))?;
            let payload =
                arguments.payload(1).map_err(|error| given.refuse(format_args!("arguments: {error}")))?;
            Ok(Command::Call { method, payload })
        }
    }
}

/// An event's arguments. The first value is its name.
struct Given<'a> {
    named: Naming<'a>,
    name: &'a str,
    values: &'a [&'a RawValue],
}

impl<'a> Given<'a> {
    fn at_most(&self, arguments: usize) -> Result<(), Refusal> {
        match self.values.len() - 1 {
            given if given <= arguments => Ok(()),
            given => Err(self.refuse(format_args!("has {given} arguments; at most {arguments} are allowed"))),
        }
    }

    fn read<T: Deserialize<'a>>(&self, index: usize, what: &str) -> Result<T, Refusal> {
        let value = self.values.get(index).and_then(|value| serde_json::from_str(value.get()).ok());
        value.ok_or_else(|| self.refuse(format_args!("argument {index} must be {what}")))
    }

    /// The last argument, an object that may be left out.
    fn options<T: Deserialize<'a> + Default>(&self) -> Result<T, Refusal> {
        let Some(value) = self.values.get(2) else { return Ok(T::default()) };
        if value.get().trim() == "null" {
            return Ok(T::default());
        }
        serde_json::from_str(value.get()).map_err(|error| self.refuse(format_args!("argument 2: {error}")))
    }

    fn channel(&self) -> Result<ChannelName, Refusal> {
        let room: Cow<'_, str> = self.read(1, "the channel's name, a string")?;
        (self.named)(&room).map_err(|error| self.refuse(format_args!("channel: {error}")))
    }

    fn refuse(&self, message: impl std::fmt::Display) -> Refusal {
        Refusal::bad_request(format_args!("{}: {message}", self.name))
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Subscription<'a> {
    #[serde(borrow, default)]
    since: Option<Since<'a>>,
    #[serde(borrow, default)]
    token: Option<Cow<'a, str>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Presence {
    #[serde(default)]
    count: bool,
}

/// The body of an answer: what the native protocol and the HTTP API say of the same.
pub(crate) fn body(answer: Answer) -> Vec<u8> {
    let mut out = Vec::with_capacity(96);
    match answer {
        Answer::Subscribed { channel, position, recovered } => {
            write_json(&Standing::new(&channel, position, recovered), &mut out);
        }
        Answer::Published { channel, position } => {
            write_json(&Standing::new(&channel, position, Recovered::NotAsked), &mut out);
        }
        Answer::Unsubscribed { channel } => {
            out.extend_from_slice(br#"{"channel":"#);
            write_json(&*channel, &mut out);
            out.push(b'}');
        }
        Answer::Refreshed { expires_in_ms: Some(ms) } => {
            write_text(format_args!(r#"{{"expires_in_ms":{ms}}}"#), &mut out);
        }
        Answer::History { channel, position, publications } => {
            return crate::history(&channel, position, &publications);
        }
        Answer::Present { channel, present } => return crate::present(&channel, &present),
        Answer::Counted { channel, attendance } => return crate::attendance(&channel, attendance),
        Answer::Refreshed { expires_in_ms: None }
        | Answer::Recovered { .. }
        | Answer::Called { .. }
        | Answer::Told { .. }
        | Answer::Connected { .. }
        | Answer::Refused(_) => {
            out.extend_from_slice(b"{}");
        }
    }
    out
}

/// Why a connection is closed, in words.
pub(crate) fn full(reason: &CloseReason, detail: &str) -> String {
    match detail {
        "" => reason.sentence.to_owned(),
        detail => format!("{}: {detail}", reason.sentence),
    }
}

/// Why something was not done.
#[derive(Serialize)]
pub(crate) struct Problem<'a> {
    pub code: u16,
    pub message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<&'a str>,
}

impl<'a> Problem<'a> {
    pub fn of(refusal: &'a Refusal) -> Self {
        Self { code: refusal.code as u16, message: &refusal.message, event: None }
    }
}
