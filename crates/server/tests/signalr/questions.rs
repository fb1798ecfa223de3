//! Client results (C6): what a backend asks clients of SignalR over HTTP, and what they answer.

use std::net::SocketAddr;
use std::thread::{self, JoinHandle};

use serde_json::{Value, json};

use crate::client::{Form, Hub, MANNERS, Manner, Way, everywhere, text};
use crate::messages::binary;
use crate::options;
use crate::support::http::request;
use crate::support::start;
use crate::support::tokens::{API_KEY, closed, token};

/// Asks over the HTTP API; what it answers.
fn asks(address: SocketAddr, body: Value) -> JoinHandle<Value> {
    thread::spawn(move || {
        let head = format!("POST /api/v1/request HTTP/1.1\r\nAuthorization: Bearer {API_KEY}");
        let response = request(address, &head, &body.to_string());
        assert_eq!(response.status, 200, "{body}: {response:?}");
        serde_json::from_str(&response.body).expect("JSON")
    })
}

fn answer(asking: JoinHandle<Value>) -> Value {
    asking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The next message must be this question; its id.
fn question(hub: &mut Hub, target: &str, arguments: &Value) -> String {
    let message = hub.next();
    assert_eq!((&message["type"], &message["target"]), (&json!(1), &json!(target)), "{message}");
    assert_eq!(&message["arguments"], arguments, "{message}");
    text(&message, "invocationId")
}

#[test]
fn a_client_is_asked_by_an_invocation_and_answers_by_a_completion() {
    everywhere(&options(), |hub| {
        for (ending, expected) in [
            (json!({ "result": true }), json!({ "args": [true] })),
            (json!({ "result": { "a": [1] } }), json!({ "args": [{ "a": [1] }] })),
            (json!({ "result": null }), json!({ "args": [null] })),
            (json!({}), json!({ "args": [] })),
            (
                json!({ "error": "Client didn't provide a result." }),
                json!({ "error": "Client didn't provide a result." }),
            ),
        ] {
            let asking = asks(
                hub.address,
                json!({ "client": hub.connection, "event": "ready?", "args": [1, "two"], "timeout_ms": 20_000 }),
            );
            let id = question(hub, "ready?", &json!([1, "two"]));
            let mut message = ending;
            message["type"] = 3.into();
            message["invocationId"] = id.into();
            hub.send(&message);
            let mut reply = expected;
            reply["client"] = hub.connection.clone().into();
            assert_eq!(answer(asking), json!({ "expected": 1, "received": 1, "replies": [reply] }));
        }
        hub.is_well();
    });
}

#[test]
fn what_waits_is_let_go_when_its_client_is() {
    let server = start(options());
    for manner in MANNERS {
        let mut hub = Hub::open_by(server.address, manner);
        let asking = asks(
            server.address,
            json!({ "client": hub.connection, "event": "ready?", "timeout_ms": 30_000 }),
        );
        question(&mut hub, "ready?", &json!([]));
        let before = std::time::Instant::now();
        hub.leave();
        drop(hub);
        let answered = answer(asking);
        assert_eq!((&answered["received"], &answered["replies"]), (&json!(0), &json!([])), "{answered}");
        assert!(before.elapsed() < std::time::Duration::from_secs(20), "nobody waits for who has gone");
    }
}

#[test]
fn all_in_a_channel_are_asked_and_those_who_do_not_answer_are_waited_for() {
    let server = start(options());
    let mut hubs: Vec<Hub> = MANNERS.map(|manner| Hub::open_by(server.address, manner)).into();
    for hub in &mut hubs {
        hub.hear("room");
    }
    let asking = asks(
        server.address,
        json!({ "channel": "room", "event": "ready?", "data": { "round": 3 }, "timeout_ms": 2_000 }),
    );
    for (at, hub) in hubs.iter_mut().enumerate() {
        let id = question(hub, "ready?", &json!([{ "round": 3 }]));
        if at > 0 {
            hub.send(&json!({ "type": 3, "invocationId": id, "result": at }));
        }
    }
    let answered = answer(asking);
    assert_eq!((&answered["expected"], &answered["received"]), (&json!(5), &json!(4)), "{answered}");
    let mut results: Vec<u64> = answered["replies"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|reply| reply["args"][0].as_u64().expect("a number"))
        .collect();
    results.sort_unstable();
    assert_eq!(results, [1, 2, 3, 4]);
    hubs.iter_mut().for_each(Hub::is_well);
}

#[test]
fn all_connections_of_a_user_are_asked() {
    let server = start(closed());
    let headers = format!("Authorization: Bearer {}\r\n", token("ann", 60.0));
    let mut hubs: Vec<Hub> = [(Way::Ws, Form::Json), (Way::Poll, Form::Packed)]
        .map(|(way, form)| {
            Hub::open_as(server.address, Manner { way, form, headers: &headers, ..Manner::default() })
        })
        .into();
    let asking = asks(server.address, json!({ "user": "ann", "event": "who?", "timeout_ms": 20_000 }));
    for hub in &mut hubs {
        let id = question(hub, "who?", &json!([]));
        hub.send(&json!({ "type": 3, "invocationId": id, "result": "ann" }));
    }
    let answered = answer(asking);
    assert_eq!(answered["received"], 2, "{answered}");
    for reply in answered["replies"].as_array().expect("a list") {
        assert_eq!((&reply["user"], &reply["args"]), (&json!("ann"), &json!(["ann"])), "{answered}");
    }
}

#[test]
fn what_was_not_asked_is_not_heard() {
    everywhere(&options(), |hub| {
        let asking =
            asks(hub.address, json!({ "client": hub.connection, "event": "ready?", "timeout_ms": 20_000 }));
        let id = question(hub, "ready?", &json!([]));
        for stranger in ["nobodys", "0", "-1", "99999999999999999999", &format!("{id}0"), &format!("0{id}")] {
            hub.send(&json!({ "type": 3, "invocationId": stranger, "result": "forged" }));
        }
        hub.send(&json!({ "type": 3, "invocationId": id, "result": "right" }));
        hub.send(&json!({ "type": 3, "invocationId": id, "result": "again" }));
        let answered = answer(asking);
        assert_eq!(answered["replies"][0]["args"], json!(["right"]), "{answered}");
        hub.is_well();
    });
}

#[test]
fn an_answer_that_comes_too_late_does_nothing() {
    everywhere(&options(), |hub| {
        let asking =
            asks(hub.address, json!({ "client": hub.connection, "event": "ready?", "timeout_ms": 50 }));
        let id = question(hub, "ready?", &json!([]));
        assert_eq!(answer(asking)["received"], 0);
        hub.send(&json!({ "type": 3, "invocationId": id, "result": "late" }));
        hub.is_well();
    });
}

#[test]
fn several_questions_at_once_have_ids_of_their_own() {
    everywhere(&options(), |hub| {
        let asking: Vec<_> = (0..5)
            .map(|number| {
                asks(
                    hub.address,
                    json!({ "client": hub.connection, "event": "twice?", "data": number, "timeout_ms": 20_000 }),
                )
            })
            .collect();
        let mut asked = Vec::new();
        for _ in 0..5 {
            let message = hub.next();
            asked.push((text(&message, "invocationId"), message["arguments"][0].as_u64().expect("a number")));
        }
        for (at, (id, number)) in asked.iter().enumerate().rev() {
            assert!(asked[..at].iter().all(|(other, _)| other != id), "{asked:?}");
            hub.send(&json!({ "type": 3, "invocationId": id, "result": number * 2 }));
        }
        for (number, asking) in asking.into_iter().enumerate() {
            assert_eq!(answer(asking)["replies"][0]["args"], json!([number * 2]));
        }
    });
}

#[test]
fn binary_answers_are_base64_in_the_reply() {
    let server = start(options());
    let mut hub = Hub::open_by(server.address, (Way::Ws, Form::Packed));
    let asking =
        asks(server.address, json!({ "client": hub.connection, "event": "pic?", "timeout_ms": 20_000 }));
    let id = question(&mut hub, "pic?", &json!([]));
    hub.send(&json!({ "type": 3, "invocationId": id, "result": [binary(&[1, 2, 3])] }));
    assert_eq!(answer(asking)["replies"][0]["args"], json!([["AQID"]]));
}
