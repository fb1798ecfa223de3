//! A node is asked to end while it has a crowd and much is published, and nodes are replaced one after the other.

use std::net::SocketAddr;
use std::time::Duration;

use duplex_rigs::{Balancer, Mode, Redis, eventually};

use crate::crowd::{Crowd, Doors, Way};
use crate::press::Press;
use crate::stage::{CHANNEL, nodes_with, page};
use crate::support::frames::Incoming;
use crate::support::wire::Wire;
use crate::watcher::acquainted;

/// A node with that many clients at once from one address.
const CROWDED: [(&str, &str); 5] = [
    ("DUPLEX_SERVER__CONNECTIONS_PER_ADDRESS_MAX", "100000"),
    ("DUPLEX_SERVER__CONNECTIONS_PER_ADDRESS_PER_SECOND", "100000"),
    ("DUPLEX_SERVER__CONNECTIONS_PER_ADDRESS_BURST", "100000"),
    ("DUPLEX_SERVER__CLIENTS_PER_SECOND", "100000"),
    ("DUPLEX_DRAIN__SPREAD", "2s"),
];

#[test]
fn each_of_its_clients_is_told_and_loses_nothing() {
    drained(&[(Way::Native, 1_600), (Way::Events, 200), (Way::Poll, 200)]);
}

#[test]
#[ignore = "each of two processes holds 10,000 connections"]
fn each_of_ten_thousand_clients_is_told_and_loses_nothing() {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: files.maximum, ..files };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).expect("it may be raised so far");
    drained(&[(Way::Native, 9_000), (Way::Events, 750), (Way::Poll, 250)]);
}

fn drained(kinds: &[(Way, usize)]) {
    let redis = Redis::start();
    let mut nodes = nodes_with(&redis.url(), 2, "5000", &CROWDED);
    let [ends, stays] = nodes.addresses()[..] else { unreachable!("there are two") };
    acquainted(&[ends, stays]);
    let doors = Doors::to(&[ends]);
    let crowd = Crowd::gather(CHANNEL, &doors, kinds);
    let (mut socketio, mut signalr) = (socketio(ends), signalr(ends));
    let publishers = Doors::to(&[ends, stays]);
    // Ten thousand deliveries a second, which these clients can bear.
    let clients: usize = kinds.iter().map(|(_, count)| count).sum();
    let press = Press::start(CHANNEL, &publishers, Duration::from_millis(clients as u64 / 10));
    crowd.until("they get what is published", |life| life.got.len() > 1);

    doors.lead_to(&[stays]);
    let node = nodes.node(0).program();
    node.stop();
    assert_eq!(node.succeeded(), Some(true), "{}", node.said());
    assert!(node.said().contains("stopped: all clients have left"), "{}", node.said());
    crowd.until("they came back", |life| life.comings == 2);
    let last = press.stop();
    crowd.has_got_all(last);
    crowd.each(|life| assert_eq!((life.comings, &life.told[..]), (2, &[1012][..]), "{life:?}"));
    let ending = socketio.until_end();
    assert!(matches!(ending[..], [Incoming::Close(..), Incoming::End] | [Incoming::Close(..)]), "{ending:?}");
    let ending = signalr.until_end();
    let comes_back = "{\"type\":7,\"allowReconnect\":true}\u{1e}";
    assert!(ending.iter().any(|frame| *frame == Incoming::Text(comes_back.into())), "{ending:?}");
}

/// A client of Socket.IO.
fn socketio(address: SocketAddr) -> Wire {
    let mut wire = Wire::websocket(address, "/socket.io/?EIO=4&transport=websocket", "");
    assert!(wire.text().starts_with("0{"));
    wire.send_text("40");
    assert!(wire.text().starts_with("40{"));
    wire
}

/// A client of SignalR.
fn signalr(address: SocketAddr) -> Wire {
    let mut wire = Wire::websocket(address, "/signalr", "");
    wire.send_text("{\"protocol\":\"json\",\"version\":1}\u{1e}");
    assert_eq!(wire.text(), "{}\u{1e}");
    wire
}

#[test]
fn replaced_one_after_the_other_nothing_is_lost_and_clients_come_back_twice_at_most() {
    let redis = Redis::start();
    let mut nodes = nodes_with(&redis.url(), 3, "5000", &CROWDED);
    let addresses = nodes.addresses();
    acquainted(&addresses);
    let balancer = Balancer::start(Mode::Requests, &addresses);
    let doors = Doors::to(&[balancer.address()]);
    let crowd = Crowd::gather(CHANNEL, &doors, &[(Way::Native, 60), (Way::Events, 20), (Way::Poll, 20)]);
    let press = Press::start(CHANNEL, &doors, Duration::from_millis(20));
    for number in 0..addresses.len() {
        // Who is sent away goes to nodes that were replaced before, as soon as there are any.
        match number {
            0 => balancer.set_backends(&addresses[1..]),
            _ => balancer.set_backends(&addresses[..number]),
        }
        let node = nodes.node(number);
        node.program().stop();
        assert_eq!(node.program().succeeded(), Some(true), "{}", node.said());
        node.start_again();
        // Who was sent away is back before the next one goes.
        crowd.until("they are there", |life| life.is_there);
    }
    balancer.set_backends(&addresses);
    eventually("all are ready", || addresses.iter().all(|address| page(*address, "/readyz").0 == 200));
    let last = press.stop();
    crowd.has_got_all(last);
    crowd.each(|life| {
        assert!((2..=3).contains(&life.comings), "{life:?}");
        assert_eq!(life.told, vec![1012; life.comings - 1], "{life:?}");
    });
}
