//! How connections end: what the server says last (type 7), and what it does not.

use std::thread;

use duplex::{Options, Settings};
use duplex_core::Rate;
use duplex_websocket::{Limits, Opcode};
use serde_json::json;

use crate::client::{Form, Hub, MANNERS, Way, everywhere, text};
use crate::messages::write;
use crate::options;
use crate::support::frames::Incoming;
use crate::support::http::say;
use crate::support::{Levels, eventually, start};

#[test]
fn a_server_that_stops_tells_everybody_to_come_back() {
    let server = start(Options { settings: Settings { close_ms: 2_000, ..options().settings }, ..options() });
    let mut hubs: Vec<Hub> = MANNERS.map(|manner| Hub::open_by(server.address, manner)).into();
    let mut away = Hub::open_by(server.address, (Way::Poll, Form::Json));
    away.hear("news");
    say(server.address, "news", "last");
    hubs.iter_mut().filter(|hub| hub.way == Way::Poll).for_each(|hub| {
        hub.ask();
        assert_eq!(hub.post(b"").status, 200);
    });
    thread::scope(|scope| {
        let stopping = scope.spawn(|| server.stop());
        for hub in &mut hubs {
            let message = match hub.way {
                Way::Poll => {
                    let body: Vec<u8> = hub.answer().body.chars().map(|letter| letter as u8).collect();
                    crate::messages::read(hub.form, &body).remove(0)
                }
                _ => hub.close_message(),
            };
            assert_eq!(message, json!({ "type": 7, "allowReconnect": true }), "{:?} {:?}", hub.way, hub.form);
        }
        // What was published when nobody asked for it comes all the same.
        let mut came = Vec::new();
        while let Some(message) = away.late_next() {
            came.push(message);
        }
        assert_eq!(came[0]["arguments"], json!(["last"]), "{came:?}");
        assert_eq!(came.last(), Some(&json!({ "type": 7, "allowReconnect": true })), "{came:?}");
        stopping.join().expect("it stops");
    });
}

#[test]
fn a_client_that_says_goodbye_is_not_answered() {
    let server = start(options());
    for manner in MANNERS {
        for goodbye in [json!({ "type": 7 }), json!({ "type": 7, "error": "x", "allowReconnect": true })] {
            let mut hub = Hub::open_by(server.address, manner);
            hub.hear("news");
            hub.send(&goodbye);
            hub.is_over();
            eventually(|| "it is gone".to_owned(), || server.gauges().sessions() == 0);
            hub.is_gone();
        }
    }
    server.settle(Levels::of(0, 0));
}

#[test]
fn what_is_behind_a_goodbye_is_not_carried_out() {
    let server = start(options());
    let mut hearer = Hub::open(server.address);
    hearer.hear("news");
    let publish = |text: &str| json!({ "type": 1, "target": "$publish", "arguments": ["news", text] });
    for manner in MANNERS {
        let mut hub = Hub::open_by(server.address, manner);
        hub.send_all(&[publish("before"), json!({ "type": 7 }), publish("behind")]);
        assert_eq!(hearer.event("before"), json!([]));
        hub.is_over();
    }
    say(server.address, "news", "marker");
    assert_eq!(hearer.event("message"), json!(["marker"]));
}

#[test]
fn what_comes_behind_a_breach_is_not_carried_out() {
    let server = start(options());
    let mut hearer = Hub::open(server.address);
    hearer.hear("news");
    for manner in MANNERS {
        let mut hub = Hub::open_by(server.address, manner);
        let form = manner.1;
        let publish = |text: &str| {
            write(form, &json!({ "type": 1, "target": "$publish", "arguments": ["news", text] }))
        };
        let breach = if form == Form::Json { &b"nonsense\x1e"[..] } else { b"\x01\xc1" };
        hub.say(&[&publish("before"), breach, &publish("behind")].concat());
        assert_eq!(hearer.event("before"), json!([]));
        let message = hub.close_message();
        assert!(text(&message, "error").starts_with("Connection closed with an error."), "{message}");
    }
    say(server.address, "news", "marker");
    assert_eq!(hearer.event("message"), json!(["marker"]));
}

#[test]
fn what_was_answered_comes_before_the_last_word() {
    let server = start(options());
    for manner in MANNERS {
        let mut hub = Hub::open_by(server.address, manner);
        let call = json!({ "type": 1, "invocationId": "x", "target": "nobody", "arguments": [] });
        let breach = if manner.1 == Form::Json { &b"nonsense\x1e"[..] } else { b"\x01\xc1" };
        hub.say(&[&write(manner.1, &call), breach].concat());
        assert_eq!(hub.next()["invocationId"], "x");
        hub.close_message();
    }
}

