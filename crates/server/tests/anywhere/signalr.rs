//! SignalR: a token that one node gave is good on each.

use duplex_websocket::Opcode;
use serde_json::json;

use crate::client::{HUB, Hub, MANNERS, Manner, Reconnect, UNKNOWN, Way, negotiate, once, text, told};
use crate::messages::{read, write};
use crate::support::http::say;
use crate::together::{GONE, nodes, options};

#[test]
fn a_connection_is_served_through_another_node_over_each_transport() {
    let [home, away] = nodes(&options());
    for (way, form) in MANNERS {
        println!("{way:?} {form:?}");
        let via = Some(away.address);
        let mut hub = Hub::open_as(home.address, Manner { way, form, via, ..Manner::default() });
        hub.hear("news");
        for n in 0..20 {
            say(home.address, "news", &n.to_string());
            assert_eq!(hub.event("message")[0], n.to_string());
            hub.is_well();
        }
        hub.leave();
    }
    home.settle(GONE);
    away.settle(GONE);
}

#[test]
fn each_request_may_come_in_elsewhere() {
    let nodes: [_; 3] = nodes(&options());
    let manner = Manner { way: Way::Poll, via: Some(nodes[1].address), ..Manner::default() };
    let mut hub = Hub::open_as(nodes[0].address, manner);
    hub.hear("news");
    for n in 0..30 {
        hub.address = nodes[n % 3].address;
        hub.down = hub.wire();
        say(nodes[0].address, "news", &n.to_string());
        hub.address = nodes[(n + 1) % 3].address;
        let ping = write(hub.form, &json!({ "type": 6 }));
        assert_eq!(told(&hub.post_anew(&ping)), (200, ""));
        assert_eq!(hub.event("message")[0], n.to_string());
    }
    hub.leave();
    hub.is_gone();
}

#[test]
fn a_stateful_connection_is_resumed_on_another_node() {
    let nodes: [_; 3] = nodes(&options());
    let manner = Manner { via: Some(nodes[1].address), reconnect: Reconnect::Stateful, ..Manner::default() };
    let mut hub = Hub::open_as(nodes[0].address, manner);
    hub.hear("news");
    // It has said one message that counts before.
    for (n, said) in (1..7).enumerate() {
        let name = |part: &str| format!("{part} {n}");
        say(nodes[0].address, "news", &name("before"));
        assert_eq!(hub.event("message")[0], name("before"));
        // What it has not said that it has is sent again.
        hub.send(&json!({ "type": 8, "sequenceId": hub.taken }));
        hub.address = nodes[n % 3].address;
        let wire = hub.wire();
        std::mem::replace(&mut hub.down, wire).reset();
        say(nodes[0].address, "news", &name("meanwhile"));
        let (wire, response) = hub.upgrade("");
        assert_eq!(response.status, 101, "{response:?}");
        hub.down = wire;
        let sequence = write(hub.form, &json!({ "type": 9, "sequenceId": said + 1 }));
        hub.down.send_frame(Opcode::Text, &sequence);
        resumed(&mut hub);
        assert_eq!(hub.event("message")[0], name("meanwhile"));
        hub.is_well();
    }
}

/// Takes the server's word on where it goes on, and passes over what is sent again: of what was acknowledged just before the
/// socket was reset, the server may not know.
fn resumed(hub: &mut Hub) {
    let payload = hub.payload().expect("the server's word");
    let [word] = &read(hub.form, &payload)[..] else { panic!("it is not alone") };
    assert_eq!(word["type"], 9, "{word}");
    let first = word["sequenceId"].as_u64().expect("a number");
    assert!(first >= 1 && first <= hub.taken + 1, "{first} is said after {} were taken", hub.taken);
    // They were judged when they came first.
    let mut again = hub.taken + 1 - first;
    while again > 0 {
        for message in read(hub.form, &hub.payload().expect("what is sent again")) {
            let is_counted = message["type"].as_u64().is_some_and(|kind| kind <= 5);
            if is_counted && again > 0 {
                again -= 1;
            } else {
                hub.checker.judge(&message);
                hub.early.push_back(message);
            }
        }
    }
}

#[test]
fn only_who_shows_a_right_token_is_sent_on() {
    let [home, away] = nodes(&options());
    let token = text(&negotiate(home.address, HUB, "?negotiateVersion=1", ""), "connectionToken");
    let changed = format!("{}{}", if token.starts_with('A') { 'B' } else { 'A' }, &token[1..]);
    for method in ["GET", "POST", "DELETE"] {
        let refused = once(away.address, method, &format!("{HUB}?id={changed}"), "");
        assert_eq!(told(&refused), (404, UNKNOWN), "{method}");
    }
    let begun = once(away.address, "GET", &format!("{HUB}?id={token}"), "");
    assert_eq!(told(&begun), (200, ""), "the token as it was");
}
