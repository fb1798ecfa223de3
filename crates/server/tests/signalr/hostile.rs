//! What a server must survive: rows 73 to 79 (3.7) of the catalogue of hostile inputs, on a server with a healthy neighbour on
//! it. What is in the tables of other files is not here again.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use duplex::{Options, Settings, Timeouts};
use duplex_core::Rate;
use serde_json::{Value, json};

use crate::client::{EVENTS, Form, HUB, Hub, MANNERS, Manner, Way, fresh, once, target, text, told};
use crate::messages::{framed, record, write};
use crate::options;
use crate::support::house::House;
use crate::support::neighbour::Neighbour;
#[cfg(target_os = "linux")]
use crate::support::program::Program;
use crate::support::requests::send;
use crate::support::wire::Wire;
use crate::support::{Levels, eventually, start};

/// Options of a server whose clients may say as much as they like.
fn generous() -> Options {
    let messages = Rate { per_second: 1_000_000, burst: 1_000_000 };
    Options { settings: Settings { messages, ..options().settings }, ..options() }
}

/// Panics unless it is closed with an error; what comes before is passed over.
fn closes(hub: &mut Hub) -> Value {
    loop {
        let message = hub.next();
        if message["type"] == 7 {
            assert!(text(&message, "error").contains(' '), "{message}");
            hub.is_over();
            return message;
        }
    }
}

