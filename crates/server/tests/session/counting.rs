//! Frames are counted down and messages up, so that nothing is lost or done twice when an answer is lost.

use std::thread;

use duplex::Options;
use duplex_core::CloseReason;
use serde_json::{Value, json};

use crate::support::http::say;
use crate::support::native::{Client, offset};
use crate::support::session::{Carrier, Form, Session, Way, status};
use crate::support::{Levels, Running, eventually, start};
use crate::{GONE, options};

const JSON: Form = Form::Json;

fn publish(data: &str) -> Value {
    json!({ "publish": { "channel": "news", "data": data } })
}

/// How many publications there are in `news`, with the one that asks.
fn publications(server: &Running) -> u64 {
    offset(&say(server.address, "news", "how many?"))
}

/// A session that has read `count` publications, of which the server may keep 2,000 bytes.
fn after_reading(count: u64, way: Way) -> (Running, Session) {
    let server = start(Options { retained_bytes: 2_000, ..options() });
    let mut session = Session::subscribe(server.address, JSON, way, "news");
    for n in 0..count {
        say(server.address, "news", &format!("{n:100}"));
        assert_eq!(offset(&session.publication()), n + 1);
    }
    (server, session)
}

#[test]
fn frames_that_were_not_sent_cannot_be_asked_for() {
    let (server, mut session) = after_reading(3, Way::Stream);
    let ahead = session.got + 1;
    for target in ["/stream", "/poll", "/sse", ""] {
        let method = if target.is_empty() { "POST" } else { "GET" };
        let response = session.request(method, &format!("{target}?after={ahead}"), b"");
        assert_eq!(response.status, 400, "{target}");
        assert_eq!(response.body, format!("after: only {} frames were sent\n", session.got), "{target}");
    }
    let mut ws = Carrier::open(server.address, &session.token, Way::Ws, JSON, ahead);
    assert_eq!(ws.next(), None, "a WebSocket is closed");
    say(server.address, "news", "still here");
    assert_eq!(session.publication()["data"], "still here", "and the transport that carried it still does");
}

#[test]
fn whoever_asks_for_frames_that_are_no_longer_kept_must_open_another_session() {
    // Who polls has said what it has got.
    for way in JSON.ways().iter().filter(|way| **way != Way::Poll) {
        let (server, mut session) = after_reading(100, *way);
        let late = format!("GET /session/{}/stream?after=2", session.token);
        assert_eq!(status(server.address, &late).0, 410, "{way:?}");
        say(server.address, "news", "still here");
        assert_eq!(session.publication()["data"], "still here", "{way:?}: what carries it still does");
        // When nothing does, the session is good for nothing.
        session.carrier = None;
        server.settle(Levels { sockets: 0, ..Levels::of(1, 1) });
        let mut asked = Carrier::open(server.address, &session.token, Way::Stream, JSON, 2);
        let refused = asked.wire.response().expect("an answer");
        assert_eq!(refused.status, 410, "{way:?}: {refused:?}");
        assert_eq!(server.gauges().closed(&CloseReason::INSUFFICIENT_STATE), 1, "{way:?}");
        drop(asked);
        server.settle(GONE);
        let gone = status(server.address, &format!("GET /session/{}/poll", session.token));
        assert_eq!(gone.0, 404, "{way:?}");
    }
}

#[test]
fn what_a_client_says_it_has_got_is_forgotten() {
    let (server, session) = after_reading(10, Way::Stream);
    let held = || server.gauges().outbox_bytes();
    eventually(|| "some is kept".to_owned(), || held() > 0);
    assert!(held() < 2_000 + 500, "{} bytes, but not much more than is set", held());
    let some = session.got - 2;
    for (after, expected) in [(some, 204), (some - 1, 204), (session.got + 1, 400), (session.got, 204)] {
        assert_eq!(session.request("POST", &format!("?after={after}"), b"").status, expected, "{after}");
    }
    eventually(|| format!("nothing is kept, {} bytes", held()), || held() == 0);
    // It was forgotten indeed: who asks for it, since it knew no better yet, gets what comes behind it.
    let mut slower = Carrier::open(server.address, &session.token, Way::Stream, JSON, session.got - 1);
    assert_eq!(slower.next().expect("a frame")["attached"]["after"], session.got);
    say(server.address, "news", "next");
    assert_eq!(slower.next().expect("a frame")["publication"]["data"], "next");
}

