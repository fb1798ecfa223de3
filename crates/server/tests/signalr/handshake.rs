//! The handshake (C3): first, once, and answered before anything else.

use std::net::SocketAddr;

use duplex::{Options, Settings};
use duplex_websocket::Opcode;
use serde_json::{Value, json};

use crate::client::{Form, Hub, MANNERS, Manner, Way, text};
use crate::messages::{PACKED_PING, record, write};
use crate::options;
use crate::support::frames::{Incoming, fragments};
use crate::support::http::say;
use crate::support::{Levels, start};

const JSON: &str = r#"{"protocol":"json","version":1}"#;
const PACKED: &str = r#"{"protocol":"messagepack","version":1}"#;

fn begin(address: SocketAddr, (way, form): (Way, Form)) -> Hub {
    Hub::begin(address, Manner { way, form, ..Manner::default() })
}

fn ws(address: SocketAddr) -> Hub {
    begin(address, (Way::Ws, Form::Json))
}

fn invocation() -> Value {
    json!({ "type": 1, "invocationId": "x", "target": "nobody", "arguments": [] })
}

#[test]
fn every_spelling_of_it_is_understood() {
    let server = start(options());
    for text in [
        JSON,
        r#"{"version":1,"protocol":"json"}"#,
        r#" { "protocol" : "json" , "version" : 1 } "#,
        r#"{"protocol":"json","version":2}"#,
        r#"{"protocol":"json","version":1,"minorVersion":7,"extra":{"a":[1]}}"#,
        "{\"protocol\":\"json\",\r\n\"version\":1}",
        r#"{"protocol":"js\u006fn","version":1}"#,
    ] {
        for (way, form) in MANNERS {
            if form == Form::Json {
                let mut hub = begin(server.address, (way, form));
                hub.say_text(text);
                assert_eq!(hub.handshake(), "{}", "{text}");
                hub.is_well();
            }
        }
    }
    for version in [1, 2] {
        for way in [Way::Ws, Way::Poll] {
            let mut hub = begin(server.address, (way, Form::Packed));
            hub.say_text(&json!({ "protocol": "messagepack", "version": version }).to_string());
            assert_eq!(hub.handshake(), "{}");
            hub.is_well();
        }
    }
}

#[test]
fn it_may_come_in_text_or_in_bytes() {
    let server = start(options());
    for (protocol, form) in [(JSON, Form::Json), (PACKED, Form::Packed)] {
        for opcode in [Opcode::Text, Opcode::Binary] {
            let mut hub = begin(server.address, (Way::Ws, form));
            hub.down.send_frame(opcode, &record(protocol));
            assert_eq!(hub.handshake(), "{}", "{form:?} {opcode:?}");
            hub.is_well();
        }
    }
}

#[test]
fn it_may_be_cut_anywhere() {
    let server = start(options());
    let bytes = record(JSON);
    for at in 1..bytes.len() {
        let mut hub = ws(server.address);
        hub.down.send_frame(Opcode::Text, &bytes[..at]);
        hub.down.send_frame(Opcode::Text, &bytes[at..]);
        assert_eq!(hub.handshake(), "{}", "cut at {at}");
        hub.is_well();
    }
    for manner in MANNERS {
        let mut hub = begin(server.address, manner);
        let bytes = record(if manner.1 == Form::Json { JSON } else { PACKED });
        for byte in &bytes {
            match manner.0 {
                Way::Ws => hub.down.send_frame(Opcode::Binary, &[*byte]),
                _ => assert_eq!(hub.post(&[*byte]).status, 200),
            }
        }
        assert_eq!(hub.handshake(), "{}", "{manner:?}");
        hub.is_well();
    }
    let mut hub = ws(server.address);
    hub.down.send(&fragments(0x01, &[&bytes[..4], b"", &bytes[4..9], &bytes[9..]]));
    assert_eq!(hub.handshake(), "{}");
    hub.is_well();
}

