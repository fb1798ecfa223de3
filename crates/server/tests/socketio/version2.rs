//! Clients of Socket.IO 2: Engine.IO 3 below and Socket.IO 4 above, where the server lets them in.

use std::net::SocketAddr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use duplex::{Namespace, Options, Settings, SocketIo, Version2};
use duplex_websocket::Opcode;
use serde_json::json;

use crate::client::{
    BAD_REQUEST, Polled, UNKNOWN_SESSION, ask, binary, is_closed, once, send, text, upgrade,
};
use crate::options;
use crate::support::frames::Incoming;
use crate::support::http::say;
use crate::support::tokens::{closed, token, token_with};
use crate::support::wire::Wire;
use crate::support::{Levels, eventually, start};

const ECHO: &str = "/engine.io/?EIO=3&transport=polling";
const ECHO_WS: &str = "/engine.io/?EIO=3&transport=websocket";
const IO: &str = "/socket.io/?EIO=3&transport=polling&b64=1";
const IO_WS: &str = "/socket.io/?EIO=3&transport=websocket";

/// Lets them in.
fn lenient(options: Options) -> Options {
    Options { socketio: SocketIo { version_2: Version2::Allowed, ..options.socketio }, ..options }
}

/// Packets of a body, by their lengths in UTF-16 units.
fn packets(body: &str) -> Vec<String> {
    let units: Vec<u16> = body.encode_utf16().collect();
    let (mut packets, mut at) = (Vec::new(), 0);
    while at < units.len() {
        let colon = at + units[at..].iter().position(|unit| *unit == u16::from(b':')).expect("a length");
        let length: usize = String::from_utf16(&units[at..colon]).expect("digits").parse().expect("a number");
        let packet = String::from_utf16(&units[colon + 1..colon + 1 + length]).expect("whole characters");
        packets.push(packet);
        at = colon + 1 + length;
    }
    packets
}

/// A body of one packet.
fn body(packet: &str) -> String {
    format!("{}:{packet}", packet.encode_utf16().count())
}

/// A client whose session is polled; gives the packets of its first answer, too.
fn polled(address: SocketAddr, target: &str) -> (Polled, Vec<String>) {
    let opened = once(address, "GET", target, b"");
    assert_eq!(opened.status, 200, "{opened:?}");
    assert_eq!(opened.header("content-type"), Some("text/plain; charset=UTF-8"));
    let packets = packets(&opened.body);
    let sid = crate::client::sid(&packets[0]);
    (Polled::resume(address, &format!("{target}&sid={sid}"), &sid), packets)
}

/// Brings packets with their lengths.
fn say_to(client: &mut Polled, packets: &[&str]) {
    client.say(&packets.iter().map(|packet| body(packet)).collect::<String>());
}

/// Polls until so many packets have come.
fn from(client: &mut Polled, count: usize) -> Vec<String> {
    let mut all = Vec::new();
    while all.len() < count {
        all.extend(packets(&client.poll()));
    }
    assert_eq!(all.len(), count, "{all:?}");
    all
}

/// A client on a WebSocket that is in `/`.
fn connected(address: SocketAddr, query: &str) -> Wire {
    let mut wire = Wire::websocket(address, &format!("{IO_WS}{query}"), "");
    assert!(wire.text().starts_with("0{"));
    assert_eq!(wire.text(), "40", "without asking, and without a payload");
    wire
}

#[test]
fn they_are_refused_where_they_are_not_let_in() {
    let server = start(options());
    for target in [ECHO, IO, "/socket.io/?transport=polling", "/socket.io/?EIO=2&transport=polling"] {
        let refused = once(server.address, "GET", target, b"");
        let expected = r#"{"code":5,"message":"Unsupported protocol version"}"#;
        assert_eq!((refused.status, &*refused.body), (400, expected), "{target}");
        assert_eq!(refused.header("content-type"), Some("application/json"));
    }
    for target in [ECHO_WS, IO_WS] {
        let (mut wire, refused) = upgrade(server.address, target, "");
        assert_eq!((refused.status, &*refused.body), (400, "Unsupported protocol version"));
        wire.wait_for_end();
    }
    assert_eq!(server.gauges().sessions(), 0);
}

#[test]
fn scripts_are_no_answers_for_them_either() {
    let server = start(lenient(options()));
    let (client, _) = polled(server.address, ECHO);
    for target in [format!("{ECHO}&j=0"), format!("{}&j=1", client.target)] {
        let refused = once(server.address, "GET", &target, b"");
        assert_eq!((refused.status, &*refused.body), (400, BAD_REQUEST), "{target}");
        assert_eq!(refused.header("x-content-type-options"), Some("nosniff"));
    }
    let mut client = client;
    say_to(&mut client, &["4alive"]);
    assert_eq!(client.poll(), "6:4alive");
}