#[test]
fn a_client_that_closes_its_websocket_is_gone() {
    let server = start(options());
    for form in [Form::Json, Form::Packed] {
        for payload in [&b""[..], &1000u16.to_be_bytes(), &1001u16.to_be_bytes()] {
            let mut hub = Hub::open_by(server.address, (Way::Ws, form));
            hub.down.send_frame(Opcode::Close, payload);
            let end = hub.down.until_end();
            assert!(matches!(end[..], [Incoming::Close(..)]), "{end:?}");
            eventually(|| "it is gone".to_owned(), || server.gauges().sessions() == 0);
            hub.is_gone();
        }
        Hub::open_by(server.address, (Way::Ws, form)).down.reset();
        eventually(|| "it is gone".to_owned(), || server.gauges().sessions() == 0);
    }
    server.settle(Levels::of(0, 0));
}

#[test]
fn a_message_over_the_limit_is_told_so_and_ends_the_connection() {
    let websocket = Limits { message_bytes: 1_000, ..Limits::default() };
    let server = start(Options { websocket, ..options() });
    for form in [Form::Json, Form::Packed] {
        let long = |bytes: usize| json!({ "type": 1, "target": "nobody", "arguments": ["x".repeat(bytes)] });
        // In one WebSocket message, in many that are each short enough, and announced only.
        let whole = write(form, &long(1_500));
        for parts in [vec![&whole[..]], whole.chunks(400).collect()] {
            let mut hub = Hub::open_by(server.address, (Way::Ws, form));
            for part in parts {
                hub.say(part);
            }
            let message = hub.close_message();
            assert!(text(&message, "error").contains(' '), "{message}");
            assert_ne!(message["allowReconnect"], true, "{message}");
        }
        let mut hub = Hub::open_by(server.address, (Way::Ws, form));
        hub.send(
            &json!({ "type": 1, "invocationId": "x", "target": "nobody", "arguments": ["x".repeat(800)] }),
        );
        hub.completion("x");
        hub.is_well();
    }
    let mut hub = Hub::open_by(server.address, (Way::Ws, Form::Packed));
    hub.say(b"\xff\xff\xff\xff\x07");
    hub.close_message();
    drop(hub);
    server.settle(Levels::of(0, 0));
}

#[test]
fn who_says_too_much_is_told_to_come_back() {
    let slow = Rate { per_second: 20, burst: 20 };
    let settings = Settings { messages: slow, ..options().settings };
    let server = start(Options { settings, ..options() });
    for manner in MANNERS {
        for message in [
            json!({ "type": 1, "invocationId": "x", "target": "nobody", "arguments": [] }),
            json!({ "type": 1, "target": "$unsubscribe", "arguments": ["news"] }),
            json!({ "type": 6 }),
            json!({ "type": 5, "invocationId": "x" }),
            json!({ "type": 2, "invocationId": "x", "item": 1 }),
            json!({ "type": 99 }),
        ] {
            let mut hub = Hub::open_by(server.address, manner);
            hub.say(&write(manner.1, &message).repeat(200));
            let mut answers = 0;
            let last = loop {
                let came = hub.late_next().unwrap_or_else(|| panic!("{manner:?} {message}: no last word"));
                if came["type"] == 7 {
                    break came;
                }
                answers += 1;
            };
            assert!(answers <= 25, "{answers} answers");
            assert_eq!(last["allowReconnect"], true, "{last}");
            hub.is_over();
        }
    }
    server.settle(Levels::of(0, 0));
}

#[test]
fn a_client_that_reads_nothing_is_let_go() {
    let settings = Settings { outbox_bytes: 64 << 10, stall_ms: 2_000, ..options().settings };
    let server = start(Options { settings, ..options() });
    for manner in MANNERS {
        let mut slow = Hub::open_by(server.address, manner);
        slow.hear("news");
        let long = "x".repeat(30_000);
        eventually(
            || format!("{manner:?} is gone"),
            || {
                say(server.address, "news", &long);
                server.gauges().sessions() == 0
            },
        );
    }
    let held = || server.gauges().outbox_bytes();
    eventually(|| format!("nothing is held, {} bytes", held()), || held() == 0);
}

#[test]
fn whoever_goes_in_the_middle_of_something_leaves_nothing() {
    let server = start(options());
    for manner in MANNERS {
        for round in 0..6 {
            let mut hub = Hub::open_by(server.address, manner);
            hub.hear("news");
            match round % 3 {
                0 => hub.say(&write(manner.1, &json!({ "type": 6 }))[..1]),
                1 => hub.send(&json!({
                    "type": 4, "invocationId": "s", "target": "$subscribe", "arguments": ["other"],
                })),
                _ => {}
            }
            if manner.0 == Way::Poll {
                hub.leave();
            } else {
                hub.down.reset();
            }
        }
    }
    server.settle(Levels::of(0, 0));
}

#[test]
fn a_websocket_that_breaks_its_own_protocol_is_closed() {
    let server = start(options());
    for bytes in [&b"\x81\x05hello"[..], b"\x83\x80\0\0\0\0", b"\xc1\x80\0\0\0\0", b"\x80\x80\0\0\0\0"] {
        let mut hub = Hub::open(server.address);
        hub.down.send(bytes);
        while hub.payload().is_some() {}
        assert_eq!(hub.close_code(), Some(1002), "{bytes:02x?}");
    }
    everywhere(&options(), Hub::is_well);
}
