//! Who gets what, and what becomes of those who do not answer.

use duplex_engine::{Namespaces, Overload, Policy, Settings};

use crate::support::{Story, open, settings};

#[test]
fn what_is_published_reaches_each_subscriber_once_and_in_order() {
    let mut story = Story::new();
    story.run("a: connect; sub news", "a: hello news@0");
    story.run("b: connect; sub news; sub chat", "b: hello news@0 chat@0");
    story
        .run("a: pub news x; pub chat y; pub news z", "a: news/1=x news/2=z | b: news/1=x chat/1=y news/2=z");
    story.run("b: unsub news; pub news last", "a: news/3=last | b: left");
}

#[test]
fn a_burst_is_one_piece_for_each_subscriber() {
    let mut story = Story::new();
    story.run("a: connect; sub news", "a: hello news@0");
    story.run("b: connect; pub news 1; pub news 2; pub news 3", "a: news/1=1 news/2=2 news/3=3 | b: hello");
    assert_eq!(story.writes("a"), 3, "hello and subscribed were two frames, the burst was one");
}

#[test]
fn a_client_that_comes_back_gets_what_it_missed_or_is_told_that_it_did_not() {
    let mut story = Story::new();
    story.run(
        "a: connect; sub news; pub news 1; pub news 2; pub news 3",
        "a: hello news@0 news/1=1 news/2=2 news/3=3",
    );
    story.run("b: connect; sub news since 1", "b: hello news@3+all news/2=2 news/3=3");
    story.run("c: connect; sub news since 3", "c: hello news@3+all");
    story.run("d: connect; sub news since 4", "d: hello news@3+nothing");
    story.run("a: pub news 4", "a: news/4=4 | b: news/4=4 | c: news/4=4 | d: news/4=4");
}

#[test]
fn a_second_subscription_and_one_too_many_are_refused() {
    let mut story = Story::with(Settings { subscriptions: 2, ..settings() });
    story.run("a: connect; sub x; sub x; sub y; sub z", "a: hello x@0 refused105 y@0 refused106");
    story.run("a: unsub x; sub z; unsub nothing", "a: left z@0 left");
}

#[test]
fn whoever_leaves_takes_nothing_along() {
    let mut story = Story::new();
    for round in 0..3 {
        story.run("a: connect; sub x; sub y", &format!("a: hello x@{round} y@0"));
        story.run("b: connect; sub x", &format!("b: hello x@{round}"));
        story.run("c: connect; sub x", &format!("c: hello x@{round}"));
        assert_eq!(story.gauges(), (3, 4));
        story.gone("a");
        let next = round + 1;
        story.run("b: pub x again", &format!("b: x/{next}=again | c: x/{next}=again"));
        story.gone("c");
        story.gone("b");
        assert_eq!(story.gauges(), (0, 0));
    }
}

#[test]
fn a_slow_client_is_closed_and_nobody_else_notices() {
    let mut story = Story::with(Settings { outbox_bytes: 40, ..settings() });
    story.run("a: connect; sub news", "a: hello news@0");
    story.run("b: connect; sub news", "b: hello news@0");
    story.stuck("a");
    for offset in 1..=4 {
        story.run(&format!("b: pub news {offset:09}"), &format!("b: news/{offset}={offset:09}"));
    }
    assert_eq!(story.gauges().1, 1, "the slow client has left its channel");
    story.unstuck("a");
    story.run("b: pub news x", "a: close3008 | b: news/5=x");
    story.pass(5_000, "a: aborted");
}

#[test]
fn a_stuck_client_gets_the_rest_when_it_reads_again() {
    let mut story = Story::new();
    story.run("a: connect; sub news", "a: hello news@0");
    story.stuck("a");
    story.run("b: connect; pub news 1", "b: hello");
    story.run("b: pub news 2", "");
    story.unstuck("a");
    story.run("b: pub news 3", "a: news/1=1 news/2=2 news/3=3");
}

#[test]
fn silence_is_answered_with_a_ping_and_then_with_the_end() {
    let mut story = Story::new();
    story.run("a: connect; sub x", "a: hello x@0");
    story.run("b: connect", "b: hello");
    story.pass(19_900, "");
    story.pass(5_100, "a: ping | b: ping");
    story.heard("b");
    story.pass(10_000, "a: close3012");
    assert_eq!(story.gauges().1, 0);
    story.pass(5_000, "a: aborted");
    story.gone("a");
    story.pass(10_000, "b: ping");
}

