//! Streams that go down (C6): a channel as a stream, with positions, and answers of a backend, item by item.

use serde_json::{Value, json};

use crate::backend;
use crate::client::{Hub, MANNERS, Manner, Way, everywhere, text};
use crate::options;
use crate::support::http::{publish, say};
use crate::support::{Levels, eventually, keeping, start};

/// Asks for a stream under this id.
pub fn stream(hub: &mut Hub, id: &str, method: &str, arguments: Value) {
    hub.send(&json!({ "type": 4, "invocationId": id, "target": method, "arguments": arguments }));
}

/// The next message must be an item of this stream.
pub fn item(hub: &mut Hub, id: &str) -> Value {
    let message = hub.next();
    assert_eq!((&message["type"], &message["invocationId"]), (&json!(2), &json!(id)), "{message}");
    message["item"].clone()
}

/// The next message must be the end of this stream, and all went well.
fn completes(hub: &mut Hub, id: &str) {
    let message = hub.next();
    assert_eq!((&message["type"], &message["invocationId"]), (&json!(3), &json!(id)), "{message}");
    // Its client fails on a result.
    assert!(message.get("error").is_none() && message.get("result").is_none_or(Value::is_null), "{message}");
}

fn cancel(hub: &mut Hub, id: &str) {
    hub.send(&json!({ "type": 5, "invocationId": id }));
}

#[test]
fn a_channel_comes_as_the_frames_of_the_native_protocol() {
    everywhere(&keeping(10), |hub| {
        let channel = format!("as {:?} {:?}", hub.way, hub.form);
        stream(hub, "s", "$subscribe", json!([channel]));
        let first = item(hub, "s");
        let epoch = text(&first["subscribed"], "epoch");
        let position = first["subscribed"]["offset"].as_u64().expect("an offset");
        assert_eq!(
            first,
            json!({ "subscribed": { "channel": channel, "epoch": epoch, "offset": position } })
        );
        let body = json!({ "channel": channel, "event": "hi", "args": [1, 2], "tags": { "a": "b" } });
        publish(hub.address, &body.to_string());
        let mut frame = item(hub, "s");
        assert!(frame["publication"]["time"].is_u64(), "{frame}");
        frame["publication"].as_object_mut().expect("an object").remove("time");
        let publication = json!({
            "channel": channel, "epoch": epoch, "offset": position + 1, "event": "hi", "args": [1, 2],
            "tags": { "a": "b" },
        });
        assert_eq!(frame, json!({ "publication": publication }));
        hub.call("$publish", json!([channel, "ho", 7]));
        let publication = &item(hub, "s")["publication"];
        assert_eq!((&publication["data"], &publication["client"]), (&json!(7), &json!(hub.connection)));
        cancel(hub, "s");
        completes(hub, "s");
        say(hub.address, &channel, "for nobody");
        hub.is_well();
    });
}

#[test]
fn a_stream_begins_where_its_reader_was() {
    everywhere(&keeping(10), |hub| {
        let channel = format!("since {:?} {:?}", hub.way, hub.form);
        let first = say(hub.address, &channel, "0");
        (1..4).for_each(|number| drop(say(hub.address, &channel, &number.to_string())));
        let since = json!({ "epoch": first["epoch"], "offset": first["offset"] });
        stream(hub, "s", "$subscribe", json!([channel, { "since": since }]));
        assert_eq!(item(hub, "s")["subscribed"]["recovered"], true);
        say(hub.address, &channel, "4");
        for expected in ["1", "2", "3", "4"] {
            assert_eq!(item(hub, "s")["publication"]["data"], expected);
        }
        cancel(hub, "s");
        completes(hub, "s");
        stream(hub, "t", "$subscribe", json!([channel, { "since": { "epoch": "beef", "offset": 1 } }]));
        assert_eq!(item(hub, "t")["subscribed"]["recovered"], false);
        cancel(hub, "t");
        completes(hub, "t");
    });
}

#[test]
fn who_unsubscribes_has_its_stream_completed() {
    everywhere(&options(), |hub| {
        stream(hub, "s", "$subscribe", json!(["news"]));
        item(hub, "s");
        hub.send(&json!({ "type": 1, "invocationId": "u", "target": "$unsubscribe", "arguments": ["news"] }));
        let mut came = [hub.next(), hub.next()];
        came.sort_by_key(|message| text(message, "invocationId"));
        assert_eq!(
            (&came[0]["invocationId"], &came[1]["invocationId"]),
            (&json!("s"), &json!("u")),
            "{came:?}"
        );
        assert_eq!(came[1]["result"], json!({ "channel": "news" }));
        assert!(came[0].get("error").is_none(), "{came:?}");
        // It may come back, as stream or as not.
        hub.hear("news");
        hub.call("$unsubscribe", json!(["news"]));
        stream(hub, "s", "$subscribe", json!(["news"]));
        item(hub, "s");
        cancel(hub, "s");
        completes(hub, "s");
    });
}

#[test]
fn a_channel_is_subscribed_once_however_that_was_done() {
    everywhere(&options(), |hub| {
        stream(hub, "s", "$subscribe", json!(["news"]));
        item(hub, "s");
        assert!(hub.fails("$subscribe", json!(["news"])).ends_with("(code 105)"));
        stream(hub, "t", "$subscribe", json!(["news"]));
        assert!(text(&hub.next(), "error").ends_with("(code 105)"));
        say(hub.address, "news", "once");
        assert_eq!(item(hub, "s")["publication"]["data"], "once");
        cancel(hub, "s");
        completes(hub, "s");
    });
}

