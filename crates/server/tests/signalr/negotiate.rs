//! Negotiation (C1): what a hub answers before anything is connected, and what it keeps of that, which is nothing.

use duplex::{Options, Origin};
use serde_json::{Value, json};

use crate::client::{EVENTS, HUB, Hub, Manner, Way, fresh, negotiate, negotiating, once, target, text};
use crate::options;
use crate::support::http::Response;
use crate::support::requests::{send, upgrade};
use crate::support::wire::Wire;
use crate::support::{Running, start};

const PAGE: &str = "http://app.example";

/// A server where the pages of one foreign origin are guests.
fn hospitable() -> Running {
    let allowed: Origin = PAGE.parse().expect("an origin");
    start(Options { allowed_origins: vec![allowed], ..options() })
}

fn transports() -> Value {
    json!([
        { "transport": "WebSockets", "transferFormats": ["Text", "Binary"] },
        { "transport": "ServerSentEvents", "transferFormats": ["Text"] },
        { "transport": "LongPolling", "transferFormats": ["Text", "Binary"] },
    ])
}

#[test]
fn a_connection_is_named_twice_once_for_itself_and_once_for_others() {
    let server = start(options());
    let mut seen = Vec::new();
    for _ in 0..10 {
        let answer = negotiate(server.address, HUB, "?negotiateVersion=1", "");
        let (id, token) = (text(&answer, "connectionId"), text(&answer, "connectionToken"));
        let expected = json!({
            "negotiateVersion": 1,
            "connectionId": id,
            "connectionToken": token,
            "availableTransports": transports(),
        });
        assert_eq!(answer, expected);
        assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
        assert!(token.len() >= 22 && !token.contains(&id), "{token}");
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        assert!(token.bytes().all(is_plain), "it stands in addresses as it is: {token}");
        for name in [id, token] {
            assert!(!seen.contains(&name), "each is used once: {name}");
            seen.push(name);
        }
    }
    assert_eq!(server.gauges().sessions(), 0, "nothing was begun");
}

#[test]
fn what_a_client_does_not_know_it_is_not_told() {
    let server = start(options());
    for query in ["", "?negotiateVersion=0", "?a=b", "?negotiateversion=0&useStatefulReconnect=false"] {
        let answer = negotiate(server.address, HUB, query, "");
        let id = text(&answer, "connectionId");
        let expected =
            json!({ "negotiateVersion": 0, "connectionId": id, "availableTransports": transports() });
        assert_eq!(answer, expected, "{query}");
        // It is by this that requests name the connection.
        let (mut wire, response) = upgrade(server.address, &format!("{HUB}?id={id}"), "");
        assert_eq!(response.status, 101, "{response:?}");
        wire.send_text("{\"protocol\":\"json\",\"version\":1}\u{1e}");
        assert_eq!(wire.text(), "{}\u{1e}");
    }
}

#[test]
fn the_version_is_the_highest_that_both_know() {
    let server = start(options());
    for query in [
        "?negotiateVersion=1",
        "?negotiateVersion=2",
        "?negotiateVersion=99",
        "?negotiateVersion=2147483647",
        "?NegotiateVersion=1",
        "?NEGOTIATEVERSION=1",
        "?a=b&negotiateVersion=1&c=d",
    ] {
        let answer = negotiate(server.address, HUB, query, "");
        assert_eq!(answer["negotiateVersion"], 1, "{query}");
        assert!(answer["connectionToken"].is_string(), "{query}: {answer}");
    }
    for query in ["-1", "x", "1.5", "1x", "%00", "__proto__", "99999999999999999999"] {
        let answer = negotiate(server.address, HUB, &format!("?negotiateVersion={query}"), "");
        let members: Vec<&String> = answer.as_object().expect("an object").keys().collect();
        assert_eq!(members, ["error"], "{query}: {answer}");
        assert!(text(&answer, "error").contains(' '), "{answer}");
    }
}

#[test]
fn a_stateful_connection_is_for_who_asked_for_it() {
    let server = start(options());
    for (query, is_stateful) in [
        ("useStatefulReconnect=true", true),
        ("usestatefulreconnect=true", true),
        ("USESTATEFULRECONNECT=true", true),
        ("useStatefulReconnect=false", false),
        ("useStatefulReconnect=", false),
        ("useStatefulReconnect=yes", false),
        ("", false),
    ] {
        let answer = negotiate(server.address, HUB, &format!("?negotiateVersion=1&{query}"), "");
        // Who did not ask fails on it, whatever it says.
        let told = answer.get("useStatefulReconnect");
        assert_eq!(told, is_stateful.then_some(&json!(true)), "{query}: {answer}");
    }
}

#[test]
fn it_is_json_that_nobody_keeps() {
    let server = start(options());
    let response = negotiating(server.address, HUB, "?negotiateVersion=1", "");
    for (name, value) in [("content-type", "application/json"), ("x-content-type-options", "nosniff")] {
        let found = response.header(name).unwrap_or_default();
        assert!(found.starts_with(value), "{name}: {response:?}");
    }
    let kept = response.header("cache-control").unwrap_or_default();
    assert!(kept.contains("no-store"), "{response:?}");
    assert_eq!(response.header("set-cookie"), None);
}

