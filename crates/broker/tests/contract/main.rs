//! The contract: what every broker promises, kept by each of them, and what each promises beyond it.

mod memory;
mod nats;
mod promises;
mod redis;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use duplex_core::{
    Attendance, Broker, BrokerError, Change, ChannelName, ClientId, Cluster, Deliver, Draft, Event,
    EventName, Extent, IdempotencyKey, Json, Kept, Member, NodeId, Order, Page, Past, Payload, Position,
    Presence, Retention, Row, ShardId, ShardSet, Tags, Tell, UserId,
};

/// Remembers what the node would have got.
#[derive(Default)]
struct Node {
    events: Mutex<Vec<(ShardSet, Event)>>,
    missed: Mutex<Vec<ChannelName>>,
    notes: Mutex<Vec<(NodeId, Bytes)>>,
}

impl Deliver for Node {
    fn deliver(&self, shards: ShardSet, event: Event) {
        self.events.lock().unwrap().push((shards, event));
    }

    fn missed(&self, _: ShardSet, channel: &ChannelName) {
        self.missed.lock().unwrap().push(channel.clone());
    }

    fn note(&self, from: NodeId, note: Bytes) {
        self.notes.lock().unwrap().push((from, note));
    }
}

impl Node {
    fn offsets(&self, channel: &str) -> Vec<u64> {
        let seen = self.events.lock().unwrap();
        let offset = |event: &Event| match event {
            Event::Publication(publication) => Some(publication.position.offset),
            Event::Presence(_) => None,
        };
        let here = seen.iter().filter(|(_, event)| &**event.channel() == channel);
        here.filter_map(|(_, event)| offset(event)).collect()
    }

    /// `+alice -alice`: who joined and left, as everyone hears of it.
    fn changes(&self) -> String {
        let seen = self.events.lock().unwrap();
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

/// A broker under test.
struct Rig {
    node: Arc<Node>,
    broker: Arc<dyn Whole>,
}

/// What a broker is in all.
trait Whole: Broker + Presence {}

impl<T: Broker + Presence> Whole for T {}

/// Pause between two looks at something that cannot be waited on.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// How long anything may take that a test waits for.
const PATIENCE: Duration = Duration::from_secs(40);

impl Rig {
    /// What was delivered of a channel, when everything that was published has been.
    async fn offsets(&self, channel: &str) -> Vec<u64> {
        self.settle(channel).await;
        self.node.offsets(channel)
    }

    /// Everything that was published is delivered, if anybody listens.
    async fn settle(&self, channel: &str) {
        self.broker.history(&name(channel), Extent::Nothing).await.unwrap();
    }

    /// Who joined and left is this in the end.
    async fn changes_are(&self, expected: &str) {
        until(|| self.node.changes() == expected, || self.node.changes()).await;
    }
}

/// Waits until something holds; if it never does, shows how it is.
async fn until(mut holds: impl FnMut() -> bool, shown: impl Fn() -> String) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time; it is {}", shown());
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Tries something until there is an outcome.
async fn at_last<T>(mut act: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(outcome) = act().await {
            return outcome;
        }
        assert!(Instant::now() < deadline, "there is no outcome in time");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Publishes so many to `news`; the position of the last.
async fn publish(broker: &Arc<impl Broker>, count: usize) -> Position {
    let mut last = None;
    for _ in 0..count {
        last = Some(broker.publish(draft("news", "x", 0), KEEP).await.unwrap());
    }
    last.expect("something is published")
}

/// Waits until these were delivered of `news`, and nothing else.
async fn delivered(node: &Node, offsets: impl Iterator<Item = u64>) {
    let expected: Vec<u64> = offsets.collect();
    until(|| node.offsets("news").len() >= expected.len(), || format!("{:?}", node.offsets("news"))).await;
    assert_eq!(node.offsets("news"), expected);
}

/// The tests of the contract for one kind of broker, which `rig` starts.
macro_rules! contract {
    ($rig:expr) => {
        contract! { $rig;
            offsets_count_up_by_one_and_listeners_get_them_in_order
            each_listening_shard_is_named_until_it_ignores
            racing_publishers_never_share_or_skip_an_offset
            history_gives_all_that_was_missed_or_nothing
            who_left_a_silent_channel_recovers_what_was_published_since
            pages_follow_one_another_in_both_directions
            what_is_repeated_with_its_key_is_published_once
            racing_repeats_are_one_publication
            each_member_joins_once_and_leaves_once
            a_channel_without_history_delivers_and_keeps_nothing
            history_shrinks_when_less_of_it_is_to_be_kept
            what_is_published_arrives_as_it_was
        }
    };
    ($rig:expr; $($promise:ident)*) => {
        $(#[tokio::test]
        async fn $promise() {
            let (_server, rig) = $rig;
            crate::promises::$promise(&rig).await;
        })*
    };
}
pub(crate) use contract;
