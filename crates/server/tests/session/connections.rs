//! Polls, and what else comes on their connections.

use std::time::{Duration, Instant};

use duplex::{Options, Settings};
use serde_json::json;

use crate::support::http::say;
use crate::support::session::{Carrier, Form, Session, Way, answer, ask, wire_at, written};
use crate::support::start;
use crate::support::wire::{Fill, Wire};
use crate::{GONE, options};

const JSON: Form = Form::Json;
/// Pause of a client that does something now and then.
const PACE: Duration = Duration::from_millis(50);

/// Options under which silence is soon broken.
fn lively() -> Options {
    Options { settings: Settings { heartbeat_ms: 300, pong_ms: 5_000, ..options().settings }, ..options() }
}

#[test]
fn a_poll_waits_for_frames_and_is_answered_without_any_after_a_while() {
    let server = start(lively());
    let mut session = Session::subscribe(server.address, JSON, Way::Poll, "news");
    let mut wire = session.carrier.take().expect("it was polled").wire;
    for _ in 0..3 {
        let began = Instant::now();
        let mut poll = Carrier::over(wire, &session.token, Way::Poll, JSON, session.got);
        let attached = poll.next().expect("what every answer begins with");
        assert_eq!(attached, json!({ "attached": { "after": session.got, "received": 2 } }));
        assert_eq!(poll.next(), None, "nothing else");
        assert!(began.elapsed() > Duration::from_millis(150), "it waited");
        wire = poll.wire;
    }
    session.go_over_on(wire, Way::Poll);
    say(server.address, "news", "at last");
    assert_eq!(session.publication()["data"], "at last");
}

#[test]
fn an_open_response_is_kept_alive_and_what_is_sent_to_keep_it_alive_does_not_count() {
    let server = start(lively());
    let ways = [(JSON, Way::Sse), (JSON, Way::Stream), (Form::Packed, Way::Stream), (JSON, Way::Ws)];
    let mut sessions = ways.map(|(form, way)| Session::subscribe(server.address, form, way, "news"));
    // Long enough for some heartbeats. A WebSocket's are pings, which are answered when they are read.
    let until = Instant::now() + Duration::from_millis(1_200);
    while Instant::now() < until {
        sessions[3].ask(9, &json!({ "id": 9, "ping": {} }));
        std::thread::sleep(PACE);
    }
    say(server.address, "news", "still here");
    for session in &mut sessions {
        assert_eq!(session.publication()["data"], "still here");
        let carrier = session.carrier.as_ref().expect("it is carried");
        assert!(
            carrier.way == Way::Ws || carrier.heartbeats >= 3,
            "{:?}: {}",
            carrier.way,
            carrier.heartbeats
        );
        session.go_over(Way::Poll);
    }
    say(server.address, "news", "and counted right");
    sessions.iter_mut().for_each(|session| assert_eq!(session.publication()["data"], "and counted right"));
}

#[test]
fn a_poll_that_was_cancelled_or_whose_answer_was_lost_is_answered_again() {
    let server = start(options());
    let mut session = Session::subscribe(server.address, JSON, Way::Poll, "news");
    for round in 0..5 {
        // Cancelled while it waited.
        session.go_over(Way::Poll);
        session.carrier.take().expect("just asked").wire.reset();
        say(server.address, "news", &format!("{round} a"));
        // Answered, and the answer was lost.
        session.go_over(Way::Poll);
        let mut lost = session.carrier.take().expect("just asked");
        assert!(lost.next().expect("a frame")["attached"].is_object());
        lost.wire.reset();
        session.go_over(Way::Poll);
        assert_eq!(session.publication()["data"], format!("{round} a"));
    }
}

#[test]
fn of_two_polls_the_newer_gets_the_frames_and_the_older_may_ask_again() {
    let server = start(options());
    for (older_at, newer_at) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let mut session = Session::connect_at(server.address, 0, JSON);
        session.go_over(Way::Poll);
        session.begin("news");
        session.park(wire_at(server.address, older_at));
        let mut older = session.carrier.take().expect("just asked").wire;
        session.go_over_on(wire_at(server.address, newer_at), Way::Poll);
        let (overtaken, _) = answer(&mut older);
        assert_eq!((overtaken.status, &*overtaken.body), (409, "another request carries the session now\n"));
        say(server.address, "news", "one");
        assert_eq!(session.publication()["data"], "one");
        session.go_over_on(older, Way::Poll);
        say(server.address, "news", "two");
        assert_eq!(
            session.publication()["data"],
            "two",
            "the connection of the older one is as good as before"
        );
        assert_eq!(session.request("DELETE", "", b"").status, 204);
    }
    server.settle(GONE);
}

#[test]
fn everything_can_go_over_one_connection() {
    let server = start(options());
    for (home, at) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let mut session = Session::connect_at(server.address, home, JSON);
        session.go_over_on(wire_at(server.address, at), Way::Poll);
        session.begin("news");
        for n in 0..20 {
            let mut wire = session.carrier.take().expect("it was polled").wire;
            let body = json!({ "publish": { "channel": "news", "data": n } }).to_string();
            let (posted, _) =
                ask(&mut wire, &format!("POST /session/{}", session.token), JSON, body.as_bytes());
            assert_eq!((posted.status, posted.header("connection")), (204, None), "{posted:?}");
            session.sent += 1;
            session.go_over_on(wire, Way::Poll);
            assert_eq!(session.publication()["data"], n);
        }
        let mut wire = session.carrier.take().expect("it was polled").wire;
        let (elsewhere, _) = ask(&mut wire, "GET /healthz", JSON, b"");
        assert_eq!(elsewhere.status, 200);
        // At last a stream, which takes the connection with it.
        session.go_over_on(wire, Way::Stream);
        say(server.address, "news", "at last");
        assert_eq!(session.publication()["data"], "at last");
        assert_eq!(session.request("DELETE", "", b"").status, 204);
    }
    server.settle(GONE);
}

