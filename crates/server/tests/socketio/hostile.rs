//! What a server must survive: rows 49 to 57 (3.5) and 62 to 68 (3.6) of the catalogue of hostile inputs, on a server with
//! a healthy neighbour on it. What is in the tables of other files is not here again.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use duplex::{Options, Settings, Timeouts};
use duplex_core::Rate;
use duplex_websocket::{Limits, Opcode};

use crate::client::{
    ECHO, IO, IO_WS, Io, Polled, UNKNOWN_SESSION, ask, binary, is_closed, once, send, upgrade,
};
use crate::options;
use crate::support::frames::Incoming;
use crate::support::house::House;
use crate::support::neighbour::Neighbour;
use crate::support::wire::Wire;
use crate::support::{Levels, eventually, start};

#[test]
fn a_name_that_is_nobodys_opens_nothing_and_harms_nobody() {
    type Forge = fn(&str) -> String;
    let forge: [(&str, Forge); 9] = [
        ("unknown", |_| "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned()),
        ("of the other shard", |sid| format!("{}{}", &sid[..33], if sid.ends_with('A') { 'Q' } else { 'A' })),
        ("of a shard that is not", |sid| format!("{}_w", &sid[..32])),
        ("with one letter changed", |sid| {
            format!("{}{}", if sid.starts_with('x') { 'y' } else { 'x' }, &sid[1..])
        }),
        ("shorter", |sid| sid[1..].to_owned()),
        ("longer", |sid| format!("{sid}AAAA")),
        ("with a NUL", |sid| format!("{sid}%00")),
        ("a path", |_| "..%2f..%2fetc%2fpasswd".to_owned()),
        ("64 KB", |_| "A".repeat(60_000)),
    ];
    let mut house = House::open(options());
    for (name, forge) in forge {
        house.try_row(format!("3.5/49 {name}"), |address| {
            let mut client = Polled::open(address, ECHO);
            let target = format!("{ECHO}&sid={}", forge(&client.sid));
            for (method, body) in [("GET", &b""[..]), ("POST", b"4x"), ("POST", b"1")] {
                let refused = once(address, method, &target, body);
                assert!(matches!(refused.status, 400 | 414 | 431), "{method}: {refused:?}");
            }
            let (_, refused) = upgrade(address, &target.replace("polling", "websocket"), "");
            assert!(matches!(refused.status, 400 | 414 | 431), "{refused:?}");
            client.echoes("unharmed");
            client.say("1");
        });
    }
    house.judge();
}

#[test]
fn two_of_each_at_once_from_everywhere_end_one_session_and_nothing_else() {
    let mut house = House::open(options());
    house.try_row("3.5/50", |address| {
        for _ in 0..20 {
            let client = Polled::open(address, ECHO);
            let mut wires: [Wire; 6] = std::array::from_fn(|_| Wire::connect(address));
            for (at, wire) in wires.iter_mut().enumerate() {
                let (method, body) = if at % 2 == 0 { ("GET", &b""[..]) } else { ("POST", &b"4x"[..]) };
                send(wire, method, &client.target, "", body);
            }
            // It may have ended, or all may have come one after the other, and the last one waits.
            once(address, "POST", &client.target, b"1");
            let answers: Vec<_> = wires.iter_mut().map(|wire| wire.response().expect("an answer")).collect();
            assert!(answers.iter().all(|answer| matches!(answer.status, 200 | 400)), "{answers:?}");
        }
    });
    house.judge();
}

#[test]
fn clients_that_vanish_at_any_moment_leave_nothing() {
    let mut house = House::open(options());
    house.try_row("3.5/51 and 3.5/57", |address| {
        for round in 0..60 {
            let mut client = Polled::open(address, if round % 2 == 0 { ECHO } else { IO });
            client.say("3");
            let mut poll = Wire::connect(address);
            send(&mut poll, "GET", &client.target, "", b"");
            let mut posting = Wire::connect(address);
            match round % 5 {
                0 => poll.reset(),
                1 => drop(poll),
                2 => {
                    client.say("1");
                    poll.reset();
                }
                3 => {
                    posting
                        .send(format!("POST {} HTTP/1.1\r\nHost: a\r\nContent-Le", client.target).as_bytes());
                    posting.reset();
                }
                _ => {
                    let head =
                        format!("POST {} HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n4x", client.target);
                    posting.send(head.as_bytes());
                    posting.reset();
                }
            }
            // If nothing of that was seen, it is there still.
            once(address, "POST", &client.target, b"1");
        }
    });
    house.judge();
}

#[test]
fn what_waits_for_sessions_that_are_never_polled_is_bounded_and_let_go() {
    let settings = Settings {
        outbox_bytes: 64 << 10,
        close_ms: 300,
        heartbeat_ms: 1_000,
        pong_ms: 1_000,
        ..options().settings
    };
    let websocket = Limits { message_bytes: 60_000, ..Limits::default() };
    let server = start(Options { settings, websocket, ..options() });
    let mut neighbour = Neighbour::join(server.address);
    let long = format!("4{}", "x".repeat(50_000));
    for _ in 0..20 {
        let mut client = Polled::open(server.address, ECHO);
        let mut said = 0;
        while client.post(long.as_bytes()).status == 200 {
            said += 1;
            assert!(said < 20, "a session keeps {said} messages of 50 KB");
        }
    }
    neighbour.check();
    eventually(|| "nobody is left".to_owned(), || server.gauges().sessions() == 1);
    let held = || server.gauges().outbox_bytes();
    eventually(|| format!("nothing is held, {} bytes", held()), || held() == 0);
    server.settle(Levels::of(1, 1));
}

#[test]
fn bodies_have_an_end() {
    let mut house = House::open(options());
    let chunks = |rest: &'static str| {
        move |address: SocketAddr| {
            let mut client = Polled::open(address, ECHO);
            let mut wire = Wire::connect(address);
            let head = format!(
                "POST {} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
                client.target
            );
            wire.send(head.as_bytes());
            let chunk = format!("1000\r\n{}\r\n", "4".repeat(4_096));
            (0..64).for_each(|_| wire.send(chunk.as_bytes()));
            wire.send(rest.as_bytes());
            // The answer may be lost: the server need not read to the end, and its system resets the connection then.
            if let Some(response) = wire.response() {
                assert_eq!(response.status, 413);
            }
            client.echoes("unharmed");
            client.say("1");
        }
    };
    house.try_row("3.5/52 chunks without end", chunks(""));
    house.try_row("3.5/52 too many chunks", chunks("0\r\n\r\n"));
    for length in ["65537", "100000000", "18446744073709551615"] {
        house.try_row(format!("3.5/52 {length} bytes declared"), |address| {
            let mut client = Polled::open(address, ECHO);
            let mut wire = Wire::connect(address);
            let head = format!(
                "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n",
                client.target
            );
            wire.send(head.as_bytes());
            let status = wire.response().map(|response| response.status);
            assert!(matches!(status, Some(400..500)), "{status:?}");
            client.echoes("unharmed");
            client.say("1");
        });
    }
    house.judge();
}

