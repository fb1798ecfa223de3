//! What carries a session down, and how it goes over from one transport to another.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use serde_json::{Value, json};

use crate::support::http::{request, say};
use crate::support::native::{Client, offset};
use crate::support::session::{Carrier, Form, Session, Way, once, shard, status, wire_at};
use crate::support::wire::Wire;
use crate::support::{Running, start};
use crate::{GONE, options};

const FORMS: [Form; 2] = [Form::Json, Form::Packed];

#[test]
fn a_session_begins_as_the_documentation_says() {
    let server = start(options());
    let (response, _) = once(server.address, "POST /session", Form::Json, br#"{"id":1,"connect":{}}"#);
    assert_eq!(response.header("cache-control"), Some("no-store"));
    let opened: Value = serde_json::from_str(&response.body).expect("JSON");
    assert_eq!((&opened["linger_ms"], &opened["retained_bytes_max"]), (&json!(30_000), &json!(65_536)));
    let mut session = Session::connect(server.address, Form::Json);
    session.send(&json!({ "id": 2, "subscribe": { "channel": "news" } }));
    let mut carrier = Carrier::open(server.address, &session.token, Way::Stream, Form::Json, 0);
    assert_eq!(carrier.next(), Some(json!({ "attached": { "after": 0, "received": 2 } })));
    let connected = carrier.next().expect("a frame");
    assert_eq!((&connected["id"], &connected["connected"]["message_bytes_max"]), (&json!(1), &json!(65_536)));
    let subscribed = carrier.next().expect("a frame");
    assert_eq!((&subscribed["id"], &subscribed["subscribed"]["channel"]), (&json!(2), &json!("news")));
}

#[test]
fn an_address_with_channels_subscribes_once_it_is_opened() {
    let server = start(options());
    let mut session = Session::open(server.address, "?channels=a,b%2Cc", Form::Json, None);
    session.go_over(Way::Stream);
    assert!(session.next()["connected"].is_object());
    for channel in ["a", "b,c"] {
        assert_eq!(session.next()["subscribed"]["channel"], channel);
        say(server.address, channel, "hello");
    }
    assert_eq!([session.publication(), session.publication()].map(|p| p["channel"].clone()), ["a", "b,c"]);
    assert_eq!(status(server.address, "POST /session?channels=").0, 400);
}

/// A session on one shard, asked for on a connection of the same or of the other one.
fn carried(server: &Running, form: Form, way: Way, home: u8, asked: u8) {
    let mut session = Session::connect_at(server.address, home, form);
    assert_eq!(shard(&session.token), home);
    session.go_over_on(wire_at(server.address, asked), way);
    session.begin("news");
    let told = "gr\u{fc}\u{df}e \u{1f600} \r\n\0";
    let said = say(server.address, "news", told);
    let publication = session.publication();
    assert_eq!(publication["data"], told, "{form:?} {way:?}");
    assert_eq!(offset(&publication), offset(&said));
    let published = session.ask(3, &json!({ "id": 3, "publish": { "channel": "x", "data": [1, null] } }));
    assert!(published["published"]["offset"].is_number(), "{published}");
    if way == Way::Poll {
        session.park(wire_at(server.address, asked));
    }
    assert_eq!(session.request("DELETE", "", b"").status, 204);
    assert_eq!(session.closing(), 1001);
}

#[test]
fn every_transport_carries_a_session_wherever_it_is() {
    let server = start(options());
    for form in FORMS {
        for way in form.ways() {
            for (home, asked) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                carried(&server, form, *way, home, asked);
            }
        }
    }
    server.settle(GONE);
}

#[test]
fn server_sent_events_are_text_and_a_session_keeps_its_form() {
    let server = start(options());
    let packed = Session::connect(server.address, Form::Packed);
    let (refused, text) = status(server.address, &format!("GET /session/{}/sse", packed.token));
    assert_eq!(refused, 400, "{text}");
    let json = Session::connect(server.address, Form::Json);
    for (session, form) in [(&packed, Form::Json), (&json, Form::Packed)] {
        let head = format!("POST /session/{}", session.token);
        let body = form.write(&json!({ "ping": {} }));
        assert_eq!(once(server.address, &head, form, &body).0.status, 415, "{form:?}");
        // A WebSocket of the other form does not get it either, and leaves it as it was.
        let mut wrong = Carrier::open(server.address, &session.token, Way::Ws, form, 0);
        assert_eq!(wrong.next(), None);
    }
    for mut session in [packed, json] {
        session.go_over(Way::Ws);
        session.begin("news");
    }
}

