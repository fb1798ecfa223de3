//! Who may do what: tokens, levels and policies over the wire. Rows of `hostile-inputs` 3.9 and 3.8.

mod support;

use std::io::Write;
use std::thread;

use duplex::{Namespace, Options, Recovery, Who};
use duplex_core::Rate;
use serde_json::{Value, json};

use support::frames::Incoming;
use support::http::{Events, request};
use support::native::{Client, Ending};
use support::tokens::{API_KEY, SECRET, closed, secret, signed, signed_in, token, token_with};
use support::wire::{DEFLATE, Wire};
use support::{Running, start};

fn with_namespaces<const N: usize>(namespaces: [(&str, Namespace); N]) -> Options {
    Options {
        namespaces: namespaces.map(|(name, namespace)| (name.to_owned(), namespace)).into(),
        ..closed()
    }
}

fn open() -> Namespace {
    let anyone = Some(Who::Anyone);
    Namespace {
        subscribe: anyone,
        publish: anyone,
        presence: anyone,
        history: anyone,
        ..Namespace::default()
    }
}

/// The error code of the answer, or 0.
fn code(answer: &Value) -> u64 {
    answer["error"]["code"].as_u64().unwrap_or(0)
}

fn try_to(client: &mut Client, kind: &str, channel: &str) -> u64 {
    let mut body = json!({ "channel": channel });
    if kind == "publish" {
        body["data"] = json!(1);
    }
    code(&client.ask_past(&json!({ "id": 8, kind: body }), 8))
}

fn post(server: &Running, endpoint: &str, key: &str, body: &str) -> u16 {
    let authorization =
        if key.is_empty() { String::new() } else { format!("\r\nAuthorization: Bearer {key}") };
    request(server.address, &format!("POST /api/v1/{endpoint} HTTP/1.1{authorization}"), body).status
}

#[test]
fn a_bad_token_ends_the_connection_with_the_reason() {
    let server = start(closed());
    let late = token("alice", -60.0);
    let forged = signed("another secret that is long enough as well", "alice", &json!({}));
    let good = token("alice", 60.0);
    let (head, body) = good.split_once('.').expect("a token has three parts");
    // {"alg":"none"}
    let unsigned = format!("eyJhbGciOiJub25lIn0.{}.", body.split_once('.').expect("three").0);
    for (token, ending) in [
        (late.as_str(), 3005),
        (&forged, 3500),
        (&unsigned, 3500),
        (&good[1..], 3500),
        (head, 3500),
        ("", 3500),
        (&signed(SECRET, "", &json!({})), 3500),
        (&token_with("alice", &json!({ "exp": "soon" })), 3500),
        (&token_with("alice", &json!({ "exp": -1 })), 3500),
        (&token_with("alice", &json!({ "nbf": 1e12 })), 3500),
        (&token_with("alice", &json!({ "channel": "news" })), 3500),
    ] {
        let mut client = Client::open(server.address, "/ws");
        client.send(&json!({ "id": 1, "connect": { "token": token } }));
        client.send(&json!({ "id": 2, "subscribe": { "channel": "news" } }));
        assert_eq!(client.ending(), Ending::Closed(ending), "{token}");
    }
}

#[test]
fn a_token_may_stand_wherever_a_client_can_put_it() {
    let options =
        with_namespaces([("default", Namespace { subscribe: Some(Who::User), ..Namespace::default() })]);
    let server = start(options);
    let token = token_with("alice", &json!({ "channels": ["mine"] }));
    let mut by_command = Client::open(server.address, "/ws");
    let connected = by_command.ask(&json!({ "id": 1, "connect": { "token": token } }));
    assert_eq!(connected["connected"]["user"], "alice", "{connected}");
    assert!(connected["connected"]["expires_in_ms"].as_u64().is_some_and(|ms| ms > 30_000), "{connected}");
    assert_eq!(by_command.next()["subscribed"]["channel"], "mine");

    let mut by_address = Client::open(server.address, &format!("/ws?channels=news&token={token}"));
    let frames = [by_address.next(), by_address.next(), by_address.next()].map(|frame| frame.to_string());
    assert!(
        frames[0].contains("alice") && frames[1..].iter().any(|frame| frame.contains("news")),
        "{frames:?}"
    );

    let header = format!("Authorization: Bearer {token}\r\n");
    let mut by_header = Wire::websocket(server.address, "/ws?channels=news", &header);
    assert!(by_header.text().contains("alice"));

    let mut events = Events::open(server.address, &format!("/sse?channels=news&token={token}"), "");
    assert_eq!(events.subscribed()["channel"], "news");
    assert_eq!(events.data("$subscribed")["channel"], "mine");
    for (address, status) in [
        ("/sse?channels=news&token=nonsense".to_owned(), 401),
        (format!("/sse?channels=news&token={}", support::tokens::token("alice", -60.0)), 401),
    ] {
        assert_eq!(
            request(server.address, &format!("GET {address} HTTP/1.1"), "").status,
            status,
            "{address}"
        );
    }
}