#[test]
fn deep_and_long_messages_are_refused_or_close_the_connection() {
    let mut house = House::open(generous());
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    for depth in [65, 100, 10_000, 30_000] {
        house.try_row(format!("3.7/75 JSON {depth} deep"), |address| {
            for message in [
                format!(r#"{{"type":1,"invocationId":"x","target":"nobody","arguments":[{}]}}"#, deep(depth)),
                format!(
                    r#"{{"a":{},"type":1,"invocationId":"x","target":"nobody","arguments":[]}}"#,
                    deep(depth)
                ),
                format!(r#"{{"type":3,"invocationId":"x","result":{}}}"#, deep(depth)),
            ] {
                let mut hub = Hub::open(address);
                hub.say(&record(&message));
                hub.say(&write(Form::Json, &json!({ "type": 1, "invocationId": "y", "target": "nobody" })));
                let answer = hub.next();
                assert!(matches!(answer["type"].as_u64(), Some(3 | 7)), "{answer}");
                if answer["type"] == 3 {
                    hub.leave();
                }
            }
        });
        house.try_row(format!("3.7/75 MessagePack {depth} deep"), |address| {
            let mut body = b"\x95\x01\x80\xa1x\xa6nobody\x91".to_vec();
            body.extend(vec![0x91; depth]);
            body.push(0xc0);
            let mut hub = Hub::open_by(address, (Way::Ws, Form::Packed));
            hub.say(&framed(&body));
            let answer = hub.next();
            assert!(matches!(answer["type"].as_u64(), Some(3 | 7)), "{answer}");
            assert!(depth < 100 || answer["type"] == 7, "{answer}");
            match answer["type"] == 3 {
                true => hub.leave(),
                false => hub.is_over(),
            }
        });
    }
    house.judge();
}

#[test]
fn lengths_that_lie_close_the_connection_and_take_no_memory() {
    let mut house = House::open(options());
    let rows: [(&str, &[u8]); 13] = [
        ("array of 2^32-1", b"\x05\xdd\xff\xff\xff\xff"),
        ("map of 2^32-1", b"\x07\x92\x01\xdf\xff\xff\xff\xff"),
        ("text of 2^32-1", b"\x0c\x95\x01\x80\xc0\xdb\xff\xff\xff\xff\x61\x61\x61"),
        ("bytes of 2^32-1", b"\x0e\x95\x01\x80\xc0\xa1a\x91\xc6\xff\xff\xff\xff\x61\x61"),
        ("extension of 2^32-1", b"\x0e\x95\x01\x80\xc0\xa1a\x91\xc9\xff\xff\xff\xff\x01\x61"),
        ("arguments of 2^16-1", b"\x09\x95\x01\x80\xc0\xa1a\xdc\xff\xff"),
        ("a message of 2^31-1", b"\xff\xff\xff\xff\x07"),
        ("a message of 2^31", b"\x80\x80\x80\x80\x08"),
        ("a message of 2^35-1", b"\xff\xff\xff\xff\x7f"),
        ("a length of six bytes", b"\xff\xff\xff\xff\xff\x01"),
        ("a length of sixteen bytes", &[0x80; 16]),
        ("a message over the limit", b"\x81\x80\x04"),
        ("a message that is shorter than it says", b"\x02\x95\x01\x02\x91\x06"),
    ];
    for (name, bytes) in rows {
        for way in [Way::Ws, Way::Poll] {
            house.try_row(format!("3.7/75 {name} over {way:?}"), |address| {
                let mut hub = Hub::open_by(address, (way, Form::Packed));
                hub.say(bytes);
                closes(&mut hub);
            });
        }
    }
    house.judge();
}

#[test]
fn a_message_over_64_kib_closes_the_connection_and_one_below_does_not() {
    let mut house = House::open(options());
    for manner in MANNERS {
        house.try_row(format!("3.7/74 {manner:?}"), |address| {
            let message = |letters: usize| {
                let message =
                    json!({ "type": 1, "invocationId": "x", "target": "nobody", "arguments": ["x".repeat(letters)] });
                write(manner.1, &message)
            };
            let room = (64 << 10) - message(0).len() - 8;
            let mut hub = Hub::open_by(address, manner);
            hub.say(&message(room));
            assert_eq!(hub.next()["type"], 3);
            match manner.0 {
                Way::Ws => {
                    hub.say(&message(70_000));
                    closes(&mut hub);
                }
                _ => {
                    let response = hub.post(&message(70_000));
                    assert_eq!(response.status, 413, "{response:?}");
                    // In several bodies it is too long all the same.
                    let bytes = message(70_000);
                    assert_eq!(told(&hub.post_anew(&bytes[..40_000])), (200, ""));
                    hub.post_anew(&bytes[40_000..]);
                    closes(&mut hub);
                }
            }
        });
    }
    house.judge();
}

#[test]
fn nobody_has_more_than_its_share_of_streams() {
    let mut house = House::open(Options {
        settings: Settings { subscriptions: 100_000, in_flight: 100_000, ..generous().settings },
        ..generous()
    });
    for manner in MANNERS {
        house.try_row(format!("3.7/76 10,000 streams down {manner:?}"), |address| {
            let mut hub = Hub::open_by(address, manner);
            let (mut open, mut refused) = (0, 0);
            for batch in 0..100 {
                let asked: Vec<Value> = (0..100)
                    .map(|at| {
                        let name = format!("{}", batch * 100 + at);
                        json!({ "type": 4, "invocationId": name, "target": "$subscribe", "arguments": [name] })
                    })
                    .collect();
                hub.send_all(&asked);
                for _ in 0..100 {
                    match hub.next()["type"].as_u64() {
                        Some(2) => open += 1,
                        Some(3) => refused += 1,
                        other => panic!("{other:?}"),
                    }
                }
            }
            assert_eq!((open, refused), (100, 9_900));
            // One that ends makes room for another.
            hub.send(&json!({ "type": 5, "invocationId": "0" }));
            assert_eq!(hub.next()["invocationId"], "0");
            hub.send(&json!({ "type": 4, "invocationId": "again", "target": "$subscribe", "arguments": ["a"] }));
            assert_eq!(hub.next()["type"], 2);
            hub.leave();
        });
        house.try_row(format!("3.7/76 10,000 streams up {manner:?}"), |address| {
            let mut hub = Hub::open_by(address, manner);
            let mut refused = 0;
            for number in 0..1_000 {
                hub.send(&json!({
                    "type": 1, "invocationId": format!("i{number}"), "target": "$publish", "arguments": ["a", "b"],
                    "streamIds": [format!("s{number}")],
                }));
                if number >= 100 {
                    let completion = hub.next();
                    assert!(completion["error"].is_string(), "{completion}");
                    refused += 1;
                }
            }
            assert_eq!(refused, 900);
            // Many at once.
            let streams: Vec<String> = (0..2_000).map(|number| format!("t{number}")).collect();
            hub.send(&json!({
                "type": 1, "invocationId": "many", "target": "nobody", "arguments": [], "streamIds": streams,
            }));
            assert!(hub.next()["error"].is_string());
            hub.send(&json!({ "type": 3, "invocationId": "s0" }));
            assert_eq!(hub.next()["result"]["count"], 0);
            hub.leave();
        });
    }
    house.judge();
}

#[test]
fn floods_of_invocations_are_answered_or_end_the_connection() {
    let settings = Settings { in_flight: 16, ..generous().settings };
    let mut house = House::open(Options { settings, ..generous() });
    for manner in MANNERS {
        house.try_row(format!("3.7/76 parallel invocations {manner:?}"), |address| {
            let mut hub = Hub::open_by(address, manner);
            let asked: Vec<Value> = (0..400)
                .map(|at| json!({ "type": 1, "invocationId": format!("{at}"), "target": "nobody", "arguments": [] }))
                .collect();
            hub.send_all(&asked);
            for _ in 0..400 {
                assert!(text(&hub.next(), "error").contains("code 1"));
            }
            hub.leave();
        });
        house.try_row(format!("3.7/76 items for nobody {manner:?}"), |address| {
            let mut hub = Hub::open_by(address, manner);
            for batch in 0..20 {
                let items: Vec<Value> = (0..100)
                    .map(|at| json!({ "type": 2, "invocationId": format!("{batch} {at}"), "item": "x" }))
                    .collect();
                hub.send_all(&items);
            }
            hub.is_well();
            hub.leave();
        });
    }
    house.judge();
}

#[test]
#[cfg(target_os = "linux")]
fn negotiations_leave_nothing() {
    const EACH: usize = 200;
    let program = Program::start(&[]);
    let mut wire = Wire::connect(program.address);
    let request = format!(
        "POST {HUB}/negotiate?negotiateVersion=1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
    );
    let mut negotiate = |count: usize| {
        for _ in 0..count / EACH {
            wire.send(request.repeat(EACH).as_bytes());
            for _ in 0..EACH {
                let response = wire.response().expect("an answer");
                assert_eq!(response.status, 200, "{response:?}");
                wire.renew_deadline();
            }
        }
    };
    negotiate(2_000);
    let before = program.peak_kib();
    negotiate(20_000);
    let grown = program.peak_kib().saturating_sub(before);
    assert!(grown < 4_096, "20,000 negotiations took {grown} KiB");
    Hub::open(program.address).is_well();
}

#[test]
fn polls_and_farewells_in_any_number_have_one_winner() {
    let mut house = House::open(options());
    house.try_row("3.7/79 polls at once", |address| {
        for form in [Form::Json, Form::Packed] {
            let mut hub = Hub::open_by(address, (Way::Poll, form));
            let mut wires: Vec<Wire> = (0..8).map(|_| Wire::connect(address)).collect();
            wires.iter_mut().for_each(|wire| send(wire, "GET", &hub.target, "", b""));
            eventually(
                || "all but one are let go".to_owned(),
                || wires.iter().filter(|wire| wire.has_something()).count() == 7,
            );
            hub.leave();
            for wire in &mut wires {
                assert_eq!(told(&wire.response().expect("an answer")), (204, ""));
            }
        }
    });
    house.try_row("3.7/79 farewells at once", |address| {
        for _ in 0..10 {
            let hub = Hub::open_by(address, (Way::Poll, Form::Json));
            let mut wires: Vec<Wire> = (0..6).map(|_| Wire::connect(address)).collect();
            wires.iter_mut().for_each(|wire| send(wire, "DELETE", &hub.target, "", b""));
            let statuses: Vec<u16> =
                wires.iter_mut().map(|wire| wire.response().expect("an answer").status).collect();
            assert!(statuses.contains(&202), "{statuses:?}");
            assert!(statuses.iter().all(|status| matches!(status, 202 | 404)), "{statuses:?}");
            hub.is_gone();
        }
    });
    house.try_row("3.7/79 all at once", |address| {
        for _ in 0..10 {
            let hub = Hub::open_by(address, (Way::Poll, Form::Json));
            let mut wires: Vec<Wire> = (0..9).map(|_| Wire::connect(address)).collect();
            for (at, wire) in wires.iter_mut().enumerate() {
                match at % 3 {
                    0 => send(wire, "GET", &hub.target, "", b""),
                    1 => send(wire, "POST", &hub.target, "", b"{\"type\":6}\x1e"),
                    _ => send(wire, "DELETE", &hub.target, "", b""),
                }
            }
            for wire in &mut wires {
                let response = wire.response().expect("an answer");
                assert!(matches!(response.status, 200 | 202 | 204 | 404), "{response:?}");
            }
            hub.is_gone();
        }
    });
    house.judge();
}

#[test]
fn bodies_have_an_end() {
    let timeouts = Timeouts { body: Duration::from_secs(2), ..options().timeouts };
    let mut house = House::open(Options { timeouts, ..options() });
    for way in [Way::Poll, Way::Sse] {
        house.try_row(format!("3.5/52 chunks without end {way:?}"), |address| {
            let mut hub = Hub::open_by(address, (way, Form::Json));
            let mut wire = Wire::connect(address);
            let head = format!(
                "POST {} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
                hub.target
            );
            wire.send(head.as_bytes());
            let chunk = format!("1000\r\n{}\r\n", " ".repeat(4_096));
            (0..64).for_each(|_| wire.send(chunk.as_bytes()));
            // The answer may be lost: the server need not read to the end, and its system resets the connection then.
            if let Some(response) = wire.response() {
                assert_eq!(response.status, 413);
            }
            hub.is_well();
            hub.leave();
        });
        house.try_row(format!("3.5/53 a body that drips {way:?}"), |address| {
            let mut hub = Hub::open_by(address, (way, Form::Json));
            let mut wire = Wire::connect(address);
            let head =
                format!("POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n", hub.target);
            wire.send(head.as_bytes());
            let until = Instant::now() + Duration::from_millis(1_500);
            while Instant::now() < until {
                wire.send(b" ");
                hub.is_well();
                thread::sleep(Duration::from_millis(50));
            }
            wire.renew_deadline();
            assert_eq!(wire.response().map(|response| response.status), Some(408));
            hub.is_well();
            hub.leave();
        });
        house.try_row(format!("3.5/52 a body that breaks off {way:?}"), |address| {
            let mut hub = Hub::open_by(address, (way, Form::Json));
            let mut wire = hub.wire();
            let head =
                format!("POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n  ", hub.target);
            wire.send(head.as_bytes());
            wire.reset();
            hub.is_well();
            hub.leave();
        });
    }
    house.judge();
}

#[test]
fn requests_that_are_glued_together_are_answered_one_by_one() {
    let settings = Settings { connect_ms: 1_000, ..options().settings };
    let mut house = House::open(Options { settings, ..options() });
    house.try_row("a poll and requests behind it on one connection", |address| {
        let mut hub = Hub::open_by(address, (Way::Poll, Form::Json));
        let mut wire = Wire::connect(address);
        let invocation = json!({ "type": 1, "invocationId": "x", "target": "nobody", "arguments": [] });
        hub.checker.said(&invocation);
        send(&mut wire, "POST", &hub.target, "", &write(Form::Json, &invocation));
        send(&mut wire, "GET", &hub.target, "", b"");
        send(&mut wire, "DELETE", &hub.target, "", b"");
        assert_eq!(told(&wire.response().expect("an answer")), (200, ""));
        let polled = wire.response().expect("an answer");
        assert!(polled.body.starts_with("{\"type\":3,"), "{polled:?}");
        assert_eq!(wire.response().map(|response| response.status), Some(202));
        hub.is_gone();
    });
    house.try_row("a message glued to the upgrade", |address| {
        let mut wire = Wire::connect(address);
        let upgrade =
            format!("GET {} HTTP/1.1\r\n{}\r\n", target(&fresh(address)), crate::support::wire::UPGRADE);
        let handshake =
            crate::support::frames::client_frame(0x81, b"{\"protocol\":\"json\",\"version\":1}\x1e");
        wire.send(&[upgrade.as_bytes(), &handshake].concat());
        assert_eq!(wire.response().map(|response| response.status), Some(101));
        assert_eq!(wire.text(), "{}\u{1e}");
    });
    house.try_row("junk behind a poll and behind a stream", |address| {
        for (way, headers) in [(Way::Poll, ""), (Way::Sse, EVENTS)] {
            let mut wire = Wire::connect(address);
            let name = target(&fresh(address));
            send(&mut wire, "GET", &name, headers, b"");
            (0..64).for_each(|_| wire.send(&[b'x'; 4_096]));
            while wire.fill() == crate::support::wire::Fill::More {}
            assert!(way == Way::Sse || once(address, "DELETE", &name, "").status == 202);
        }
    });
    house.judge();
}

#[test]
fn names_that_mean_something_to_javascript_do_nothing() {
    let mut house = House::open(options());
    for manner in MANNERS {
        house.try_row(format!("{manner:?}"), |address: SocketAddr| {
            let mut hub = Hub::open_by(address, manner);
            for name in ["__proto__", "constructor", "prototype", "toString", "hasOwnProperty"] {
                hub.hear(name);
                hub.call("$publish", json!([name, name, { "__proto__": { "a": 1 } }]));
                assert_eq!(hub.event(name), json!([{ "__proto__": { "a": 1 } }]));
                hub.send(&json!({ "type": 4, "invocationId": name, "target": name, "arguments": [] }));
                assert!(hub.next()["error"].is_string());
                hub.send(&json!({ "type": 5, "invocationId": name }));
            }
            hub.is_well();
            hub.leave();
        });
    }
    house.judge();
}

#[test]
fn crowds_that_vanish_at_any_moment_leave_nothing() {
    let server = start(options());
    let mut neighbour = Neighbour::join(server.address);
    for round in 0..60 {
        let manner = MANNERS[round % 5];
        let (way, form) = manner;
        if round % 2 == 0 {
            let mut hub = Hub::begin(server.address, Manner { way, form, ..Manner::default() });
            if round % 4 == 0 && way != Way::Ws {
                hub.post(b"{\"protocol\":");
            }
            hub.down.reset();
            once(server.address, "DELETE", &hub.target, "");
            continue;
        }
        let mut hub = Hub::open_by(server.address, manner);
        hub.hear("news");
        if way == Way::Poll {
            hub.ask();
        }
        hub.down.reset();
        once(server.address, "DELETE", &hub.target, "");
    }
    neighbour.check();
    server.settle(Levels::of(1, 1));
}
