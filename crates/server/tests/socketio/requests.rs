//! Requests for a session: what each is answered, the first of an Engine.IO session above all.

use duplex::{Options, Origin, Settings};
use duplex_websocket::Limits;

use crate::client::{ECHO, IO, IO_WS, Polled, UNKNOWN_SESSION, ask, handshake, once, send, sid, upgrade};
use crate::options;
use crate::support::frames::Incoming;
use crate::support::http::Response;
use crate::support::wire::{Fill, UPGRADE, Wire};
use crate::support::{Running, start};

const PAGE: &str = "http://app.example";
/// Both protocols stand on the same layer.
const DOORS: [&str; 2] = ["/engine.io/", "/socket.io/"];
/// Of the form of a session's name, and nobody's.
const NOBODY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

const TRANSPORT: &str = r#"{"code":0,"message":"Transport unknown"}"#;
const SESSION: &str = UNKNOWN_SESSION;
const METHOD: &str = r#"{"code":2,"message":"Bad handshake method"}"#;
const BAD: &str = r#"{"code":3,"message":"Bad request"}"#;
const VERSION: &str = r#"{"code":5,"message":"Unsupported protocol version"}"#;

/// A server where the pages of one foreign origin are guests.
fn hospitable() -> Running {
    let allowed: Origin = PAGE.parse().expect("an origin");
    start(Options { allowed_origins: vec![allowed], ..options() })
}

/// Of what is wrong with a request, the first counts.
const REFUSED: [(&str, &str, &str); 34] = [
    ("GET", "", TRANSPORT),
    ("GET", "?EIO=4", TRANSPORT),
    ("GET", "?EIO=4&transport=", TRANSPORT),
    ("GET", "?EIO=4&transport=abc", TRANSPORT),
    ("GET", "?EIO=4&transport=Polling", TRANSPORT),
    ("GET", "?EIO=4&transport=webtransport", TRANSPORT),
    ("GET", "?EIO=4&transport=__proto__", TRANSPORT),
    ("GET", "?EIO=4&transport=constructor", TRANSPORT),
    ("GET", "?EIO=4&transport=flashsocket", TRANSPORT),
    ("POST", "?EIO=4&transport=abc", TRANSPORT),
    ("GET", "?EIO=3&transport=abc&sid=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", TRANSPORT),
    ("GET", "?EIO=4&transport=polling&sid=abc", SESSION),
    ("GET", "?EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", SESSION),
    ("GET", "?EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAQ", SESSION),
    ("GET", "?EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA_w", SESSION),
    ("GET", "?EIO=4&transport=polling&sid=__proto__", SESSION),
    ("GET", "?EIO=4&transport=polling&sid=%00", SESSION),
    ("POST", "?EIO=4&transport=polling&sid=abc", SESSION),
    ("PUT", "?EIO=4&transport=polling&sid=abc", SESSION),
    ("GET", "?EIO=4&transport=websocket&sid=abc", SESSION),
    ("GET", "?EIO=3&transport=polling&sid=abc", SESSION),
    ("POST", "?EIO=4&transport=polling", METHOD),
    ("PUT", "?EIO=4&transport=polling", METHOD),
    ("DELETE", "?EIO=4&transport=polling", METHOD),
    ("OPTIONS", "?EIO=4&transport=polling", METHOD),
    ("POST", "?EIO=3&transport=polling", METHOD),
    ("POST", "?EIO=4&transport=websocket", METHOD),
    ("GET", "?EIO=4&transport=websocket", BAD),
    ("GET", "?EIO=3&transport=websocket", BAD),
    ("GET", "?EIO=3&transport=polling", VERSION),
    ("GET", "?transport=polling", VERSION),
    ("GET", "?EIO=abc&transport=polling", VERSION),
    ("GET", "?EIO=99&transport=polling", VERSION),
    ("GET", "?EIO=44&transport=polling", VERSION),
];

