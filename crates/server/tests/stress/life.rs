//! Servers that change and end while clients are there.

use serde_json::json;

use crate::arena::{Arena, arena_options, publish};
use crate::support::native::{Client, Ending, offset};
use crate::support::start;

pub fn reload(arena: &Arena) -> String {
    const PUBLICATIONS: u64 = 400;
    let (mut watcher, _) = Client::subscribe(arena.address, "reload");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut publisher = Client::connect(arena.address);
            (0..PUBLICATIONS).for_each(|number| publish(&mut publisher, "reload", number));
            publisher.leave();
        });
        for round in 0..20 {
            let mut options = arena_options();
            options.settings.subscriptions = 100 + round;
            let changes = arena.server().reload(options);
            assert!(changes.iter().any(|change| change.path == "client.subscriptions_max"), "{changes:?}");
        }
        for expected in 1..=PUBLICATIONS {
            assert_eq!(offset(&watcher.publication()), expected);
        }
    });
    let mut options = arena_options();
    options.settings.subscriptions = 1;
    arena.server().reload(options);
    let refused = watcher.ask(&json!({ "id": 4, "subscribe": { "channel": "one more" } }));
    assert_eq!(refused["error"]["code"], 106, "{refused}");
    arena.server().reload(arena_options());
    format!("{PUBLICATIONS} publications, 22 reloads")
}

pub fn drain(_: &Arena) -> String {
    const CLIENTS: usize = 200;
    let server = start(arena_options());
    let mut clients: Vec<Client> =
        (0..CLIENTS).map(|_| Client::subscribe(server.address, "news").0).collect();
    let times: Vec<u64> = std::thread::scope(|scope| {
        scope.spawn(|| server.stop());
        let told = clients.iter_mut().map(|client| {
            let frame = client.next();
            assert_eq!(frame["closing"]["code"], 1012, "{frame}");
            assert_eq!(client.ending(), Ending::Closed(1012));
            frame["closing"]["after_ms"].as_u64().expect("when to come back")
        });
        told.collect()
    });
    let early = times.iter().filter(|after_ms| **after_ms <= 2_500).count();
    assert!((60..140).contains(&early), "{early} of {CLIENTS} in the first half of the spread");
    format!("{CLIENTS} clients, {early} of them early")
}

pub fn again(_: &Arena) -> String {
    for _ in 0..5 {
        let server = start(arena_options());
        let mut clients: Vec<Client> = (0..5).map(|_| Client::subscribe(server.address, "news").0).collect();
        std::thread::scope(|scope| {
            scope.spawn(|| server.stop());
            clients.iter_mut().for_each(|client| assert_eq!(client.ending(), Ending::Closed(1012)));
        });
    }
    "5 servers".to_owned()
}
