//! The opening handshake, seen from the server (RFC 6455, 4.2).

mod support;

use duplex_websocket::Compression;
use duplex_websocket::handshake::{
    HEAD_BYTES_MAX, HeadError, HttpVersion, Offer, Refusal, RequestReader, check, parse_request,
};
use support::within;

const HEADERS: [(&str, &str); 5] = [
    ("Host", "chat.example"),
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Version", "13"),
];

/// The good request with lines replaced (`Name: value`), added (`+Name: value`) or removed (`-Name`).
fn edited(edits: &str) -> Vec<(String, String)> {
    let mut headers: Vec<(String, String)> =
        HEADERS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    for edit in edits.split('\n').filter(|edit| !edit.is_empty()) {
        if let Some(name) = edit.strip_prefix('-') {
            headers.retain(|(found, _)| found != name);
            continue;
        }
        let (name, value) = edit.split_once(": ").expect("a test edit has a name and a value");
        match name.strip_prefix('+') {
            Some(name) => headers.push((name.to_owned(), value.to_owned())),
            None => {
                let header = headers.iter_mut().find(|(found, _)| found.eq_ignore_ascii_case(name));
                *header.expect("a test replaces what is there") = (name.to_owned(), value.to_owned());
            }
        }
    }
    headers
}

fn bytes(headers: &[(String, String)]) -> impl Iterator<Item = (&str, &[u8])> + Clone {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))
}

fn judge(headers: &[(String, String)]) -> Result<Offer<'_>, Refusal> {
    check("GET", HttpVersion::Http11, bytes(headers))
}

#[test]
fn the_request_of_the_rfc_is_answered_as_in_the_rfc() {
    // RFC 6455, 1.2.
    let headers = edited("+Origin: http://example.com\n+Sec-WebSocket-Protocol: chat, superchat");
    let offer = judge(&headers).unwrap();
    assert_eq!(offer.protocols().collect::<Vec<_>>(), ["chat", "superchat"]);
    let accept = offer.accept(Some("chat"), Compression::PerMessage);
    assert_eq!(
        String::from_utf8(accept.response()).unwrap(),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
    );
    assert_eq!((accept.compression(), accept.shared_frames()), (Compression::Off, false));
}

#[test]
fn a_request_is_refused_for_what_is_wrong_with_it() {
    for (edits, expected) in [
        ("-Host", Err((400, Refusal::HostMissing))),
        ("+Host: other.example", Err((400, Refusal::HostRepeated))),
        ("Host: chat.example/path", Err((400, Refusal::HostInvalid))),
        ("Host: user@chat.example", Err((400, Refusal::HostInvalid))),
        ("Host: a b", Err((400, Refusal::HostInvalid))),
        ("Host: ", Err((400, Refusal::HostInvalid))),
        ("Host: [::1]:8000", Ok(())),
        ("+Content-Length: 0", Ok(())),
        ("+Content-Length: 1", Err((400, Refusal::BodyPresent))),
        ("+Content-Length: +0", Err((400, Refusal::BodyPresent))),
        ("+Content-Length: 0\n+Content-Length: 5", Err((400, Refusal::BodyPresent))),
        ("+Transfer-Encoding: chunked", Err((400, Refusal::BodyPresent))),
        ("-Upgrade", Err((426, Refusal::UpgradeMissing))),
        ("Upgrade: h2c", Err((426, Refusal::UpgradeMissing))),
        ("Upgrade: websockets", Err((426, Refusal::UpgradeMissing))),
        ("Upgrade: h2c, WebSocket", Ok(())),
        ("-Connection", Err((426, Refusal::ConnectionMissing))),
        ("Connection: keep-alive", Err((426, Refusal::ConnectionMissing))),
        ("Connection: keep-alive, uPGRADE", Ok(())),
        ("Connection: keep-alive\n+Connection: upgrade", Ok(())),
        ("-Sec-WebSocket-Version", Err((426, Refusal::VersionUnsupported))),
        ("Sec-WebSocket-Version: 8", Err((426, Refusal::VersionUnsupported))),
        ("Sec-WebSocket-Version: 13, 8", Err((426, Refusal::VersionUnsupported))),
        ("+Sec-WebSocket-Version: 13", Err((426, Refusal::VersionUnsupported))),
        ("-Sec-WebSocket-Key", Err((400, Refusal::KeyMissing))),
        ("+Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", Err((400, Refusal::KeyRepeated))),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j", Err((400, Refusal::KeyInvalid))),
        ("Sec-WebSocket-Key: ", Err((400, Refusal::KeyInvalid))),
        ("SEC-WEBSOCKET-KEY:  dGhlIHNhbXBsZSBub25jZQ== ", Ok(())),
        ("host: chat.example\nUPGRADE: WEBSOCKET", Ok(())),
    ] {
        let outcome = judge(&edited(edits)).map(drop).map_err(|refusal| (refusal.status(), refusal));
        assert_eq!(outcome, expected, "{edits}");
    }
}

