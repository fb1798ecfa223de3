//! Messages as both hub protocols write them. In the tests each is the object of the JSON protocol; `{"$bin":"AQID"}` stands for
//! binary data, which is a text in JSON.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::{Map, Value, json};

use crate::support::session::Form;

/// What ends a message in JSON.
pub const END: u8 = 0x1e;
/// A ping in MessagePack, whole.
pub const PACKED_PING: [u8; 3] = [0x02, 0x91, 0x06];

/// Binary data.
pub fn binary(bytes: &[u8]) -> Value {
    json!({ "$bin": BASE64_STANDARD.encode(bytes) })
}

/// A message as it goes over the wire.
pub fn write(form: Form, message: &Value) -> Vec<u8> {
    match form {
        Form::Json => [plain(message).to_string().as_bytes(), &[END]].concat(),
        Form::Packed => framed(&pack(&packed(message))),
    }
}

/// The text with what ends it.
pub fn record(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[END]].concat()
}

/// A value in MessagePack.
pub fn pack(value: &Value) -> Vec<u8> {
    rmp_serde::to_vec(&Packed(value.clone())).expect("it is MessagePack")
}

/// A message with its length before it.
pub fn framed(body: &[u8]) -> Vec<u8> {
    let mut bytes = 1;
    while body.len() >> (7 * bytes) > 0 {
        bytes += 1;
    }
    framed_in(body, bytes)
}

/// The same; its length takes so many bytes.
pub fn framed_in(body: &[u8], bytes: usize) -> Vec<u8> {
    let group = |at: usize| {
        let more = if at + 1 < bytes { 0x80 } else { 0 };
        (body.len() >> (7 * at) & 0x7f) as u8 | more
    };
    (0..bytes).map(group).chain(body.iter().copied()).collect()
}

/// The messages in what one WebSocket message, event or poll brought, which must be whole (C4).
pub fn read(form: Form, mut payload: &[u8]) -> Vec<Value> {
    let mut messages = Vec::new();
    while !payload.is_empty() {
        let (message, length) = match form {
            Form::Json => read_record(payload),
            Form::Packed => read_framed(payload),
        };
        messages.push(message);
        payload = &payload[length..];
    }
    messages
}

fn read_record(payload: &[u8]) -> (Value, usize) {
    let end = payload.iter().position(|byte| *byte == END);
    let end = end.unwrap_or_else(|| panic!("no end of: {}", String::from_utf8_lossy(payload)));
    let message = serde_json::from_slice(&payload[..end]);
    (message.unwrap_or_else(|_| panic!("no JSON: {}", String::from_utf8_lossy(payload))), end + 1)
}

fn read_framed(payload: &[u8]) -> (Value, usize) {
    let last = payload.iter().position(|byte| byte & 0x80 == 0).expect("a length ends");
    assert!(last < 5, "a length has five bytes at most: {payload:02x?}");
    assert!(last == 0 || payload[last] > 0, "a length is as short as it can be: {payload:02x?}");
    let groups = payload[..=last].iter().rev();
    let length = groups.fold(0, |length, group| length << 7 | usize::from(group & 0x7f));
    let end = last + 1 + length;
    let body = payload.get(last + 1..end).unwrap_or_else(|| panic!("cut off: {payload:02x?}"));
    let Packed(items) = rmp_serde::from_slice(body).unwrap_or_else(|_| panic!("no MessagePack: {body:02x?}"));
    if items[0] == 6 {
        assert_eq!(payload[..end], PACKED_PING, "a ping has one form");
    }
    (unpacked(&items), end)
}

/// The array that MessagePack has for a message.
fn packed(message: &Value) -> Value {
    let part = |name: &str, absent: Value| message.get(name).cloned().unwrap_or(absent);
    let kind = part("type", Value::Null);
    let (headers, id) = (part("headers", json!({})), part("invocationId", Value::Null));
    match kind.as_u64() {
        Some(1 | 4) => {
            let (target, arguments) = (part("target", Value::Null), part("arguments", json!([])));
            json!([kind, headers, id, target, arguments, part("streamIds", json!([]))])
        }
        Some(2) => json!([kind, headers, id, part("item", Value::Null)]),
        Some(3) => match (message.get("error"), message.get("result")) {
            (Some(error), _) => json!([kind, headers, id, 1, error]),
            (None, Some(result)) => json!([kind, headers, id, 3, result]),
            (None, None) => json!([kind, headers, id, 2]),
        },
        Some(5) => json!([kind, headers, id]),
        Some(7) => json!([kind, part("error", Value::Null), part("allowReconnect", json!(false))]),
        Some(8 | 9) => json!([kind, part("sequenceId", Value::Null)]),
        _ => json!([kind]),
    }
}

