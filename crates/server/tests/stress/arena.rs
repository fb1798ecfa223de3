//! The server of the scenarios, and what it must not keep.

use std::net::SocketAddr;

use duplex::{Namespace, Options, Slow, Visibility, Who};
use serde_json::{Value, json};

use crate::support::native::Client;
use crate::support::tokens::closed;
pub use crate::support::tokens::{API_KEY, signed_in, token};
use crate::support::{Levels, Running, eventually, start};

/// A server with namespaces of all kinds, tokens, and anonymous clients who may do everything.
pub struct Arena {
    server: Running,
    pub address: SocketAddr,
}

/// What this process holds.
#[derive(Debug, PartialEq, Eq)]
pub struct Holdings {
    threads: usize,
    descriptors: usize,
}

impl Holdings {
    pub fn of_this_process() -> Self {
        let count = |path| std::fs::read_dir(path).expect("a Linux process has it").count();
        Self { threads: count("/proc/self/task"), descriptors: count("/proc/self/fd") }
    }
}

impl Arena {
    pub fn open() -> Self {
        let server = start(arena_options());
        Self { address: server.address, server }
    }

    pub fn server(&self) -> &Running {
        &self.server
    }

    /// Nothing is left of a scenario.
    pub fn settle(&self, scenario: &str) {
        let gauges = self.server.gauges();
        let left = || (self.server.levels(), gauges.outbox_bytes());
        eventually(
            || format!("nothing left of {scenario:?}, now {:?}", left()),
            || left() == (Levels::of(0, 0), 0),
        );
    }

    pub fn close(self) {
        self.server.stop();
    }
}

pub fn arena_options() -> Options {
    let mut options = closed();
    options.settings.connections_per_user = 60;
    options.settings.expiry_grace_ms = 200;
    options.settings.outbox_bytes = 256 << 10;
    options.sockets.send_buffer_bytes = 16 << 10;
    let open = |change: fn(&mut Namespace)| {
        let who = Some(Who::Anyone);
        let mut namespace =
            Namespace { subscribe: who, publish: who, presence: who, history: who, ..Namespace::default() };
        namespace.policy.retention.publications = 5_000;
        change(&mut namespace);
        namespace
    };
    let namespaces = [
        ("default", open(|_| ())),
        ("short", open(|namespace| namespace.policy.retention.publications = 3)),
        ("room", open(|namespace| namespace.attendance = Some(Visibility::Announced))),
        (
            "latest",
            open(|namespace| {
                namespace.slow = Slow::Latest;
                namespace.key = Some("key".to_owned());
            }),
        ),
        ("drop", open(|namespace| namespace.slow = Slow::DropOldest)),
        (
            "paced",
            open(|namespace| {
                namespace.slow = Slow::Latest;
                namespace.policy.deliveries = Some(duplex_core::Rate { per_second: 20, burst: 3 });
            }),
        ),
    ];
    options.namespaces = namespaces.map(|(name, namespace)| (name.to_owned(), namespace)).into();
    options
}

/// Publishes without waiting for the answer.
pub fn publish(client: &mut Client, channel: &str, data: impl Into<Value>) {
    client.send(&json!({ "publish": { "channel": channel, "data": data.into() } }));
}

/// Subscribes, and skips what else comes until it is.
pub fn subscribe(client: &mut Client, channel: &str, since: Option<&Value>) -> Value {
    client.send(&json!({ "id": 77, "subscribe": { "channel": channel, "since": since } }));
    loop {
        let frame = client.next();
        if frame["id"] == 77 {
            assert!(frame["subscribed"].is_object(), "{frame}");
            return frame["subscribed"].clone();
        }
    }
}