#[test]
fn only_get_over_http_11_upgrades() {
    let headers = edited("-Upgrade");
    for method in ["POST", "get", "CONNECT", ""] {
        let refusal = check(method, HttpVersion::Http11, bytes(&headers)).map(drop).unwrap_err();
        assert_eq!((refusal, refusal.status()), (Refusal::NotGet, 400));
    }
    let headers = edited("");
    let refusal = check("GET", HttpVersion::Http10, bytes(&headers)).map(drop).unwrap_err();
    assert_eq!((refusal, refusal.status()), (Refusal::Http10, 400));
}

#[test]
fn a_426_says_what_to_upgrade_to() {
    let names = |refusal: Refusal| refusal.headers().iter().map(|(name, _)| *name).collect::<Vec<_>>();
    assert_eq!(names(Refusal::VersionUnsupported), ["Sec-WebSocket-Version", "Upgrade", "Connection"]);
    assert_eq!(names(Refusal::KeyMissing), [""; 0]);
    assert!(Refusal::VersionUnsupported.to_string().contains("Sec-WebSocket-Version: 13"));
}

#[test]
fn a_subprotocol_is_confirmed_only_if_the_client_offered_it() {
    for (offered, wanted, confirmed) in [
        ("chat, superchat", Some("superchat"), Some("superchat")),
        ("chat", Some("superchat"), None),
        ("chat", Some("CHAT"), None),
        ("chat", None, None),
        (" , ,,chat ,", Some("chat"), Some("chat")),
        ("__proto__, constructor", Some("__proto__"), Some("__proto__")),
        ("a b, \"c\", d/e", Some("a b"), None),
        ("", Some(""), None),
        ("chat", Some("chat\r\nSet-Cookie: x"), None),
    ] {
        let headers = edited(&format!("+Sec-WebSocket-Protocol: {offered}"));
        let accept = judge(&headers).unwrap().accept(wanted, Compression::Off);
        assert_eq!(accept.protocol(), confirmed, "{offered}");
    }
    let headers = edited("+Sec-WebSocket-Protocol: a\n+sec-websocket-protocol: b, c");
    assert_eq!(judge(&headers).unwrap().protocols().collect::<Vec<_>>(), ["a", "b", "c"]);
}

#[test]
fn ten_thousand_subprotocols_cost_linear_time() {
    let headers = edited(&format!("+Sec-WebSocket-Protocol: {}last", "x, ".repeat(10_000)));
    within(2, || {
        let offer = judge(&headers).unwrap();
        assert_eq!(offer.protocols().count(), 10_001);
        assert_eq!(offer.accept(Some("last"), Compression::Off).protocol(), Some("last"));
    });
}

#[test]
fn compression_needs_an_offer_and_our_will() {
    let full = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    for (offered, willing, answer, shared) in [
        ("permessage-deflate; client_max_window_bits", Compression::PerMessage, full.to_owned(), true),
        ("permessage-deflate", Compression::Off, String::new(), false),
        ("constructor", Compression::PerMessage, String::new(), false),
        (
            "permessage-deflate; server_max_window_bits=10",
            Compression::PerMessage,
            format!("{full}; server_max_window_bits=10"),
            false,
        ),
    ] {
        let headers = edited(&format!("+Sec-WebSocket-Extensions: {offered}"));
        let accept = judge(&headers).unwrap().accept(None, willing);
        let answered = accept.headers().find(|(name, _)| *name == "Sec-WebSocket-Extensions");
        assert_eq!(answered.map_or("", |(_, value)| value), answer);
        assert_eq!(accept.compression() == Compression::PerMessage, !answer.is_empty());
        assert_eq!(accept.shared_frames(), shared);
    }
    let headers = edited(
        "+Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9\n\
         +Sec-WebSocket-Extensions: permessage-deflate",
    );
    assert!(judge(&headers).unwrap().accept(None, Compression::PerMessage).shared_frames());
}

