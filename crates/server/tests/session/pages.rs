//! Who may open a session: pages of other origins, strangers, addresses with many sessions.

use duplex::{Options, Timeouts};
use serde_json::json;

use crate::support::http::Response;
use crate::support::session::{Form, Session, Way, ask, once, status, token, wire_at};
use crate::support::tokens::closed;
use crate::support::wire::Wire;
use crate::support::{Running, eventually, start};
use crate::{GONE, options};

const JSON: Form = Form::Json;
const PAGE: &str = "https://ok.example";

/// A server that lets pages of [`PAGE`] in.
fn hospitable() -> Running {
    start(Options { allowed_origins: vec![PAGE.parse().expect("an origin")], ..options() })
}

/// Status and what a browser goes by.
fn cors(response: &Response) -> (u16, Option<String>, Option<String>) {
    let header = |name| response.header(name).map(str::to_owned);
    (response.status, header("access-control-allow-origin"), header("vary"))
}

fn readable(status: u16) -> (u16, Option<String>, Option<String>) {
    (status, Some(PAGE.to_owned()), Some("origin".to_owned()))
}

#[test]
fn a_page_of_an_allowed_origin_may_read_answers_and_errors_of_every_kind() {
    let server = hospitable();
    let unknown = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    for (home, at) in [(0, 0), (0, 1)] {
        let session = Session::connect_at(server.address, home, JSON);
        let token = &*session.token;
        let rows = [
            ("POST", "/session".to_owned(), "{\"ping\":{}}", 200),
            ("POST", "/session?channels=".to_owned(), "", 400),
            ("POST", format!("/session/{token}"), "{\"ping\":{}}", 204),
            ("POST", format!("/session/{token}?n=99"), "{\"ping\":{}}", 409),
            ("POST", format!("/session/{unknown}"), "", 404),
            ("POST", "/session/nonsense".to_owned(), "", 404),
            ("PUT", format!("/session/{token}"), "", 405),
            ("GET", format!("/session/{token}/poll"), "", 200),
            ("GET", format!("/session/{token}/poll?after=99"), "", 400),
            ("GET", format!("/session/{token}/poll?after=x"), "", 400),
            ("GET", format!("/session/{unknown}/poll"), "", 404),
            ("GET", format!("/session/{unknown}/stream"), "", 404),
            ("GET", format!("/session/{unknown}/sse"), "", 404),
            ("DELETE", format!("/session/{unknown}"), "", 404),
            ("DELETE", format!("/session/{token}"), "", 204),
        ];
        for (method, target, body, expected) in rows {
            let from = |origin: &str| {
                let head = format!("{method} {target}\r\nOrigin: {origin}");
                ask(&mut wire_at(server.address, at), &head, JSON, body.as_bytes()).0
            };
            for origin in ["https://evil.example", "null", "https://ok.example.evil"] {
                assert_eq!(cors(&from(origin)), (403, None, None), "{method} {target} {origin}");
            }
            let answered = from(PAGE);
            assert_eq!(cors(&answered), readable(expected), "{method} {target}: {answered:?}");
            assert_eq!(answered.header("x-content-type-options"), Some("nosniff"), "{method} {target}");
        }
    }
}

#[test]
fn a_page_may_read_a_stream_and_why_it_was_overtaken() {
    let server = hospitable();
    let mut session = Session::subscribe(server.address, JSON, Way::Poll, "news");
    let open = |way: &str, session: &Session| {
        let mut wire = Wire::connect(server.address);
        let token = &session.token;
        let head = format!("GET /session/{token}/{way}?after={} HTTP/1.1\r\n", session.got);
        wire.send(format!("{head}Host: localhost\r\nOrigin: {PAGE}\r\n\r\n").as_bytes());
        wire
    };
    for way in ["sse", "stream"] {
        let mut wire = open(way, &session);
        let head = loop {
            if let Some((head, _)) = Response::take_head(wire.unread()) {
                break head;
            }
            wire.fill();
        };
        assert_eq!(cors(&head), readable(200), "{way}");
        let mut poll = open("poll", &session);
        // The stream ends when the poll has come, which is then answered at once.
        wire.wait_for_end();
        assert_eq!(cors(&poll.response().expect("an answer")), readable(200));
        let mut poll = open("poll", &session);
        session.overtake(Wire::connect(server.address), &poll);
        assert_eq!(cors(&poll.response().expect("an answer")), readable(409));
    }
}

#[test]
fn a_browser_that_asks_first_is_told_what_a_page_may_send() {
    let server = hospitable();
    let session = Session::connect(server.address, JSON);
    for behind in ["", "/sse", "/stream", "/poll", "/end"] {
        let head = format!("OPTIONS /session/{}{behind}\r\nOrigin: {PAGE}", session.token);
        let (preflight, _) = once(server.address, &head, JSON, b"");
        assert_eq!(cors(&preflight), readable(204), "{behind}");
        assert_eq!(preflight.header("access-control-allow-methods"), Some("GET, POST, DELETE"));
        assert_eq!(preflight.header("access-control-allow-headers"), Some("content-type, authorization"));
        assert_eq!(preflight.header("access-control-allow-credentials"), None);
        let foreign = head.replace(PAGE, "https://evil.example");
        assert_eq!(cors(&once(server.address, &foreign, JSON, b"").0), (403, None, None), "{behind}");
    }
}

