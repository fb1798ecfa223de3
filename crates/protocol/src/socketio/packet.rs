//! Packets as text: `<type>[<attachments>-][<namespace>,][<ack id>][<json>]`.

use std::borrow::Cow;
use std::fmt::Write;

use bytes::Bytes;
use duplex_core::Message;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Form, Namespace};
use crate::msgpack;

/// Most binary values in one packet, as in the official parser.
const ATTACHMENTS_MAX: usize = 10;
/// Greatest ack id: JavaScript cannot tell greater ones apart.
const ID_MAX: u64 = (1 << 53) - 1;
/// A message in MessagePack may be so many times as long in JSON: the worst are control characters, which are escaped.
const JSON_GROWTH: usize = 6;

/// What a packet is. Binary ones differ in text only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Connect = 0,
    Disconnect = 1,
    Event = 2,
    Ack = 3,
    ConnectError = 4,
}

/// A packet of a client.
#[derive(Debug, PartialEq)]
pub(super) struct Packet<'a> {
    pub kind: Kind,
    pub namespace: Cow<'a, str>,
    pub id: Option<u64>,
    /// JSON whose grammar is right.
    pub data: Option<&'a str>,
    /// Messages with binary data that follow.
    pub attachments: usize,
}

/// What breaks the protocol; the connection ends. The text is for the client's developer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Breach {
    #[error("a packet of an unknown type; types are the digits from 0 to 6")]
    Type,
    #[error("a packet that only a server sends")]
    Direction,
    #[error("a number of attachments that is not from 1 to {ATTACHMENTS_MAX}")]
    Attachments,
    #[error("an ack id beyond 2^53")]
    Id,
    #[error("a payload that is not JSON")]
    NotJson,
    #[error("not MessagePack: {0}")]
    NotMessagePack(String),
    #[error("a payload that packets of this type do not have")]
    Payload,
    #[error("an event with one of the names that Socket.IO keeps for itself")]
    ReservedEvent,
    #[error("a packet for a namespace that is not connected")]
    NotConnected,
    #[error("a second connect to the namespace")]
    ConnectedAlready,
    #[error("binary data that nothing announced")]
    Unannounced,
    #[error("a packet before all announced binary data has come")]
    Interrupted,
    #[error("a placeholder that names no attachment, or one twice")]
    Placeholder,
    #[error("text where all packets before were MessagePack")]
    OtherForm,
}

impl<'a> Packet<'a> {
    /// Reads a packet without its attachments.
    pub fn parse(text: &'a str) -> Result<Self, Breach> {
        let (kind, is_binary) = match text.as_bytes().first() {
            Some(b'0') => (Kind::Connect, false),
            Some(b'1') => (Kind::Disconnect, false),
            Some(b'2') => (Kind::Event, false),
            Some(b'3') => (Kind::Ack, false),
            Some(b'4') => (Kind::ConnectError, false),
            Some(b'5') => (Kind::Event, true),
            Some(b'6') => (Kind::Ack, true),
            _ => return Err(Breach::Type),
        };
        let mut rest = &text[1..];
        let mut attachments = 0;
        if is_binary {
            let (count, behind) = rest.split_once('-').ok_or(Breach::Attachments)?;
            let is_number = (1..=2).contains(&count.len()) && count.bytes().all(|byte| byte.is_ascii_digit());
            attachments = count.parse().ok().filter(|_| is_number).ok_or(Breach::Attachments)?;
            if !(1..=ATTACHMENTS_MAX).contains(&attachments) {
                return Err(Breach::Attachments);
            }
            rest = behind;
        }
        let mut namespace = Namespace::ROOT;
        if rest.starts_with('/') {
            (namespace, rest) = rest.split_once(',').unwrap_or((rest, ""));
        }
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let id = match digits {
            0 => None,
            _ => Some(rest[..digits].parse().ok().filter(|id| *id <= ID_MAX).ok_or(Breach::Id)?),
        };
        let data = &rest[digits..];
        if !data.is_empty() {
            let whole: Result<&RawValue, _> = serde_json::from_str(data);
            whole.map_err(|_| Breach::NotJson)?;
        }
        let data = Some(data).filter(|data| !data.is_empty());
        checked(Self { kind, namespace: namespace.into(), id, data, attachments })
    }