#[test]
fn nothing_but_ping_is_answered_before_the_token() {
    let mut options = closed();
    options.auth.anonymous = duplex::auth::Anonymous::Refused;
    options.first_message_bytes = 2_000;
    let server = start(options);
    let mut client = Client::open(server.address, "/ws");
    assert_eq!(client.ask(&json!({ "id": 1, "ping": {} })), json!({ "id": 1, "pong": {} }));
    client.send(&json!({ "id": 2, "publish": { "channel": "a", "data": 1 } }));
    assert_eq!(client.ending(), Ending::Closed(3501));
    let mut anonymous = Client::open(server.address, "/ws?channels=a");
    assert_eq!(anonymous.ending(), Ending::Closed(3500));
    let mut echo = Wire::websocket(server.address, "/echo", "");
    assert!(matches!(echo.until_end().last(), Some(Incoming::Close(Some(3500), _))));
    assert_eq!(request(server.address, "GET /sse?channels=a HTTP/1.1", "").status, 401);
    let mut long = Client::open(server.address, "/ws");
    long.send(&json!({ "id": 1, "connect": { "token": "x".repeat(3_000) } }));
    assert_eq!(long.ending(), Ending::Closed(1009));
    let mut known = signed_in(server.address, "alice", 60.0);
    let answer = known.ask(&json!({ "id": 2, "call": { "method": "m", "data": "x".repeat(3_000) } }));
    assert_eq!(code(&answer), 108, "{answer}");
}

#[test]
fn each_level_lets_in_whom_it_names() {
    let level = |who| Namespace { subscribe: Some(who), publish: Some(who), ..Namespace::default() };
    let server = start(with_namespaces([
        ("backend", level(Who::Backend)),
        ("token", level(Who::Token)),
        ("subscriber", Namespace { publish: Some(Who::Subscriber), ..level(Who::Anyone) }),
        ("user", level(Who::User)),
        ("anyone", level(Who::Anyone)),
    ]));
    let mut anonymous = Client::connect(server.address);
    let mut alice = signed_in(server.address, "alice", 60.0);
    let mut granted = Client::open(server.address, "/ws");
    let allow = json!({ "allow": { "subscribe": ["*"], "publish": ["token:*", "backend:*"] } });
    granted.ask(&json!({ "id": 1, "connect": { "token": token_with("bob", &allow) } }));
    for (namespace, [by_anyone, by_user, by_token]) in [
        ("backend", [103, 103, 103]),
        ("token", [103, 103, 0]),
        ("user", [103, 0, 0]),
        ("anyone", [0, 0, 0]),
        ("nobody-knows", [102, 102, 102]),
    ] {
        let channel = format!("{namespace}:x");
        for (client, expected) in
            [(&mut anonymous, by_anyone), (&mut alice, by_user), (&mut granted, by_token)]
        {
            assert_eq!(try_to(client, "publish", &channel), expected, "publish in {channel}");
            assert_eq!(try_to(client, "subscribe", &channel), expected, "subscribe to {channel}");
        }
        let expected = if by_anyone == 102 { 404 } else { 200 };
        let body = json!({ "channel": channel, "data": 1 }).to_string();
        assert_eq!(post(&server, "publish", API_KEY, &body), expected, "{channel}");
    }
    assert_eq!(try_to(&mut anonymous, "publish", "subscriber:x"), 103);
    assert_eq!(try_to(&mut anonymous, "subscribe", "subscriber:x"), 0);
    assert_eq!(try_to(&mut anonymous, "publish", "subscriber:x"), 0);
    assert_eq!(try_to(&mut anonymous, "history", "subscriber:x"), 103, "what was not opened is closed");
}

