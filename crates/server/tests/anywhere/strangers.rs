//! The address for other nodes: who comes there must prove to be one.

use std::net::SocketAddr;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::json;

use crate::polled::{ECHO, Polled, UNKNOWN_SESSION};
use crate::support::http::{Response, say};
use crate::support::requests::send;
use crate::support::session::{Form, Session, Way};
use crate::support::wire::Wire;
use crate::together::{SECRET, entrance, introduce, nodes, options};

/// What another node would say.
struct Word<'a> {
    secret: &'a str,
    node: &'a str,
    time_ms: u64,
    client: &'a str,
    /// What it signs.
    method: &'a str,
    target: &'a str,
}

impl Word<'_> {
    fn new(target: &str) -> Word<'_> {
        let time_ms = (crate::support::tokens::now() * 1_000.0) as u64;
        let (node, client) = ("0123456789abcdef", "198.51.100.7");
        Word { secret: SECRET, node, time_ms, client, method: "GET", target }
    }

    /// The header field, with a line break.
    fn header(&self) -> String {
        let Self { secret, node, time_ms, client, method, target } = self;
        let sign =
            |key: &[u8], text: &str| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes());
        let key = sign(secret.as_bytes(), "duplex: forwarded requests, 1");
        let claims = format!("{node} {time_ms} {client}");
        let signature = sign(key.as_ref(), &format!("{claims} {method} {target}"));
        format!("duplex-forwarded: {claims} {}\r\n", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }
}

fn asked(address: SocketAddr, method: &str, target: &str, headers: &str) -> Response {
    let mut wire = Wire::connect(address);
    send(&mut wire, method, target, headers, b"");
    wire.response().expect("an answer")
}

#[test]
fn who_cannot_prove_to_be_a_node_is_told_what_to_check() {
    let [home, _] = nodes(&options());
    let session = Session::connect(home.address, Form::Json);
    let target = &*format!("/session/{}/poll", session.token);
    let good = Word::new(target);
    let rows = [
        (String::new(), "clients connect to server.listen"),
        (good.header().repeat(2), "clients connect to server.listen"),
        ("duplex-forwarded: let me in\r\n".to_owned(), "the same version"),
        (
            Word { secret: "another secret that is long enough", ..Word::new(target) }.header(),
            "cluster.secret",
        ),
        (Word { method: "POST", ..Word::new(target) }.header(), "cluster.secret"),
        (Word::new("/session/another/poll").header(), "cluster.secret"),
        (good.header().replace("198.51.100.7", "198.51.100.8"), "cluster.secret"),
        (Word { time_ms: good.time_ms - 60_000, ..Word::new(target) }.header(), "60 s ago"),
        (Word { time_ms: good.time_ms + 90_000, ..Word::new(target) }.header(), "s in the future"),
    ];
    for (header, sentence) in rows {
        let refused = asked(entrance(&home), "GET", target, &header);
        assert_eq!(refused.status, 403, "{header:?}");
        assert!(refused.body.contains(sentence), "{header:?}: {}", refused.body);
        assert!(refused.header("duplex-forwarded").is_some(), "{refused:?}");
    }
    let believed = asked(entrance(&home), "GET", target, &good.header());
    assert_eq!(believed.status, 200, "{believed:?}");
}

#[test]
fn nothing_but_sessions_is_asked_for_there() {
    let [home, _] = nodes(&options());
    for (method, target) in [
        ("GET", "/"),
        ("GET", "/healthz"),
        ("GET", "/readyz"),
        ("GET", "/ws"),
        ("GET", "/sse?channels=news"),
        ("POST", "/session"),
        ("POST", "/api/v1/publish"),
        ("POST", "/signalr/negotiate?negotiateVersion=1"),
        ("GET", ECHO),
    ] {
        let refused = asked(entrance(&home), method, target, &Word { method, ..Word::new(target) }.header());
        assert_eq!(refused.status, 403, "{target}");
        assert!(refused.body.contains("sessions of this node"), "{target}: {}", refused.body);
    }
}

#[test]
fn what_was_sent_on_once_is_not_sent_on_again() {
    let [home, away] = nodes(&options());
    let session = Session::connect(home.address, Form::Json);
    let target = format!("/session/{}/poll", session.token);
    assert_eq!(asked(away.address, "GET", &target, "").status, 200, "by itself it would be sent on");
    let refused = asked(entrance(&away), "GET", &target, &Word::new(&target).header());
    assert_eq!(refused.status, 404, "{refused:?}");
    let client = Polled::open(home.address, ECHO);
    let refused = asked(entrance(&away), "GET", &client.target, &Word::new(&client.target).header());
    assert_eq!((refused.status, &*refused.body), (400, UNKNOWN_SESSION));
}

#[test]
fn a_client_does_not_pass_for_a_node_where_clients_come_in() {
    let [home, away] = nodes(&options());
    let session = Session::connect(home.address, Form::Json);
    let target = format!("/session/{}/poll", session.token);
    // What it says is neither believed nor refused, and does not reach the other node.
    for header in [Word::new(&target).header(), "duplex-forwarded: nonsense\r\n".to_owned()] {
        assert_eq!(asked(away.address, "GET", &target, &header).status, 200);
    }
}

#[test]
fn nodes_with_different_secrets_do_not_serve_each_others_clients() {
    let mut other = options();
    let [home] = nodes(&other);
    other.cluster.secret = Some(crate::support::tokens::secret("another secret that is long enough"));
    let [away] = nodes(&other);
    introduce(&away, &home);
    let session = Session::connect(home.address, Form::Json);
    for (method, behind) in [("POST", ""), ("GET", "/poll"), ("GET", "/stream")] {
        let refused = asked(away.address, method, &format!("/session/{}{behind}", session.token), "");
        assert_eq!(refused.status, 503, "{method} {behind}");
        assert!(refused.header("duplex-forwarded").is_none(), "{refused:?}");
        assert!(refused.body.contains("try again"), "{refused:?}");
    }
}

#[test]
fn a_client_counts_by_its_own_address_wherever_it_comes_in() {
    let mut options = options();
    options.connections.per_address = 2;
    let [home, away] = nodes(&options);
    // It comes through a proxy on this machine, which is believed.
    let begin = |address: &str| {
        let negotiated = crate::client::negotiate(home.address, "/signalr", "?negotiateVersion=1", "");
        let token = negotiated["connectionToken"].as_str().expect("a token").to_owned();
        let header = format!("X-Forwarded-For: {address}\r\n");
        asked(away.address, "GET", &format!("/signalr?id={token}"), &header).status
    };
    assert_eq!([(); 3].map(|()| begin("198.51.100.7")), [200, 200, 429]);
    assert_eq!([(); 3].map(|()| begin("198.51.100.8")), [200, 200, 429]);
    // The other node is no address at all.
    let mut sessions: Vec<Session> = (0..8).map(|_| Session::connect(home.address, Form::Json)).collect();
    for session in &mut sessions {
        session.address = away.address;
        session.attach(Way::Stream);
        session.send(&json!({ "id": 2, "subscribe": { "channel": "news" } }));
    }
    say(home.address, "news", "to all");
    for session in &mut sessions {
        while session.next()["publication"]["data"] != "to all" {}
    }
}
