//! Redis is far away, and the way to it is bad.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use duplex_rigs::{Nodes, Redis, eventually};
use serde_json::{Value, json};

use crate::crowd::{Crowd, Doors, Way};
use crate::path::Path;
use crate::press::Press;
use crate::stage::{nodes_with, page};
use crate::support::http::request;
use crate::support::native::Client;

/// A node has time to connect again, and to do something.
const BETWEEN_BREAKS: Duration = Duration::from_millis(3_500);
/// What a node may need more while much waits for its broker, KiB.
const MORE_KIB_MAX: u64 = 64 << 10;

#[test]
fn it_is_slower_and_nothing_is_lost_or_out_of_order() {
    let redis = Redis::start();
    let path = Path::to(([127, 0, 0, 1], redis.port()).into());
    let mut far = nodes_with(&format!("redis://{}", path.address), 1, "5000", &[]);
    let near = nodes_with(&redis.url(), 1, "5000", &[]);
    let (far_at, near_at) = (far.addresses()[0], near.addresses()[0]);
    let kinds = [(Way::Native, 5), (Way::Events, 5), (Way::Poll, 5)];
    let channels = [("from-far", far_at), ("from-near", near_at)];
    let crowds = channels.map(|(channel, _)| {
        [far_at, near_at].map(|node| Crowd::gather(channel, &Doors::to(&[node]), &kinds))
    });
    let presses =
        channels.map(|(channel, node)| Press::start(channel, &Doors::to(&[node]), Duration::from_millis(10)));
    let least = peak_kib(&mut far);
    many_at_once(far_at);
    for _ in 0..2 {
        thread::sleep(BETWEEN_BREAKS);
        path.break_all();
    }
    thread::sleep(BETWEEN_BREAKS);
    let published = presses.map(Press::stop);
    for (crowds, last) in crowds.iter().zip(published) {
        for crowd in crowds {
            crowd.has_got_all(last);
            // Who had to come back was told, and has missed nothing either.
            crowd.each(|life| assert!(life.told.iter().all(|code| *code == 3010), "{life:?}"));
        }
    }
    assert!(published[0] < published[1], "{published:?}");
    assert!(peak_kib(&mut far) < least + MORE_KIB_MAX, "{} KiB of {least}", peak_kib(&mut far));
    eventually("nothing waits any more", || info(far_at)["outbox_bytes"] == 0);
    assert_eq!(page(far_at, "/readyz").0, 200);
}

/// A client publishes a thousand times without waiting: each is answered, most of them with a refusal.
fn many_at_once(node: SocketAddr) {
    let mut client = Client::connect(node);
    for _ in 0..8 {
        let publish =
            |number| json!({ "id": 2 + number, "publish": { "channel": "many", "data": "x".repeat(100) } });
        client.send(&(0..125).map(publish).collect());
    }
    let answers: Vec<Value> = (0..8 * 125).map(|_| client.next()).collect();
    let refused = answers.iter().filter(|answer| answer["published"].is_null());
    assert!(
        refused.clone().all(|answer| answer["error"]["code"] == 111),
        "{:?}",
        refused.collect::<Vec<_>>()
    );
}

fn info(node: SocketAddr) -> Value {
    let response = request(node, "POST /api/v1/info HTTP/1.1", "{}");
    serde_json::from_str(&response.body).expect("the API answers in JSON")
}

/// The most memory that the node ever had.
fn peak_kib(nodes: &mut Nodes) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", nodes.node(0).program().pid()));
    let status = status.expect("a running process has a status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.and_then(|peak| peak.trim().strip_suffix(" kB")?.parse().ok()).expect("a peak")
}
