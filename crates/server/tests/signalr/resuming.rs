//! Stateful reconnect (C8): a connection outlives its socket, and neither side loses or doubles a message.

use std::net::SocketAddr;

use duplex::{Options, Settings};
use duplex_websocket::Opcode;
use serde_json::{Value, json};

use crate::backend;
use crate::client::{Form, Hub, Manner, Reconnect, UNKNOWN, told};
use crate::messages::{read, write};
use crate::options;
use crate::support::frames::Incoming;
use crate::support::http::say;
use crate::support::{Levels, eventually, start};

/// A client that comes back.
pub struct Lasting {
    pub hub: Hub,
    /// What it said that is counted; the first is number 1.
    pub said: Vec<Value>,
    /// How much of it the server has.
    pub acked: u64,
}

/// How a socket is lost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Loss {
    /// What was sent before has arrived.
    Quiet,
    /// It may not have.
    Abrupt,
}

/// What a resumed connection begins with, as both sides say it.
#[derive(Debug, PartialEq)]
pub struct Resumed {
    /// The number of the first message that the server sends again, or of the next one.
    pub first: u64,
}

impl Lasting {
    pub fn open(address: SocketAddr, form: Form, place: u8) -> Self {
        Self::open_as(address, Manner { form, place: Some(place), ..Manner::default() })
    }

    pub fn open_as(address: SocketAddr, manner: Manner<'_>) -> Self {
        let hub = Hub::open_as(address, Manner { reconnect: Reconnect::Stateful, ..manner });
        Self { hub, said: Vec::new(), acked: 0 }
    }

    pub fn send(&mut self, message: Value) {
        self.hub.send(&message);
        self.said.push(message);
    }

    /// Invokes a method that must work; its result.
    pub fn call(&mut self, method: &str, arguments: Value) -> Value {
        let id = self.hub.fresh_id();
        self.send(json!({ "type": 1, "invocationId": id, "target": method, "arguments": arguments }));
        let completion = self.hub.completion(&id);
        completion.get("result").cloned().unwrap_or_else(|| panic!("no result: {completion}"))
    }

    pub fn hear(&mut self, channel: &str) {
        self.call("$subscribe", json!([channel]));
    }

    /// Says what it has got.
    pub fn ack(&mut self) {
        self.hub.send(&json!({ "type": 8, "sequenceId": self.hub.taken }));
    }

    /// Loses its socket; what was on its way to it is lost.
    pub fn lose(&mut self, loss: Loss) {
        let wire = self.hub.wire();
        let mut old = std::mem::replace(&mut self.hub.down, wire);
        self.hub.early.clear();
        match loss {
            Loss::Quiet => {
                old.finish_sending();
                old.wait_for_end();
            }
            Loss::Abrupt => old.reset(),
        }
    }

    /// Asks for another socket.
    pub fn try_back(&mut self) -> u16 {
        let (wire, response) = self.hub.upgrade(&self.hub.headers);
        self.hub.down = wire;
        response.status
    }

    /// Comes back, and says again what the server may not have got.
    pub fn back(&mut self) -> Resumed {
        self.back_from(self.acked + 1)
    }

    /// The same, from this number on.
    pub fn back_from(&mut self, number: u64) -> Resumed {
        assert_eq!(self.try_back(), 101);
        self.say_again(number);
        self.resumed()
    }

    pub fn say_again(&mut self, number: u64) {
        let form = self.hub.form;
        let mut messages = vec![json!({ "type": 9, "sequenceId": number })];
        messages.extend(self.said.iter().skip(usize::try_from(number - 1).expect("it is small")).cloned());
        let bytes = messages.iter().map(|message| write(form, message));
        let opcode = if form == Form::Json { Opcode::Text } else { Opcode::Binary };
        bytes.for_each(|bytes| self.hub.down.send_frame(opcode, &bytes));
    }

    /// The server's word comes first and alone; what it sends again is passed over.
    pub fn resumed(&mut self) -> Resumed {
        let payload = self.hub.payload().unwrap_or_else(|| panic!("it is not resumed: {:?}", self.hub.end));
        let messages = read(self.hub.form, &payload);
        let [word] = &messages[..] else { panic!("it is not alone: {messages:?}") };
        assert_eq!(word["type"], 9, "{word}");
        let first = word["sequenceId"].as_u64().expect("a number");
        let taken = self.hub.taken;
        assert!(first >= 1 && first <= taken + 1, "{first} is said after {taken} were taken");
        // They were judged when they came first.
        let mut again = taken + 1 - first;
        while again > 0 {
            let payload = self.hub.payload().expect("what is sent again");
            for message in read(self.hub.form, &payload) {
                let is_counted = message["type"].as_u64().is_some_and(|kind| kind <= 5);
                if is_counted && again > 0 {
                    again -= 1;
                } else {
                    self.hub.checker.judge(&message);
                    self.hub.early.push_back(message);
                }
            }
        }
        Resumed { first }
    }

