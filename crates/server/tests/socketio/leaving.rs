//! Who a client is, and how it is told to leave: tokens, kicks, and readers that do not read.

use std::net::SocketAddr;
use std::time::Duration;

use duplex::auth::Anonymous;
use duplex::{Namespace, Options, Settings, Who};
use duplex_core::CloseReason;
use duplex_transport::SocketOptions;
use serde_json::{Value, json};

use crate::client::{IO, IO_WS, Io, Polled, SEPARATOR, is_closed};
use crate::options;
use crate::support::frames::Incoming;
use crate::support::http::{request, say};
use crate::support::neighbour::Neighbour;
use crate::support::tokens::{API_KEY, closed, signed, token, token_with};
use crate::support::wire::Wire;
use crate::support::{Levels, eventually, start};

/// A server that lets in who has a token, and anonymous clients, who may do nothing by themselves.
fn guarded() -> Options {
    let mut options = Options { settings: options().settings, ..closed() };
    for name in ["default", "chat"] {
        let namespace = Namespace { subscribe: Some(Who::User), ..Namespace::default() };
        options.namespaces.insert(name.to_owned(), namespace);
    }
    options
}

fn api(address: SocketAddr, endpoint: &str, body: &Value) {
    let head = format!("POST /api/v1/{endpoint} HTTP/1.1\r\nAuthorization: Bearer {API_KEY}");
    let response = request(address, &head, &body.to_string());
    assert_eq!(response.status, 200, "{body}: {response:?}");
}

fn publish(address: SocketAddr, channel: &str, data: &str) {
    api(address, "publish", &json!({ "channel": channel, "data": data }));
}