#[test]
fn bodies_that_drip_are_not_waited_for_for_ever() {
    let timeouts = Timeouts { body: Duration::from_secs(2), ..Timeouts::default() };
    let server = start(Options { timeouts, ..options() });
    let mut neighbour = Neighbour::join(server.address);
    let mut dripping: Vec<(Polled, Wire)> = (0..50)
        .map(|_| {
            let client = Polled::open(server.address, ECHO);
            let mut wire = Wire::connect(server.address);
            let head = format!(
                "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n4",
                client.target
            );
            wire.send(head.as_bytes());
            (client, wire)
        })
        .collect();
    let until = Instant::now() + Duration::from_millis(1_500);
    while Instant::now() < until {
        dripping.iter_mut().for_each(|(_, wire)| wire.send(b"x"));
        neighbour.check();
        thread::sleep(Duration::from_millis(50));
    }
    for (client, wire) in &mut dripping {
        wire.renew_deadline();
        assert_eq!(wire.response().map(|response| response.status), Some(408));
        client.is_gone();
    }
    drop(dripping);
    neighbour.check();
    server.settle(Levels::of(1, 1));
}

#[test]
fn those_who_never_finish_what_they_began_are_let_go() {
    let server = start(options());
    let mut neighbour = Neighbour::join(server.address);
    // 3.5/56: a WebSocket that is tried and never taken.
    let clients = [Polled::open(server.address, ECHO), Polled::open(server.address, ECHO)];
    let mut silent = clients[0].websocket();
    let mut probing = clients[1].probe();
    // 3.6/64: attachments that never come, or not all of them.
    let mut waiting = [Io::connect(server.address), Io::connect(server.address)];
    for io in &mut waiting {
        io.send(r#"452-7["a",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#);
    }
    waiting[1].send_binary(b"one");
    for wire in [&mut silent, &mut probing] {
        let end = wire.until_end();
        assert!(matches!(end[..], [] | [Incoming::Close(..)]), "{end:?}");
    }
    for io in &mut waiting {
        io.wire.renew_deadline();
        let end = io.wire.until_end();
        assert!(matches!(end[..], [] | [Incoming::Close(None | Some(1008), _)]), "{end:?}");
    }
    neighbour.check();
    for client in &clients {
        // Its connections were idle for too long.
        let mut client = Polled::resume(client.address, &client.target, &client.sid);
        client.wait();
        client.say("4released no more");
        assert_eq!(client.answer().body, "4released no more");
        let mut wire = client.probe();
        wire.send_text("5");
        wire.send_text("4and it can be tried again");
        assert_eq!(wire.text(), "4and it can be tried again");
    }
    drop((silent, probing, waiting, clients));
    server.settle(Levels::of(1, 1));
}

#[test]
fn attachments_have_a_limit_together() {
    let mut house = House::open(options());
    house.try_row("3.6/64 much in several attachments", |address| {
        let mut io = Io::connect(address);
        io.send(r#"4510-7["a"]"#);
        (0..3).for_each(|_| io.send_binary(&[0; 30_000]));
        io.wire.renew_deadline();
        let end = io.wire.until_end();
        assert!(matches!(end[..], [Incoming::Close(None | Some(1009), _)]), "{end:?}");
    });
    house.try_row("3.6/64 as much as may be", |address| {
        let mut io = Io::connect(address);
        io.send(r#"452-["$publish","a","a",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#);
        (0..2).for_each(|_| io.send_binary(&[0; 20_000]));
        io.is_well("");
    });
    house.judge();
}

#[test]
fn names_and_arguments_that_mean_something_to_javascript_do_nothing() {
    let mut house = House::open(options());
    house.try_row("3.6/63", |address| {
        let mut io = Io::connect(address);
        for name in
            ["__proto__", "constructor", "prototype", "hasOwnProperty", "toString", "error", "message"]
        {
            let answer = io.call("", 7, &format!(r#"["{name}",{{"__proto__":{{"a":1}}}}]"#));
            assert_eq!(answer[0]["error"]["code"], 108, "{answer}");
            io.hear("", name);
            io.send(&format!(r#"42["$publish","{name}","{name}",{{"__proto__":1}}]"#));
            assert_eq!(io.text(), format!(r#"42["{name}",{{"__proto__":1}}]"#));
        }
        io.is_well("");
    });
    house.judge();
}

#[test]
fn deep_and_long_packets_are_refused_or_close_the_connection() {
    let mut house = House::open(options());
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let rows = [
        (format!(r#"40{{"a":{}}}"#, deep(7_000)), "3.6/69 7,000 deep"),
        (format!(r#"40{{"token":{}}}"#, deep(7_000)), "3.6/69 a token that is 7,000 deep"),
        (format!("40{}", r#"{"a":"#.repeat(2_000)), "3.6/69 objects without end"),
        (format!(r#"40{{"a":"{}"}}"#, "x".repeat(60_000)), "3.6/69 60 KB before it is known"),
        (format!("40/{},", "n".repeat(15_000)), "3.6/69 a name of 15 KB"),
        (format!("42{}", deep(7_000)), "3.6/63 an event that is 7,000 deep"),
        (format!(r#"427["a",{}]"#, deep(7_000)), "3.6/63 an argument that is 7,000 deep"),
        (format!("42{}", "9".repeat(15_000)), "3.6/66 an ack id of 15,000 digits"),
        (format!("45{}-[]", "9".repeat(15_000)), "3.6/64 15,000 digits of attachments"),
    ];
    for (packet, name) in rows {
        house.try_row(name, |address| {
            let mut io = Io::open(address);
            if !packet.starts_with("40") {
                io.join("");
            }
            io.send(&packet);
            match io.next() {
                Incoming::Text(answer) => {
                    assert!(
                        ["40{", "44{", "44/", "437[{\"error\""].iter().any(|begin| answer.starts_with(begin)),
                        "{answer}"
                    );
                    io.wire.send_frame(Opcode::Close, &[]);
                    io.wire.until_end();
                }
                Incoming::Close(None | Some(1009), _) => {}
                other => panic!("{other:?}"),
            }
        });
    }
    house.judge();
}

#[test]
fn nobody_has_more_than_its_share_of_namespaces_and_rooms() {
    let generous = Rate { per_second: 100_000, burst: 100_000 };
    let settings = Settings { messages: generous, subscriptions: 128, ..options().settings };
    let mut house = House::open(Options { settings, ..options() });
    house.try_row("3.6/67 2,000 namespaces", |address| {
        let mut io = Io::open(address);
        let (mut connected, mut refused) = (0, 0);
        for number in 0..2_000 {
            io.send(&format!("40/{number:x},"));
            match &io.text()[..2] {
                "40" => connected += 1,
                "44" => refused += 1,
                other => panic!("{other}"),
            }
        }
        assert_eq!((connected, refused), (16, 1_984));
        for number in 0..16 {
            io.send(&format!("41/{number:x},"));
        }
        io.join("");
        io.is_well("");
    });
    house.try_row("3.6/67 in and out 1,000 times", |address| {
        let mut io = Io::open(address);
        for number in 0..1_000 {
            io.join(&format!("/{number},"));
            io.send(&format!("41/{number},"));
        }
        io.join("");
        io.is_well("");
    });
    house.try_row("3.6/68 1,000 rooms", |address| {
        let mut io = Io::connect(address);
        let (mut joined, mut refused) = (0, 0);
        for number in 0..1_000 {
            let answer = io.call("", number, &format!(r#"["$subscribe","room {number}"]"#));
            match answer[0]["error"]["code"].as_u64() {
                None => joined += 1,
                Some(_) => refused += 1,
            }
        }
        assert_eq!((joined, refused), (128, 872));
        io.call("", 1, r#"["$unsubscribe","room 5"]"#);
        io.hear("", "another room");
    });
    house.judge();
}

#[test]
fn a_client_that_floods_is_closed_and_those_beside_it_are_served() {
    let slow = Rate { per_second: 50, burst: 50 };
    let settings = Settings { messages: slow, close_ms: 300, ..options().settings };
    let packets = [r#"42["a"]"#, "3", "6", "439[1]"];
    let server = start(Options { settings, ..options() });
    for packet in packets {
        let mut io = Io::connect(server.address);
        let mut polled = Polled::connect(server.address);
        (0..200).for_each(|_| io.send(packet));
        let frames = io.wire.until_end();
        let answers = frames.iter().filter(|frame| matches!(frame, Incoming::Text(_))).count();
        assert!(answers <= 55, "{packet}: {answers} answers");
        assert!(matches!(frames.last(), None | Some(Incoming::Close(..))), "{packet}: {:?}", frames.last());
        let body = vec![packet; 200].join("\u{1e}");
        polled.post(body.as_bytes());
        eventually(|| format!("{packet}: it is closed"), || polled.get().status == 400);
        polled.is_gone();
    }
    server.settle(Levels::of(0, 0));
}

#[test]
fn thousands_of_packets_in_one_body_are_one_breach() {
    let websocket = Limits { message_bytes: 1_000_000, ..Limits::default() };
    let mut house = House::open(Options { websocket, ..options() });
    for (name, packet) in [("messages", "4"), ("pongs", "3"), ("binary", "b"), ("nothing", "")] {
        house.try_row(format!("3.5/54 100k of {name}"), |address| {
            let mut client = Polled::open(address, ECHO);
            let refused = client.post(vec![packet; 100_000].join("\u{1e}").as_bytes());
            assert_eq!(refused.status, 400, "{refused:?}");
            client.is_gone();
        });
    }
    house.try_row("3.5/54 as many as may be", |address| {
        let mut client = Polled::open(address, ECHO);
        let body = vec!["4x"; 500].join("\u{1e}");
        client.say(&body);
        assert_eq!(client.packets(500), vec!["4x"; 500]);
        client.say("1");
    });
    house.judge();
}

#[test]
fn what_was_answered_to_a_poll_is_not_answered_again() {
    let mut house = House::open(options());
    house.try_row("3.5/57 the answer is cut off after it was written", |address| {
        let mut client = Polled::open(address, ECHO);
        client.say("4lost");
        let mut cut = Wire::connect(address);
        send(&mut cut, "GET", &client.target, "", b"");
        // It is there, but nobody reads it.
        eventually(|| "the answer is there".to_owned(), || cut.has_something());
        cut.reset();
        client.echoes("next");
        client.say("1");
    });
    house.judge();
}

#[test]
fn sockets_beside_a_session_harm_it_in_no_way() {
    let mut house = House::open(options());
    house.try_row("3.5/49 and 3.5/56", |address| {
        let mut client = Polled::open(address, ECHO);
        for round in 0..30 {
            let (mut wire, _) = upgrade(address, &client.websocket_target(), "");
            match round % 6 {
                0 => wire.reset(),
                1 => wire.send_frame(Opcode::Binary, b"x"),
                2 => wire.send(&[0xff; 64]),
                3 => wire.send(b"\x81\x05hello"),
                4 => wire.send_frame(Opcode::Ping, b"x"),
                _ => {
                    wire.send_text("2probe");
                    wire.send_frame(Opcode::Close, &[0x03]);
                }
            }
            client.say("4unharmed");
            // While a WebSocket is tried, polls are let go.
            let mut came = client.poll();
            while came == "6" {
                came = client.poll();
            }
            assert_eq!(came, "4unharmed");
        }
        let mut wire = loop {
            let (mut wire, _) = upgrade(address, &client.websocket_target(), "");
            wire.send_text("5");
            wire.send_text("4x");
            if wire.next() == crate::client::text("4x") {
                break wire;
            }
        };
        for _ in 0..10 {
            upgrade(address, &client.websocket_target(), "").0.reset();
            assert_eq!(ask(&mut Wire::connect(address), "GET", &client.target.clone(), b"").status, 400);
        }
        wire.send_frame(Opcode::Binary, b"unharmed");
        assert_eq!(wire.next(), binary(b"unharmed"));
    });
    house.judge();
}

#[test]
fn a_poll_may_have_neither_a_body_nor_requests_without_end_behind_it() {
    let mut house = House::open(options());
    house.try_row("a poll with a body", |address| {
        let mut client = Polled::open(address, ECHO);
        let refused = ask(&mut Wire::connect(address), "GET", &client.target.clone(), b" body");
        assert!(matches!(refused.status, 400 | 200), "{refused:?}");
        client.post(b"1");
    });
    house.try_row("junk behind a poll", |address| {
        let client = Polled::open(address, ECHO);
        let mut wire = Wire::connect(address);
        send(&mut wire, "GET", &client.target, "", b"");
        (0..64).for_each(|_| wire.send(&[b'x'; 4_096]));
        wire.wait_for_end();
        eventually(
            || "the session ends with its poll".to_owned(),
            || once(address, "POST", &client.target, b"3").body == UNKNOWN_SESSION,
        );
    });
    house.try_row("a poll behind a poll on one connection", |address| {
        let mut client = Polled::open(address, ECHO);
        client.say("4a");
        let mut wire = Wire::connect(address);
        send(&mut wire, "GET", &client.target, "", b"");
        send(&mut wire, "GET", &client.target, "", b"");
        assert_eq!(wire.response().map(|response| response.body).as_deref(), Some("4a"));
        client.say("4b");
        assert_eq!(wire.response().map(|response| response.body).as_deref(), Some("4b"));
        client.say("1");
    });
    house.judge();
}

#[test]
fn what_a_websocket_must_not_send_closes_it_with_what_is_wrong() {
    let mut house = House::open(options());
    for (bytes, codes) in [
        (&b"\x81\x05hello"[..], [Some(1002), Some(1002)]),
        (b"\x83\x80\0\0\0\0", [Some(1002), Some(1002)]),
        (b"\x81\x82\0\0\0\0\xc3\x28", [Some(1007), Some(1007)]),
        (b"\xc1\x80\0\0\0\0", [Some(1002), Some(1002)]),
        (b"\x80\x80\0\0\0\0", [Some(1002), Some(1002)]),
    ] {
        house.try_row(format!("{bytes:02x?}"), |address| {
            let mut io = Io::connect(address);
            io.wire.send(bytes);
            let end = io.wire.until_end();
            let [Incoming::Close(code, _)] = end[..] else { panic!("{end:?}") };
            assert!(codes.contains(&code), "{end:?}");
        });
    }
    house.try_row("a fragmented event", |address| {
        let mut io = Io::connect(address);
        io.wire.send(&crate::support::frames::fragments(0x01, &[b"42", b"7[\"nob", b"ody\"]"]));
        assert!(io.text().starts_with("437["));
    });
    house.try_row("who never connects", |address| {
        let mut wire = Wire::websocket(address, IO_WS, "");
        wire.text();
        wire.send_text("1");
        is_closed(&mut wire);
    });
    house.judge();
}

#[test]
fn a_client_that_connects_without_end_is_closed() {
    let slow = Rate { per_second: 50, burst: 50 };
    let settings = Settings { messages: slow, close_ms: 300, ..options().settings };
    let server = start(Options { settings, ..options() });
    for packets in [&["40/a:b,"][..], &["40/chat,", "41/chat,"]] {
        let mut io = Io::connect(server.address);
        (0..100).for_each(|_| packets.iter().for_each(|packet| io.send(packet)));
        io.send(r#"427["nobody"]"#);
        let mut answers = 0;
        loop {
            match io.next() {
                Incoming::Text(answer) if answer.starts_with("437") => {
                    panic!("{packets:?}: all of it was taken")
                }
                Incoming::Text(_) => answers += 1,
                end => {
                    assert_eq!(end, Incoming::Close(None, String::new()));
                    break;
                }
            }
        }
        assert!(answers <= 55, "{packets:?}: {answers} answers");
    }
    server.settle(Levels::of(0, 0));
}
