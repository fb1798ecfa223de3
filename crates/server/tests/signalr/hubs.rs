//! Where hubs are, and which channels are theirs.

use serde_json::json;

use crate::client::{Hub, Manner, negotiate, negotiating, once, text};
use crate::support::http::say;
use crate::support::program::{Program, duplex, fails};

#[test]
fn hubs_are_where_they_are_set_and_each_has_its_own_channels() {
    let program = Program::start(&["--signalr-hubs", "/all,/deep/chathub=chat"]);
    let address = program.address;
    assert_eq!(negotiating(address, "/signalr", "?negotiateVersion=1", "").status, 404);
    let mut all = Hub::open_as(address, Manner { hub: "/all", ..Manner::default() });
    let mut chat = Hub::open_as(address, Manner { hub: "/deep/chathub", ..Manner::default() });
    all.hear("chat:lobby");
    chat.hear("lobby");
    say(address, "chat:lobby", "to both");
    say(address, "lobby", "to nobody");
    chat.call("$publish", json!(["lobby", "hi", 1]));
    for hub in [&mut all, &mut chat] {
        assert_eq!(hub.event("message"), json!(["to both"]));
        assert_eq!(hub.event("hi"), json!([1]));
        hub.is_well();
    }
    chat.fails("$subscribe", json!(["other:lobby\u{0}"]));
}

#[test]
fn a_connection_belongs_to_its_hub() {
    let program = Program::start(&["--signalr-hubs", "/a,/b=chat"]);
    let answer = negotiate(program.address, "/a", "?negotiateVersion=1", "");
    let token = text(&answer, "connectionToken");
    for path in ["/b", "/signalr", "/a/b"] {
        let response = once(program.address, "GET", &format!("{path}?id={token}"), "");
        assert_eq!(response.status, 404, "{path}: {response:?}");
    }
    let response = once(program.address, "GET", &format!("/a?id={token}"), "");
    assert_eq!(response.status, 200, "{response:?}");
}

#[test]
fn the_environment_names_hubs_too() {
    let mut command = duplex(&["serve", "--listen", "127.0.0.1:0", "--shards", "2"]);
    command.env("DUPLEX_SIGNALR__HUBS", "/here");
    let program = Program::run(command);
    Hub::open_as(program.address, Manner { hub: "/here", ..Manner::default() }).is_well();
}

#[test]
fn wrong_hubs_are_refused_at_start() {
    for hubs in ["signalr", "/a b", "/a?b", "/a,/a", "/a=", "/a=b:c", "/a/negotiate", "/ws", "/api/v1"] {
        let said = fails(duplex(&["serve", "--listen", "127.0.0.1:0", "--signalr-hubs", hubs]));
        assert!(said.contains("signalr"), "{hubs}: {said}");
    }
}