fn request() -> Vec<u8> {
    let mut head = String::from("GET /connect?a=b HTTP/1.1\r\n");
    for (name, value) in HEADERS {
        head.extend([name, ": ", value, "\r\n"]);
    }
    (head + "\r\n").into_bytes()
}

#[test]
fn a_request_is_read_the_same_however_it_is_cut() {
    let request = request();
    let glued = [&request[..], b"\x81\x80\x00\r\n\r\n\n"].concat();
    let (whole, length) = parse_request(&glued).unwrap().unwrap();
    assert_eq!((whole.method, whole.target, length), ("GET", "/connect?a=b", request.len()));
    assert!(check(whole.method, whole.version, whole.headers()).is_ok());
    for cut in 0..glued.len() {
        let mut reader = RequestReader::default();
        let early = reader.read(&glued[..cut]).unwrap();
        assert_eq!(early.is_some(), cut >= length, "cut at {cut}");
        assert_eq!(reader.read(&glued).unwrap(), Some((whole.clone(), length)));
    }
    let mut reader = RequestReader::default();
    let first = (0..=glued.len()).find(|end| reader.read(&glued[..*end]).unwrap().is_some());
    assert_eq!(first, Some(length));
}

#[test]
fn a_head_that_is_not_strict_http_is_refused() {
    let long = format!("GET / HTTP/1.1\r\nA: {}", "a".repeat(HEAD_BYTES_MAX));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(101));
    let enough = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(100));
    for (head, expected) in [
        ("GET / HTTP/1.1\nHost: a\n\n", Err((400, HeadError::Malformed))),
        ("GET / HTTP/1.1\r\nA: b\n\r\n", Err((400, HeadError::Malformed))),
        ("GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n", Err((400, HeadError::Malformed))),
        ("GET / HTTP/1.1\r\nA : b\r\n\r\n", Err((400, HeadError::Malformed))),
        ("GET / HTTP/1.1\r\nA: b\0\r\n\r\n", Err((400, HeadError::Malformed))),
        ("GET / HTTP/2.0\r\n\r\n", Err((400, HeadError::Malformed))),
        ("\r\n\r\n", Err((400, HeadError::Malformed))),
        ("\x16\x03\x01 TLS hello\r\n\r\n", Err((400, HeadError::Malformed))),
        (&long, Err((431, HeadError::TooLong { limit: HEAD_BYTES_MAX }))),
        (&many, Err((431, HeadError::TooManyHeaders { limit: 100 }))),
        (&enough, Ok(Some(100))),
        ("GET / HTTP/1.0\r\n\r\n", Ok(Some(0))),
        ("GET / HT", Ok(None)),
        ("", Ok(None)),
    ] {
        let outcome = parse_request(head.as_bytes())
            .map(|read| read.map(|(head, _)| head.headers().count()))
            .map_err(|error| (error.status(), error));
        assert_eq!(outcome, expected, "{}", &head[..head.len().min(40)]);
    }
}

#[test]
fn a_head_byte_by_byte_costs_linear_time() {
    let endless = [b"GET / HTTP/1.1\r\nA: ".to_vec(), vec![b'a'; 1 << 20]].concat();
    let mut reader = RequestReader::default();
    let mut refusal = |end: usize| reader.read(&endless[..end]).err().map(|error| (end, error));
    let refused = within(2, || (0..endless.len()).find_map(&mut refusal));
    assert_eq!(refused, Some((HEAD_BYTES_MAX, HeadError::TooLong { limit: HEAD_BYTES_MAX })));
}
