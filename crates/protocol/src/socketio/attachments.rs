//! Binary data that comes behind its packet, and the places it is for.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use duplex_core::Span;
use serde::Deserialize;

use super::Breach;
use crate::arguments::Arguments;

/// Puts attachments into the places that name them, each into one.
pub(super) fn assemble(json: &str, attachments: &[Bytes]) -> Result<Arguments, Breach> {
    let (mut out, mut binary) = (String::with_capacity(json.len()), Vec::new());
    let mut unused: Vec<Option<&Bytes>> = attachments.iter().map(Some).collect();
    let mut copied = 0;
    let mut at = 0;
    while let Some(found) = next_object(json, at) {
        at = found + 1;
        let mut values = serde_json::Deserializer::from_str(&json[found..]).into_iter::<Placeholder>();
        let Some(Ok(Placeholder { num, .. })) = values.next() else { continue };
        let end = found + values.byte_offset();
        let attachment = unused.get_mut(num).and_then(Option::take).ok_or(Breach::Placeholder)?;
        out.push_str(&json[copied..found]);
        let start = out.len();
        out.push('"');
        BASE64_STANDARD.encode_string(attachment, &mut out);
        out.push('"');
        binary.push(Span { start, end: out.len() });
        (copied, at) = (end, end);
    }
    out.push_str(&json[copied..]);
    if unused.iter().any(Option::is_some) {
        Err(Breach::Placeholder)
    } else {
        Ok(Arguments::new(out, binary))
    }
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
