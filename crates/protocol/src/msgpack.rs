//! MessagePack to JSON and back, so that protocols are written once: what they say in it is the same JSON in another form
//! (<https://github.com/msgpack/msgpack/blob/master/spec.md>).

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use duplex_core::Span;
use serde::Serialize;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use MessagePackError as Error;

/// Deepest nesting of arrays and maps: that of a payload (64), and room for the command around it.
const DEPTH_MAX: usize = 72;

/// Why a message is refused. The text completes "not MessagePack: …" and says what to do; `at` counts bytes from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub(crate) enum MessagePackError {
    #[error("the message ends within the value at byte {at}; send it whole")]
    Truncated { at: usize },
    #[error("there is something behind the value at byte {at}; send one value in a message")]
    Trailing { at: usize },
    #[error("byte {at} is 0xc1, which begins no value; send a value")]
    NoMarker { at: usize },
    #[error("the text is not UTF-8 at byte {at}; send valid UTF-8")]
    NotUtf8 { at: usize },
    #[error("the key at byte {at} is not a text; use texts as keys")]
    Key { at: usize },
    #[error("there is binary data at byte {at}; send it as a text, such as Base64")]
    Binary { at: usize },
    #[error("there is an extension type at byte {at}; send what JSON can say, a time as a text or a number")]
    Extension { at: usize },
    #[error("the float at byte {at} is not finite; send it as a text")]
    NotFinite { at: usize },
    #[error("the value at byte {at} is nested more than {DEPTH_MAX} levels deep; flatten it")]
    TooDeep { at: usize },
    #[error("as JSON it is longer than {bytes_max} bytes at byte {at}; send less")]
    TooLong { at: usize, bytes_max: usize },
}

/// The JSON text, of at most `bytes_max` bytes, of the one value in `message`.
///
/// The text is always shorter than six times the message (an escaped control character, `false,`), so a caller who
/// limits messages may give that. Duplicate keys are left to the reader of the JSON.
pub(crate) fn to_json(message: &[u8], bytes_max: usize) -> Result<String, Error> {
    Reader::new(message, bytes_max, Binary::Refused).all()
}

/// The same; binary data becomes strings of Base64, whose places are told.
pub(crate) fn to_json_and_binary(message: &[u8], bytes_max: usize) -> Result<(String, Vec<Span>), Error> {
    let mut reader = Reader::new(message, bytes_max, Binary::At(Vec::new()));
    let json = reader.all()?;
    match reader.binary {
        Binary::At(spans) => Ok((json, spans)),
        Binary::Refused => Ok((json, Vec::new())),
    }
}

/// What becomes of binary data.
enum Binary {
    Refused,
    At(Vec<Span>),
}

impl<'a> Reader<'a> {
    fn new(message: &'a [u8], bytes_max: usize, binary: Binary) -> Self {
        let json = Vec::with_capacity(message.len().saturating_mul(2).min(bytes_max));
        Self { message, at: 0, json, bytes_max, binary }
    }

    fn all(&mut self) -> Result<String, Error> {
        self.value(0)?;
        self.within_limit(0)?;
        match self.at == self.message.len() {
            true => Ok(String::from_utf8(std::mem::take(&mut self.json))
                .expect("texts were checked, the rest is ASCII")),
            false => Err(Error::Trailing { at: self.at }),
        }
    }
}

struct Reader<'a> {
    message: &'a [u8],
    at: usize,
    json: Vec<u8>,
    bytes_max: usize,
    binary: Binary,
}

/// A value up to what it holds; `usize` counts bytes of a text, elements of an array, pairs of a map.
enum Head {
    Nil,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(usize),
    Array(usize),
    Map(usize),
    Binary(usize),
    /// Bytes behind its type.
    Extension(Width, usize),
    Reserved,
}

/// How the length of an extension is known.
#[derive(Clone, Copy, PartialEq)]
enum Width {
    Fixed,
    Told,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Result<(), Error> {
        let at = self.at;
        match self.head().ok_or(Error::Truncated { at })? {
            Head::Nil => self.write(&(), at),
            Head::Bool(value) => self.write(&value, at),
            Head::Unsigned(value) => self.write(&value, at),
            Head::Signed(value) => self.write(&value, at),
            Head::Float(value) if value.is_finite() => self.write(&value, at),
            Head::Float(_) => Err(Error::NotFinite { at }),
            Head::Text(length) => self.text(length, at),
            Head::Array(_) | Head::Map(_) if depth == DEPTH_MAX => Err(Error::TooDeep { at }),
            // An element has a byte at least and a pair has two: a length that lies is found before anything is done.
            Head::Array(count) if count > self.rest() => Err(Error::Truncated { at }),
            Head::Map(count) if count > self.rest() / 2 => Err(Error::Truncated { at }),
            Head::Array(count) => self.list(count, b"[]", |reader| reader.value(depth + 1)),
            Head::Map(count) => self.list(count, b"{}", |reader| reader.pair(depth + 1)),
            Head::Binary(length) => self.binary(length, at),
            Head::Extension(width, length) => self.extension(width, length, at),
            Head::Reserved => Err(Error::NoMarker { at }),
        }
    }

