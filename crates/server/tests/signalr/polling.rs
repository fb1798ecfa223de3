//! Long polling (C2): when a poll is answered, with what, and what ends its connection.

use std::time::{Duration, Instant};

use duplex::{Options, Settings};
use duplex_websocket::Limits;
use serde_json::json;

use crate::client::{Form, Hub, Manner, UNKNOWN, Way, fresh, once, target, told};
use crate::messages::{PACKED_PING, read, write};
use crate::options;
use crate::support::http::say;
use crate::support::requests::{ask, send};
use crate::support::wire::Wire;
use crate::support::{Levels, eventually, start};

/// Tells a story to polled clients of both protocols, whose requests come in on each shard.
fn polled(options: &Options, story: impl Fn(&mut Hub)) {
    let server = start(options.clone());
    for form in [Form::Json, Form::Packed] {
        for place in [0, 1] {
            println!("{form:?} on shard {place}");
            let manner = Manner { way: Way::Poll, form, place: Some(place), ..Manner::default() };
            let mut hub = Hub::open_as(server.address, manner);
            story(&mut hub);
            // It ends a connection that is still there.
            once(server.address, "DELETE", &hub.target, "");
        }
    }
    server.settle(Levels::of(0, 0));
}

fn invocation(id: &str) -> serde_json::Value {
    json!({ "type": 1, "invocationId": id, "target": "nobody", "arguments": [] })
}

#[test]
fn the_first_poll_is_answered_at_once_with_nothing() {
    let server = start(options());
    let mut wire = Wire::connect(server.address);
    let response = ask(&mut wire, "GET", &target(&fresh(server.address)), b"");
    assert_eq!(told(&response), (200, ""));
    let kept = response.header("cache-control").unwrap_or_default();
    assert!(kept.contains("no-store"), "{response:?}");
    assert_eq!(response.header("content-length"), Some("0"), "{response:?}");
    assert_eq!(server.gauges().sessions(), 1, "the connection has begun");
}

#[test]
fn what_waits_comes_whole_in_one_body_of_bytes() {
    polled(&options(), |hub| {
        let messages = [invocation("a"), invocation("b"), invocation("c")];
        hub.send_all(&messages);
        let mut came = Vec::new();
        while came.len() < 3 {
            let response = hub.get();
            assert_eq!(response.status, 200, "{response:?}");
            assert_eq!(response.header("content-type"), Some("application/octet-stream"), "{response:?}");
            let kept = response.header("cache-control").unwrap_or_default();
            assert!(kept.contains("no-store"), "{response:?}");
            let body: Vec<u8> = response.body.chars().map(|letter| letter as u8).collect();
            came.extend(read(hub.form, &body));
        }
        let ids: Vec<_> = came.iter().map(|message| message["invocationId"].clone()).collect();
        assert_eq!(ids, ["a", "b", "c"]);
    });
}

#[test]
fn a_poll_waits_until_something_comes() {
    polled(&options(), |hub| {
        for _ in 0..3 {
            hub.ask();
            hub.send(&invocation("a"));
            let response = hub.answer();
            assert!(response.status == 200 && !response.body.is_empty(), "{response:?}");
        }
    });
}

#[test]
fn a_newer_poll_ends_the_older_one_and_nothing_else() {
    polled(&options(), |hub| {
        let mut older = hub.wire();
        send(&mut older, "GET", &hub.target, "", b"");
        for _ in 0..5 {
            let mut newer = hub.wire();
            send(&mut newer, "GET", &hub.target, "", b"");
            // On different connections, the one that was sent first need not have come first.
            eventually(
                || "one of two polls ends".to_owned(),
                || older.has_something() || newer.has_something(),
            );
            if newer.has_something() {
                std::mem::swap(&mut older, &mut newer);
            }
            older.renew_deadline();
            assert_eq!(told(&older.response().expect("an answer")), (204, ""));
            older = newer;
        }
        hub.send(&invocation("a"));
        older.renew_deadline();
        let body = crate::support::session::answer(&mut older);
        assert_eq!(body.0.status, 200, "{body:?}");
        assert_eq!(read(hub.form, &body.1)[0]["invocationId"], "a");
        hub.is_well();
    });
}

#[test]
fn a_delete_ends_the_connection_and_lets_the_poll_go() {
    polled(&options(), |hub| {
        hub.ask();
        hub.leave();
        // On a busy machine the poll may come later than what was sent behind it on another connection.
        let answer = hub.answer();
        assert!(matches!(told(&answer), (204, "") | (404, UNKNOWN)), "{answer:?}");
        hub.is_gone();
        // The JavaScript client says goodbye once more when all is over (C2).
        let response = hub.post(&write(hub.form, &json!({ "type": 7 })));
        assert_eq!(told(&response), (404, UNKNOWN));
    });
}

#[test]
fn a_delete_without_a_poll_does_the_same() {
    polled(&options(), |hub| {
        hub.leave();
        hub.is_gone();
    });
}

#[test]
fn the_last_words_come_with_a_poll_and_then_the_end_and_then_nothing_is_known() {
    polled(&options(), |hub| {
        hub.say(if hub.form == Form::Json { b"nonsense\x1e" } else { b"\x02\xc1\xc1" });
        let message = hub.next();
        assert_eq!(message["type"], 7, "{message}");
        assert_eq!(told(&hub.get()), (204, ""));
        hub.is_gone();
    });
}

