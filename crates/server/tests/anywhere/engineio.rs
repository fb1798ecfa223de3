//! Engine.IO and Socket.IO: polls, what is brought, and the way to a WebSocket.

use duplex::Options;
use serde_json::Value;

use crate::polled::{ECHO, IO, Polled, UNKNOWN_SESSION};
use crate::support::Running;
use crate::support::http::say;
use crate::together::{GONE, nodes, options};

/// A client whose session is on one node, and whose requests come in at another.
fn away(home: &Running, node: &Running, target: &str) -> Polled {
    let opened = Polled::open(home.address, target);
    Polled::resume(node.address, &opened.target, &opened.sid)
}

/// The same client, whose requests come in elsewhere from now on.
fn moved(client: &Polled, node: &Running) -> Polled {
    Polled::resume(node.address, &client.target, &client.sid)
}

#[test]
fn a_session_is_polled_and_brought_to_through_another_node() {
    let [home, node] = nodes(&options());
    let mut client = away(&home, &node, ECHO);
    for round in 0..20 {
        client.ask();
        client.say(&format!("4round {round}"));
        assert_eq!(client.answer().body, format!("4round {round}"));
        client.echoes("and back");
    }
    let long = "x".repeat(60_000);
    client.echoes(&long);
    client.say("1");
    client.is_gone();
    drop(client);
    home.settle(GONE);
    node.settle(GONE);
}

#[test]
fn each_request_may_come_in_elsewhere_and_packets_stay_in_order() {
    let nodes: [_; 3] = nodes(&options());
    let mut clients: Vec<Polled> = vec![Polled::open(nodes[0].address, ECHO)];
    clients.extend([&nodes[1], &nodes[2]].map(|node| moved(&clients[0], node)));
    let mut came = Vec::new();
    for n in 0..60 {
        clients[n % 3].say(&format!("4{n}\u{1e}4{n} again"));
        came.extend(clients[(n + 1) % 3].packets(2));
    }
    let expected: Vec<String> = (0..60).flat_map(|n| [format!("4{n}"), format!("4{n} again")]).collect();
    assert_eq!(came, expected);
}

#[test]
fn a_session_goes_over_to_a_websocket_on_another_node() {
    let [home, node] = nodes(&options());
    let mut client = away(&home, &node, ECHO);
    client.echoes("polled");
    client.ask();
    let mut wire = client.probe();
    assert_eq!(client.answer().body, "6", "the poll that waited");
    client.say("4brought");
    wire.send_text("5");
    assert_eq!(wire.text(), "4brought");
    for n in 0..50 {
        wire.send_text(&format!("4{n}"));
        assert_eq!(wire.text(), format!("4{n}"));
    }
    wire.send_text("1");
    wire.wait_for_end();
    client.is_gone();
    drop((client, wire));
    home.settle(GONE);
    node.settle(GONE);
}

#[test]
fn two_polls_at_once_are_as_wrong_as_on_one_node() {
    let nodes: [_; 3] = nodes(&options());
    let mut first = away(&nodes[0], &nodes[1], ECHO);
    let mut second = moved(&first, &nodes[2]);
    first.wait();
    let answers = [second.get(), first.answer()].map(|answer| (answer.status, answer.body));
    // Which of the two came first at the session is not known.
    assert!(answers.contains(&(400, String::new())), "{answers:?}");
    assert!(answers.contains(&(200, "1".to_owned())), "{answers:?}");
    second.is_gone();
}

#[test]
fn a_socket_io_client_without_sticky_sessions() {
    let nodes: [_; 3] = nodes(&options());
    let home = nodes[0].address;
    let mut client = Polled::open(home, IO);
    let mut turn = nodes.iter().cycle();
    let mut next = || turn.next().expect("it goes on for ever");
    for (packet, answer) in [("40", "40{\"sid\":\""), ("420[\"$subscribe\",\"news\"]", "430[{")] {
        client = moved(&client, next());
        client.say(packet);
        client = moved(&client, next());
        let answered = client.poll();
        assert!(answered.starts_with(answer), "{answered}");
    }
    for n in 0..20 {
        say(home, "news", &n.to_string());
        client = moved(&client, next());
        let event = client.poll();
        let event: Value = serde_json::from_str(event.strip_prefix("42").expect("an event")).expect("JSON");
        assert_eq!(event[1], n.to_string(), "{event}");
    }
    client = moved(&client, &nodes[1]);
    let mut wire = client.probe();
    wire.send_text("5");
    say(home, "news", "by WebSocket");
    assert!(wire.text().contains("by WebSocket"));
}

#[test]
fn a_body_that_is_too_long_is_refused_and_the_session_goes_on() {
    let mut options: Options = options();
    options.websocket.message_bytes = 32 << 10;
    let [home, node] = nodes(&options);
    let mut client = away(&home, &node, ECHO);
    let mut own = Polled::open(home.address, ECHO);
    let body = [b"4".as_slice(), &[b'x'; 40 << 10]].concat();
    let (theirs, ours) = (own.post(&body), client.post(&body));
    assert_eq!((ours.status, &ours.body), (theirs.status, &theirs.body));
    // Its connection is used up.
    moved(&client, &node).echoes("still here");
}

#[test]
fn a_session_of_nobody_is_as_unknown_as_ever() {
    let [home, node] = nodes(&options());
    let client = away(&home, &node, ECHO);
    let stranger = format!("{}{}", "A".repeat(20), &client.sid[20..]);
    let mut stranger =
        Polled::resume(node.address, &client.target.replace(&client.sid, &stranger), &stranger);
    stranger.is_gone();
    assert_eq!(stranger.post(b"4x").body, UNKNOWN_SESSION);
}
