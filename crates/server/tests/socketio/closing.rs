//! How a session ends, and what is seen of that.

use std::thread;

use duplex::{Options, Settings};
use duplex_websocket::{Limits, Opcode};

use crate::client::{ECHO, ECHO_WS, IO, IO_WS, Io, Polled, UNKNOWN_SESSION, is_closed, sid, text};
use crate::options;
use crate::support::frames::{Incoming, client_frame};
use crate::support::http::say;
use crate::support::wire::Wire;
use crate::support::{Levels, eventually, start};

/// What is there when everybody has gone.
const GONE: Levels = Levels::of(0, 0);

/// A WebSocket on which the session has been opened.
fn opened(address: std::net::SocketAddr, target: &str) -> Wire {
    let mut wire = Wire::websocket(address, target, "");
    sid(&wire.text());
    wire
}

#[test]
fn a_client_that_closes_its_websocket_is_gone() {
    let server = start(options());
    for target in [ECHO_WS, IO_WS] {
        for payload in [&b""[..], &1000u16.to_be_bytes(), &1001u16.to_be_bytes()] {
            let mut wire = opened(server.address, target);
            wire.send_frame(Opcode::Close, payload);
            let end = wire.until_end();
            assert!(matches!(end[..], [Incoming::Close(..)]), "{end:?}");
            eventually(|| "it is gone".to_owned(), || server.gauges().sessions() == 0);
        }
        opened(server.address, target).reset();
        eventually(|| "it is gone".to_owned(), || server.gauges().sessions() == 0);
    }
    server.settle(GONE);
}

#[test]
fn a_close_packet_on_a_websocket_ends_the_session_at_once() {
    let server = start(options());
    for target in [ECHO_WS, IO_WS] {
        let mut wire = opened(server.address, target);
        wire.send_text("1");
        is_closed(&mut wire);
        drop(wire);
        server.settle(GONE);
    }
}

#[test]
fn a_close_packet_lets_the_poll_go_that_waits() {
    let server = start(options());
    for target in [ECHO, IO] {
        let mut client = Polled::open(server.address, target);
        client.wait();
        client.say("1");
        let polled = client.answer();
        assert_eq!((polled.status, &*polled.body), (200, "6"), "{polled:?}");
        client.is_gone();
        drop(client);
        server.settle(GONE);
    }
}

#[test]
fn a_close_packet_without_a_poll_ends_the_session_at_once() {
    let server = start(options());
    for target in [ECHO, IO] {
        let mut client = Polled::open(server.address, target);
        client.say("1");
        client.is_gone();
        assert_eq!(client.post(b"4x").status, 400);
    }
    assert_eq!(server.gauges().sessions(), 0);
}

