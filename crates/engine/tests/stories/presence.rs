//! Who is there, and who hears of it.

use duplex_engine::{Namespaces, Policy, Visibility};

use crate::support::{Story, open, settings};

fn story(attendance: Visibility) -> Story {
    Story::ruled(settings(), Namespaces::one(Policy { attendance, ..open() }))
}

#[test]
fn each_watcher_sees_each_client_join_once_and_leave_once() {
    let mut story = story(Visibility::Announced);
    story.run("w: connect watcher; sub room", "w: hello room@0 +watcher/room");
    story.run("a: connect alice; sub room", "a: hello room@0 +alice/room | w: +alice/room");
    story.run("b: connect alice; sub room", "a: +alice/room | b: hello room@0 +alice/room | w: +alice/room");
    story.run("a: who room; count room", "a: room:alice,alice,watcher room:3/2");
    story.run("a: unsub room; unsub room", "a: left left | b: -alice/room | w: -alice/room");
    story.gone("b");
    story.run("w: count room", "w: room:1/1 -alice/room");
    story.run("a: sub room", "a: room@0 +alice/room | w: +alice/room");
    story.send_away(9, "a: close1012 | w: close1012");
}

#[test]
fn who_is_there_is_told_to_those_who_ask_and_to_nobody_else() {
    let mut story = story(Visibility::Asked);
    story.run("a: connect alice; sub room", "a: hello room@0");
    story.run(
        "b: connect; sub room; who room; count room; count empty",
        "b: hello room@0 room:?,alice room:2/1 empty:0/0",
    );
    story.gone("a");
    story.run("b: who room", "b: room:?");
}

#[test]
fn where_presence_is_off_it_is_not_told_at_all() {
    let mut story = story(Visibility::Hidden);
    story.run("a: connect alice; sub room; who room", "a: hello room@0 refused108");
}

#[test]
fn a_client_is_present_exactly_as_long_as_it_is_subscribed() {
    let mut story = story(Visibility::Announced);
    story.run("w: connect watcher; sub room", "w: hello room@0 +watcher/room");
    story.run("a: connect alice; sub room", "a: hello room@0 +alice/room | w: +alice/room");
    story.dead("a");
    story.run("w: pub room 1", "a: aborted | w: room/1=1");
    story.gone("a");
    story.run("w: who room", "w: room:watcher -alice/room");
}