#[test]
fn what_is_kept_is_taken_off_the_books_however_a_session_goes_on() {
    let server = start(options());
    for way in JSON.ways() {
        let mut session = Session::subscribe(server.address, JSON, *way, "news");
        let baseline = publications(&server);
        (0..50).for_each(|n| drop(say(server.address, "news", &n.to_string())));
        let last = baseline + 50;
        while offset(&session.publication()) != last {}
        session.carrier = None;
        say(server.address, "news", "while it was away");
        session.go_over(Way::Sse);
        assert_eq!(session.publication()["data"], "while it was away", "{way:?}");
        assert_eq!(session.request("POST", "/end", b"").status, 204);
        assert_eq!(session.closing(), 1001);
        session.carrier = None;
        server.settle(GONE);
        let held = || server.gauges().outbox_bytes();
        eventually(|| format!("{way:?}: nothing is held, {} bytes", held()), || held() == 0);
    }
}

#[test]
fn a_message_that_is_repeated_is_carried_out_once_and_none_is_left_out() {
    let server = start(options());
    let session = Session::connect(server.address, JSON);
    // The first message was in the body of `POST /session`.
    let rows = [
        ("?n=1", "again", 204, 0),
        ("?n=2", "a", 204, 1),
        ("?n=2", "a", 204, 0),
        ("?n=2", "other words", 204, 0),
        ("?n=4", "early", 409, 0),
        ("?n=3", "b", 204, 1),
        ("?n=0", "before all", 204, 0),
        ("", "without a number", 204, 1),
        ("?n=4", "that was the fourth", 204, 0),
        ("?n=5", "c", 204, 1),
        ("?n=7&after=0", "early", 409, 0),
    ];
    let mut before = publications(&server);
    for (query, data, expected, published) in rows {
        let response = session.request("POST", query, publish(data).to_string().as_bytes());
        assert_eq!(response.status, expected, "{query} {data}: {response:?}");
        if expected == 409 {
            assert!(response.body.contains("have arrived"), "{response:?}");
        }
        let now = publications(&server);
        assert_eq!(now - before, published + 1, "{query} {data}");
        before = now;
    }
    let early = session.request("POST", "?n=9", b"{}").body;
    assert_eq!(early, "message 6 is next, since 5 have arrived; send the missing ones first\n");
}

#[test]
fn messages_at_once_are_all_carried_out_and_one_number_once() {
    const AT_ONCE: u64 = 16;
    let server = start(options());
    let mut session = Session::connect(server.address, JSON);
    let before = publications(&server);
    let post = |query: &str| {
        thread::scope(|scope| {
            for n in 0..AT_ONCE {
                let body = publish(&n.to_string()).to_string();
                let (session, query) = (&session, query);
                scope.spawn(move || {
                    assert_eq!(session.request("POST", query, body.as_bytes()).status, 204, "{query}");
                });
            }
        });
    };
    post("");
    post(&format!("?n={}", 2 + AT_ONCE));
    assert_eq!(publications(&server) - before, AT_ONCE + 1 + 1);
    session.sent += AT_ONCE + 1;
    session.go_over(Way::Poll);
    session.next();
    assert_eq!(session.received, session.sent);
}

#[test]
fn an_answer_that_was_cut_off_comes_again_from_where_the_client_has_got() {
    let server = start(options());
    for (form, way) in [
        (JSON, Way::Sse),
        (JSON, Way::Stream),
        (JSON, Way::Poll),
        (JSON, Way::Ws),
        (Form::Packed, Way::Stream),
        (Form::Packed, Way::Poll),
        (Form::Packed, Way::Ws),
    ] {
        let mut session = Session::subscribe(server.address, form, way, "news");
        let first = publications(&server);
        // Read up to here; the rest is on its way or even in the client's kernel when its connection breaks.
        while offset(&session.publication()) != first {}
        for round in 0..5 {
            (0..10).for_each(|n| drop(say(server.address, "news", &format!("{round} {n}"))));
            if let Some(carrier) = session.carrier.take() {
                carrier.wire.reset();
            }
            session.go_over(way);
            for n in 0..if round == 4 { 10 } else { 5 } {
                let publication = session.publication();
                assert_eq!(offset(&publication), first + 1 + 5 * round + n, "{form:?} {way:?}");
            }
        }
    }
}

#[test]
fn an_array_is_one_message_and_each_command_in_it_is_answered() {
    let server = start(options());
    let mut session = Session::connect(server.address, JSON);
    let (mut listener, _) = Client::subscribe(server.address, "news");
    session.send(&json!([publish("a"), { "id": 2, "ping": {} }, publish("b"), { "id": 3, "ping": {} }]));
    session.go_over(Way::Poll);
    session.next();
    assert_eq!([session.next()["id"].clone(), session.next()["id"].clone()], [2, 3]);
    assert_eq!(session.received, 2);
    assert_eq!([listener.publication(), listener.publication()].map(|p| p["data"].clone()), ["a", "b"]);
}
