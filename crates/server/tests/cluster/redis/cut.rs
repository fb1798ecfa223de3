//! A node cannot reach Redis while others can, or is too slow for it.

use duplex_rigs::{Balancer, Mode, Nodes, Redis, eventually};

use crate::stage::{CHANNEL, Follower, nodes, page, publish, try_publish};
use crate::support::http::request;

/// A node behind a wire of its own to Redis, and one without. The first listens.
fn house(redis: &Redis, history: &str) -> (Balancer, Nodes, Nodes) {
    let wire = Balancer::start(Mode::Connections, &[address(redis)]);
    let far = nodes(&format!("redis://{}", wire.address()), 1, history);
    (wire, far, nodes(&redis.url(), 1, history))
}

fn address(redis: &Redis) -> std::net::SocketAddr {
    ([127, 0, 0, 1], redis.port()).into()
}

/// Cuts the wire, lets `meanwhile` happen, and mends it.
fn cut(wire: Balancer, redis: &Redis, far: &Nodes, meanwhile: impl FnOnce()) -> Balancer {
    let at = wire.address();
    drop(wire);
    eventually("it has noticed", || page(far.addresses()[0], "/healthz").1.starts_with("degraded"));
    meanwhile();
    Balancer::start_at(at, Mode::Connections, &[address(redis)])
}

#[test]
fn what_a_node_misses_its_clients_get_when_it_is_back() {
    let redis = Redis::start();
    let (wire, far, near) = house(&redis, "100");
    let (far_at, near_at) = (far.addresses()[0], near.addresses()[0]);
    let mut follower = Follower::at(far_at);
    publish(near_at, 1);
    follower.gets([1]);
    let _wire = cut(wire, &redis, &far, || {
        assert_eq!(try_publish(far_at, CHANNEL, 0).status, 503);
        (2..=20).for_each(|number| drop(publish(near_at, number)));
    });
    // It stayed where it was.
    follower.gets(2..=20);
    publish(near_at, 21);
    follower.gets([21]);
}

#[test]
fn what_history_no_longer_has_they_are_told() {
    let redis = Redis::start();
    let (wire, far, near) = house(&redis, "5");
    let (far_at, near_at) = (far.addresses()[0], near.addresses()[0]);
    let mut follower = Follower::at(far_at);
    publish(near_at, 1);
    follower.gets([1]);
    let _wire = cut(wire, &redis, &far, || (2..=20).for_each(|number| drop(publish(near_at, number))));
    let (mut follower, recovered) = follower.must_come_back();
    assert!(!recovered, "history has only five");
    publish(near_at, 21);
    follower.gets([21]);
}

#[test]
fn who_is_too_slow_for_redis_reads_what_it_missed() {
    const LONG: usize = 60_000;
    const COUNT: u64 = 300;
    let redis = Redis::start();
    redis.cli(&["CONFIG", "SET", "client-output-buffer-limit", "pubsub 1mb 512kb 1"]);
    let (mut slow, near) = (nodes(&redis.url(), 1, "1000"), nodes(&redis.url(), 1, "1000"));
    let mut follower = Follower::at(slow.addresses()[0]);
    let before = listening(&redis);
    slow.node(0).program().pause();
    for number in 0..COUNT {
        let body = serde_json::json!({ "channel": CHANNEL, "data": [number, "x".repeat(LONG)] });
        let response = request(near.addresses()[0], "POST /api/v1/publish HTTP/1.1", &body.to_string());
        assert_eq!(response.status, 200, "{response:?}");
    }
    eventually("Redis has closed its connection", || listening(&redis) == before - 1);
    slow.node(0).program().resume();
    follower.gets(0..COUNT);
}

/// Connections that wait for what is published.
fn listening(redis: &Redis) -> usize {
    redis.cli(&["CLIENT", "LIST", "TYPE", "pubsub"]).lines().count()
}
