//! Server-Sent Events (C2): the head, the bytes of each event, and how such a connection ends.

use duplex::{Options, Settings};
use serde_json::json;

use crate::client::{EVENTS, Form, Hub, Manner, Way, fresh, head, target, told};
use crate::options;
use crate::support::http::say;
use crate::support::requests::send;
use crate::support::wire::{Fill, Wire};
use crate::support::{eventually, start};

const SSE: (Way, Form) = (Way::Sse, Form::Json);

#[test]
fn proxies_and_browsers_are_told_to_pass_everything_on_at_once() {
    let server = start(options());
    let mut wire = Wire::connect(server.address);
    send(&mut wire, "GET", &target(&fresh(server.address)), EVENTS, b"");
    let head = head(&mut wire);
    for (name, value) in
        [("content-type", "text/event-stream"), ("content-encoding", "identity"), ("x-accel-buffering", "no")]
    {
        assert_eq!(head.header(name), Some(value), "{head:?}");
    }
    let kept = head.header("cache-control").unwrap_or_default();
    assert!(kept.contains("no-cache") && kept.contains("no-store"), "{head:?}");
    // Firefox waits for something before it says that the stream is open.
    while wire.unread().len() < 3 {
        assert_eq!(wire.fill(), Fill::More);
    }
    assert_eq!(wire.unread(), b":\r\n");
}

#[test]
fn each_event_is_messages_to_the_byte() {
    let server = start(options());
    let mut hub = Hub::begin(server.address, Manner { way: Way::Sse, ..Manner::default() });
    let expect = |hub: &mut Hub, expected: &str| {
        while hub.down.unread().len() < expected.len() {
            assert_eq!(hub.down.fill(), Fill::More);
        }
        assert_eq!(String::from_utf8_lossy(hub.down.unread()), expected);
        hub.down.unread().clear();
    };
    expect(&mut hub, ":\r\n");
    hub.say_text(r#"{"protocol":"json","version":1}"#);
    expect(&mut hub, "data: {}\u{1e}\r\n\r\n");
    hub.say_text(r#"{"type":1,"target":"$subscribe","arguments":["news"],"invocationId":"1"}"#);
    let completed = hub.payload().expect("an event");
    assert!(completed.starts_with(br#"{"type":3,"invocationId":"1","result":{"channel":"news","#));
    say(server.address, "news", "a\r\n\n\u{20ac}");
    expect(
        &mut hub,
        "data: {\"type\":1,\"target\":\"message\",\"arguments\":[\"a\\r\\n\\n\u{20ac}\"]}\u{1e}\r\n\r\n",
    );
}

#[test]
fn line_breaks_between_the_parts_of_a_payload_harm_no_event() {
    let server = start(options());
    let mut hub = Hub::open_by(server.address, SSE);
    hub.hear("news");
    crate::support::http::publish(
        server.address,
        "{\"channel\":\"news\",\"data\":{\"a\":\r\n\n1,\r\"b\":2}}",
    );
    assert_eq!(hub.event("message"), json!([{ "a": 1, "b": 2 }]));
    hub.is_well();
}

#[test]
fn bytes_do_not_go_over_events() {
    let server = start(options());
    let mut hub = Hub::begin(server.address, Manner { way: Way::Sse, ..Manner::default() });
    hub.say_text(r#"{"protocol":"messagepack","version":1}"#);
    assert_eq!(
        hub.handshake(),
        r#"{"error":"Cannot use the 'messagepack' protocol on the current transport. The transport does not support 'Binary' transfer format."}"#
    );
    hub.is_over();
    hub.is_gone();
}

#[test]
fn pings_come_as_messages() {
    let settings = Settings { heartbeat_ms: 150, pong_ms: 300_000, ..options().settings };
    let server = start(Options { settings, ..options() });
    let mut hub = Hub::open_by(server.address, SSE);
    for _ in 0..3 {
        assert_eq!(hub.message(), Some(json!({ "type": 6 })));
        hub.send(&json!({ "type": 6 }));
    }
}

#[test]
fn who_closes_its_stream_is_gone() {
    let server = start(options());
    let gone = || server.gauges().sessions() == 0;
    let mut hub = Hub::open_by(server.address, SSE);
    hub.down.finish_sending();
    eventually(|| "it is gone".to_owned(), gone);
    hub.is_gone();
    drop(hub);
    let hub = Hub::open_by(server.address, SSE);
    let (wire, target) = (hub.down, hub.target);
    wire.reset();
    eventually(|| "it is gone".to_owned(), gone);
    assert_eq!(crate::client::once(server.address, "GET", &target, EVENTS).status, 404);
}

#[test]
fn who_says_goodbye_gets_no_answer_but_the_end() {
    let server = start(options());
    let mut hub = Hub::open_by(server.address, SSE);
    hub.send(&json!({ "type": 7 }));
    hub.is_over();
    hub.is_gone();
}

#[test]
fn the_last_words_come_before_the_stream_ends() {
    let server = start(options());
    let mut hub = Hub::open_by(server.address, SSE);
    let response = hub.post(b"nonsense\x1e");
    assert_eq!(told(&response), (200, ""));
    let message = hub.close_message();
    assert!(message["error"].is_string(), "{message}");
    hub.is_gone();
}

#[test]
fn a_client_that_reads_nothing_is_let_go_and_others_are_served() {
    let settings = Settings { outbox_bytes: 128 << 10, stall_ms: 2_000, ..options().settings };
    let sockets = duplex_transport::SocketOptions { send_buffer_bytes: 16 << 10, ..Default::default() };
    let server = start(Options { settings, sockets, ..options() });
    let mut slow = Hub::open_by(server.address, SSE);
    slow.hear("news");
    let mut neighbour = Hub::open_by(server.address, SSE);
    neighbour.hear("news");
    let long = "x".repeat(30_000);
    for round in 0..100 {
        say(server.address, "news", &long);
        assert_eq!(neighbour.event("message"), json!([long]), "{round}");
    }
    eventually(|| "the slow one is gone".to_owned(), || server.gauges().sessions() == 1);
    neighbour.is_well();
}
