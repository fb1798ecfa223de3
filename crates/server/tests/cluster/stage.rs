//! Two nodes on one broker, who publishes, and who follows a channel as a client does that can recover.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use duplex_rigs::Nodes;
use serde_json::{Value, json};

use crate::support::http::{Response, request};
use crate::support::native::{Client, Ending, offset, since};
use crate::support::requests;

pub const CHANNEL: &str = "news";

/// The program.
pub fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_duplex"))
}

/// Nodes on the broker at `url`; each channel keeps so many publications.
pub fn nodes(url: &str, count: usize, history: &str) -> Nodes {
    nodes_with(url, count, history, &[])
}

/// The same with more settings.
pub fn nodes_with(url: &str, count: usize, history: &str, more: &[(&str, &str)]) -> Nodes {
    let settings = [
        ("DUPLEX_BROKER__URL", url),
        ("DUPLEX_NAMESPACE__DEFAULT__HISTORY__SIZE", history),
        // What a node has missed comes at once; who is too slow is another test.
        ("DUPLEX_CLIENT__OUTBOX_BYTES_MAX", "64MiB"),
    ];
    Nodes::start(program(), count, &["--shards".into(), "2".into()], &[&settings, more].concat())
}

/// Publishes a number by the HTTP API.
pub fn try_publish(node: SocketAddr, channel: &str, number: u64) -> Response {
    let body = json!({ "channel": channel, "data": number }).to_string();
    request(node, "POST /api/v1/publish HTTP/1.1", &body)
}

/// The same where it must succeed: the position.
pub fn publish(node: SocketAddr, number: u64) -> Value {
    let response = try_publish(node, CHANNEL, number);
    assert_eq!(response.status, 200, "{number}: {response:?}");
    serde_json::from_str(&response.body).expect("the API answers in JSON")
}

/// The same as soon as it does: how often it was refused before, which must be with 503.
pub fn publish_at_last(node: SocketAddr, channel: &str, number: u64) -> usize {
    for refused in 0.. {
        let response = try_publish(node, channel, number);
        match response.status {
            200 => return refused,
            503 => std::thread::sleep(Duration::from_millis(100)),
            _ => panic!("{number}: {response:?}"),
        }
        assert!(refused < 600, "it is refused for a minute");
    }
    unreachable!("one of the attempts ends it")
}

/// That publishing is refused with 503, and how long that took.
pub fn refused(node: SocketAddr) -> Duration {
    let begin = Instant::now();
    let response = try_publish(node, CHANNEL, 0);
    assert_eq!(response.status, 503, "{response:?}");
    begin.elapsed()
}

/// Status and body of `GET path`.
pub fn page(node: SocketAddr, path: &str) -> (u16, String) {
    let response = requests::once(node, "GET", path, b"");
    (response.status, response.body)
}

/// A client that follows the channel.
pub struct Follower {
    client: Client,
    node: SocketAddr,
    /// Its last position.
    pub position: Value,
}

impl Follower {
    /// Subscribes at this node.
    pub fn at(node: SocketAddr) -> Self {
        Self::of(node, CHANNEL)
    }

    pub fn of(node: SocketAddr, channel: &str) -> Self {
        let (client, subscribed) = Client::subscribe(node, channel);
        Self { client, node, position: since(&subscribed) }
    }

    /// The next publications are these, each one offset further than the one before.
    pub fn gets(&mut self, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            assert_eq!(self.next_number(), number);
        }
    }

    /// The next publication, one offset further than the one before: its number.
    pub fn next_number(&mut self) -> u64 {
        let publication = self.client.publication();
        let next = json!({ "epoch": self.position["epoch"], "offset": offset(&self.position) + 1 });
        assert_eq!(since(&publication), next, "{publication}");
        self.position = next;
        let data = &publication["data"];
        data.as_u64().or_else(|| data[0].as_u64()).expect("numbers are published")
    }

    /// It is told that something is missing, and comes back: whether it then gets what it missed.
    pub fn must_come_back(mut self) -> (Self, bool) {
        assert_eq!(self.client.frame(), Err(Ending::Closed(3010)));
        self.comes_back()
    }

    /// It comes back at its last position: whether it gets what it missed.
    pub fn comes_back(self) -> (Self, bool) {
        let mut client = Client::connect(self.node);
        let command = json!({ "id": 2, "subscribe": { "channel": CHANNEL, "since": self.position } });
        // The broker may not be there yet.
        let subscribed = loop {
            let answer = client.ask(&command);
            match answer["error"]["code"].as_u64() {
                None => break answer["subscribed"].clone(),
                Some(108) => std::thread::sleep(Duration::from_millis(100)),
                Some(_) => panic!("{answer}"),
            }
        };
        let recovered = subscribed["recovered"].as_bool().expect("it is told");
        let position = if recovered { self.position } else { since(&subscribed) };
        (Self { client, node: self.node, position }, recovered)
    }
}
