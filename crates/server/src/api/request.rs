//! `POST /api/v1/request`: what a backend asks clients, and what they answer.

use std::borrow::Cow;
use std::time::Duration;

use duplex_core::{ChannelName, ClientId, UserId};
use duplex_engine::{Addressee, Outcome, Reply};
use duplex_protocol::question;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Endpoint, Everywhere, Failure, Station, json, parse, unacceptable};
use crate::doors::Site;

/// How long answers are waited for, if the request does not say.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long they may be waited for.
const TIMEOUT_MAX: Duration = Duration::from_secs(30);

/// Whom to ask what: one of `channel`, `client` and `user`.
#[derive(Deserialize)]
pub(super) struct AskRequest<'a> {
    #[serde(borrow, default)]
    channel: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    client: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    user: Option<Cow<'a, str>>,
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    args: Option<&'a RawValue>,
    #[serde(default)]
    timeout_ms: Option<u64>,
}

impl AskRequest<'_> {
    fn addressee(&self) -> Result<Addressee, Failure> {
        let bad = |name: &str, error: &dyn std::fmt::Display| Failure::bad(format_args!("{name}: {error}"));
        match (&self.channel, &self.client, &self.user) {
            (Some(channel), None, None) => {
                ChannelName::parse(channel).map(Addressee::Channel).map_err(|error| bad("channel", &error))
            }
            (None, Some(client), None) => ClientId::parse(client)
                .map(Addressee::Client)
                .ok_or_else(|| bad("client", &"is not a client's id; ids are 32 hexadecimal digits")),
            (None, None, Some(user)) => {
                UserId::parse(user).map(Addressee::User).map_err(|error| bad("user", &error))
            }
            _ => Err(Failure::bad("give one of channel, client and user")),
        }
    }

    fn timeout(&self) -> Result<Duration, Failure> {
        let timeout = self.timeout_ms.map_or(TIMEOUT, Duration::from_millis);
        if timeout.is_zero() || timeout > TIMEOUT_MAX {
            let max = TIMEOUT_MAX.as_millis();
            return Err(Failure::bad(format_args!("timeout_ms: give 1 to {max}")));
        }
        Ok(timeout)
    }
}

/// Asks the clients of all nodes, and answers with what they have answered until all have, or until time is over.
pub(super) async fn ask_all(site: &Site, body: &[u8]) -> Result<Vec<u8>, Failure> {
    let request: AskRequest<'_> = parse(body)?;
    let asking = ask(&site.station, &request);
    let (here, others) = tokio::join!(asking, site.talk.gather(Endpoint::Request, body, request.timeout()?));
    let mut all = here?;
    for (_, answer) in &others.answers {
        let Ok(there) = serde_json::from_str::<Answers>(answer.get()) else { continue };
        all.expected += there.expected;
        all.received += there.received;
        all.replies.extend(there.replies);
    }
    Ok(json(&AnswersOfAll { answers: all, everywhere: Everywhere::of(site, &others) }))
}

/// Asks the clients of this node.
pub(super) async fn ask(station: &Station, request: &AskRequest<'_>) -> Result<Answers, Failure> {
    let (whom, timeout) = (request.addressee()?, request.timeout()?);
    let question = question(&request.event, request.data, request.args).map_err(unacceptable)?;
    let outcome = station.node.ask(whom, question, timeout).await.map_err(Failure::full)?;
    Ok(Answers::from(&outcome))
}

/// What clients of one node or of all have answered.
#[derive(Serialize, Deserialize)]
pub(super) struct Answers {
    expected: usize,
    received: usize,
    replies: Vec<Box<RawValue>>,
}

#[derive(Serialize)]
struct AnswersOfAll {
    #[serde(flatten)]
    answers: Answers,
    #[serde(flatten)]
    everywhere: Everywhere,
}

#[derive(Serialize)]
struct Answer<'a> {
    client: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    args: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

impl<'a> Answer<'a> {
    fn of(reply: &'a Reply) -> Self {
        Self {
            client: reply.client.to_string(),
            user: reply.user.as_deref(),
            args: reply.answer.as_ref().ok().and_then(|args| serde_json::from_str(args.as_str()).ok()),
            error: reply.answer.as_ref().err().map(String::as_str),
        }
    }
}

impl From<&Outcome> for Answers {
    fn from(outcome: &Outcome) -> Self {
        let raw = |reply| serde_json::value::to_raw_value(&Answer::of(reply));
        let replies = outcome.replies.iter().map(|reply| raw(reply).expect("strings always serialize"));
        Self { expected: outcome.expected, received: outcome.received, replies: replies.collect() }
    }
}
