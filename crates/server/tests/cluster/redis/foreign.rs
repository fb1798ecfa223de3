//! What others say on our channels of Redis.

use duplex_rigs::Redis;

use crate::stage::{Follower, nodes, publish};

#[test]
fn what_is_not_ours_is_passed_over() {
    let redis = Redis::start();
    let nodes = nodes(&redis.url(), 2, "100");
    let [one, other] = nodes.addresses()[..] else { unreachable!("there are two") };
    let mut follower = Follower::at(other);
    let epoch = publish(one, 1)["epoch"].as_str().expect("an epoch is text").to_owned();
    follower.gets([1]);
    let channels = redis.cli(&["PUBSUB", "CHANNELS", "*"]);
    assert!(channels.lines().any(|channel| channel.contains("news")), "{channels}");
    let lies = [
        String::new(),
        "hello".into(),
        "{\"channel\":\"news\",\"data\":0}".into(),
        format!("P{epoch} 2 0 1{{\"m\":"),
        format!("P{epoch} 2 0 9{{}}"),
        format!("P{epoch} 99999999999999999999 0 1{{}}"),
        "x".repeat(100_000),
    ];
    for channel in channels.lines() {
        for lie in &lies {
            redis.cli(&["PUBLISH", channel, lie]);
        }
    }
    publish(one, 2);
    follower.gets([2]);
    assert!(!nodes.said().contains("panicked"), "{}", nodes.said());
}
