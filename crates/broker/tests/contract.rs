//! What every broker promises, whatever it is made of.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use duplex_broker::{Capacity, Memory};
use duplex_core::{
    Attendance, Broker, BrokerError, Change, ChannelName, ClientId, Deliver, Draft, Event, EventName, Extent,
    IdempotencyKey, Json, Member, Order, Page, Past, Payload, Position, Presence, Retention, ShardId,
    ShardSet, Tags, Tell, UserId,
};

/// Remembers what the node would have got.
#[derive(Default)]
struct Node(Mutex<Vec<(ShardSet, Event)>>);

impl Deliver for Node {
    fn deliver(&self, shards: ShardSet, event: Event) {
        self.0.lock().unwrap().push((shards, event));
    }

    fn missed(&self, _: ShardSet, channel: &ChannelName) {
        panic!("something of {channel:?} is missing");
    }
}

impl Node {
    fn offsets(&self, channel: &str) -> Vec<u64> {
        let seen = self.0.lock().unwrap();
        let offset = |event: &Event| match event {
            Event::Publication(publication) => Some(publication.position.offset),
            Event::Presence(_) => None,
        };
        let here = seen.iter().filter(|(_, event)| &**event.channel() == channel);
        here.filter_map(|(_, event)| offset(event)).collect()
    }

    /// `+alice -alice`: who joined and left, as everyone hears of it.
    fn changes(&self) -> String {
        let seen = self.0.lock().unwrap();
        let words = seen.iter().filter_map(|(_, event)| match event {
            Event::Publication(_) => None,
            Event::Presence(change) => {
                let sign = if change.change == Change::Joined { '+' } else { '-' };
                Some(format!("{sign}{}", change.member.user.as_deref().unwrap_or("?")))
            }
        });
        words.collect::<Vec<_>>().join(" ")
    }
}

const KEEP: Retention = Retention { publications: 100, ttl_ms: 300_000 };

fn memory(capacity: Capacity) -> (Arc<Node>, Memory) {
    let node = Arc::new(Node::default());
    (Arc::clone(&node), Memory::new(capacity, node))
}

fn name(channel: &str) -> ChannelName {
    ChannelName::parse(channel).unwrap()
}

fn draft(channel: &str, text: &str, time_ms: u64) -> Draft {
    let raw = serde_json::value::to_raw_value(text).unwrap();
    Draft {
        channel: name(channel),
        event: EventName::default(),
        payload: Payload::Data(Json::check(&raw).unwrap()),
        tags: Tags::parse(BTreeMap::new()).unwrap(),
        client: None,
        time_ms,
        key: None,
        audience: Default::default(),
    }
}

fn shard(index: usize) -> ShardId {
    ShardId::new(index).unwrap()
}

async fn missed(broker: &dyn Broker, channel: &str, since: Position) -> Option<Vec<u64>> {
    read(broker, channel, Extent::After(since)).await
}

async fn read(broker: &dyn Broker, channel: &str, extent: Extent) -> Option<Vec<u64>> {
    match broker.history(&name(channel), extent).await.unwrap().past {
        Past::Kept(publications) => Some(publications.iter().map(|p| p.position.offset).collect()),
        Past::Lost => None,
    }
}

#[tokio::test]
async fn offsets_count_up_by_one_and_listeners_get_them_in_order() {
    let (node, broker) = memory(Capacity::default());
    broker.listen(&name("news"), shard(0)).await.unwrap();
    let start = broker.history(&name("news"), Extent::Nothing).await.unwrap().position;
    assert_eq!(start.offset, 0);
    for offset in 1..=3 {
        let position = broker.publish(draft("news", "x", 0), KEEP).await.unwrap();
        assert_eq!(position, Position { offset, ..start });
    }
    broker.publish(draft("other", "x", 0), KEEP).await.unwrap();
    assert_eq!(node.offsets("news"), [1, 2, 3]);
    assert_eq!(node.offsets("other"), [0u64; 0]);
}