#[test]
fn a_stream_that_cannot_be_is_completed_with_the_error() {
    everywhere(&options(), |hub| {
        for (arguments, code) in
            [(json!([""]), 107), (json!([]), 107), (json!([7]), 107), (json!(["a", 7]), 107)]
        {
            stream(hub, "s", "$subscribe", arguments);
            let error = text(&hub.next(), "error");
            assert!(
                error.starts_with(
                    "An unexpected error occurred invoking '$subscribe' on the server. HubException: "
                ),
                "{error}"
            );
            assert!(error.ends_with(&format!("(code {code})")), "{error}");
        }
        hub.is_well();
    });
}

#[test]
fn a_cancelled_stream_is_completed_once_and_what_is_nobodys_is_passed_over() {
    everywhere(&options(), |hub| {
        cancel(hub, "never was");
        stream(hub, "s", "$subscribe", json!(["news"]));
        item(hub, "s");
        cancel(hub, "s");
        cancel(hub, "s");
        completes(hub, "s");
        cancel(hub, "s");
        hub.is_well();
        // Asked for and cancelled in one breath.
        let ask = json!({ "type": 4, "invocationId": "t", "target": "$subscribe", "arguments": ["news"] });
        hub.send_all(&[ask, json!({ "type": 5, "invocationId": "t" })]);
        loop {
            let message = hub.next();
            if message["type"] == 3 {
                break;
            }
            assert_eq!(message["type"], 2, "{message}");
        }
        hub.is_well();
        hub.hear("news");
    });
}

#[test]
fn several_streams_and_subscriptions_each_have_their_own() {
    everywhere(&options(), |hub| {
        for channel in ["a", "b", "c"] {
            stream(hub, channel, "$subscribe", json!([channel]));
            item(hub, channel);
        }
        hub.hear("d");
        for round in 0..5 {
            for channel in ["a", "b", "c"] {
                say(hub.address, channel, &round.to_string());
                assert_eq!(item(hub, channel)["publication"]["data"], round.to_string());
            }
            say(hub.address, "d", &round.to_string());
            assert_eq!(hub.event("message"), json!([round.to_string()]));
        }
        for channel in ["a", "b", "c"] {
            cancel(hub, channel);
            completes(hub, channel);
        }
        hub.is_well();
    });
}

#[test]
fn what_a_backend_answers_is_streamed_item_by_item() {
    let (server, gate) = backend::start(options());
    for manner in MANNERS {
        let mut hub = Hub::open_by(server.address, manner);
        stream(&mut hub, "s", "list", json!([]));
        for expected in [json!(1), json!([2]), json!({ "three": 3 })] {
            assert_eq!(item(&mut hub, "s"), expected);
        }
        completes(&mut hub, "s");
        stream(&mut hub, "s", "seven", json!([]));
        assert_eq!(item(&mut hub, "s"), 7);
        completes(&mut hub, "s");
        stream(&mut hub, "s", "nothing", json!([]));
        completes(&mut hub, "s");
        for (method, error) in [
            ("unknown", "Unknown hub method 'unknown'"),
            (
                "forbidden",
                "Failed to invoke 'forbidden' because user is unauthorized: not for you (code 103)",
            ),
        ] {
            stream(&mut hub, "s", method, json!([]));
            assert_eq!(text(&hub.next(), "error"), error);
        }
        // One that waits is cancelled: it is completed, and what the backend says then is for nobody.
        stream(&mut hub, "slow", "wait", json!([1]));
        cancel(&mut hub, "slow");
        completes(&mut hub, "slow");
        gate.open();
        assert_eq!(hub.call("seven", json!([])), 7);
    }
}

#[test]
fn streams_end_with_their_connection() {
    let server = start(options());
    for manner in MANNERS {
        let mut hub = Hub::open_by(server.address, manner);
        for channel in ["a", "b"] {
            stream(&mut hub, channel, "$subscribe", json!([channel]));
            item(&mut hub, channel);
        }
        eventually(|| "two subscriptions".to_owned(), || server.gauges().subscriptions() == 2);
        hub.leave();
        drop(hub);
        server.settle(Levels::of(0, 0));
    }
}

#[test]
fn who_comes_and_goes_is_told_in_the_stream() {
    let mut options = options();
    let namespace = options.namespaces.get_mut("default").expect("the default");
    namespace.attendance = Some(duplex::Visibility::Announced);
    let server = start(options);
    for (way, form) in MANNERS {
        let mut hub = Hub::open_as(server.address, Manner { way, form, ..Manner::default() });
        stream(&mut hub, "s", "$subscribe", json!(["room"]));
        item(&mut hub, "s");
        assert_eq!(item(&mut hub, "s")["joined"]["client"], hub.connection);
        let mut other = Hub::open_by(server.address, (Way::Ws, form));
        other.hear("room");
        assert_eq!(item(&mut hub, "s")["joined"]["client"], other.connection);
        other.leave();
        assert_eq!(item(&mut hub, "s")["left"]["client"], other.connection);
        hub.leave();
        drop((hub, other));
        server.settle(Levels::of(0, 0));
    }
}
