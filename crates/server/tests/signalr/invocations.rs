//! Invocations (C5): how each is completed, in the words that client tests compare.

use serde_json::{Value, json};

use crate::backend;
use crate::client::{Hub, MANNERS, Manner, everywhere, text};
use crate::options;
use crate::support::http::say;
use crate::support::tokens::{closed, token};

#[test]
fn each_way_to_fail_has_its_words() {
    let (server, _) = backend::start(options());
    for manner in MANNERS {
        let mut hub = Hub::open_by(server.address, manner);
        for (method, error) in [
            ("$nothing", "Unknown hub method '$nothing'"),
            ("$", "Unknown hub method '$'"),
            ("unknown", "Unknown hub method 'unknown'"),
            (
                "stranger",
                "Failed to invoke 'stranger' because user is unauthorized: say who you are (code 101)",
            ),
            (
                "forbidden",
                "Failed to invoke 'forbidden' because user is unauthorized: not for you (code 103)",
            ),
            (
                "broken",
                "An unexpected error occurred invoking 'broken' on the server. HubException: it \"broke\" (code 100)",
            ),
            (
                "other",
                "An unexpected error occurred invoking 'other' on the server. HubException: nothing is known of \"other\" (code 108)",
            ),
        ] {
            assert_eq!(hub.fails(method, json!([])), error);
        }
    }
}

#[test]
fn a_server_without_a_backend_says_so() {
    everywhere(&options(), |hub| {
        for method in ["nobody", "a b", "\u{20ac}", "__proto__", "constructor", "connect", "$Subscribe "] {
            let error = hub.fails(method, json!([1, "two"]));
            if method.starts_with('$') {
                assert_eq!(error, format!("Unknown hub method '{method}'"));
                continue;
            }
            let begins =
                format!("An unexpected error occurred invoking '{method}' on the server. HubException: ");
            assert!(error.starts_with(&begins) && error.ends_with(" (code 108)"), "{error}");
        }
    });
}

#[test]
fn an_answer_is_what_the_backend_said() {
    let (server, _) = backend::start(options());
    for manner in MANNERS {
        let mut hub = Hub::open_by(server.address, manner);
        assert_eq!(hub.call("seven", json!([])), 7);
        assert_eq!(hub.call("list", json!([])), json!([1, [2], { "three": 3 }]));
        for argument in [json!(null), json!(1), json!("two"), json!([3]), json!({ "four": [{}] })] {
            let completion = hub.invoke("echo", json!([argument]));
            assert_eq!(completion.get("result").unwrap_or(&Value::Null), &argument, "{completion}");
        }
        let completion = hub.invoke("nothing", json!([]));
        assert!(completion.get("error").is_none(), "{completion}");
        assert!(completion.get("result").is_none_or(|it| it.is_null() || *it == json!([])), "{completion}");
        let completion = hub.invoke("back", json!(["a", 2]));
        assert_eq!(completion["result"], 1, "{completion}");
        assert_eq!(hub.event("before"), json!(["a", 2]), "it comes before the answer");
    }
}

#[test]
fn what_is_said_before_an_answer_comes_before_it() {
    let (server, _) = backend::start(options());
    let mut hub = Hub::open(server.address);
    hub.send(&json!({ "type": 1, "invocationId": "x", "target": "back", "arguments": [1] }));
    assert_eq!(hub.event("before"), json!([1]));
    assert_eq!(hub.next()["invocationId"], "x");
}

#[test]
fn what_wants_no_answer_gets_none_unless_it_is_refused() {
    let (server, _) = backend::start(options());
    for manner in MANNERS {
        let mut hub = Hub::open_by(server.address, manner);
        let notify = |hub: &mut Hub, method: &str, arguments: Value| {
            hub.send(&json!({ "type": 1, "target": method, "arguments": arguments }));
        };
        notify(&mut hub, "seven", json!([]));
        notify(&mut hub, "$subscribe", json!(["news"]));
        notify(&mut hub, "$publish", json!(["news", "hi", 1]));
        assert_eq!(hub.event("hi"), json!([1]), "nothing else comes");
        for (method, code) in
            [("broken", 100), ("unknown", 104), ("$nothing", 104), ("forbidden", 103), ("other", 108)]
        {
            notify(&mut hub, method, json!([]));
            let arguments = hub.event("$error");
            let told = &arguments[0];
            assert_eq!((&told["code"], &told["event"]), (&json!(code), &json!(method)), "{arguments}");
            assert!(told["message"].is_string(), "{arguments}");
            assert_eq!(arguments.as_array().map(Vec::len), Some(1));
            assert_eq!(told.as_object().map(|keys| keys.len()), Some(3), "{arguments}");
        }
        notify(&mut hub, "$subscribe", json!([""]));
        assert_eq!(hub.event("$error")[0]["event"], "$subscribe");
        assert_eq!(hub.call("seven", json!([])), 7);
    }
}