    /// The fixed part of a text packet for a client.
    pub fn head(kind: u8, attachments: usize, namespace: &str, id: Option<u64>) -> String {
        let mut head = String::with_capacity(16);
        let write = |head: &mut String, text: std::fmt::Arguments<'_>| {
            head.write_fmt(text).expect("writing to memory does not fail");
        };
        write(&mut head, format_args!("{kind}"));
        if attachments > 0 {
            write(&mut head, format_args!("{attachments}-"));
        }
        if namespace != Namespace::ROOT {
            write(&mut head, format_args!("{namespace},"));
        }
        if let Some(id) = id {
            write(&mut head, format_args!("{id}"));
        }
        head
    }
}

/// Whether the payload is of the kind that the packet's type has.
fn checked(packet: Packet<'_>) -> Result<Packet<'_>, Breach> {
    let begins = packet.data.and_then(|data| data.trim_start().bytes().next());
    let is_right = match packet.kind {
        Kind::Connect => matches!(begins, None | Some(b'{')),
        Kind::Disconnect => begins.is_none(),
        Kind::Event | Kind::Ack => begins == Some(b'['),
        Kind::ConnectError => return Err(Breach::Direction),
    };
    if is_right { Ok(packet) } else { Err(Breach::Payload) }
}

/// A packet in MessagePack, as JSON.
#[derive(Deserialize)]
pub(super) struct Unpacked<'a> {
    #[serde(rename = "type")]
    kind: u8,
    #[serde(borrow)]
    nsp: Cow<'a, str>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(default)]
    id: Option<u64>,
}

/// A packet in MessagePack as JSON text, and where that stands for binary data.
pub(super) fn unpack(message: &[u8]) -> Result<(String, Vec<duplex_core::Span>), Breach> {
    msgpack::to_json_and_binary(message, message.len().saturating_mul(JSON_GROWTH).saturating_add(64))
        .map_err(|error| Breach::NotMessagePack(error.to_string()))
}

impl<'a> Packet<'a> {
    /// Reads what [`unpack`] made.
    pub fn unpacked(json: &'a str) -> Result<Self, Breach> {
        let Unpacked { kind, nsp: namespace, data, id } =
            serde_json::from_str(json).map_err(|error| Breach::NotMessagePack(error.to_string()))?;
        let kind = match kind {
            0 => Kind::Connect,
            1 => Kind::Disconnect,
            2 => Kind::Event,
            3 => Kind::Ack,
            4 => Kind::ConnectError,
            _ => return Err(Breach::Type),
        };
        if id.is_some_and(|id| id > ID_MAX) {
            return Err(Breach::Id);
        }
        checked(Self { kind, namespace, id, data: data.map(RawValue::get), attachments: 0 })
    }
}

impl Form {
    /// A packet without binary data for a client.
    pub(super) fn message(self, kind: Kind, namespace: &str, id: Option<u64>, data: Option<&str>) -> Message {
        match self {
            Self::Text => {
                let mut text = Packet::head(kind as u8, 0, namespace, id);
                text.push_str(data.unwrap_or_default());
                Message::Text(Bytes::from(text))
            }
            Self::MessagePack => {
                let json = packed(kind, namespace, id, data);
                Message::Binary(Bytes::from(msgpack::from_json(&json)))
            }
        }
    }
}

/// A packet for a client as the JSON of its MessagePack. It ends with the data and a brace.
pub(super) fn packed(kind: Kind, namespace: &str, id: Option<u64>, data: Option<&str>) -> String {
    let mut json = format!(r#"{{"type":{},"nsp":"#, kind as u8);
    json.push_str(&serde_json::to_string(namespace).expect("a string always serializes"));
    if let Some(id) = id {
        json.push_str(r#","id":"#);
        json.push_str(&id.to_string());
    }
    if let Some(data) = data {
        json.push_str(r#","data":"#);
        json.push_str(data);
    }
    json.push('}');
    json
}
