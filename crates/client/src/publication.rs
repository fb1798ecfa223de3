use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// Where a publication stands in its channel, written `epoch:offset`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Position {
    /// One life of the channel's history; compared for equality.
    pub epoch: Box<str>,
    /// Counts up by one inside an epoch.
    pub offset: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.offset)
    }
}

/// The text is not a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a position; write it as `epoch:offset`, such as `f3a91c07:41`")]
pub struct PositionError;

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let (epoch, offset) = text.rsplit_once(':').ok_or(PositionError)?;
        let offset = offset.parse().map_err(|_| PositionError)?;
        if epoch.is_empty() {
            return Err(PositionError);
        }
        Ok(Self { epoch: epoch.into(), offset })
    }
}

/// One message in a channel.
#[derive(Debug, Clone)]
pub struct Publication {
    /// Where it was published.
    pub channel: Box<str>,
    /// Its place there.
    pub position: Position,
    /// What kind of message it is; `message` if its publisher did not say.
    pub event: Box<str>,
    /// What its publisher attached to it.
    pub tags: BTreeMap<String, String>,
    /// Public id of the client that published it; absent if a backend did.
    pub client: Option<Box<str>>,
    /// When the server took it, milliseconds since 1970 UTC.
    pub time_ms: u64,
    json: Box<RawValue>,
    payload: Range<usize>,
    shape: Shape,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Data,
    Args,
}

#[derive(Deserialize)]
struct Wire<'a> {
    channel: Box<str>,
    epoch: Box<str>,
    offset: u64,
    event: Box<str>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    args: Option<&'a RawValue>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    #[serde(default)]
    client: Option<Box<str>>,
    #[serde(default)]
    time: u64,
}

impl Publication {
    /// Reads the object of a `publication` frame.
    pub(crate) fn read(json: &RawValue) -> Result<Self, serde_json::Error> {
        let Wire { channel, epoch, offset, event, data, args, tags, client, time } =
            serde_json::from_str(json.get())?;
        let (payload, shape) = match (args, data) {
            (Some(args), _) => (range(json.get(), args.get()), Shape::Args),
            (None, Some(data)) => (range(json.get(), data.get()), Shape::Data),
            (None, None) => return Err(serde::de::Error::missing_field("data")),
        };
        let position = Position { epoch, offset };
        let json = json.to_owned();
        Ok(Self { channel, position, event, tags, client, time_ms: time, json, payload, shape })
    }

    /// The payload as JSON text: a value, or the array of positional arguments. In JSON form it is byte for byte what was
    /// published.
    pub fn payload(&self) -> &str {
        &self.json.get()[self.payload.clone()]
    }

    /// The payload as one value: `data`, or the arguments as an array.
    pub fn value(&self) -> Value {
        serde_json::from_str(self.payload()).expect("the payload is a part of JSON that was parsed")
    }

    /// The payload as positional arguments; `data` is one of them.
    pub fn args(&self) -> Vec<Value> {
        match (self.shape, self.value()) {
            (Shape::Args, Value::Array(args)) => args,
            (_, value) => vec![value],
        }
    }

    /// The payload as a value of your own.
    ///
    /// # Errors
    /// It is another.
    pub fn parse<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.payload())
    }

    /// The whole publication as JSON text, as `docs/protocol.md` describes it.
    pub fn json(&self) -> &str {
        self.json.get()
    }
}

/// `null` is a value like any other.
pub(crate) fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// Where `part` lies in `whole`, which it was borrowed from.
fn range(whole: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr().addr() - whole.as_ptr().addr();
    start..start + part.len()
}

/// A client that is subscribed to a channel, as others see it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Member {
    /// Its public id.
    pub client: Box<str>,
    /// Whose client it is; absent if it is anonymous.
    #[serde(default)]
    pub user: Option<Box<str>>,
    /// What its token says about it.
    #[serde(default)]
    pub info: Option<Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_is_written() {
        for (text, position) in [
            ("f3:41", Some(("f3", 41))),
            ("a:b:0", Some(("a:b", 0))),
            ("f3", None),
            (":1", None),
            ("f3:", None),
            ("f3:-1", None),
        ] {
            let read: Option<Position> = text.parse().ok();
            assert_eq!(read.as_ref().map(|p| (&*p.epoch, p.offset)), position, "{text}");
            assert!(read.is_none_or(|p| p.to_string() == text));
        }
    }

    #[test]
    fn a_payload_is_kept_as_it_was_written() {
        for (rest, payload, args) in [
            (r#""data": {"a" : 1.50}"#, r#"{"a" : 1.50}"#, 1),
            (r#""data":null"#, "null", 1),
            (r#""args":[1, "é"]"#, r#"[1, "é"]"#, 2),
        ] {
            let text = format!(r#"{{"channel":"news","epoch":"f3","offset":2,"event":"message",{rest}}}"#);
            let publication = Publication::read(serde_json::from_str(&text).unwrap()).unwrap();
            assert_eq!((publication.payload(), publication.args().len()), (payload, args));
            assert_eq!(publication.json(), text);
        }
        let none = r#"{"channel":"news","epoch":"f3","offset":2,"event":"message"}"#;
        assert!(Publication::read(serde_json::from_str(none).unwrap()).is_err());
    }
}