#[test]
fn what_is_behind_a_close_packet_is_not_carried_out() {
    let server = start(options());
    let mut hearer = Io::subscribe(server.address, "news");
    let mut client = Polled::connect(server.address);
    client.say("42[\"$publish\",\"news\",\"before\"]\u{1e}1\u{1e}42[\"$publish\",\"news\",\"behind\"]");
    say(server.address, "news", "marker");
    assert_eq!(hearer.text(), r#"42["before"]"#);
    assert_eq!(hearer.text(), r#"42["message","marker"]"#);
}

#[test]
fn a_poll_that_waits_is_told_that_the_server_closes_the_session() {
    let server = start(options());
    let mut client = Polled::open(server.address, IO);
    client.wait();
    client.say("4abc");
    let polled = client.answer();
    assert_eq!((polled.status, &*polled.body), (200, "1"), "{polled:?}");
    client.is_gone();
    drop(client);
    server.settle(GONE);
}

#[test]
fn the_next_poll_is_told_that_the_server_has_closed_the_session() {
    let server = start(options());
    let mut client = Polled::open(server.address, IO);
    client.say("4abc");
    assert_eq!(client.poll(), "6\u{1e}1");
    client.is_gone();
    drop(client);
    server.settle(GONE);
}

#[test]
fn what_waits_is_told_before_the_session_is_closed() {
    let server = start(options());
    let mut client = Polled::connect(server.address);
    client.say("427[\"nobody\"]");
    client.say("4abc");
    let packets = client.packets(3);
    assert!(packets[0].starts_with(r#"437[{"error":{"#), "{packets:?}");
    assert_eq!(packets[1..], ["6", "1"]);
    client.is_gone();
}

#[test]
fn what_waits_comes_on_a_websocket_before_it_is_closed() {
    let server = start(options());
    let mut io = Io::connect(server.address);
    let frames = [r#"427["$unknown"]"#, r#"428["$unknown"]"#, "4abc"];
    io.wire.send(&frames.map(|frame| client_frame(0x81, frame.as_bytes())).concat());
    let frames = io.wire.until_end();
    let shown: Vec<String> =
        frames.iter().map(|frame| format!("{frame:?}").chars().take(9).collect()).collect();
    assert_eq!(shown, ["text 437[", "text 438[", "close Non"], "{frames:?}");
}

#[test]
fn what_comes_behind_a_breach_is_not_carried_out() {
    let server = start(options());
    let mut hearer = Io::subscribe(server.address, "news");
    let mut io = Io::connect(server.address);
    let frames =
        [r#"42["$publish","news","before"]"#, "4abc", r#"42["$publish","news","behind"]"#, "40/chat,"];
    io.wire.send(&frames.map(|frame| client_frame(0x81, frame.as_bytes())).concat());
    io.is_closed();
    let mut polled = Polled::connect(server.address);
    polled.post(frames.join("\u{1e}").as_bytes());
    say(server.address, "news", "marker");
    let came = [hearer.text(), hearer.text(), hearer.text()];
    assert_eq!(came, [r#"42["before"]"#, r#"42["before"]"#, r#"42["message","marker"]"#]);
}

#[test]
fn a_client_that_never_asks_again_is_waited_for_for_a_while_only() {
    let server = start(options());
    let mut client = Polled::open(server.address, IO);
    client.say("4abc");
    eventually(|| "it is given up".to_owned(), || server.gauges().sessions() == 0);
    client.is_gone();
    drop(client);
    server.settle(GONE);
}

#[test]
fn a_websocket_gets_what_waits_for_it_and_then_a_close_frame_without_a_status() {
    let server = start(options());
    let mut wire = opened(server.address, ECHO_WS);
    let frames = ["4a", "4b", "4c", "abc"];
    let frames = frames.map(|frame| client_frame(0x81, frame.as_bytes()));
    wire.send(&frames.concat());
    let close = Incoming::Close(None, String::new());
    assert_eq!(wire.until_end(), [text("4a"), text("4b"), text("4c"), close]);
    drop(wire);
    server.settle(GONE);
}

#[test]
fn who_does_not_answer_a_close_frame_is_cut_and_forgotten() {
    let server = start(options());
    for target in [ECHO_WS, IO_WS] {
        let mut wire = opened(server.address, target);
        wire.send_text("abc");
        assert_eq!(wire.next(), Incoming::Close(None, String::new()));
        assert_eq!(wire.next(), Incoming::End);
        eventually(|| "it is forgotten".to_owned(), || server.gauges().sessions() == 0);
    }
    let mut io = Io::connect(server.address);
    io.join("/chat,");
    io.send("4abc");
    assert_eq!([io.next(), io.next()], [Incoming::Close(None, String::new()), Incoming::End]);
    eventually(|| "all of it is forgotten".to_owned(), || server.gauges().sessions() == 0);
}

#[test]
fn what_is_no_packet_closes_the_websocket() {
    let server = start(options());
    let frames: [(&str, Opcode, &[u8]); 8] = [
        (ECHO_WS, Opcode::Text, b"abc"),
        (ECHO_WS, Opcode::Text, b""),
        (ECHO_WS, Opcode::Text, b"7"),
        (ECHO_WS, Opcode::Text, b"2"),
        (ECHO_WS, Opcode::Text, b"2probe"),
        (ECHO_WS, Opcode::Text, b"bAQID"),
        (IO_WS, Opcode::Text, b"2"),
        (IO_WS, Opcode::Text, b"8"),
    ];
    for (target, opcode, payload) in frames {
        let mut wire = opened(server.address, target);
        wire.send_frame(opcode, payload);
        assert_eq!(wire.until_end(), [Incoming::Close(None, String::new())], "{payload:?}");
    }
    server.settle(GONE);
}

#[test]
fn packets_that_mean_nothing_are_passed_over_on_a_websocket_too() {
    let server = start(options());
    let mut wire = opened(server.address, ECHO_WS);
    for packet in ["3", "3probe", "5", "6", "0", "4x"] {
        wire.send_text(packet);
    }
    assert_eq!(wire.text(), "4x");
    wire.send_frame(Opcode::Ping, b"well?");
    assert_eq!(wire.next(), Incoming::Pong(b"well?".to_vec()));
}

#[test]
fn a_message_over_the_limit_closes_the_websocket_with_its_reason() {
    let websocket = Limits { message_bytes: 100, ..Limits::default() };
    let server = start(Options { websocket, ..options() });
    let mut wire = opened(server.address, ECHO_WS);
    let longest = format!("4{}", "x".repeat(99));
    wire.send_text(&longest);
    assert_eq!(wire.text(), longest);
    wire.send_text(&format!("{longest}x"));
    let end = wire.until_end();
    assert!(matches!(end[..], [Incoming::Close(Some(1009), _)]), "{end:?}");
    drop(wire);
    server.settle(GONE);
}

#[test]
fn pings_come_over_a_websocket_for_as_long_as_they_are_answered() {
    let settings = Settings { heartbeat_ms: 250, pong_ms: 10_000, ..options().settings };
    let server = start(Options { settings, ..options() });
    for target in [ECHO_WS, IO_WS] {
        let mut wire = opened(server.address, target);
        if target == IO_WS {
            wire.send_text("40");
            wire.text();
        }
        for round in 0..3 {
            assert_eq!(wire.text(), "2", "round {round}");
            wire.send_text("3");
        }
    }
}

#[test]
fn who_does_not_answer_a_ping_on_its_websocket_is_closed() {
    let settings = Settings { heartbeat_ms: 200, pong_ms: 300, ..options().settings };
    let server = start(Options { settings, ..options() });
    for target in [ECHO_WS, IO_WS] {
        let mut wire = opened(server.address, target);
        wire.send_text("40");
        while wire.text() != "2" {}
        // A pong of the WebSocket is none of Engine.IO.
        wire.send_frame(Opcode::Pong, b"");
        is_closed(&mut wire);
        drop(wire);
        server.settle(GONE);
    }
}

#[test]
fn a_server_that_stops_closes_transports_and_says_nothing_of_namespaces() {
    let server = start(Options { settings: Settings { close_ms: 5_000, ..options().settings }, ..options() });
    let address = server.address;
    let mut io = Io::connect(address);
    io.join("/chat,");
    let mut echo = opened(address, ECHO_WS);
    let mut waiting = Polled::connect(address);
    waiting.wait();
    let mut away = Polled::connect(address);
    // Its next request comes on a connection that is there already: no new ones are let in.
    away.wait();
    away.say(r#"427["$subscribe","a"]"#);
    assert!(away.answer().body.starts_with("437["));
    say(address, "a", "last");
    thread::scope(|scope| {
        let stopping = scope.spawn(|| server.stop());
        io.is_closed();
        is_closed(&mut echo);
        // Some clients take a close packet for a word to stay away.
        let answered = waiting.answer();
        assert_eq!((answered.status, &*answered.body), (200, "6"));
        waiting.ask();
        assert!(waiting.late_answer().is_none_or(|response| response.body == UNKNOWN_SESSION));
        // What was published when nobody asked for it comes all the same.
        away.ask();
        let answered = away.answer();
        assert_eq!((answered.status, &*answered.body), (200, r#"42["message","last"]"#));
        stopping.join().expect("it stops");
    });
}
