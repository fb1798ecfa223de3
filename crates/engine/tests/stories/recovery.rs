//! What a client that comes back gets, and how it finds out that something is missing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use duplex_broker::Memory;
use duplex_core::{
    Broker, BrokerError, ChannelName, Draft, Extent, History, Pending, Position, Retention, ShardId,
};
use duplex_engine::{Namespaces, Policy, Recovery, Settings};

use crate::support::{Story, open, settings};

fn story(policy: Policy) -> Story {
    Story::ruled(settings(), Namespaces::one(policy))
}

#[test]
fn with_cache_recovery_the_newest_publication_comes_first() {
    let mut story = story(Policy { recovery: Recovery::Cache, ..open() });
    story.run("a: connect; sub score", "a: hello score@0");
    story.run("a: pub score 1-0; pub score 2-0", "a: score/1=1-0 score/2=2-0");
    story.run("b: connect; sub score", "b: hello score@2 score/2=2-0");
    story.run("c: connect; sub score since 1", "c: hello score@2+all score/2=2-0");
    story.run("d: connect; sub score since 2", "d: hello score@2+all");
    story.run("a: pub score 2-1", "a: score/3=2-1 | b: score/3=2-1 | c: score/3=2-1 | d: score/3=2-1");
}

#[test]
fn without_recovery_a_client_is_told_so() {
    let mut story = story(Policy { recovery: Recovery::Off, ..open() });
    story.run("a: connect; sub news; pub news 1", "a: hello news@0 news/1=1");
    story.run("b: connect; sub news since 0", "b: hello news@1+nothing");
}

#[test]
fn without_history_only_a_client_that_missed_nothing_recovers() {
    let mut story = story(Policy { retention: Retention { publications: 0, ttl_ms: 1_000 }, ..open() });
    story.run("a: connect; sub news; pub news 1", "a: hello news@0 news/1=1");
    story.run("b: connect; sub news since 1; history news", "b: hello news@1+all news*0");
    story.run("c: connect; sub news since 0", "c: hello news@1+nothing");
}

#[test]
fn whoever_missed_more_than_fits_into_its_outbox_gets_it_as_it_reads() {
    let mut story = Story::with(Settings { outbox_bytes: 3_000, ..settings() });
    story.run("a: connect; sub news", "a: hello news@0");
    let text = "x".repeat(200);
    for offset in 1..=50 {
        story.run(&format!("a: pub news {text}"), &format!("a: news/{offset}={text}"));
    }
    let missed: Vec<String> = (2..=50).map(|offset| format!("news/{offset}={text}")).collect();
    story.run("b: connect; sub news since 1", &format!("b: hello news@50+all {}", missed.join(" ")));
    story.run("c: connect", "c: hello");
    story.stuck("c");
    story.run("c: sub news since 1", "");
    story.run("a: pub news last", "a: news/51=last | b: news/51=last");
    story.unstuck("c");
    story.expect(&format!("c: news@50+all {} news/51=last", missed.join(" ")));
}

/// A broker whose deliveries can be lost on the way: it publishes behind everyone's back.
struct Leaky {
    memory: Arc<Memory>,
    leaks: AtomicBool,
    /// How often positions were read.
    looks: AtomicUsize,
}

impl Broker for Leaky {
    fn publish(&self, draft: Draft, retention: Retention) -> Pending<Result<Position, BrokerError>> {
        let shard = ShardId::new(0).unwrap();
        let channel = draft.channel.clone();
        if !self.leaks.load(Relaxed) {
            return self.memory.publish(draft, retention);
        }
        self.memory.ignore(&channel, shard);
        let published = self.memory.publish(draft, retention);
        drop(self.memory.listen(&channel, shard));
        published
    }

    fn listen(&self, channel: &ChannelName, shard: ShardId) -> Pending<Result<(), BrokerError>> {
        self.memory.listen(channel, shard)
    }

    fn ignore(&self, channel: &ChannelName, shard: ShardId) {
        self.memory.ignore(channel, shard);
    }

    fn history(&self, channel: &ChannelName, extent: Extent) -> Pending<Result<History, BrokerError>> {
        self.looks.fetch_add(usize::from(extent == Extent::Nothing), Relaxed);
        self.memory.history(channel, extent)
    }
}

fn leaky() -> (Story, Arc<Leaky>) {
    let mut broker = None;
    let story = Story::over(settings(), Namespaces::one(open()), |memory| {
        let leaky = Arc::new(Leaky { memory, leaks: AtomicBool::new(false), looks: AtomicUsize::new(0) });
        Arc::clone(broker.insert(leaky))
    });
    (story, broker.unwrap())
}

#[test]
fn a_publication_that_was_lost_on_the_way_is_noticed_with_the_next_one() {
    let (mut story, broker) = leaky();
    story.run("a: connect; sub news; sub other; pub news 1", "a: hello news@0 other@0 news/1=1");
    story.run("b: connect; sub other", "b: hello other@0");
    broker.leaks.store(true, Relaxed);
    story.run("b: pub news 2", "");
    broker.leaks.store(false, Relaxed);
    story.run("b: pub news 3; pub other x", "a: close3010 | b: other/1=x");
    story.run("c: connect; sub news since 1", "c: hello news@3+all news/2=2 news/3=3");
}

#[test]
fn a_subscriber_that_is_starved_finds_out_within_forty_seconds() {
    let (mut story, broker) = leaky();
    story.run("a: connect; sub news; pub news 1", "a: hello news@0 news/1=1");
    broker.leaks.store(true, Relaxed);
    story.run("b: connect; pub news 2", "b: hello");
    let mut waited_ms = 0;
    while story.node().gauges().subscriptions() > 0 {
        story.heard("a");
        story.heard("b");
        story.quiet(100);
        waited_ms += 100;
        assert!(waited_ms <= 40_000, "not noticed");
    }
    story.run("b: unsub nothing", "a: close3010 | b: left");
}

#[test]
fn a_channel_is_looked_at_as_often_as_is_set_however_few_there_are() {
    let (mut story, broker) = leaky();
    story.run("a: connect; sub news", "a: hello news@0");
    let before = broker.looks.load(Relaxed);
    for _ in 0..1_000 {
        story.heard("a");
        story.quiet(100);
    }
    assert!((3..=4).contains(&(broker.looks.load(Relaxed) - before)), "every 25 s, for 100 s");
}

#[test]
fn nobody_is_sent_away_while_everything_arrives() {
    let mut story = Story::with(Settings { position_check_ms: 1_000, ..settings() });
    story.run("a: connect; sub x; sub y; sub z", "a: hello x@0 y@0 z@0");
    for round in 1..20 {
        story.run(&format!("a: pub x {round}"), &format!("a: x/{round}={round}"));
        story.pass(1_000, "");
    }
}
