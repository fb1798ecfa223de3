//! Nodes that are gone, clients that go, and clients that do not read.

use std::net::TcpStream;
use std::time::Duration;

use duplex::Settings;
use serde_json::json;

use crate::client::{Hub, Manner, Reconnect, Way as Carried};
use crate::polled::{ECHO, Polled, UNKNOWN_SESSION};
use crate::support::http::{publish, say};
use crate::support::session::{Carrier, Form, Session, Way, status};
use crate::support::wire::Wire;
use crate::support::{Running, eventually};
use crate::together::{GONE, nodes, options};

/// A session, an Engine.IO client and a SignalR connection of a node that has ended since.
fn orphans(home: Running, away: &Running) -> (Session, Polled, Hub) {
    let mut session = Session::connect(home.address, Form::Json);
    session.address = away.address;
    let client = Polled::open(home.address, ECHO);
    let client = Polled::resume(away.address, &client.target, &client.sid);
    let manner = Manner { way: Carried::Poll, via: Some(away.address), ..Manner::default() };
    let mut hub = Hub::open_as(home.address, manner);
    hub.is_well();
    // Connections to that node are kept, as they would be.
    assert_eq!(session.request("POST", "", b"{\"ping\":{}}").status, 204);
    home.stop();
    (session, client, hub)
}

/// Panics unless the sessions are unknown, as each protocol has it.
fn are_unknown((session, client, hub): &mut (Session, Polled, Hub)) {
    let token = &session.token;
    for head in [
        format!("GET /session/{token}/poll"),
        format!("GET /session/{token}/stream"),
        format!("POST /session/{token}"),
        format!("DELETE /session/{token}"),
    ] {
        let (status, sentence) = status(session.address, &head);
        assert_eq!(status, 404, "{head}");
        assert!(sentence.starts_with("there is no such session"), "{head}: {sentence}");
    }
    session.carrier = Some(Carrier::open(session.address, &session.token, Way::Ws, Form::Json, 0));
    let mut wire = session.carrier.take().expect("just asked").wire;
    assert_eq!(wire.response().expect("an answer").status, 101);
    let closed = wire.until_end();
    assert!(format!("{closed:?}").contains("there is no such session"), "{closed:?}");
    client.is_gone();
    assert_eq!(client.post(b"4x").body, UNKNOWN_SESSION);
    hub.is_gone();
}

#[test]
fn sessions_of_a_node_that_has_ended_are_unknown() {
    let [home, away] = nodes(&options());
    let id = home.server().nodes().own();
    let mut orphans = orphans(home, &away);
    are_unknown(&mut orphans);
    away.server().nodes().gone(id);
    are_unknown(&mut orphans);
    // It serves its own as before.
    Session::subscribe(away.address, Form::Json, Way::Poll, "news");
}

#[test]
fn sessions_of_a_node_that_is_not_known_are_unknown() {
    let [home] = nodes(&options());
    let [away] = nodes(&options());
    let client = Polled::open(home.address, ECHO);
    Polled::resume(away.address, &client.target, &client.sid).is_gone();
    let token = &Session::connect(home.address, Form::Json).token;
    assert_eq!(status(away.address, &format!("GET /session/{token}/poll")).0, 404);
    // Nobody has begun it, but it would be on the other node.
    let token = crate::client::fresh(home.address);
    let begun = crate::client::once(away.address, "GET", &crate::client::target(&token), "");
    assert_eq!(crate::client::told(&begun), (404, crate::client::UNKNOWN));
}

#[test]
fn a_client_that_goes_is_missed_by_the_node_of_its_session() {
    let options = options();
    let settings = Settings { linger_ms: 200, ..options.settings };
    let [home, away] = nodes(&duplex::Options { settings, ..options });
    for way in [Way::Poll, Way::Stream, Way::Sse, Way::Ws] {
        let mut session = Session::connect(home.address, Form::Json);
        session.address = away.address;
        session.go_over(way);
        session.begin("news");
        if way == Way::Poll {
            session.go_over(Way::Poll);
        }
        assert_eq!(home.gauges().sessions(), 1, "{way:?}");
        session.carrier.take().expect("it is carried").wire.reset();
        home.settle(GONE);
        away.settle(GONE);
    }
    let manner = Manner { via: Some(away.address), ..Manner::default() };
    let hub = Hub::open_as(home.address, manner);
    assert_eq!(home.gauges().sessions(), 1);
    hub.down.reset();
    home.settle(GONE);
}

#[test]
fn a_node_that_ends_takes_leave_of_clients_that_come_through_another() {
    let [home, away] = nodes(&options());
    let ways = [Way::Poll, Way::Stream, Way::Sse, Way::Ws];
    let mut sessions = ways.map(|way| {
        let mut session = Session::connect(home.address, Form::Json);
        session.address = away.address;
        session.go_over(way);
        session.begin("news");
        session
    });
    // Its poll waits.
    sessions[0].go_over(Way::Poll);
    say(home.address, "news", "one");
    sessions.iter_mut().for_each(|session| assert_eq!(session.publication()["data"], "one"));
    sessions[0].go_over(Way::Poll);
    let stopping = std::thread::spawn(move || home.stop());
    for session in &mut sessions {
        assert_eq!(session.closing(), 1012);
    }
    stopping.join().expect("it stops");
}

