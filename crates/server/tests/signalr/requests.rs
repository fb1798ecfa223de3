//! Requests of transports (C2): what each is answered, to the byte.

use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::client::{
    EVENTS, Form, HUB, Hub, MANNERS, Manner, UNKNOWN, Way, everywhere, fresh, head, negotiate, once, target,
    text, told,
};
use crate::options;
use crate::support::requests::{ask, send, upgrade};
use crate::support::session::wire_at;
use crate::support::wire::Wire;
use crate::support::{Levels, start};

const NO_ID: &str = "Connection ID required";
const OTHER_TRANSPORT: &str = "Cannot change transports mid-connection";
const NO_DELETE: &str = "Cannot terminate this connection using the DELETE endpoint.";

/// Every kind of request but an upgrade.
const REQUESTS: [(&str, &str); 4] = [("GET", ""), ("GET", EVENTS), ("POST", ""), ("DELETE", "")];

#[test]
fn a_request_names_a_connection_that_is_there() {
    let server = start(options());
    let token = fresh(server.address);
    let mut other = token.clone().into_bytes();
    other[3] = if other[3] == b'x' { b'y' } else { b'x' };
    let other = String::from_utf8(other).expect("ASCII");
    let long = "A".repeat(8_000);
    let half = &token[..token.len() / 2];
    for id in ["nobody", "AAAAAAAAAAAAAAAAAAAAAA", "__proto__", "%00", "..%2f..%2fetc", &other, half, &long] {
        for (method, headers) in REQUESTS {
            let response = once(server.address, method, &target(id), headers);
            assert_eq!(told(&response), (404, UNKNOWN), "{method} {headers} {id:.60}");
        }
        assert_eq!(told(&upgrade(server.address, &target(id), "").1), (404, UNKNOWN), "{id:.60}");
    }
    assert_eq!(server.gauges().sessions(), 0);
}

#[test]
fn only_a_websocket_may_come_without_a_name() {
    let server = start(options());
    for query in ["", "?", "?a=b", "?negotiateVersion=1"] {
        for (method, headers) in REQUESTS {
            let response = once(server.address, method, &format!("{HUB}{query}"), headers);
            assert_eq!(told(&response), (400, NO_ID), "{method} {headers}");
            let kind = response.header("content-type").unwrap_or_default();
            assert!(kind.starts_with("text/plain"), "{response:?}");
        }
        let mut wire = Wire::websocket(server.address, &format!("{HUB}{query}"), "");
        wire.send_text("{\"protocol\":\"json\",\"version\":1}\u{1e}");
        assert_eq!(wire.text(), "{}\u{1e}");
    }
}

#[test]
fn what_is_public_opens_nothing() {
    let server = start(options());
    let answer = negotiate(server.address, HUB, "?negotiateVersion=1", "");
    let id = text(&answer, "connectionId");
    let hub = Hub::open(server.address);
    for id in [&id, &hub.connection] {
        for (method, headers) in REQUESTS {
            assert_eq!(told(&once(server.address, method, &target(id), headers)), (404, UNKNOWN), "{method}");
        }
        assert_eq!(told(&upgrade(server.address, &target(id), "").1), (404, UNKNOWN));
    }
}

#[test]
fn parameters_may_be_written_in_capitals() {
    let server = start(options());
    for name in ["ID", "Id", "iD"] {
        let (mut wire, response) =
            upgrade(server.address, &format!("{HUB}?{name}={}", fresh(server.address)), "");
        assert_eq!(response.status, 101, "{name}: {response:?}");
        wire.send_text("{\"protocol\":\"json\",\"version\":1}\u{1e}");
        assert_eq!(wire.text(), "{}\u{1e}");
        let polled = once(server.address, "GET", &format!("{HUB}?{name}={}", fresh(server.address)), "");
        assert_eq!(told(&polled), (200, ""), "{name}");
    }
}

#[test]
fn a_connection_keeps_its_transport() {
    let server = start(options());
    for manner in MANNERS {
        for place in [0, 1] {
            let mut hub = Hub::open_by(server.address, manner);
            for (way, headers) in [(Way::Poll, ""), (Way::Sse, EVENTS)] {
                let mut wire = wire_at(server.address, place);
                if way != manner.0 {
                    send(&mut wire, "GET", &hub.target, headers, b"");
                    let response = wire.response().expect("an answer");
                    assert_eq!(told(&response), (400, OTHER_TRANSPORT), "{way:?} in place of {manner:?}");
                }
            }
            if manner.0 != Way::Ws {
                assert_eq!(told(&hub.upgrade("").1), (400, OTHER_TRANSPORT), "{manner:?}");
            }
            hub.is_well();
            hub.leave();
        }
    }
    server.settle(Levels::of(0, 0));
}

#[test]
fn a_second_one_of_the_same_is_refused() {
    everywhere(&options(), |hub| {
        match hub.way {
            Way::Ws => assert_eq!(hub.upgrade("").1.status, 409),
            Way::Sse => {
                let mut wire = hub.wire();
                send(&mut wire, "GET", &hub.target, EVENTS, b"");
                assert_eq!(wire.response().map(|response| response.status), Some(409));
            }
            Way::Poll => {}
        }
        hub.is_well();
    });
}