    /// Waits until the server has said that it has all.
    pub fn wait_for_ack(&mut self) {
        while self.acked < self.said.len() as u64 {
            let message = self.hub.message().expect("an ack");
            if message["type"] == 8 {
                let number = message["sequenceId"].as_u64().expect("a number");
                assert!(number > self.acked && number <= self.said.len() as u64, "{message}");
                self.acked = number;
            }
        }
    }

    /// Panics unless its connection has ended.
    pub fn is_refused(&mut self) {
        let (_, response) = self.hub.upgrade(&self.hub.headers);
        assert_eq!(told(&response), (404, UNKNOWN));
    }
}

/// Tells a story to clients of both protocols, whose sockets come in on each shard.
pub fn lasting(options: &Options, story: impl Fn(&mut Lasting)) {
    let server = start(options.clone());
    for form in [Form::Json, Form::Packed] {
        for place in [0, 1] {
            println!("{form:?} on shard {place}");
            let mut client = Lasting::open(server.address, form, place);
            story(&mut client);
            client.hub.down.send_frame(Opcode::Close, &1000u16.to_be_bytes());
            client.hub.down.until_end();
        }
    }
    server.settle(Levels::of(0, 0));
}

#[test]
fn what_was_published_meanwhile_comes_when_it_is_back() {
    for loss in [Loss::Quiet, Loss::Abrupt] {
        lasting(&options(), |client| {
            client.hear("news");
            for round in 0..4 {
                client.lose(loss);
                for number in 0..3 {
                    say(client.hub.address, "news", &format!("{round} {number}"));
                }
                client.back();
                say(client.hub.address, "news", &format!("{round} live"));
                for expected in ["0", "1", "2", "live"] {
                    assert_eq!(client.hub.event("message"), json!([format!("{round} {expected}")]));
                }
            }
        });
    }
}

#[test]
fn it_is_the_same_client_in_the_same_channels() {
    let mut options = options();
    let namespace = options.namespaces.get_mut("default").expect("the default");
    namespace.attendance = Some(duplex::Visibility::Announced);
    lasting(&options, |client| {
        let mut watcher = Hub::open(client.hub.address);
        watcher.hear("room");
        watcher.event("$joined");
        client.hear("room");
        assert_eq!(client.hub.event("$joined")[0]["client"], client.hub.connection);
        assert_eq!(watcher.event("$joined")[0]["client"], client.hub.connection);
        client.lose(Loss::Abrupt);
        client.back();
        let present = client.call("$presence", json!(["room"]));
        let members = present["members"].as_array().expect("a list");
        assert!(members.iter().any(|member| member["client"] == client.hub.connection), "{present}");
        say(client.hub.address, "room", "neither left nor came");
        assert_eq!(watcher.event("message"), json!(["neither left nor came"]));
        watcher.leave();
        assert_eq!(client.hub.event("message"), json!(["neither left nor came"]));
        assert_eq!(client.hub.event("$left")[0]["client"], watcher.connection);
    });
}

#[test]
fn the_number_is_that_of_the_first_message_sent_again_or_of_the_next() {
    lasting(&options(), |client| {
        client.hear("news");
        for number in 0..5 {
            say(client.hub.address, "news", &number.to_string());
            client.hub.event("message");
        }
        assert_eq!(client.hub.taken, 6);
        // Nothing was acknowledged: all of it comes again.
        client.lose(Loss::Abrupt);
        assert_eq!(client.back(), Resumed { first: 1 });
        // All of it was: nothing comes again, and the next has the next number.
        client.ack();
        client.lose(Loss::Quiet);
        assert_eq!(client.back(), Resumed { first: 7 });
        say(client.hub.address, "news", "next");
        assert_eq!(client.hub.event("message"), json!(["next"]));
        // Part of it was.
        client.hub.send(&json!({ "type": 8, "sequenceId": 4 }));
        client.hub.send(&json!({ "type": 8, "sequenceId": 6 }));
        client.lose(Loss::Quiet);
        assert_eq!(client.back(), Resumed { first: 7 });
        // An ack that is older than another, or of what never was, does nothing.
        client.hub.send(&json!({ "type": 8, "sequenceId": 2 }));
        client.lose(Loss::Quiet);
        assert_eq!(client.back(), Resumed { first: 7 });
    });
}

#[test]
fn what_is_said_is_carried_out_once_however_often_it_is_said_again() {
    for loss in [Loss::Quiet, Loss::Abrupt] {
        lasting(&options(), |client| {
            let mut hearer = Hub::open(client.hub.address);
            hearer.hear("news");
            for round in 0..6 {
                for number in 0..3 {
                    client.send(json!({
                        "type": 1, "target": "$publish", "arguments": ["news", "said", [round, number]],
                    }));
                }
                client.lose(loss);
                // At first as a client does that heard no ack, then as one that forgot all acks.
                match round % 2 {
                    0 => client.back(),
                    _ => client.back_from(1),
                };
                for number in 0..3 {
                    assert_eq!(hearer.event("said"), json!([[round, number]]));
                }
                client.wait_for_ack();
            }
            hearer.is_well();
            hearer.leave();
        });
    }
}

