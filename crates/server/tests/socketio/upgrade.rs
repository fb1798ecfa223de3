//! From polls to a WebSocket: while it is tried polling goes on, and nothing is lost, doubled or overtaken.

use std::time::{Duration, Instant};

use duplex::{Options, Settings};
use duplex_websocket::Opcode;

use crate::client::{
    BAD_REQUEST, ECHO, IO, PLACES, Polled, SEPARATOR, binary, everywhere, is_closed, text, upgrade,
};
use crate::options;
use crate::support::frames::Incoming;
use crate::support::http::say;
use crate::support::wire::Wire;
use crate::support::{Levels, PATIENCE, eventually, start};

/// What is there when everybody has gone.
const GONE: Levels = Levels::of(0, 0);

/// Panics unless what was said on it comes back.
fn echoes(wire: &mut Wire, message: &str) {
    wire.send_text(&format!("4{message}"));
    assert_eq!(wire.text(), format!("4{message}"));
}

#[test]
fn a_session_goes_over_to_a_websocket_and_polls_are_let_go_again_and_again() {
    everywhere(&options(), |client| {
        client.wait();
        let mut wire = client.probe();
        assert_eq!(client.answer().body, "6", "the poll that waited");
        for round in 0..4 {
            assert_eq!(client.poll(), "6", "round {round}");
        }
        wire.send_text("5");
        echoes(&mut wire, "over here");
        wire.send_frame(Opcode::Binary, &[1, 2, 3]);
        assert_eq!(wire.next(), binary(&[1, 2, 3]));
    });
}

#[test]
fn a_poll_that_waits_at_the_switch_is_let_go() {
    everywhere(&options(), |client| {
        let mut wire = client.probe();
        client.wait();
        wire.send_text("5");
        assert_eq!(client.answer().body, "6");
        echoes(&mut wire, "over here");
    });
}

#[test]
fn what_was_brought_while_it_was_tried_comes_before_what_comes_on_the_websocket() {
    everywhere(&options(), |client| {
        let mut wire = client.probe();
        client.say("4a\u{1e}4b");
        client.say("4c\u{1e}bAQI=");
        for frame in ["5", "4d", "4e"] {
            wire.send_text(frame);
        }
        let came: Vec<Incoming> = (0..6).map(|_| wire.next()).collect();
        assert_eq!(came, [text("4a"), text("4b"), text("4c"), binary(&[1, 2]), text("4d"), text("4e")]);
    });
}

#[test]
fn what_is_brought_while_it_is_tried_may_go_to_a_poll() {
    everywhere(&options(), |client| {
        let mut wire = client.probe();
        client.say("4a");
        assert_eq!(client.packets(1), ["4a"]);
        client.say("4b");
        wire.send_text("5");
        assert_eq!(wire.text(), "4b");
    });
}

