//! What clients say, in either format.

use std::borrow::Cow;

use duplex_core::{Frame, Span};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::arguments::{Arguments, within};
use crate::msgpack;
use crate::publication::{present, write_json};

/// A message in MessagePack may be so many times as long in JSON: the worst are control characters, which are escaped.
const JSON_GROWTH: usize = 6;

/// A message of a client.
#[derive(Debug)]
pub(super) enum Incoming {
    Invocation(Invocation),
    /// An item of a stream that the client sends.
    Item {
        stream: Box<str>,
        item: Arguments,
    },
    /// A stream that the client sends has ended, or it answers what it was asked: with a value, with nothing, or with an
    /// error.
    Completion {
        id: Box<str>,
        outcome: Result<Arguments, String>,
    },
    /// The client wants no more of a stream.
    Cancel {
        id: Box<str>,
    },
    Close,
    Ping,
    /// Nothing that calls for something.
    Ignored,
}

/// The client invokes a method.
#[derive(Debug)]
pub(super) struct Invocation {
    /// Without one it is not answered.
    pub id: Option<Box<str>>,
    pub target: Box<str>,
    /// Behind the target, which is the first.
    pub arguments: Arguments,
    /// Streams that the client sends, as further arguments.
    pub streams: Vec<Box<str>>,
    pub way: Way,
}

/// How the client wants to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Once.
    Result,
    /// With any number of items.
    Stream,
}

/// A message before it is known whether it has what its type needs. Names are those of the protocol.
#[derive(Deserialize, Default)]
struct Parts<'a> {
    #[serde(rename = "type")]
    kind: u64,
    #[serde(borrow, default, rename = "invocationId")]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    target: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    arguments: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "streamIds")]
    streams: Option<Vec<Cow<'a, str>>>,
    #[serde(borrow, default, deserialize_with = "present")]
    item: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<Cow<'a, str>>,
}

impl Incoming {
    /// Reads a message.
    ///
    /// # Errors
    /// It is none; the text says what is wrong.
    pub fn read(message: Frame<'_>) -> Result<Self, String> {
        match message {
            Frame::Text("") | Frame::Binary([]) => Ok(Self::Ignored),
            Frame::Text(json) => {
                let parts = serde_json::from_str(json).map_err(|error| format!("not a message: {error}"))?;
                Source { json, binary: &[] }.message(parts)
            }
            Frame::Binary(body) => {
                let (json, binary) =
                    msgpack::to_json_and_binary(body, body.len().saturating_mul(JSON_GROWTH))
                        .map_err(|error| format!("not MessagePack: {error}"))?;
                let parts = Parts::of_array(&json).map_err(|error| format!("not a message: {error}"))?;
                Source { json: &json, binary: &binary }.message(parts)
            }
        }
    }
}

impl<'a> Parts<'a> {
    /// Reads the array that a message is in MessagePack. What is behind the elements that are known is passed over.
    fn of_array(json: &'a str) -> Result<Self, serde_json::Error> {
        let elements: Vec<&'a RawValue> = serde_json::from_str(json)?;
        let mut elements = elements.into_iter().map(RawValue::get);
        let kind = read(elements.next())?;
        // Close, and all that is not of an invocation, has no headers.
        if !(1..=5).contains(&kind) {
            return Ok(Self { kind, ..Self::default() });
        }
        elements.next();
        let id = read(elements.next())?;
        let mut parts = Self { kind, id, ..Self::default() };
        match kind {
            1 | 4 => {
                parts.target = read(elements.next())?;
                parts.arguments = read(elements.next())?;
                parts.streams = elements.next().map(|streams| read(Some(streams))).transpose()?;
            }
            2 => parts.item = Some(read(elements.next())?),
            3 => match read(elements.next())? {
                1_u64 => parts.error = read(elements.next())?,
                2 => {}
                3 => parts.result = Some(read(elements.next())?),
                kind => {
                    return Err(serde::de::Error::custom(format_args!(
                        "a completion of kind {kind}; give 1, 2 or 3"
                    )));
                }
            },
            _ => {}
        }
        Ok(parts)
    }
}

/// An element, which may be missing like any value that is `null`.
fn read<'a, T: Deserialize<'a>>(element: Option<&'a str>) -> Result<T, serde_json::Error> {
    serde_json::from_str(element.unwrap_or("null"))
}

/// The JSON that parts of a message lie in, and where it is binary data.
struct Source<'a> {
    json: &'a str,
    binary: &'a [Span],
}

impl Source<'_> {
    fn message(&self, parts: Parts<'_>) -> Result<Incoming, String> {
        let Parts { kind, id, target, arguments, streams, item, result, error } = parts;
        let named = |id: Option<Cow<'_, str>>| {
            id.filter(|id| !id.is_empty())
                .map(|id| id.as_ref().into())
                .ok_or_else(|| format!("a message of type {kind} without an invocationId; give it one"))
        };
        Ok(match kind {
            1 | 4 => {
                let way = if kind == 4 { Way::Stream } else { Way::Result };
                let id = match (way, id) {
                    (Way::Result, None) => None,
                    (_, id) => Some(named(id)?),
                };
                let target = target.filter(|target| !target.is_empty());
                let target = target.ok_or("an invocation without a target; name the method")?;
                let arguments = self.invoked(&target, arguments)?;
                let streams = streams.unwrap_or_default().iter().map(|id| id.as_ref().into()).collect();
                Incoming::Invocation(Invocation {
                    id,
                    target: target.as_ref().into(),
                    arguments,
                    streams,
                    way,
                })
            }
            2 => {
                let item = item.ok_or("a stream item without an item; give it one, null if need be")?;
                Incoming::Item { stream: named(id)?, item: self.one(item) }
            }
            3 => {
                let outcome = match (result, error) {
                    (Some(_), Some(_)) => {
                        return Err("a completion with a result and an error; give it one of them".to_owned());
                    }
                    (None, Some(error)) => Err(error.into_owned()),
                    (Some(result), None) => Ok(self.one(result)),
                    (None, None) => Ok(Arguments::new("[]".to_owned(), Vec::new())),
                };
                Incoming::Completion { id: named(id)?, outcome }
            }
            5 => Incoming::Cancel { id: named(id)? },
            6 => Incoming::Ping,
            7 => Incoming::Close,
            // What newer clients may say.
            _ => Incoming::Ignored,
        })
    }

    /// Binary data within a part of the text, in a text where that part begins at `to`.
    fn binary_in(&self, part: &str, to: usize) -> Vec<Span> {
        let start = part.as_ptr() as usize - self.json.as_ptr() as usize;
        within(self.binary, start..start + part.len(), to)
    }

    /// An array of one value.
    fn one(&self, value: &RawValue) -> Arguments {
        let value = value.get();
        Arguments::new(format!("[{value}]"), self.binary_in(value, 1))
    }

    /// The target and the arguments behind it.
    fn invoked(&self, target: &str, arguments: Option<&RawValue>) -> Result<Arguments, String> {
        let mut json = b"[".to_vec();
        write_json(target, &mut json);
        let mut json = String::from_utf8(json).expect("JSON of texts is text");
        let inner = match arguments.map(RawValue::get) {
            None | Some("null") => "",
            Some(array) => array
                .strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'))
                .ok_or("arguments that are not an array; give an array")?,
        };
        let mut binary = Vec::new();
        if !inner.trim_ascii().is_empty() {
            json.push(',');
            binary = self.binary_in(inner, json.len());
            json.push_str(inner);
        }
        json.push(']');
        Ok(Arguments::new(json, binary))
    }
}