#[test]
fn messages_may_stand_behind_it_in_the_same_piece() {
    let server = start(options());
    for manner in MANNERS {
        let mut hub = begin(server.address, manner);
        let protocol = if manner.1 == Form::Json { JSON } else { PACKED };
        let bytes =
            [record(protocol), write(manner.1, &json!({ "type": 6 })), write(manner.1, &invocation())]
                .concat();
        hub.checker.said(&invocation());
        match manner.0 {
            Way::Ws => hub.down.send_frame(Opcode::Binary, &bytes),
            _ => assert_eq!(hub.post(&bytes).status, 200),
        }
        // The answer may share its piece with the messages behind it, but comes first.
        let first = hub.payload().expect("an answer");
        let rest = first.strip_prefix(b"{}\x1e").unwrap_or_else(|| panic!("{manner:?}: {first:02x?}"));
        let completion = match rest {
            [] => hub.completion("x"),
            rest => crate::messages::read(manner.1, rest).pop().expect("a message"),
        };
        assert_eq!(completion["invocationId"], "x", "{completion}");
    }
}

#[test]
fn a_cut_message_behind_it_is_not_lost() {
    let server = start(options());
    for form in [Form::Json, Form::Packed] {
        let message = write(form, &invocation());
        for at in 0..message.len() {
            let mut hub = begin(server.address, (Way::Ws, form));
            let protocol = if form == Form::Json { JSON } else { PACKED };
            hub.checker.said(&invocation());
            hub.down.send_frame(Opcode::Binary, &[&record(protocol)[..], &message[..at]].concat());
            assert_eq!(hub.handshake(), "{}");
            hub.down.send_frame(Opcode::Binary, &message[at..]);
            hub.completion("x");
        }
    }
}