#[tokio::test]
async fn each_listening_shard_is_named_until_it_ignores() {
    let (node, broker) = memory(Capacity::default());
    for index in [0, 5] {
        broker.listen(&name("news"), shard(index)).await.unwrap();
    }
    broker.publish(draft("news", "x", 0), KEEP).await.unwrap();
    broker.ignore(&name("news"), shard(0));
    broker.publish(draft("news", "x", 0), KEEP).await.unwrap();
    broker.ignore(&name("news"), shard(5));
    broker.publish(draft("news", "x", 0), KEEP).await.unwrap();
    let shards: Vec<Vec<usize>> =
        node.0.lock().unwrap().iter().map(|(set, _)| set.iter().map(ShardId::index).collect()).collect();
    assert_eq!(shards, [vec![0, 5], vec![5]]);
}

#[tokio::test]
async fn racing_publishers_never_share_or_skip_an_offset() {
    let (node, broker) = memory(Capacity::default());
    broker.listen(&name("news"), shard(0)).await.unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..500).for_each(|_| drop(broker.publish(draft("news", "x", 0), KEEP))));
        }
    });
    assert_eq!(node.offsets("news"), (1..=2000).collect::<Vec<_>>());
}

#[tokio::test]
async fn history_gives_all_that_was_missed_or_nothing() {
    let (_, broker) = memory(Capacity::default());
    let keep = Retention { publications: 3, ..KEEP };
    let start = broker.publish(draft("news", "x", 0), keep).await.unwrap();
    for _ in 0..4 {
        broker.publish(draft("news", "x", 0), keep).await.unwrap();
    }
    let at = |offset| Position { offset, ..start };
    let elsewhere = broker.publish(draft("other", "x", 0), keep).await.unwrap();
    assert_eq!(missed(&broker, "news", at(5)).await, Some(vec![]));
    assert_eq!(missed(&broker, "news", at(2)).await, Some(vec![3, 4, 5]));
    assert_eq!(missed(&broker, "news", at(1)).await, None, "the ring no longer reaches back");
    assert_eq!(missed(&broker, "news", at(6)).await, None, "an offset that was never given out");
    assert_eq!(missed(&broker, "news", at(u64::MAX)).await, None);
    assert_eq!(missed(&broker, "news", Position { offset: 5, ..elsewhere }).await, None, "another epoch");
}

#[tokio::test]
async fn what_has_passed_its_time_is_forgotten_and_the_epoch_tells() {
    let (_, broker) = memory(Capacity::default());
    let keep = Retention { ttl_ms: 1_000, ..KEEP };
    let before = broker.publish(draft("news", "x", 5_000), keep).await.unwrap();
    broker.sweep(6_000);
    assert_eq!(missed(&broker, "news", Position { offset: 0, ..before }).await, Some(vec![1]));
    broker.sweep(6_001);
    assert_eq!((broker.channels(), broker.held_bytes()), (0, 0));
    assert_eq!(missed(&broker, "news", before).await, None);
    assert_ne!(broker.publish(draft("news", "x", 7_000), keep).await.unwrap().epoch, before.epoch);
}

#[tokio::test]
async fn who_left_a_silent_channel_recovers_what_was_published_since() {
    let (_, broker) = memory(Capacity::default());
    broker.listen(&name("news"), shard(0)).await.unwrap();
    let position = broker.history(&name("news"), Extent::Nothing).await.unwrap().position;
    broker.ignore(&name("news"), shard(0));
    assert_eq!(broker.channels(), 0);
    broker.publish(draft("news", "x", 0), KEEP).await.unwrap();
    assert_eq!(missed(&broker, "news", position).await, Some(vec![1]));
}

