//! What the server sends, as far as the envelope (`docs/protocol.md`, what the server sends).

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{End, Position, Refusal};

/// A frame that was taken apart. What belongs to the kind stays JSON until somebody wants it.
#[derive(Debug)]
pub(crate) struct Frame {
    pub id: Option<u64>,
    pub kind: Kind,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Connected(Connected),
    Subscribed(Subscribed),
    Publication(Box<RawValue>),
    Joined(Box<RawValue>),
    Left(Box<RawValue>),
    Closing(End),
    Attached(Attached),
    Error(Refusal),
    /// The answer to a command that nothing here needs to understand.
    Answer(Box<RawValue>),
    /// Of a newer server.
    Unknown,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Connected {
    pub client: Box<str>,
    #[serde(default)]
    pub user: Option<Box<str>>,
    #[serde(default)]
    pub expires_in_ms: Option<u64>,
    pub heartbeat_ms: u64,
    pub message_bytes_max: usize,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Subscribed {
    pub channel: Box<str>,
    epoch: Box<str>,
    offset: u64,
    #[serde(default)]
    pub recovered: Option<bool>,
}

impl Subscribed {
    pub fn position(&self) -> Position {
        Position { epoch: self.epoch.clone(), offset: self.offset }
    }
}

/// A transport begins to carry a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) struct Attached {
    /// Frames that came before.
    pub after: u64,
    /// Messages that have arrived.
    pub received: u64,
}

#[derive(Deserialize)]
struct Closing {
    code: u16,
    message: String,
    #[serde(default)]
    reconnect: Option<bool>,
    #[serde(default)]
    after_ms: Option<u64>,
}

impl From<Closing> for End {
    fn from(closing: Closing) -> Self {
        let Closing { code, message, reconnect, after_ms } = closing;
        Self { code, reason: message, reconnect, after: after_ms.map(Duration::from_millis) }
    }
}

#[derive(Deserialize)]
struct Problem {
    code: u16,
    message: String,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(default)]
    id: Option<u64>,
    #[serde(borrow, default)]
    publication: Option<&'a RawValue>,
    #[serde(default)]
    connected: Option<Connected>,
    #[serde(default)]
    subscribed: Option<Subscribed>,
    #[serde(borrow, default)]
    joined: Option<&'a RawValue>,
    #[serde(borrow, default)]
    left: Option<&'a RawValue>,
    #[serde(default)]
    closing: Option<Closing>,
    #[serde(default)]
    attached: Option<Attached>,
    #[serde(default)]
    error: Option<Problem>,
    #[serde(
        borrow,
        default,
        alias = "published",
        alias = "unsubscribed",
        alias = "refreshed",
        alias = "history",
        alias = "presence",
        alias = "presence_stats",
        alias = "called",
        alias = "pong"
    )]
    answer: Option<&'a RawValue>,
}

impl Frame {
    /// Reads a frame.
    ///
    /// # Errors
    /// It is not JSON, or a part that matters is not as it must be: somebody else than the server speaks.
    pub fn read(json: &str) -> Result<Self, serde_json::Error> {
        let envelope: Envelope<'_> = serde_json::from_str(json)?;
        Ok(Self { id: envelope.id, kind: Kind::from(envelope) })
    }
}

impl From<Envelope<'_>> for Kind {
    fn from(envelope: Envelope<'_>) -> Self {
        match envelope {
            Envelope { publication: Some(publication), .. } => Self::Publication(publication.to_owned()),
            Envelope { answer: Some(answer), .. } => Self::Answer(answer.to_owned()),
            Envelope { subscribed: Some(subscribed), .. } => Self::Subscribed(subscribed),
            Envelope { error: Some(Problem { code, message }), .. } => Self::Error(Refusal { code, message }),
            Envelope { joined: Some(joined), .. } => Self::Joined(joined.to_owned()),
            Envelope { left: Some(left), .. } => Self::Left(left.to_owned()),
            Envelope { connected: Some(connected), .. } => Self::Connected(connected),
            Envelope { attached: Some(attached), .. } => Self::Attached(attached),
            Envelope { closing: Some(closing), .. } => Self::Closing(closing.into()),
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(json: &str) -> String {
        match Frame::read(json) {
            Ok(Frame { id, kind }) => format!("{id:?} {kind:?}"),
            Err(_) => "unreadable".to_owned(),
        }
    }

    #[test]
    fn frames_are_told_apart_and_what_is_new_is_passed_over() {
        for (json, expected) in [
            (r#"{"id":5,"pong":{}}"#, r#"Some(5) Answer(RawValue({}))"#),
            (r#"{"publication":{"x": 1}}"#, r#"None Publication(RawValue({"x": 1}))"#),
            (
                r#"{"id":4,"error":{"code":107,"message":"m"}}"#,
                r#"Some(4) Error(Refusal { code: 107, message: "m" })"#,
            ),
            (r#"{"attached":{"after":7,"received":2}}"#, "None Attached(Attached { after: 7, received: 2 })"),
            (
                r#"{"closing":{"code":1012,"message":"m","reconnect":true,"after_ms":2750}}"#,
                r#"None Closing(End { code: 1012, reason: "m", reconnect: Some(true), after: Some(2.75s) })"#,
            ),
            (r#"{"weather":{"fine":true}}"#, "None Unknown"),
            (r#"{"attached":{}}"#, "unreadable"),
            ("<html>", "unreadable"),
            ("3", "unreadable"),
        ] {
            assert_eq!(shown(json), expected, "{json}");
        }
    }
}
