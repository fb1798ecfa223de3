//! Clients of Socket.IO that come back to another node than the one they were at.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use duplex_rigs::{Nats, Nodes, Redis};
use serde_json::{Value, json};

use crate::client::Io;
use crate::stage::{nodes_with, try_publish};
use crate::support::eventually;
use crate::support::http::request;

const ROOMS: [&str; 3] = ["a", "b", "c"];
/// Publications to the rooms in turn.
const TOLD: u64 = 30;

fn nodes(url: &str, history: &str) -> Nodes {
    nodes_with(url, 2, history, &[("DUPLEX_SOCKETIO__RECOVERY", "true")])
}

/// What was sent in each room.
type Heard = BTreeMap<String, Vec<u64>>;

/// A client, and what it was told.
struct Guest {
    io: Io,
    pid: String,
    sid: String,
    /// Room, number and offset of each event, in order.
    events: Vec<(String, u64, String)>,
    /// How many of them came while it was connected, or before.
    heard: usize,
}

impl Guest {
    fn new(node: SocketAddr) -> Self {
        Self::greeted(node, &json!({}))
    }

    /// Connects; events may come before it is connected.
    fn greeted(node: SocketAddr, auth: &Value) -> Self {
        let mut io = Io::open(node);
        io.send(&format!("40{auth}"));
        let mut events = Vec::new();
        let greeting: Value = loop {
            let text = io.text();
            match text.strip_prefix("40") {
                Some(greeting) => break serde_json::from_str(greeting).expect("JSON"),
                None => events.push(event(&text)),
            }
        };
        let read = |key: &str| greeting[key].as_str().unwrap_or_else(|| panic!("{greeting}")).to_owned();
        Self { pid: read("pid"), sid: read("sid"), io, heard: events.len(), events }
    }

    fn hear(mut self, rooms: &[&str]) -> Self {
        rooms.iter().for_each(|room| self.io.hear("", room));
        self
    }

    fn listen(&mut self, count: usize) {
        while self.events.len() < self.heard + count {
            match self.io.text() {
                ping if ping == "2" => self.io.send("3"),
                text => self.events.push(event(&text)),
            }
        }
        self.heard += count;
    }

    /// Comes back to a node as if it had seen so many of its events.
    fn back(&self, node: SocketAddr, seen: usize) -> Self {
        let mut auth = json!({ "pid": self.pid });
        if let Some((_, _, offset)) = seen.checked_sub(1).map(|last| &self.events[last]) {
            auth["offset"] = json!(offset);
        }
        Self::greeted(node, &auth)
    }

    fn heard_from(&self, first: usize) -> Heard {
        let mut heard = Heard::new();
        for (room, number, _) in &self.events[first..] {
            heard.entry(room.clone()).or_default().push(*number);
        }
        heard
    }

    /// It was known to the node it came to, and has got what the other one had not seen of what it was sent.
    fn has_recovered(&self, before: &Self, seen: usize) {
        assert_eq!((&self.pid, &self.sid), (&before.pid, &before.sid), "it had seen {seen}");
        assert_eq!(self.heard_from(0), before.heard_from(seen), "it had seen {seen}");
    }

    fn is_new(&self) {
        assert_eq!(self.events, []);
    }
}

/// `42["message",{"room":…,"number":…},"offset"]`
fn event(text: &str) -> (String, u64, String) {
    let arguments: Value =
        serde_json::from_str(text.strip_prefix("42").unwrap_or_else(|| panic!("no event: {text}")))
            .expect("JSON");
    let told = &arguments[1];
    let room = ROOMS[usize::try_from(told.as_u64().expect("a number") % 3).expect("there are few")];
    (room.to_owned(), told.as_u64().expect("a number"), arguments[2].as_str().expect("an offset").to_owned())
}

/// Publishes to the rooms in turn, at both nodes in turn.
fn tell(addresses: &[SocketAddr], numbers: std::ops::Range<u64>) {
    for number in numbers {
        let at = usize::try_from(number).expect("there are few");
        let response = try_publish(addresses[at / 3 % addresses.len()], ROOMS[at % 3], number);
        assert_eq!(response.status, 200, "{response:?}");
    }
}