#[test]
fn a_session_opens_with_lengths_and_the_client_is_in_the_root_at_once() {
    let settings = Settings { heartbeat_ms: 300, pong_ms: 200, ..options().settings };
    let server = start(lenient(Options { settings, ..options() }));
    let (client, first) = polled(server.address, ECHO);
    let expected = format!(
        r#"0{{"sid":"{}","upgrades":["websocket"],"pingInterval":300,"pingTimeout":200,"maxPayload":65536}}"#,
        client.sid
    );
    assert_eq!(first, [expected]);
    let (mut client, mut first) = polled(server.address, IO);
    if first.len() == 1 {
        first.extend(from(&mut client, 1));
    }
    assert_eq!(first[1..], ["40"]);
    connected(server.address, "");
}

#[test]
fn lengths_count_as_javascript_counts() {
    let server = start(lenient(options()));
    let (mut client, _) = polled(server.address, ECHO);
    for body in [
        "6:4hello",
        "1:4",
        "2:4a2:4b2:4c",
        "2:4\u{20ac}",
        "3:4\u{1f600}",
        "5:4\u{1f600}\u{e9}x3:4:2",
        "10:b4AQIDBA==",
        "2:4a10:b4AQIDBA==2:4b",
        "2:b42:4x",
    ] {
        client.say(body);
        let count = packets(body).len();
        assert_eq!(from(&mut client, count), packets(body), "{body}");
    }
}

#[test]
fn a_body_of_bytes_is_read_too() {
    let server = start(lenient(options()));
    let (mut client, _) = polled(server.address, ECHO);
    let mut wire = client.wire();
    let body = b"\x00\x06\xff4hello\x01\x05\xff\x04\x01\x02\x03\x04\x00\x04\xff4\xe2\x82\xac";
    send(&mut wire, "POST", &client.target, "Content-Type: application/octet-stream\r\n", body);
    assert_eq!(wire.response().map(|response| response.body).as_deref(), Some("ok"));
    assert_eq!(from(&mut client, 3), ["4hello", "b4AQIDBA==", "4\u{20ac}"]);
}

#[test]
fn a_body_whose_lengths_are_wrong_ends_the_session() {
    let server = start(lenient(options()));
    let bytes = "Content-Type: application/octet-stream\r\n";
    let many = "1:4".repeat(20_000);
    let rows: [(&str, &[u8]); 20] = [
        ("", b""),
        ("", b"4hello"),
        ("", b":4hello"),
        ("", b"x:4hello"),
        ("", b"-1:4hello"),
        ("", b"9:4hello"),
        ("", b"99999999999999999999:4hello"),
        ("", b"0:"),
        ("", b"6:4hello1"),
        ("", b"2:4\xf0\x9f\x98\x80"),
        ("", b"3:abc"),
        ("", b"5:b5AQ="),
        ("", b"6:b4!!!!"),
        ("", many.as_bytes()),
        (bytes, b"6:4hello"),
        (bytes, b"\x00\xff"),
        (bytes, b"\x00\x09\xff4"),
        (bytes, b"\x00\x09\x09\x09\x09\x09\x09\x09\x09\x09\x09\x09\xff4"),
        (bytes, b"\x01\x02\xff\x05\x01"),
        (bytes, b"\x02\x01\xff4"),
    ];
    for (headers, body) in rows {
        let (mut client, _) = polled(server.address, ECHO);
        let mut wire = client.wire();
        send(&mut wire, "POST", &client.target, headers, body);
        let response = wire.response().expect("an answer");
        assert_eq!(response.status, 400, "{:?}", String::from_utf8_lossy(&body[..body.len().min(30)]));
        client.is_gone();
    }
    server.settle(Levels::of(0, 0));
}

#[test]
fn clients_ping_and_are_answered_on_every_transport() {
    let server = start(lenient(options()));
    let (mut client, _) = polled(server.address, ECHO);
    say_to(&mut client, &["2"]);
    assert_eq!(client.poll(), "1:3");
    let mut wire = client.websocket();
    wire.send_text("2probe");
    assert_eq!(wire.text(), "3probe");
    assert_eq!(client.poll(), "1:6");
    wire.send_text("5");
    for _ in 0..3 {
        wire.send_text("2");
        assert_eq!(wire.text(), "3");
    }
    wire.send_text("4over here");
    assert_eq!(wire.text(), "4over here");
}

