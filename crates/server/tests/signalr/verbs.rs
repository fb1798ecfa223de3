//! The verbs of a server without a backend, and how publications reach clients.

use serde_json::{Value, json};

use crate::client::{Hub, MANNERS, Manner, everywhere};
use crate::options;
use crate::support::http::{publish, say};
use crate::support::native::Client;
use crate::support::{Levels, keeping, start};

#[test]
fn each_way_to_publish_reads_as_an_invocation_with_its_arguments() {
    let server = start(options());
    for manner in MANNERS {
        let mut hub = Hub::open_by(server.address, manner);
        hub.hear("news");
        for (publication, target, arguments) in [
            (json!({ "data": "hello" }), "message", json!(["hello"])),
            (json!({ "event": "hi", "data": { "a": [1, 2] } }), "hi", json!([{ "a": [1, 2] }])),
            (json!({ "event": "hi", "data": null }), "hi", json!([null])),
            (json!({ "event": "hi", "args": [] }), "hi", json!([])),
            (
                json!({ "event": "hi", "args": [1, "two", [3], { "four": 4 }] }),
                "hi",
                json!([1, "two", [3], { "four": 4 }]),
            ),
            (json!({ "event": "h\"i\\", "args": [[]] }), "h\"i\\", json!([[]])),
            (
                json!({ "event": "\u{20ac} \u{1f600}", "data": "\u{2028}\u{0}" }),
                "\u{20ac} \u{1f600}",
                json!(["\u{2028}\u{0}"]),
            ),
        ] {
            let mut body = publication;
            body["channel"] = "news".into();
            publish(server.address, &body.to_string());
            assert_eq!(hub.event(target), arguments);
        }
    }
}

#[test]
fn what_a_client_publishes_is_answered_and_heard_by_everybody_once() {
    everywhere(&options(), |hub| {
        let (mut native, _) = Client::subscribe(hub.address, "news");
        let mut other = Hub::open(hub.address);
        other.hear("news");
        hub.hear("news");
        for (arguments, data) in [
            (json!(["hi"]), json!({ "args": [] })),
            (json!(["hi", 1]), json!({ "data": 1 })),
            (json!(["hi", { "a": 1 }, [2]]), json!({ "args": [{ "a": 1 }, [2]] })),
        ] {
            let mut sent = arguments.as_array().expect("a list").clone();
            sent.insert(0, json!("news"));
            let position = hub.call("$publish", Value::Array(sent));
            let publication = native.publication();
            let expected =
                json!({ "channel": "news", "epoch": publication["epoch"], "offset": publication["offset"] });
            assert_eq!(position, expected);
            assert_eq!(publication["client"], hub.connection, "others know it by this");
            for part in ["data", "args"] {
                assert_eq!(publication[part], data[part]);
            }
            let heard: Value = arguments.as_array().expect("a list")[1..].into();
            assert_eq!(other.event("hi"), heard);
            assert_eq!(hub.event("hi"), heard, "the publisher is a subscriber, too");
        }
        other.leave();
    });
}

#[test]
fn a_broadcast_is_for_the_others() {
    everywhere(&options(), |hub| {
        hub.hear("news");
        let mut other = Hub::open(hub.address);
        other.hear("news");
        let position = hub.call("$broadcast", json!(["news", "hi", 1]));
        assert_eq!(position["channel"], "news", "{position}");
        assert_eq!(other.event("hi"), json!([1]));
        hub.is_well();
        other.leave();
    });
}

#[test]
fn each_verb_answers_with_its_object_or_says_what_is_wrong() {
    everywhere(&keeping(10), |hub| {
        let channel = format!("room {:?} {:?}", hub.way, hub.form);
        let position = hub.call("$subscribe", json!([channel]));
        assert_eq!(position["channel"], channel, "{position}");
        hub.call("$publish", json!([channel, "hi", "there"]));
        assert_eq!(hub.event("hi"), json!(["there"]));
        let history = hub.call("$history", json!([channel, { "limit": 1 }]));
        assert_eq!(history["publications"][0]["data"], "there", "{history}");
        let present = hub.call("$presence", json!([channel]));
        assert_eq!(
            (&present["clients"], &present["members"][0]["client"]),
            (&json!(1), &json!(hub.connection))
        );
        let counted = hub.call("$presence", json!([channel, { "count": true }]));
        assert!(counted["clients"] == 1 && counted.get("members").is_none(), "{counted}");
        assert_eq!(hub.call("$unsubscribe", json!([channel])), json!({ "channel": channel }));
        assert_eq!(hub.call("$unsubscribe", json!(["never heard of"]))["channel"], "never heard of");
        for (method, arguments, code) in [
            ("$subscribe", json!([]), 107),
            ("$subscribe", json!([7]), 107),
            ("$subscribe", json!([""]), 107),
            ("$subscribe", json!([":x"]), 107),
            ("$subscribe", json!(["news", {}, 1]), 107),
            ("$subscribe", json!(["news", { "since": 7 }]), 107),
            ("$publish", json!(["news"]), 107),
            ("$publish", json!(["news", ""]), 107),
            ("$publish", json!(["news", 7]), 107),
            ("$publish", json!(["news", "$hi"]), 107),
            ("$publish", json!(["news", "connect"]), 107),
            ("$history", json!(["news", { "limit": "x" }]), 107),
            ("$refresh", json!([]), 107),
        ] {
            let error = hub.fails(method, arguments.clone());
            let begins =
                format!("An unexpected error occurred invoking '{method}' on the server. HubException: ");
            assert!(error.starts_with(&begins), "{method} {arguments}: {error}");
            assert!(error.ends_with(&format!("(code {code})")), "{method} {arguments}: {error}");
        }
        hub.is_well();
    });
}

