//! A node does nothing for so long that the others think it dead, and goes on.

use std::thread;
use std::time::{Duration, Instant};

use duplex_rigs::{Redis, eventually};

use crate::crowd::{Crowd, Doors, Way};
use crate::press::{Press, publish};
use crate::stage::{CHANNEL, nodes_with};
use crate::support::native::Client;
use crate::watcher::{Ids, Watcher, acquainted, nodes_known, present};

#[test]
fn the_others_give_it_up_and_when_it_goes_on_nothing_is_missing_and_nobody_is_present_who_is_not() {
    paused_for(Duration::ZERO);
}

#[test]
#[ignore = "a minute of silence"]
fn the_same_after_a_minute() {
    paused_for(Duration::from_secs(45));
}

/// As long as the others take to give it up, and so much longer.
fn paused_for(longer: Duration) {
    let redis = Redis::start();
    let announced = [("DUPLEX_NAMESPACE__DEFAULT__PRESENCE", "announced")];
    let mut nodes = nodes_with(&redis.url(), 3, "5000", &announced);
    let [paused, one, other] = nodes.addresses()[..] else { unreachable!("there are three") };
    acquainted(&[paused, one, other]);
    let press = Press::start(CHANNEL, &Doors::to(&[one, other]), Duration::from_millis(20));
    let kinds = [(Way::Native, 5), (Way::Events, 5), (Way::Poll, 5)];
    let elsewhere = Crowd::gather(CHANNEL, &Doors::to(&[one, other]), &kinds);
    let mut watchers = [Watcher::at(one, CHANNEL), Watcher::at(other, CHANNEL)];
    let living = present(one, CHANNEL);
    let crowd = Crowd::gather(CHANNEL, &Doors::to(&[paused]), &kinds);
    let staying: Ids = present(one, CHANNEL).difference(&living).cloned().collect();
    let leavers: Vec<Client> = (0..5).map(|_| Client::subscribe(paused, CHANNEL).0).collect();
    eventually("all are present", || present(one, CHANNEL).len() == 15 + 2 + 15 + 5);

    nodes.node(0).program().pause();
    // It takes this when it goes on, and it is published once, although it is repeated elsewhere meanwhile.
    let unanswered = thread::spawn(move || publish(paused, "aside", 1));
    for watcher in &mut watchers {
        watcher.until("they leave", |watcher| watcher.left.len() == 15 + 5);
        assert_eq!(watcher.present, living);
    }
    eventually("the others know that it is gone", || {
        [one, other].iter().all(|at| nodes_known(*at) == (2, 0))
    });
    drop(leavers);
    assert_eq!(publish(one, "aside", 1).expect("an answer"), 200);
    let begin = Instant::now();
    while begin.elapsed() < longer {
        for watcher in &mut watchers {
            let number = watcher.number;
            watcher.until("it goes on elsewhere", |watcher| watcher.number > number);
        }
    }
    nodes.node(0).program().resume();

    let expected: Ids = living.union(&staying).cloned().collect();
    for watcher in &mut watchers {
        watcher.until("those who stayed are back", |watcher| watcher.present == expected);
    }
    for at in [paused, one, other] {
        eventually("all nodes say the same", || present(at, CHANNEL) == expected);
    }
    acquainted(&[paused, one, other]);
    drop(unanswered.join().expect("it does not panic"));
    assert_eq!(publish(paused, "aside", 2).expect("an answer"), 200);
    let aside = Crowd::gather("aside", &Doors::to(&[paused]), &[(Way::Native, 1)]);
    aside.each(|life| assert_eq!(life.offset(), Some(2), "what was repeated was published once"));
    let last = press.stop();
    for watcher in &mut watchers {
        watcher.until("the last number comes", |watcher| watcher.number == last);
        assert_eq!(watcher.present, expected, "nobody leaves or comes for no reason");
    }
    elsewhere.goes_on_to(last);
    elsewhere.each(|life| assert_eq!(life.comings, 1, "{life:?}"));
    crowd.goes_on_to(last);
    crowd.each(|life| assert_eq!(life.comings, 1, "{life:?}"));
}
