//! How long a session lives, and how it learns of its end wherever it is.

use duplex::{Drain, Options, Settings};
use duplex_core::CloseReason;
use serde_json::{Value, json};

use crate::support::http::{request, say};
use crate::support::session::{Form, Session, Way, status, wire_at};
use crate::support::tokens::{API_KEY, closed, token};
use crate::support::wire::Wire;
use crate::support::{Running, eventually, start};
use crate::{GONE, options};

const JSON: Form = Form::Json;

fn with(settings: Settings) -> Running {
    start(Options { settings, ..options() })
}

fn eventually_closed(server: &Running, reason: &CloseReason, count: u64) {
    let closed = || server.gauges().closed(reason);
    eventually(|| format!("{count} closed with {}, {} are", reason.code, closed()), || closed() == count);
}

#[test]
fn a_session_that_nothing_carries_lives_for_as_long_as_is_set() {
    let server = with(Settings { linger_ms: 500, close_ms: 300, ..options().settings });
    let mut away = 0;
    for form in [JSON, Form::Packed] {
        // One that was never carried, and one whose transport broke, for each transport.
        Session::connect(server.address, form);
        for way in form.ways() {
            let mut session = Session::subscribe(server.address, form, *way, "news");
            session.carrier.take().expect("it is carried").wire.reset();
        }
        away += 1 + form.ways().len() as u64;
    }
    let carried = Session::subscribe(server.address, JSON, Way::Stream, "news");
    eventually_closed(&server, &CloseReason::ABSENT, away);
    eventually(|| "one is left".to_owned(), || server.gauges().sessions() == 1);
    assert_eq!(server.gauges().subscriptions(), 1);
    drop(carried);
    server.settle(GONE);
    eventually(|| "nothing is held".to_owned(), || server.gauges().outbox_bytes() == 0);
}

#[test]
fn a_session_that_is_never_carried_lives_no_longer_though_it_was_never_sent_anything() {
    let settings = Settings { linger_ms: 300, heartbeat_ms: 300_000, ..options().settings };
    let server = with(settings);
    for form in [JSON, Form::Packed] {
        Session::open(server.address, "", form, Some(&json!({ "connect": {} })));
    }
    eventually_closed(&server, &CloseReason::ABSENT, 2);
    server.settle(GONE);
}

