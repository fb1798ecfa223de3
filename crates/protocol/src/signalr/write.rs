//! What the server says.

use std::borrow::Cow;

use duplex_core::{Change, EventName, Message, Payload, PresenceChange, Publication, Return, Span};

use super::Format;
use super::splitter::END;
use crate::arguments::{shifted, values};
use crate::publication::{write_json, write_text};
use crate::{msgpack, native};

/// What became of an invocation.
#[derive(Debug)]
pub(super) enum Outcome<'a> {
    /// JSON, with binary data at these places.
    Result(&'a str, &'a [Span]),
    /// It was done, and there is nothing to say.
    Void,
    Error(&'a str),
}

impl Format {
    /// A message in this format, from its bytes.
    pub(super) fn message(self, bytes: Vec<u8>) -> Message {
        match self {
            Self::Json => Message::Text(bytes.into()),
            Self::MessagePack => Message::Binary(bytes.into()),
        }
    }

    /// A message from its JSON: an object, or the array that says the same in MessagePack.
    fn finish(self, mut json: Vec<u8>, binary: &[Span]) -> Vec<u8> {
        match self {
            Self::Json => {
                json.push(END);
                json
            }
            Self::MessagePack => counted(&msgpack::from_json_and_binary(&text(json), binary)),
        }
    }

    /// A value of a message in this format, from its JSON and where it is binary data.
    pub(super) fn value(self, json: &str, binary: &[Span]) -> Vec<u8> {
        match self {
            Self::Json => json.into(),
            Self::MessagePack => msgpack::from_json_and_binary(json, binary),
        }
    }
}

/// JSON that was written here.
pub(super) fn text(json: Vec<u8>) -> String {
    String::from_utf8(json).expect("JSON of texts is text")
}