#[test]
fn a_request_that_cannot_be_is_refused_with_the_code_of_what_is_wrong_and_a_page_may_read_it() {
    let server = hospitable();
    for door in DOORS {
        let mut wire = Wire::connect(server.address);
        for (method, query, body) in REFUSED {
            send(&mut wire, method, &format!("{door}{query}"), &format!("Origin: {PAGE}\r\n"), b"");
            let response = wire.response().expect("an answer");
            assert_eq!((response.status, &*response.body), (400, body), "{method} {door}{query}");
            for (name, value) in [
                ("content-type", "application/json"),
                ("access-control-allow-origin", PAGE),
                ("vary", "origin"),
                ("x-content-type-options", "nosniff"),
            ] {
                assert_eq!(response.header(name), Some(value), "{method} {door}{query}: {response:?}");
            }
            assert_eq!(response.header("set-cookie"), None);
        }
    }
    assert_eq!(server.gauges().sessions(), 0, "nothing was begun");
}

#[test]
fn a_session_is_not_begun_by_asking_for_its_head() {
    let server = start(options());
    for door in DOORS {
        let mut wire = Wire::connect(server.address);
        send(&mut wire, "HEAD", &format!("{door}?EIO=4&transport=polling"), "", b"");
        let (head, length) = loop {
            assert_eq!(wire.fill(), Fill::More, "an answer");
            if let Some(taken) = Response::take_head(wire.unread()) {
                break taken;
            }
        };
        wire.unread().drain(..length);
        assert_eq!(head.status, 400, "{head:?}");
        // The next answer begins right behind the head.
        assert_eq!(ask(&mut wire, "GET", door, b"").body, TRANSPORT);
    }
    assert_eq!(server.gauges().sessions(), 0);
}

#[test]
fn a_page_that_may_not_connect_is_forbidden_to_whatever_it_asks() {
    let server = hospitable();
    for origin in
        ["http://evil.example", "null", "http://app.example:81", "http://app.ex\u{e4}mple", "\u{1f600}"]
    {
        for (method, query) in [
            ("GET", "?EIO=4&transport=polling"),
            ("POST", "?EIO=4&transport=polling&sid=abc"),
            ("GET", "?EIO=4&transport=abc"),
            ("OPTIONS", ""),
        ] {
            for door in DOORS {
                let mut wire = Wire::connect(server.address);
                send(&mut wire, method, &format!("{door}{query}"), &format!("Origin: {origin}\r\n"), b"");
                let response = wire.response().expect("an answer");
                assert_eq!(response.status, 403, "{method} {door}{query} from {origin}: {response:?}");
                assert_eq!(response.header("access-control-allow-origin"), None);
            }
        }
        let (_, response) = upgrade(server.address, IO_WS, &format!("Origin: {origin}\r\n"));
        assert_eq!(response.status, 403, "{origin}: {response:?}");
    }
    assert_eq!(server.gauges().sessions(), 0);
}

#[test]
fn a_guest_page_may_ask_first_and_then_read_what_it_gets() {
    let server = hospitable();
    for door in DOORS {
        let mut wire = Wire::connect(server.address);
        let headers = format!(
            "Origin: {PAGE}\r\nAccess-Control-Request-Method: POST\r\n\
             Access-Control-Request-Headers: authorization\r\n"
        );
        send(&mut wire, "OPTIONS", &format!("{door}?EIO=4&transport=polling"), &headers, b"");
        let preflight = wire.response().expect("an answer");
        assert_eq!((preflight.status, &*preflight.body), (204, ""), "{preflight:?}");
        assert_eq!(preflight.header("access-control-allow-methods"), Some("GET, POST"));
        assert!(
            preflight.header("access-control-allow-headers").is_some_and(|it| it.contains("authorization"))
        );
        assert_eq!(preflight.header("access-control-allow-origin"), Some(PAGE));

        let origin = format!("Origin: {PAGE}\r\n");
        let target = format!("{door}?EIO=4&transport=polling");
        send(&mut wire, "GET", &target, &origin, b"");
        let opened = wire.response().expect("an answer");
        assert_eq!(opened.header("access-control-allow-origin"), Some(PAGE), "{opened:?}");
        let session = format!("{target}&sid={}", sid(&opened.body));
        for (method, body) in [("POST", &b"1"[..]), ("GET", b"")] {
            send(&mut wire, method, &session, &origin, body);
            let response = wire.response().expect("an answer");
            assert_eq!(response.header("access-control-allow-origin"), Some(PAGE), "{method}: {response:?}");
        }
    }
}

