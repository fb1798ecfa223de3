//! What the broker of a single node promises beyond the contract: how little it keeps.

use duplex_broker::{Capacity, Memory};

use super::promises::member;
use super::*;

contract!(((), rig()));

fn rig() -> Rig {
    let (node, broker) = memory(Capacity::default());
    Rig { node, broker: Arc::new(broker) }
}

fn memory(capacity: Capacity) -> (Arc<Node>, Memory) {
    let node = Arc::new(Node::default());
    (Arc::clone(&node), Memory::new(capacity, node))
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
async fn a_channel_is_kept_for_those_who_are_present_and_forgotten_after_them() {
    let (_, broker) = memory(Capacity::default());
    broker.join(&name("news"), member("alice", 1), Tell::Everyone).await.unwrap();
    broker.sweep(1);
    assert_eq!(broker.channels(), 1);
    broker.leave(&name("news"), ClientId::from_random([1; 16]));
    assert_eq!(broker.channels(), 0);
    assert_eq!(broker.present(&name("news"), 9).await.unwrap().attendance, Attendance::default());
}