#[test]
fn a_subscription_token_opens_one_channel_to_one_user() {
    let server = start(with_namespaces([("room", Namespace::default())]));
    let mut alice = signed_in(server.address, "alice", 60.0);
    let mut subscribe = |channel: &str, token: &str| {
        code(&alice.ask(&json!({ "id": 3, "subscribe": { "channel": channel, "token": token } })))
    };
    let for_alice = token_with("alice", &json!({ "channel": "room:1" }));
    for (channel, token, expected) in [
        ("room:2", for_alice.as_str(), 103),
        ("room:1", &token_with("bob", &json!({ "channel": "room:1" })), 103),
        ("room:1", &token_with("alice", &json!({})), 101),
        ("room:1", &token_with("alice", &json!({ "channel": "room:1", "exp": 1 })), 109),
        ("room:1", "nonsense", 101),
        ("room:1", &for_alice, 0),
    ] {
        assert_eq!(subscribe(channel, token), expected, "{channel} {token}");
    }
}

#[test]
fn a_user_limited_channel_is_for_exactly_those_users() {
    let server = start(with_namespaces([("dm", open())]));
    let mut alice = signed_in(server.address, "alice", 60.0);
    assert_eq!(try_to(&mut alice, "subscribe", "dm:#alice,bob"), 0);
    for user in ["eve", "Alice", "alice,bob", "%61lice", "al\u{456}ce", "a\u{301}lice", "ali"] {
        let mut eve = signed_in(server.address, user, 60.0);
        for kind in ["subscribe", "publish", "history", "presence"] {
            assert_eq!(try_to(&mut eve, kind, "dm:#alice,bob"), 103, "{user} {kind}");
        }
    }
    assert_eq!(
        try_to(&mut alice, "subscribe", "dm:%23bob"),
        0,
        "what is written otherwise is another channel"
    );
}

#[test]
fn names_and_payloads_must_look_as_their_namespace_wants_them() {
    let schema = std::env::temp_dir().join(format!("duplex-schema-{}.json", std::process::id()));
    let mut file = std::fs::File::create(&schema).expect("a file in the folder for such files");
    let text =
        json!({ "type": "object", "required": ["text"], "properties": { "text": { "type": "string" } } });
    write!(file, "{text}").expect("a short text");
    let mut strict =
        Namespace { pattern: Some("room:[0-9]+".to_owned()), schema: Some(schema.clone()), ..open() };
    strict.policy.payload_bytes = 100;
    let mut rare = open();
    rare.policy.publications = Some(Rate { per_second: 1, burst: 2 });
    let server = start(with_namespaces([("room", strict), ("rare", rare)]));
    drop(std::fs::remove_file(&schema));
    let mut client = Client::connect(server.address);
    for (channel, data, expected, status) in [
        ("room:7", json!({ "text": "hi" }), 0, 200),
        ("room:x", json!({ "text": "hi" }), 107, 422),
        ("room:7", json!({ "text": 5 }), 107, 422),
        ("room:7", json!("hi"), 107, 422),
        ("room:7", json!({ "text": "x".repeat(100) }), 106, 413),
    ] {
        let answer = client.ask(&json!({ "id": 4, "publish": { "channel": channel, "data": data } }));
        assert_eq!(code(&answer), expected, "{channel} {data}: {answer}");
        let body = json!({ "channel": channel, "data": data }).to_string();
        assert_eq!(post(&server, "publish", API_KEY, &body), status, "{channel} {data}");
    }
    let codes = [(); 4].map(|()| try_to(&mut client, "publish", "rare:a"));
    assert_eq!(codes, [0, 0, 111, 111]);
}

