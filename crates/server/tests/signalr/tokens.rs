//! Who a client is: tokens at negotiation and with each request, and when they are over.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use duplex::auth::Anonymous;
use duplex::{Namespace, Options, Settings, Who};
use serde_json::{Value, json};

use crate::client::{
    EVENTS, HUB, Hub, MANNERS, Manner, Way, fresh, negotiate, negotiating, once, target, text, told,
};
use crate::options;
use crate::support::http::request;
use crate::support::requests::upgrade;
use crate::support::tokens::{API_KEY, closed, signed, token, token_with};
use crate::support::{Running, start};

/// A server that lets in who has a token.
fn guarded() -> Options {
    let mut options = Options { settings: options().settings, timeouts: options().timeouts, ..closed() };
    options.auth.anonymous = Anonymous::Refused;
    let namespace =
        Namespace { subscribe: Some(Who::User), publish: Some(Who::User), ..Namespace::default() };
    options.namespaces.insert("default".to_owned(), namespace);
    options
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

fn api(address: SocketAddr, endpoint: &str, body: &Value) {
    let head = format!("POST /api/v1/{endpoint} HTTP/1.1\r\nAuthorization: Bearer {API_KEY}");
    let response = request(address, &head, &body.to_string());
    assert_eq!(response.status, 200, "{body}: {response:?}");
}

fn bad_tokens() -> Vec<(String, u16)> {
    vec![
        ("nonsense".to_owned(), 401),
        (signed("another secret that is long enough as well", "ann", &json!({})), 401),
        (token_with("ann", &json!({ "nbf": 1e12 })), 401),
        (token("ann", -60.0), 401),
    ]
}

#[test]
fn who_is_not_known_does_not_get_as_far_as_a_connection() {
    let server = start(guarded());
    for headers in ["", "Authorization: Basic YTpi\r\n", "Authorization: Bearer \r\n"] {
        let response = negotiating(server.address, HUB, "?negotiateVersion=1", headers);
        assert_eq!(response.status, 401, "{headers}: {response:?}");
        assert!(response.body.contains(' '), "a sentence: {response:?}");
    }
    for (token, status) in bad_tokens() {
        let response = negotiating(server.address, HUB, "?negotiateVersion=1", &bearer(&token));
        assert_eq!(response.status, status, "{token}: {response:?}");
        assert!(response.body.contains(' ') && !response.body.contains(&token), "a sentence: {response:?}");
        for headers in [bearer(&token), String::new()] {
            let (_, response) = upgrade(server.address, HUB, &headers);
            assert_eq!(response.status, 401, "without negotiation: {response:?}");
        }
        let (_, response) = upgrade(server.address, &format!("{HUB}?access_token={token}"), "");
        assert_eq!(response.status, 401, "{response:?}");
    }
    api(server.address, "revoke", &json!({ "user": "bob" }));
    let response = negotiating(server.address, HUB, "?negotiateVersion=1", &bearer(&token("bob", 60.0)));
    assert_eq!(response.status, 403, "{response:?}");
    assert_eq!(server.gauges().sessions(), 0);
}

#[test]
fn a_token_in_the_address_is_for_those_who_can_set_no_headers() {
    let server = start(guarded());
    let good = token("ann", 60.0);
    let query = format!("&access_token={good}");
    let response = negotiating(server.address, HUB, &format!("?negotiateVersion=1{query}"), "");
    assert_eq!(response.status, 401, "not to negotiate: {response:?}");
    let connection = || {
        let answer = negotiate(server.address, HUB, "?negotiateVersion=1", &bearer(&good));
        target(&text(&answer, "connectionToken"))
    };
    for target in [format!("{}{query}", connection()), format!("{HUB}?a=b{query}")] {
        let (mut wire, response) = upgrade(server.address, &target, "");
        assert_eq!(response.status, 101, "{response:?}");
        wire.send_text("{\"protocol\":\"json\",\"version\":1}\u{1e}");
        assert_eq!(wire.text(), "{}\u{1e}");
    }
    let mut wire = crate::support::wire::Wire::connect(server.address);
    let stream = format!("{}{query}", connection());
    crate::support::requests::send(&mut wire, "GET", &stream, EVENTS, b"");
    crate::client::head(&mut wire);
    // What a stream is sent by POST comes with the header.
    let mut up = crate::support::wire::Wire::connect(server.address);
    let body = b"{\"protocol\":\"json\",\"version\":1}\x1e";
    crate::support::requests::send(&mut up, "POST", &stream, "", body);
    assert_eq!(up.response().map(|response| response.status), Some(401));
    crate::support::requests::send(&mut up, "POST", &stream, &bearer(&good), body);
    assert_eq!(told(&up.response().expect("an answer")), (200, ""));
}

#[test]
fn each_request_shows_whose_it_is() {
    let server = start(guarded());
    let (ann, bob) = (token("ann", 60.0), token("bob", 60.0));
    let mine = bearer(&ann);
    let strangers = [(String::new(), 401), (bearer("nonsense"), 401), (bearer(&bob), 403)];
    // Of a connection that nobody has begun.
    let answer = negotiate(server.address, HUB, "?negotiateVersion=1", &mine);
    let unbegun = target(&text(&answer, "connectionToken"));
    for (headers, status) in &strangers {
        for more in ["", EVENTS] {
            let response = once(server.address, "GET", &unbegun, &format!("{more}{headers}"));
            assert_eq!(response.status, *status, "{response:?}");
        }
        assert_eq!(upgrade(server.address, &unbegun, headers).1.status, *status);
    }
    // Of one that is there.
    for (way, form) in MANNERS {
        let mut hub = Hub::open_as(server.address, Manner { way, form, headers: &mine, ..Manner::default() });
        for (headers, status) in &strangers {
            let mut tried = vec![("POST", ""), ("DELETE", "")];
            match way {
                Way::Poll => tried.push(("GET", "")),
                Way::Sse => tried.push(("GET", EVENTS)),
                Way::Ws => tried.clear(),
            }
            for (method, more) in tried {
                let response = once(server.address, method, &hub.target, &format!("{more}{headers}"));
                // What is wrong with the method may be said first.
                let is_method = method == "DELETE" && way == Way::Sse && response.status == 400;
                assert!(response.status == *status || is_method, "{method} {way:?}: {response:?}");
            }
        }
        // Another token of the same user is as good.
        hub.headers = bearer(&token("ann", 120.0));
        hub.is_well();
        hub.leave();
    }
}

#[test]
fn an_anonymous_connection_stays_anonymous() {
    let mut options = guarded();
    options.auth.anonymous = Anonymous::Allowed;
    let server = start(options);
    let mut hub = Hub::open_as(server.address, Manner { way: Way::Poll, ..Manner::default() });
    hub.is_well();
    let error = hub.fails("$subscribe", json!(["news"]));
    assert!(error.contains("because user is unauthorized: ") && error.ends_with(')'), "{error}");
    assert_eq!(
        once(server.address, "POST", &target(&fresh(server.address)), &bearer("nonsense")).status / 100,
        4
    );
}

#[test]
fn channels_of_the_token_are_subscribed_at_once() {
    let server = start(guarded());
    let headers = bearer(&token_with("ann", &json!({ "channels": ["news", "a,b"] })));
    for (way, form) in MANNERS {
        let mut hub =
            Hub::open_as(server.address, Manner { way, form, headers: &headers, ..Manner::default() });
        for channel in ["news", "a,b"] {
            assert!(hub.fails("$subscribe", json!([channel])).ends_with("(code 105)"));
            api(server.address, "publish", &json!({ "channel": channel, "data": channel }));
            assert_eq!(hub.event("message"), json!([channel]));
        }
        hub.leave();
    }
}

#[test]
fn what_a_token_does_not_allow_is_refused_in_the_words_that_clients_know() {
    let mut options = guarded();
    options.namespaces.insert("default".to_owned(), Namespace::default());
    let server = start(options);
    let headers = bearer(&token("ann", 60.0));
    for (way, form) in MANNERS {
        let mut hub =
            Hub::open_as(server.address, Manner { way, form, headers: &headers, ..Manner::default() });
        for (method, arguments) in [
            ("$subscribe", json!(["news"])),
            ("$publish", json!(["news", "hi"])),
            ("$history", json!(["news"])),
        ] {
            let error = hub.fails(method, arguments);
            let begins = format!("Failed to invoke '{method}' because user is unauthorized: ");
            assert!(error.starts_with(&begins) && error.ends_with("(code 103)"), "{error}");
        }
        hub.leave();
    }
}

/// A server whose clients have little time when their token is over.
fn strict() -> Running {
    let options = guarded();
    let settings = Settings { expiry_grace_ms: 300, ..options.settings };
    start(Options { settings, ..options })
}

#[test]
fn who_shows_a_new_token_in_time_stays() {
    let server = strict();
    let headers = bearer(&token("ann", 6.0));
    let mut hub = Hub::open_as(server.address, Manner { headers: &headers, ..Manner::default() });
    let answer = hub.call("$refresh", json!([token("ann", 600.0)]));
    assert!(answer["expires_in_ms"].as_u64().is_some_and(|left| left > 500_000), "{answer}");
    thread::sleep(Duration::from_secs(7));
    hub.is_well();
    let error = hub.fails("$refresh", json!([token("ann", -60.0)]));
    assert!(error.ends_with("(code 109)"), "{error}");
    hub.is_well();
}

#[test]
fn who_does_not_is_told_to_come_back() {
    let server = strict();
    let headers = bearer(&token("ann", 5.0));
    let hubs = MANNERS.map(|(way, form)| {
        Hub::open_as(server.address, Manner { way, form, headers: &headers, ..Manner::default() })
    });
    for mut hub in hubs {
        hub.headers = bearer(&token("ann", 60.0));
        let message = hub.close_message();
        assert_eq!(message["allowReconnect"], true, "{message}");
        assert!(message["error"].is_string(), "{message}");
    }
}

#[test]
fn who_is_revoked_is_told_to_stay_away() {
    let server = start(guarded());
    for (way, form) in MANNERS {
        for by_token in [false, true] {
            let user = format!("{way:?}{form:?}{by_token}");
            let headers = bearer(&token_with(&user, &json!({ "jti": user })));
            let mut hub =
                Hub::open_as(server.address, Manner { way, form, headers: &headers, ..Manner::default() });
            let what = if by_token { "token" } else { "user" };
            if way == Way::Poll {
                // The request that waits is its own witness: a next one would be refused.
                hub.ask();
                hub.post(b"");
            }
            api(server.address, "revoke", &json!({ what: user }));
            if way == Way::Poll {
                let response = hub.answer();
                let body: Vec<u8> = response.body.chars().map(|letter| letter as u8).collect();
                let message = &crate::messages::read(form, &body)[0];
                assert_eq!(message["type"], 7, "{message}");
                assert_ne!(message["allowReconnect"], true, "{message}");
                continue;
            }
            let message = hub.close_message();
            assert!(message["error"].is_string(), "{message}");
            assert_ne!(message["allowReconnect"], true, "{message}");
        }
    }
}