#[test]
fn clients_that_came_at_once_are_not_pinged_at_once() {
    let mut story = Story::new();
    for client in 0..100 {
        story.run(&format!("{client}: connect"), &format!("{client}: hello"));
    }
    story.pass(19_900, "");
    let pings: Vec<usize> = (0..5).map(|_| story.pings_in(1_000)).collect();
    assert_eq!(pings.iter().sum::<usize>(), 100);
    assert!(pings.iter().all(|pings| (15..=25).contains(pings)), "{pings:?}");
}

#[test]
fn a_client_that_speaks_is_not_pinged() {
    let mut story = Story::new();
    story.run("a: connect", "a: hello");
    for _ in 0..30 {
        story.pass(4_000, "");
        story.heard("a");
    }
}

#[test]
fn a_client_that_never_connects_is_closed() {
    let mut story = Story::new();
    story.open("a");
    story.pass(9_900, "");
    story.pass(200, "a: close3502");
    story.pass(5_000, "a: aborted");
}

#[test]
fn a_flood_is_ended() {
    let mut story = Story::new();
    story.run("a: connect", "a: hello");
    let flood = vec!["pub x 1"; 1_100].join("; ");
    story.run(&format!("a: {flood}"), "a: close3013");
}

#[test]
fn nothing_is_said_to_a_client_after_its_farewell() {
    let mut story = Story::new();
    story.run("a: connect; sub news", "a: hello news@0");
    story.run("b: connect", "b: hello");
    assert_eq!(story.send_away(1, "a: close1012"), 1);
    assert_eq!(story.send_away(9, "b: close1012"), 0);
    story.run("b: pub news 1", "");
    story.pass(4_900, "");
    story.pass(200, "a: aborted | b: aborted");
}

#[test]
fn a_full_inbox_tells_those_who_missed_something() {
    let mut story = Story::with(Settings { inbox_bytes: 1_000, ..settings() });
    story.run("a: connect; sub big; sub small", "a: hello big@0 small@0");
    story.run("b: connect; sub small", "b: hello small@0");
    let text = "x".repeat(2_000);
    story.run(&format!("b: pub small 1; pub big {text}"), "a: close3010 | b: small/1=1");
}

#[test]
fn a_dead_link_is_silent_until_its_transport_says_that_it_ended() {
    let mut story = Story::new();
    story.run("a: connect; sub news", "a: hello news@0");
    story.dead("a");
    story.run("b: connect; pub news 1; pub news 2", "a: aborted | b: hello");
    story.gone("a");
    assert_eq!(story.gauges(), (1, 0));
}

#[test]
fn pings_keep_their_pace_whatever_time_a_pong_may_take() {
    let mut story = Story::with(Settings { heartbeat_ms: 1_000, pong_ms: 60_000, ..settings() });
    story.run("a: connect", "a: hello");
    for _ in 0..5 {
        assert_eq!(story.pings_in(1_000), 1);
        story.heard("a");
    }
    story.pass(1_000, "a: ping");
    story.pass(60_000, "a: close3012");
}

#[test]
fn a_channel_may_be_told_as_a_stream_beside_those_who_are_told_as_ever() {
    let mut story = Story::new();
    story.run("a: connect; sub news", "a: hello news@0");
    story.run("b: connect; stream news as 7; sub other", "b: hello news@0 other@0");
    story.run("c: connect; stream news as 8", "c: hello news@0");
    story.run(
        "a: pub news 1; pub news 2",
        "a: news/1=1 news/2=2 | b: 7<news/1=1 7<news/2=2 | c: 8<news/1=1 8<news/2=2",
    );
    story.run("a: pub other 1", "b: other/1=1");
    story.run("b: unsub news; sub news", "b: left news@2");
    story.run("a: pub news 3", "a: news/3=3 | b: news/3=3 | c: 8<news/3=3");
    story.run("d: connect; stream news as 9 since 1", "d: hello news@3+all 9<news/2=2 9<news/3=3");
}

#[test]
fn a_stream_is_thinned_out_and_catches_up_like_everybody() {
    let mut story =
        Story::ruled(settings(), Namespaces::one(Policy { overload: Overload::DropOldest, ..open() }));
    story.run("a: connect", "a: hello");
    story.run("b: connect; stream news as 7", "b: hello news@0");
    story.stuck("b");
    story.run("a: pub news 1", "");
    story.run("a: pub news 2", "");
    story.unstuck("b");
    story.expect("b: 7<news/1=1 7<news/2=2");
}
