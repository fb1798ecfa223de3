//! What clients of two nodes get while NATS restarts, is silent, emptied, loses its leader, or takes nothing so long.

use duplex_rigs::{Nats, NatsCluster, NatsOptions, eventually};
use serde_json::json;

use crate::stage::{
    CHANNEL, Follower, nodes, nodes_with, page, publish, publish_at_last, refused, try_publish,
};
use crate::support::http::request;

#[test]
fn restarted_with_what_it_stored_nothing_is_lost_or_doubled() {
    let mut nats = Nats::start();
    let nodes = nodes(&nats.url(), 2, "100");
    let [one, other] = nodes.addresses()[..] else { unreachable!("there are two") };
    let mut followers = [Follower::at(one), Follower::at(other)];
    let before = publish(one, 1);
    nats.stop();
    eventually("publishing is refused", || try_publish(one, CHANNEL, 0).status == 503);
    eventually("it says that it is degraded", || page(one, "/healthz").1.starts_with("degraded"));
    nats.restart();
    publish_at_last(one, CHANNEL, 2);
    publish_at_last(other, CHANNEL, 3);
    let after = publish(other, 4);
    assert_eq!(after["epoch"], before["epoch"]);
    followers.iter_mut().for_each(|follower| follower.gets([1, 2, 3, 4]));
}

#[test]
fn emptied_it_begins_a_new_epoch_and_subscribers_are_told() {
    let mut nats = Nats::start();
    let nodes = nodes(&nats.url(), 2, "100");
    let [one, other] = nodes.addresses()[..] else { unreachable!("there are two") };
    let mut follower = Follower::at(other);
    let before = publish(one, 1);
    follower.gets([1]);
    nats.restart_empty();
    publish_at_last(one, CHANNEL, 2);
    let (mut follower, recovered) = follower.must_come_back();
    assert!(!recovered, "history is gone");
    assert_ne!(follower.position["epoch"], before["epoch"]);
    publish(one, 3);
    // It may have come back before 2, or behind it.
    let number = follower.next_number();
    assert!(number == 3 || (number == 2 && follower.next_number() == 3), "{number}");
}

#[test]
fn silent_it_fails_calls_in_time_and_heals() {
    let mut nats = Nats::start();
    let nodes = nodes(&nats.url(), 2, "100");
    let [one, other] = nodes.addresses()[..] else { unreachable!("there are two") };
    let mut follower = Follower::at(other);
    publish(one, 1);
    follower.gets([1]);
    nats.pause();
    assert!(refused(one).as_secs() < 15);
    eventually("it says that it is degraded", || page(one, "/healthz").1.starts_with("degraded"));
    nats.resume();
    publish_at_last(one, CHANNEL, 2);
    // What had no answer may have been published nevertheless.
    let mut number = follower.next_number();
    while number == 0 {
        number = follower.next_number();
    }
    assert_eq!(number, 2);
}

#[test]
fn what_is_too_long_for_it_is_refused_and_costs_nobody_else_anything() {
    let nats = Nats::start_with(&NatsOptions { payload_bytes_max: Some(8_000), ..NatsOptions::default() });
    let nodes = nodes(&nats.url(), 2, "100");
    let [one, other] = nodes.addresses()[..] else { unreachable!("there are two") };
    let mut follower = Follower::at(other);
    publish(one, 1);
    let body = json!({ "channel": CHANNEL, "data": "x".repeat(20_000) }).to_string();
    let response = request(one, "POST /api/v1/publish HTTP/1.1", &body);
    assert!((400..600).contains(&response.status), "{response:?}");
    publish(one, 2);
    follower.gets([1, 2]);
}

#[test]
fn a_lost_leader_is_replaced_and_nothing_is_lost() {
    let mut servers = NatsCluster::start();
    let url = servers.urls().join(",").replace(",nats://", ",");
    let nodes = nodes_with(&url, 2, "100", &[("DUPLEX_BROKER__NATS_REPLICAS", "3")]);
    let [one, other] = nodes.addresses()[..] else { unreachable!("there are two") };
    let mut follower = Follower::at(other);
    (1..=10).for_each(|number| drop(publish(one, number)));
    follower.gets(1..=10);
    let leader = servers.leader().expect("there is one");
    servers.nodes()[leader].kill9();
    publish_at_last(one, CHANNEL, 11);
    publish_at_last(other, CHANNEL, 12);
    // An attempt that was refused may have been carried out.
    let mut got = vec![follower.next_number()];
    while got.last() != Some(&12) {
        got.push(follower.next_number());
    }
    assert!(got.contains(&11), "{got:?}");
}
