use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

const PLENTY: usize = 1 << 24;

fn read(message: &[u8]) -> Result<String, Error> {
    to_json(message, PLENTY)
}

fn bytes(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// Both directions against the independent implementation.
fn there_and_back(value: &Value) {
    let message = from_json(&value.to_string());
    assert_eq!(message, rmp_serde::to_vec(value).unwrap(), "{value:.80}");
    assert_eq!(rmp_serde::from_slice::<Value>(&message).unwrap(), *value);
    assert_eq!(serde_json::from_str::<Value>(&read(&message).unwrap()).unwrap(), *value);
}

/// JSON and its message, which is written in the smallest form.
fn pairs() -> Vec<(String, Vec<u8>)> {
    let text = |head: &[u8], length: usize| {
        (format!("{:?}", "x".repeat(length)), bytes(&[head, "x".repeat(length).as_bytes()]))
    };
    let array = |head: &[u8], count: usize| {
        (format!("[{}]", vec!["7"; count].join(",")), bytes(&[head, &vec![7; count]]))
    };
    let map = |head: &[u8], count: usize| {
        (format!("{{{}}}", vec![r#""k":7"#; count].join(",")), bytes(&[head, &b"\xa1k\x07".repeat(count)]))
    };
    let scalar = |json: &str, message: &[u8]| (json.to_owned(), message.to_vec());
    vec![
        scalar("null", b"\xc0"),
        scalar("false", b"\xc2"),
        scalar("true", b"\xc3"),
        scalar("0", b"\x00"),
        scalar("127", b"\x7f"),
        scalar("128", b"\xcc\x80"),
        scalar("255", b"\xcc\xff"),
        scalar("256", b"\xcd\x01\x00"),
        scalar("65535", b"\xcd\xff\xff"),
        scalar("65536", b"\xce\x00\x01\x00\x00"),
        scalar("4294967295", b"\xce\xff\xff\xff\xff"),
        scalar("4294967296", b"\xcf\x00\x00\x00\x01\x00\x00\x00\x00"),
        scalar("9223372036854775807", b"\xcf\x7f\xff\xff\xff\xff\xff\xff\xff"),
        scalar("9223372036854775808", b"\xcf\x80\x00\x00\x00\x00\x00\x00\x00"),
        scalar("18446744073709551615", b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff"),
        scalar("-1", b"\xff"),
        scalar("-32", b"\xe0"),
        scalar("-33", b"\xd0\xdf"),
        scalar("-128", b"\xd0\x80"),
        scalar("-129", b"\xd1\xff\x7f"),
        scalar("-32768", b"\xd1\x80\x00"),
        scalar("-32769", b"\xd2\xff\xff\x7f\xff"),
        scalar("-2147483648", b"\xd2\x80\x00\x00\x00"),
        scalar("-2147483649", b"\xd3\xff\xff\xff\xff\x7f\xff\xff\xff"),
        scalar("-9223372036854775808", b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00"),
        scalar("1.5", b"\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00"),
        scalar("1.0", b"\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00"),
        scalar("-0.0", b"\xcb\x80\x00\x00\x00\x00\x00\x00\x00"),
        scalar(r#""""#, b"\xa0"),
        scalar(r#""\u0000\u001f\n\"\\é😀""#, b"\xab\x00\x1f\n\"\\\xc3\xa9\xf0\x9f\x98\x80"),
        text(&[0xbf], 31),
        text(&[0xd9, 32], 32),
        text(&[0xd9, 255], 255),
        text(&[0xda, 1, 0], 256),
        text(&[0xda, 255, 255], 65_535),
        text(&[0xdb, 0, 1, 0, 0], 65_536),
        array(&[0x90], 0),
        array(&[0x9f], 15),
        array(&[0xdc, 0, 16], 16),
        array(&[0xdc, 255, 255], 65_535),
        array(&[0xdd, 0, 1, 0, 0], 65_536),
        map(&[0x80], 0),
        map(&[0x8f], 15),
        map(&[0xde, 0, 16], 16),
        map(&[0xde, 255, 255], 65_535),
        map(&[0xdf, 0, 1, 0, 0], 65_536),
    ]
}

#[test]
fn each_value_is_written_in_its_smallest_form() {
    for (json, message) in pairs() {
        assert_eq!(from_json(&json), message, "{json:.60}");
    }
}

#[test]
fn each_value_is_read_as_the_same_json() {
    for (json, message) in pairs() {
        assert_eq!(read(&message).as_deref(), Ok(&*json), "{json:.60}");
    }
}

#[test]
fn wider_forms_than_needed_are_read() {
    for (message, json) in [
        (&b"\xcc\x01"[..], "1"),
        (b"\xcd\x00\x01", "1"),
        (b"\xce\x00\x00\x00\x01", "1"),
        (b"\xcf\x00\x00\x00\x00\x00\x00\x00\x01", "1"),
        (b"\xd0\x01", "1"),
        (b"\xd1\xff\xff", "-1"),
        (b"\xd2\xff\xff\xff\xff", "-1"),
        (b"\xd3\xff\xff\xff\xff\xff\xff\xff\xff", "-1"),
        (b"\xd3\x7f\xff\xff\xff\xff\xff\xff\xff", "9223372036854775807"),
        (b"\xd9\x01a", r#""a""#),
        (b"\xda\x00\x01a", r#""a""#),
        (b"\xdb\x00\x00\x00\x01a", r#""a""#),
        (b"\xdc\x00\x01\x07", "[7]"),
        (b"\xdd\x00\x00\x00\x01\x07", "[7]"),
        (b"\xde\x00\x01\xd9\x01a\x07", r#"{"a":7}"#),
        (b"\xdf\x00\x00\x00\x01\xda\x00\x01a\x07", r#"{"a":7}"#),
    ] {
        assert_eq!(read(message).as_deref(), Ok(json), "{message:x?}");
        let independent: Value = rmp_serde::from_slice(message).unwrap();
        assert_eq!(serde_json::from_str::<Value>(json).unwrap(), independent, "{message:x?}");
    }
}

#[test]
fn a_short_float_is_widened_exactly() {
    for float in [0.0, -0.0, 0.1, 1.0, -1.5, f32::MIN_POSITIVE, f32::MAX, f32::MIN, f32::from_bits(1)] {
        let json = read(&bytes(&[&[0xca], &float.to_be_bytes()])).unwrap();
        assert_eq!(json.parse::<f64>().unwrap().to_bits(), f64::from(float).to_bits(), "{json}");
    }
}

#[test]
fn every_first_byte_has_the_meaning_of_the_specification() {
    for marker in 0..=u8::MAX {
        let message = bytes(&[&[marker], &[0; 300]]);
        let refused = match marker {
            0xc1 => Some(Error::NoMarker { at: 0 }),
            0xc4..=0xc6 => Some(Error::Binary { at: 0 }),
            0xc7..=0xc9 | 0xd4..=0xd8 => Some(Error::Extension { at: 0 }),
            // The zeros behind it are keys.
            0x81..=0x8f => Some(Error::Key { at: 1 }),
            _ => None,
        };
        match (refused, read(&message)) {
            (Some(refused), outcome) => assert_eq!(outcome, Err(refused), "{marker:#x}"),
            (None, outcome) => {
                assert!(matches!(outcome, Err(Error::Trailing { .. })), "{marker:#x}: {outcome:?}")
            }
        }
    }
}

#[test]
fn order_and_duplicate_keys_stay_as_they_are() {
    let (json, message) = (r#"{"b":1,"a":2,"b":{"b":3}}"#, b"\x83\xa1b\x01\xa1a\x02\xa1b\x81\xa1b\x03");
    assert_eq!(from_json(json), message);
    assert_eq!(read(message).as_deref(), Ok(json));
}

#[test]
fn escapes_and_spaces_of_the_json_do_not_matter() {
    let message = from_json(" { \"\\u0061\\/\" : [ \"\\ud83d\\ude00\\b\\f\\n\\r\\t\\\"\\\\\" , 1E2 ] }\n");
    assert_eq!(read(&message).unwrap(), "{\"a/\":[\"😀\\b\\f\\n\\r\\t\\\"\\\\\",100.0]}");
}

#[test]
fn a_number_that_is_no_64_bit_integer_becomes_the_nearest_float() {
    let zeros = "0".repeat(1_000);
    let (long, scaled, sunk) = ("1".repeat(309), format!("1{zeros}e-1000"), format!("0.{zeros}1e1001"));
    for json in ["18446744073709551616", "-9223372036854775809", "-0", "1e2", "5e-324", "1e-400"]
        .into_iter()
        .chain(["0e99999999999", "1e-99999999999", &long, &scaled, &sunk])
    {
        let float = json.parse::<f64>().unwrap();
        assert!(float.is_finite());
        assert_eq!(from_json(json), bytes(&[&[0xcb], &float.to_be_bytes()]), "{json:.60}");
    }
}

#[test]
fn what_json_cannot_say_is_refused_with_its_place() {
    for (message, error) in [
        (&b""[..], Error::Truncated { at: 0 }),
        (b"\x01\x02", Error::Trailing { at: 1 }),
        (b"\x92\x01\xc1", Error::NoMarker { at: 2 }),
        (b"\x91\xc4\x01\x00", Error::Binary { at: 1 }),
        (b"\xd6\xff\0\0\0\0", Error::Extension { at: 0 }),
        (b"\x81\x01\x01", Error::Key { at: 1 }),
        (b"\x81\xc0\x01", Error::Key { at: 1 }),
        (b"\x82\xa0\x01\xc4\x00\x01", Error::Key { at: 3 }),
        (b"\xa3a\xc3\x28", Error::NotUtf8 { at: 2 }),
        (b"\x81\xa2a\xff\x01", Error::NotUtf8 { at: 3 }),
        (b"\xa1\xe2", Error::NotUtf8 { at: 1 }),
        (b"\xa3\xed\xa0\x80", Error::NotUtf8 { at: 1 }),
        (b"\xca\x7f\xc0\0\0", Error::NotFinite { at: 0 }),
        (b"\xca\xff\x80\0\0", Error::NotFinite { at: 0 }),
        (b"\x91\xcb\x7f\xf0\0\0\0\0\0\0", Error::NotFinite { at: 1 }),
        (b"\xcb\xff\xff\xff\xff\xff\xff\xff\xff", Error::NotFinite { at: 0 }),
    ] {
        assert_eq!(read(message), Err(error), "{message:x?}");
    }
}

#[test]
fn a_length_that_lies_is_refused_at_once() {
    for (message, at) in [
        (&b"\xdd\xff\xff\xff\xff"[..], 0),
        (b"\xdf\xff\xff\xff\xff", 0),
        (b"\xdb\xff\xff\xff\xffx", 0),
        (b"\xda\xff\xffx", 0),
        (b"\x91\xdd\xff\xff\xff\xff\x01", 1),
        (b"\x81\xdb\xff\xff\xff\xff\x01", 1),
        (b"\x92\x01", 0),
        (b"\x82\xa0\x01\xa0", 0),
    ] {
        assert_eq!(read(message), Err(Error::Truncated { at }), "{message:x?}");
    }
    // A million heads that each promise more than there is: the first is enough.
    assert_eq!(read(&b"\xdd\xff\xff\xff\xff".repeat(1 << 20)), Err(Error::Truncated { at: 0 }));
}

#[test]
fn a_message_cut_anywhere_is_refused() {
    let nested = r#"{"a":[1,-300,2.5,{"b":"text","c":[[],{},null]},70000],"d":{"e":"é"}}"#;
    for (json, message) in pairs().into_iter().chain([(nested.to_owned(), from_json(nested))]) {
        // The long ones repeat one item, so their beginning and end are enough.
        let ends = (0..message.len()).filter(|end| *end < 600 || message.len() - end < 20);
        for end in ends {
            let outcome = read(&message[..end]);
            assert!(matches!(outcome, Err(Error::Truncated { .. })), "{json:.60} cut at {end}: {outcome:?}");
        }
    }
}

#[test]
fn nesting_has_a_limit() {
    for (open, close) in [(&b"\x91"[..], &b"\x90"[..]), (b"\x81\xa1k", b"\x80")] {
        let nested = |depth: usize| bytes(&[&open.repeat(depth - 1), close]);
        let json = read(&nested(DEPTH_MAX)).unwrap();
        assert_eq!(from_json(&json), nested(DEPTH_MAX));
        let at = open.len() * DEPTH_MAX;
        assert_eq!(read(&nested(DEPTH_MAX + 1)), Err(Error::TooDeep { at }));
        assert_eq!(read(&nested(1_000_000)), Err(Error::TooDeep { at }));
    }
}

#[test]
fn the_json_is_never_longer_than_allowed() {
    for (json, message) in [
        (r#"[1,{"k":[true,null]},"\u0001\u0001"]"#, from_json(r#"[1,{"k":[true,null]},"\u0001\u0001"]"#)),
        ("[[[[]]]]", from_json("[[[[]]]]")),
        ("-0.5", from_json("-0.5")),
        ("\"xyz\"", from_json("\"xyz\"")),
    ] {
        assert_eq!(to_json(&message, json.len()).as_deref(), Ok(json));
        for bytes_max in 0..json.len() {
            let outcome = to_json(&message, bytes_max);
            assert!(
                matches!(outcome, Err(Error::TooLong { bytes_max: named, .. }) if named == bytes_max),
                "{json} in {bytes_max}: {outcome:?}"
            );
        }
    }
}

#[test]
fn an_error_says_where_and_what_to_do_in_the_room_of_a_close_reason() {
    let (at, bytes_max) = (99_999_999, 99_999_999);
    for error in [
        Error::Truncated { at },
        Error::Trailing { at },
        Error::NoMarker { at },
        Error::NotUtf8 { at },
        Error::Key { at },
        Error::Binary { at },
        Error::Extension { at },
        Error::NotFinite { at },
        Error::TooDeep { at },
        Error::TooLong { at, bytes_max },
    ] {
        let sentence = format!("not MessagePack: {error}");
        assert!(sentence.contains("byte 99999999") && sentence.contains("; "), "{sentence}");
        // RFC 6455, 5.5: a control frame has 125 bytes, two of which are the code.
        assert!(sentence.len() <= 123, "{} bytes: {sentence}", sentence.len());
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-70_000_i64..70_000).prop_map(Value::from),
        any::<u64>().prop_map(|bits| json!(f64::from_bits(bits))),
        any::<f32>().prop_map(|float| json!(f64::from(float))),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 20, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..20).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..20)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Markers more often than chance has them, so that messages go deeper than their first bytes.
fn any_message() -> impl Strategy<Value = Vec<u8>> {
    let byte =
        prop_oneof![any::<u8>(), 0x80..=0x84_u8, 0x90..=0x94_u8, 0xa0..=0xa2_u8, 0xc0..=0xdf_u8, 0..3_u8];
    prop::collection::vec(byte, 0..64)
}

proptest! {
    #[test]
    fn any_value_goes_there_and_back(value in any_value()) {
        there_and_back(&value);
    }

    #[test]
    fn any_value_that_was_cut_is_refused(value in any_value(), cut in any::<prop::sample::Index>()) {
        let message = from_json(&value.to_string());
        let outcome = read(&message[..cut.index(message.len())]);
        prop_assert!(matches!(outcome, Err(Error::Truncated { .. })), "{:?}", outcome);
    }

    #[test]
    fn whatever_comes_is_json_or_refused(message in any_message()) {
        if let Ok(json) = read(&message) {
            prop_assert!(json.len() < 6 * message.len());
            let value: Value = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(value, rmp_serde::from_slice::<Value>(&message).unwrap());
            prop_assert_eq!(read(&from_json(&json)), Ok(json));
        }
    }

    /// `duplex_core::Json` lets a number through if the standard library reads it as finite: none of them may panic here.
    #[test]
    fn any_number_that_is_finite_is_written_as_the_nearest_float(
        json in "-?(0|[1-9][0-9]{0,30}|[1-9]0{300,420})(\\.(0{0,420}[0-9]{1,30}))?([eE][+-]?[0-9]{1,3})?"
    ) {
        let float = json.parse::<f64>().unwrap();
        if float.is_infinite() {
            return Ok(());
        }
        let message = from_json(&json);
        let written = read(&message).unwrap();
        match json.parse::<i128>() {
            Ok(integer) if message[0] != 0xcb => prop_assert_eq!(written.parse::<i128>(), Ok(integer)),
            _ => prop_assert_eq!(&message[1..], &float.to_be_bytes()[..]),
        }
    }
}

#[test]
fn what_javascript_has_and_json_has_not_becomes_what_json_makes_of_it() {
    let read = |message: &[u8]| to_json_and_binary(message, 1_000);
    for (message, json) in [
        (&b"\xd4\x00\x00"[..], "null"),
        (b"\xd7\x00\x00\x00\x01\x91\xaa\x33\x53\x7b", "\"2024-08-31T20:49:36.123Z\""),
        (b"\xd6\xff\x00\x00\x00\x00", "\"1970-01-01T00:00:00.000Z\""),
        (b"\xd6\xff\x65\xe0\xcf\x50", "\"2024-02-29T18:39:12.000Z\""),
        (b"\xd7\xff\x00\x3d\x09\x00\x00\x00\x00\x01", "\"1970-01-01T00:00:01.001Z\""),
        (b"\xc7\x0c\xff\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff", "\"1969-12-31T23:59:59.000Z\""),
    ] {
        assert_eq!(read(message), Ok((json.to_owned(), Vec::new())), "{message:x?}");
    }
    assert_eq!(read(b"\xd4\x05\x00"), Err(Error::Extension { at: 0 }));
    assert_eq!(read(b"\xd7\x00\x7f\xff\xff\xff\xff\xff\xff\xff"), Err(Error::Extension { at: 0 }));
    assert_eq!(read(b"\xd7\x00\x00"), Err(Error::Truncated { at: 0 }));
    let (json, binary) = read(b"\xc7\x03\x00\x07\x08\x09").unwrap();
    assert_eq!((&*json, binary.len()), ("\"BwgJ\"", 1));
    let (json, binary) = read(b"\x92\xc4\x02\x01\x02\xa1a").unwrap();
    assert_eq!((&*json, binary[0].start..binary[0].end), (r#"["AQI=","a"]"#, 1..7));
    assert_eq!(from_json_and_binary(&json, &binary), b"\x92\xc4\x02\x01\x02\xa1a");
}
