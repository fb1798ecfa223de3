use std::fmt;

use bytes::Bytes;
use serde_json::value::RawValue;

/// Deepest nesting of arrays and objects in a payload.
const DEPTH_MAX: usize = 64;

/// Why a JSON value cannot be passed on, though its grammar is right. The text completes "data: …".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum JsonError {
    #[error("has {count} binary values; at most {BINARY_MAX} are allowed")]
    TooManyBinary { count: usize },
    #[error(
        "has a key \"_placeholder\" beside binary values, which Socket.IO clients would take for one; rename it"
    )]
    Placeholder,
    #[error("is nested more than {DEPTH_MAX} levels deep; flatten it")]
    TooDeep,
    #[error("has a number outside the range of a 64-bit float at byte {at}; send it as a string")]
    NumberOutOfRange { at: usize },
    #[error("has an unpaired surrogate escape at byte {at}; send valid Unicode")]
    LoneSurrogate { at: usize },
}

/// Most binary values in one payload: official Socket.IO clients break off the connection beyond it.
const BINARY_MAX: usize = 10;

/// A string literal of a JSON text, with its quotes, that stands for binary data: padded standard Base64 (RFC 4648, 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

/// JSON text that every receiver can parse: it passes through as it was written.
///
/// Binary data is a string of Base64 in it, for protocols that have nothing better; which strings those are is known, so
/// that the others can send bytes.
///
/// Right grammar alone is not enough: parsers differ in what they do with deep nesting, numbers no float can hold and
/// unpaired surrogates, so such a value would break some subscribers and not others.
#[derive(Clone, PartialEq, Eq)]
pub struct Json {
    text: Bytes,
    binary: Box<[Span]>,
}

impl Json {
    /// Checks `raw`, whose grammar the type proves, and copies it.
    pub fn check(raw: &RawValue) -> Result<Self, JsonError> {
        Self::check_with_binary(raw, Vec::new())
    }

    /// The same; the strings at `binary`, in order, stand for binary data.
    ///
    /// # Errors
    /// It cannot be passed on.
    pub fn check_with_binary(raw: &RawValue, binary: Vec<Span>) -> Result<Self, JsonError> {
        let text = raw.get();
        scan(text.as_bytes())?;
        if binary.len() > BINARY_MAX {
            return Err(JsonError::TooManyBinary { count: binary.len() });
        }
        if !binary.is_empty() && text.contains("\"_placeholder\"") {
            return Err(JsonError::Placeholder);
        }
        Ok(Self { text: Bytes::copy_from_slice(text.as_bytes()), binary: binary.into() })
    }

    /// Strings that stand for binary data, in order.
    pub fn binary(&self) -> &[Span] {
        &self.binary
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text).expect("a Json is made from a str only")
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_tuple("Json");
        shown.field(&self.as_str());
        if !self.binary.is_empty() {
            shown.field(&self.binary);
        }
        shown.finish()
    }
}

/// One linear pass; the grammar is known to be right.
fn scan(text: &[u8]) -> Result<(), JsonError> {
    let (mut at, mut depth) = (0, 0);
    while at < text.len() {
        match text[at] {
            b'"' => at = string_end(text, at)?,
            b'-' | b'0'..=b'9' => at = number_end(text, at)?,
            b'{' | b'[' if depth == DEPTH_MAX => return Err(JsonError::TooDeep),
            b'{' | b'[' => (at, depth) = (at + 1, depth + 1),
            b'}' | b']' => (at, depth) = (at + 1, depth - 1),
            _ => at += 1,
        }
    }
    Ok(())
}

/// The position after the string that opens at `at`.
fn string_end(text: &[u8], mut at: usize) -> Result<usize, JsonError> {
    at += 1;
    while text[at] != b'"' {
        at += match (text[at], text[at + 1]) {
            (b'\\', b'u') => surrogate_pair(text, at)?,
            (b'\\', _) => 2,
            _ => 1,
        };
    }
    Ok(at + 1)
}

/// The length of the `\u` escape at `at`, together with its other half if it is half a pair.
fn surrogate_pair(text: &[u8], at: usize) -> Result<usize, JsonError> {
    match hex4(text, at) {
        Some(0xD800..=0xDBFF) => match hex4(text, at + 6) {
            Some(0xDC00..=0xDFFF) => Ok(12),
            _ => Err(JsonError::LoneSurrogate { at }),
        },
        Some(0xDC00..=0xDFFF) => Err(JsonError::LoneSurrogate { at }),
        _ => Ok(6),
    }
}

/// The code unit of a `\uXXXX` escape at `at`, if there is one.
fn hex4(text: &[u8], at: usize) -> Option<u16> {
    let digits = text.get(at..at + 6)?.strip_prefix(b"\\u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// The position after the number that begins at `at`.
fn number_end(text: &[u8], at: usize) -> Result<usize, JsonError> {
    let rest = &text[at..];
    let length = rest.iter().position(|b| !b"+-.0123456789eE".contains(b)).unwrap_or(rest.len());
    // Up to 300 characters without an exponent no number leaves the range, so most need no parsing.
    if length <= 300 && !rest[..length].iter().any(|b| matches!(b, b'e' | b'E')) {
        return Ok(at + length);
    }
    let number = std::str::from_utf8(&rest[..length]).ok().and_then(|digits| digits.parse::<f64>().ok());
    match number {
        Some(number) if number.is_finite() => Ok(at + length),
        _ => Err(JsonError::NumberOutOfRange { at }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<Json, JsonError> {
        Json::check(serde_json::from_str(text).expect("the grammar is right"))
    }

    #[test]
    fn what_some_receivers_cannot_parse_is_refused() {
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(check(&nested(65)), Err(JsonError::TooDeep));
        assert_eq!(check("[1e400]"), Err(JsonError::NumberOutOfRange { at: 1 }));
        assert_eq!(check(&"9".repeat(400)), Err(JsonError::NumberOutOfRange { at: 0 }));
        assert_eq!(check(r#""\ud800""#), Err(JsonError::LoneSurrogate { at: 1 }));
        assert_eq!(check(r#""\udc00\ud800""#), Err(JsonError::LoneSurrogate { at: 1 }));
        assert_eq!(check(r#"{"a\ud83d":1}"#), Err(JsonError::LoneSurrogate { at: 3 }));
    }

    #[test]
    fn everything_else_passes_as_it_was_written() {
        let nested = format!("{}{}", "[".repeat(64), "]".repeat(64));
        for text in [
            nested.as_str(),
            "null",
            "-0.5e-7",
            "1e308",
            "18446744073709551615",
            r#" {"a" : [ "\ud83d\ude00", "[[[[\"", "\\", {} ] }"#,
            r#""\u0000""#,
            r#""\\ud800""#,
        ] {
            assert_eq!(check(text).map(|json| json.as_str().to_owned()), Ok(text.trim().to_owned()));
        }
    }
}