#[test]
fn requests_may_come_behind_each_other_without_waiting_for_answers() {
    let server = start(options());
    for (home, at) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let mut session = Session::connect_at(server.address, home, JSON);
        session.go_over(Way::Poll);
        session.begin("news");
        let (token, got) = (&session.token, session.got);
        let post = |n: u64| {
            let body = json!({ "publish": { "channel": "news", "data": n } }).to_string();
            written(&format!("POST /session/{token}?n={n}"), JSON, body.as_bytes())
        };
        let get = |way: &str, after: u64| {
            format!("GET /session/{token}/{way}?after={after} HTTP/1.1\r\nHost: localhost\r\n\r\n")
                .into_bytes()
        };
        let mut wire = wire_at(server.address, at);
        wire.send(
            &[post(3), get("poll", got), post(4), get("poll", got + 1), get("stream", got + 1)].concat(),
        );
        let statuses = [(); 4].map(|()| {
            let (response, _) = answer(&mut wire);
            (response.status, response.body.contains("publication"))
        });
        assert_eq!(statuses, [(204, false), (200, true), (204, false), (200, true)], "{home} {at}");
        // The stream begins with the frame of which it was not said that it has come.
        while !String::from_utf8_lossy(wire.unread()).contains(r#""data":4"#) {
            assert_eq!(wire.fill(), Fill::More);
        }
        assert_eq!(session.request("DELETE", "", b"").status, 204);
    }
}

#[test]
fn what_comes_behind_a_poll_waits_until_it_is_answered() {
    let server = start(options());
    let session = Session::subscribe(server.address, JSON, Way::Poll, "news");
    let mut wire = Wire::connect(server.address);
    let poll = format!(
        "GET /session/{}/poll?after={} HTTP/1.1\r\nHost: localhost\r\n\r\n",
        session.token, session.got
    );
    wire.send(poll.as_bytes());
    // In pieces, some of them long before the answer.
    let behind = written("POST /session/none", JSON, &b"x".repeat(8_000));
    wire.send(&behind[..10]);
    wire.send(&behind[10..4_000]);
    say(server.address, "news", "now");
    let (polled, _) = answer(&mut wire);
    assert!(polled.status == 200 && polled.body.contains("now"), "{polled:?}");
    wire.send(&behind[4_000..]);
    assert_eq!(answer(&mut wire).0.status, 404);
}

#[test]
fn a_connection_ends_with_its_answer_where_the_client_wants_that() {
    let server = start(options());
    let mut session = Session::subscribe(server.address, JSON, Way::Poll, "news");
    let rows = [
        ("HTTP/1.0", "", true),
        ("HTTP/1.0", "Connection: keep-alive\r\n", true),
        ("HTTP/1.1", "Connection: close\r\n", true),
        ("HTTP/1.1", "Connection: Close\r\n", true),
        ("HTTP/1.1", "Connection: foo, close\r\n", true),
        ("HTTP/1.1", "Connection: keep-alive\r\n", false),
        ("HTTP/1.1", "", false),
    ];
    for (version, headers, ends) in rows {
        for target in ["poll", "poll?after=999"] {
            let mut wire = Wire::connect(server.address);
            let token = &session.token;
            let after = if target == "poll" { format!("?after={}", session.got) } else { String::new() };
            let get =
                format!("GET /session/{token}/{target}{after} {version}\r\nHost: localhost\r\n{headers}\r\n");
            wire.send(get.as_bytes());
            if target == "poll" {
                say(server.address, "news", "one");
                session.got += 1;
            }
            let (response, _) = answer(&mut wire);
            let said = response.header("connection");
            assert_eq!(said, ends.then_some("close"), "{target} {version} {headers:?} {response:?}");
            match ends {
                true => wire.wait_for_end(),
                false => assert_eq!(ask(&mut wire, "GET /healthz", JSON, b"").0.status, 200),
            }
        }
    }
}

#[test]
fn a_request_for_frames_has_no_body_and_one_method() {
    let server = start(options());
    let session = Session::connect(server.address, JSON);
    for way in ["sse", "stream", "poll"] {
        let refused = session.request("GET", &format!("/{way}"), b"x");
        assert_eq!((refused.status, &*refused.body), (400, "a request for frames has no body\n"), "{way}");
        let refused = session.request("POST", &format!("/{way}"), b"");
        assert_eq!((refused.status, refused.header("allow")), (405, Some("GET")), "{way}");
    }
    let rows = [("GET", "", "POST, DELETE"), ("PUT", "", "POST, DELETE"), ("GET", "/end", "POST")];
    for (method, behind, allowed) in rows {
        let refused = session.request(method, behind, b"");
        assert_eq!((refused.status, refused.header("allow")), (405, Some(allowed)), "{method} {behind}");
    }
}
