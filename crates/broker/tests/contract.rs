//! What every broker promises, whatever it is made of.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use duplex_broker::{Memory, Retention};
use duplex_core::{
    Broker, BrokerError, ChannelName, Deliver, Draft, EventName, Extent, IdempotencyKey, Json, Order, Page,
    Past, Payload, Position, Publication, ShardId, ShardSet, Tags,
};

/// Remembers what the node would have got.
#[derive(Default)]
struct Node(Mutex<Vec<(ShardSet, Arc<Publication>)>>);

impl Deliver for Node {
    fn deliver(&self, shards: ShardSet, publication: Arc<Publication>) {
        self.0.lock().unwrap().push((shards, publication));
    }
}

impl Node {
    fn offsets(&self, channel: &str) -> Vec<u64> {
        let seen = self.0.lock().unwrap();
        seen.iter().filter(|(_, p)| &*p.draft.channel == channel).map(|(_, p)| p.position.offset).collect()
    }
}

fn memory(retention: Retention) -> (Arc<Node>, Memory) {
    let node = Arc::new(Node::default());
    (Arc::clone(&node), Memory::new(retention, node))
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
    let (node, broker) = memory(Retention::default());
    broker.listen(&name("news"), shard(0)).await.unwrap();
    let start = broker.history(&name("news"), Extent::Nothing).await.unwrap().position;
    assert_eq!(start.offset, 0);
    for offset in 1..=3 {
        let position = broker.publish(draft("news", "x", 0)).await.unwrap();
        assert_eq!(position, Position { offset, ..start });
    }
    broker.publish(draft("other", "x", 0)).await.unwrap();
    assert_eq!(node.offsets("news"), [1, 2, 3]);
    assert_eq!(node.offsets("other"), [0u64; 0]);
}

#[tokio::test]
async fn each_listening_shard_is_named_until_it_ignores() {
    let (node, broker) = memory(Retention::default());
    for index in [0, 5] {
        broker.listen(&name("news"), shard(index)).await.unwrap();
    }
    broker.publish(draft("news", "x", 0)).await.unwrap();
    broker.ignore(&name("news"), shard(0));
    broker.publish(draft("news", "x", 0)).await.unwrap();
    broker.ignore(&name("news"), shard(5));
    broker.publish(draft("news", "x", 0)).await.unwrap();
    let shards: Vec<Vec<usize>> =
        node.0.lock().unwrap().iter().map(|(set, _)| set.iter().map(ShardId::index).collect()).collect();
    assert_eq!(shards, [vec![0, 5], vec![5]]);
}

#[tokio::test]
async fn racing_publishers_never_share_or_skip_an_offset() {
    let (node, broker) = memory(Retention::default());
    broker.listen(&name("news"), shard(0)).await.unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..500).for_each(|_| drop(broker.publish(draft("news", "x", 0)))));
        }
    });
    assert_eq!(node.offsets("news"), (1..=2000).collect::<Vec<_>>());
}

#[tokio::test]
async fn history_gives_all_that_was_missed_or_nothing() {
    let (_, broker) = memory(Retention { publications: 3, ..Retention::default() });
    let start = broker.publish(draft("news", "x", 0)).await.unwrap();
    for _ in 0..4 {
        broker.publish(draft("news", "x", 0)).await.unwrap();
    }
    let at = |offset| Position { offset, ..start };
    let elsewhere = broker.publish(draft("other", "x", 0)).await.unwrap();
    assert_eq!(missed(&broker, "news", at(5)).await, Some(vec![]));
    assert_eq!(missed(&broker, "news", at(2)).await, Some(vec![3, 4, 5]));
    assert_eq!(missed(&broker, "news", at(1)).await, None, "the ring no longer reaches back");
    assert_eq!(missed(&broker, "news", at(6)).await, None, "an offset that was never given out");
    assert_eq!(missed(&broker, "news", at(u64::MAX)).await, None);
    assert_eq!(missed(&broker, "news", Position { offset: 5, ..elsewhere }).await, None, "another epoch");
}

