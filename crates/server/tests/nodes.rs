//! Several nodes on one Redis, as their clients and a backend see them.

#![cfg(target_os = "linux")]

mod support;

use std::net::SocketAddr;

use duplex::{AtStart, BrokerOptions, BrokerPlace, Options, Server};
use serde_json::{Value, json};

use support::http::{publish, request};
use support::native::{Client, Ending, offset, since};
use support::tokens::{API_KEY, closed, now, signed_in, token_with};
use support::{Running, eventually, options, start};

/// The same options for a node on this Redis.
fn on(url: &str, options: Options) -> Options {
    let place = BrokerPlace::parse(url).expect("a right URL");
    Options {
        broker: BrokerOptions { place, at_start: AtStart::Exit, ..BrokerOptions::default() },
        ..options
    }
}

/// So many nodes that know each other.
fn cluster(url: &str, nodes: usize, options: fn() -> Options) -> Vec<Running> {
    let nodes: Vec<Running> = (0..nodes).map(|_| start(on(url, options()))).collect();
    for node in &nodes {
        let known = || info(node.address)["nodes"].as_u64().unwrap_or(1);
        eventually(
            || format!("{} nodes know each other, now {}", nodes.len(), known()),
            || known() == nodes.len() as u64,
        );
    }
    nodes
}

fn api(address: SocketAddr, endpoint: &str, body: &Value) -> Value {
    let head = format!("POST /api/v1/{endpoint} HTTP/1.1\r\nAuthorization: Bearer {API_KEY}");
    let response = request(address, &head, &body.to_string());
    assert_eq!(response.status, 200, "{endpoint} {body}: {response:?}");
    serde_json::from_str(&response.body).expect("JSON")
}

fn info(address: SocketAddr) -> Value {
    api(address, "info", &json!({}))
}

fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let response = request(address, &format!("GET {path} HTTP/1.1"), "");
    (response.status, response.body)
}

#[test]
fn subscribers_of_all_nodes_get_what_is_published_on_any() {
    let redis = duplex_rigs::Redis::start();
    let nodes = cluster(&redis.url(), 3, options);
    let mut clients: Vec<Client> =
        nodes.iter().map(|node| Client::subscribe(node.address, "news").0).collect();
    for round in 0..30 {
        publish(nodes[round % 3].address, &json!({ "channel": "news", "data": round }).to_string());
    }
    for client in &mut clients {
        for round in 0..30 {
            let publication = client.publication();
            assert_eq!((&publication["data"], offset(&publication)), (&json!(round), round + 1));
        }
    }
}

#[test]
fn a_client_comes_back_to_another_node_and_gets_what_it_missed() {
    let redis = duplex_rigs::Redis::start();
    let nodes = cluster(&redis.url(), 2, options);
    let (client, subscribed) = Client::subscribe(nodes[0].address, "news");
    drop(client);
    for round in 1..=5 {
        publish(nodes[0].address, &json!({ "channel": "news", "data": round }).to_string());
    }
    let mut client = Client::connect(nodes[1].address);
    let answer = client.ask(&json!({
        "subscribe": { "channel": "news", "since": since(&subscribed) }, "id": 2
    }));
    assert_eq!(answer["subscribed"]["recovered"], true, "{answer}");
    for round in 1..=5 {
        assert_eq!(offset(&client.publication()), round);
    }
}

#[test]
fn a_user_that_is_revoked_on_one_node_is_sent_away_from_all_and_not_let_in_by_one_that_comes_later() {
    let redis = duplex_rigs::Redis::start();
    let nodes = cluster(&redis.url(), 2, closed);
    let mut ann = signed_in(nodes[1].address, "ann", 600.0);
    assert_eq!(api(nodes[0].address, "revoke", &json!({ "user": "ann" }))["nodes"], 2);
    assert!(matches!(ann.ending(), Ending::Closed(3507)), "revoked");
    let later = start(on(&redis.url(), closed()));
    let old = token_with("ann", &json!({ "exp": now() as u64 + 600, "iat": now() as u64 - 60 }));
    let head = format!("GET /sse?channels=news HTTP/1.1\r\nAuthorization: Bearer {old}");
    let refused = || request(later.address, &head, "").body.contains("the token was revoked");
    eventually(|| "a node that came later refuses the user".to_owned(), refused);
}

