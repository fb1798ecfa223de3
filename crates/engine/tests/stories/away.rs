//! Clients whose transport goes away and comes back.

use duplex_core::CloseReason;
use duplex_engine::{Namespaces, Overload, Policy, Settings};

use crate::support::{Story, open, settings};

/// `a` is subscribed to `news` and away; `b` is there.
fn story(settings: Settings) -> Story {
    let mut story = Story::with(settings);
    story.run("a: connect; sub news", "a: hello news@0");
    story.run("b: connect", "b: hello");
    story.away("a");
    story
}

fn closed(story: &Story, reason: &CloseReason) -> u64 {
    story.node().gauges().closed(reason)
}

/// What waits, as the node was last told.
fn waiting(story: &mut Story) -> usize {
    story.quiet(100);
    story.node().gauges().outbox_bytes()
}

#[test]
fn what_is_published_waits_for_who_is_away() {
    let mut story = story(settings());
    story.run("b: pub news 1; pub news 2", "");
    assert!(waiting(&mut story) > 0);
    story.back("a");
    story.run("b: pub news 3", "a: news/1=1 news/2=2 news/3=3");
    assert_eq!(waiting(&mut story), 0);
    story.run("b: pub news 4", "a: news/4=4");
}

#[test]
fn commands_are_carried_out_while_nothing_carries_the_answers() {
    let mut story = story(settings());
    story.run("a: sub chat; pub chat x; unsub news; pub news unheard", "");
    story.back("a");
    story.expect("a: chat@0 left chat/1=x");
}

#[test]
fn too_much_that_waits_closes_who_is_away_and_it_hears_why() {
    let mut story = story(Settings { outbox_bytes: 1_000, ..settings() });
    for n in 1..=200 {
        story.run(&format!("b: pub news {n}"), "");
    }
    assert_eq!((closed(&story, &CloseReason::SLOW), story.gauges()), (1, (2, 0)));
    story.back("a");
    story.expect("a: close3008");
}

#[test]
fn whoever_is_away_too_long_is_closed_and_its_session_ends_by_itself() {
    let mut story = story(Settings { linger_ms: 3_000, close_ms: 2_000, ..settings() });
    story.run("b: pub news 1", "");
    story.quiet(2_900);
    assert_eq!((closed(&story, &CloseReason::ABSENT), story.gauges()), (0, (2, 1)));
    story.quiet(200);
    assert_eq!((closed(&story, &CloseReason::ABSENT), story.gauges()), (1, (2, 0)));
    assert!(waiting(&mut story) > 0, "what waits, and the reason, may still be fetched");
    story.quiet(2_000);
    assert_eq!(story.gauges(), (1, 0));
    assert_eq!(waiting(&mut story), 0);
}

#[test]
fn whoever_comes_back_while_it_is_closing_gets_what_waited_and_the_reason() {
    let mut story = story(Settings { linger_ms: 3_000, close_ms: 5_000, ..settings() });
    story.run("b: pub news 1", "");
    story.quiet(3_100);
    story.run("b: pub news unheard", "");
    story.back("a");
    story.expect("a: news/1=1 close3015");
    story.gone("a");
    assert_eq!((story.gauges(), waiting(&mut story)), ((1, 0), 0));
}

#[test]
fn being_away_is_counted_anew_each_time_and_from_the_last_sign_of_life() {
    let mut story = story(Settings { linger_ms: 3_000, heartbeat_ms: 300_000, ..settings() });
    for _ in 0..5 {
        story.quiet(2_000);
        story.back("a");
        story.quiet(5_000);
        story.away("a");
    }
    for _ in 0..5 {
        story.quiet(2_000);
        story.run("a: pub elsewhere 1", "");
    }
    assert_eq!((closed(&story, &CloseReason::ABSENT), story.gauges()), (0, (2, 1)));
    story.quiet(3_100);
    assert_eq!(closed(&story, &CloseReason::ABSENT), 1);
}

#[test]
fn a_token_expires_while_its_client_is_away() {
    let mut story = Story::with(Settings { linger_ms: 300_000, expiry_grace_ms: 0, ..settings() });
    story.run("a: connect alice+20; sub news", "a: hello news@0");
    story.run("b: connect bob+20; sub news", "b: hello news@0");
    story.away("a");
    story.away("b");
    story.run("b: refresh bob+200", "");
    // The token's time is that of the world, which goes on meanwhile.
    story.quiet(18_000);
    assert_eq!(closed(&story, &CloseReason::EXPIRED), 0);
    story.quiet(3_000);
    assert_eq!((closed(&story, &CloseReason::EXPIRED), story.gauges().1), (1, 1));
    story.back("a");
    story.back("b");
    story.expect("a: close3005 | b: refreshed");
}

