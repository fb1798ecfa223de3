//! What others say on our channels of Redis.

use duplex_rigs::{Redis, eventually};

use crate::stage::{CHANNEL, Follower, nodes, nodes_with, publish};
use crate::support::native::Client;
use crate::watcher::{acquainted, nodes_known};

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

/// While nodes are replaced one after the other, those of two versions are one cluster.
#[test]
fn a_newer_version_is_understood_as_far_as_it_says_what_is_known_here() {
    const NODE: &str = "00112233445566aa";
    const CLIENT: &str = "00112233445566778899aabbccddeeff";
    let redis = Redis::start();
    let nodes = nodes_with(&redis.url(), 2, "100", &[("DUPLEX_NAMESPACE__DEFAULT__PRESENCE", "announced")]);
    let [one, other] = nodes.addresses()[..] else { unreachable!("there are two") };
    acquainted(&[one, other]);
    let mut client = Client::subscribe(other, CHANNEL).0;
    let joined = client.next();
    assert!(joined["joined"].is_object(), "{joined}");
    let epoch = publish(one, 1)["epoch"].as_str().expect("an epoch is text").to_owned();
    assert_eq!(client.publication()["data"], 1);
    let say =
        |channel: &str, what: &str| assert_ne!(redis.cli(&["PUBLISH", channel, what]), "0", "{channel}");
    let channels = redis.cli(&["PUBSUB", "CHANNELS", "*"]);
    let find =
        |part: &str| channels.lines().find(|channel| channel.contains(part)).expect("it is listened to");
    let (live, notes) = (find("{news}"), find(":n:all"));
    say(notes, &format!("1{NODE}{{\"weather\":{{\"is\":\"fine\"}}}}"));
    say(notes, &format!("2{NODE}not even JSON"));
    say(notes, &format!("1{NODE}{{\"here\":{{\"address\":null,\"release\":\"99\"}}}}"));
    eventually("it is known, and silent", || [one, other].iter().all(|at| nodes_known(*at) == (2, 1)));
    say(live, "Qnews of another kind");
    say(live, &format!("J1{{\"c\":\"{CLIENT}\",\"mood\":3}}"));
    let joined = client.next();
    assert_eq!(joined["joined"]["client"], CLIENT, "{joined}");
    say(live, &format!("P{epoch} 2 0 1{{\"d\":2,\"m\":1,\"colour\":[\"red\"]}}"));
    assert_eq!(client.publication()["data"], 2);
    assert!(!nodes.said().contains("panicked"), "{}", nodes.said());
}
