//! What becomes of those who read more slowly than is published.

use duplex_core::Rate;
use duplex_engine::{Namespaces, Overload, Policy, Settings};

use crate::support::{Story, open, settings};

fn story(policy: Policy) -> Story {
    Story::ruled(settings(), Namespaces::one(policy))
}

fn latest(key: Option<&str>) -> Policy {
    Policy { overload: Overload::Latest { key: key.map(Into::into) }, ..open() }
}

#[test]
fn a_slow_client_gets_the_newest_for_each_key() {
    let mut story = story(latest(Some("key")));
    story.run("slow: connect; sub ticker", "slow: hello ticker@0");
    story.run("fast: connect; sub ticker", "fast: hello ticker@0");
    story.stuck("slow");
    // The kernel's buffer is full with the first one.
    story.run("fast: pub ticker first A", "fast: ticker/1=first");
    story.run("fast: pub ticker 2 A; pub ticker 3 B", "fast: ticker/2=2 ticker/3=3");
    story.run(
        "fast: pub ticker 4 A; pub ticker 5 C; pub ticker 6 B",
        "fast: ticker/4=4 ticker/5=5 ticker/6=6",
    );
    story.unstuck("slow");
    story.run("fast: unsub x", "fast: left | slow: ticker/1=first ticker/4=4 ticker/6=6 ticker/5=5");
    assert_eq!(story.node().gauges().thinned_out(), 2);
    story.run("fast: pub ticker 7 A", "fast: ticker/7=7 | slow: ticker/7=7");
}

#[test]
fn without_a_key_the_newest_of_the_channel_stays() {
    let mut story = story(latest(None));
    story.run("slow: connect; sub ticker", "slow: hello ticker@0");
    story.stuck("slow");
    story.run("fast: connect; pub ticker 1", "fast: hello");
    story.run("fast: pub ticker 2; pub ticker 3; pub ticker 4", "");
    story.unstuck("slow");
    story.run("fast: unsub x", "fast: left | slow: ticker/1=1 ticker/4=4");
}

#[test]
fn a_ticker_needs_no_more_memory_however_long_a_client_sleeps() {
    let settings = Settings { stall_ms: 300_000, ..settings() };
    let mut story = Story::ruled(settings, Namespaces::one(latest(Some("key"))));
    story.run("slow: connect; sub ticker", "slow: hello ticker@0");
    story.stuck("slow");
    story.run("fast: connect", "fast: hello");
    let mut bytes = Vec::new();
    for round in 0..30 {
        for key in 0..20 {
            story.run(&format!("fast: pub ticker {round:03} {key}"), "");
        }
        story.keep_alive(1_100, "");
        bytes.push(story.node().gauges().outbox_bytes());
    }
    assert!(bytes[1] > 0);
    assert_eq!(bytes[1..].iter().max(), bytes[1..].iter().min());
    story.gone("slow");
    story.keep_alive(100, "");
    assert_eq!(story.node().gauges().outbox_bytes(), 0);
}

#[test]
fn the_oldest_are_dropped_when_the_newest_do_not_fit() {
    let policy = Policy { overload: Overload::DropOldest, ..open() };
    let settings = Settings { outbox_bytes: 1_500, ..settings() };
    let mut story = Story::ruled(settings, Namespaces::one(policy));
    story.run("slow: connect; sub log", "slow: hello log@0");
    story.stuck("slow");
    story.run("fast: connect; pub log 1", "fast: hello");
    for offset in 2..=20 {
        story.run(&format!("fast: pub log {offset}"), "");
    }
    story.unstuck("slow");
    let dropped = story.node().gauges().thinned_out();
    let kept: Vec<String> = (dropped + 2..=20).map(|offset| format!("log/{offset}={offset}")).collect();
    assert!((1..18).contains(&dropped), "{dropped}");
    story.run("fast: unsub x", &format!("fast: left | slow: log/1=1 {}", kept.join(" ")));
}