/// A message behind its length.
fn counted(body: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(body.len() + 5);
    let mut length = body.len();
    while length > 0x7f {
        message.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    message.push(length as u8);
    message.extend_from_slice(body);
    message
}

/// An event: the client invokes what it has for this target. With an id it answers. The arguments are a JSON array, with
/// binary data at these places.
fn invocation(
    format: Format,
    id: Option<&str>,
    target: &str,
    (arguments, binary): (&str, &[Span]),
) -> Vec<u8> {
    let mut json = Vec::with_capacity(64 + target.len() + arguments.len());
    match format {
        Format::Json => {
            json.extend_from_slice(br#"{"type":1,"#);
            if let Some(id) = id {
                json.extend_from_slice(br#""invocationId":"#);
                write_json(id, &mut json);
                json.push(b',');
            }
            json.extend_from_slice(br#""target":"#);
            write_json(target, &mut json);
            json.extend_from_slice(br#","arguments":"#);
        }
        Format::MessagePack => {
            json.extend_from_slice(b"[1,{},");
            write_json(&id, &mut json);
            json.push(b',');
            write_json(target, &mut json);
            json.push(b',');
        }
    }
    let moved = json.len();
    json.extend_from_slice(arguments.as_bytes());
    json.extend_from_slice(if format == Format::Json { b"}" } else { b",[]]" });
    format.finish(json, &shifted(binary, moved))
}

/// An event with a payload.
pub(super) fn event(format: Format, id: Option<&str>, event: &EventName, payload: &Payload) -> Vec<u8> {
    match payload {
        Payload::Args(args) => invocation(format, id, event, (args.as_str(), args.binary())),
        Payload::Data(_) => {
            let (json, binary) = values(payload);
            invocation(format, id, event, (&json, &binary))
        }
    }
}

/// An item of a stream: `value` is one in this format.
pub(super) fn item(format: Format, id: &str, value: &[u8]) -> Vec<u8> {
    let mut head = Vec::with_capacity(48 + id.len() + value.len());
    match format {
        Format::Json => {
            head.extend_from_slice(br#"{"type":2,"invocationId":"#);
            write_json(id, &mut head);
            head.extend_from_slice(br#","item":"#);
            head.extend_from_slice(value);
            head.extend_from_slice(&[b'}', END]);
            head
        }
        Format::MessagePack => {
            // An array of four: type, headers, id and item.
            head.extend_from_slice(&[0x94, 2, 0x80]);
            head.extend_from_slice(&format.value(&quoted(id), &[]));
            head.extend_from_slice(value);
            counted(&head)
        }
    }
}

/// What became of an invocation, or that a stream has ended.
pub(super) fn completion(format: Format, id: &str, outcome: &Outcome<'_>) -> Vec<u8> {
    let mut json = Vec::with_capacity(96);
    let open = if format == Format::Json { &br#"{"type":3,"invocationId":"#[..] } else { b"[3,{}," };
    json.extend_from_slice(open);
    write_json(id, &mut json);
    let (between, value, binary): (_, Cow<'_, str>, _) = match (format, outcome) {
        (Format::Json, Outcome::Result(result, _)) => (r#","result":"#, (*result).into(), &[][..]),
        (Format::Json, Outcome::Error(error)) => (r#","error":"#, quoted(error).into(), &[][..]),
        (Format::Json, Outcome::Void) => ("", "".into(), &[][..]),
        (Format::MessagePack, Outcome::Error(error)) => (",1,", quoted(error).into(), &[][..]),
        (Format::MessagePack, Outcome::Void) => (",2", "".into(), &[][..]),
        (Format::MessagePack, Outcome::Result(result, binary)) => (",3,", (*result).into(), *binary),
    };
    json.extend_from_slice(between.as_bytes());
    let moved = json.len();
    json.extend_from_slice(value.as_bytes());
    json.push(if format == Format::Json { b'}' } else { b']' });
    format.finish(json, &shifted(binary, moved))
}

fn quoted(value: &str) -> String {
    let mut out = Vec::with_capacity(value.len() + 2);
    write_json(value, &mut out);
    text(out)
}

/// That the server is alive.
pub(super) fn ping(format: Format) -> Vec<u8> {
    let json = if format == Format::Json { &br#"{"type":6}"#[..] } else { b"[6]" };
    format.finish(json.to_vec(), &[])
}

/// That the connection ends, why, and whether the client should come back.
pub(super) fn close(format: Format, error: Option<&str>, then: Return) -> Vec<u8> {
    let comes_back = then == Return::Reconnect;
    let mut json = Vec::with_capacity(64);
    match format {
        Format::Json => {
            json.extend_from_slice(br#"{"type":7"#);
            if let Some(error) = error {
                json.extend_from_slice(br#","error":"#);
                write_json(error, &mut json);
            }
            if comes_back {
                json.extend_from_slice(br#","allowReconnect":true"#);
            }
            json.push(b'}');
        }
        Format::MessagePack => {
            json.extend_from_slice(b"[7,");
            write_json(&error, &mut json);
            write_text(format_args!(",{comes_back}]"), &mut json);
        }
    }
    format.finish(json, &[])
}

/// That the handshake is good, or what is wrong with it. JSON, whatever follows.
pub(super) fn handshake(error: Option<&str>) -> Message {
    let mut json = b"{".to_vec();
    if let Some(error) = error {
        json.extend_from_slice(br#""error":"#);
        write_json(error, &mut json);
    }
    json.push(b'}');
    Format::Json.message(Format::Json.finish(json, &[]))
}

/// That all messages up to this number have been taken.
pub fn ack(format: Format, number: u64) -> Message {
    numbered(format, 8, number)
}

/// That the next message that counts has this number.
pub fn sequence(format: Format, number: u64) -> Message {
    numbered(format, 9, number)
}

fn numbered(format: Format, kind: u8, number: u64) -> Message {
    let json = match format {
        Format::Json => format!(r#"{{"type":{kind},"sequenceId":{number}}}"#),
        Format::MessagePack => format!("[{kind},{number}]"),
    };
    format.message(format.finish(json.into_bytes(), &[]))
}

/// The invocation of a publication.
pub fn publication(publication: &Publication, format: Format) -> Vec<u8> {
    event(format, None, &publication.draft.event, &publication.draft.payload)
}

/// A publication as the item of a stream in MessagePack: as the native protocol has it, but binary data is binary data.
pub fn item_value(publication: &Publication) -> Vec<u8> {
    let (json, payload_at) = native::frame::publication(publication);
    let binary = shifted(publication.draft.payload.json().binary(), payload_at);
    Format::MessagePack.value(&text(json), &binary)
}

/// The invocation of someone who joined or left.
pub fn presence(change: &PresenceChange, format: Format) -> Vec<u8> {
    let target = match change.change {
        Change::Joined => "$joined",
        Change::Left => "$left",
    };
    own(format, target, crate::presence_change(change))
}

/// An invocation of the server's own, whose one argument is `json`.
pub(super) fn own(format: Format, target: &str, json: Vec<u8>) -> Vec<u8> {
    invocation(format, None, target, (&format!("[{}]", text(json)), &[]))
}
