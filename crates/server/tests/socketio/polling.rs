//! A session that is carried by requests: what each is answered, and what ends the session.

use std::time::{Duration, Instant};

use duplex::{Options, Settings};
use duplex_websocket::Limits;

use crate::client::{
    BAD_REQUEST, ECHO, PLACES, Place, Polled, SEPARATOR, UNKNOWN_SESSION, ask, everywhere, send,
};
use crate::options;
use crate::support::wire::Wire;
use crate::support::{Levels, PATIENCE, eventually, start};

/// What is there when everybody has gone.
const GONE: Levels = Levels::of(0, 0);

#[test]
fn what_is_brought_is_there_at_the_next_poll_in_one_body() {
    everywhere(&options(), |client| {
        for body in [
            "4hello",
            "4",
            "4a\u{1e}4b\u{1e}4c",
            "4hello\u{1e}bAQIDBA==",
            "bAQIDBA==\u{1e}4hello\u{1e}b\u{1e}b/+8=",
            "4\u{20ac}\u{1f600}\u{0}",
            "4{\"sid\":1}\u{1e}42[\"a\"]",
        ] {
            let posted = client.post(body.as_bytes());
            assert_eq!((posted.status, &*posted.body), (200, "ok"), "{body:?}");
            assert_eq!(posted.header("content-type"), Some("text/html"), "{posted:?}");
            let polled = client.get();
            assert_eq!((polled.status, &*polled.body), (200, body));
            let length = body.len().to_string();
            for (name, value) in [
                ("content-type", "text/plain; charset=UTF-8"),
                ("content-length", &length),
                ("cache-control", "no-store"),
                ("x-content-type-options", "nosniff"),
            ] {
                assert_eq!(polled.header(name), Some(value), "{polled:?}");
            }
        }
    });
}

#[test]
fn a_poll_that_waits_is_answered_when_something_comes() {
    everywhere(&options(), |client| {
        for round in 0..5 {
            client.wait();
            client.say(&format!("4round {round}"));
            assert_eq!(client.answer().body, format!("4round {round}"));
        }
    });
}

#[test]
fn messages_stay_in_order_whatever_is_polled_between() {
    const MESSAGES: usize = 60;
    everywhere(&options(), |client| {
        let messages: Vec<String> = (0..MESSAGES).map(|number| format!("4{number}")).collect();
        let mut came = Vec::new();
        for (at, pair) in messages.chunks(2).enumerate() {
            match at % 3 {
                0 => client.say(&pair.join("\u{1e}")),
                1 => pair.iter().for_each(|message| client.say(message)),
                _ => {
                    client.ask();
                    client.say(&pair.join("\u{1e}"));
                    came.extend(client.answer().body.split(SEPARATOR).map(str::to_owned));
                }
            }
        }
        came.extend(client.packets(MESSAGES - came.len()));
        assert_eq!(came, messages);
    });
}

#[test]
fn two_polls_at_once_end_the_session_and_the_first_is_told() {
    everywhere(&options(), |client| {
        client.wait();
        let second = ask(&mut client.wire(), "GET", &client.target.clone(), b"");
        assert_eq!((second.status, &*second.body), (400, ""), "{second:?}");
        let first = client.answer();
        assert_eq!((first.status, &*first.body), (200, "1"), "{first:?}");
        client.is_gone();
        assert_eq!(client.post(b"4x").body, UNKNOWN_SESSION);
    });
}

/// Begins a request whose body is longer than `first`, which is sent; the caller sends the rest, or does not.
fn begin_post(client: &Polled, first: &str) -> Wire {
    let mut wire = client.wire();
    let head =
        format!("POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\n\r\n{first}", client.target);
    wire.send(head.as_bytes());
    client.let_pass();
    wire
}