#[test]
fn a_node_that_ends_waits_for_answers_that_it_passes_on_and_sends_clients_elsewhere() {
    let [home, away] = nodes(&options());
    let mut session = Session::connect(home.address, Form::Json);
    session.address = away.address;
    session.go_over(Way::Poll);
    session.begin("news");
    session.go_over_on(Wire::connect(away.address), Way::Poll);
    // It is there when it is overtaken by another, which then waits in its place.
    let older = session.carrier.take().expect("just asked").wire;
    session.overtake(Wire::connect(away.address), &older);
    let address = away.address;
    let stopping = std::thread::spawn(move || away.stop());
    eventually(|| "it does not listen any more".to_owned(), || TcpStream::connect(address).is_err());
    assert!(!stopping.is_finished());
    say(home.address, "news", "in time");
    assert_eq!(session.publication()["data"], "in time");
    let head = session.carrier.as_ref().and_then(|carrier| carrier.head.clone()).expect("a head");
    assert_eq!(head.header("connection"), Some("close"));
    stopping.join().expect("it stops");
    session.address = home.address;
    session.go_over(Way::Poll);
    say(home.address, "news", "elsewhere");
    assert_eq!(session.publication()["data"], "elsewhere");
}

#[test]
fn a_client_that_does_not_read_is_found_out_by_the_node_of_its_session() {
    const MESSAGE: usize = 32 << 10;
    const MESSAGES: usize = 1_000;
    let options = options();
    let settings = Settings { outbox_bytes: 256 << 10, stall_ms: 300_000, ..options.settings };
    let [home, away] = nodes(&duplex::Options { settings, ..options });
    for way in [Way::Ws, Way::Stream, Way::Sse] {
        let mut session = Session::connect(home.address, Form::Json);
        session.address = away.address;
        session.go_over_on(Wire::connect_narrow(away.address), way);
        session.begin("news");
        // More than all kernels take, and far less than what would be published if nobody noticed.
        let data = "x".repeat(MESSAGE);
        let mut published = 0;
        while home.gauges().subscriptions() > 0 {
            assert!(published < MESSAGES, "{way:?}: nobody noticed");
            publish(home.address, &json!({ "channel": "news", "data": data }).to_string());
            published += 1;
        }
        drop(session);
        home.settle(GONE);
        away.settle(GONE);
    }
}

#[test]
fn a_client_that_takes_nothing_is_let_go_in_time() {
    let options = options();
    let settings = Settings { stall_ms: 500, ..options.settings };
    let [home, away] = nodes(&duplex::Options { settings, ..options });
    let mut session = Session::connect(home.address, Form::Json);
    session.address = away.address;
    session.go_over_on(Wire::connect_narrow(away.address), Way::Stream);
    session.begin("news");
    let data = "x".repeat(32 << 10);
    for _ in 0..24 {
        publish(home.address, &json!({ "channel": "news", "data": data }).to_string());
    }
    // Its wire is still there, and nobody reads.
    eventually(|| "its connection is ended".to_owned(), || away.server().connections() == 0);
    drop(session);
}

#[test]
fn connections_between_nodes_are_used_again_and_do_not_add_up() {
    let [home, away] = nodes(&options());
    let mut sessions: Vec<Session> = (0..4).map(|_| Session::connect(home.address, Form::Json)).collect();
    for session in &mut sessions {
        session.address = away.address;
    }
    for _ in 0..100 {
        for session in &sessions {
            assert_eq!(session.request("POST", "", b"{\"ping\":{}}").status, 204);
        }
    }
    eventually(
        || format!("few connections, now {}", home.server().connections()),
        || home.server().connections() <= 16,
    );
}

#[test]
fn a_stale_connection_between_nodes_is_not_noticed() {
    let mut options = options();
    // Idle connections end after this, at both ends.
    options.timeouts.head = Duration::from_millis(300);
    let [home, away] = nodes(&options);
    let session = Session::connect(home.address, Form::Json);
    let target = format!("POST /session/{}", session.token);
    for pause_ms in [0, 100, 140, 150, 160, 250, 290, 300, 310, 500] {
        std::thread::sleep(Duration::from_millis(pause_ms));
        assert_eq!(status(away.address, &target).0, 204, "after {pause_ms} ms");
    }
}

#[test]
fn a_stateful_connection_whose_node_is_gone_is_unknown() {
    let [home, away] = nodes(&options());
    let manner = Manner { via: Some(away.address), reconnect: Reconnect::Stateful, ..Manner::default() };
    let mut hub = Hub::open_as(home.address, manner);
    hub.is_well();
    home.stop();
    assert_eq!(hub.late_next().filter(|message| message["type"] != 7), None);
    hub.is_gone();
}