#[tokio::test]
async fn a_channel_that_is_listened_to_keeps_its_epoch_without_history() {
    let (_, broker) = memory(Capacity::default());
    let keep = Retention { ttl_ms: 1_000, ..KEEP };
    broker.listen(&name("news"), shard(0)).await.unwrap();
    let before = broker.publish(draft("news", "x", 0), keep).await.unwrap();
    broker.sweep(10_000);
    assert_eq!(broker.held_bytes(), 0);
    assert_eq!(missed(&broker, "news", before).await, Some(vec![]));
    assert_eq!(broker.publish(draft("news", "x", 0), keep).await.unwrap(), Position { offset: 2, ..before });
    broker.ignore(&name("news"), shard(0));
    broker.sweep(20_000);
    assert_eq!(broker.channels(), 0);
}

#[tokio::test]
async fn history_of_all_channels_together_is_bounded() {
    let capacity = Capacity { bytes: 100_000, ..Capacity::default() };
    let (_, broker) = memory(capacity);
    let text = "x".repeat(1_000);
    for index in 0..5_000 {
        broker.publish(draft(&format!("channel {index}"), &text, index), KEEP).await.unwrap();
        assert!(broker.held_bytes() <= capacity.bytes + STRIPES_SLACK);
    }
    assert!(broker.channels() < 200);
}

/// Each of the 64 stripes drops only what it holds itself, so each may keep its newest publication.
const STRIPES_SLACK: usize = 64 * 1_600;

#[tokio::test]
async fn one_channel_too_many_is_refused_and_nothing_is_kept() {
    let (_, broker) = memory(Capacity { channels: 1, ..Capacity::default() });
    broker.publish(draft("a", "x", 0), KEEP).await.unwrap();
    let refused = broker.publish(draft("b", "x", 0), KEEP).await;
    assert_eq!(refused, Err(BrokerError::TooManyChannels { limit: 1 }));
    assert_eq!(broker.channels(), 1);
}

#[tokio::test]
async fn pages_follow_one_another_in_both_directions() {
    let (_, broker) = memory(Capacity::default());
    let keep = Retention { publications: 5, ..KEEP };
    let mut top = broker.publish(draft("news", "x", 0), keep).await.unwrap();
    for _ in 0..7 {
        top = broker.publish(draft("news", "x", 0), keep).await.unwrap();
    }
    use Order::{NewestFirst, OldestFirst};
    for (since, limit, order, offsets) in [
        (None, 2, OldestFirst, Some(vec![4, 5])),
        (Some(5), 2, OldestFirst, Some(vec![6, 7])),
        (Some(7), 2, OldestFirst, Some(vec![8])),
        (Some(8), 2, OldestFirst, Some(vec![])),
        (Some(3), 9, OldestFirst, Some(vec![4, 5, 6, 7, 8])),
        (Some(2), 9, OldestFirst, None),
        (None, 2, NewestFirst, Some(vec![8, 7])),
        (Some(7), 2, NewestFirst, Some(vec![6, 5])),
        (Some(5), 9, NewestFirst, Some(vec![4])),
        (Some(4), 9, NewestFirst, Some(vec![])),
        (Some(9), 9, NewestFirst, None),
        (None, 0, NewestFirst, Some(vec![])),
    ] {
        let since = since.map(|offset| Position { offset, ..top });
        let page = Page { since, limit, order };
        assert_eq!(read(&broker, "news", Extent::Page(page)).await, offsets, "{page:?}");
    }
}

fn keyed(key: &str, text: &str) -> Draft {
    Draft { key: Some(IdempotencyKey::parse(key).unwrap()), ..draft("news", text, 0) }
}

#[tokio::test]
async fn what_is_repeated_with_its_key_is_published_once() {
    let (node, broker) = memory(Capacity::default());
    let keep = Retention { publications: 2, ..KEEP };
    broker.listen(&name("news"), shard(0)).await.unwrap();
    let first = broker.publish(keyed("a", "x"), keep).await.unwrap();
    assert_eq!(broker.publish(Draft { time_ms: 9, ..keyed("a", "x") }, keep).await, Ok(first));
    assert_eq!(broker.publish(keyed("a", "y"), keep).await, Err(BrokerError::KeyReused));
    assert_eq!(broker.publish(keyed("b", "x"), keep).await.unwrap().offset, 2);
    assert_eq!(broker.publish(keyed("a", "x"), keep).await, Ok(first));
    assert_eq!(node.offsets("news"), [1, 2]);
    // As long as it is kept: here two publications.
    assert_eq!(broker.publish(draft("news", "z", 0), keep).await.unwrap().offset, 3);
    assert_eq!(broker.publish(keyed("a", "x"), keep).await.unwrap().offset, 4);
}