#[test]
fn what_a_poll_brings_a_guest_page_may_read_too() {
    let server = hospitable();
    let mut client = Polled::open(server.address, ECHO);
    client.say("4hello");
    let mut wire = Wire::connect(server.address);
    send(&mut wire, "GET", &client.target, &format!("Origin: {PAGE}\r\n"), b"");
    let polled = wire.response().expect("an answer");
    assert_eq!((polled.status, &*polled.body), (200, "4hello"));
    assert_eq!(polled.header("access-control-allow-origin"), Some(PAGE), "{polled:?}");
}

#[test]
fn a_websocket_that_cannot_be_is_refused_in_plain_words_and_closed() {
    let server = start(options());
    let no_key =
        "Host: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n";
    let old = UPGRADE.replace("Version: 13", "Version: 8");
    let nobodys = format!("?EIO=4&transport=websocket&sid={NOBODY}");
    for (method, query, headers, message) in [
        ("GET", "", UPGRADE, "Transport unknown"),
        ("GET", "?EIO=4&transport=abc", UPGRADE, "Transport unknown"),
        ("GET", "?EIO=4&transport=webtransport", UPGRADE, "Transport unknown"),
        ("GET", &nobodys, UPGRADE, "Session ID unknown"),
        ("GET", "?EIO=4&transport=websocket&sid=abc", UPGRADE, "Session ID unknown"),
        ("POST", "?EIO=4&transport=websocket", UPGRADE, "Bad handshake method"),
        ("GET", "?EIO=3&transport=websocket", UPGRADE, "Unsupported protocol version"),
        ("GET", "?EIO=abc&transport=websocket", UPGRADE, "Unsupported protocol version"),
        ("GET", "?transport=websocket", UPGRADE, "Unsupported protocol version"),
        ("GET", "?EIO=4&transport=websocket", no_key, "Bad request"),
        ("GET", "?EIO=4&transport=websocket", &old, "Bad request"),
    ] {
        for door in DOORS {
            let mut wire = Wire::connect(server.address);
            wire.send(format!("{method} {door}{query} HTTP/1.1\r\n{headers}\r\n").as_bytes());
            let response = wire.response().expect("an answer");
            assert_eq!((response.status, &*response.body), (400, message), "{method} {door}{query}");
            assert_eq!(response.header("content-type"), Some("text/html"), "{response:?}");
            assert_eq!(response.header("connection"), Some("close"), "{response:?}");
            wire.wait_for_end();
            assert!(wire.unread().is_empty(), "nothing follows");
        }
    }
    assert_eq!(server.gauges().sessions(), 0);
}

#[test]
fn a_session_begins_at_every_spelling_of_its_path() {
    let server = start(options());
    for path in
        ["/socket.io", "/socket.io/", "/socket.io/anything", "/socket.io/a/b", "/engine.io", "/engine.io/x"]
    {
        let opened = once(server.address, "GET", &format!("{path}?EIO=4&transport=polling&t=abc&b64=1"), b"");
        assert_eq!(opened.status, 200, "{path}: {opened:?}");
        let sid = sid(&opened.body);
        let target = format!("{path}?EIO=4&transport=polling&sid={sid}");
        assert_eq!(once(server.address, "POST", &target, b"1").body, "ok", "{path}");
        let mut wire = Wire::websocket(server.address, &format!("{path}?EIO=4&transport=websocket"), "");
        handshake(&wire.text());
    }
    let elsewhere = once(server.address, "GET", "/socket.iox?EIO=4&transport=polling", b"");
    assert_eq!(elsewhere.status, 404, "{elsewhere:?}");
}