#[test]
fn a_poll_that_waits_gets_the_last_words() {
    polled(&options(), |hub| {
        hub.ask();
        hub.say(if hub.form == Form::Json { b"nonsense\x1e" } else { b"\x02\xc1\xc1" });
        let response = hub.answer();
        assert_eq!(response.status, 200, "{response:?}");
        let body: Vec<u8> = response.body.chars().map(|letter| letter as u8).collect();
        assert_eq!(read(hub.form, &body)[0]["type"], 7);
        assert_eq!(told(&hub.get()), (204, ""));
        hub.is_gone();
    });
}

#[test]
fn a_client_that_says_goodbye_is_let_go() {
    polled(&options(), |hub| {
        hub.ask();
        hub.send(&json!({ "type": 7 }));
        assert_eq!(told(&hub.answer()), (204, ""));
        hub.is_gone();
    });
}

#[test]
fn a_poll_that_breaks_off_ends_nothing() {
    polled(&options(), |hub| {
        for _ in 0..3 {
            let mut given_up = hub.wire();
            send(&mut given_up, "GET", &hub.target, "", b"");
            given_up.reset();
            hub.is_well();
        }
    });
}

#[test]
fn a_body_that_is_too_long_is_refused_and_the_connection_goes_on() {
    let websocket = Limits { message_bytes: 300, ..Limits::default() };
    polled(&Options { websocket, ..options() }, |hub| {
        for length in [301, 100_000] {
            let response = hub.post(&vec![b' '; length]);
            assert_eq!(response.status, 413, "{response:?}");
            // The rest of the body was not read.
            let again = hub.post_anew(&write(hub.form, &json!({ "type": 6 })));
            assert_eq!(told(&again), (200, ""));
            hub.is_well();
        }
    });
}

#[test]
fn messages_may_be_cut_anywhere_between_bodies() {
    polled(&options(), |hub| {
        let bytes = write(hub.form, &invocation("cut"));
        for at in [1, 2, bytes.len() / 2, bytes.len() - 1] {
            hub.say(&bytes[..at]);
            hub.say(&bytes[at..]);
            hub.completion("cut");
        }
        for byte in &bytes {
            hub.say(&[*byte]);
        }
        hub.completion("cut");
    });
}

#[test]
fn bodies_that_come_at_once_are_all_taken() {
    polled(&options(), |hub| {
        let mut slow = hub.wire();
        let body = write(hub.form, &invocation("slow"));
        hub.checker.said(&invocation("slow"));
        let (target, length) = (&hub.target, body.len());
        slow.send(
            format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n")
                .as_bytes(),
        );
        slow.send(&body[..3]);
        let mut quick = hub.wire();
        hub.checker.said(&invocation("quick"));
        send(&mut quick, "POST", &hub.target, "", &write(hub.form, &invocation("quick")));
        slow.send(&body[3..]);
        for wire in [&mut slow, &mut quick] {
            assert_eq!(told(&wire.response().expect("an answer")), (200, ""));
        }
        hub.completion("slow");
        hub.completion("quick");
        hub.is_well();
    });
}

#[test]
fn pings_are_not_for_who_polls() {
    let settings = Settings { heartbeat_ms: 100, pong_ms: 100, ..options().settings };
    polled(&Options { settings, ..options() }, |hub| {
        hub.call("$subscribe", json!(["news"]));
        hub.ask();
        let until = Instant::now() + Duration::from_millis(700);
        while Instant::now() < until {
            // It may ping, which is not answered, over this transport neither.
            let ping = if hub.form == Form::Json { &b"{\"type\":6}\x1e"[..] } else { &PACKED_PING };
            assert_eq!(told(&hub.post(ping)), (200, ""));
            std::thread::sleep(Duration::from_millis(20));
        }
        say(hub.address, "news", "hello");
        // An idle poll is answered with nothing, and then the client asks again.
        let body: Vec<u8> = loop {
            let body: Vec<u8> = hub.answer().body.chars().map(|letter| letter as u8).collect();
            if !body.is_empty() {
                break body;
            }
            hub.ask();
        };
        let messages = read(hub.form, &body);
        assert_eq!(messages, [json!({ "type": 1, "target": "message", "arguments": ["hello"] })]);
        assert_eq!(hub.pings, 0);
    });
}

#[test]
fn who_does_not_poll_again_is_forgotten() {
    let settings = Settings { linger_ms: 1_500, connect_ms: 1_500, ..options().settings };
    let server = start(Options { settings, ..options() });
    for form in [Form::Json, Form::Packed] {
        let hub = Hub::open_by(server.address, (Way::Poll, form));
        eventually(|| "it is forgotten".to_owned(), || server.gauges().sessions() == 0);
        hub.is_gone();
    }
    // Nor is who began and said nothing waited for.
    let hub = Hub::begin(server.address, Manner { way: Way::Poll, ..Manner::default() });
    eventually(|| "it is forgotten".to_owned(), || server.gauges().sessions() == 0);
    hub.is_gone();
}

#[test]
fn who_polls_may_be_silent_for_longer_than_it_may_be_away() {
    let settings = Settings { linger_ms: 1_000, heartbeat_ms: 100, pong_ms: 100, ..options().settings };
    polled(&Options { settings, ..options() }, |hub| {
        hub.call("$subscribe", json!(["news"]));
        hub.ask();
        std::thread::sleep(Duration::from_millis(1_800));
        say(hub.address, "news", "hello");
        assert_eq!(hub.answer().status, 200);
    });
}

#[test]
fn a_poll_for_which_nothing_comes_is_answered_within_fifteen_seconds() {
    let server = start(options());
    let mut hub = Hub::open_by(server.address, (Way::Poll, Form::Json));
    let before = Instant::now();
    assert_eq!(told(&hub.get()), (200, ""));
    let waited = before.elapsed();
    assert!(waited > Duration::from_secs(11), "it was answered after {waited:?}");
    hub.is_well();
}
