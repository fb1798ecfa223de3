//! MessagePack to JSON and back, so that the protocol is written once: what `duplex.v1.msgpack` says is the same JSON in
//! another form (<https://github.com/msgpack/msgpack/blob/master/spec.md>).

use std::fmt::{self, Display, Write};

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// Deepest nesting: that of a payload, and room for the command around it.
const DEPTH_MAX: usize = 72;

use MessagePackError as Error;

/// Why a message is refused. The text completes "not MessagePack: …" and says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MessagePackError {
    #[error("it ends within a value at byte {at}")]
    Truncated { at: usize },
    #[error("there is something behind the value at byte {at}; send one value in a message")]
    Trailing { at: usize },
    #[error("the text at byte {at} is not UTF-8")]
    NotUtf8 { at: usize },
    #[error("the map at byte {at} has a key that is not a text; use texts")]
    Key { at: usize },
    #[error("there are bytes at byte {at}; send them as a text, such as Base64")]
    Bytes { at: usize },
    #[error("there is an extension type at byte {at}; send what JSON can say")]
    Extension { at: usize },
    #[error("there is a number that is not finite at byte {at}; send it as a text")]
    NotFinite { at: usize },
    #[error("byte {at} begins no value")]
    NoMarker { at: usize },
    #[error("is nested more than {DEPTH_MAX} levels deep; flatten it")]
    TooDeep,
    #[error("is longer than {max} bytes as JSON; send less")]
    TooLong { max: usize },
}

/// The JSON text of a message, of at most `bytes_max`.
pub(crate) fn to_json(message: &[u8], bytes_max: usize) -> Result<String, Error> {
    let mut reader = Reader { message, at: 0, json: String::with_capacity(message.len() * 2), bytes_max };
    reader.value(0)?;
    match reader.at == message.len() {
        true => Ok(reader.json),
        false => Err(Error::Trailing { at: reader.at }),
    }
}

struct Reader<'a> {
    message: &'a [u8],
    at: usize,
    json: String,
    bytes_max: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Result<(), Error> {
        if depth > DEPTH_MAX {
            return Err(Error::TooDeep);
        }
        // Checked for each value, and a value adds little more than it has itself.
        if self.json.len() > self.bytes_max {
            return Err(Error::TooLong { max: self.bytes_max });
        }
        let at = self.at;
        match self.byte()? {
            marker @ 0x00..=0x7f => self.write(marker),
            marker @ 0x80..=0x8f => self.map(usize::from(marker & 0x0f), depth),
            marker @ 0x90..=0x9f => self.array(usize::from(marker & 0x0f), depth),
            marker @ 0xa0..=0xbf => self.text(usize::from(marker & 0x1f)),
            0xc0 => self.write("null"),
            0xc2 => self.write("false"),
            0xc3 => self.write("true"),
            0xc4..=0xc6 => Err(Error::Bytes { at }),
            0xc7..=0xc9 | 0xd4..=0xd8 => Err(Error::Extension { at }),
            0xca => {
                let float = f32::from_be_bytes(self.take()?);
                self.float(f64::from(float), at)
            }
            0xcb => {
                let float = f64::from_be_bytes(self.take()?);
                self.float(float, at)
            }
            0xcc..=0xd3 => self.wide_number(self.message[at]),
            marker @ 0xd9..=0xdb => {
                let length = self.length(marker - 0xd9)?;
                self.text(length)
            }
            marker @ 0xdc..=0xdd => {
                let count = self.length(marker - 0xdb)?;
                self.array(count, depth)
            }
            marker @ 0xde..=0xdf => {
                let count = self.length(marker - 0xdd)?;
                self.map(count, depth)
            }
            marker @ 0xe0..=0xff => self.write(marker.cast_signed()),
            0xc1 => Err(Error::NoMarker { at }),
        }
    }

    fn wide_number(&mut self, marker: u8) -> Result<(), Error> {
        match marker {
            0xcc => self.take().map(u8::from_be_bytes).and_then(|number| self.write(number)),
            0xcd => self.take().map(u16::from_be_bytes).and_then(|number| self.write(number)),
            0xce => self.take().map(u32::from_be_bytes).and_then(|number| self.write(number)),
            0xcf => self.take().map(u64::from_be_bytes).and_then(|number| self.write(number)),
            0xd0 => self.take().map(i8::from_be_bytes).and_then(|number| self.write(number)),
            0xd1 => self.take().map(i16::from_be_bytes).and_then(|number| self.write(number)),
            0xd2 => self.take().map(i32::from_be_bytes).and_then(|number| self.write(number)),
            _ => self.take().map(i64::from_be_bytes).and_then(|number| self.write(number)),
        }
    }

    fn float(&mut self, float: f64, at: usize) -> Result<(), Error> {
        if !float.is_finite() {
            return Err(Error::NotFinite { at });
        }
        self.json.push_str(&serde_json::to_string(&float).expect("a finite number is JSON"));
        Ok(())
    }

    fn write(&mut self, value: impl Display) -> Result<(), Error> {
        write!(self.json, "{value}").expect("writing to a String does not fail");
        Ok(())
    }

    fn text(&mut self, length: usize) -> Result<(), Error> {
        let at = self.at;
        let text = str::from_utf8(self.bytes(length)?).map_err(|_| Error::NotUtf8 { at })?;
        self.json.push_str(&serde_json::to_string(text).expect("a text is JSON"));
        Ok(())
    }

    /// The elements are there or they are not, so a length that lies ends at the end of the message.
    fn array(&mut self, count: usize, depth: usize) -> Result<(), Error> {
        self.json.push('[');
        for index in 0..count {
            if index > 0 {
                self.json.push(',');
            }
            self.value(depth + 1)?;
        }
        self.json.push(']');
        Ok(())
    }

    fn map(&mut self, count: usize, depth: usize) -> Result<(), Error> {
        self.json.push('{');
        for index in 0..count {
            if index > 0 {
                self.json.push(',');
            }
            let at = self.at;
            let length = match self.byte()? {
                marker @ 0xa0..=0xbf => usize::from(marker & 0x1f),
                marker @ 0xd9..=0xdb => self.length(marker - 0xd9)?,
                _ => return Err(Error::Key { at }),
            };
            self.text(length)?;
            self.json.push(':');
            self.value(depth + 1)?;
        }
        self.json.push('}');
        Ok(())
    }

    /// A length of 1, 2 or 4 bytes, for the sizes 0, 1 and 2.
    fn length(&mut self, size: u8) -> Result<usize, Error> {
        Ok(match size {
            0 => usize::from(self.byte()?),
            1 => usize::from(u16::from_be_bytes(self.take()?)),
            _ => u32::from_be_bytes(self.take()?) as usize,
        })
    }

    fn byte(&mut self) -> Result<u8, Error> {
        self.take().map(|[byte]| byte)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let bytes = self.bytes(N)?;
        Ok(bytes.try_into().expect("as many as were asked for"))
    }

    fn bytes(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.message.len());
        let end = end.ok_or(Error::Truncated { at: self.message.len() })?;
        let bytes = &self.message[self.at..end];
        self.at = end;
        Ok(bytes)
    }
}