#[tokio::test]
async fn racing_repeats_are_one_publication() {
    let (node, broker) = memory(Capacity::default());
    broker.listen(&name("news"), shard(0)).await.unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..50).for_each(|n| drop(broker.publish(keyed(&n.to_string(), "x"), KEEP))));
        }
    });
    assert_eq!(node.offsets("news"), (1..=50).collect::<Vec<_>>());
}

fn member(user: &str, id: u8) -> Member {
    let client = ClientId::from_random([id; 16]);
    Member { client, user: Some(UserId::parse(user).unwrap()), info: None }
}

#[tokio::test]
async fn each_member_joins_once_and_leaves_once() {
    let (node, broker) = memory(Capacity::default());
    let news = name("news");
    broker.join(&news, member("early", 0), Tell::Everyone).await.unwrap();
    broker.listen(&news, shard(0)).await.unwrap();
    for member in [member("alice", 1), member("alice", 1), member("alice", 2), member("bob", 3)] {
        broker.join(&news, member, Tell::Everyone).await.unwrap();
    }
    broker.join(&news, member("silent", 4), Tell::Nobody).await.unwrap();
    let present = broker.present(&news, 2).await.unwrap();
    assert_eq!(present.attendance, Attendance { clients: 5, users: 4 });
    assert_eq!(present.members.len(), 2);
    for id in [1, 1, 2, 3, 4, 9] {
        broker.leave(&news, ClientId::from_random([id; 16]));
    }
    assert_eq!(node.changes(), "+alice +alice +bob -alice -alice -bob");
    assert_eq!(broker.present(&news, 9).await.unwrap().attendance, Attendance { clients: 1, users: 1 });
}

#[tokio::test]
async fn a_channel_is_kept_for_those_who_are_present_and_forgotten_after_them() {
    let (_, broker) = memory(Capacity::default());
    broker.join(&name("news"), member("alice", 1), Tell::Everyone).await.unwrap();
    broker.sweep(1);
    assert_eq!(broker.channels(), 1);
    broker.leave(&name("news"), ClientId::from_random([1; 16]));
    assert_eq!(broker.channels(), 0);
    assert_eq!(broker.present(&name("news"), 9).await.unwrap().attendance, Attendance::default());
}

#[tokio::test]
async fn a_channel_without_history_delivers_and_keeps_nothing() {
    let (node, broker) = memory(Capacity::default());
    let keep = Retention { publications: 0, ..KEEP };
    broker.listen(&name("news"), shard(0)).await.unwrap();
    let first = broker.publish(draft("news", "x", 0), keep).await.unwrap();
    let second = broker.publish(draft("news", "x", 0), keep).await.unwrap();
    assert_eq!((node.offsets("news"), broker.held_bytes()), (vec![1, 2], 0));
    assert_eq!(missed(&broker, "news", first).await, None);
    assert_eq!(missed(&broker, "news", second).await, Some(vec![]));
}

#[tokio::test]
async fn history_shrinks_when_less_of_it_is_to_be_kept() {
    let (_, broker) = memory(Capacity::default());
    for _ in 0..10 {
        broker.publish(draft("news", "x", 0), KEEP).await.unwrap();
    }
    let top = broker.publish(draft("news", "x", 0), Retention { publications: 2, ..KEEP }).await.unwrap();
    assert_eq!(missed(&broker, "news", Position { offset: 9, ..top }).await, Some(vec![10, 11]));
    assert_eq!(missed(&broker, "news", Position { offset: 8, ..top }).await, None);
}
