//! Clients whose connection broke, and that come back for what they missed.

use std::net::SocketAddr;

use duplex::{ConnectionRecovery, Namespace, Options, SocketIo, Who};
use serde_json::{Value, json};

use crate::client::Io;
use crate::options;
use crate::support::http::{publish, say};
use crate::support::start;
use crate::support::tokens::{closed, token_with};

fn recovering(options: Options) -> Options {
    let socketio = SocketIo { recovery: ConnectionRecovery::On, ..SocketIo::default() };
    Options { socketio, shards: 2, ..options }
}

/// A client and what it may come back by.
struct Known {
    io: Io,
    sid: String,
    pid: String,
    offset: Option<String>,
}

impl Known {
    fn new(address: SocketAddr) -> Self {
        Self::greeted(Io::open(address), &json!({}), &[])
    }

    /// Connects to `/`; before it is connected exactly `missed` must come.
    fn greeted(mut io: Io, auth: &Value, missed: &[&str]) -> Self {
        io.send(&format!("40{auth}"));
        let mut offset = None;
        for expected in missed {
            let event = io.text();
            assert!(
                event.starts_with(&format!("42[\"message\",{expected},")),
                "{event} in place of {expected}"
            );
            offset = Some(stamp(&event));
        }
        let connected = io.text();
        let greeting: Value =
            serde_json::from_str(connected.strip_prefix("40").expect("connected")).expect("JSON");
        let read = |key: &str| greeting[key].as_str().unwrap_or_else(|| panic!("{connected}")).to_owned();
        Self { sid: read("sid"), pid: read("pid"), io, offset }
    }

    fn hear(mut self, channels: &[&str]) -> Self {
        channels.iter().for_each(|channel| self.io.hear("", channel));
        self
    }

    fn gets(&mut self, expected: &str) {
        let event = self.io.text();
        assert!(event.starts_with(&format!("42[\"message\",{expected},")), "{event}");
        self.offset = Some(stamp(&event));
    }

    fn auth(&self) -> Value {
        json!({ "pid": self.pid, "offset": self.offset })
    }

    /// Breaks off, and comes back when `meanwhile` has happened.
    fn back(self, address: SocketAddr, meanwhile: impl FnOnce(), missed: &[&str]) -> Self {
        let mut auth = self.auth();
        if self.offset.is_none() {
            auth.as_object_mut().expect("an object").remove("offset");
        }
        let (sid, pid, offset) = (self.sid, self.pid, self.offset);
        self.io.wire.reset();
        meanwhile();
        let mut back = Self::greeted(Io::open(address), &auth, missed);
        assert_eq!((&back.sid, &back.pid), (&sid, &pid), "it is the same client");
        back.offset = back.offset.or(offset);
        back
    }
}

/// The offset at the end of an event.
fn stamp(event: &str) -> String {
    let arguments: Vec<Value> =
        serde_json::from_str(event.strip_prefix("42").expect("an event")).expect("JSON");
    arguments.last().and_then(Value::as_str).unwrap_or_else(|| panic!("no offset: {event}")).to_owned()
}

#[test]
fn what_was_missed_comes_before_the_client_is_connected_again() {
    let server = start(recovering(options()));
    let tell = |channel: &str, data: &str| drop(say(server.address, channel, data));
    let mut client = Known::new(server.address).hear(&["a", "b"]);
    tell("a", "1");
    client.gets("\"1\"");
    // Each time another connection, and so each shard in turn.
    for round in 0..4 {
        client = client.back(server.address, || {}, &[]);
        let (missed, first, second) = (format!("m{round}"), format!("\"m{round}\""), format!("\"n{round}\""));
        client = client.back(
            server.address,
            || {
                tell("a", &missed);
                tell("a", &missed.replace('m', "n"));
            },
            &[&first, &second],
        );
        tell("b", &missed);
        client.gets(&first);
    }
    client.io.is_well("");
}