#[test]
fn nobody_who_is_away_is_pinged_or_missed_for_a_pong() {
    let settings = Settings { heartbeat_ms: 1_000, pong_ms: 1_000, linger_ms: 300_000, ..settings() };
    let mut story = Story::with(settings);
    story.run("a: connect", "a: hello");
    story.away("a");
    assert_eq!((story.pings_in(10_000), waiting(&mut story)), (0, 0));
    story.back("a");
    assert_eq!(story.pings_in(1_100), 1);
    // It goes away with the ping unanswered.
    story.away("a");
    assert_eq!(story.pings_in(10_000), 0);
    assert_eq!((closed(&story, &CloseReason::NO_PONG), story.gauges().0), (0, 1));
    story.back("a");
    assert_eq!(story.pings_in(1_100), 1, "and is looked after again when it is back");
    story.quiet(1_100);
    assert_eq!(closed(&story, &CloseReason::NO_PONG), 1);
}

#[test]
fn what_a_link_keeps_is_on_the_books_until_it_is_known_to_have_arrived() {
    let mut story = story(settings());
    story.keep_sent("a");
    story.back("a");
    story.run("b: pub news 1; pub news 2", "a: news/1=1 news/2=2");
    let kept = waiting(&mut story);
    assert!(kept > 0);
    story.away("a");
    assert_eq!(waiting(&mut story), kept);
    story.run("b: pub news 3", "");
    assert!(waiting(&mut story) > kept, "what waits is on top of it");
    story.got_all("a");
    story.back("a");
    story.expect("a: news/3=3");
    story.got_all("a");
    assert_eq!(waiting(&mut story), 0);
}

#[test]
fn what_a_link_kept_is_off_the_books_however_its_session_ends() {
    for absent in [false, true] {
        let mut story = story(Settings { linger_ms: 1_000, close_ms: 1_000, ..settings() });
        story.keep_sent("a");
        story.back("a");
        story.run("b: pub news 1", "a: news/1=1");
        story.away("a");
        story.run("b: pub news 2", "");
        assert!(waiting(&mut story) > 0);
        match absent {
            true => story.quiet(3_000),
            false => story.gone("a"),
        }
        assert_eq!((story.gauges(), waiting(&mut story)), ((1, 0), 0), "absent: {absent}");
    }
}

#[test]
fn where_old_news_may_be_dropped_the_newest_waits_for_who_is_away() {
    let policy = Policy { overload: Overload::Latest { key: None }, ..open() };
    let mut story = Story::ruled(settings(), Namespaces::one(policy));
    story.run("a: connect; sub ticker", "a: hello ticker@0");
    story.run("b: connect", "b: hello");
    story.away("a");
    for n in 1..=50 {
        story.run(&format!("b: pub ticker {n}"), "");
    }
    story.back("a");
    story.expect("a: ticker/50=50");
}

#[test]
fn nobody_who_is_away_is_stuck() {
    let mut story = Story::with(Settings { stall_ms: 2_000, linger_ms: 300_000, ..settings() });
    story.run("a: connect; sub news", "a: hello news@0");
    story.run("b: connect", "b: hello");
    story.stuck("a");
    story.run("b: pub news 1", "");
    story.quiet(1_000);
    story.away("a");
    story.quiet(10_000);
    assert_eq!(closed(&story, &CloseReason::SLOW), 0);
    story.back("a");
    story.expect("a: news/1=1");
}

#[test]
fn whoever_takes_a_little_now_and_then_is_not_stuck_though_nothing_waits_in_its_outbox() {
    let mut story = Story::with(Settings { stall_ms: 2_000, ..settings() });
    story.run("slow: connect; sub news", "slow: hello news@0");
    story.run("b: connect", "b: hello");
    story.trickle("slow");
    story.run(
        "b: pub news 1; unsub x; pub news 2; unsub x; pub news 3",
        "b: left left | slow: news/1=1 news/2=2 news/3=3",
    );
    for n in 4..=10 {
        story.stuck("slow");
        story.run(&format!("b: pub news {n}"), "");
    }
    for n in 4..10 {
        story.trickle("slow");
        story.expect(&format!("slow: news/{n}={n}"));
        story.quiet(1_500);
    }
    assert_eq!(closed(&story, &CloseReason::SLOW), 0, "it took something every 1.5 s");
    story.quiet(2_500);
    assert_eq!(closed(&story, &CloseReason::SLOW), 1);
}
