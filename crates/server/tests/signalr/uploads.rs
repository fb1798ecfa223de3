//! Streams that go up (C6): items become publications, or arguments of a call.

use duplex::Options;
use duplex_websocket::Limits;
use serde_json::{Value, json};

use crate::backend;
use crate::client::{Form, Hub, MANNERS, Way, everywhere, text};
use crate::messages::{binary, plain};
use crate::options;
use crate::support::start;

/// Invokes a method with streams.
fn invoke(hub: &mut Hub, id: &str, method: &str, arguments: Value, streams: Value) {
    hub.send(&json!({
        "type": 1, "invocationId": id, "target": method, "arguments": arguments, "streamIds": streams,
    }));
}

fn item(hub: &mut Hub, stream: &str, item: Value) {
    hub.send(&json!({ "type": 2, "invocationId": stream, "item": item }));
}

fn end(hub: &mut Hub, stream: &str) {
    hub.send(&json!({ "type": 3, "invocationId": stream }));
}

#[test]
fn each_item_is_a_publication_and_the_answer_says_how_many() {
    everywhere(&options(), |hub| {
        let channel = format!("up {:?} {:?}", hub.way, hub.form);
        let mut other = Hub::open(hub.address);
        other.hear(&channel);
        let position = hub.hear(&channel);
        let before = position["offset"].as_u64().expect("an offset");
        let items = [json!(1), json!("two"), json!([3]), json!({ "four": null }), json!(null)];
        invoke(hub, "i", "$publish", json!([channel, "hi"]), json!(["s"]));
        for value in &items {
            item(hub, "s", value.clone());
            assert_eq!(other.event("hi"), json!([value]), "it does not wait for the end");
            assert_eq!(hub.event("hi"), json!([value]));
        }
        end(hub, "s");
        let completion = hub.next();
        let expected =
            json!({ "channel": channel, "epoch": position["epoch"], "offset": before + 5, "count": 5 });
        assert_eq!((&completion["invocationId"], &completion["result"]), (&json!("i"), &expected));
        // Without an item there is nothing to name.
        invoke(hub, "i", "$publish", json!([channel, "hi"]), json!(["s"]));
        end(hub, "s");
        assert_eq!(hub.next()["result"], json!({ "channel": channel, "count": 0 }));
        other.leave();
    });
}

#[test]
fn items_may_come_in_one_piece_with_all_else() {
    everywhere(&options(), |hub| {
        hub.hear("news");
        let mut messages = vec![
            json!({ "type": 1, "invocationId": "i", "target": "$publish", "arguments": ["news", "n"], "streamIds": ["s"] }),
        ];
        messages.extend((0..50).map(|number| json!({ "type": 2, "invocationId": "s", "item": number })));
        messages.push(json!({ "type": 3, "invocationId": "s" }));
        hub.send_all(&messages);
        let completion = hub.completion("i");
        assert_eq!(completion["result"]["count"], 50, "{completion}");
        for number in 0..50 {
            assert_eq!(hub.event("n"), json!([number]));
        }
    });
}

#[test]
fn what_is_broadcast_in_a_stream_is_for_the_others() {
    everywhere(&options(), |hub| {
        hub.hear("news");
        let mut other = Hub::open(hub.address);
        other.hear("news");
        invoke(hub, "i", "$broadcast", json!(["news", "hi"]), json!(["s"]));
        item(hub, "s", json!(1));
        item(hub, "s", json!(2));
        end(hub, "s");
        assert_eq!(hub.next()["result"]["count"], 2);
        assert_eq!([other.event("hi"), other.event("hi")], [json!([1]), json!([2])]);
        other.leave();
    });
}

#[test]
fn a_refused_item_fails_all_of_it_and_the_rest_is_passed_over() {
    let mut options = options();
    options.namespaces.get_mut("default").expect("the default").policy.payload_bytes = 100;
    everywhere(&options, |hub| {
        hub.hear("news");
        invoke(hub, "i", "$publish", json!(["news", "hi"]), json!(["s"]));
        item(hub, "s", json!("fits"));
        assert_eq!(hub.event("hi"), json!(["fits"]));
        item(hub, "s", json!("x".repeat(200)));
        let error = text(&hub.next(), "error");
        assert!(
            error.starts_with("An unexpected error occurred invoking '$publish' on the server."),
            "{error}"
        );
        item(hub, "s", json!("late"));
        end(hub, "s");
        hub.is_well();
        // One that never may be anything.
        invoke(hub, "i", "$publish", json!(["news", "connect"]), json!(["s"]));
        item(hub, "s", json!(1));
        let error = text(&hub.next(), "error");
        assert!(error.ends_with("(code 107)"), "{error}");
        end(hub, "s");
        hub.is_well();
    });
}

#[test]
fn a_stream_that_ends_with_an_error_fails_its_invocation_with_it() {
    everywhere(&options(), |hub| {
        invoke(hub, "i", "$publish", json!(["news", "hi"]), json!(["s"]));
        item(hub, "s", json!(1));
        hub.send(&json!({ "type": 3, "invocationId": "s", "error": "the file is gone" }));
        let error = text(&hub.next(), "error");
        assert!(error.contains("the file is gone"), "{error}");
        item(hub, "s", json!(2));
        hub.is_well();
    });
}