    fn list(
        &mut self,
        count: usize,
        brackets: &[u8; 2],
        mut item: impl FnMut(&mut Self) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.json.push(brackets[0]);
        for index in 0..count {
            if index > 0 {
                self.json.push(b',');
            }
            item(self)?;
        }
        self.json.push(brackets[1]);
        Ok(())
    }

    fn pair(&mut self, depth: usize) -> Result<(), Error> {
        let at = self.at;
        match self.head().ok_or(Error::Truncated { at })? {
            Head::Text(length) => self.text(length, at)?,
            _ => return Err(Error::Key { at }),
        }
        self.json.push(b':');
        self.value(depth)
    }

    /// The text of `length` bytes whose head is at `head_at` and has been read.
    fn text(&mut self, length: usize, head_at: usize) -> Result<(), Error> {
        let at = self.at;
        let bytes = self.bytes(length).ok_or(Error::Truncated { at: head_at })?;
        let text = str::from_utf8(bytes).map_err(|error| Error::NotUtf8 { at: at + error.valid_up_to() })?;
        self.write(text, head_at)
    }

    fn binary(&mut self, length: usize, head_at: usize) -> Result<(), Error> {
        let bytes = self.bytes(length).ok_or(Error::Truncated { at: head_at });
        let Binary::At(spans) = &mut self.binary else { return Err(Error::Binary { at: head_at }) };
        let bytes = bytes?;
        let start = self.json.len();
        self.json.push(b'"');
        self.json.extend_from_slice(BASE64_STANDARD.encode(bytes).as_bytes());
        self.json.push(b'"');
        spans.push(Span { start, end: self.json.len() });
        self.within_limit(head_at)
    }

    /// What JavaScript libraries make of `undefined`, of dates and of arrays of bytes, where binary data is taken, too: what
    /// JSON makes of them. Notepack 2 has but one type for all three.
    fn extension(&mut self, width: Width, length: usize, head_at: usize) -> Result<(), Error> {
        let unknown = Error::Extension { at: head_at };
        if matches!(self.binary, Binary::Refused) {
            return Err(unknown);
        }
        let truncated = Error::Truncated { at: head_at };
        let kind = self.signed(1).ok_or(truncated)?;
        if (kind, width) == (0, Width::Told) {
            return self.binary(length, head_at);
        }
        match (kind, self.bytes(length).ok_or(truncated)?) {
            (0, [_]) => self.write(&(), head_at),
            (0 | -1, data) => {
                let ms = date(kind, data).ok_or(unknown)?;
                self.write(&rfc_3339(ms), head_at)
            }
            _ => Err(unknown),
        }
    }

    fn write<T: Serialize + ?Sized>(&mut self, value: &T, at: usize) -> Result<(), Error> {
        serde_json::to_writer(&mut self.json, value).expect("a scalar is JSON and a Vec takes all");
        self.within_limit(at)
    }

    /// Asked after each scalar and once at the end: between two scalars there are but a few brackets per level.
    fn within_limit(&self, at: usize) -> Result<(), Error> {
        match self.json.len() <= self.bytes_max {
            true => Ok(()),
            false => Err(Error::TooLong { at, bytes_max: self.bytes_max }),
        }
    }