#[test]
fn two_requests_that_bring_something_at_once_end_the_session() {
    everywhere(&options(), |client| {
        let mut first = begin_post(client, "4fi");
        let second = client.post(b"4second");
        assert_eq!((second.status, &*second.body), (400, ""), "{second:?}");
        client.is_gone();
        first.send(b"rst");
        assert_eq!(first.response().map(|response| response.status), Some(400));
    });
}

#[test]
fn a_poll_and_a_request_that_brings_something_are_not_in_each_others_way() {
    everywhere(&options(), |client| {
        client.wait();
        let mut slow = begin_post(client, "4fi");
        slow.send(b"rst");
        assert_eq!(slow.response().map(|response| response.body).as_deref(), Some("ok"));
        assert_eq!(client.answer().body, "4first");
        client.echoes("alive");
    });
}

#[test]
fn a_poll_that_is_given_up_ends_the_session() {
    let server = start(options());
    for place in PLACES {
        let mut client = Polled::open_at(server.address, ECHO, place);
        let mut given_up = client.wire();
        send(&mut given_up, "GET", &client.target, "", b"");
        client.let_pass();
        match place {
            Place::Home => drop(given_up),
            Place::Away => given_up.reset(),
        }
        eventually(|| "the session ends".to_owned(), || server.gauges().sessions() == 0);
        client.is_gone();
        drop(client);
        server.settle(GONE);
    }
}

#[test]
fn a_request_that_breaks_off_ends_the_session() {
    everywhere(&options(), |client| {
        begin_post(client, "4fi").reset();
        let deadline = Instant::now() + PATIENCE;
        // What is brought meanwhile would overlap.
        while client.post(b"3").body != UNKNOWN_SESSION {
            assert!(Instant::now() < deadline, "the session ends");
        }
    });
}

#[test]
fn a_body_that_is_too_long_is_refused_and_the_session_goes_on() {
    let websocket = Limits { message_bytes: 100, ..Limits::default() };
    everywhere(&Options { websocket, ..options() }, |client| {
        let longest = format!("4{}", "x".repeat(99));
        client.say(&longest);
        assert_eq!(client.packets(1), [&*longest]);
        for length in [101, 100_000] {
            let response = client.post(&vec![b'4'; length]);
            assert_eq!(response.status, 413, "{response:?}");
            // The rest of the body was not read.
            *client = again(client);
            client.echoes("still here");
        }
        let mut wire = client.wire();
        let chunk = format!("40\r\n{}\r\n", "4".repeat(64));
        send_chunks(&mut wire, &client.target, &chunk.repeat(4));
        assert_eq!(wire.response().map(|response| response.status), Some(413));
        client.echoes("still here");
    });
}

/// The same client on new connections.
fn again(client: &Polled) -> Polled {
    Polled::resume(client.address, &client.target, &client.sid)
}

fn send_chunks(wire: &mut Wire, target: &str, chunks: &str) {
    let head =
        format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
    wire.send(head.as_bytes());
}

#[test]
fn a_body_may_come_in_chunks() {
    everywhere(&options(), |client| {
        let mut wire = client.wire();
        send_chunks(&mut wire, &client.target, "3\r\n4he\r\n3\r\nllo\r\n0\r\n\r\n");
        assert_eq!(wire.response().map(|response| response.body).as_deref(), Some("ok"));
        assert_eq!(client.packets(1), ["4hello"]);
    });
}

#[test]
fn a_body_that_is_no_packets_ends_the_session() {
    let many = vec!["4"; 100_000].join("\u{1e}");
    let websocket = Limits { message_bytes: 1_000_000, ..Limits::default() };
    let server = start(Options { websocket, ..options() });
    for body in [
        &b""[..],
        b"abc",
        b"7",
        b"9",
        b"\x1e",
        b"4a\x1e",
        b"\x1e4a",
        b"4a\x1e\x1e4b",
        b"b!",
        b"bA",
        b"bAQ",
        b"bAQ==x",
        b"4\xff",
        b"4\xe2\x82",
        b"\0",
        "\u{20ac}".as_bytes(),
        many.as_bytes(),
    ] {
        for place in PLACES {
            let mut client = Polled::open_at(server.address, ECHO, place);
            let response = client.post(body);
            assert_eq!((response.status, &*response.body), (400, BAD_REQUEST), "{:?}", body.get(..20));
            client.is_gone();
        }
    }
    server.settle(GONE);
}