#[tokio::test]
async fn what_has_passed_its_time_is_forgotten_and_the_epoch_tells() {
    let (_, broker) = memory(Retention { ttl_ms: 1_000, ..Retention::default() });
    let before = broker.publish(draft("news", "x", 5_000)).await.unwrap();
    broker.sweep(6_000);
    assert_eq!(missed(&broker, "news", Position { offset: 0, ..before }).await, Some(vec![1]));
    broker.sweep(6_001);
    assert_eq!((broker.channels(), broker.held_bytes()), (0, 0));
    assert_eq!(missed(&broker, "news", before).await, None);
    assert_ne!(broker.publish(draft("news", "x", 7_000)).await.unwrap().epoch, before.epoch);
}

#[tokio::test]
async fn a_channel_that_is_listened_to_keeps_its_epoch_without_history() {
    let (_, broker) = memory(Retention { ttl_ms: 1_000, ..Retention::default() });
    broker.listen(&name("news"), shard(0)).await.unwrap();
    let before = broker.publish(draft("news", "x", 0)).await.unwrap();
    broker.sweep(10_000);
    assert_eq!(broker.held_bytes(), 0);
    assert_eq!(missed(&broker, "news", before).await, Some(vec![]));
    assert_eq!(broker.publish(draft("news", "x", 0)).await.unwrap(), Position { offset: 2, ..before });
    broker.ignore(&name("news"), shard(0));
    broker.sweep(20_000);
    assert_eq!(broker.channels(), 0);
}

#[tokio::test]
async fn history_of_all_channels_together_is_bounded() {
    let retention = Retention { bytes: 100_000, ..Retention::default() };
    let (_, broker) = memory(retention);
    let text = "x".repeat(1_000);
    for index in 0..5_000 {
        broker.publish(draft(&format!("channel {index}"), &text, index)).await.unwrap();
        assert!(broker.held_bytes() <= retention.bytes + STRIPES_SLACK);
    }
    assert!(broker.channels() < 200);
}

/// Each of the 64 stripes drops only what it holds itself, so each may keep its newest publication.
const STRIPES_SLACK: usize = 64 * 1_600;

#[tokio::test]
async fn one_channel_too_many_is_refused_and_nothing_is_kept() {
    let (_, broker) = memory(Retention { channels: 1, ..Retention::default() });
    broker.publish(draft("a", "x", 0)).await.unwrap();
    let refused = broker.publish(draft("b", "x", 0)).await;
    assert_eq!(refused, Err(BrokerError::TooManyChannels { limit: 1 }));
    assert_eq!(broker.channels(), 1);
}

#[tokio::test]
async fn pages_follow_one_another_in_both_directions() {
    let (_, broker) = memory(Retention { publications: 5, ..Retention::default() });
    let mut top = broker.publish(draft("news", "x", 0)).await.unwrap();
    for _ in 0..7 {
        top = broker.publish(draft("news", "x", 0)).await.unwrap();
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
    let (node, broker) = memory(Retention { publications: 2, ..Retention::default() });
    broker.listen(&name("news"), shard(0)).await.unwrap();
    let first = broker.publish(keyed("a", "x")).await.unwrap();
    assert_eq!(broker.publish(Draft { time_ms: 9, ..keyed("a", "x") }).await, Ok(first));
    assert_eq!(broker.publish(keyed("a", "y")).await, Err(BrokerError::KeyReused));
    assert_eq!(broker.publish(keyed("b", "x")).await.unwrap().offset, 2);
    assert_eq!(broker.publish(keyed("a", "x")).await, Ok(first));
    assert_eq!(node.offsets("news"), [1, 2]);
    // As long as it is kept: here two publications.
    assert_eq!(broker.publish(draft("news", "z", 0)).await.unwrap().offset, 3);
    assert_eq!(broker.publish(keyed("a", "x")).await.unwrap().offset, 4);
}

#[tokio::test]
async fn racing_repeats_are_one_publication() {
    let (node, broker) = memory(Retention::default());
    broker.listen(&name("news"), shard(0)).await.unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..50).for_each(|n| drop(broker.publish(keyed(&n.to_string(), "x")))));
        }
    });
    assert_eq!(node.offsets("news"), (1..=50).collect::<Vec<_>>());
}