#[test]
fn silent_nodes_are_named_and_not_waited_for_long() {
    let redis = duplex_rigs::Redis::start();
    let mut nodes = cluster(&redis.url(), 2, options);
    let third = support::program::Program::run({
        let mut command = support::program::duplex(&["serve", "--listen", "127.0.0.1:0"]);
        command.env("DUPLEX_BROKER__URL", redis.url());
        command
    });
    let first = nodes.remove(0);
    eventually(|| "a third node is known".to_owned(), || info(first.address)["nodes"] == 3);
    third.signal("-STOP");
    let silent = || info(first.address)["silent"].as_array().map_or(0, Vec::len);
    eventually(|| format!("one node is silent, now {}", silent()), || silent() == 1);
    let answer = info(first.address);
    assert_eq!(answer["nodes"], 2, "{answer}");
    assert_eq!(answer["peers"][0]["info"]["version"], env!("CARGO_PKG_VERSION"));
    third.signal("-CONT");
}

#[test]
fn without_its_broker_a_node_lives_and_says_so_and_goes_on_when_it_is_back() {
    let options_kept =
        duplex_rigs::RedisOptions { persistence: duplex_rigs::Persistence::Everything, ..Default::default() };
    let mut redis = duplex_rigs::Redis::start_with(&options_kept);
    let nodes = cluster(&redis.url(), 2, options);
    let address = nodes[0].address;
    let (mut client, _) = Client::subscribe(nodes[1].address, "news");
    publish(address, r#"{"channel":"news","data":1}"#);
    assert_eq!(offset(&client.publication()), 1);
    redis.stop();
    eventually(|| "it is not ready".to_owned(), || get(address, "/readyz").0 == 503);
    assert_eq!(get(address, "/healthz"), (200, "degraded: the broker cannot be reached\n".to_owned()));
    let refused = request(address, "POST /api/v1/publish HTTP/1.1", r#"{"channel":"news","data":2}"#);
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.body.contains("the broker is not reachable; try again later"), "{refused:?}");
    let answer = client.ask(&json!({ "subscribe": { "channel": "more" }, "id": 9 }));
    assert_eq!(answer["error"]["code"], 108, "{answer}");
    redis.restart();
    eventually(|| "it is ready again".to_owned(), || get(address, "/readyz").0 == 200);
    publish(address, r#"{"channel":"news","data":3}"#);
    assert_eq!(offset(&client.publication()), 2, "the client has stayed, and missed nothing");
}

#[test]
fn a_node_waits_for_its_broker_or_does_not_start_as_it_is_told() {
    let port = duplex_rigs::free_port();
    let url = format!("redis://127.0.0.1:{port}");
    let refused = Server::start(on(&url, options())).err().expect("there is no Redis").to_string();
    assert!(refused.contains("broker.url: the broker cannot be reached"), "{refused}");
    let mut waiting = on(&url, options());
    waiting.broker.at_start = AtStart::Wait;
    let node = start(waiting);
    assert_eq!(get(node.address, "/readyz"), (503, "not ready: the broker cannot be reached\n".to_owned()));
    let port = Some(port);
    let _redis = duplex_rigs::Redis::start_with(&duplex_rigs::RedisOptions { port, ..Default::default() });
    eventually(|| "it is ready".to_owned(), || get(node.address, "/readyz").0 == 200);
    publish(node.address, r#"{"channel":"news","data":1}"#);
}

#[test]
fn presence_is_of_all_nodes() {
    let redis = duplex_rigs::Redis::start();
    let nodes = cluster(&redis.url(), 2, options);
    let clients: Vec<Client> = nodes.iter().map(|node| Client::subscribe(node.address, "room").0).collect();
    let count = || api(nodes[0].address, "presence_stats", &json!({ "channel": "room" }))["clients"].clone();
    eventually(|| format!("two are present, now {}", count()), || count() == 2);
    drop(clients);
    eventually(|| format!("nobody is present, now {}", count()), || count() == 0);
}