#[test]
fn whoever_comes_back_in_time_hears_why_the_session_has_ended() {
    let server = with(Settings { linger_ms: 300, close_ms: 20_000, ..options().settings });
    for (count, way) in (1..).zip(JSON.ways()) {
        let mut session = Session::subscribe(server.address, JSON, *way, "news");
        session.carrier = None;
        say(server.address, "news", "while it was away");
        eventually_closed(&server, &CloseReason::ABSENT, count);
        let late = session.request("POST", "", br#"{"ping":{}}"#);
        assert_eq!(late.status, 404, "nothing is carried out any more");
        session.go_over(*way);
        assert_eq!(session.publication()["data"], "while it was away", "{way:?}");
        assert_eq!(session.closing(), 3015, "{way:?}");
        session.carrier = None;
    }
    server.settle(GONE);
}

#[test]
fn a_session_must_say_who_it_is_in_time_however_often_it_is_asked_for() {
    let server = with(Settings { connect_ms: 300, close_ms: 300, ..options().settings });
    let mut silent = Session::open(server.address, "", JSON, None);
    silent.go_over(Way::Sse);
    let mut pinging = Session::open(server.address, "", JSON, Some(&json!({ "ping": {} })));
    pinging.go_over(Way::Poll);
    assert_eq!(pinging.next(), json!({ "pong": {} }));
    let _nobody_came = Session::open(server.address, "", JSON, None);
    assert_eq!(silent.closing(), 3502);
    eventually_closed(&server, &CloseReason::STALE, 3);
    drop((silent, pinging));
    server.settle(GONE);
}

#[test]
fn a_command_before_connect_ends_the_session_with_the_reason() {
    let server = start(options());
    for first in [json!({ "publish": { "channel": "a", "data": 1 } }), json!({ "nonsense": {} })] {
        let mut session = Session::open(server.address, "", JSON, Some(&first));
        session.go_over(Way::Stream);
        assert_eq!(session.closing(), 3501, "{first}");
        session.carrier = None;
    }
    server.settle(GONE);
}

#[test]
fn a_token_expires_while_its_session_is_away() {
    let settings = Settings { expiry_grace_ms: 0, close_ms: 60_000, ..closed().settings };
    let server = start(Options { settings, ..closed() });
    let in_header = format!("\r\nAuthorization: Bearer {}", token("alice", 2.2));
    let connect = json!({ "id": 1, "connect": {} });
    let mut session = Session::open(server.address, &in_header, JSON, Some(&connect));
    let mut refreshed = Session::open(server.address, &in_header, JSON, Some(&connect));
    refreshed.send(&json!({ "id": 2, "refresh": { "token": token("alice", 60.0) } }));
    eventually_closed(&server, &CloseReason::EXPIRED, 1);
    session.go_over(Way::Poll);
    assert_eq!(session.next()["connected"]["user"], "alice");
    assert_eq!(session.closing(), 3005);
    refreshed.go_over(Way::Poll);
    assert_eq!(refreshed.next()["connected"]["user"], "alice");
    assert!(refreshed.next()["refreshed"].is_object(), "a newer token was shown while it was away");
    assert_eq!(refreshed.request("DELETE", "", b"").status, 204);
    drop((session, refreshed));
    server.settle(GONE);
}

#[test]
fn a_bad_token_is_answered_at_once_in_the_header_and_by_the_last_frame_in_connect() {
    let server = start(closed());
    for head in ["POST /session\r\nAuthorization: Bearer forged", "POST /session?token=forged"] {
        assert_eq!(status(server.address, head).0, 401, "{head:?}");
    }
    let connect = json!({ "id": 1, "connect": { "token": "forged" } });
    let mut session = Session::open(server.address, "", JSON, Some(&connect));
    session.go_over(Way::Poll);
    assert_eq!(session.closing(), 3500);
}

/// How a client ends its session; the address goes on with it.
const ENDS: [(&str, &str); 2] = [("DELETE", ""), ("POST", "/end")];

#[test]
fn a_client_ends_its_session_wherever_it_is_and_whatever_carries_it() {
    let server = start(options());
    for (method, behind) in ENDS {
        for (home, at) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let end = |session: &Session| {
                let head = format!("{method} /session/{}{behind}", session.token);
                let (ended, _) =
                    crate::support::session::ask(&mut wire_at(server.address, at), &head, JSON, b"");
                assert_eq!(ended.status, 204, "{ended:?}");
            };
            let away = Session::connect_at(server.address, home, JSON);
            end(&away);
            let mut parked = Session::connect_at(server.address, home, JSON);
            parked.go_over(Way::Poll);
            parked.begin("news");
            parked.park(wire_at(server.address, at));
            end(&parked);
            assert_eq!(parked.closing(), 1001);
            let mut open = Session::connect_at(server.address, home, JSON);
            open.go_over(Way::Stream);
            open.begin("news");
            end(&open);
            assert_eq!(open.closing(), 1001);
            (parked.carrier, open.carrier) = (None, None);
            for session in [&away, &parked, &open] {
                let late = session.request("POST", "", br#"{"ping":{}}"#);
                assert_eq!(late.status, 404, "{home} {at}: {late:?}");
            }
            server.settle(GONE);
            assert_eq!(open.request(method, behind, b"").status, 404, "{home} {at}");
        }
    }
}

#[test]
fn a_websocket_that_closes_ends_its_session_and_one_that_breaks_does_not() {
    let server = start(options());
    let mut session = Session::subscribe(server.address, JSON, Way::Ws, "news");
    session.carrier.take().expect("it is carried").wire.reset();
    say(server.address, "news", "one");
    session.go_over(Way::Ws);
    assert_eq!(session.publication()["data"], "one");
    let mut carrier = session.carrier.take().expect("it is carried");
    carrier.wire.send(&crate::support::frames::close(1000, b""));
    while carrier.next().is_some() {}
    drop(carrier);
    server.settle(GONE);
    assert_eq!(session.request("POST", "", br#"{"ping":{}}"#).status, 404);
}

/// Sessions of `alice` in every state: away, waiting, and open over each transport.
fn everywhere(server: &Running, behind: &str) -> Vec<(&'static str, Session)> {
    let connect = json!({ "id": 1, "connect": {} });
    let open = |way| {
        let mut session = Session::open(server.address, behind, JSON, Some(&connect));
        session.go_over(way);
        assert!(session.next()["connected"].is_object());
        session
    };
    let mut parked = open(Way::Poll);
    parked.park(Wire::connect(server.address));
    let mut away = open(Way::Stream);
    away.carrier = None;
    let never_carried = Session::open(server.address, behind, JSON, Some(&connect));
    vec![
        ("parked", parked),
        ("sse", open(Way::Sse)),
        ("stream", open(Way::Stream)),
        ("ws", open(Way::Ws)),
        ("away", away),
        ("never carried", never_carried),
    ]
}

/// The last frame of each; those that are away come back for it.
fn endings(sessions: Vec<(&'static str, Session)>) -> Vec<(&'static str, Value)> {
    let last = |(name, mut session): (_, Session)| {
        if session.carrier.is_none() {
            session.go_over(Way::Stream);
        }
        let closing = loop {
            let frame = session.frame().unwrap_or_else(|| panic!("{name} has ended without a word"));
            if frame["closing"].is_object() {
                break frame["closing"].clone();
            }
            assert!(frame["connected"].is_object(), "{name}: {frame}");
        };
        assert_eq!(session.carrier.as_mut().and_then(|carrier| carrier.next()), None, "{name}");
        (name, closing)
    };
    sessions.into_iter().map(last).collect()
}

#[test]
fn whoever_is_sent_away_for_good_is_told_why_wherever_it_is() {
    let settings = Settings { close_ms: 60_000, ..closed().settings };
    let server = start(Options { settings, ..closed() });
    let behind = format!("\r\nAuthorization: Bearer {}", token("alice", 60.0));
    let sessions = everywhere(&server, &behind);
    let revoke = format!("POST /api/v1/revoke HTTP/1.1\r\nAuthorization: Bearer {API_KEY}");
    assert_eq!(request(server.address, &revoke, r#"{"user":"alice"}"#).status, 200);
    eventually_closed(&server, &CloseReason::REVOKED, sessions.len() as u64);
    for (name, closing) in endings(sessions) {
        assert_eq!((&closing["code"], &closing["reconnect"]), (&json!(3507), &json!(false)), "{name}");
    }
    server.settle(GONE);
    let (refused, _) = status(server.address, &format!("POST /session{behind}"));
    assert_eq!(refused, 403);
}

#[test]
fn a_server_that_stops_asks_every_session_to_come_back() {
    let drain = Drain { timeout: crate::support::PATIENCE, ..Drain::default() };
    let server = start(Options { drain, ..options() });
    let mut sessions = everywhere(&server, "");
    sessions.retain(|(_, session)| session.carrier.is_some());
    std::thread::scope(|scope| {
        let stopping = scope.spawn(move || server.stop());
        for (name, closing) in endings(sessions) {
            assert_eq!((&closing["code"], &closing["reconnect"]), (&json!(1012), &json!(true)), "{name}");
            assert!(closing["after_ms"].as_u64() > Some(0), "{name}: {closing}");
        }
        stopping.join().expect("it stops");
    });
}