#[test]
fn the_client_is_not_served_and_it_is_said_where_it_is() {
    let server = start(options());
    for name in ["", ".min", ".msgpack.min", ".esm.min"] {
        for end in ["js", "js.map"] {
            for query in ["", "?EIO=4&transport=polling"] {
                let path = format!("/socket.io/socket.io{name}.{end}{query}");
                let response = once(server.address, "GET", &path, b"");
                assert_eq!(response.status, 404, "{path}: {response:?}");
                assert!(response.body.contains("socket.io-client"), "{path}: {response:?}");
            }
        }
    }
    assert_eq!(server.gauges().sessions(), 0);
}

#[test]
fn a_session_opens_with_five_keys_and_the_times_and_sizes_that_are_set() {
    let settings = Settings { heartbeat_ms: 300, pong_ms: 200, ..options().settings };
    let websocket = Limits { message_bytes: 1_000_000, ..Limits::default() };
    let server = start(Options { settings, websocket, ..options() });
    let expected = |sid: &str, upgrades: &str| {
        format!(
            r#"0{{"sid":"{sid}","upgrades":[{upgrades}],"pingInterval":300,"pingTimeout":200,"maxPayload":1000000}}"#
        )
    };
    let mut seen = Vec::new();
    for door in DOORS {
        let opened = once(server.address, "GET", &format!("{door}?EIO=4&transport=polling"), b"");
        let polled = sid(&opened.body);
        assert_eq!(opened.body, expected(&polled, r#""websocket""#));
        let length = opened.body.len().to_string();
        for (name, value) in [
            ("content-type", Some("text/plain; charset=UTF-8")),
            ("content-length", Some(&*length)),
            ("cache-control", Some("no-store")),
            ("set-cookie", None),
            ("access-control-allow-origin", None),
        ] {
            assert_eq!(opened.header(name), value, "{opened:?}");
        }
        let target = format!("{door}?EIO=4&transport=websocket");
        let (mut wire, switched) = upgrade(server.address, &target, "");
        assert_eq!((switched.status, switched.header("set-cookie")), (101, None), "{switched:?}");
        let first = wire.text();
        assert_eq!(first, expected(&sid(&first), ""));
        seen.extend([polled, sid(&first)]);
    }
    for sid in &seen {
        assert!(
            sid.len() >= 20 && sid.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)),
            "{sid}"
        );
        assert_eq!(seen.iter().filter(|other| *other == sid).count(), 1, "each has its own: {seen:?}");
    }
}

#[test]
fn a_session_that_began_on_a_websocket_cannot_be_polled() {
    let server = start(options());
    let mut wire = Wire::websocket(server.address, IO_WS, "");
    let target = format!("{IO}&sid={}", sid(&wire.text()));
    for (method, body) in [("GET", &b""[..]), ("POST", b"41"), ("POST", b"1")] {
        let response = once(server.address, method, &target, body);
        assert_eq!(response.status, 400, "{method}: {response:?}");
    }
    let (mut other, response) = upgrade(server.address, &target.replace("polling", "websocket"), "");
    assert!(response.status == 400 || other.until_end().is_empty(), "{response:?}");
    wire.send_text("40");
    let connected = wire.next();
    assert!(matches!(&connected, Incoming::Text(text) if text.starts_with("40{")), "{connected:?}");
}

#[test]
fn a_script_of_another_page_is_never_an_answer() {
    let server = start(options());
    for callback in ["0", "alert(1)", ""] {
        let target = format!("{ECHO}&j={callback}");
        let response = once(server.address, "GET", &target, b"");
        assert_eq!((response.status, &*response.body), (400, BAD), "{callback}");
        assert_eq!(response.header("x-content-type-options"), Some("nosniff"), "{response:?}");
    }
    assert_eq!(server.gauges().sessions(), 0);
}