#[test]
fn a_namespace_says_what_those_get_who_come_back() {
    let recovery = |recovery| {
        let mut namespace = open();
        namespace.policy.recovery = recovery;
        namespace
    };
    let mut forgetful = open();
    forgetful.policy.retention.publications = 0;
    let server = start(with_namespaces([
        ("off", recovery(Recovery::Off)),
        ("cache", recovery(Recovery::Cache)),
        ("none", forgetful),
    ]));
    let (mut client, first) = Client::subscribe(server.address, "cache:score");
    for channel in ["off:x", "cache:score", "cache:score", "none:x"] {
        assert_eq!(try_to(&mut client, "publish", channel), 0);
    }
    let since = support::native::since(&first);
    let (mut fresh, _) = Client::subscribe(server.address, "cache:score");
    assert_eq!(fresh.publication()["offset"], 2);
    let mut back = Client::connect(server.address);
    let answer = back.ask(&json!({ "id": 2, "subscribe": { "channel": "cache:score", "since": since } }));
    assert_eq!(answer["subscribed"]["recovered"], true, "{answer}");
    assert_eq!(back.publication()["offset"], 2, "only the newest");
    for channel in ["off:x", "none:x"] {
        let answer = back.ask(
            &json!({ "id": 2, "subscribe": { "channel": channel, "since": { "epoch": "1", "offset": 0 } } }),
        );
        assert_eq!(answer["subscribed"]["recovered"], false, "{answer}");
    }
    let keyed = json!({ "id": 3, "publish": { "channel": "none:x", "data": 1, "idempotency_key": "k" } });
    assert_eq!(code(&back.ask(&keyed)), 108, "without history there is nothing to compare a repeat with");
}

#[test]
fn a_namespace_may_leave_its_publications_uncompressed() {
    let mut plain = open();
    plain.policy.deflate = duplex::Deflate::Off;
    let server = start(with_namespaces([("plain", plain), ("small", open())]));
    let mut wire = Wire::websocket(server.address, "/ws?channels=plain:a,small:a", DEFLATE);
    for _ in 0..3 {
        assert!(matches!(wire.next(), Incoming::Deflated(_) | Incoming::Text(_)));
    }
    let text = "x".repeat(2_000);
    for (channel, deflated) in [("plain:a", false), ("small:a", true)] {
        let body = json!({ "channel": channel, "data": text }).to_string();
        assert_eq!(post(&server, "publish", API_KEY, &body), 200);
        assert_eq!(matches!(wire.next(), Incoming::Deflated(_)), deflated, "{channel}");
    }
}

#[test]
fn an_api_key_is_needed_and_guessing_is_slow() {
    let server = start(closed());
    let body = r#"{"channel":"a","data":1}"#;
    for endpoint in ["publish", "history", "presence", "presence_stats", "revoke", "info"] {
        assert_eq!(post(&server, endpoint, "", body), 401, "{endpoint}");
    }
    let statuses: Vec<u16> =
        (0..40).map(|guess| post(&server, "publish", &format!("guess {guess}"), body)).collect();
    assert_eq!(statuses[0], 401);
    assert_eq!(statuses[39], 429);
    assert_eq!(post(&server, "publish", API_KEY, body), 429, "even the right one must wait");
    // Whoever comes through a proxy from elsewhere need not.
    let head = format!(
        "POST /api/v1/publish HTTP/1.1\r\nX-Forwarded-For: 198.51.100.7\r\nAuthorization: bearer {API_KEY}"
    );
    assert_eq!(request(server.address, &head, body).status, 200);
}

#[test]
fn a_reload_is_seen_as_a_whole() {
    const OTHER: &str = "a secret of the time after the reload, long enough";
    let server = start(closed());
    let (old, new) = (token("alice", 60.0), signed(OTHER, "alice", &json!({})));
    let address = server.address;
    thread::scope(|scope| {
        for token in [&old, &new] {
            scope.spawn(move || {
                for _ in 0..150 {
                    let mut client = Client::open(address, "/ws");
                    client.send(&json!({ "id": 1, "connect": { "token": token } }));
                    match client.frame() {
                        Ok(frame) => assert_eq!(frame["connected"]["user"], "alice", "{frame}"),
                        Err(ending) => assert_eq!(ending, Ending::Closed(3500)),
                    }
                }
            });
        }
        for round in 0..20 {
            let mut options = closed();
            options.auth.hmac_secret = Some(secret(if round % 2 == 0 { OTHER } else { SECRET }));
            let changes = server.reload(options);
            assert_eq!(changes.len(), 1, "{changes:?}");
            assert!(!format!("{changes:?}").contains("long enough"), "{changes:?}");
        }
    });
    let mut client = Client::open(address, "/ws");
    client.send(&json!({ "id": 1, "connect": { "token": new } }));
    assert_eq!(client.ending(), Ending::Closed(3500), "the last configuration has the first secret");
}