/// The message for a JSON text. Each value takes its smallest form; an integer beyond 64 bits becomes a float.
pub(crate) fn from_json(json: &str) -> Vec<u8> {
    let mut message = Vec::with_capacity(json.len());
    let mut reader = serde_json::Deserializer::from_str(json);
    Writer(&mut message).deserialize(&mut reader).expect("what we write, and what was checked, is JSON");
    message
}

/// Appends the value that is read.
struct Writer<'a>(&'a mut Vec<u8>);

impl Writer<'_> {
    /// Puts the header of what was written from `start` on before it.
    fn insert(&mut self, start: usize, header: &[u8]) {
        self.0.splice(start..start, header.iter().copied());
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
        self.0.push(0xc0);
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.0.push(if value { 0xc3 } else { 0xc2 });
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        match value {
            0..=0x7f => self.0.push(value as u8),
            0x80..=0xff => self.0.extend([0xcc, value as u8]),
            0x100..=0xffff => sized(self.0, 0xcd, &(value as u16).to_be_bytes()),
            0x1_0000..=0xffff_ffff => sized(self.0, 0xce, &(value as u32).to_be_bytes()),
            _ => sized(self.0, 0xcf, &value.to_be_bytes()),
        }
        Ok(())
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        match value {
            0.. => return self.visit_u64(value.cast_unsigned()),
            -32..0 => self.0.push(value as u8),
            -0x80..-32 => self.0.extend([0xd0, value as u8]),
            -0x8000..-0x80 => sized(self.0, 0xd1, &(value as i16).to_be_bytes()),
            -0x8000_0000..-0x8000 => sized(self.0, 0xd2, &(value as i32).to_be_bytes()),
            _ => sized(self.0, 0xd3, &value.to_be_bytes()),
        }
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        sized(self.0, 0xcb, &value.to_be_bytes());
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        let length = value.len();
        match length {
            0..=0x1f => self.0.push(0xa0 | length as u8),
            0x20..=0xff => self.0.extend([0xd9, length as u8]),
            0x100..=0xffff => sized(self.0, 0xda, &(length as u16).to_be_bytes()),
            _ => sized(self.0, 0xdb, &(length as u32).to_be_bytes()),
        }
        self.0.extend_from_slice(value.as_bytes());
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
        let (start, mut count) = (self.0.len(), 0);
        while elements.next_element_seed(Writer(self.0))?.is_some() {
            count += 1;
        }
        self.insert(start, &header(count, 0x90, 0xdc));
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<(), A::Error> {
        let (start, mut count) = (self.0.len(), 0);
        while members.next_key_seed(Writer(self.0))?.is_some() {
            members.next_value_seed(Writer(self.0))?;
            count += 1;
        }
        self.insert(start, &header(count, 0x80, 0xde));
        Ok(())
    }
}