#[test]
fn what_is_not_spoken_is_refused_in_the_words_that_clients_know() {
    let server = start(options());
    for (request, error) in [
        (r#"{"protocol":"xml","version":1}"#, "The protocol 'xml' is not supported."),
        (r#"{"protocol":"","version":1}"#, "The protocol '' is not supported."),
        (r#"{"protocol":"a\"b","version":1}"#, "The protocol 'a\"b' is not supported."),
        (
            r#"{"protocol":"json","version":3}"#,
            "The server does not support version 3 of the 'json' protocol.",
        ),
        (
            r#"{"protocol":"messagepack","version":99}"#,
            "The server does not support version 99 of the 'messagepack' protocol.",
        ),
    ] {
        for (way, form) in MANNERS {
            if form == Form::Packed {
                continue;
            }
            let mut hub = begin(server.address, (way, form));
            hub.say_text(request);
            let answer: Value = serde_json::from_str(&hub.handshake()).expect("JSON");
            if way == Way::Sse && request.contains("messagepack") {
                assert!(answer["error"].is_string(), "{answer}");
            } else {
                assert_eq!(answer, json!({ "error": error }), "{request}");
            }
            hub.is_over();
            hub.is_gone();
        }
    }
    server.settle(Levels::of(0, 0));
}

#[test]
fn what_is_no_handshake_is_refused_and_the_connection_ends() {
    let server = start(options());
    let rows: [&[u8]; 22] = [
        b"nonsense",
        b"",
        b"{}",
        b"[]",
        b"null",
        b"7",
        b"\"json\"",
        br#"{"protocol":"json"}"#,
        br#"{"version":1}"#,
        br#"{"protocol":7,"version":1}"#,
        br#"{"protocol":null,"version":1}"#,
        br#"{"protocol":"json","version":"1"}"#,
        br#"{"protocol":"json","version":1.5}"#,
        br#"{"protocol":"json","version":-1}"#,
        br#"{"protocol":"json","version":99999999999999999999}"#,
        br#"{"protocol":"json","version":1"#,
        br#"{"protocol":"json","version":1}}"#,
        br#"{"type":1,"target":"a","arguments":[]}"#,
        br#"{"type":6}"#,
        b"\xff\xfe",
        b"\x91\x06",
        br#"{"protocol":{"a":[[[[]]]]},"version":1}"#,
    ];
    for row in rows {
        for way in [Way::Ws, Way::Sse, Way::Poll] {
            let mut hub = begin(server.address, (way, Form::Json));
            let bytes = [row, b"\x1e"].concat();
            match way {
                Way::Ws => hub.down.send_frame(Opcode::Binary, &bytes),
                _ => assert_eq!(hub.post(&bytes).status, 200),
            }
            let answer = hub.handshake();
            let object: Value = serde_json::from_str(&answer).expect("JSON");
            assert!(text(&object, "error").len() > 10, "{answer}");
            assert_eq!(object.as_object().map(|keys| keys.len()), Some(1), "{answer}");
            hub.is_over();
        }
    }
    server.settle(Levels::of(0, 0));
}

#[test]
fn a_handshake_without_an_end_is_not_read_for_ever() {
    let settings = Settings { connect_ms: 500, ..options().settings };
    let server = start(Options { settings, first_message_bytes: 2_000, ..options() });
    for manner in MANNERS {
        // It says all but the end, and is waited for in vain.
        let mut hub = begin(server.address, manner);
        match manner.0 {
            Way::Ws => hub.down.send_frame(Opcode::Text, JSON.as_bytes()),
            _ => assert_eq!(hub.post(JSON.as_bytes()).status, 200),
        }
        assert_eq!(hub.handshake(), r#"{"error":"Handshake was canceled."}"#);
        hub.is_over();
        hub.is_gone();
    }
    // It never comes to an end.
    let mut hub = ws(server.address);
    for _ in 0..4 {
        hub.down.send_frame(Opcode::Text, &[b' '; 1_000]);
    }
    while let Some(payload) = hub.payload() {
        assert!(payload.starts_with(b"{\"error\":\""), "{payload:?}");
    }
    drop(hub);
    server.settle(Levels::of(0, 0));
}

#[test]
fn a_server_that_stops_says_nothing_to_who_has_said_nothing() {
    let server = start(options());
    let mut hubs = MANNERS.map(|manner| begin(server.address, manner));
    std::thread::scope(|scope| {
        let stopping = scope.spawn(|| server.stop());
        for hub in &mut hubs {
            hub.is_over();
        }
        stopping.join().expect("it stops");
    });
}

#[test]
fn who_says_nothing_is_told_that_time_is_over() {
    let settings = Settings { connect_ms: 300, ..options().settings };
    let server = start(Options { settings, ..options() });
    for manner in MANNERS {
        let mut hub = begin(server.address, manner);
        assert_eq!(hub.handshake(), r#"{"error":"Handshake was canceled."}"#, "{manner:?}");
        hub.is_over();
        hub.is_gone();
    }
    server.settle(Levels::of(0, 0));
}

#[test]
fn nothing_comes_before_the_answer() {
    let settings = Settings { heartbeat_ms: 50, pong_ms: 300_000, ..options().settings };
    let server = start(Options { settings, ..options() });
    for (way, form) in MANNERS {
        let manner = Manner { way, form, query: "&channels=news", ..Manner::default() };
        let mut hub = Hub::begin(server.address, manner);
        for round in 0..20 {
            say(server.address, "news", &round.to_string());
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        hub.shake_hands(1);
        say(server.address, "news", "behind");
        let mut last = hub.event("message");
        while last != json!(["behind"]) {
            last = hub.event("message");
        }
    }
}

#[test]
fn a_second_handshake_is_no_message() {
    let server = start(options());
    let mut hub = Hub::open(server.address);
    hub.say_text(JSON);
    let message = hub.close_message();
    assert!(text(&message, "error").starts_with("Connection closed with an error."), "{message}");
}

#[test]
fn a_client_that_leaves_before_it_has_shaken_hands_leaves_nothing() {
    let server = start(options());
    for manner in MANNERS {
        let mut hub = begin(server.address, manner);
        hub.leave();
        let hub = begin(server.address, manner);
        hub.down.reset();
    }
    let mut hub = ws(server.address);
    hub.down.send_frame(Opcode::Close, b"");
    assert!(matches!(hub.down.next(), Incoming::Close(..)));
    // One that polls is waited for.
    crate::support::eventually(|| "those on sockets are gone".to_owned(), || server.gauges().sessions() <= 2);
}

#[test]
fn javascript_pings_at_once_and_is_not_answered() {
    let server = start(options());
    for form in [Form::Json, Form::Packed] {
        let mut hub = Hub::open_by(server.address, (Way::Ws, form));
        hub.say(if form == Form::Json { b"{\"type\":6}\x1e" } else { &PACKED_PING });
        hub.is_well();
        assert_eq!(hub.pings, 0);
    }
}
