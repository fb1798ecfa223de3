//! What is answered through another node is what the session's own node answers: status, body, and every header field.

use duplex::Options;

use crate::client::{EVENTS, Hub, Manner, Way as Carried};
use crate::polled::{ECHO, Polled};
use crate::support::http::Response;
use crate::support::session::{Form, Session, Way, ask};
use crate::support::wire::{UPGRADE, Wire};
use crate::together::{nodes, options};

const PAGE: &str = "https://ok.example";

/// The answer without what differs from one to the next.
fn essence(mut response: Response) -> Response {
    // Whether a connection ends with a body that was refused depends on how much of it had come.
    let is_varying = |name: &str| name == "date" || name == "connection" && response.status == 413;
    response.headers.retain(|(name, _)| !is_varying(name));
    response.headers.sort();
    response
}

#[test]
fn answers_and_errors_are_the_same_through_any_node() {
    let [home, away] = nodes(&options());
    let session = Session::subscribe(home.address, Form::Json, Way::Stream, "news");
    let token = &session.token;
    let long = "x".repeat(20 << 20);
    let rows = [
        ("POST", format!("/session/{token}"), "{\"ping\":{}}"),
        ("POST", format!("/session/{token}?n=99"), "{\"ping\":{}}"),
        ("POST", format!("/session/{token}?n=x"), ""),
        ("POST", format!("/session/{token}?after=999"), ""),
        ("POST", format!("/session/{token}"), &*long),
        ("PUT", format!("/session/{token}"), ""),
        ("POST", format!("/session/{token}/poll"), ""),
        ("GET", format!("/session/{token}/poll"), "x"),
        ("GET", format!("/session/{token}/end"), ""),
        ("GET", format!("/session/{token}/poll?after=999"), ""),
        ("GET", format!("/session/{token}/stream?after=999"), ""),
        ("GET", format!("/session/{token}/sse?after=x"), ""),
        ("GET", format!("/session/{token}/nothing"), ""),
        ("GET", format!("/ws?session={token}"), ""),
        ("GET", format!("http://elsewhere.example/session/{token}/poll?after=999"), ""),
    ];
    for (method, target, body) in rows {
        for headers in ["", "\r\nConnection: close", "\r\nConnection: origin, host"] {
            let asked = |address| {
                let head = format!("{method} {target}{headers}");
                essence(ask(&mut Wire::connect(address), &head, Form::Json, body.as_bytes()).0)
            };
            let (theirs, ours) = (asked(home.address), asked(away.address));
            assert_eq!(format!("{ours:?}"), format!("{theirs:?}"), "{method} {target} {headers:?}");
        }
    }
}

#[test]
fn refusals_of_engine_io_and_signalr_are_the_same_too() {
    let [home, away] = nodes(&options());
    let mut client = Polled::open(home.address, ECHO);
    let hub = Hub::open_as(home.address, Manner { way: Carried::Sse, ..Manner::default() });
    let websocket = client.websocket_target();
    let rows = [
        ("PUT", client.target.clone(), String::new()),
        ("GET", websocket.clone(), String::new()),
        ("POST", websocket.clone(), String::new()),
        ("GET", websocket, UPGRADE.replace("Version: 13", "Version: 12")),
        ("GET", client.target.replace("polling", "smoke"), String::new()),
        ("GET", hub.target.clone(), String::new()),
        ("GET", hub.target.clone(), EVENTS.to_owned()),
        ("GET", hub.target.clone(), UPGRADE.to_owned()),
        ("DELETE", hub.target.clone(), String::new()),
        ("PUT", hub.target.clone(), String::new()),
    ];
    for (method, target, headers) in rows {
        let asked = |address| {
            let mut wire = Wire::connect(address);
            let host = if headers.contains("Host") { "" } else { "Host: localhost\r\n" };
            wire.send(format!("{method} {target} HTTP/1.1\r\n{host}{headers}\r\n").as_bytes());
            essence(wire.response().expect("an answer"))
        };
        let (theirs, ours) = (asked(home.address), asked(away.address));
        assert!(theirs.status >= 400, "{method} {target} {theirs:?}");
        assert_eq!(format!("{ours:?}"), format!("{theirs:?}"), "{method} {target} {headers:?}");
    }
    client.echoes("still here");
}

#[test]
fn a_page_of_another_origin_may_read_what_it_may_read_once() {
    let options = Options { allowed_origins: vec![PAGE.parse().expect("an origin")], ..options() };
    let [home, away] = nodes(&options);
    let session = Session::connect(home.address, Form::Json);
    let token = &session.token;
    let rows = [
        ("POST", format!("/session/{token}"), "{\"ping\":{}}", 204),
        ("POST", format!("/session/{token}?n=99"), "{\"ping\":{}}", 409),
        ("GET", format!("/session/{token}/poll"), "", 200),
        ("GET", format!("/session/{token}/poll?after=99"), "", 400),
        ("GET", format!("/session/{token}/stream?after=99"), "", 400),
        ("DELETE", format!("/session/{token}"), "", 204),
    ];
    for (method, target, body, status) in rows {
        let from = |origin: &str| {
            let head = format!("{method} {target}\r\nOrigin: {origin}");
            ask(&mut Wire::connect(away.address), &head, Form::Json, body.as_bytes()).0
        };
        assert_eq!(from("https://evil.example").status, 403, "{method} {target}");
        let answered = from(PAGE);
        assert_eq!(answered.status, status, "{method} {target}: {answered:?}");
        let allowed = answered.headers.iter().filter(|(name, _)| name == "access-control-allow-origin");
        assert_eq!(allowed.map(|(_, value)| &**value).collect::<Vec<_>>(), [PAGE], "{method} {target}");
    }
}

#[test]
fn an_upgrade_is_answered_as_by_the_sessions_own_node() {
    let [home, away] = nodes(&options());
    let session = Session::connect(home.address, Form::Json);
    let [theirs, ours] = [home.address, away.address].map(|address| {
        let mut wire = Wire::connect(address);
        let target = format!("/ws?session={}", session.token);
        let protocol = "Sec-WebSocket-Protocol: duplex.v1.json\r\n";
        wire.send(format!("GET {target} HTTP/1.1\r\n{UPGRADE}{protocol}\r\n").as_bytes());
        essence(wire.response().expect("an answer"))
    });
    assert_eq!((ours.status, format!("{ours:?}")), (101, format!("{theirs:?}")));
}

#[test]
fn a_client_that_knows_no_upgrades_gets_none() {
    let [home, away] = nodes(&options());
    let session = Session::connect(home.address, Form::Json);
    let mut wire = Wire::connect(away.address);
    wire.send(format!("GET /ws?session={} HTTP/1.0\r\n{UPGRADE}\r\n", session.token).as_bytes());
    let refused = wire.response().expect("an answer");
    assert!(refused.status >= 400, "{refused:?}");
}
