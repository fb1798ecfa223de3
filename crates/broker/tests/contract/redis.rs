//! The contract, kept by Redis in each of its forms, and what becomes of nodes that share one when it fails.

use duplex_broker::{Redis, RedisTarget};

use duplex_core::Cluster;

use super::*;

mod single {
    use super::*;

    contract!({
        let server = duplex_rigs::Redis::start();
        let rig = rig(&server.url()).await;
        (server, rig)
    });
}

mod sentinel {
    use super::*;

    contract!({
        let servers = duplex_rigs::RedisSentinel::start();
        let rig = rig(&sentinels(&servers)).await;
        (servers, rig)
    });
}

mod cluster {
    use super::*;

    contract!({
        let servers = duplex_rigs::RedisCluster::start();
        let rig = rig(&nodes(&servers)).await;
        (servers, rig)
    });
}

fn sentinels(servers: &duplex_rigs::RedisSentinel) -> String {
    let addresses: Vec<String> = servers.ports().iter().map(|port| format!("127.0.0.1:{port}")).collect();
    format!("redis+sentinel://{}/{}", addresses.join(","), servers.name())
}

fn nodes(servers: &duplex_rigs::RedisCluster) -> String {
    let addresses = servers
        .urls()
        .iter()
        .map(|url| url.trim_start_matches("redis://").trim_end_matches('/').to_owned())
        .collect::<Vec<_>>();
    format!("redis+cluster://{}", addresses.join(","))
}

fn node_id(number: u8) -> NodeId {
    NodeId::from_random([number; 8])
}

fn broker(url: &str, number: u8) -> (Arc<Node>, Arc<Redis>) {
    let node = Arc::new(Node::default());
    let target = RedisTarget::parse(url).unwrap();
    let redis =
        Redis::start(target, "duplex", node_id(number), Arc::clone(&node) as Arc<dyn Deliver>).unwrap();
    (node, Arc::new(redis))
}

async fn reachable(broker: &Redis) {
    until(|| broker.health() == duplex_core::Health::Reachable, || "not reachable".to_owned()).await;
}

async fn rig(url: &str) -> Rig {
    let (node, broker) = broker(url, 1);
    reachable(&broker).await;
    Rig { node, broker }
}

/// A server, and two nodes that share it, of which the second listens to `news` and knows where it stands.
async fn pair(url: &str) -> ((Arc<Node>, Arc<Redis>), (Arc<Node>, Arc<Redis>)) {
    let (one, other) = (broker(url, 1), broker(url, 2));
    reachable(&one.1).await;
    reachable(&other.1).await;
    other.1.listen(&name("news"), shard(0)).await.unwrap();
    other.1.history(&name("news"), Extent::Nothing).await.unwrap();
    (one, other)
}

#[tokio::test]
async fn what_one_node_publishes_the_other_delivers() {
    let server = duplex_rigs::Redis::start();
    let ((_, one), (node, other)) = pair(&server.url()).await;
    publish(&one, 100).await;
    publish(&other, 1).await;
    delivered(&node, 1..=101).await;
    one.join(&name("news"), promises::member("ann", 1), Tell::Everyone).await.unwrap();
    until(|| node.changes() == "+ann", || node.changes()).await;
}

#[tokio::test]
async fn what_is_missed_while_a_connection_is_broken_is_read() {
    let server = duplex_rigs::Redis::start();
    let ((_, one), (node, _other)) = pair(&server.url()).await;
    publish(&one, 10).await;
    for _ in 0..5 {
        server.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        publish(&one, 10).await;
    }
    delivered(&node, 1..=60).await;
    assert_eq!(*node.missed.lock().unwrap(), []);
}

#[tokio::test]
async fn what_history_no_longer_has_is_told() {
    let server = duplex_rigs::Redis::start();
    let ((_, one), (node, other)) = pair(&server.url()).await;
    publish(&one, 1).await;
    delivered(&node, 1..=1).await;
    let few = Retention { publications: 2, ..KEEP };
    // A busy server: the other node does not come back before there is more than history keeps.
    server.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    for _ in 0..20 {
        one.publish(draft("news", "x", 0), few).await.unwrap();
    }
    other.history(&name("news"), Extent::Nothing).await.unwrap();
    let offsets = node.offsets("news");
    let told = node.missed.lock().unwrap().len();
    assert!(told == 1 || offsets == (1..=21).collect::<Vec<_>>(), "{offsets:?}, told {told} times");
    publish(&one, 1).await;
    until(|| node.offsets("news").last() == Some(&22), || format!("{:?}", node.offsets("news"))).await;
}