#[test]
fn a_subscriber_gets_no_more_than_its_rate_and_the_newest_at_last() {
    let policy = Policy { deliveries: Some(Rate { per_second: 10, burst: 1 }), ..latest(Some("key")) };
    let mut story = story(policy);
    story.run("a: connect; sub ticker", "a: hello ticker@0");
    story.run("b: connect; pub ticker 1 A; pub ticker 2 B; pub ticker 3 B", "a: ticker/1=1 | b: hello");
    story.pass(100, "a: ticker/3=3");
    story.run("b: pub ticker 4 A; pub ticker 5 A", "");
    story.pass(100, "a: ticker/5=5");
    story.pass(1_000, "");
    story.run("b: pub ticker 6 A", "a: ticker/6=6");
}

#[test]
fn the_slowest_go_first_when_all_outboxes_together_are_too_full() {
    let settings = Settings { outbox_bytes: 10_000, outboxes_bytes: 15_000, ..settings() };
    let mut story = Story::with(settings);
    for client in ["a", "b", "c", "d"] {
        story.run(
            &format!("{client}: connect; sub {client}; sub all"),
            &format!("{client}: hello {client}@0 all@0"),
        );
        story.stuck(client);
    }
    story.run("p: connect", "p: hello");
    let text = "x".repeat(900);
    for client in ["a", "b", "c"] {
        for _ in 0..5 {
            story.run(&format!("p: pub {client} {text}"), "");
        }
    }
    assert_eq!(story.gauges().1, 8, "everyone is within the limit of one client");
    story.run(&format!("p: pub all {text}"), "");
    assert_eq!(story.gauges().1, 8 - 4, "as many of those who had most waiting were closed as had to be");
    story.unstuck("d");
    story.run("p: unsub x", &format!("d: all/1={text} | p: left"));
}

#[test]
fn whoever_leaves_a_channel_gets_nothing_more_of_what_waited() {
    let mut story = story(latest(Some("key")));
    story.run("slow: connect; sub ticker", "slow: hello ticker@0");
    story.stuck("slow");
    story.run("fast: connect; pub ticker 1 A", "fast: hello");
    story.run("fast: pub ticker 2 A; pub ticker 3 B", "");
    story.run("slow: unsub ticker", "");
    story.unstuck("slow");
    story.run("fast: unsub x", "fast: left | slow: ticker/1=1 left");
}

#[test]
fn nobody_is_slow_who_takes_a_burst_as_it_comes() {
    let mut story = Story::with(Settings { outbox_bytes: 1_000, ..settings() });
    story.run("reader: connect; sub news", "reader: hello news@0");
    let burst: Vec<String> = (1..=200).map(|offset| format!("pub news {offset}")).collect();
    let heard: Vec<String> = (1..=200).map(|offset| format!("news/{offset}={offset}")).collect();
    story.run(
        &format!("writer: connect; {}", burst.join("; ")),
        &format!("reader: {} | writer: hello", heard.join(" ")),
    );
}

#[test]
fn whoever_takes_nothing_for_too_long_goes_however_little_waits() {
    let mut story = Story::with(Settings { stall_ms: 3_000, ..settings() });
    story.run("stuck: connect; sub news", "stuck: hello news@0");
    story.run("slow: connect; sub news", "slow: hello news@0");
    story.stuck("stuck");
    story.stuck("slow");
    story.run("p: connect; pub news 1", "p: hello");
    story.keep_alive(2_000, "");
    story.unstuck("slow");
    story.run("p: pub news 2", "slow: news/1=1 news/2=2");
    story.stuck("slow");
    story.run("p: pub news 3", "");
    story.keep_alive(1_000, "");
    assert_eq!(story.gauges().1, 1, "the one that took something stays");
    story.unstuck("slow");
    story.run("p: unsub x", "p: left | slow: news/3=3");
}

#[test]
fn what_is_volatile_is_not_waited_for() {
    let mut story = story(open());
    story.run("slow: connect; sub x", "slow: hello x@0");
    story.run("fast: connect; sub x", "fast: hello x@0");
    story.stuck("slow");
    story.run("fast: pub x first", "fast: x/1=first");
    story.run("fast: vol x 2; pub x 3", "fast: x/2=2 x/3=3");
    story.unstuck("slow");
    story.run("fast: unsub y", "fast: left | slow: x/1=first x/3=3");
    story.run("fast: vol x 4", "fast: x/4=4 | slow: x/4=4");
    story.run("late: connect; sub x since 0", "late: hello x@4+all x/1=first x/3=3");
}