    /// None if the message ends before the head does.
    fn head(&mut self) -> Option<Head> {
        let marker = self.unsigned(1)? as u8;
        Some(match marker {
            0x00..=0x7f => Head::Unsigned(marker.into()),
            0x80..=0x8f => Head::Map(usize::from(marker & 0x0f)),
            0x90..=0x9f => Head::Array(usize::from(marker & 0x0f)),
            0xa0..=0xbf => Head::Text(usize::from(marker & 0x1f)),
            0xc0 => Head::Nil,
            0xc1 => Head::Reserved,
            0xc2 | 0xc3 => Head::Bool(marker == 0xc3),
            0xc4..=0xc6 => Head::Binary(self.unsigned(1 << (marker - 0xc4))? as usize),
            0xc7..=0xc9 => Head::Extension(Width::Told, self.unsigned(1 << (marker - 0xc7))? as usize),
            0xd4..=0xd8 => Head::Extension(Width::Fixed, 1 << (marker - 0xd4)),
            0xca => Head::Float(f32::from_bits(self.unsigned(4)? as u32).into()),
            0xcb => Head::Float(f64::from_bits(self.unsigned(8)?)),
            0xcc..=0xcf => Head::Unsigned(self.unsigned(1 << (marker - 0xcc))?),
            0xd0..=0xd3 => Head::Signed(self.signed(1 << (marker - 0xd0))?),
            0xd9..=0xdb => Head::Text(self.unsigned(1 << (marker - 0xd9))? as usize),
            0xdc | 0xdd => Head::Array(self.unsigned(2 << (marker - 0xdc))? as usize),
            0xde | 0xdf => Head::Map(self.unsigned(2 << (marker - 0xde))? as usize),
            0xe0..=0xff => Head::Signed(marker.cast_signed().into()),
        })
    }

    /// A big-endian integer of 1, 2, 4 or 8 bytes.
    fn unsigned(&mut self, width: usize) -> Option<u64> {
        Some(self.bytes(width)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    fn signed(&mut self, width: usize) -> Option<i64> {
        let unused = 64 - 8 * width;
        Some((self.unsigned(width)? << unused).cast_signed() >> unused)
    }

    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let bytes = self.message[self.at..].get(..count)?;
        self.at += count;
        Some(bytes)
    }

    fn rest(&self) -> usize {
        self.message.len() - self.at
    }
}

/// Milliseconds since 1970 UTC: of type -1, the timestamp of the specification, or of type 0, which is that of notepack 2.
fn date(kind: i64, data: &[u8]) -> Option<i64> {
    let number = |bytes: &[u8]| bytes.iter().fold(0, |value, byte| value << 8 | i128::from(*byte));
    let ms = match (kind, data.len()) {
        (0, 8) => number(data) as i64 as i128,
        (-1, 4) => number(data) * 1_000,
        (-1, 8) => (number(data) & 0x3_ffff_ffff) * 1_000 + (number(data) >> 34) / 1_000_000,
        (-1, 12) => number(&data[4..]) as i64 as i128 * 1_000 + number(&data[..4]) / 1_000_000,
        _ => return None,
    };
    // The years that JavaScript writes with four digits.
    (-62_167_219_200_000..253_402_300_800_000).contains(&ms).then_some(ms as i64)
}

/// As `JSON.stringify` writes a date (RFC 3339).
fn rfc_3339(ms: i64) -> String {
    let (days, ms) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    // The calendar repeats every 400 years, which begin on 1 March (Howard Hinnant, "chrono-compatible low-level date
    // algorithms").
    let shifted = days + 719_468;
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    let (hour, minute, second, ms) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60, ms % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// The message of a JSON text, each value in its smallest form. Order and duplicate keys stay as they are.
///
/// A number with a fraction or an exponent, `-0` and an integer beyond 64 bits become 64-bit floats.
///
/// # Panics
/// If `json` is not JSON that a [`duplex_core::Json`] may hold, in an envelope of ours: what comes from outside is
/// checked before it gets here.
pub(crate) fn from_json(json: &str) -> Vec<u8> {
    from_json_and_binary(json, &[])
}

/// The same; the strings at `binary`, in order, are Base64 of what becomes binary data.
pub(crate) fn from_json_and_binary(json: &str, binary: &[Span]) -> Vec<u8> {
    let mut message = Vec::with_capacity(json.len());
    let mut reader = serde_json::Deserializer::from_str(json);
    Writer { message: &mut message, source: json, binary }
        .deserialize(&mut reader)
        .and_then(|()| reader.end())
        .expect("what we write, and what was checked, is JSON");
    message
}

/// Appends the value that is read.
struct Writer<'a> {
    message: &'a mut Vec<u8>,
    /// What is read, and where it is binary data.
    source: &'a str,
    binary: &'a [Span],
}

impl Writer<'_> {
    /// For a value within this one.
    fn inner(&mut self) -> Writer<'_> {
        Writer { message: self.message, source: self.source, binary: self.binary }
    }

    /// The binary data that a string of the source stands for.
    fn decoded(&self, text: &str) -> Option<Vec<u8>> {
        if self.binary.is_empty() {
            return None;
        }
        let start = (text.as_ptr() as usize).wrapping_sub(self.source.as_ptr() as usize);
        let found = self.binary.binary_search_by_key(&start, |span| span.start + 1).ok()?;
        (self.binary[found].end == start + text.len() + 1).then(|| BASE64_STANDARD.decode(text).ok())?
    }

    fn bytes(self, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).expect("a message is smaller than 4 GiB");
        match length {
            0..=0xff => self.message.extend([0xc4, length as u8]),
            0x100..=0xffff => {
                self.message.push(0xc5);
                self.message.extend_from_slice(&(length as u16).to_be_bytes());
            }
            _ => {
                self.message.push(0xc6);
                self.message.extend_from_slice(&length.to_be_bytes());
            }
        }
        self.message.extend_from_slice(bytes);
    }

    fn marked<const N: usize>(self, marker: u8, value: [u8; N]) {
        self.message.push(marker);
        self.message.extend_from_slice(&value);
    }

    fn unsigned(self, value: u64) {
        match value {
            0..=0x7f => self.message.push(value as u8),
            0x80..=0xff => self.marked(0xcc, [value as u8]),
            0x100..=0xffff => self.marked(0xcd, (value as u16).to_be_bytes()),
            0x1_0000..=0xffff_ffff => self.marked(0xce, (value as u32).to_be_bytes()),
            _ => self.marked(0xcf, value.to_be_bytes()),
        }
    }

    fn negative(self, value: i64) {
        match value {
            -0x20.. => self.message.push(value as u8),
            -0x80.. => self.marked(0xd0, [value as u8]),
            -0x8000.. => self.marked(0xd1, (value as i16).to_be_bytes()),
            -0x8000_0000.. => self.marked(0xd2, (value as i32).to_be_bytes()),
            _ => self.marked(0xd3, value.to_be_bytes()),
        }
    }

    /// Makes the byte at `start`, kept free for it, the head of `count` items behind it. `short` is the marker for up to
    /// 15 of them, which takes that byte alone; `wide` the one for up to 65,535, with the next marker for more.
    fn close(self, start: usize, count: usize, short: u8, wide: u8) {
        let count = u32::try_from(count).expect("a message is smaller than 4 GiB");
        let [_, _, high, low] = count.to_be_bytes();
        match count {
            0..=0xf => self.message[start] = short | low,
            0x10..=0xffff => drop(self.message.splice(start..=start, [wide, high, low])),
            _ => {
                self.message[start] = wide + 1;
                self.message.splice(start + 1..start + 1, count.to_be_bytes());
            }
        }
    }
}