#[tokio::test]
async fn with_its_data_redis_comes_back_as_it_was() {
    let options =
        duplex_rigs::RedisOptions { persistence: duplex_rigs::Persistence::Everything, ..Default::default() };
    let mut server = duplex_rigs::Redis::start_with(&options);
    let ((_, one), (node, _other)) = pair(&server.url()).await;
    let before = publish(&one, 10).await;
    server.stop();
    until(|| one.health() == duplex_core::Health::Unreachable, || "still reachable".to_owned()).await;
    let refused = one.publish(draft("news", "x", 0), KEEP).await;
    assert!(refused.is_err());
    server.restart();
    reachable(&one).await;
    assert_eq!(publish(&one, 1).await, Position { offset: 11, ..before });
    delivered(&node, 1..=11).await;
    assert_eq!(*node.missed.lock().unwrap(), []);
}

#[tokio::test]
async fn empty_redis_begins_a_new_epoch_and_subscribers_are_told() {
    let mut server = duplex_rigs::Redis::start();
    let ((_, one), (node, _other)) = pair(&server.url()).await;
    let before = publish(&one, 10).await;
    server.restart();
    reachable(&one).await;
    until(|| !node.missed.lock().unwrap().is_empty(), || "not told".to_owned()).await;
    let after = publish(&one, 1).await;
    assert_ne!(after.epoch, before.epoch);
    assert_eq!(missed(&*one, "news", before).await, None);
    until(|| node.offsets("news").len() == 11, || format!("{:?}", node.offsets("news"))).await;
    server.cli(&["FLUSHALL"]);
    assert_ne!(publish(&one, 1).await.epoch, after.epoch);
    until(|| node.missed.lock().unwrap().len() == 2, || "not told".to_owned()).await;
}

#[tokio::test]
async fn a_silent_redis_fails_calls_in_time_and_heals() {
    let mut server = duplex_rigs::Redis::start();
    let ((_, one), (node, _other)) = pair(&server.url()).await;
    publish(&one, 1).await;
    server.pause();
    let refused = tokio::time::timeout(PATIENCE, one.publish(draft("news", "x", 0), KEEP)).await.unwrap();
    assert_eq!(refused, Err(BrokerError::NoAnswer));
    until(|| one.health() == duplex_core::Health::Unreachable, || "still reachable".to_owned()).await;
    server.resume();
    reachable(&one).await;
    // What had no answer may have been done.
    let last = publish(&one, 1).await;
    delivered(&node, 1..=last.offset).await;
}

#[tokio::test]
async fn full_redis_publishes_nothing_by_half() {
    let server = duplex_rigs::Redis::start();
    let ((_, one), (node, _other)) = pair(&server.url()).await;
    let before = publish(&one, 1).await;
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    assert_eq!(one.publish(draft("news", "x", 0), KEEP).await, Err(BrokerError::Full));
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(publish(&one, 1).await, Position { offset: 2, ..before });
    delivered(&node, 1..=2).await;
}

#[tokio::test]
async fn what_is_not_ours_is_passed_over() {
    let server = duplex_rigs::Redis::start();
    let ((_, one), (node, _other)) = pair(&server.url()).await;
    let epoch = publish(&one, 1).await.epoch;
    let live = "duplex:c:{news}";
    let lies = [
        "",
        "x",
        "P",
        "P 1",
        "Pzz 2 0 1{}",
        &format!("P{epoch} 2 0 2{{\"m\":1}}"),
        "J1{}",
        "L",
        &format!("P{epoch} 2 0 1{{\"m\":"),
    ];
    for lie in lies {
        server.cli(&["PUBLISH", live, lie]);
    }
    server.cli(&["PUBLISH", "duplex:n:all", "nothing"]);
    publish(&one, 1).await;
    delivered(&node, 1..=2).await;
}

#[tokio::test]
async fn what_a_dead_node_leaves_behind_is_taken_away_once() {
    let server = duplex_rigs::Redis::start();
    let ((_, one), (node, other)) = pair(&server.url()).await;
    let third = broker(&server.url(), 3);
    reachable(&third.1).await;
    for (user, id) in [("ann", 1), ("bob", 2)] {
        one.join(&name("news"), promises::member(user, id), Tell::Everyone).await.unwrap();
    }
    other.join(&name("news"), promises::member("cy", 3), Tell::Everyone).await.unwrap();
    until(|| node.changes() == "+ann +bob +cy", || node.changes()).await;
    // Its thread ends with it, and nobody says that it leaves.
    drop(one);
    let gone = || node.changes().matches('-').count() == 2;
    until(gone, || node.changes()).await;
    let present = other.present(&name("news"), 9).await.unwrap();
    assert_eq!(present.attendance, Attendance { clients: 1, users: 1 });
    other.leave(&name("news"), ClientId::from_random([3; 16]));
    until(|| node.changes().ends_with("-cy"), || node.changes()).await;
    assert_eq!(node.changes().matches('-').count(), 3, "{}", node.changes());
}