#[test]
fn who_does_not_ping_is_closed_and_who_does_is_not() {
    let settings = Settings { heartbeat_ms: 400, pong_ms: 400, ..options().settings };
    let server = start(lenient(Options { settings, ..options() }));
    let mut silent = connected(server.address, "");
    let (mut forgotten, _) = polled(server.address, ECHO);
    let mut patient = connected(server.address, "");
    let pinging = std::thread::spawn(move || {
        // Nothing but pings and pongs, for longer than the others are given.
        for _ in 0..30 {
            patient.send_text("2");
            assert_eq!(patient.text(), "3");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        patient
    });
    is_closed(&mut silent);
    let patient = pinging.join().expect("it is never closed");
    forgotten.is_gone();
    drop((silent, patient, forgotten));
    server.settle(Levels::of(0, 0));
}

#[test]
fn binary_messages_begin_with_their_type() {
    let server = start(lenient(options()));
    let mut wire = Wire::websocket(server.address, ECHO_WS, "");
    wire.text();
    for payload in [&b"\x04\x01\x02"[..], b"\x04", b"\x04\x04\x00"] {
        wire.send_frame(Opcode::Binary, payload);
        assert_eq!(wire.next(), binary(payload));
    }
    for payload in [&b""[..], b"\x01\x02", b"4text"] {
        let mut wire = Wire::websocket(server.address, ECHO_WS, "");
        wire.text();
        wire.send_frame(Opcode::Binary, payload);
        is_closed(&mut wire);
    }
}

#[test]
fn events_acks_and_attachments_are_those_of_newer_clients() {
    let server = start(lenient(options()));
    let mut wire = connected(server.address, "");
    wire.send_text(r#"420["$subscribe","news"]"#);
    assert!(wire.text().starts_with(r#"430[{"channel":"news""#));
    let (mut client, mut first) = polled(server.address, IO);
    if first.len() == 1 {
        first.extend(from(&mut client, 1));
    }
    say_to(&mut client, &[r#"420["$subscribe","news"]"#]);
    assert!(from(&mut client, 1)[0].starts_with("430["));
    say(server.address, "news", "h\u{e9}\u{1f600}");
    let event = "42[\"message\",\"h\u{e9}\u{1f600}\"]";
    assert_eq!(wire.text(), event);
    assert_eq!(client.poll(), body(event));

    say_to(&mut client, &[r#"451-["$publish","news","pic",{"_placeholder":true,"num":0}]"#, "b4AQID"]);
    let head = r#"451-["pic",{"_placeholder":true,"num":0}]"#;
    assert_eq!([wire.next(), wire.next()], [text(head), binary(&[4, 1, 2, 3])]);
    assert_eq!(client.poll(), format!("{}{}", body(head), body(&format!("b4{}", BASE64.encode([1, 2, 3])))));
    wire.send_text(r#"451-["$publish","news","pic",{"_placeholder":true,"num":0}]"#);
    wire.send_frame(Opcode::Binary, &[4, 9]);
    assert_eq!([wire.next(), wire.next()], [text(head), binary(&[4, 9])]);
}

#[test]
fn a_namespace_is_connected_to_with_a_query_and_answered_without() {
    let mut options = lenient(Options { settings: options().settings, ..closed() });
    options.namespaces.insert("chat".to_owned(), Namespace::default());
    let server = start(options);
    let alice = token_with("alice", &json!({ "channels": ["chat:mine"] }));
    let mut wire = connected(server.address, "");
    for (packet, answer) in [
        ("40/random,".to_owned(), r#"44/random,"Invalid namespace""#),
        ("40/random?token=abc,".to_owned(), r#"44/random,"Invalid namespace""#),
        (format!("40/chat?a=b&token={alice},"), "40/chat,"),
    ] {
        wire.send_text(&packet);
        assert_eq!(wire.text(), answer, "{packet}");
    }
    eventually(|| "its channel is there".to_owned(), || server.gauges().subscriptions() == 1);
    wire.send_text(r#"42/chat,7["nobody"]"#);
    assert!(wire.text().starts_with("43/chat,7["));
    wire.send_text("41/chat,");
    wire.send_text("40/chat?token=nonsense,");
    let refused = wire.text();
    assert!(refused.starts_with("44/chat,\"invalid token"), "{refused}");
    wire.send_text(r#"427["nobody"]"#);
    assert!(wire.text().starts_with("437["), "the root is there still");
}

#[test]
fn the_root_takes_the_token_of_the_request() {
    let server = start(lenient(Options { settings: options().settings, ..closed() }));
    let mine = token_with("alice", &json!({ "channels": ["mine"] }));
    let _wire = connected(server.address, &format!("&token={mine}"));
    eventually(|| "its channel is there".to_owned(), || server.gauges().subscriptions() == 1);
    for bad in ["nonsense".to_owned(), token("alice", -60.0)] {
        let mut wire = Wire::websocket(server.address, &format!("{IO_WS}&token={bad}"), "");
        wire.text();
        let refused = wire.text();
        assert!(refused.starts_with("44\""), "a text: {refused}");
    }
}

#[test]
fn a_session_of_theirs_closes_as_others_do() {
    let server = start(lenient(options()));
    {
        let (mut client, _) = polled(server.address, ECHO);
        client.wait();
        say_to(&mut client, &["1"]);
        assert_eq!(client.answer().body, "1:6");
        client.is_gone();
    }
    {
        let (mut client, _) = polled(server.address, ECHO);
        client.wait();
        let second = ask(&mut client.wire(), "GET", &client.target.clone(), b"");
        assert_eq!((second.status, &*second.body), (400, ""));
        assert_eq!(client.answer().body, "1:1");
        assert_eq!(client.post(b"2:4x").body, UNKNOWN_SESSION);
    }
    for (packet, answer) in [("4abc", Incoming::Close(None, String::new())), ("41", text("3"))] {
        let mut wire = connected(server.address, "");
        wire.send_text(packet);
        wire.send_text("2");
        assert_eq!(wire.next(), answer, "{packet}");
    }
    server.settle(Levels::of(0, 0));
}