#[test]
fn messages_of_a_websocket_come_over_it() {
    everywhere(&options(), |hub| {
        if hub.way == Way::Ws {
            let mut wire = hub.wire();
            let response = ask(&mut wire, "POST", &hub.target.clone(), b"{\"type\":6}\x1e");
            assert_eq!(response.status, 405, "{response:?}");
            assert!(response.body.contains("POST"), "{response:?}");
        }
        hub.is_well();
    });
}

#[test]
fn only_polling_is_ended_by_a_request() {
    everywhere(&options(), |hub| {
        if hub.way != Way::Poll {
            let mut wire = hub.wire();
            let response = ask(&mut wire, "DELETE", &hub.target.clone(), b"");
            assert_eq!(told(&response), (400, NO_DELETE));
        }
        hub.is_well();
    });
}

#[test]
fn other_methods_harm_nobody() {
    everywhere(&options(), |hub| {
        for method in ["PUT", "PATCH", "OPTIONS"] {
            let mut wire = hub.wire();
            let response = ask(&mut wire, method, &hub.target.clone(), b"");
            assert!(matches!(response.status, 204 | 400 | 404 | 405), "{method}: {response:?}");
        }
        hub.is_well();
    });
}

#[test]
fn requests_of_a_connection_may_come_in_anywhere() {
    let server = start(options());
    for (way, form) in [(Way::Poll, Form::Json), (Way::Poll, Form::Packed), (Way::Sse, Form::Json)] {
        for place in [0, 1] {
            let mut hub =
                Hub::open_as(server.address, Manner { way, form, place: Some(place), ..Manner::default() });
            for round in 0..6_u8 {
                let mut wire = wire_at(server.address, round % 2);
                let id = hub.fresh_id();
                let invocation =
                    json!({ "type": 1, "invocationId": id, "target": "nobody", "arguments": [] });
                hub.checker.said(&invocation);
                let bytes = crate::messages::write(form, &invocation);
                assert_eq!(told(&ask(&mut wire, "POST", &hub.target.clone(), &bytes)), (200, ""));
                if way == Way::Poll {
                    hub.down = wire_at(server.address, round / 2 % 2);
                }
                hub.completion(&id);
            }
            hub.leave();
        }
    }
    server.settle(Levels::of(0, 0));
}

#[test]
fn a_token_is_good_for_one_connection() {
    let server = start(options());
    for manner in MANNERS {
        let mut hub = Hub::open_by(server.address, manner);
        hub.leave();
        crate::support::eventually(|| "it is gone".to_owned(), || server.gauges().sessions() == 0);
        hub.is_gone();
    }
    // Nor is one that came to nothing.
    let mut hub = Hub::begin(server.address, Manner::default());
    hub.say_text("nonsense");
    hub.handshake();
    hub.is_over();
    hub.is_gone();
}

#[test]
fn one_of_many_who_come_with_one_token_is_let_in() {
    let server = start(options());
    for _ in 0..20 {
        let target = target(&fresh(server.address));
        let mut wires: Vec<Wire> = (0..6).map(|_| Wire::connect(server.address)).collect();
        for wire in &mut wires {
            wire.send(format!("GET {target} HTTP/1.1\r\n{}\r\n", crate::support::wire::UPGRADE).as_bytes());
        }
        let statuses: Vec<u16> =
            wires.iter_mut().map(|wire| wire.response().expect("an answer").status).collect();
        let let_in = statuses.iter().filter(|status| **status == 101).count();
        assert!(
            let_in == 1 && statuses.iter().all(|status| matches!(status, 101 | 409 | 404)),
            "{statuses:?}"
        );
    }
}

#[test]
fn a_token_that_nobody_uses_is_soon_worthless() {
    let server = start(options());
    let tokens: Vec<String> = (0..4).map(|_| fresh(server.address)).collect();
    let early = fresh(server.address);
    thread::sleep(Duration::from_secs(1));
    assert_eq!(told(&once(server.address, "GET", &target(&early), "")), (200, ""));
    thread::sleep(Duration::from_millis(15_500));
    for (token, (method, headers)) in tokens.iter().zip(REQUESTS) {
        assert_eq!(told(&once(server.address, method, &target(token), headers)), (404, UNKNOWN));
        assert_eq!(told(&upgrade(server.address, &target(token), "").1), (404, UNKNOWN));
    }
}

#[test]
fn a_head_begins_no_connection() {
    let server = start(options());
    let mut wire = Wire::connect(server.address);
    send(&mut wire, "HEAD", &target(&fresh(server.address)), "", b"");
    while !wire.unread().ends_with(b"\r\n\r\n") {
        wire.fill();
    }
    assert_eq!(server.gauges().sessions(), 0);
}

#[test]
fn an_event_stream_that_is_asked_for_among_other_things_is_one() {
    let server = start(options());
    for accept in ["text/event-stream", "text/event-stream, */*", "application/json, text/event-stream;q=0.9"]
    {
        let mut wire = Wire::connect(server.address);
        send(&mut wire, "GET", &target(&fresh(server.address)), &format!("Accept: {accept}\r\n"), b"");
        let head = head(&mut wire);
        assert_eq!(head.header("content-type"), Some("text/event-stream"), "{accept}");
    }
}