#[tokio::test]
async fn publications_of_all_channels_have_one_order_whatever_is_lost_of_it() {
    let server = duplex_rigs::Redis::start();
    let ((node, one), (_, other)) = pair(&server.url()).await;
    for channel in ["a", "b"] {
        one.listen(&name(channel), shard(0)).await.unwrap();
    }
    for round in 0..6 {
        if round == 3 {
            server.cli(&["DEL", "duplex:order"]);
        }
        for channel in ["a", "b"] {
            let publisher = if round % 2 == 0 { &one } else { &other };
            publisher.publish(draft(channel, "x", 0), KEEP).await.unwrap();
        }
    }
    let live = || -> Vec<u64> {
        let events = node.events.lock().unwrap();
        let order = |event: &Event| match event {
            Event::Publication(publication) => publication.order,
            Event::Presence(_) => unreachable!("nobody joins"),
        };
        events.iter().map(|(_, event)| order(event)).collect()
    };
    until(|| live().len() == 12, || format!("{:?}", live())).await;
    assert!(live()[0] > 0 && live().is_sorted_by(|a, b| a < b), "{:?}", live());
    let mut kept = Vec::new();
    for channel in ["a", "b"] {
        let page = Page { since: None, limit: 12, order: Order::OldestFirst };
        let history = other.history(&name(channel), Extent::Page(page)).await.unwrap();
        let Past::Kept(publications) = history.past else { panic!("nothing is lost") };
        kept.extend(publications.iter().map(|publication| publication.order));
    }
    kept.sort_unstable();
    assert_eq!(kept, live());
}

#[tokio::test]
async fn notes_reach_one_or_all_others_and_rows_are_kept() {
    let server = duplex_rigs::Redis::start();
    let ((first, one), (second, other)) = pair(&server.url()).await;
    one.send(duplex_core::Recipient::All, Bytes::from_static(b"to all"));
    one.send(duplex_core::Recipient::One(node_id(2)), Bytes::from_static(b"to you"));
    one.send(duplex_core::Recipient::One(node_id(9)), Bytes::from_static(b"to nobody"));
    let notes = || second.notes.lock().unwrap().clone();
    until(|| notes().len() == 2, || format!("{:?}", notes())).await;
    assert_eq!(notes(), [(node_id(1), "to all".into()), (node_id(1), "to you".into())]);
    assert_eq!(*first.notes.lock().unwrap(), []);
    crate::promises::rows(&*one, &*other).await;
}

#[tokio::test]
async fn nodes_follow_sentinel_to_the_new_master() {
    let mut servers = duplex_rigs::RedisSentinel::start();
    let ((_, one), (node, _other)) = pair(&sentinels(&servers)).await;
    publish(&one, 10).await;
    delivered(&node, 1..=10).await;
    servers.kill_master();
    let position = at_last(async || one.publish(draft("news", "after", 0), KEEP).await.ok()).await;
    if position.offset > 10 {
        until(
            || node.offsets("news").last() == Some(&position.offset),
            || format!("{:?}", node.offsets("news")),
        )
        .await;
        assert_eq!(*node.missed.lock().unwrap(), []);
    } else {
        until(|| !node.missed.lock().unwrap().is_empty(), || "not told that the tail is lost".to_owned())
            .await;
    }
}

#[tokio::test]
async fn who_cannot_begin_to_listen_takes_nothing_from_those_who_do() {
    let server = duplex_rigs::Redis::start();
    let ((_, one), (node, other)) = pair(&server.url()).await;
    publish(&one, 1).await;
    delivered(&node, 1..=1).await;
    // Calls go on, and nothing can be listened to for now.
    server.cli(&["ACL", "SETUSER", "default", "-subscribe"]);
    server.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    let refused = at_last(async || other.listen(&name("news"), shard(0)).await.err()).await;
    assert_eq!(refused, BrokerError::Unreachable);
    server.cli(&["ACL", "SETUSER", "default", "+subscribe"]);
    publish(&one, 1).await;
    delivered(&node, 1..=2).await;
}
