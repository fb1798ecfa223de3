//! Several Redis servers: a master that is lost with what it had not copied yet, slots that move, a server that is lost.

use duplex_rigs::{RedisCluster, RedisSentinel};

use crate::stage::{CHANNEL, Follower, nodes, publish, publish_at_last, try_publish};

fn sentinels(rig: &RedisSentinel) -> String {
    let hosts: Vec<String> = rig.ports().iter().map(|port| format!("127.0.0.1:{port}")).collect();
    format!("redis+sentinel://{}/{}", hosts.join(","), rig.name())
}

fn cluster(rig: &RedisCluster) -> String {
    let hosts: Vec<String> = rig.urls().iter().map(|url| url.replace("redis://", "")).collect();
    format!("redis+cluster://{}", hosts.join(","))
}

#[test]
fn what_a_lost_master_had_not_copied_is_told() {
    let mut rig = RedisSentinel::start();
    let nodes = nodes(&sentinels(&rig), 2, "100");
    let [one, other] = nodes.addresses()[..] else { unreachable!("there are two") };
    let mut follower = Follower::at(other);
    publish(one, 1);
    follower.gets([1]);
    let master = rig.master_port();
    let replica = rig.servers().iter().position(|server| server.port() != master).expect("there are two");
    duplex_rigs::eventually("the replica has the first", || {
        rig.servers()[replica].cli(&["KEYS", "*{news}*"]).contains("news")
    });
    rig.servers()[replica].pause();
    // Otherwise what it does not read waits for it in its socket.
    rig.server_at(master).cli(&["CLIENT", "KILL", "TYPE", "replica"]);
    publish(one, 2);
    publish(one, 3);
    follower.gets([2, 3]);
    rig.kill_master();
    rig.servers()[replica].resume();
    rig.until_master_is_not(master);
    publish_at_last(one, CHANNEL, 4);
    let (mut follower, recovered) = follower.must_come_back();
    assert!(!recovered, "2 and 3 are lost");
    publish(one, 5);
    // It may have come back before 4, or behind it.
    let number = follower.next_number();
    assert!(number == 5 || (number == 4 && follower.next_number() == 5), "{number}");
}

#[test]
fn nodes_follow_when_the_master_changes() {
    let mut rig = RedisSentinel::start();
    let nodes = nodes(&sentinels(&rig), 2, "100");
    let [one, other] = nodes.addresses()[..] else { unreachable!("there are two") };
    let mut follower = Follower::at(other);
    publish(one, 1);
    follower.gets([1]);
    rig.fail_over();
    publish_at_last(one, CHANNEL, 2);
    publish(one, 3);
    follower.gets([2, 3]);
}

#[test]
fn a_slot_moves_and_nobody_notices() {
    let mut rig = RedisCluster::start();
    let nodes = nodes(&cluster(&rig), 2, "100");
    let [one, other] = nodes.addresses()[..] else { unreachable!("there are two") };
    let mut follower = Follower::at(other);
    (1..=10).for_each(|number| drop(publish(one, number)));
    follower.gets(1..=10);
    let slot = rig.slot_of(CHANNEL);
    let owner = rig.owner_of(slot);
    rig.move_slot(slot, (owner + 1) % 3);
    publish_at_last(one, CHANNEL, 11);
    (12..=20).for_each(|number| drop(publish(other, number)));
    follower.gets(11..=20);
}

#[test]
fn a_server_of_a_cluster_that_is_lost_takes_its_channels_alone() {
    let mut rig = RedisCluster::start();
    let nodes = nodes(&cluster(&rig), 1, "100");
    let node = nodes.addresses()[0];
    let lost = rig.owner_of(rig.slot_of(CHANNEL));
    let of_another = |number: &u32| rig.owner_of(rig.slot_of(&format!("other-{number}"))) != lost;
    let kept = format!("other-{}", (0..).find(of_another).expect("slots are spread"));
    assert_eq!(try_publish(node, &kept, 1).status, 200);
    // Otherwise the others refuse everything when some slots have no server.
    for server in rig.nodes() {
        assert_eq!(server.cli(&["CONFIG", "SET", "cluster-require-full-coverage", "no"]), "OK");
    }
    let mut follower = Follower::of(node, &kept);
    rig.nodes()[lost].kill9();
    assert_eq!(try_publish(node, CHANNEL, 1).status, 503);
    publish_at_last(node, &kept, 2);
    follower.gets([2]);
    rig.nodes()[lost].restart();
    publish_at_last(node, CHANNEL, 3);
}