#[test]
fn a_call_has_its_streams_behind_its_arguments() {
    let (server, _) = backend::start(options());
    for manner in MANNERS {
        let mut hub = Hub::open_by(server.address, manner);
        invoke(&mut hub, "i", "list", json!([]), json!(["s"]));
        end(&mut hub, "s");
        assert_eq!(hub.next()["result"], json!([1, [2], { "three": 3 }]));
        invoke(&mut hub, "i", "echo", json!(["a", 2]), json!(["s", "t"]));
        item(&mut hub, "t", json!("t1"));
        item(&mut hub, "s", json!("s1"));
        item(&mut hub, "s", json!({ "s": 2 }));
        end(&mut hub, "s");
        hub.call("seven", json!([]));
        item(&mut hub, "t", json!("t2"));
        end(&mut hub, "t");
        let completion = hub.next();
        assert_eq!(completion["result"], json!(["a", 2, ["s1", { "s": 2 }], ["t1", "t2"]]), "{completion}");
        // A stream up and a stream down at once.
        hub.send(&json!({
            "type": 4, "invocationId": "j", "target": "echo", "arguments": [1], "streamIds": ["s"],
        }));
        item(&mut hub, "s", json!("up"));
        end(&mut hub, "s");
        let came = [hub.next(), hub.next(), hub.next()].map(|message| message.get("item").cloned());
        assert_eq!(came, [Some(json!(1)), Some(json!(["up"])), None]);
    }
}

#[test]
fn what_waits_for_a_call_has_a_limit() {
    let (server, _) = backend::start(Options {
        websocket: Limits { message_bytes: 2_000, ..Limits::default() },
        ..options()
    });
    for manner in MANNERS {
        let mut hub = Hub::open_by(server.address, manner);
        invoke(&mut hub, "i", "echo", json!([]), json!(["s"]));
        for _ in 0..4 {
            item(&mut hub, "s", json!("x".repeat(800)));
        }
        let completion = hub.completion("i");
        assert!(completion["error"].is_string(), "{completion}");
        end(&mut hub, "s");
        assert_eq!(hub.call("seven", json!([])), 7);
    }
}

#[test]
fn binary_items_go_up_as_they_are() {
    let server = start(options());
    let mut packed = Hub::open_by(server.address, (Way::Ws, Form::Packed));
    let mut json = Hub::open(server.address);
    packed.hear("news");
    json.hear("news");
    let bytes = binary(&[1, 2, 3]);
    invoke(&mut packed, "i", "$publish", json!(["news", "pic"]), json!(["s"]));
    item(&mut packed, "s", bytes.clone());
    assert_eq!(packed.event("pic"), json!([bytes]));
    assert_eq!(json.event("pic"), json!([plain(&bytes)]));
    end(&mut packed, "s");
    assert_eq!(packed.next()["result"]["count"], 1);
}

#[test]
fn what_is_nobodys_stream_is_passed_over() {
    everywhere(&options(), |hub| {
        hub.hear("news");
        for id in ["nobodys", "__proto__", "0"] {
            item(hub, id, json!({ "a": [1] }));
            end(hub, id);
            hub.send(&json!({ "type": 3, "invocationId": id, "error": "x" }));
        }
        // Ended twice, and used again.
        invoke(hub, "i", "$publish", json!(["news", "hi"]), json!(["s"]));
        end(hub, "s");
        end(hub, "s");
        assert_eq!(hub.next()["result"]["count"], 0);
        invoke(hub, "j", "$publish", json!(["news", "hi"]), json!(["s"]));
        item(hub, "s", json!(1));
        assert_eq!(hub.event("hi"), json!([1]));
        end(hub, "s");
        assert_eq!(hub.next()["result"]["count"], 1);
        hub.is_well();
    });
}

#[test]
fn an_invocation_without_an_id_may_have_a_stream() {
    everywhere(&options(), |hub| {
        hub.hear("news");
        hub.send(
            &json!({ "type": 1, "target": "$publish", "arguments": ["news", "hi"], "streamIds": ["s"] }),
        );
        item(hub, "s", json!(1));
        item(hub, "s", json!(2));
        end(hub, "s");
        assert_eq!([hub.event("hi"), hub.event("hi")], [json!([1]), json!([2])]);
        hub.is_well();
    });
}

#[test]
fn uploads_end_with_their_connection() {
    let (server, _) = backend::start(options());
    for manner in MANNERS {
        let mut hub = Hub::open_by(server.address, manner);
        invoke(&mut hub, "i", "$publish", json!(["news", "hi"]), json!(["s"]));
        invoke(&mut hub, "j", "echo", json!([]), json!(["t"]));
        item(&mut hub, "t", json!("x".repeat(1_000)));
        hub.leave();
    }
    crate::support::eventually(|| "all are gone".to_owned(), || server.gauges().sessions() == 0);
}
