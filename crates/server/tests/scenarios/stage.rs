//! What a scenario is played on: a house of its own that can be restarted and killed, and the actors.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use duplex_client::{Form, Transport};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use crate::actor::{Actor, Note, Part};
use crate::house::{End, Host, House};
use crate::language::values;
use crate::support::eventually;
use crate::support::http::request;

// These stand in server.toml, too.
const SECRET: &str = "a secret that only the scenarios know";
const KEY: &str = "a key that only the scenarios know";

pub struct Stage {
    actors: BTreeMap<String, Actor>,
    /// Actors that the server cannot have a session of.
    away: usize,
    transport: Transport,
    form: Form,
    house: House,
    runtime: Runtime,
}

impl Stage {
    pub fn set(host: Host, transport: Transport, form: Form) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("threads can be started");
        let stage =
            Self { actors: BTreeMap::new(), away: 0, transport, form, house: House::build(host), runtime };
        stage.until_acquainted();
        stage
    }

    pub fn play(&mut self, line: &str) {
        let (who, said) = line.split_once(' ').expect("a line is WHO VERB");
        match who {
            "backend" => self.backend(said),
            "server" => self.server(said),
            name => self.act(name, said),
        }
    }

    /// Nothing must have come that was not named.
    pub fn end(self) {
        self.actors.values().for_each(Actor::has_nothing_more);
    }

    fn backend(&self, said: &str) {
        match said.split_once(' ').expect("a verb and its object") {
            ("publishes", rest) => {
                let (channel, text) = rest.split_once(' ').expect("a channel and a value");
                for data in values(text) {
                    self.api("publish", &json!({ "channel": channel, "data": data }));
                }
            }
            ("revokes", user) => drop(self.api("revoke", &json!({ "user": user }))),
            _ => panic!("no such verb: backend {said}"),
        }
    }

    fn server(&mut self, said: &str) {
        match said {
            "restarts" => self.house.restart(End::Drained),
            "is killed" => self.house.restart(End::Killed),
            _ => {
                assert!(said.starts_with("forgets "), "no such verb: server {said}");
                let left = self.actors.len() - self.away;
                eventually(
                    || format!("{left} sessions, now {}", self.sessions()),
                    || self.sessions() == left as u64,
                );
            }
        }
    }

    /// Until every node knows every other, what concerns all of them may pass one by.
    fn until_acquainted(&self) {
        let nodes = self.house.nodes();
        let knows = |node: &SocketAddr| {
            let info = api(*node, "info", &json!({}));
            info["peers"].as_array().map_or(1, |peers| peers.len() + 1) == nodes.len()
        };
        eventually(|| "nodes know each other".to_owned(), || nodes.iter().all(knows));
    }

    /// On all nodes: each says how many it has.
    fn sessions(&self) -> u64 {
        let of = |node| api(node, "info", &json!({}))["sessions"].as_u64().expect("a number");
        self.house.nodes().into_iter().map(of).sum()
    }

    fn api(&self, endpoint: &str, body: &Value) -> Value {
        api(self.house.address(), endpoint, body)
    }

    fn enter(&mut self, name: &str, token_seconds: f64) {
        let Self { transport, form, .. } = *self;
        let part = Part { name, token_seconds, transport, form, secret: SECRET };
        let actor = Actor::enter(self.runtime.handle(), self.house.address(), &part);
        self.actors.insert(name.to_owned(), actor);
    }

    fn act(&mut self, name: &str, said: &str) {
        match said {
            "connects" => return self.enter(name, 3_600.0),
            "goes offline" | "freezes" => self.away += 1,
            "comes online" | "thaws" => self.away -= 1,
            _ => {}
        }
        if let Some(seconds) = said.strip_prefix("connects with tokens for ") {
            let seconds = seconds.trim_end_matches(" s").parse().expect("a number of seconds");
            return self.enter(name, seconds);
        }
        perform(self.actors.get_mut(name).expect("it has connected"), said);
    }
}

fn api(address: SocketAddr, endpoint: &str, body: &Value) -> Value {
    let head = format!("POST /api/v1/{endpoint} HTTP/1.1\r\nAuthorization: Bearer {KEY}");
    let response = request(address, &head, &body.to_string());
    assert_eq!(response.status, 200, "{endpoint}: {response:?}");
    serde_json::from_str(&response.body).expect("the API answers in JSON")
}

/// What an actor does that is there.
fn perform(actor: &mut Actor, said: &str) {
    let words: Vec<&str> = said.split(' ').collect();
    let rest = |count: usize| words[count..].join(" ");
    let code = |code: &str| code.parse().expect("a code");
    match words[..] {
        ["refreshes", count, "times"] => {
            let count = count.parse().expect("a number");
            actor.is("refreshed", |note| note.refreshes >= count);
        }
        ["subscribes", channel] => actor.subscribe(channel),
        ["publishes", channel, ..] => {
            values(&rest(2)).iter().for_each(|value| actor.publish(channel, value));
        }
        ["gets", channel, ..] => actor.gets(channel, &values(&rest(2))),
        ["reads", channel, ..] => {
            let expected = values(&rest(2));
            assert_eq!(actor.history(channel, expected.len()), expected);
        }
        ["recovers", channel] => actor.is("recovered", |note| came_back(note, channel, true)),
        ["loses", channel] => actor.is("not recovered", |note| came_back(note, channel, false)),
        ["counts", channel, count] => {
            let count: usize = count.parse().expect("a number");
            eventually(|| format!("{count} in {channel}"), || actor.count(channel) == count);
        }
        ["sees", ..] => actor.is(&rest(1), |note| note.presence.contains(&rest(1))),
        ["is", "cut", "off"] => actor.gate.break_all(),
        ["goes", "offline"] => actor.gate.close(),
        ["freezes"] => actor.gate.hold(),
        ["comes", "online"] | ["thaws"] => actor.gate.reopen(),
        ["closes"] => actor.close(),
        ["is", "sent", "away", "with", number] => actor.is_told(code(number), true),
        ["is", "turned", "out", "with", number] => actor.is_told(code(number), false),
        ["stays", "connected"] => actor.stays(),
        _ => panic!("no such verb: {said}"),
    }
}

/// Whether the last subscription, which is not the first, told that all that was missed came, or did not.
fn came_back(note: &Note, channel: &str, recovered: bool) -> bool {
    let mine: Vec<Option<bool>> =
        note.subscribed.iter().filter(|(name, _)| name == channel).map(|(_, recovered)| *recovered).collect();
    mine.len() > 1 && mine.last() == Some(&Some(recovered))
}
