//! Many clients over real sockets, all kinds of trouble, and nothing left behind:
//! `cargo test -p duplex --test stress -- --nocapture`.
//!
//! Each scenario checks itself, and then that the server holds no more than before.

#![cfg(target_os = "linux")]

#[path = "../support/mod.rs"]
mod support;

mod arena;
mod channels;
mod people;
mod slow;
mod trouble;
mod life;

use std::time::Instant;

use arena::{Arena, Holdings};

/// A scenario and its name, which is its promise. It returns what it counted.
type Scenario = (&'static str, fn(&Arena) -> String);

const SCENARIOS: &[Scenario] = &[
    ("500 subscribers get everything in order", channels::fan_out),
    ("racing publishers: everyone sees the same order", channels::race),
    ("joining and leaving in the middle of it leaves no ghost", channels::churn),
    ("200 clients that lose their connection get each publication once", channels::reconnect),
    ("who was away too long is told so", channels::too_long),
    ("another epoch is told", channels::epoch),
    ("racing repeats with a key are one publication", channels::idempotent),
    ("pages of history while publishing: no gap, no double", channels::pages),
    ("JSON, MessagePack and Server-Sent Events see one order", channels::forms),
    ("an EventSource comes back for what it missed", channels::event_source),
    ("stalled readers go, healthy ones get everything", slow::stalled),
    ("latest: the newest for each key", slow::latest),
    ("drop_oldest: newer and newer, and the newest", slow::drop_oldest),
    ("a rate per subscriber is kept", slow::paced),
    ("each watcher sees each client join once and leave once", people::presence),
    ("clients that are cut off leave too", people::cut_off),
    ("a token that expires ends its connection", people::expiry),
    ("the revoked go at once and do not come back", people::revoked),
    ("a user has only so many connections", people::connections),
    ("a flood ends, and its neighbours do not notice", trouble::flood),
    ("garbage, halves and giants", trouble::garbage),
    ("1,000 clients come and go", trouble::storm),
    ("1,000 connections that say nothing are cut off", trouble::silence),
    ("a reload in the middle of it loses nothing", life::reload),
    ("a server that stops sends everybody away, spread in time", life::drain),
    ("servers come and go", life::again),
];

#[test]
fn whatever_happened_nothing_is_left() {
    // What a process has once it has had a server: tokio keeps a pair of sockets for signals.
    Arena::open().close();
    let start = Instant::now();
    let before = Holdings::of_this_process();
    {
        let arena = Arena::open();
        for (name, scenario) in SCENARIOS {
            let begin = Instant::now();
            let counted = scenario(&arena);
            arena.settle(name);
            println!("{name:<68} {counted:<42} {:>5.0?}", begin.elapsed());
        }
        arena.close();
    }
    support::eventually(
        || format!("back to {before:?}, now {:?}", Holdings::of_this_process()),
        || Holdings::of_this_process() == before,
    );
    println!(
        "{} scenarios in {:.1?}; {before:?} before and after: no leaks",
        SCENARIOS.len(),
        start.elapsed()
    );
}
