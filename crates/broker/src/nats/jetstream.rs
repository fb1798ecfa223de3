//! What is asked of JetStream: few things, each bounded in time, so that its API is spoken here.
//!
//! <https://docs.nats.io/reference/reference-protocols/nats_api_reference>

use std::collections::BTreeMap;

use async_nats::{HeaderMap, Message, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::connection::{Connection, Failure};

const WRONG_LAST_SEQUENCE: u32 = 10_071;
const NO_MESSAGE: u32 = 10_037;
const NO_SEQUENCE: u32 = 10_043;
const NO_STREAM: u32 = 10_059;

/// A message that is kept in a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    pub sequence: u64,
    pub payload: Bytes,
    /// When it was stored, by the server's clock: milliseconds since 1970 UTC.
    pub stored_ms: u64,
}

/// How storing went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stored {
    At(u64),
    /// The subject's last sequence is another than was expected.
    Conflict,
}

/// Whether a message was deleted by this call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub(super) enum Deleted {
    Now,
    Before,
}

#[derive(Deserialize)]
struct Problem {
    #[serde(default)]
    code: u32,
    #[serde(default)]
    err_code: u32,
    #[serde(default)]
    description: String,
}

impl From<Problem> for Failure {
    fn from(Problem { code, err_code, description }: Problem) -> Self {
        let code = if err_code == 0 { code } else { err_code };
        Self::Refused { code, text: format!("JetStream says: {description}") }
    }
}

impl Connection {
    /// Stores a message; if `expected` is given, only if that is the subject's last sequence.
    pub async fn store(
        &self,
        subject: String,
        expected: Option<u64>,
        payload: Bytes,
        deadline: Instant,
    ) -> Result<Stored, Failure> {
        #[derive(Deserialize)]
        struct Ack {
            #[serde(default)]
            seq: u64,
            error: Option<Problem>,
        }
        let headers = expected.map(|expected| {
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Expected-Last-Subject-Sequence", expected.to_string());
            headers
        });
        let answer = self.ask(subject, headers, payload, deadline).await?;
        match serde_json::from_slice(&answer.payload) {
            Ok(Ack { error: None, seq }) if seq > 0 => Ok(Stored::At(seq)),
            Ok(Ack { error: Some(problem), .. }) if problem.err_code == WRONG_LAST_SEQUENCE => {
                Ok(Stored::Conflict)
            }
            Ok(Ack { error: Some(problem), .. }) => Err(problem.into()),
            _ => Err(not_understood()),
        }
    }

    /// The newest message of a subject, as the stream's leader has it.
    pub async fn last(
        &self,
        stream: &str,
        subject: &str,
        deadline: Instant,
    ) -> Result<Option<Kept>, Failure> {
        self.leaders(stream, json!({ "last_by_subj": subject }), deadline).await
    }

    /// The first message of a subject that has this sequence or a later one.
    pub async fn next(
        &self,
        stream: &str,
        subject: &str,
        sequence: u64,
        deadline: Instant,
    ) -> Result<Option<Kept>, Failure> {
        self.leaders(stream, json!({ "seq": sequence, "next_by_subj": subject }), deadline).await
    }

    /// The message with this sequence, from whichever server has it.
    pub async fn at(&self, stream: &str, sequence: u64, deadline: Instant) -> Result<Option<Kept>, Failure> {
        let query = json!({ "seq": sequence });
        let subject = format!("$JS.API.DIRECT.GET.{stream}");
        match self.ask(subject, None, query.to_string().into(), deadline).await {
            Ok(answer) if answer.status.is_none() => kept(answer).map(Some),
            Ok(answer) if answer.status != Some(StatusCode::NOT_FOUND) => Err(not_understood()),
            // It may have been a server that does not have it yet, or nobody may ask this stream so.
            Ok(_) | Err(Failure::Nobody) => self.leaders(stream, query, deadline).await,
            Err(failure) => Err(failure),
        }
    }