#[test]
fn only_post_negotiates_and_who_is_too_old_is_told_why() {
    let server = start(options());
    for (method, query) in
        [("GET", "?negotiateVersion=1"), ("GET", "?clientProtocol=1.5"), ("PUT", ""), ("DELETE", "")]
    {
        let response = once(server.address, method, &format!("{HUB}/negotiate{query}"), "");
        assert_eq!(response.status, 405, "{method} {query}: {response:?}");
        assert!(response.header("allow").is_none_or(|allowed| allowed.contains("POST")), "{response:?}");
        assert!(response.body.contains(' '), "a sentence: {response:?}");
    }
    for path in ["/signalr/hubs", "/signalr/connect", "/signalr/start", "/signalr/js", "/signalrx/negotiate"]
    {
        for method in ["GET", "POST"] {
            let response = once(server.address, method, &format!("{path}?clientProtocol=1.5"), "");
            assert_eq!(response.status, 404, "{method} {path}: {response:?}");
        }
    }
    assert_eq!(server.gauges().sessions(), 0);
}

/// What a guest page must be told so that it may read what it gets (C1).
fn is_readable(response: &Response) {
    assert_eq!(response.header("access-control-allow-origin"), Some(PAGE), "{response:?}");
    assert_eq!(response.header("access-control-allow-credentials"), Some("true"), "{response:?}");
    let varies = response.header("vary").unwrap_or_default().to_ascii_lowercase();
    assert!(varies.contains("origin"), "{response:?}");
}

#[test]
fn a_guest_page_may_ask_first_with_all_that_clients_send() {
    let server = hospitable();
    for path in ["/signalr/negotiate?negotiateVersion=1", "/signalr?id=x"] {
        for method in ["GET", "POST", "DELETE"] {
            let headers = format!(
                "Origin: {PAGE}\r\nAccess-Control-Request-Method: {method}\r\nAccess-Control-Request-Headers: \
                 authorization,content-type,x-requested-with,x-signalr-user-agent\r\n"
            );
            let response = once(server.address, "OPTIONS", path, &headers);
            assert!(matches!(response.status, 200 | 204), "{path}: {response:?}");
            is_readable(&response);
            let listed = |name: &str| {
                let list = response.header(name).unwrap_or_default().to_ascii_lowercase();
                list.split(',').map(|item| item.trim().to_owned()).collect::<Vec<_>>()
            };
            for header in ["authorization", "content-type", "x-requested-with", "x-signalr-user-agent"] {
                assert!(listed("access-control-allow-headers").contains(&header.to_owned()), "{response:?}");
            }
            let methods = listed("access-control-allow-methods");
            assert!(methods.contains(&method.to_ascii_lowercase()), "{response:?}");
        }
    }
    assert_eq!(server.gauges().sessions(), 0);
}

#[test]
fn whatever_a_guest_page_is_answered_it_may_read() {
    let server = hospitable();
    let origin = format!("Origin: {PAGE}\r\n");
    is_readable(&negotiating(server.address, HUB, "?negotiateVersion=1", &origin));
    is_readable(&negotiating(server.address, HUB, "?negotiateVersion=x", &origin));
    for method in ["GET", "POST", "DELETE"] {
        is_readable(&once(server.address, method, HUB, &origin));
        is_readable(&once(server.address, method, &target("nobody"), &origin));
    }
    let manner = Manner { headers: &origin, ..Manner::default() };
    let mut polled = Hub::open_as(server.address, Manner { way: Way::Poll, ..manner });
    let posted = polled.post(b"{\"type\":6}\x1e");
    is_readable(&posted);
    polled.send(&json!({ "type": 1, "invocationId": "0", "target": "nobody", "arguments": [] }));
    is_readable(&polled.get());
    let events = Hub::open_as(server.address, Manner { way: Way::Sse, ..manner });
    is_readable(events.head.as_ref().expect("a head"));
    let mut wire = Wire::connect(server.address);
    send(&mut wire, "DELETE", &polled.target, &origin, b"");
    is_readable(&wire.response().expect("an answer"));
}

#[test]
fn a_page_that_may_not_connect_is_forbidden_to_whatever_it_asks() {
    let server = hospitable();
    let token = fresh(server.address);
    for origin in ["http://evil.example", "null", "http://app.example:81", "http://app.example.evil"] {
        let headers = format!("Origin: {origin}\r\n");
        let requests = [
            ("POST", format!("{HUB}/negotiate?negotiateVersion=1"), ""),
            ("OPTIONS", format!("{HUB}/negotiate"), ""),
            ("GET", target(&token), ""),
            ("GET", target(&token), EVENTS),
            ("POST", target(&token), ""),
            ("DELETE", target(&token), ""),
        ];
        for (method, path, more) in requests {
            let response = once(server.address, method, &path, &format!("{headers}{more}"));
            assert_eq!(response.status, 403, "{method} {path} from {origin}: {response:?}");
            assert_eq!(response.header("access-control-allow-origin"), None);
        }
        for path in [HUB.to_owned(), target(&token)] {
            let (_, response) = upgrade(server.address, &path, &headers);
            assert_eq!(response.status, 403, "{path} from {origin}: {response:?}");
        }
    }
    assert_eq!(server.gauges().sessions(), 0);
}
