//! Redis ends and comes back: with everything it had, or empty.

use duplex_rigs::{Persistence, Redis, RedisOptions, eventually};

use crate::stage::{CHANNEL, Follower, nodes, page, publish, publish_at_last, refused};

#[test]
fn empty_it_begins_a_new_epoch_and_subscribers_are_told() {
    let mut redis = Redis::start();
    let nodes = nodes(&redis.url(), 2, "100");
    let [one, other] = nodes.addresses()[..] else { unreachable!("there are two") };
    let mut followers = [Follower::at(one), Follower::at(other)];
    let before = publish(one, 1);
    followers.iter_mut().for_each(|follower| follower.gets([1]));
    redis.kill9();
    eventually("publishing is refused", || crate::stage::try_publish(one, CHANNEL, 0).status == 503);
    eventually("it is not ready", || page(one, "/readyz").0 == 503);
    assert_eq!(page(one, "/healthz"), (200, "degraded: the broker cannot be reached\n".into()));
    refused(other);
    redis.restart();
    let followers = followers.map(|follower| {
        let (follower, recovered) = follower.must_come_back();
        assert!(!recovered, "history is gone");
        follower
    });
    publish_at_last(one, CHANNEL, 2);
    for mut follower in followers {
        assert_ne!(follower.position["epoch"], before["epoch"]);
        follower.gets([2]);
    }
}

#[test]
fn with_everything_it_had_nothing_is_lost_or_doubled() {
    let options = RedisOptions { persistence: Persistence::Everything, ..RedisOptions::default() };
    let mut redis = Redis::start_with(&options);
    let nodes = nodes(&redis.url(), 2, "100");
    let [one, other] = nodes.addresses()[..] else { unreachable!("there are two") };
    let mut followers = [Follower::at(one), Follower::at(other)];
    let before = publish(one, 1);
    redis.kill9();
    eventually("publishing is refused", || crate::stage::try_publish(one, CHANNEL, 0).status == 503);
    redis.restart();
    publish_at_last(one, CHANNEL, 2);
    publish_at_last(other, CHANNEL, 3);
    let after = publish(other, 4);
    assert_eq!(after["epoch"], before["epoch"]);
    // Neither had to come back.
    followers.iter_mut().for_each(|follower| follower.gets([1, 2, 3, 4]));
}

#[test]
fn emptied_while_it_runs_it_begins_a_new_epoch_too() {
    let redis = Redis::start();
    let nodes = nodes(&redis.url(), 2, "100");
    let [one, other] = nodes.addresses()[..] else { unreachable!("there are two") };
    let empty: [fn(&Redis); 2] = [
        |redis| drop(redis.cli(&["FLUSHALL"])),
        // As if there had been no room for this channel.
        |redis| {
            for key in redis.cli(&["KEYS", "*{news}*"]).lines() {
                redis.cli(&["DEL", key]);
            }
        },
    ];
    for empty in empty {
        let mut follower = Follower::at(other);
        publish(one, 1);
        follower.gets([1]);
        empty(&redis);
        let before = follower.position.clone();
        // What is published next shows that it is another epoch.
        publish(one, 2);
        let (mut follower, recovered) = follower.must_come_back();
        assert!(!recovered, "history is gone");
        assert_ne!(follower.position["epoch"], before["epoch"]);
        publish(one, 3);
        follower.gets([3]);
    }
}