/// The message that an array of the server's stands for.
fn unpacked(items: &Value) -> Value {
    let array = items.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut message = Map::new();
    let mut put = |name: &str, value: &Value| {
        if !value.is_null() || matches!(name, "item" | "result") {
            message.insert(name.to_owned(), value.clone());
        }
    };
    put("type", array.first().unwrap_or(&Value::Null));
    match array {
        [kind, headers, id, target, arguments, streams @ ..] if kind == 1 => {
            assert!(headers.is_object() && matches!(streams, [] | [Value::Array(_)]), "{items}");
            put("invocationId", id);
            put("target", target);
            put("arguments", arguments);
        }
        [kind, headers, id, item] if kind == 2 => {
            assert!(headers.is_object(), "{items}");
            put("invocationId", id);
            put("item", item);
        }
        [kind, headers, id, how, value @ ..] if kind == 3 => {
            assert!(headers.is_object(), "{items}");
            put("invocationId", id);
            match (how.as_u64(), value) {
                (Some(1), [error]) => put("error", error),
                (Some(2), []) => {}
                (Some(3), [result]) => put("result", result),
                _ => panic!("no completion: {items}"),
            }
        }
        [kind] if kind == 6 => {}
        [kind, error, again @ ..] if kind == 7 => {
            put("error", error);
            again.iter().for_each(|again| put("allowReconnect", again));
        }
        [kind, number] if kind == 8 || kind == 9 => put("sequenceId", number),
        _ => panic!("no message: {items}"),
    }
    Value::Object(message)
}

/// JSON with texts in the place of binary data.
pub fn plain(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Object(members) => match members.get("$bin") {
            Some(text) => text.clone(),
            None => Value::Object(members.iter().map(|(name, value)| (name.clone(), plain(value))).collect()),
        },
        other => other.clone(),
    }
}

/// JSON that may hold binary data, in MessagePack.
struct Packed(Value);

impl Serialize for Packed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Value::Array(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                items.iter().try_for_each(|item| list.serialize_element(&Self(item.clone())))?;
                list.end()
            }
            Value::Object(members) => match members.get("$bin").and_then(Value::as_str) {
                Some(text) => {
                    serializer.serialize_bytes(&BASE64_STANDARD.decode(text).expect("it is Base64"))
                }
                None => {
                    let mut map = serializer.serialize_map(Some(members.len()))?;
                    members
                        .iter()
                        .try_for_each(|(name, value)| map.serialize_entry(name, &Self(value.clone())))?;
                    map.end()
                }
            },
            other => other.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Packed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Packed;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("what JSON can say, or binary data")
    }

    fn visit_unit<E>(self) -> Result<Packed, E> {
        Ok(Packed(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Packed, E> {
        Ok(Packed(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Packed, E> {
        Ok(Packed(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Packed, E> {
        Ok(Packed(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Packed, E> {
        Ok(Packed(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Packed, E> {
        Ok(Packed(value.into()))
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Packed, E> {
        Ok(Packed(binary(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Packed, A::Error> {
        let mut items = Vec::new();
        while let Some(Packed(item)) = seq.next_element()? {
            items.push(item);
        }
        Ok(Packed(Value::Array(items)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Packed, A::Error> {
        let mut members = Map::new();
        while let Some((name, Packed(value))) = map.next_entry::<String, Packed>()? {
            members.insert(name, value);
        }
        Ok(Packed(Value::Object(members)))
    }
}

#[test]
fn what_is_written_is_read_as_it_was() {
    for message in [
        json!({ "type": 1, "target": "a", "arguments": [1, -1, 0.5, null, true, { "b": [binary(&[1, 2])] }] }),
        json!({ "type": 1, "invocationId": "1", "target": "a", "arguments": ["x".repeat(20_000)] }),
        json!({ "type": 2, "invocationId": "1", "item": null }),
        json!({ "type": 3, "invocationId": "1" }),
        json!({ "type": 3, "invocationId": "1", "result": null }),
        json!({ "type": 3, "invocationId": "1", "error": "a" }),
        json!({ "type": 6 }),
        json!({ "type": 7, "error": "a", "allowReconnect": true }),
        json!({ "type": 8, "sequenceId": 1 }),
        json!({ "type": 9, "sequenceId": 4_294_967_296_u64 }),
    ] {
        let twice = |form| [write(form, &message), write(form, &message)].concat();
        assert_eq!(read(Form::Packed, &twice(Form::Packed)), [message.clone(), message.clone()]);
        assert_eq!(read(Form::Json, &twice(Form::Json)), [plain(&message), plain(&message)]);
    }
    assert_eq!(write(Form::Packed, &json!({ "type": 6 })), PACKED_PING);
    assert_eq!(framed_in(b"ab", 3), b"\x82\x80\x00ab");
}
