//! Who a client is, what it may do, and for how long.

use duplex_core::{CloseReason, Rate, UserId};
use duplex_engine::{Allow, Namespaces, Others, Policy, Settings, Who, Whom};

use crate::support::{Story, open, settings};

fn story(policy: Policy) -> Story {
    Story::ruled(settings(), Namespaces::one(policy))
}

#[test]
fn nothing_is_carried_out_before_connect() {
    let mut story = Story::new();
    story.run("a: sub news; pub news 1; history news", "a: refused101 refused101 refused101");
    story.run("a: connect; sub news; connect", "a: hello news@0 refused107");
}

#[test]
fn whoever_shows_a_bad_token_is_turned_away_with_the_reason() {
    let mut story = Story::new();
    story.run("a: connect forged; sub news", "a: close3500");
    story.run("b: connect expired", "b: close3005");
    assert_eq!(story.gauges().1, 0);
    assert_eq!(story.node().gauges().closed(&CloseReason::INVALID_TOKEN), 1);
}

#[tokio::test(flavor = "local")]
async fn what_is_sent_while_the_token_is_checked_waits_for_it() {
    let mut story = Story::new();
    story.run("a: connect slow; sub news; pub news 1", "");
    story.let_run().await;
    story.expect("a: hello news@0 news/1=1");
    story.run("b: connect slow", "");
    story.gone("b");
    story.let_run().await;
    assert_eq!(story.node().connections("slow"), 1, "the one that is still there");
}

#[test]
fn a_token_that_expires_ends_the_connection_unless_a_new_one_comes() {
    let mut story = Story::with(Settings { expiry_grace_ms: 5_000, ..settings() });
    story.run("a: connect alice+60", "a: hello");
    story.run("b: connect bob+60", "b: hello");
    for _ in 0..12 {
        story.keep_alive(5_000, "");
    }
    story.run("b: refresh bob+60", "b: refreshed");
    story.keep_alive(4_500, "");
    story.keep_alive(700, "a: close3005");
    story.keep_alive(5_000, "a: aborted");
    story.run("b: refresh eve", "b: close3500");
}

#[test]
fn a_user_has_only_so_many_connections() {
    let mut story = Story::with(Settings { connections_per_user: 2, ..settings() });
    story.run("a: connect alice", "a: hello");
    story.run("b: connect alice", "b: hello");
    story.run("c: connect alice", "c: close3504");
    story.run("d: connect bob", "d: hello");
    story.run("e: connect", "e: hello");
    for name in ["b", "c"] {
        story.gone(name);
    }
    story.run("f: connect alice", "f: hello");
    assert_eq!(story.node().connections("alice"), 2);
    for name in ["a", "d", "e", "f"] {
        story.gone(name);
    }
    assert_eq!((story.node().connections("alice"), story.gauges()), (0, (0, 0)));
}

#[test]
fn channels_in_the_token_are_there_from_the_start() {
    let mut story = story(Policy::default());
    story.run("a: connect joiner; pub lobby 1", "a: hello lobby@0 refused103");
    story.run("a: sub other", "a: refused103");
}

#[test]
fn what_is_not_allowed_is_refused_and_a_subscription_token_allows_it() {
    let mut story =
        story(Policy { allow: Allow { publish: Who::Subscriber, ..Allow::all(Who::Token) }, ..open() });
    story.run(
        "a: connect alice; sub news; pub news 1; history news; who news",
        "a: hello refused103 refused103 refused103 refused103",
    );
    story.run(
        "a: sub news with bob@news; sub news with alice@news; pub news 1",
        "a: refused101 news@0 news/1=1",
    );
    story.run("a: unsub news; pub news 2", "a: left refused103");
    assert_eq!(story.gauges().1, 0);
}

#[test]
fn a_user_limited_channel_needs_no_token_and_lets_nobody_else_in() {
    let mut story = story(Policy::default());
    story.run(
        "a: connect alice; sub dm:#alice,bob; pub dm:#alice,bob hi",
        "a: hello dm:#alice,bob@0 dm:#alice,bob/1=hi",
    );
    story.run(
        "b: connect eve; sub dm:#alice,bob; sub dm:#alice,bob with eve@dm:#alice,bob",
        "b: hello refused103 refused103",
    );
    story.run("c: connect; sub dm:#", "c: hello refused103");
}

#[test]
fn an_unknown_namespace_is_refused() {
    let namespaces = Namespaces { others: Others::Refused, ..Namespaces::one(open()) };
    let mut story = Story::ruled(settings(), namespaces);
    story.run("a: connect; sub typo:1; pub typo:1 x; sub plain", "a: hello refused102 refused102 plain@0");
}

#[test]
fn a_namespace_limits_how_much_a_client_publishes_there() {
    let slow = Policy { publications: Some(Rate { per_second: 1, burst: 2 }), ..open() };
    let mut namespaces = Namespaces::one(open());
    namespaces.named.insert("slow".into(), slow.into());
    let mut story = Story::ruled(settings(), namespaces);
    story.run("a: connect; pub slow:a 1; pub slow:b 1; pub slow:a 1; pub news 1", "a: hello refused111");
    story.pass(1_000, "");
    story.run("a: pub slow:a 1; pub slow:a 1", "a: refused111");
}

#[test]
fn the_revoked_leave_at_once_and_the_others_stay() {
    let mut story = Story::new();
    for (client, user) in [("a", "alice"), ("b", "alice"), ("c", "bob")] {
        story.run(&format!("{client}: connect {user}"), &format!("{client}: hello"));
    }
    let alice = UserId::parse("alice").unwrap();
    story.close(&Whom::UserUntil(alice, u64::MAX), &CloseReason::REVOKED, "a: close3507 | b: close3507");
    story.run("c: sub news", "c: news@0");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn calls_are_answered_or_end_in_time_and_only_so_many_are_under_way() {
    let mut story = Story::with(Settings { in_flight: 2, ..settings() });
    story.run(
        "a: connect; call hang x; call hang y; call hang z; pub news 1",
        "a: hello refused111 refused111",
    );
    story.run("a: unsub news", "a: left");
    tokio::time::sleep(std::time::Duration::from_secs(6)).await;
    story.expect("a: refused114 refused114");
    story.run("a: call echo hi", "a: called\"hi\"");
}

#[test]
fn new_settings_and_policies_hold_for_those_who_are_connected() {
    let mut story = Story::new();
    story.run("a: connect; sub news; pub news 1", "a: hello news@0 news/1=1");
    story.reconfigure(Settings { subscriptions: 1, ..settings() }, Namespaces::one(Policy::default()));
    story.run("a: sub more; pub news 2", "a: refused103 refused103");
    story.reconfigure(Settings { subscriptions: 1, ..settings() }, Namespaces::one(open()));
    story.run("a: sub more; pub news 2", "a: refused106 news/2=2");
}
