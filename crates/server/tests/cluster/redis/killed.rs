//! A node is killed while much is published.

use std::thread;
use std::time::Duration;

use duplex_rigs::{Redis, eventually};

use crate::crowd::{Crowd, Doors, Way};
use crate::press::Press;
use crate::stage::{CHANNEL, nodes_with};
use crate::watcher::{Ids, Watcher, acquainted, present};

/// Longer than it takes each of the others to look for dead nodes once more.
const ANOTHER_LOOK: Duration = Duration::from_secs(4);

#[test]
fn its_clients_lose_nothing_elsewhere_and_everybody_hears_once_that_they_left() {
    let redis = Redis::start();
    let announced = [("DUPLEX_NAMESPACE__DEFAULT__PRESENCE", "announced")];
    let mut nodes = nodes_with(&redis.url(), 3, "5000", &announced);
    let [dead, one, other] = nodes.addresses()[..] else { unreachable!("there are three") };
    acquainted(&[dead, one, other]);
    let press = Press::start(CHANNEL, &Doors::to(&[dead, one, other]), Duration::from_millis(10));
    let kinds = [(Way::Native, 5), (Way::Events, 5), (Way::Poll, 5)];
    let stayed = Crowd::gather(CHANNEL, &Doors::to(&[one, other]), &kinds);
    let mut watchers = [Watcher::at(one, CHANNEL), Watcher::at(other, CHANNEL)];
    let living = present(one, CHANNEL);
    assert_eq!(living.len(), 15 + 2);
    let doors = Doors::to(&[dead]);
    let moved = Crowd::gather(CHANNEL, &doors, &kinds);
    let ghosts: Ids = present(one, CHANNEL).difference(&living).cloned().collect();
    assert_eq!(ghosts.len(), 15);

    doors.lead_to(&[one, other]);
    nodes.node(0).program().kill9();
    moved.until("they came back", |life| life.comings == 2);
    for watcher in &mut watchers {
        watcher.until("ghosts leave", |watcher| ghosts.iter().all(|ghost| watcher.left.contains_key(ghost)));
    }
    eventually("the dead node is forgotten", || redis.cli(&["ZCARD", "duplex:nodes"]) == "2");
    thread::sleep(ANOTHER_LOOK);
    let last = press.stop();
    for watcher in &mut watchers {
        watcher.until("the last number comes", |watcher| watcher.number == last);
        assert!(watcher.left.keys().eq(&ghosts), "nobody else left: {:?}", watcher.left);
        assert!(watcher.left.values().all(|times| *times == 1), "each left once: {:?}", watcher.left);
        assert_eq!(watcher.present.len(), 15 + 2 + 15);
        assert!(watcher.present.is_superset(&living));
        assert!([one, other].iter().all(|node| present(*node, CHANNEL) == watcher.present));
    }
    // Each has got everything from where it began.
    for crowd in [&stayed, &moved] {
        crowd.goes_on_to(last);
    }
    stayed.each(|life| assert_eq!(life.comings, 1, "{life:?}"));
}