#[test]
fn in_dev_mode_a_session_answers_to_names_of_this_machine_only() {
    let server = start(options());
    let session = Session::connect(server.address, JSON);
    for (method, behind) in [
        ("GET", "/stream"),
        ("GET", "/sse"),
        ("GET", "/poll"),
        ("POST", ""),
        ("POST", "/end"),
        ("DELETE", ""),
    ] {
        let mut wire = Wire::connect(server.address);
        let head = format!("{method} /session/{}{behind} HTTP/1.1\r\n", session.token);
        wire.send(format!("{head}Host: rebound.example\r\nContent-Length: 0\r\n\r\n").as_bytes());
        assert_eq!(wire.response().map(|response| response.status), Some(403), "{method} {behind}");
    }
    let mut wire = Wire::connect(server.address);
    wire.send(b"POST /session HTTP/1.1\r\nHost: rebound.example\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(wire.response().map(|response| response.status), Some(403));
    assert_eq!(session.request("POST", "", br#"{"ping":{}}"#).status, 204, "it is unharmed");
}

#[test]
fn a_stranger_may_say_little_and_a_client_what_is_set() {
    let server = start(closed());
    let long = |bytes: usize| {
        let command = r#"{"ping":{}}"#;
        format!("{command}{}", " ".repeat(bytes - command.len())).into_bytes()
    };
    let (stranger, most) = (16 << 10, 64 << 10);
    assert_eq!(once(server.address, "POST /session", JSON, &long(stranger + 1)).0.status, 413);
    let session = Session::open(server.address, "", JSON, None);
    for (bytes, expected) in [(stranger, 204), (stranger + 1, 413), (most, 413), (most + 1, 413)] {
        let response = session.request("POST", "", &long(bytes));
        assert_eq!(response.status, expected, "a stranger sends {bytes} bytes: {response:?}");
    }
    assert_eq!(
        session.request("POST", "?n=2", br#"{"connect":{}}"#).status,
        204,
        "what was refused does not count"
    );
    for (bytes, expected) in [(stranger + 1, 204), (most, 204), (most + 1, 413)] {
        let response = session.request("POST", "", &long(bytes));
        assert_eq!(response.status, expected, "a client sends {bytes} bytes: {response:?}");
    }
}

#[test]
fn a_body_has_its_time() {
    let timeouts = Timeouts { body: std::time::Duration::from_millis(300), ..Timeouts::default() };
    let server = start(Options { timeouts, ..options() });
    let session = Session::connect(server.address, JSON);
    for target in ["/session".to_owned(), format!("/session/{}", session.token)] {
        let mut wire = Wire::connect(server.address);
        wire.send(
            format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{{").as_bytes(),
        );
        assert_eq!(wire.response().map(|response| response.status), Some(408), "{target}");
    }
    assert_eq!(session.request("POST", "?n=2", br#"{"ping":{}}"#).status, 204);
}

#[test]
fn an_address_has_only_so_many_sessions_whatever_carries_them() {
    let mut few = options();
    few.connections.per_address = 2;
    let server = start(few);
    let open = |address: &str| {
        let head = format!("POST /session\r\nX-Forwarded-For: 203.0.113.1, {address}");
        once(server.address, &head, JSON, br#"{"id":1,"connect":{}}"#)
    };
    let opened: Vec<_> = (0..4).map(|_| open("198.51.100.7")).collect();
    let statuses: Vec<u16> = opened.iter().map(|(response, _)| response.status).collect();
    assert_eq!(statuses, [200, 200, 429, 429], "their connections have ended, and they live on");
    assert!(opened[2].0.header("retry-after").is_some(), "{:?}", opened[2]);
    assert_eq!(open("198.51.100.8").0.status, 200);
    assert_eq!(status(server.address, "POST /session").0, 200, "the proxy itself is not counted");
    // Nor is what carries a session counted once more.
    let first = token(&JSON.read(&opened[0].1));
    for _ in 0..3 {
        let head = format!("GET /session/{first}/poll\r\nX-Forwarded-For: 198.51.100.7");
        assert_eq!(status(server.address, &head).0, 200);
    }
    assert_eq!(status(server.address, &format!("DELETE /session/{first}")).0, 204);
    eventually(|| "there is room again".to_owned(), || open("198.51.100.7").0.status == 200);
}

#[test]
fn a_body_says_what_it_is_in_one_of_the_known_ways() {
    let server = start(options());
    let post = |target: &str, kind: &str, body: &[u8]| {
        let mut wire = Wire::connect(server.address);
        let length = body.len();
        let kind = if kind.is_empty() { String::new() } else { format!("Content-Type: {kind}\r\n") };
        let head =
            format!("POST {target} HTTP/1.1\r\nHost: localhost\r\n{kind}Content-Length: {length}\r\n\r\n");
        wire.send(&[head.as_bytes(), body].concat());
        crate::support::session::answer(&mut wire)
    };
    let ping = json!({ "ping": {} });
    let rows = [
        ("", JSON, true),
        ("application/json", JSON, true),
        ("APPLICATION/JSON; charset=utf-8", JSON, true),
        ("text/plain;charset=UTF-8", JSON, true),
        ("application/x-www-form-urlencoded", JSON, true),
        ("application/vnd.msgpack", Form::Packed, true),
        ("application/msgpack", Form::Packed, true),
        ("application/x-msgpack", Form::Packed, true),
        ("text/html", JSON, false),
        ("application/octet-stream", Form::Packed, false),
        ("multipart/form-data; boundary=x", JSON, false),
        ("nonsense", JSON, false),
    ];
    for (kind, form, known) in rows {
        let body = form.write(&ping);
        let (opened, answered) = post("/session", kind, &body);
        assert_eq!(opened.status, if known { 200 } else { 415 }, "{kind}: {opened:?}");
        if known {
            let session = token(&form.read(&answered));
            assert_eq!(post(&format!("/session/{session}"), kind, &body).0.status, 204, "{kind}");
            assert_eq!(post(&format!("/session/{session}"), "text/html", &body).0.status, 415, "{kind}");
            assert_eq!(status(server.address, &format!("DELETE /session/{session}")).0, 204);
        }
    }
    server.settle(GONE);
}