#[test]
fn who_never_got_an_event_comes_back_as_well() {
    let server = start(recovering(options()));
    let client = Known::new(server.address).hear(&["a"]);
    let client = client.back(server.address, || drop(say(server.address, "a", "x")), &["\"x\""]);
    let mut client = client.back(server.address, || {}, &[]);
    say(server.address, "a", "y");
    client.gets("\"y\"");
}

#[test]
fn an_old_connection_that_has_not_noticed_is_no_hindrance() {
    let server = start(recovering(options()));
    let mut old = Known::new(server.address).hear(&["a"]);
    say(server.address, "a", "1");
    old.gets("\"1\"");
    let mut new = Known::greeted(Io::open(server.address), &old.auth(), &[]);
    assert_eq!((&new.sid, &new.pid), (&old.sid, &old.pid));
    old.io.wire.wait_for_end();
    say(server.address, "a", "2");
    new.gets("\"2\"");
}

#[test]
fn what_cannot_be_recovered_whole_is_a_fresh_session() {
    let mut options = recovering(options());
    options.namespaces.get_mut("default").expect("the default").policy.retention.publications = 3;
    let server = start(options);
    let known = || {
        let mut client = Known::new(server.address).hear(&["a"]);
        say(server.address, "a", "1");
        client.gets("\"1\"");
        client
    };
    let fresh = |auth: Value, was: &Known| {
        let mut client = Known::greeted(Io::open(server.address), &auth, &[]);
        assert!(client.sid != was.sid && client.pid != was.pid, "{auth}");
        // It is in no channel: what it missed, and what comes, is not for it.
        client.io.is_well("");
    };
    let client = known();
    fresh(json!({ "pid": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "offset": client.offset }), &client);
    fresh(json!({ "pid": "../../etc", "offset": client.offset }), &client);
    fresh(json!({ "pid": client.pid, "offset": "ab.7" }), &client);
    let client = known();
    let mut elsewhere = Io::open(server.address);
    elsewhere.send(&format!("40/chat,{}", client.auth()));
    assert!(!elsewhere.text().contains(&client.sid), "another namespace");
    let client = known();
    fresh(json!({ "pid": client.pid, "offset": "\u{0}" }), &client);
    let client = known();
    (2..=5).for_each(|number| drop(say(server.address, "a", &number.to_string())));
    fresh(client.auth(), &client);
    let mut client = known();
    client.io.send("41");
    client.io.send("40");
    let again = client.io.text();
    assert!(again.starts_with("40{"), "{again}");
    fresh(client.auth(), &client);
}

#[test]
fn volatile_publications_and_those_that_left_it_out_do_not_come_again() {
    let server = start(recovering(options()));
    let client = Known::new(server.address).hear(&["a"]);
    let sid = client.sid.clone();
    let meanwhile = || {
        publish(server.address, &json!({ "channel": "a", "data": 1, "volatile": true }).to_string());
        publish(server.address, &json!({ "channel": "a", "data": 2, "exclude": [sid] }).to_string());
        publish(server.address, &json!({ "channel": "a", "data": 3 }).to_string());
    };
    client.back(server.address, meanwhile, &["3"]);
}

#[test]
fn who_may_not_have_all_of_it_any_more_begins_anew() {
    let mut options = recovering(closed());
    let allowed = Namespace { subscribe: Some(Who::Token), ..Namespace::default() };
    options.namespaces.insert("default".to_owned(), allowed);
    let server = start(options);
    let token = |channels: &[&str]| token_with("ann", &json!({ "channels": channels }));
    // Neither another user nor one who may have less gets what this one had; nor does it try for ever.
    for other in [token_with("bob", &json!({})), token(&["a"])] {
        let both = json!({ "token": token(&["a", "b"]) });
        let mut client = Known::greeted(Io::open(server.address), &both, &[]);
        client.io.is_well("");
        let auth = json!({ "token": other, "pid": client.pid });
        client.io.wire.reset();
        let mut io = Io::open(server.address);
        io.send(&format!("40{auth}"));
        io.is_closed();
        let again = Known::greeted(Io::open(server.address), &auth, &[]);
        assert_ne!(again.sid, client.sid);
    }
}