#[test]
fn a_body_of_bytes_ends_the_session() {
    everywhere(&options(), |client| {
        let mut wire = client.wire();
        let kind = "Content-Type: application/octet-stream\r\n";
        send(&mut wire, "POST", &client.target, kind, b"4hello");
        assert_eq!(wire.response().map(|response| response.status), Some(400));
        client.is_gone();
    });
}

#[test]
fn a_body_of_another_kind_is_read_as_packets() {
    everywhere(&options(), |client| {
        for kind in ["text/plain;charset=UTF-8", "text/html", "application/json", "x"] {
            let mut wire = client.wire();
            send(&mut wire, "POST", &client.target, &format!("Content-Type: {kind}\r\n"), b"4hello");
            assert_eq!(wire.response().map(|response| response.body).as_deref(), Some("ok"), "{kind}");
            assert_eq!(client.packets(1), ["4hello"]);
        }
    });
}

#[test]
fn a_client_that_sends_a_ping_loses_its_session() {
    everywhere(&options(), |client| {
        client.post(b"2");
        let next = client.get();
        assert!((next.status, &*next.body) == (200, "6\u{1e}1") || next.body == UNKNOWN_SESSION, "{next:?}");
        client.is_gone();
    });
}

#[test]
fn packets_that_mean_nothing_here_are_passed_over() {
    everywhere(&options(), |client| {
        client.say("3\u{1e}6\u{1e}5\u{1e}0\u{1e}3probe");
        client.echoes("alive");
    });
}

#[test]
fn other_methods_harm_no_session() {
    everywhere(&options(), |client| {
        for method in ["PUT", "DELETE", "OPTIONS", "PATCH"] {
            let response = ask(&mut client.wire(), method, &client.target.clone(), b"4x");
            assert!(matches!(response.status, 400 | 405), "{method}: {response:?}");
        }
        client.echoes("alive");
    });
}

/// A server that soon wonders whether somebody is still there.
fn anxious(heartbeat_ms: u32, pong_ms: u32) -> Options {
    Options { settings: Settings { heartbeat_ms, pong_ms, ..options().settings }, ..options() }
}

#[test]
fn a_poll_brings_a_ping_that_is_answered_by_a_request() {
    everywhere(&anxious(200, 20_000), |client| {
        for _ in 0..3 {
            assert_eq!(client.poll(), "2");
            client.say("3");
        }
        client.echoes("alive");
    });
}

#[test]
fn who_does_not_answer_a_ping_is_forgotten_whether_it_polls_or_not() {
    let server = start(anxious(200, 200));
    for polls in [true, false] {
        let mut client = Polled::open(server.address, ECHO);
        if polls {
            assert_eq!(client.poll(), "2");
            assert!(matches!(&*client.get().body, "1" | UNKNOWN_SESSION));
        }
        eventually(|| "it is forgotten".to_owned(), || server.gauges().sessions() == 0);
        client.is_gone();
    }
    server.settle(GONE);
}

#[test]
fn only_a_pong_answers_a_ping() {
    let server = start(anxious(100, 400));
    let mut client = Polled::open(server.address, ECHO);
    let deadline = Instant::now() + PATIENCE;
    // It is never silent for longer than a moment.
    while client.post(b"4busy").body == "ok" {
        assert!(Instant::now() < deadline, "a client that never answers stays");
        std::thread::sleep(Duration::from_millis(20));
    }
    client.is_gone();
    drop(client);
    server.settle(GONE);
}