#[test]
fn an_id_names_one_invocation_at_a_time() {
    let (server, gate) = backend::start(options());
    for manner in MANNERS {
        let mut hub = Hub::open_by(server.address, manner);
        let wait = |id: &str| json!({ "type": 1, "invocationId": id, "target": "wait", "arguments": [id] });
        hub.send(&wait("7"));
        for message in [
            wait("7"),
            json!({ "type": 4, "invocationId": "7", "target": "list", "arguments": [] }),
            json!({ "type": 4, "invocationId": "7", "target": "$subscribe", "arguments": ["news"] }),
        ] {
            hub.send(&message);
            assert_eq!(text(&hub.next(), "error"), "Invocation ID '7' is already in use.");
        }
        gate.open();
        let completion = hub.next();
        assert_eq!((&completion["invocationId"], &completion["result"]), (&json!("7"), &json!("7")));
        // Then it is free.
        gate.open();
        hub.send(&wait("7"));
        assert_eq!(hub.next()["result"], "7");
    }
}

#[test]
fn ids_are_whatever_texts_a_client_likes() {
    everywhere(&options(), |hub| {
        for id in ["0", "-1", "a b", "\u{20ac}\u{1f600}", "\"\\\u{0}\u{1e}", "__proto__", &"x".repeat(300)] {
            hub.send(&json!({ "type": 1, "invocationId": id, "target": "nobody", "arguments": [] }));
            let completion = hub.next();
            assert_eq!(completion["invocationId"], id);
        }
    });
}

#[test]
fn what_is_no_stream_is_not_streamed() {
    everywhere(&options(), |hub| {
        for method in ["$publish", "$broadcast", "$unsubscribe", "$history", "$presence", "$refresh"] {
            let id = hub.fresh_id();
            hub.send(
                &json!({ "type": 4, "invocationId": id, "target": method, "arguments": ["news", "hi"] }),
            );
            let expected = format!(
                "The client attempted to invoke the non-streaming '{method}' method with a streaming invocation."
            );
            assert_eq!(text(&hub.next(), "error"), expected);
        }
        let id = hub.fresh_id();
        hub.send(&json!({ "type": 4, "invocationId": id, "target": "$nothing", "arguments": [] }));
        assert_eq!(text(&hub.next(), "error"), "Unknown hub method '$nothing'");
    });
}

#[test]
fn streams_where_none_belong_are_refused() {
    everywhere(&options(), |hub| {
        for (method, arguments, streams, expected) in [
            ("$subscribe", json!(["news"]), json!(["s1"]), 0),
            ("$history", json!(["news"]), json!(["s1"]), 0),
            ("$publish", json!(["news", "hi"]), json!(["s1", "s2"]), 1),
        ] {
            let id = hub.fresh_id();
            hub.send(&json!({
                "type": 1, "invocationId": id, "target": method, "arguments": arguments, "streamIds": streams,
            }));
            let sent = streams.as_array().map_or(0, Vec::len);
            let words = format!("Client sent {sent} stream(s), Hub method expects {expected}.");
            assert_eq!(text(&hub.next(), "error"), words, "{method}");
            // What comes for them nevertheless does nothing.
            hub.send(&json!({ "type": 2, "invocationId": "s1", "item": 1 }));
            hub.send(&json!({ "type": 3, "invocationId": "s1" }));
        }
        hub.is_well();
    });
}

#[test]
fn answers_come_as_soon_as_they_are_there() {
    let (server, gate) = backend::start(options());
    let mut hub = Hub::open(server.address);
    hub.send(&json!({ "type": 1, "invocationId": "slow", "target": "wait", "arguments": [1] }));
    assert_eq!(hub.call("seven", json!([])), 7, "nobody waits for the slow one");
    hub.hear("news");
    say(server.address, "news", "meanwhile");
    assert_eq!(hub.event("message"), json!(["meanwhile"]));
    gate.open();
    assert_eq!(hub.next()["invocationId"], "slow");
}

#[test]
fn an_answer_for_who_has_gone_is_for_nobody() {
    let (server, gate) = backend::start(options());
    for manner in MANNERS {
        let mut hub = Hub::open_by(server.address, manner);
        hub.send(&json!({ "type": 1, "invocationId": "slow", "target": "wait", "arguments": [1] }));
        hub.leave();
        drop(hub);
        gate.open();
    }
    crate::support::eventually(|| "all are gone".to_owned(), || server.gauges().sessions() == 0);
    // None of the five stands in the way of who comes now.
    let mut hub = Hub::open(server.address);
    assert_eq!(hub.call("seven", json!([])), 7);
}

#[test]
fn a_backend_knows_whose_call_it_is() {
    let (server, _) = backend::start(closed());
    let headers = format!("Authorization: Bearer {}\r\n", token("ann", 60.0));
    for (way, form) in MANNERS {
        let mut hub =
            Hub::open_as(server.address, Manner { way, form, headers: &headers, ..Manner::default() });
        assert_eq!(hub.call("who", json!([])), "ann");
    }
    let mut hub = Hub::open_as(server.address, Manner::default());
    assert!(hub.invoke("who", json!([])).get("result").is_none_or(Value::is_null));
}