#[test]
fn the_same_channel_twice_is_refused_and_goes_on() {
    everywhere(&options(), |hub| {
        hub.hear("news");
        let error = hub.fails("$subscribe", json!(["news"]));
        assert!(error.ends_with("(code 105)"), "{error}");
        say(hub.address, "news", "once");
        assert_eq!(hub.event("message"), json!(["once"]));
        hub.is_well();
    });
}

#[test]
fn what_was_missed_follows_the_answer() {
    everywhere(&keeping(10), |hub| {
        let channel = format!("missed {:?} {:?}", hub.way, hub.form);
        let mut positions = Vec::new();
        for number in 0..4 {
            positions.push(say(hub.address, &channel, &number.to_string()));
        }
        let since = json!({ "epoch": positions[1]["epoch"], "offset": positions[1]["offset"] });
        let id = hub.fresh_id();
        hub.send(&json!({
            "type": 1, "invocationId": id, "target": "$subscribe", "arguments": [channel, { "since": since }],
        }));
        let answer = hub.next();
        assert_eq!((&answer["type"], &answer["result"]["recovered"]), (&json!(3), &json!(true)), "{answer}");
        assert_eq!(hub.event("message"), json!(["2"]));
        assert_eq!(hub.event("message"), json!(["3"]));
        let since = json!({ "epoch": "beef", "offset": 1 });
        hub.call("$unsubscribe", json!([channel]));
        let answer = hub.call("$subscribe", json!([channel, { "since": since }]));
        assert_eq!(answer["recovered"], false, "{answer}");
    });
}

#[test]
fn channels_in_the_address_are_subscribed_at_once() {
    let server = start(options());
    for (way, form) in MANNERS {
        let mut hub = Hub::open_as(
            server.address,
            Manner { way, form, query: "&channels=news,a%20b,c%2Cd", ..Manner::default() },
        );
        for channel in ["news", "a b", "c", "d"] {
            // The subscription need not be there when the handshake is answered.
            let error = hub.fails("$subscribe", json!([channel]));
            assert!(error.ends_with("(code 105)"), "{channel}: {error}");
            say(server.address, channel, channel);
            assert_eq!(hub.event("message"), json!([channel]));
        }
        hub.leave();
    }
    server.settle(Levels::of(0, 0));
}

#[test]
fn a_client_knows_its_own_name() {
    everywhere(&options(), |hub| {
        hub.hear("room");
        let present = hub.call("$presence", json!(["room"]));
        let members = present["members"].as_array().expect("a list");
        assert!(members.iter().any(|member| member["client"] == hub.connection), "{present}");
        publish(
            hub.address,
            &json!({ "channel": "room", "data": "not for it", "exclude": [hub.connection] }).to_string(),
        );
        say(hub.address, "room", "for it");
        assert_eq!(hub.event("message"), json!(["for it"]));
    });
}

#[test]
fn who_comes_and_goes_is_announced_where_that_is_wanted() {
    let mut options = options();
    let namespace = options.namespaces.get_mut("default").expect("the default");
    namespace.attendance = Some(duplex::Visibility::Announced);
    let server = start(options);
    for manner in MANNERS {
        let mut hub = Hub::open_by(server.address, manner);
        hub.hear("room");
        let joined = hub.event("$joined");
        assert_eq!((&joined[0]["channel"], &joined[0]["client"]), (&json!("room"), &json!(hub.connection)));
        let mut other = Hub::open(server.address);
        other.hear("room");
        assert_eq!(hub.event("$joined")[0]["client"], other.connection);
        other.leave();
        assert_eq!(hub.event("$left")[0]["client"], other.connection);
        hub.leave();
        drop((hub, other));
        server.settle(Levels::of(0, 0));
    }
}
