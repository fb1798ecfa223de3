//! Those who read too slowly.

use serde_json::{Value, json};

use crate::arena::{Arena, publish};
use crate::support::eventually;
use crate::support::frames::Incoming;
use crate::support::native::{Client, offset};
use crate::support::wire::Wire;

fn narrow(arena: &Arena, channel: &str) -> Wire {
    let mut wire = Wire::connect_narrow(arena.address);
    wire.upgrade(&format!("/ws?channels={channel}"), "");
    while !wire.text().contains("subscribed") {}
    wire
}

/// Publications that a slow client finds when it reads again, until nothing has come for a while.
fn publication(wire: &mut Wire) -> Value {
    let frame: Value = serde_json::from_str(&wire.text()).expect("frames are JSON");
    frame["publication"].clone()
}

pub fn stalled(arena: &Arena) -> String {
    const PUBLICATIONS: u64 = 100;
    let text = "x".repeat(8_000);
    let mut stalled: Vec<Wire> = (0..100).map(|_| narrow(arena, "stall")).collect();
    let mut healthy: Vec<Client> = (0..20).map(|_| Client::subscribe(arena.address, "stall").0).collect();
    let mut publisher = Client::connect(arena.address);
    for _ in 0..PUBLICATIONS {
        publish(&mut publisher, "stall", text.as_str());
        for client in &mut healthy {
            client.publication();
        }
    }
    let subscriptions = || arena.server().gauges().subscriptions();
    eventually(
        || format!("the stalled are sent away: {} subscriptions", subscriptions()),
        || subscriptions() == 20,
    );
    for wire in &mut stalled {
        let frames = wire.until_end();
        assert!(matches!(frames.last(), Some(Incoming::Close(Some(3008), _))), "{:?}", frames.last());
    }
    "100 stalled, 20 healthy".to_owned()
}

pub fn latest(arena: &Arena) -> String {
    const ROUNDS: u64 = 400;
    let mut wire = narrow(arena, "latest:ticker");
    let mut publisher = Client::connect(arena.address);
    for round in 1..=ROUNDS {
        let publications = ["a", "b", "c"].map(|key| {
            let data = json!([round, "x".repeat(200)]);
            json!({ "publish": { "channel": "latest:ticker", "data": data, "tags": { "key": key } } })
        });
        publisher.send(&json!(publications));
    }
    publisher.ask(&json!({ "id": 9, "ping": {} }));
    let mut newest = std::collections::HashMap::new();
    let mut read = 0;
    while newest.values().filter(|round| **round == ROUNDS).count() < 3 {
        let publication = publication(&mut wire);
        let round = publication["data"][0].as_u64().unwrap();
        let before = newest.insert(publication["tags"]["key"].to_string(), round);
        assert!(before.is_none_or(|before| before < round), "never older than before");
        read += 1;
    }
    assert!(read < ROUNDS * 3, "nothing was left out");
    format!("{read} of {} publications", ROUNDS * 3)
}

pub fn drop_oldest(arena: &Arena) -> String {
    const PUBLICATIONS: u64 = 600;
    let mut wire = narrow(arena, "drop:log");
    let mut publisher = Client::connect(arena.address);
    let text = "x".repeat(1_000);
    (0..PUBLICATIONS).for_each(|_| publish(&mut publisher, "drop:log", text.as_str()));
    publisher.ask(&json!({ "id": 9, "ping": {} }));
    let (mut last, mut read) = (0, 0);
    while last < PUBLICATIONS {
        let at = offset(&publication(&mut wire));
        assert!(at > last, "{at} after {last}");
        (last, read) = (at, read + 1);
    }
    assert!(read < PUBLICATIONS, "nothing was left out");
    format!("{read} of {PUBLICATIONS} publications")
}

pub fn paced(arena: &Arena) -> String {
    let (mut client, _) = Client::subscribe(arena.address, "paced:score");
    let mut publisher = Client::connect(arena.address);
    (1..=500).for_each(|number| publish(&mut publisher, "paced:score", number));
    let (mut last, mut read) = (0, 0);
    while last < 500 {
        last = client.publication()["data"].as_u64().unwrap();
        read += 1;
    }
    // 3 at once and 20 a second; publishing takes some time, on a slow machine more.
    assert!(read < 250, "{read} of 500");
    format!("{read} of 500 publications")
}
