//! Redis is silent for a while, or full.

use std::time::Duration;

use duplex_rigs::{Redis, eventually};

use crate::stage::{CHANNEL, Follower, nodes, page, publish, publish_at_last, refused, try_publish};

/// A call is over after 5 s; what else it takes to be told so is the machine's.
const ANSWERED_WITHIN: Duration = Duration::from_secs(15);

#[test]
fn silent_it_fails_calls_in_time_and_heals() {
    let mut redis = Redis::start();
    let nodes = nodes(&redis.url(), 2, "100");
    let [one, other] = nodes.addresses()[..] else { unreachable!("there are two") };
    let mut follower = Follower::at(other);
    publish(one, 1);
    follower.gets([1]);
    redis.pause();
    assert!(refused(one) < ANSWERED_WITHIN);
    eventually("it says that it is degraded", || page(one, "/healthz").1.starts_with("degraded"));
    assert_eq!(page(one, "/readyz").0, 503);
    redis.resume();
    publish_at_last(one, CHANNEL, 2);
    eventually("it is ready again", || page(one, "/readyz").0 == 200);
    // What had no answer may have been published nevertheless.
    let mut number = follower.next_number();
    while number == 0 {
        number = follower.next_number();
    }
    assert_eq!(number, 2);
}

#[test]
fn full_it_publishes_nothing_by_half() {
    let redis = Redis::start();
    let nodes = nodes(&redis.url(), 2, "100");
    let [one, other] = nodes.addresses()[..] else { unreachable!("there are two") };
    let mut follower = Follower::at(other);
    publish(one, 1);
    assert_eq!(redis.cli(&["CONFIG", "SET", "maxmemory", "1"]), "OK");
    for _ in 0..3 {
        let response = try_publish(one, CHANNEL, 0);
        assert_eq!(response.status, 503, "{response:?}");
    }
    assert_eq!(redis.cli(&["CONFIG", "SET", "maxmemory", "0"]), "OK");
    publish_at_last(one, CHANNEL, 2);
    follower.gets([1, 2]);
}
