//! What happens in channels, as events.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use duplex_core::{Change, ChannelName, EventName, Message, Payload, PresenceChange, Publication, Span};

use super::packet::{Kind, Packet, packed};
use super::{Form, Namespace};
use crate::arguments::shifted;
use crate::msgpack;
use crate::publication::write_json;

/// What is added to a packet's type if it has attachments.
const BINARY: u8 = 3;

/// How a client sees events. All that see them alike share the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Shape {
    pub form: Form,
    pub within: Within,
    pub stamp: Stamp,
}

/// In which namespace events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Within {
    /// In `/`.
    Root,
    /// In the one whose name is the namespace of the channel.
    OwnNamespace,
}

/// Whether events tell where they stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stamp {
    /// No.
    Off,
    /// By a last argument, which clients that recover keep.
    Offset,
}

/// An Engine.IO message. Those of one event belong together: nothing of Socket.IO may come between them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Part {
    Text(String),
    Binary(Vec<u8>),
}

impl From<Part> for Message {
    fn from(part: Part) -> Self {
        match part {
            Part::Text(text) => Self::Text(text.into()),
            Part::Binary(bytes) => Self::Binary(bytes.into()),
        }
    }
}

/// The event of a publication.
pub fn publication(publication: &Publication, shape: Shape) -> Vec<Part> {
    let Publication { draft, .. } = publication;
    let (mut json, moved) = opened(&draft.event, &draft.payload);
    if shape.stamp == Stamp::Offset {
        let offset = format!(r#","{}""#, super::socket::stamp(publication));
        json.extend_from_slice(offset.as_bytes());
    }
    json.push(b']');
    let binary = shifted(draft.payload.json().binary(), moved);
    event(&draft.channel, &text(json), &binary, shape)
}

/// The event of someone who joined or left.
pub fn presence(change: &PresenceChange, shape: Shape) -> Vec<Part> {
    let name = match change.change {
        Change::Joined => "$joined",
        Change::Left => "$left",
    };
    let body = text(crate::presence_change(change));
    event(&change.channel, &format!(r#"["{name}",{body}]"#), &[], shape)
}

/// An event for one client: its name and arguments, and where they are binary data.
pub(super) fn arguments(event: &EventName, payload: &Payload) -> (String, Vec<Span>) {
    let (mut json, moved) = opened(event, payload);
    json.push(b']');
    (text(json), shifted(payload.json().binary(), moved))
}

/// An event's name and arguments without the last bracket, and how far the payload's text has moved.
fn opened(event: &EventName, payload: &Payload) -> (Vec<u8>, usize) {
    let mut json = Vec::with_capacity(64 + payload.json().as_str().len());
    json.push(b'[');
    write_json(&**event, &mut json);
    let (body, leading) = match payload {
        Payload::Data(data) => (data.as_str(), 0),
        Payload::Args(args) => inner(args.as_str()),
    };
    if body.is_empty() {
        return (json, 0);
    }
    json.push(b',');
    let moved = json.len() - leading;
    json.extend_from_slice(body.as_bytes());
    (json, moved)
}

fn text(json: Vec<u8>) -> String {
    String::from_utf8(json).expect("JSON of texts is text")
}

/// What is between the brackets of an array, and where it begins.
fn inner(array: &str) -> (&str, usize) {
    let elements = array.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or_default();
    let begin = 1 + elements.len() - elements.trim_start().len();
    (elements.trim(), begin)
}

fn event(channel: &ChannelName, json: &str, binary: &[Span], shape: Shape) -> Vec<Part> {
    let own;
    let namespace = match shape.within {
        Within::Root => Namespace::ROOT,
        Within::OwnNamespace => {
            own = format!("/{}", channel.namespace().unwrap_or_default());
            &own
        }
    };
    packet(shape.form, (Kind::Event, namespace, None), json, binary)
}

/// A packet whose data is `json`, with binary data at `binary`.
pub(super) fn packet(
    form: Form,
    (kind, namespace, id): (Kind, &str, Option<u64>),
    json: &str,
    binary: &[Span],
) -> Vec<Part> {
    if form == Form::MessagePack {
        let packet = packed(kind, namespace, id, Some(json));
        let binary = shifted(binary, packet.len() - 1 - json.len());
        return vec![Part::Binary(msgpack::from_json_and_binary(&packet, &binary))];
    }
    let digit = kind as u8 + if binary.is_empty() { 0 } else { BINARY };
    let mut packet = Packet::head(digit, binary.len(), namespace, id);
    let (mut copied, mut parts) = (0, vec![Part::Text(String::new())]);
    for (number, span) in binary.iter().enumerate() {
        packet.push_str(&json[copied..span.start]);
        packet.push_str(&format!(r#"{{"_placeholder":true,"num":{number}}}"#));
        let encoded = &json[span.start + 1..span.end - 1];
        parts.push(Part::Binary(BASE64_STANDARD.decode(encoded).expect("it was encoded by us")));
        copied = span.end;
    }
    packet.push_str(&json[copied..]);
    parts[0] = Part::Text(packet);
    parts
}