    async fn leaders(&self, stream: &str, query: Value, deadline: Instant) -> Result<Option<Kept>, Failure> {
        #[derive(Deserialize)]
        struct Found {
            message: FoundMessage,
        }
        #[derive(Deserialize)]
        struct FoundMessage {
            seq: u64,
            #[serde(default)]
            data: String,
            time: String,
        }
        match self.api::<Found>(&format!("STREAM.MSG.GET.{stream}"), &query, deadline).await {
            Ok(Found { message: FoundMessage { seq, data, time } }) => {
                let payload = STANDARD.decode(data).map_err(|_| not_understood())?.into();
                let stored_ms = milliseconds(&time).ok_or_else(not_understood)?;
                Ok(Some(Kept { sequence: seq, payload, stored_ms }))
            }
            Err(Failure::Refused { code: NO_MESSAGE | NO_SEQUENCE, .. }) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Deletes a message. Of all who do so, one hears that it did.
    pub async fn delete(&self, stream: &str, sequence: u64, deadline: Instant) -> Result<Deleted, Failure> {
        let query = json!({ "seq": sequence, "no_erase": true });
        match self.api::<Value>(&format!("STREAM.MSG.DELETE.{stream}"), &query, deadline).await {
            Ok(_) => Ok(Deleted::Now),
            Err(Failure::Refused { code: NO_MESSAGE | NO_SEQUENCE, .. }) => Ok(Deleted::Before),
            Err(failure) => Err(failure),
        }
    }

    /// All subjects of a stream that match a pattern.
    pub async fn subjects(
        &self,
        stream: &str,
        filter: &str,
        deadline: Instant,
    ) -> Result<Vec<String>, Failure> {
        #[derive(Deserialize)]
        struct Info {
            #[serde(default)]
            total: usize,
            state: State,
        }
        #[derive(Deserialize)]
        struct State {
            #[serde(default)]
            subjects: Option<BTreeMap<String, u64>>,
        }
        let mut all = Vec::new();
        loop {
            let query = json!({ "subjects_filter": filter, "offset": all.len() });
            let info: Info = self.api(&format!("STREAM.INFO.{stream}"), &query, deadline).await?;
            let some = info.state.subjects.unwrap_or_default();
            let is_last = some.is_empty() || all.len() + some.len() >= info.total;
            all.extend(some.into_keys());
            if is_last {
                return Ok(all);
            }
        }
    }

    /// A stream's configuration, if it is there.
    pub async fn stream(&self, stream: &str, deadline: Instant) -> Result<Option<Value>, Failure> {
        #[derive(Deserialize)]
        struct Info {
            config: Value,
        }
        match self.api::<Info>(&format!("STREAM.INFO.{stream}"), &json!({}), deadline).await {
            Ok(info) => Ok(Some(info.config)),
            Err(failure) if failure.is_no_stream() => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Asks JetStream's API.
    pub async fn api<T: DeserializeOwned>(
        &self,
        name: &str,
        query: &Value,
        deadline: Instant,
    ) -> Result<T, Failure> {
        #[derive(Deserialize)]
        struct Answer {
            error: Option<Problem>,
        }
        let answer = self.ask(format!("$JS.API.{name}"), None, query.to_string().into(), deadline).await?;
        match serde_json::from_slice(&answer.payload) {
            Ok(Answer { error: Some(problem) }) => Err(problem.into()),
            Ok(Answer { error: None }) => {
                serde_json::from_slice(&answer.payload).map_err(|_| not_understood())
            }
            Err(_) => Err(not_understood()),
        }
    }
}

impl Failure {
    pub fn is_no_stream(&self) -> bool {
        matches!(self, Self::Refused { code: NO_STREAM, .. })
    }
}

fn not_understood() -> Failure {
    Failure::Refused { code: 0, text: "JetStream's answer is not understood".to_owned() }
}

fn kept(answer: Message) -> Result<Kept, Failure> {
    let header = |name: &'static str| answer.headers.as_ref().and_then(|all| all.get_last(name));
    let sequence = header("Nats-Sequence").and_then(|value| value.as_str().parse().ok());
    let stored_ms = header("Nats-Time-Stamp").and_then(|value| milliseconds(value.as_str()));
    match (sequence, stored_ms) {
        (Some(sequence), Some(stored_ms)) => Ok(Kept { sequence, payload: answer.payload, stored_ms }),
        _ => Err(not_understood()),
    }
}

/// Reads `2026-11-25T10:01:28.803637896Z`: milliseconds since 1970.
fn milliseconds(time: &str) -> Option<u64> {
    let (date, clock) = time.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<u64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let mut clock = clock.splitn(3, ':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Years that begin in March, so that a leap day is the last of its year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    let days = days.checked_sub(719_468)?;
    let digits: String = fraction.chars().chain("000".chars()).take(3).collect();
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    Some(seconds * 1_000 + digits.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_times_are_read() {
        for (time, expected) in [
            ("1970-03-01T00:00:00Z", Some(59 * 86_400_000)),
            ("2000-02-29T12:00:00.5Z", Some(951_825_600_500)),
            ("2026-11-25T10:01:28.803637896Z", Some(1_795_600_888_803)),
            ("2026-11-25", None),
            ("2026-13-25T10:01:28Z", None),
            ("soon", None),
        ] {
            assert_eq!(milliseconds(time), expected, "{time}");
        }
    }
}