#[test]
fn what_is_published_during_the_change_comes_once_and_in_order() {
    const EACH: usize = 40;
    let server = start(options());
    for place in PLACES {
        let mut client = Polled::open_at(server.address, IO, place);
        client.say(r#"40"#);
        client.packets(1);
        client.say(r#"420["$subscribe","news"]"#);
        client.packets(1);
        let mut came = Vec::new();
        let mut keep = |body: String| came.extend(body.split(SEPARATOR).map(str::to_owned));
        std::thread::scope(|scope| {
            let publishing = scope.spawn(|| {
                (0..3 * EACH).for_each(|number| drop(say(server.address, "news", &number.to_string())));
            });
            (0..3).for_each(|_| keep(client.poll()));
            let mut wire = client.probe();
            (0..5).for_each(|_| keep(client.poll()));
            wire.send_text("5");
            publishing.join().expect("it is published");
            let last = format!(r#"42["message","{}"]"#, 3 * EACH - 1);
            loop {
                let message = wire.text();
                let is_last = message == last;
                keep(message);
                if is_last {
                    break;
                }
            }
            wire.send_frame(Opcode::Close, &[]);
            wire.until_end();
        });
        came.retain(|packet| packet != "6");
        let expected: Vec<String> =
            (0..3 * EACH).map(|number| format!(r#"42["message","{number}"]"#)).collect();
        assert_eq!(came, expected, "{place:?}");
        drop(client);
        server.settle(GONE);
    }
}

#[test]
fn a_websocket_that_begins_wrongly_ends_alone() {
    let frames: [(Opcode, &[u8]); 12] = [
        (Opcode::Text, b"4x"),
        (Opcode::Text, b"2"),
        (Opcode::Text, b"2prob"),
        (Opcode::Text, b"2probes"),
        (Opcode::Text, b"3probe"),
        (Opcode::Text, b"6"),
        (Opcode::Text, b"1"),
        (Opcode::Text, b"0"),
        (Opcode::Text, b"abc"),
        (Opcode::Text, b""),
        (Opcode::Binary, b"2probe"),
        (Opcode::Binary, b""),
    ];
    everywhere(&options(), |client| {
        for (opcode, payload) in frames {
            let mut wire = client.websocket();
            wire.send_frame(opcode, payload);
            let end = wire.until_end();
            assert!(matches!(end[..], [] | [Incoming::Close(..)]), "{payload:?}: {end:?}");
            client.echoes("still polled");
        }
        let mut wire = client.probe();
        wire.send_text("4x");
        let end = wire.until_end();
        assert!(matches!(end[..], [] | [Incoming::Close(..)]), "after the probe: {end:?}");
        client.echoes("still polled");
        let mut wire = client.probe();
        wire.send_text("5");
        echoes(&mut wire, "and it can be tried again");
    });
}

#[test]
fn a_session_may_go_over_without_a_probe() {
    everywhere(&options(), |client| {
        let mut wire = client.websocket();
        wire.send_text("5");
        echoes(&mut wire, "over here");
    });
}

#[test]
fn a_probe_may_be_sent_together_with_the_request_for_its_websocket() {
    everywhere(&options(), |client| {
        use crate::support::frames::client_frame;
        use crate::support::wire::UPGRADE;
        let mut wire = client.wire();
        let head = format!("GET {} HTTP/1.1\r\n{UPGRADE}\r\n", client.websocket_target());
        let frames = [client_frame(0x81, b"2probe"), client_frame(0x81, b"5"), client_frame(0x81, b"4x")];
        wire.send(&[head.into_bytes(), frames.concat()].concat());
        assert_eq!(wire.response().map(|response| response.status), Some(101));
        assert_eq!([wire.text(), wire.text()], ["3probe", "4x"]);
    });
}

/// Panics if another WebSocket for the session is taken.
fn takes_no_other(client: &Polled) {
    let (mut wire, response) = upgrade(client.address, &client.websocket_target(), "");
    if response.status == 101 {
        wire.send_text("2probe");
        let end = wire.until_end();
        assert!(matches!(end[..], [] | [Incoming::Close(..)]), "{end:?}");
    } else {
        assert_eq!(response.status, 400, "{response:?}");
    }
}

#[test]
fn a_second_websocket_is_refused_and_the_first_does_not_notice() {
    everywhere(&options(), |client| {
        let mut wire = client.probe();
        takes_no_other(client);
        client.echoes("still polled");
        wire.send_text("2probe");
        assert_eq!(wire.text(), "3probe", "still tried");
        wire.send_text("5");
        echoes(&mut wire, "over here");
        takes_no_other(client);
        echoes(&mut wire, "still here");
    });
}

#[test]
fn a_session_that_went_over_is_polled_no_more() {
    everywhere(&options(), |client| {
        let mut wire = client.probe();
        wire.send_text("5");
        echoes(&mut wire, "over here");
        for response in [client.get(), client.post(b"4lost"), client.get()] {
            assert_eq!((response.status, &*response.body), (400, BAD_REQUEST));
        }
        echoes(&mut wire, "still here");
    });
}

#[test]
fn a_ping_that_came_by_a_poll_is_answered_on_the_websocket() {
    const PONG_MS: u32 = 1_000;
    let settings = Settings { heartbeat_ms: 200, pong_ms: PONG_MS, ..options().settings };
    everywhere(&Options { settings, ..options() }, |client| {
        assert_eq!(client.poll(), "2");
        let pinged = Instant::now();
        let mut wire = client.probe();
        wire.send_text("5");
        wire.send_text("3");
        // If the answer had not counted, it would be closed by then.
        while pinged.elapsed() < Duration::from_millis(u64::from(PONG_MS) + 200) {
            assert_eq!(wire.text(), "2");
            wire.send_text("3");
        }
    });
}

#[test]
fn who_goes_over_and_does_not_answer_is_forgotten() {
    let settings = Settings { heartbeat_ms: 300, pong_ms: 500, ..options().settings };
    everywhere(&Options { settings, ..options() }, |client| {
        assert_eq!(client.poll(), "2");
        let mut wire = client.probe();
        wire.send_text("5");
        echoes(&mut wire, "busy, but no pong");
        is_closed(&mut wire);
    });
}

#[test]
fn a_websocket_that_dies_while_it_is_tried_leaves_the_session_as_it_was() {
    everywhere(&options(), |client| {
        for round in 0..3 {
            let mut wire = client.websocket();
            if round > 0 {
                wire.send_text("2probe");
                assert_eq!(wire.text(), "3probe");
            }
            match round {
                2 => wire.send_frame(Opcode::Close, &[]),
                _ => wire.reset(),
            }
            client.echoes("still polled");
            // When that has been noticed, another one is tried.
            let deadline = Instant::now() + PATIENCE;
            let mut next = loop {
                let (mut next, _) = upgrade(client.address, &client.websocket_target(), "");
                next.send_text("2probe");
                match next.next() {
                    Incoming::Text(answer) => {
                        assert_eq!(answer, "3probe");
                        break next;
                    }
                    _ => assert!(Instant::now() < deadline, "another WebSocket is let in"),
                }
            };
            next.send_text("4wrong");
            next.until_end();
        }
        client.echoes("still polled");
    });
}

#[test]
fn a_session_that_ends_takes_the_websocket_with_it_that_is_tried() {
    let server = start(options());
    for place in PLACES {
        let mut client = Polled::open_at(server.address, ECHO, place);
        let mut wire = client.probe();
        client.say("1");
        let end = wire.until_end();
        assert!(matches!(end[..], [] | [Incoming::Close(..)]), "{end:?}");
        client.is_gone();
        eventually(|| "it is gone".to_owned(), || server.gauges().sessions() == 0);
    }
}
