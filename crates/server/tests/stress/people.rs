//! Who is there, and who may be.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::arena::{API_KEY, Arena, signed_in, subscribe, token};
use crate::support::http::request;
use crate::support::native::{Client, Ending};
use crate::support::wire::Wire;

/// Who joined and left, as a watcher hears of it until `clients` have left.
fn watch(watcher: &mut Client, clients: usize) -> HashMap<String, String> {
    let mut seen: HashMap<String, String> = HashMap::new();
    while seen.values().filter(|changes| changes.ends_with('-')).count() < clients {
        let frame = watcher.next();
        for (kind, sign) in [("joined", '+'), ("left", '-')] {
            if let Some(client) = frame[kind]["client"].as_str() {
                seen.entry(client.to_owned()).or_default().push(sign);
            }
        }
    }
    seen
}

pub fn presence(arena: &Arena) -> String {
    const CLIENTS: usize = 60;
    let mut watchers: Vec<Client> = (0..5)
        .map(|_| {
            let mut watcher = Client::connect(arena.address);
            subscribe(&mut watcher, "room:hall", None);
            watcher
        })
        .collect();
    let mut clients: Vec<Client> = (0..CLIENTS)
        .map(|index| {
            let mut client = signed_in(arena.address, &format!("user {}", index % 20), 60.0);
            subscribe(&mut client, "room:hall", None);
            client
        })
        .collect();
    let counted = watchers[0].ask_past(&json!({ "id": 5, "presence_stats": { "channel": "room:hall" } }), 5);
    assert_eq!(
        (&counted["presence_stats"]["clients"], &counted["presence_stats"]["users"]),
        (&json!(65), &json!(20))
    );
    clients.drain(..).for_each(Client::leave);
    for (index, watcher) in watchers.iter_mut().enumerate() {
        // The first one has passed over some of it while it waited for its answer.
        let seen = watch(watcher, CLIENTS);
        let gone = seen.values().filter(|changes| changes.ends_with('-')).count();
        assert_eq!(gone, CLIENTS);
        if index > 0 {
            assert!(seen.values().all(|changes| changes == "+-" || changes == "+"), "{seen:?}");
        }
    }
    format!("{CLIENTS} clients, 5 watchers")
}

pub fn cut_off(arena: &Arena) -> String {
    let mut watcher = Client::connect(arena.address);
    subscribe(&mut watcher, "room:cut", None);
    let wires: Vec<Wire> = (0..50)
        .map(|_| {
            let mut wire = Wire::websocket(arena.address, "/ws?channels=room:cut", "");
            while !wire.text().contains("subscribed") {}
            wire
        })
        .collect();
    wires.into_iter().for_each(Wire::reset);
    let seen = watch(&mut watcher, 50);
    assert_eq!(seen.values().filter(|changes| *changes == "+-").count(), 50);
    "50 clients".to_owned()
}

pub fn expiry(arena: &Arena) -> String {
    let mut left = signed_in(arena.address, "short", 1.0);
    let mut stays = signed_in(arena.address, "long", 1.0);
    let refreshed = stays.ask(&json!({ "id": 2, "refresh": { "token": token("long", 60.0) } }));
    assert!(refreshed["refreshed"]["expires_in_ms"].as_u64().unwrap() > 50_000, "{refreshed}");
    assert_eq!(left.ending(), Ending::Closed(3005));
    assert_eq!(stays.ask(&json!({ "id": 3, "ping": {} })), json!({ "id": 3, "pong": {} }));
    let mut stranger = signed_in(arena.address, "eve", 60.0);
    stranger.send(&json!({ "refresh": { "token": token("long", 60.0) } }));
    assert_eq!(stranger.ending(), Ending::Closed(3500));
    "1 of 2".to_owned()
}

pub fn revoked(arena: &Arena) -> String {
    let mut clients: Vec<Client> = (0..50).map(|_| signed_in(arena.address, "mallory", 60.0)).collect();
    let old = token("mallory", 60.0);
    let mut other = signed_in(arena.address, "bob", 60.0);
    let head = format!("POST /api/v1/revoke HTTP/1.1\r\nAuthorization: Bearer {API_KEY}");
    assert_eq!(request(arena.address, &head, r#"{"user":"mallory"}"#).status, 200);
    clients.iter_mut().for_each(|client| assert_eq!(client.ending(), Ending::Closed(3507)));
    let mut again = Client::open(arena.address, "/ws");
    again.send(&json!({ "id": 1, "connect": { "token": old } }));
    assert_eq!(again.ending(), Ending::Closed(3507));
    assert_eq!(other.ask(&json!({ "id": 3, "ping": {} })), json!({ "id": 3, "pong": {} }));
    "50 connections".to_owned()
}

pub fn connections(arena: &Arena) -> String {
    let mut held: Vec<Client> = (0..60).map(|_| signed_in(arena.address, "many", 60.0)).collect();
    let mut one_more = Client::open(arena.address, "/ws");
    one_more.send(&json!({ "id": 1, "connect": { "token": token("many", 60.0) } }));
    assert_eq!(one_more.ending(), Ending::Closed(3504));
    held.pop().unwrap().leave();
    crate::support::eventually(
        || "there is room again".to_owned(),
        || {
            let mut client = Client::open(arena.address, "/ws");
            client.send(&json!({ "id": 1, "connect": { "token": token("many", 60.0) } }));
            matches!(client.frame(), Ok(Value::Object(_)))
        },
    );
    "60 of 61".to_owned()
}
