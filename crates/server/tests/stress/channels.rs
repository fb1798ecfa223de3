//! Nothing lost, nothing doubled, one order.

use std::collections::{BTreeMap, HashSet};
use std::thread;

use serde_json::{Value, json};

use crate::arena::{API_KEY, Arena, publish, subscribe};
use crate::support::frames::{Incoming, client_frame};
use crate::support::http::{Events, request};
use crate::support::native::{Client, offset, since};
use crate::support::wire::Wire;

/// Reads publications until `last`, and checks that offsets count up by one.
fn read_until(client: &mut Client, from: u64, last: u64) -> Vec<Value> {
    (from + 1..=last)
        .map(|expected| {
            let publication = client.publication();
            assert_eq!(offset(&publication), expected);
            publication["data"].clone()
        })
        .collect()
}

pub fn fan_out(arena: &Arena) -> String {
    const SUBSCRIBERS: usize = 500;
    const PUBLICATIONS: u64 = 40;
    let mut subscribers: Vec<Client> =
        (0..SUBSCRIBERS).map(|_| Client::subscribe(arena.address, "fan").0).collect();
    let mut publisher = Client::connect(arena.address);
    (0..PUBLICATIONS).for_each(|number| publish(&mut publisher, "fan", number));
    for subscriber in &mut subscribers {
        let heard = read_until(subscriber, 0, PUBLICATIONS);
        assert_eq!(heard, (0..PUBLICATIONS).map(Value::from).collect::<Vec<_>>());
    }
    format!("{} deliveries", SUBSCRIBERS as u64 * PUBLICATIONS)
}

pub fn race(arena: &Arena) -> String {
    const PUBLISHERS: u64 = 20;
    const EACH: u64 = 30;
    let mut watchers: Vec<Client> = (0..10).map(|_| Client::subscribe(arena.address, "race").0).collect();
    thread::scope(|scope| {
        for publisher in 0..PUBLISHERS {
            scope.spawn(move || {
                let mut client = Client::connect(arena.address);
                (0..EACH).for_each(|number| publish(&mut client, "race", publisher * 1_000 + number));
                client.leave();
            });
        }
    });
    let orders: Vec<_> =
        watchers.iter_mut().map(|watcher| read_until(watcher, 0, PUBLISHERS * EACH)).collect();
    assert!(orders.iter().all(|order| *order == orders[0]));
    let mut last = BTreeMap::new();
    for data in &orders[0] {
        let (publisher, number) = (data.as_u64().unwrap() / 1_000, data.as_u64().unwrap() % 1_000);
        assert_eq!(last.insert(publisher, number), number.checked_sub(1), "each publisher's own order");
    }
    format!("{} publications of {PUBLISHERS}", orders[0].len())
}

pub fn churn(arena: &Arena) -> String {
    const ROUNDS: u64 = 250;
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = Client::connect(arena.address);
                for id in 2..ROUNDS {
                    client.send(&json!([
                        { "subscribe": { "channel": "churn" } },
                        { "publish": { "channel": "churn", "data": id } },
                        { "id": id, "unsubscribe": { "channel": "churn" } },
                    ]));
                    while client.next()["id"] != id {}
                }
                let answer = client.ask(&json!({ "id": 9_999, "ping": {} }));
                assert_eq!(
                    answer,
                    json!({ "id": 9_999, "pong": {} }),
                    "nothing follows the last unsubscribed"
                );
                client.leave();
            });
        }
    });
    format!("{} subscriptions", 4 * (ROUNDS - 2))
}

pub fn reconnect(arena: &Arena) -> String {
    const CLIENTS: usize = 200;
    const LOSSES: usize = 3;
    let mut publisher = Client::connect(arena.address);
    let mut clients: Vec<(Client, Value)> = (0..CLIENTS)
        .map(|_| {
            let (client, subscribed) = Client::subscribe(arena.address, "line");
            (client, since(&subscribed))
        })
        .collect();
    let mut last = 0;
    for _ in 0..LOSSES {
        (0..20).for_each(|number| publish(&mut publisher, "line", number));
        last += 20;
        for (index, (client, seen)) in clients.iter_mut().enumerate() {
            // Some read a part of it before they are gone, some nothing.
            for _ in 0..index % 20 {
                let publication = client.publication();
                assert_eq!(offset(&publication), offset(seen) + 1);
                *seen = since(&publication);
            }
            *client = Client::connect(arena.address);
            let subscribed = subscribe(client, "line", Some(seen));
            assert_eq!(subscribed["recovered"], true, "{subscribed}");
            for expected in offset(seen) + 1..=offset(&subscribed) {
                let publication = client.publication();
                assert_eq!(offset(&publication), expected);
                *seen = since(&publication);
            }
        }
    }
    for (client, seen) in &mut clients {
        read_until(client, offset(seen), last);
    }
    format!("{} recoveries", CLIENTS * LOSSES)
}

pub fn too_long(arena: &Arena) -> String {
    let (mut away, subscribed) = Client::subscribe(arena.address, "short:news");
    let mut publisher = Client::connect(arena.address);
    (0..10).for_each(|number| publish(&mut publisher, "short:news", number));
    read_until(&mut away, 0, 10);
    let mut told = 0;
    for seen in 0..=10 {
        let mut client = Client::connect(arena.address);
        let position = json!({ "epoch": subscribed["epoch"], "offset": seen });
        let answer = subscribe(&mut client, "short:news", Some(&position));
        assert_eq!(answer["recovered"], seen >= 7, "{seen}: {answer}");
        if seen >= 7 {
            read_until(&mut client, seen, 10);
        } else {
            told += 1;
        }
    }
    format!("{told} were told")
}