fn sized(out: &mut Vec<u8>, marker: u8, value: &[u8]) {
    out.push(marker);
    out.extend_from_slice(value);
}

/// The header of an array or map: `short` for up to 15 elements, `wide` for up to 65,535, the marker after it for more.
fn header(count: u32, short: u8, wide: u8) -> Vec<u8> {
    match count {
        0..=0x0f => vec![short | count as u8],
        0x10..=0xffff => [&[wide][..], &(count as u16).to_be_bytes()].concat(),
        _ => [&[wide + 1][..], &count.to_be_bytes()].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const PLENTY: usize = 1 << 20;

    fn there_and_back(value: &Value) {
        let message = from_json(&value.to_string());
        let independent = rmp_serde::to_vec(value).unwrap();
        assert_eq!(message, independent, "{value:.80}");
        let json = to_json(&message, 6 * PLENTY).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), *value);
    }

    #[test]
    fn each_kind_of_value_goes_there_and_back_in_its_smallest_form() {
        for number in [0_u64, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x1_0000, 0xffff_ffff, 1 << 32, u64::MAX] {
            there_and_back(&json!(number));
        }
        for number in
            [-1_i64, -32, -33, -128, -129, -32_768, -32_769, -2_147_483_648, -2_147_483_649, i64::MIN]
        {
            there_and_back(&json!(number));
        }
        for length in [0, 1, 0x1f, 0x20, 0xff, 0x100, 0xffff, 0x1_0000] {
            there_and_back(&json!("x".repeat(length)));
        }
        for count in [0, 1, 15, 16, 0xffff, 0x1_0000] {
            there_and_back(&json!(vec![7; count]));
            let members = (0..count.min(70_000)).map(|key| (format!("{key:06}"), json!(null)));
            there_and_back(&Value::Object(members.collect()));
        }
        there_and_back(
            &json!([null, true, false, 1.5, -0.25, 1e300, "\u{0}\"\\\u{1F600}é", [[[]]], {"a": {"b": []}}]),
        );
    }

    #[test]
    fn a_number_beyond_64_bits_becomes_a_float() {
        assert_eq!(
            from_json("36893488147419103232"),
            rmp_serde::to_vec(&36893488147419103232.0_f64).unwrap()
        );
    }

    #[test]
    fn what_json_cannot_say_is_refused_with_its_place() {
        for (message, error) in [
            (&[][..], Error::Truncated { at: 0 }),
            (&[0x01, 0x02], Error::Trailing { at: 1 }),
            (&[0xc1], Error::NoMarker { at: 0 }),
            (&[0x91, 0xc4, 0x01, 0x00], Error::Bytes { at: 1 }),
            (&[0xd6, 0xff, 0, 0, 0, 0], Error::Extension { at: 0 }),
            (&[0x81, 0x01, 0x01], Error::Key { at: 1 }),
            (&[0xa2, 0xc3, 0x28], Error::NotUtf8 { at: 1 }),
            (&[0xca, 0x7f, 0xc0, 0, 0], Error::NotFinite { at: 0 }),
            (&[0xcb, 0x7f, 0xf0, 0, 0, 0, 0, 0, 0], Error::NotFinite { at: 0 }),
            (&[0xdd, 0xff, 0xff, 0xff, 0xff], Error::Truncated { at: 5 }),
            (&[0xdf, 0xff, 0xff, 0xff, 0xff], Error::Truncated { at: 5 }),
            (&[0xdb, 0xff, 0xff, 0xff, 0xff, b'x'], Error::Truncated { at: 6 }),
            (&[0x91; 10_000], Error::TooDeep),
        ] {
            assert_eq!(to_json(message, PLENTY), Err(error), "{message:x?}");
        }
        let long = rmp_serde::to_vec(&vec!["\u{1}"; 1_000]).unwrap();
        assert_eq!(to_json(&long, 1_000), Err(Error::TooLong { max: 1_000 }));
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>()
                .prop_filter("JSON has only finite numbers", |float| float.is_finite())
                .prop_map(Value::from),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..20).prop_map(Value::from),
                prop::collection::btree_map(".*", inner, 0..20)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_value_goes_there_and_back(value in any_value()) {
            there_and_back(&value);
        }

        #[test]
        fn a_message_that_was_cut_is_refused(value in any_value(), cut in any::<prop::sample::Index>()) {
            let message = from_json(&value.to_string());
            prop_assert!(to_json(&message[..cut.index(message.len())], PLENTY).is_err());
        }

        #[test]
        fn whatever_comes_is_json_or_refused(message in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(json) = to_json(&message, PLENTY) {
                prop_assert!(serde_json::from_str::<serde::de::IgnoredAny>(&json).is_ok(), "{}", json);
            }
        }
    }
}
