//! UTF-8 in messages and close frames (RFC 6455, 8.1 and 7.4).

mod support;

use duplex_websocket::{CloseCode, Compression, Decoder, Inflater, Limits, Role, Violation};
use support::{CLOSE, CONT, FIN, SERVER, TEXT, brief, client};

const GOOD: &[&str] = &[
    "",
    "a",
    "κόσμε",
    "\u{0}\u{7f}\u{80}\u{7ff}\u{800}\u{fffd}\u{ffff}\u{10000}\u{10ffff}",
    "\u{feff}BOM and \u{202e}override",
    "\u{d7ff}\u{e000}",
];

const BAD: &[&[u8]] = &[
    b"\x80",
    b"\xbf",
    b"a\xffb",
    b"\xfe",
    b"\xc0\xaf",
    b"\xc1\xbf",
    b"\xe0\x80\xaf",
    b"\xe0\x9f\xbf",
    b"\xf0\x80\x80\xaf",
    b"\xf0\x8f\xbf\xbf",
    b"\xed\xa0\x80",
    b"\xed\xbf\xbf",
    b"\xed\xa0\x80\xed\xb0\x80",
    b"\xf4\x90\x80\x80",
    b"\xf5\x80\x80\x80",
    b"\xf8\x88\x80\x80\x80",
    b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80edited",
    b"\xe2\x28\xa1",
    b"\xf0\x28\x8c\xbc",
];

const TRUNCATED: &[&[u8]] = &[b"\xc3", b"a\xe2\x82", b"\xf0\x9f", b"\xf0\x9f\x98", b"\xf4\x8f\xbf"];

#[test]
fn a_character_may_be_split_over_fragments_anywhere() {
    for text in GOOD {
        let expected = format!("text {}", brief(text.as_bytes()));
        assert_eq!(SERVER.hears(&client(FIN | TEXT, text.as_bytes())), expected);
        for cut in 0..=text.len() {
            let (head, tail) = text.as_bytes().split_at(cut);
            let wire = [client(TEXT, head), client(CONT, b""), client(FIN | CONT, tail)].concat();
            assert_eq!(SERVER.hears(&wire), expected);
        }
    }
}

#[test]
fn what_is_not_utf8_is_refused_in_one_frame_and_in_fragments() {
    for bytes in BAD.iter().chain(TRUNCATED) {
        assert_eq!(SERVER.hears(&client(FIN | TEXT, bytes)), "! InvalidUtf8 1007");
        for cut in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(cut);
            let wire = [client(TEXT, head), client(FIN | CONT, tail)].concat();
            assert_eq!(SERVER.hears(&wire), "! InvalidUtf8 1007", "{bytes:x?} cut at {cut}");
        }
    }
}

#[test]
fn bad_text_fails_as_soon_as_it_cannot_become_good() {
    // The last byte of each prefix is the first from which no continuation leads to UTF-8.
    for (bytes, hopeless) in [
        (&b"\xf4\x90\x80\x80"[..], 2),
        (b"\xed\xa0\x80", 2),
        (b"\xe0\x80\xaf", 2),
        (b"\xf0\x80\x80\xaf", 2),
        (b"\xc0\xaf", 1),
        (b"abc\xff", 4),
        (b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80", 13),
        (b"\xf0\x9f\x98\x28", 4),
    ] {
        let limits = Limits::default();
        let mut inflater = Inflater::new();
        let mut decoder = Decoder::new(Role::Server, Compression::Off);
        let mut wire = client(FIN | TEXT, &[bytes, &[b'x'; 100]].concat());
        let head_bytes = 6;
        for at in 0..head_bytes + hopeless - 1 {
            assert_eq!(decoder.decode(&mut wire[at..at + 1], &limits, &mut inflater), Ok((1, None)));
        }
        let at = head_bytes + hopeless - 1;
        let last = decoder.decode(&mut wire[at..at + 1], &limits, &mut inflater);
        assert_eq!(last, Err(Violation::InvalidUtf8), "{bytes:x?}");
    }
}

#[test]
fn the_end_of_a_message_is_the_end_of_its_last_character() {
    for bytes in TRUNCATED {
        assert_eq!(
            SERVER.hears(&[client(TEXT, bytes), client(FIN | CONT, b"")].concat()),
            "! InvalidUtf8 1007"
        );
    }
}

#[test]
fn binary_may_be_anything() {
    for bytes in BAD {
        assert_eq!(SERVER.hears(&client(FIN | 2, bytes)), format!("binary {}", brief(bytes)));
    }
}

#[test]
fn close_codes_of_the_registry_and_of_applications_are_heard() {
    for code in (1000..=1003).chain(1007..=1014).chain([3000, 3999, 4000, 4999]) {
        let body = [&u16::to_be_bytes(code)[..], b"why"].concat();
        assert_eq!(SERVER.hears(&client(FIN | CLOSE, &body)), format!("close {code} \"why\""));
    }
}

#[test]
fn close_codes_that_may_not_be_sent_are_refused() {
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        let expected = format!("! InvalidCloseCode {{ code: {code} }} 1002");
        assert_eq!(SERVER.hears(&client(FIN | CLOSE, &u16::to_be_bytes(code))), expected);
        assert_eq!(CloseCode::parse(code), None);
    }
}

#[test]
fn a_close_body_is_empty_or_has_a_code_and_a_reason_in_utf8() {
    let longest = [&b"\x03\xe8"[..], &[b'x'; 123]].concat();
    for (body, expected) in [
        (&b""[..], "close".to_owned()),
        (b"\x03", "! CloseTooShort 1002".to_owned()),
        (b"\x03\xe8", "close 1000 \"\"".to_owned()),
        (b"\x03\xe8\xc3", "! InvalidUtf8 1007".to_owned()),
        (b"\x03\xe8\xce\xba\xed\xa0\x80", "! InvalidUtf8 1007".to_owned()),
        (&longest, format!("close 1000 {}", brief(&[b'x'; 123]))),
    ] {
        assert_eq!(SERVER.hears(&client(FIN | CLOSE, body)), expected);
    }
    assert_eq!(SERVER.hears(&client(FIN | CLOSE, &[3; 126])), "! ControlTooLong 1002");
}
