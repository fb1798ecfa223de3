//! What an event or an acknowledgement carries: a JSON array whose binary data is strings of Base64.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use duplex_core::{Json, JsonError, Payload, Span};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Breach;

/// The arguments of a packet.
#[derive(Debug)]
pub(super) struct Arguments {
    json: String,
    binary: Vec<Span>,
}

impl Arguments {
    /// Those of a packet whose binary data is in its text already, at `binary`.
    pub fn new(json: String, binary: Vec<Span>) -> Self {
        Self { json, binary }
    }

    /// Puts attachments into the places that name them, each into one.
    pub fn assemble(json: &str, attachments: &[Bytes]) -> Result<Self, Breach> {
        let mut out = Self { json: String::with_capacity(json.len()), binary: Vec::new() };
        let mut unused: Vec<Option<&Bytes>> = attachments.iter().map(Some).collect();
        let mut copied = 0;
        let mut at = 0;
        while let Some(found) = next_object(json, at) {
            at = found + 1;
            let mut values = serde_json::Deserializer::from_str(&json[found..]).into_iter::<Placeholder>();
            let Some(Ok(Placeholder { num, .. })) = values.next() else { continue };
            let end = found + values.byte_offset();
            let attachment = unused.get_mut(num).and_then(Option::take).ok_or(Breach::Placeholder)?;
            out.json.push_str(&json[copied..found]);
            let start = out.json.len();
            out.json.push('"');
            BASE64_STANDARD.encode_string(attachment, &mut out.json);
            out.json.push('"');
            out.binary.push(Span { start, end: out.json.len() });
            (copied, at) = (end, end);
        }
        out.json.push_str(&json[copied..]);
        if unused.iter().any(Option::is_some) { Err(Breach::Placeholder) } else { Ok(out) }
    }

    /// The single arguments.
    pub fn values(&self) -> Vec<&RawValue> {
        serde_json::from_str(&self.json).expect("a packet's payload was checked to be an array")
    }

    /// All of them.
    pub fn all(&self) -> Result<Json, JsonError> {
        Json::check_with_binary(raw(&self.json), self.binary.clone())
    }

    /// Those from the one at index `first` on, to be published.
    pub fn payload(&self, first: usize) -> Result<Payload, JsonError> {
        let values = self.values();
        match values.get(first..) {
            None | Some([]) => Ok(Payload::Args(Json::check(raw("[]"))?)),
            Some([one]) => {
                let start = self.offset(one);
                let binary = self.binary_in(start, start + one.get().len(), 0);
                Json::check_with_binary(one, binary).map(Payload::Data)
            }
            Some([one, .., last]) => {
                let (start, end) = (self.offset(one), self.offset(last) + last.get().len());
                let json = format!("[{}]", &self.json[start..end]);
                let binary = self.binary_in(start, end, 1);
                Json::check_with_binary(raw(&json), binary).map(Payload::Args)
            }
        }
    }

    /// Where a value stands in the text.
    fn offset(&self, value: &RawValue) -> usize {
        value.get().as_ptr() as usize - self.json.as_ptr() as usize
    }

    /// Binary data between two places, in a text where the first of them is at `to`.
    fn binary_in(&self, start: usize, end: usize, to: usize) -> Vec<Span> {
        let within = self.binary.iter().filter(|span| (start..end).contains(&span.start));
        within.map(|span| Span { start: span.start - start + to, end: span.end - start + to }).collect()
    }
}

fn raw(json: &str) -> &RawValue {
    serde_json::from_str(json).expect("values between brackets are an array")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Placeholder {
    #[serde(rename = "_placeholder")]
    _placeholder: True,
    num: usize,
}

/// `true`, and nothing else.
struct True;

impl<'de> Deserialize<'de> for True {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match bool::deserialize(deserializer)? {
            true => Ok(Self),
            false => Err(serde::de::Error::custom("not true")),
        }
    }
}

/// The next object at or behind `at`; braces in strings are none. `at` is not within a string.
fn next_object(json: &str, mut at: usize) -> Option<usize> {
    let text = json.as_bytes();
    while at < text.len() {
        match text[at] {
            b'{' => return Some(at),
            b'"' => {
                at += 1;
                while text[at] != b'"' {
                    at += if text[at] == b'\\' { 2 } else { 1 };
                }
            }
            _ => {}
        }
        at += 1;
    }
    None
}