#[test]
fn proxies_and_browsers_are_told_what_to_do_with_an_answer() {
    let server = start(options());
    let kinds = [
        (Form::Json, Way::Sse, "text/event-stream"),
        (Form::Json, Way::Stream, "application/x-ndjson"),
        (Form::Json, Way::Poll, "application/x-ndjson"),
        (Form::Packed, Way::Stream, "application/vnd.msgpack"),
        (Form::Packed, Way::Poll, "application/vnd.msgpack"),
    ];
    for (form, way, kind) in kinds {
        let mut session = Session::connect(server.address, form);
        session.go_over(way);
        session.next();
        let head = session.carrier.as_ref().and_then(|carrier| carrier.head.clone()).expect("a head");
        let endless = way != Way::Poll;
        for (name, value) in [
            ("content-type", Some(kind)),
            ("cache-control", Some("no-store, no-transform")),
            ("x-accel-buffering", endless.then_some("no")),
            ("x-content-type-options", Some("nosniff")),
            ("connection", endless.then_some("close")),
            ("transfer-encoding", None),
            ("content-encoding", None),
            ("access-control-allow-origin", None),
        ] {
            assert_eq!(head.header(name), value, "{form:?} {way:?} {name}");
        }
        assert_eq!(head.header("content-length").is_some(), !endless, "{way:?}");
        assert!(head.header("date").is_some(), "{way:?}");
    }
}

/// Publishes until nobody listens any more, at most so many ahead of who does.
fn flow(server: &Running, channel: &'static str, ahead: usize) -> Receiver<()> {
    let (done, heard) = sync_channel(ahead);
    let address = server.address;
    thread::spawn(move || {
        for n in 0.. {
            let body = json!({ "channel": channel, "data": n }).to_string();
            // The server may have stopped: then so has the test.
            if request(address, "POST /api/v1/publish HTTP/1.1", &body).status != 200
                || done.send(()).is_err()
            {
                return;
            }
        }
    });
    heard
}

/// Goes through every pair of transports. Of what each brings it reads a part and leaves the rest.
fn wander(server: &Running, form: Form, home: u8, channel: &'static str) {
    let mut session = Session::connect_at(server.address, home, form);
    session.go_over(Way::Stream);
    session.begin(channel);
    let heard = flow(server, channel, 20);
    let mut expected = 0;
    let mut read = |session: &mut Session, frames: u64| {
        for _ in 0..frames {
            let publication = session.publication();
            heard.recv().expect("it was published");
            expected += 1;
            assert_eq!(offset(&publication), expected, "after {} frames", session.got);
        }
    };
    for from in form.ways() {
        for to in form.ways() {
            for (asked, way) in [(0, from), (1, to)] {
                session.go_over_on(wire_at(server.address, asked), *way);
                let frames = 1 + session.got % 7;
                read(&mut session, frames);
            }
        }
    }
    read(&mut session, 30);
    drop(heard);
    assert_eq!(session.request("DELETE", "", b"").status, 204);
}

#[test]
fn a_session_that_goes_through_every_pair_of_transports_loses_and_doubles_nothing() {
    let server = start(options());
    for (form, home, channel) in
        [(FORMS[0], 0, "a"), (FORMS[0], 1, "b"), (FORMS[1], 0, "c"), (FORMS[1], 1, "d")]
    {
        wander(&server, form, home, channel);
    }
    server.settle(GONE);
}

#[test]
fn the_newest_transport_gets_the_frames_and_the_one_before_ends() {
    let server = start(options());
    for way in Form::Json.ways() {
        let mut session = Session::subscribe(server.address, Form::Json, *way, "news");
        if *way == Way::Poll {
            session.park(Wire::connect(server.address));
        }
        let mut former = session.carrier.take().expect("it is carried");
        session.attach(Way::Stream);
        say(server.address, "news", "one");
        assert_eq!(session.publication()["data"], "one");
        match way {
            Way::Poll => {
                let overtaken = former.wire.response().expect("an answer");
                assert_eq!((overtaken.status, overtaken.header("connection")), (409, None), "{overtaken:?}");
            }
            _ => assert_eq!(former.next(), None, "{way:?}"),
        }
    }
}

#[test]
fn messages_on_a_websocket_that_is_overtaken_are_repeated_by_number_and_carried_out_once() {
    const MESSAGES: u64 = 40;
    let server = start(options());
    for round in 0..10 {
        let channel = format!("c{round}");
        let mut session = Session::subscribe(server.address, Form::Json, Way::Ws, "news");
        let (mut listener, _) = Client::subscribe(server.address, &channel);
        let before = session.sent;
        let publish = |n: u64| json!({ "publish": { "channel": channel, "data": n } });
        (0..MESSAGES).for_each(|n| session.send(&publish(n)));
        session.attach(Way::Stream);
        for n in session.received - before..MESSAGES {
            let numbered = format!("?n={}", before + n + 1);
            let response = session.request("POST", &numbered, &session.form.write(&publish(n)));
            assert_eq!(response.status, 204, "{n}");
        }
        for n in 0..MESSAGES {
            assert_eq!(listener.publication()["data"], n, "round {round}");
        }
        assert_eq!(offset(&say(server.address, &channel, "last")), MESSAGES + 1);
    }
}