/// Waits until so many clients may come back to any node.
fn settled(redis: &Redis, count: usize) {
    let rows = || {
        let keys = redis.cli(&["KEYS", "duplex:r:*"]);
        let is_there = |key: &&str| redis.cli(&["GETRANGE", key, "16", "-1"]).contains(r#""c":"#);
        keys.split_whitespace().filter(is_there).count()
    };
    eventually(|| format!("{count} clients are kept"), || rows() == count);
}

/// How many clients may come back to any node, by what the stream of rows has, which is read as any client of NATS may.
fn kept_in(nats: &Nats) -> usize {
    let mut socket = BufReader::new(TcpStream::connect(("127.0.0.1", nats.port())).expect("NATS listens"));
    socket.get_mut().write_all(b"CONNECT {\"verbose\":false}\r\nSUB answers 1\r\n").expect("NATS reads");
    let mut ask = |subject: &str, body: &str| -> Value {
        let question =
            format!("PUB $JS.API.STREAM.{subject}.duplex-rows answers {}\r\n{body}\r\n", body.len());
        socket.get_mut().write_all(question.as_bytes()).expect("NATS reads");
        loop {
            let mut line = String::new();
            socket.read_line(&mut line).expect("NATS answers");
            if let Some(length) = line.strip_prefix("MSG answers 1 ") {
                let mut answer = vec![0; length.trim().parse().expect("a length")];
                socket.read_exact(&mut answer).expect("NATS answers");
                return serde_json::from_slice(&answer).expect("JSON");
            }
        }
    };
    let state = ask("INFO", "")["state"].clone();
    let sequence = |key: &str| state[key].as_u64().unwrap_or(0);
    let is_there = |sequence: &u64| {
        let message = ask("MSG.GET", &json!({ "seq": sequence }).to_string())["message"]["data"].clone();
        let row = BASE64_STANDARD.decode(message.as_str().unwrap_or_default()).expect("base64");
        String::from_utf8_lossy(&row).contains(r#""c":"#)
    };
    (sequence("first_seq").max(1)..=sequence("last_seq")).filter(is_there).count()
}

#[test]
fn whoever_was_at_a_node_that_was_killed_gets_the_rest_of_every_room_at_another() {
    let redis = Redis::start();
    let mut nodes = nodes(&redis.url(), "100");
    let addresses = nodes.addresses();
    // One for each number of events that it may have seen.
    let mut guests: Vec<Guest> = (0..=TOLD).map(|_| Guest::new(addresses[0]).hear(&ROOMS)).collect();
    settled(&redis, guests.len());
    tell(&addresses, 0..TOLD);
    guests.iter_mut().for_each(|guest| guest.listen(TOLD as usize));
    nodes.node(0).program().kill9();
    for (seen, guest) in guests.iter().enumerate() {
        guest.back(addresses[1], seen).has_recovered(guest, seen);
    }
}

#[test]
fn whoever_comes_back_is_told_what_it_missed_while_nobody_had_it() {
    let redis = Redis::start();
    let mut nodes = nodes(&redis.url(), "100");
    let addresses = nodes.addresses();
    let mut guest = Guest::new(addresses[0]).hear(&ROOMS);
    settled(&redis, 1);
    tell(&addresses, 0..9);
    guest.listen(9);
    nodes.node(0).program().kill9();
    tell(&addresses[1..], 9..TOLD);
    let back = guest.back(addresses[1], 5);
    assert_eq!(back.pid, guest.pid);
    let expected = ROOMS
        .iter()
        .zip(0..)
        .map(|(room, first)| ((*room).to_owned(), (5..TOLD).filter(|number| number % 3 == first).collect()));
    assert_eq!(back.heard_from(0), expected.collect::<Heard>());
}

#[test]
fn what_history_no_longer_has_is_a_clear_no() {
    let redis = Redis::start();
    let mut nodes = nodes(&redis.url(), "3");
    let addresses = nodes.addresses();
    let mut guest = Guest::new(addresses[0]).hear(&ROOMS);
    settled(&redis, 1);
    tell(&addresses, 0..TOLD);
    guest.listen(TOLD as usize);
    nodes.node(0).program().kill9();
    let back = guest.back(addresses[1], 5);
    assert_ne!(back.pid, guest.pid);
    back.is_new();
}

#[test]
fn whoever_joined_a_room_just_before_is_not_forgotten_there() {
    let redis = Redis::start();
    let mut nodes = nodes(&redis.url(), "100");
    let addresses = nodes.addresses();
    let guests: Vec<Guest> = (0..20).map(|_| Guest::new(addresses[0]).hear(&["a"])).collect();
    settled(&redis, guests.len());
    let mut guests: Vec<Guest> = guests.into_iter().map(|guest| guest.hear(&["b", "c"])).collect();
    tell(&addresses, 0..3);
    guests.iter_mut().for_each(|guest| guest.listen(3));
    nodes.node(0).program().kill9();
    for guest in &guests {
        let back = guest.back(addresses[1], 1);
        match back.pid == guest.pid {
            true => back.has_recovered(guest, 1),
            // It was killed before that was kept.
            false => back.is_new(),
        }
    }
}

#[test]
fn between_nodes_that_live_it_goes_back_and_forth_and_is_there_once() {
    let redis = Redis::start();
    let nodes = nodes(&redis.url(), "100");
    let addresses = nodes.addresses();
    let mut guest = Guest::new(addresses[0]).hear(&["a"]);
    settled(&redis, 1);
    let mut told = 0;
    // Before it leaves, it goes to another room, so that what the nodes know of it differs.
    for (round, room) in ["b", "c", "a", "b", "c", "a"].into_iter().enumerate() {
        let next = addresses[(round + 1) % 2];
        if round < 2 {
            guest.io.hear("", room);
        }
        let rooms: Vec<u64> = (0..3).filter(|room| *room <= (round as u64).min(1) + 1).collect();
        tell(&addresses, told..told + 9);
        let count = (told..told + 9).filter(|number| rooms.contains(&(number % 3))).count();
        guest.listen(count);
        told += 9;
        let seen = guest.events.len() - 2;
        settled(&redis, 1);
        // Nobody has told the node that its connection is dead.
        let back = guest.back(next, seen);
        back.has_recovered(&guest, seen);
        guest.io.wire.wait_for_end();
        let present = || {
            let head = "POST /api/v1/presence_stats HTTP/1.1";
            request(next, head, r#"{"channel":"a"}"#).body
        };
        eventually(present, || present().contains(r#""clients":1"#));
        guest = back;
    }
}

#[test]
fn on_nats_it_is_known_where_a_client_stood_in_rooms_where_nothing_was_said() {
    let nats = Nats::start();
    let mut nodes = nodes(&nats.url(), "100");
    let addresses = nodes.addresses();
    let mut guests = [1, 2].map(|_| Guest::new(addresses[0]).hear(&ROOMS));
    eventually(|| "both are kept".to_owned(), || kept_in(&nats) == 2);
    for number in [0, 3, 6] {
        assert_eq!(try_publish(addresses[1], "a", number).status, 200);
    }
    guests.iter_mut().for_each(|guest| guest.listen(3));
    nodes.node(0).program().kill9();
    let [first, second] = &guests;
    first.back(addresses[1], 1).has_recovered(first, 1);
    tell(&addresses[1..], 7..9);
    let back = second.back(addresses[1], 1);
    assert_ne!(back.pid, second.pid, "nobody knows what of it was sent before");
    back.is_new();
}

#[test]
fn whoever_was_sent_away_by_a_node_that_stops_gets_the_rest_at_another() {
    let nats = Nats::start();
    let mut nodes = nodes(&nats.url(), "100");
    let addresses = nodes.addresses();
    let mut guests: Vec<Guest> = (0..=TOLD).map(|_| Guest::new(addresses[0]).hear(&ROOMS)).collect();
    tell(&addresses, 0..TOLD);
    guests.iter_mut().for_each(|guest| guest.listen(TOLD as usize));
    nodes.node(0).program().stop();
    for guest in &mut guests {
        guest.io.is_closed();
    }
    for (seen, guest) in guests.iter().enumerate() {
        guest.back(addresses[1], seen).has_recovered(guest, seen);
    }
}

#[test]
fn while_the_order_of_all_rooms_is_not_known_nothing_comes_twice() {
    let redis = Redis::start();
    let mut nodes = nodes(&redis.url(), "100");
    let addresses = nodes.addresses();
    let mut guests: Vec<Guest> = (0..10).map(|_| Guest::new(addresses[0]).hear(&ROOMS)).collect();
    settled(&redis, guests.len());
    tell(&addresses, 0..6);
    redis.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    tell(&addresses, 6..9);
    guests.iter_mut().for_each(|guest| guest.listen(9));
    nodes.node(0).program().kill9();
    for (seen, guest) in guests.iter().enumerate() {
        let back = guest.back(addresses[1], seen);
        match back.pid == guest.pid {
            true => back.has_recovered(guest, seen),
            false => back.is_new(),
        }
    }
}

#[test]
fn many_rooms_and_such_without_recovery_do_not_keep_it_from_coming_back_again_and_again() {
    let redis = Redis::start();
    let settings = [("DUPLEX_SOCKETIO__RECOVERY", "true"), ("DUPLEX_NAMESPACE__OFF__RECOVERY", "off")];
    let mut nodes = nodes_with(&redis.url(), 2, "100", &settings);
    let addresses = nodes.addresses();
    let others: Vec<String> = (0..100).map(|number| format!("r{number}")).collect();
    let others: Vec<&str> = others.iter().map(String::as_str).chain(["off:x"]).collect();
    let mut guest = Guest::new(addresses[0]).hear(&others).hear(&ROOMS);
    settled(&redis, 1);
    for round in 0..4 {
        assert_eq!(try_publish(addresses[0], "off:x", 3).status, 200);
        tell(&addresses, 3 * round..3 * round + 3);
        guest.listen(4);
        assert_eq!(try_publish(addresses[1], "off:x", 6).status, 200);
        guest.listen(1);
        let back = guest.back(addresses[(round as usize + 1) % 2], 4);
        assert_eq!(back.pid, guest.pid, "round {round}");
        back.is_new();
        guest = back;
        settled(&redis, 1);
    }
    let mut guest = Guest::new(addresses[0]).hear(&["a", "off:x"]);
    settled(&redis, 2);
    for channel in ["off:x", "off:x", "a"] {
        assert_eq!(try_publish(addresses[1], channel, 9).status, 200);
    }
    guest.listen(3);
    nodes.node(0).program().kill9();
    let back = guest.back(addresses[1], 3);
    assert_eq!(back.pid, guest.pid);
    back.is_new();
}