#[test]
fn answers_that_were_on_their_way_come_when_it_is_back() {
    let (server, gate) = backend::start(options());
    for form in [Form::Json, Form::Packed] {
        let mut client = Lasting::open(server.address, form, 0);
        client.send(json!({ "type": 1, "invocationId": "slow", "target": "wait", "arguments": [1] }));
        client.wait_for_ack();
        client.lose(Loss::Abrupt);
        gate.open();
        client.back();
        assert_eq!(client.hub.completion("slow")["result"], 1);
        // Answered while nobody was there.
        client.send(json!({ "type": 1, "invocationId": "slow", "target": "wait", "arguments": [2] }));
        client.wait_for_ack();
        client.lose(Loss::Abrupt);
        client.back();
        gate.open();
        assert_eq!(client.hub.completion("slow")["result"], 2);
        client.hub.leave();
    }
}

#[test]
fn streams_go_on() {
    lasting(&options(), |client| {
        client.send(json!({ "type": 4, "invocationId": "s", "target": "$subscribe", "arguments": ["news"] }));
        assert!(client.hub.next()["item"]["subscribed"].is_object());
        client.send(json!({
            "type": 1, "invocationId": "up", "target": "$publish", "arguments": ["news", "hi"], "streamIds": ["t"],
        }));
        for round in 0..3 {
            client.lose(Loss::Abrupt);
            client.back();
            client.send(json!({ "type": 2, "invocationId": "t", "item": round }));
            assert_eq!(client.hub.next()["item"]["publication"]["data"], round);
        }
        client.send(json!({ "type": 3, "invocationId": "t" }));
        assert_eq!(client.hub.completion("up")["result"]["count"], 3);
        client.send(json!({ "type": 5, "invocationId": "s" }));
        client.hub.completion("s");
    });
}

#[test]
fn what_was_taken_is_acknowledged_and_nothing_else() {
    lasting(&options(), |client| {
        for round in 0..3 {
            client.hub.send(&json!({ "type": 6 }));
            client.ack();
            for _ in 0..10 {
                client.send(json!({ "type": 1, "target": "$unsubscribe", "arguments": ["news"] }));
            }
            client.send(json!({ "type": 5, "invocationId": "nobodys" }));
            client.send(json!({ "type": 2, "invocationId": "nobodys", "item": 1 }));
            client.send(json!({ "type": 3, "invocationId": "nobodys" }));
            client.wait_for_ack();
            assert_eq!(client.acked, (round + 1) * 13);
        }
    });
}

#[test]
fn who_did_not_ask_for_it_is_told_neither_acks_nor_numbers() {
    let server = start(options());
    for version in [1, 2] {
        let mut hub = Hub::begin(server.address, Manner::default());
        hub.shake_hands(version);
        for _ in 0..5 {
            hub.is_well();
        }
        say(server.address, "news", "x");
        hub.hear("news");
        hub.down.send_frame(Opcode::Ping, b"end");
        assert_eq!(hub.down.next(), Incoming::Pong(b"end".to_vec()));
        let (target, address) = (hub.target.clone(), hub.address);
        hub.down.reset();
        eventually(|| "it is gone".to_owned(), || server.gauges().sessions() == 0);
        let (_, response) = crate::support::requests::upgrade(address, &target, "");
        assert_eq!(told(&response), (404, UNKNOWN));
    }
}

#[test]
fn a_newer_socket_takes_the_place_of_one_that_is_thought_alive() {
    lasting(&options(), |client| {
        client.hear("news");
        let (wire, response) = client.hub.upgrade("");
        assert_eq!(response.status, 101);
        let mut old = std::mem::replace(&mut client.hub.down, wire);
        client.say_again(client.acked + 1);
        client.resumed();
        while !matches!(old.next(), Incoming::End | Incoming::Close(..)) {}
        // What comes over the old one is nobody's.
        let form = client.hub.form;
        let stray = write(form, &json!({ "type": 1, "target": "$publish", "arguments": ["news", "stray"] }));
        old.send_frame(if form == Form::Json { Opcode::Text } else { Opcode::Binary }, &stray);
        say(client.hub.address, "news", "right");
        assert_eq!(client.hub.event("message"), json!(["right"]));
    });
}

#[test]
fn who_is_away_for_too_long_begins_anew() {
    let settings = Settings { linger_ms: 300, ..options().settings };
    let server = start(Options { settings, ..options() });
    for form in [Form::Json, Form::Packed] {
        let mut client = Lasting::open(server.address, form, 0);
        client.lose(Loss::Abrupt);
        eventually(|| "it is given up".to_owned(), || server.gauges().sessions() == 0);
        client.is_refused();
    }
}