pub fn epoch(arena: &Arena) -> String {
    let mut publisher = Client::connect(arena.address);
    publish(&mut publisher, "epoch", 1);
    for position in [
        json!({ "epoch": "1", "offset": 1 }),
        json!({ "epoch": "1", "offset": 0 }),
        json!({ "epoch": "ffffffffffff", "offset": u64::MAX }),
    ] {
        let mut client = Client::connect(arena.address);
        let answer = subscribe(&mut client, "epoch", Some(&position));
        assert_eq!((&answer["recovered"], &answer["offset"]), (&json!(false), &json!(1)), "{answer}");
    }
    "3 were told".to_owned()
}

pub fn idempotent(arena: &Arena) -> String {
    let (mut watcher, _) = Client::subscribe(arena.address, "once");
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                let mut client = Client::connect(arena.address);
                for key in 0..20 {
                    let publish =
                        json!({ "channel": "once", "data": key, "idempotency_key": key.to_string() });
                    let answer = client.ask(&json!({ "id": 2, "publish": publish }));
                    assert!(answer["published"].is_object(), "{answer}");
                }
                client.leave();
            });
        }
    });
    let heard: HashSet<u64> =
        read_until(&mut watcher, 0, 20).iter().map(|data| data.as_u64().unwrap()).collect();
    assert_eq!(heard.len(), 20);
    "400 tries, 20 publications".to_owned()
}

pub fn pages(arena: &Arena) -> String {
    const PUBLICATIONS: u64 = 600;
    let mut first = Client::connect(arena.address);
    publish(&mut first, "book", 0);
    let mut reader = Client::connect(arena.address);
    let mut seen = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut publisher = Client::connect(arena.address);
            (1..PUBLICATIONS).for_each(|number| publish(&mut publisher, "book", number));
            publisher.leave();
        });
        let mut position = None;
        while (seen.len() as u64) < PUBLICATIONS {
            let read = json!({ "channel": "book", "limit": 7, "since": position });
            let page = reader.ask(&json!({ "id": 5, "history": read }));
            for publication in page["history"]["publications"].as_array().unwrap_or_else(|| panic!("{page}"))
            {
                seen.push(offset(publication));
                position = Some(since(publication));
            }
        }
    });
    assert_eq!(seen, (1..=PUBLICATIONS).collect::<Vec<_>>());
    format!("{PUBLICATIONS} publications, 7 a page")
}

pub fn forms(arena: &Arena) -> String {
    const PUBLICATIONS: u64 = 100;
    let (mut json_client, _) = Client::subscribe(arena.address, "forms");
    let mut packed =
        Wire::websocket(arena.address, "/ws?channels=forms", "Sec-WebSocket-Protocol: duplex.v1.msgpack\r\n");
    let mut events = Events::open(arena.address, "/sse?channels=forms", "");
    events.subscribed();
    // The answers to its address: connected and subscribed.
    for _ in 0..2 {
        assert!(matches!(packed.next(), Incoming::Binary(_)));
    }
    packed.send(&client_frame(
        0x82,
        &rmp_serde::to_vec(&json!({ "publish": { "channel": "forms", "data": 0 } })).unwrap(),
    ));
    let mut publisher = Client::connect(arena.address);
    assert_eq!(json_client.publication()["data"], 0);
    (1..PUBLICATIONS).for_each(|number| publish(&mut publisher, "forms", number));
    read_until(&mut json_client, 1, PUBLICATIONS);
    for expected in 1..=PUBLICATIONS {
        let Incoming::Binary(message) = packed.next() else { panic!("MessagePack is binary") };
        let frame: Value = rmp_serde::from_slice(&message).unwrap();
        assert_eq!(offset(&frame["publication"]), expected);
        assert_eq!(offset(&events.data("message")), expected);
    }
    format!("{} deliveries", PUBLICATIONS * 3)
}

pub fn event_source(arena: &Arena) -> String {
    let publish = |data: u64| {
        let head = format!("POST /api/v1/publish HTTP/1.1\r\nAuthorization: Bearer {API_KEY}");
        let body = json!({ "channel": "events", "data": data }).to_string();
        assert_eq!(request(arena.address, &head, &body).status, 200);
    };
    let mut last = String::new();
    let mut expected = 0;
    for round in 0..10 {
        let header = if last.is_empty() { String::new() } else { format!("Last-Event-ID: {last}\r\n") };
        let mut events = Events::open(arena.address, "/sse?channels=events", &header);
        let subscribed = events.subscribed();
        assert_eq!(subscribed.get("recovered"), (round > 0).then_some(&json!(true)), "{subscribed}");
        publish(round * 2);
        while expected < round * 2 + 1 {
            let event = events.next().expect("an event");
            let id =
                event.lines().find_map(|line| line.strip_prefix("id: ")).expect("a publication has an id");
            expected += 1;
            assert!(id.contains(&format!(":{expected}:")), "{expected}: {event}");
            last = id.to_owned();
        }
        drop(events);
        // Nobody listens to this one until the next round.
        publish(round * 2 + 1);
    }
    "20 publications over 10 connections".to_owned()
}