impl<'de> DeserializeSeed<'de> for Writer<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Writer<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.message.push(0xc0);
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.message.push(0xc2 | u8::from(value));
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.unsigned(value);
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        match u64::try_from(value) {
            Ok(value) => self.unsigned(value),
            Err(_) => self.negative(value),
        }
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.marked(0xcb, value.to_be_bytes());
        Ok(())
    }

    /// A string without escapes, where it stands in the source.
    fn visit_borrowed_str<E: serde::de::Error>(self, text: &'de str) -> Result<(), E> {
        match self.decoded(text) {
            Some(bytes) => {
                self.bytes(&bytes);
                Ok(())
            }
            None => self.visit_str(text),
        }
    }

    fn visit_str<E>(mut self, text: &str) -> Result<(), E> {
        let length = u32::try_from(text.len()).expect("a message is smaller than 4 GiB");
        match length {
            0..=0x1f => self.message.push(0xa0 | length as u8),
            0x20..=0xff => self.inner().marked(0xd9, [length as u8]),
            0x100..=0xffff => self.inner().marked(0xda, (length as u16).to_be_bytes()),
            _ => self.inner().marked(0xdb, length.to_be_bytes()),
        }
        self.message.extend_from_slice(text.as_bytes());
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
        let (start, mut count) = (self.message.len(), 0);
        self.message.push(0);
        while elements.next_element_seed(self.inner())?.is_some() {
            count += 1;
        }
        self.close(start, count, 0x90, 0xdc);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut pairs: A) -> Result<(), A::Error> {
        let (start, mut count) = (self.message.len(), 0);
        self.message.push(0);
        while pairs.next_key_seed(self.inner())?.is_some() {
            pairs.next_value_seed(self.inner())?;
            count += 1;
        }
        self.close(start, count, 0x80, 0xde);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
