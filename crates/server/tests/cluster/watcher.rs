//! Who is present, as a subscriber hears it and as the API says it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use duplex_rigs::eventually;
use serde_json::{Value, json};

use crate::support::http::request;
use crate::support::native::Client;

/// What is kept of dead nodes must be gone within that.
const PATIENCE: Duration = Duration::from_secs(60);

/// The ids of clients.
pub type Ids = BTreeSet<String>;

/// A subscriber of a channel in which somebody publishes all the time.
pub struct Watcher {
    client: Client,
    /// Who has joined and not left.
    pub present: Ids,
    /// How often each has joined.
    pub joined: BTreeMap<String, usize>,
    /// How often each has left.
    pub left: BTreeMap<String, usize>,
    /// The last number that was published.
    pub number: u64,
}

impl Watcher {
    pub fn at(node: SocketAddr, channel: &str) -> Self {
        let client = Client::subscribe(node, channel).0;
        let (joined, left) = (BTreeMap::new(), BTreeMap::new());
        let mut watcher = Self { client, present: Ids::new(), joined, left, number: 0 };
        // It hears that it has joined; whoever joined before is there already.
        watcher.until("it has joined itself", |watcher| !watcher.joined.is_empty());
        watcher.present.extend(present(node, channel));
        watcher
    }

    /// Watches until that is so.
    pub fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}; left: {:?}", self.left);
            let frame = self.client.next();
            self.take(&frame);
        }
    }

    fn take(&mut self, frame: &Value) {
        self.number = frame["publication"]["data"].as_u64().unwrap_or(self.number);
        if let Some(client) = frame["joined"]["client"].as_str() {
            *self.joined.entry(client.to_owned()).or_default() += 1;
            self.present.insert(client.to_owned());
        }
        if let Some(client) = frame["left"]["client"].as_str() {
            *self.left.entry(client.to_owned()).or_default() += 1;
            assert!(self.present.remove(client), "{client} leaves, and was not there");
        }
    }
}

/// Who is present, as a node says it.
pub fn present(node: SocketAddr, channel: &str) -> Ids {
    let body = json!({ "channel": channel }).to_string();
    let response = request(node, "POST /api/v1/presence HTTP/1.1", &body);
    assert_eq!(response.status, 200, "{response:?}");
    let presence: Value = serde_json::from_str(&response.body).expect("the API answers in JSON");
    let members = presence["members"].as_array().expect("members are listed");
    let ids: Ids =
        members.iter().map(|member| member["client"].as_str().expect("an id").to_owned()).collect();
    assert_eq!(
        (presence["clients"].as_u64(), members.len()),
        (Some(ids.len() as u64), ids.len()),
        "{presence}"
    );
    ids
}

/// How many nodes answer what a node asks of all, and how many do not.
pub fn nodes_known(node: SocketAddr) -> (u64, usize) {
    let response = request(node, "POST /api/v1/info HTTP/1.1", "{}");
    let info: Value = serde_json::from_str(&response.body).expect("the API answers in JSON");
    (info["nodes"].as_u64().unwrap_or(1), info["silent"].as_array().map_or(0, Vec::len))
}

/// Waits until each of these nodes knows the others, and hears from them.
pub fn acquainted(nodes: &[SocketAddr]) {
    let all = (nodes.len() as u64, 0);
    eventually("all know each other", || nodes.iter().all(|node| nodes_known(*node) == all));
}