/// How a namespace is asked for with a token.
fn with_token(namespace: &str, token: &str) -> String {
    format!(r#"{namespace}{{"token":"{token}"}}"#)
}

/// Connects to a namespace with a token.
fn join(io: &mut Io, namespace: &str, token: &str) {
    io.send(&format!("40{}", with_token(namespace, token)));
    let connected = io.text();
    assert!(connected.starts_with(&format!(r#"40{namespace}{{"sid":""#)), "{connected}");
}

#[test]
fn a_bad_token_is_a_connect_error_with_a_code_and_the_connection_stays() {
    let server = start(guarded());
    let forged = signed("another secret that is long enough as well", "alice", &json!({}));
    let rows = [
        ("nonsense".to_owned(), 3500),
        (String::new(), 3500),
        (forged, 3500),
        (token_with("alice", &json!({ "nbf": 1e12 })), 3500),
        (token("alice", -60.0), 3005),
    ];
    let mut io = Io::open(server.address);
    for (token, code) in &rows {
        for namespace in ["", "/chat,"] {
            io.send(&format!("40{}", with_token(namespace, token)));
            let refused = io.text();
            let body = refused.strip_prefix(&format!("44{namespace}"));
            let body: Value =
                serde_json::from_str(body.unwrap_or_else(|| panic!("{token}: {refused}"))).expect("JSON");
            assert_eq!(body["data"], json!({ "code": code }), "{refused}");
            assert!(body["message"].as_str().is_some_and(|message| message.contains(' ')), "{refused}");
            assert_eq!(body.as_object().map(|keys| keys.len()), Some(2), "{refused}");
        }
    }
    for auth in [r#"{"token":7}"#, r#"{"token":["a"]}"#, r#"{"token":{}}"#, r#"{"token":true}"#] {
        io.send(&format!("40{auth}"));
        let refused = io.text();
        assert!(refused.starts_with(r#"44{"message":""#) && refused.contains("token"), "{auth}: {refused}");
    }
    join(&mut io, "", &token("alice", 60.0));
    io.is_well("");

    let mut polled = Polled::open(server.address, IO);
    polled.say("40{\"token\":\"nonsense\"}");
    let refused = polled.poll();
    assert!(refused.starts_with("44{") && refused.ends_with(r#""data":{"code":3500}}"#), "{refused}");
    polled.say(&format!("40{}", with_token("", &token("alice", 60.0))));
    assert!(polled.poll().starts_with("40{"));
}

#[test]
fn who_shows_no_token_is_refused_where_anonymous_clients_are() {
    let mut options = guarded();
    options.auth.anonymous = Anonymous::Refused;
    let server = start(options);
    let mut io = Io::open(server.address);
    for packet in ["40", "40{}", "40/chat,"] {
        io.send(packet);
        let refused = io.text();
        let namespace = if packet == "40/chat," { "/chat," } else { "" };
        assert!(refused.starts_with(&format!("44{namespace}{{")), "{refused}");
        assert!(refused.ends_with(r#""data":{"code":3500}}"#), "{refused}");
    }
    join(&mut io, "", &token("alice", 60.0));
    io.is_well("");
}

#[test]
fn a_token_may_stand_in_the_request_and_one_in_the_packet_is_preferred() {
    let server = start(guarded());
    let mine = token_with("alice", &json!({ "channels": ["mine"] }));
    let other = token_with("bob", &json!({ "channels": ["other"] }));
    let header = format!("Authorization: Bearer {mine}\r\n");
    let in_query = format!("{IO_WS}&token={mine}");
    for (target, headers) in [(&*in_query, ""), (IO_WS, &*header)] {
        for (packet, channel) in
            [("40".to_owned(), "mine"), (format!("40{}", with_token("", &other)), "other")]
        {
            let mut wire = Wire::websocket(server.address, target, headers);
            wire.text();
            wire.send_text(&packet);
            assert!(wire.text().starts_with("40{"));
            eventually(|| "its channel is there".to_owned(), || server.gauges().subscriptions() == 1);
            publish(server.address, channel, "hello");
            assert_eq!(wire.text(), r#"42["message","hello"]"#, "{channel}");
            drop(wire);
            eventually(|| "it has left".to_owned(), || server.gauges().sessions() == 0);
        }
    }
    let mut polled = Polled::open(server.address, &format!("{IO}&token={mine}"));
    polled.say("40");
    assert!(polled.packets(1)[0].starts_with("40{"));
    eventually(|| "its channel is there".to_owned(), || server.gauges().subscriptions() == 1);
    publish(server.address, "mine", "hello");
    assert_eq!(polled.packets(1), [r#"42["message","hello"]"#]);
}

#[test]
fn a_namespace_gets_the_channels_of_its_own_token() {
    let server = start(guarded());
    let mut io = Io::open(server.address);
    join(&mut io, "", &token_with("alice", &json!({ "channels": ["mine", "chat:mine"] })));
    join(&mut io, "/chat,", &token_with("bob", &json!({ "channels": ["chat:bobs"] })));
    eventually(|| "all channels are there".to_owned(), || server.gauges().subscriptions() == 3);
    publish(server.address, "chat:bobs", "to bob");
    assert_eq!(io.text(), r#"42/chat,["message","to bob"]"#);
    publish(server.address, "chat:mine", "to alice");
    assert_eq!(io.text(), r#"42["message","to alice"]"#);
}

#[test]
fn who_is_kicked_is_told_so_in_the_namespace_and_keeps_the_others() {
    let server = start(guarded());
    let mut io = Io::open(server.address);
    join(&mut io, "", &token_with("bob", &json!({ "channels": ["mine"] })));
    join(&mut io, "/chat,", &token("alice", 60.0));
    io.hear("/chat,", "lobby");
    api(server.address, "revoke", &json!({ "user": "alice" }));
    assert_eq!(io.text(), "41/chat,");
    publish(server.address, "chat:lobby", "nobody hears");
    publish(server.address, "mine", "still here");
    assert_eq!(io.text(), r#"42["message","still here"]"#);
    io.is_well("");
    io.send(&format!("40{}", with_token("/chat,", &token_with("carol", &json!({})))));
    assert!(io.text().starts_with(r#"40/chat,{"sid":""#));
    io.is_well("/chat,");
}

#[test]
fn a_kick_ends_every_namespace_of_the_user_and_not_the_connection() {
    let server = start(guarded());
    let alice = token("alice", 60.0);
    let mut io = Io::open(server.address);
    join(&mut io, "", &alice);
    join(&mut io, "/chat,", &alice);
    let mut polled = Polled::open(server.address, IO);
    polled.say(&format!("40{}", with_token("", &alice)));
    polled.packets(1);
    polled.wait();
    api(server.address, "revoke", &json!({ "user": "alice" }));
    let mut came = [io.text(), io.text()];
    came.sort();
    assert_eq!(came, ["41", "41/chat,"]);
    assert_eq!(polled.answer().body, "41");
    // Both connections are there still, but not for her.
    io.send(&format!("40{}", with_token("", &alice)));
    let refused = io.text();
    assert!(refused.starts_with("44{") && refused.ends_with(r#""data":{"code":3507}}"#), "{refused}");
    join(&mut io, "", &token("bob", 60.0));
    io.is_well("");
    polled.say(&format!("40{}", with_token("", &token("bob", 60.0))));
    assert!(polled.packets(1)[0].starts_with("40{"));
}

#[test]
fn one_token_may_be_revoked_alone() {
    let server = start(guarded());
    let mut kicked = Io::open(server.address);
    join(&mut kicked, "", &token_with("alice", &json!({ "jti": "t1" })));
    let mut stays = Io::open(server.address);
    join(&mut stays, "", &token_with("alice", &json!({ "jti": "t2" })));
    api(server.address, "revoke", &json!({ "token": "t1" }));
    assert_eq!(kicked.text(), "41");
    stays.is_well("");
}

#[test]
fn who_is_in_no_namespace_any_more_keeps_its_connection() {
    let server =
        start(Options { settings: Settings { heartbeat_ms: 300, ..options().settings }, ..options() });
    let mut io = Io::connect(server.address);
    io.send("41");
    for _ in 0..2 {
        assert_eq!(io.text(), "2");
        io.send("3");
    }
}

#[test]
fn an_expired_token_closes_the_transport_so_that_the_client_comes_back() {
    let settings = Settings { expiry_grace_ms: 0, ..options().settings };
    let server = start(Options { settings, ..guarded() });
    let mut io = Io::open(server.address);
    join(&mut io, "", &token("alice", 2.0));
    is_closed(&mut io.wire);
    drop(io);
    server.settle(Levels::of(0, 0));
}

/// Little may wait for a client, and its system takes little that it has not read.
fn narrow() -> Options {
    let sockets = SocketOptions {
        send_buffer_bytes: 16 << 10,
        user_timeout: Duration::from_secs(300),
        ..Default::default()
    };
    let settings = Settings { outbox_bytes: 64 << 10, close_ms: 300, ..options().settings };
    Options { sockets, settings, ..options() }
}

/// Publishes until the reader has been closed as slow.
fn flood(server: &crate::support::Running) {
    let long = "x".repeat(8_000);
    let before = server.gauges().closed(&CloseReason::SLOW);
    let mut said = 0;
    eventually(
        || format!("the reader is closed, {:?}", server.levels()),
        || {
            said += 1;
            say(server.address, "flood", &long);
            server.gauges().closed(&CloseReason::SLOW) > before
        },
    );
    assert!(said < 150, "{said} publications of 8 KB");
}

#[test]
fn a_reader_that_stops_is_closed_without_being_told_to_stay_away() {
    let server = start(narrow());
    let mut neighbour = Neighbour::join(server.address);
    let mut wire = Wire::connect_narrow(server.address);
    wire.upgrade(IO_WS, "");
    wire.text();
    for packet in ["40", r#"427["$subscribe","flood"]"#] {
        wire.send_text(packet);
        wire.text();
    }
    flood(&server);
    neighbour.check();
    server.settle(Levels::of(1, 1));
    let mut last = None;
    wire.renew_deadline();
    // It may have been cut inside a frame.
    while let Ok(frame) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| wire.next())) {
        match frame {
            Incoming::End => break,
            Incoming::Text(text) => assert_ne!(&text[..2], "41"),
            frame => last = Some(frame),
        }
    }
    assert!(matches!(last, None | Some(Incoming::Close(None, _))), "{last:?}");
}

#[test]
fn a_reader_that_does_not_poll_is_closed_and_finds_no_session() {
    let server = start(narrow());
    let mut neighbour = Neighbour::join(server.address);
    let mut client = Polled::connect(server.address);
    client.say(r#"427["$subscribe","flood"]"#);
    client.packets(1);
    flood(&server);
    neighbour.check();
    let last = client.get();
    assert!(last.status == 400 || !last.body.split(SEPARATOR).any(|packet| packet == "41"), "{last:?}");
    eventually(|| "the session ends".to_owned(), || client.get().status == 400);
    client.is_gone();
    drop(client);
    server.settle(Levels::of(1, 1));
    let held = || server.gauges().outbox_bytes();
    eventually(|| format!("nothing is held, {} bytes", held()), || held() == 0);
}
