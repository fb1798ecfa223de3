//! Sessions of the native protocol, over each transport.

use serde_json::{Value, json};

use crate::support::http::say;
use crate::support::session::{Form, Session, Way, answer, ask, written};
use crate::support::wire::{Fill, Wire};
use crate::together::{GONE, nodes, options};

const FORMS: [Form; 2] = [Form::Json, Form::Packed];

fn publish(data: &Value) -> Value {
    json!({ "publish": { "channel": "news", "data": data } })
}

#[test]
fn any_transport_on_any_node_carries_a_session() {
    let [home, away] = nodes(&options());
    for form in FORMS {
        for way in form.ways() {
            let mut session = Session::connect(home.address, form);
            session.address = away.address;
            session.go_over(*way);
            session.begin("news");
            for n in 0..20 {
                session.send(&publish(&json!(n)));
                assert_eq!(session.publication()["data"], n, "{form:?} {way:?}");
                say(home.address, "news", "from elsewhere");
                assert_eq!(session.publication()["data"], "from elsewhere", "{form:?} {way:?}");
            }
            let ended = session.request("DELETE", "", b"");
            assert_eq!((ended.status, &*ended.body), (204, ""), "{form:?} {way:?}");
            if *way != Way::Poll {
                assert_eq!(session.closing(), 1001, "{form:?} {way:?}");
            }
        }
    }
    home.settle(GONE);
    away.settle(GONE);
}

#[test]
fn requests_go_to_each_node_in_turn_and_nothing_is_lost_or_doubled() {
    let nodes: [_; 3] = nodes(&options());
    for form in FORMS {
        let mut session = Session::connect(nodes[0].address, form);
        session.go_over(Way::Poll);
        session.begin("news");
        let mut ways = form.ways().iter().cycle();
        for n in 0..40 {
            session.address = nodes[n % 3].address;
            if n % 4 == 0 {
                session.go_over(*ways.next().expect("it goes on for ever"));
            }
            // Over whatever carries it, or by a request to the node whose turn it is.
            session.send(&publish(&json!(n)));
            assert_eq!(session.publication()["data"], n, "{form:?}");
            say(nodes[0].address, "news", "from elsewhere");
            assert_eq!(session.publication()["data"], "from elsewhere", "{form:?}");
        }
        assert_eq!(session.request("DELETE", "", b"").status, 204);
    }
    nodes.iter().for_each(|node| node.settle(GONE));
}

#[test]
fn a_message_is_carried_out_once_whichever_nodes_it_is_sent_to() {
    let nodes: [_; 3] = nodes(&options());
    let mut session = Session::subscribe(nodes[0].address, Form::Json, Way::Stream, "news");
    for n in 0..10 {
        let body = publish(&json!(n)).to_string();
        session.sent += 1;
        for node in &nodes {
            session.address = node.address;
            let sent = session.request("POST", &format!("?n={}", session.sent), body.as_bytes());
            assert_eq!(sent.status, 204, "{sent:?}");
        }
    }
    for n in 0..10 {
        assert_eq!(session.publication()["data"], n);
    }
}

#[test]
fn one_connection_serves_for_everything() {
    let [home, away] = nodes(&options());
    let mut session = Session::connect(home.address, Form::Json);
    session.go_over_on(Wire::connect(away.address), Way::Poll);
    session.begin("news");
    for n in 0..20 {
        let mut wire = session.carrier.take().expect("it was polled").wire;
        let target = format!("POST /session/{}", session.token);
        let (posted, _) = ask(&mut wire, &target, Form::Json, publish(&json!(n)).to_string().as_bytes());
        assert_eq!((posted.status, posted.header("connection")), (204, None), "{posted:?}");
        session.sent += 1;
        let (elsewhere, _) = ask(&mut wire, "GET /healthz", Form::Json, b"");
        assert_eq!(elsewhere.status, 200);
        session.go_over_on(wire, Way::Poll);
        assert_eq!(session.publication()["data"], n);
    }
    // At last a WebSocket, which takes the connection with it.
    let wire = session.carrier.take().expect("it was polled").wire;
    session.go_over_on(wire, Way::Ws);
    say(home.address, "news", "at last");
    assert_eq!(session.publication()["data"], "at last");
    assert_eq!(session.request("DELETE", "", b"").status, 204);
    home.settle(GONE);
    away.settle(GONE);
}

#[test]
fn requests_may_come_behind_each_other_without_waiting_for_answers() {
    let [home, away] = nodes(&options());
    let mut session = Session::connect(home.address, Form::Json);
    session.go_over(Way::Poll);
    session.begin("news");
    let (token, got) = (&session.token, session.got);
    let post = |n: u64| {
        written(
            &format!("POST /session/{token}?n={n}"),
            Form::Json,
            publish(&json!(n)).to_string().as_bytes(),
        )
    };
    let get = |way: &str, after: u64| {
        format!("GET /session/{token}/{way}?after={after} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes()
    };
    let mut wire = Wire::connect(away.address);
    wire.send(&[post(3), get("poll", got), post(4), get("poll", got + 1), get("stream", got + 1)].concat());
    let statuses = [(); 4].map(|()| {
        let (response, _) = answer(&mut wire);
        (response.status, response.body.contains("publication"))
    });
    assert_eq!(statuses, [(204, false), (200, true), (204, false), (200, true)]);
    while !String::from_utf8_lossy(wire.unread()).contains(r#""data":4"#) {
        assert_eq!(wire.fill(), Fill::More);
    }
}

#[test]
fn what_follows_a_stream_on_its_connection_does_not_reach_the_other_node() {
    let [home, away] = nodes(&options());
    let mut session = Session::subscribe(home.address, Form::Json, Way::Poll, "news");
    session.address = away.address;
    session.go_over(Way::Stream);
    say(home.address, "news", "one");
    assert_eq!(session.publication()["data"], "one");
    let smuggled = written(&format!("DELETE /session/{}", session.token), Form::Json, b"");
    session.carrier.as_mut().expect("a stream").wire.send(&smuggled);
    say(home.address, "news", "two");
    assert_eq!(session.publication()["data"], "two");
    session.go_over(Way::Poll);
    say(home.address, "news", "still there");
    assert_eq!(session.publication()["data"], "still there");
}
