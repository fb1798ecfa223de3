//! 3.5: sessions over plain HTTP, used wrongly, cut off, or by those who are not theirs. What the catalogue says of one
//! protocol's long poll is read here as `docs/protocol.md` has it: a session goes on where nothing else is said.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use duplex::{Options, Settings, Timeouts};
use duplex_transport::SocketOptions;
use serde_json::{Value, json};

use crate::support::frames::Incoming;
use crate::support::http::{request, say};
use crate::support::native::offset;
use crate::support::neighbour::Neighbour;
#[cfg(target_os = "linux")]
use crate::support::program::Program;
use crate::support::session::{Carrier, Form, Session, Way, answer, ask, once, status, token, written};
use crate::support::wire::{Fill, UPGRADE, Wire};
use crate::support::{Levels, PATIENCE, eventually, options, start};
use crate::table::{Door, Expect, House, Row, play, row};

const JSON: Form = Form::Json;
/// Of the form of a token, and nobody's.
const NOBODY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// What happens to a session that somebody else has, who must not be harmed by it.
fn to_a_session(
    house: &House,
    name: impl Into<String>,
    act: impl FnOnce(&mut Session, &mut Wire) + 'static,
) -> Row {
    let address = house.server.address;
    let input = play(move |wire: &mut Wire| {
        let mut session = Session::subscribe(address, JSON, Way::Stream, "news");
        act(&mut session, wire);
        session.attach(Way::Stream);
        let said = say(address, "news", "unharmed");
        let mut publication = session.publication();
        while offset(&publication) < offset(&said) {
            publication = session.publication();
        }
        assert_eq!(offset(&publication), offset(&said));
        assert_eq!(session.request("DELETE", "", b"").status, 204);
        assert_eq!(session.closing(), 1001);
    });
    row(name, Door::Tcp, input, Expect::Nothing)
}

/// A WebSocket that cannot take a session over hears it in its answer, or, where only the session's shard knows, in a close
/// frame.
fn refused_websocket(address: SocketAddr, target: &str) {
    let mut wire = Wire::connect(address);
    wire.send(format!("GET {target} HTTP/1.1\r\n{UPGRADE}\r\n").as_bytes());
    match wire.response().expect("an answer").status {
        400 => {}
        101 => {
            let frames = wire.until_end();
            assert!(matches!(frames[..], [Incoming::Close(Some(3014), _)]), "{target}: {frames:?}");
        }
        status => panic!("{target}: {status}"),
    }
}

#[test]
fn a_token_that_is_nobodys_opens_nothing_and_harms_nobody() {
    let mut house = House::open(options());
    let address = house.server.address;
    type Forge = fn(&str) -> String;
    let forge: [(&str, Forge); 8] = [
        ("unknown", |_| NOBODY.to_owned()),
        ("of the other shard", |token| {
            format!("{}{}", &token[..33], if token.ends_with('A') { 'Q' } else { 'A' })
        }),
        ("of a shard that is not", |token| format!("{}_w", &token[..32])),
        ("with one letter changed", |token| {
            format!("{}{}", if token.starts_with('x') { 'y' } else { 'x' }, &token[1..])
        }),
        ("shorter", |token| token[1..].to_owned()),
        ("longer", |token| format!("{token}AAAA")),
        ("with a NUL", |token| format!("{token}%00")),
        ("a path", |_| "..%2f..%2fetc%2fpasswd".to_owned()),
    ];
    let mut rows = Vec::new();
    for (name, forge) in forge {
        rows.push(to_a_session(&house, format!("3.5/49 a token {name}"), move |session, _| {
            let forged = forge(&session.token);
            assert_ne!(forged, session.token);
            let targets = [
                ("POST", ""),
                ("DELETE", ""),
                ("POST", "/end"),
                ("GET", "/sse"),
                ("GET", "/stream"),
                ("GET", "/poll"),
            ];
            for (method, behind) in targets {
                assert_eq!(
                    status(address, &format!("{method} /session/{forged}{behind}")).0,
                    404,
                    "{method} {behind}"
                );
            }
            refused_websocket(address, &format!("/ws?session={forged}"));
        }));
    }
    house.try_rows(rows);
    house.judge();
}

#[test]
fn a_session_that_has_ended_is_nobodys() {
    let mut house = House::open(options());
    let address = house.server.address;
    let ended = play(move |_: &mut Wire| {
        let session = Session::connect(address, JSON);
        assert_eq!(session.request("DELETE", "", b"").status, 204);
        for (method, behind) in
            [("POST", ""), ("POST", "?n=2"), ("GET", "/poll"), ("GET", "/stream"), ("DELETE", "")]
        {
            assert_eq!(session.request(method, behind, b"").status, 404, "{method} {behind}");
        }
        let mut ws = Carrier::open(address, &session.token, Way::Ws, JSON, 0);
        assert_eq!(ws.next(), None);
    });
    house.try_rows([row("3.5/49 a session that has ended", Door::Tcp, ended, Expect::Nothing)]);
    house.judge();
}

#[test]
fn a_body_that_is_no_message_is_refused_or_ends_its_session_with_the_reason() {
    let mut house = House::open(options());
    let address = house.server.address;
    let many = format!("[{}]", vec![r#"{"ping":{}}"#; 129].join(","));
    let nested = "[".repeat(10_000);
    // What the answer is, and the code of the `closing` or `error` that comes down.
    let rows: [(&str, Form, &[u8], u16, u64); 12] = [
        ("abc", JSON, b"abc", 204, 3501),
        ("half a command", JSON, br#"{"id":1,"connect""#, 204, 3501),
        ("open arrays", JSON, nested.as_bytes(), 204, 3501),
        ("a NUL", JSON, b"\0", 204, 3501),
        ("129 commands", JSON, many.as_bytes(), 204, 107),
        ("null", JSON, b"null", 204, 107),
        ("bad UTF-8", JSON, b"{\"ping\":{}}\xff", 400, 0),
        ("half a character", JSON, b"\"\xc3", 400, 0),
        ("a map that ends early", Form::Packed, b"\x81\xa4ping", 204, 3501),
        ("a type that is none", Form::Packed, b"\xc1", 204, 3501),
        ("more than one value", Form::Packed, b"\x81\xa4ping\x80\x80", 204, 3501),
        ("4 GiB of bytes declared", Form::Packed, b"\xc6\xff\xff\xff\xff", 204, 3501),
    ];
    let rows = rows.map(|(name, form, body, expected, code)| {
        let body = body.to_vec();
        let input = play(move |_: &mut Wire| {
            let mut session = Session::subscribe(address, form, Way::Stream, "a");
            let answered = session.request("POST", "", &body);
            assert_eq!(
                (answered.status, answered.header("x-content-type-options")),
                (expected, Some("nosniff"))
            );
            session.sent += u64::from(expected == 204);
            if expected == 400 {
                // It was not counted either.
                session.send(&json!({ "id": 9, "ping": {} }));
                assert_eq!(session.next()["id"], 9);
            }
            if code != 0 {
                let frame = session.next();
                assert!(
                    [&frame["closing"]["code"], &frame["error"]["code"]].contains(&&json!(code)),
                    "{frame}"
                );
            }
            session.request("DELETE", "", b"");
        });
        row(format!("3.5/54 {name}"), Door::Tcp, input, Expect::Nothing)
    });
    house.try_rows(rows);
    house.judge();
}

#[test]
fn a_body_has_an_end_and_what_is_too_long_is_not_kept() {
    let mut house = House::open(options());
    let chunks = |rest: &'static str| {
        move |session: &mut Session, wire: &mut Wire| {
            let token = &session.token;
            wire.send(
                format!(
                    "POST /session/{token} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
                )
                .as_bytes(),
            );
            let chunk = format!("1000\r\n{}\r\n", "x".repeat(4_096));
            (0..64).for_each(|_| wire.send(chunk.as_bytes()));
            wire.send(rest.as_bytes());
        }
    };
    let declared = |session: &mut Session, wire: &mut Wire| {
        let token = &session.token;
        let head =
            format!("POST /session/{token} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000\r\n\r\n");
        wire.send(head.as_bytes());
        assert_eq!(wire.response().map(|response| response.status), Some(413));
    };
    let rows = [
        to_a_session(&house, "3.5/52 chunks without end", chunks("")),
        to_a_session(&house, "3.5/52 too many chunks", chunks("0\r\n\r\n")),
        to_a_session(&house, "3.5/52 100 MB declared", declared),
    ];
    house.try_rows(rows);
    house.judge();
}

#[test]
fn numbers_that_cannot_be_are_refused_and_change_nothing() {
    let mut house = House::open(options());
    let address = house.server.address;
    let max = u64::MAX.to_string();
    // As `after` of a transport and of a message, and as `n`.
    let numbers: [(&str, [u16; 3]); 12] = [
        (&max, [400, 400, 409]),
        ("9007199254740993", [400, 400, 409]),
        ("18446744073709551616", [400; 3]),
        ("-1", [400; 3]),
        ("+1", [400; 3]),
        ("1.5", [400; 3]),
        ("1e2", [400; 3]),
        ("0x1", [400; 3]),
        ("", [400; 3]),
        ("x", [400; 3]),
        ("%00", [400; 3]),
        ("%D9%A1", [400; 3]),
    ];
    let rows: Vec<Row> = numbers
        .iter()
        .map(|(number, expected)| {
            let (number, expected) = ((*number).to_owned(), *expected);
            to_a_session(&house, format!("3.5/59 the number {number:?}"), move |session, _| {
                let ping = br#"{"ping":{}}"#;
                for way in ["sse", "stream", "poll"] {
                    let got = session.request("GET", &format!("/{way}?after={number}"), b"");
                    assert_eq!(got.status, expected[0], "{got:?}");
                }
                let after = session.request("POST", &format!("?after={number}"), ping);
                let n = session.request("POST", &format!("?n={number}"), ping);
                assert_eq!([after.status, n.status], expected[1..], "{after:?} {n:?}");
                refused_websocket(address, &format!("/ws?session={}&after={number}", session.token));
                session.send(&json!({ "id": 9, "ping": {} }));
                assert_eq!(session.next()["id"], 9, "what was refused was not carried out");
            })
        })
        .collect();
    house.try_rows(rows);
    house.judge();
}

#[test]
fn headers_and_parameters_of_other_protocols_mean_nothing_here() {
    let mut house = House::open(options());
    let address = house.server.address;
    let forged = ["1", "18446744073709551616", "abc:1:news", "\u{e9}", &"1".repeat(8_000)].map(str::to_owned);
    let mut rows: Vec<Row> = forged
        .map(|id| {
            to_a_session(&house, format!("3.5/59 Last-Event-ID {id:.20}"), move |session, _| {
                let head = format!("GET /session/{}/sse?after={}", session.token, session.got);
                let mut wire = Wire::connect(address);
                wire.send(&written(&format!("{head}\r\nLast-Event-ID: {id}"), JSON, b""));
                let expected = format!("data: {{\"attached\":{{\"after\":{},", session.got);
                while !String::from_utf8_lossy(wire.unread()).contains(&expected) {
                    assert_eq!(wire.fill(), Fill::More);
                }
            })
        })
        .into();
    for jsonp in ["callback=alert", "jsonp=alert", "j=0"] {
        rows.push(to_a_session(&house, format!("3.5/55 {jsonp}"), move |session, _| {
            say(address, "news", "one");
            let polled = session.request("GET", &format!("/poll?after={}&{jsonp}", session.got), b"");
            assert!(polled.body.starts_with("{\"attached\":"), "{polled:?}");
            let (opened, body) = once(address, &format!("POST /session?{jsonp}"), JSON, b"");
            assert!(opened.body.starts_with("{\"session\":"), "{opened:?}");
            let opened_token = token(&JSON.read(&body));
            for response in [polled, opened] {
                assert_eq!(response.header("x-content-type-options"), Some("nosniff"), "{response:?}");
                assert!(
                    !response.header("content-type").unwrap_or("").contains("javascript"),
                    "{response:?}"
                );
            }
            assert_eq!(status(address, &format!("DELETE /session/{opened_token}")).0, 204);
        }));
    }
    house.try_rows(rows);
    house.judge();
}

#[test]
fn whatever_is_published_comes_as_one_frame_over_every_transport() {
    let server = start(options());
    let bodies = [
        "{\"channel\":\"news\",\"data\":{\"a\":\r\n\r\n1,\n\n\"b\":\r2}}",
        r#"{"channel":"news","data":"\r\n\r\ndata: forged\n\nid: 1\n\n\u0000\u2028\u2029"}"#,
        r#"{"channel":"news","event":"x: y","data":null}"#,
        r#"{"channel":"news","args":["\n\n",":"],"tags":{"a":"\r\n"}}"#,
    ];
    for form in [JSON, Form::Packed] {
        for way in form.ways() {
            let mut session = Session::subscribe(server.address, form, *way, "news");
            for body in bodies {
                let said = crate::support::http::publish(server.address, body);
                let publication = session.publication();
                let body: Value = serde_json::from_str(body).expect("JSON");
                assert_eq!(offset(&publication), offset(&said), "{form:?} {way:?}");
                for part in ["data", "args", "tags"] {
                    assert_eq!(publication[part], body[part], "{form:?} {way:?}");
                }
            }
            assert_eq!(session.request("DELETE", "", b"").status, 204);
        }
    }
    for event in ["a\\nb", "a\\rb", "a\\u0000b"] {
        let body = format!(r#"{{"channel":"news","event":"{event}","data":1}}"#);
        assert_eq!(request(server.address, "POST /api/v1/publish HTTP/1.1", &body).status, 400, "{event}");
    }
}

#[test]
fn a_transport_may_break_at_every_stage_of_taking_a_session_over() {
    let mut house = House::open(options());
    let address = house.server.address;
    let mut rows = Vec::new();
    for way in JSON.ways() {
        for stage in 0..5 {
            rows.push(to_a_session(
                &house,
                format!("3.5/56 {way:?} breaks at stage {stage}"),
                move |session, _| {
                    say(address, "news", "before");
                    let after = session.got;
                    let mut carrier = match stage {
                        // Half a request; a whole one.
                        0 => {
                            let mut wire = Wire::connect(address);
                            wire.send(format!("GET /session/{}/poll?aft", session.token).as_bytes());
                            return wire.reset();
                        }
                        _ => Carrier::open(address, &session.token, *way, JSON, after),
                    };
                    say(address, "news", "meanwhile");
                    // What it began with has come; a frame has; all have, and its client says so by closing properly.
                    (1..stage).for_each(|_| drop(carrier.next()));
                    if stage < 4 {
                        carrier.wire.reset();
                    } else if *way != Way::Ws {
                        carrier.wire.finish_sending();
                        carrier.wire.wait_for_end();
                    }
                    session.go_over(Way::Poll);
                    for expected in ["before", "meanwhile"] {
                        assert_eq!(session.publication()["data"], expected);
                    }
                },
            ));
        }
    }
    house.try_rows(rows);
    house.judge();
}

#[test]
fn a_websocket_that_takes_a_session_over_and_does_nothing_gives_it_back() {
    let mut house = House::open(options());
    let whole = format!("{UPGRADE}\r\n");
    let silent = |upgrade: &str| {
        let upgrade = upgrade.to_owned();
        move |session: &mut Session, wire: &mut Wire| {
            let target = format!("/ws?session={}&after={}", session.token, session.got);
            wire.send(format!("GET {target} HTTP/1.1\r\n{upgrade}").as_bytes());
            for n in 0..10 {
                session.carrier = None;
                let ping = json!({ "id": 10 + n, "ping": {} });
                session.send(&ping);
                session.go_over(Way::Poll);
                assert_eq!(session.next()["id"], 10 + n);
            }
        }
    };
    let rows = [
        to_a_session(&house, "3.5/56 half an upgrade", silent("Host: localhost\r\nUpgrade: webso")),
        to_a_session(&house, "3.5/56 an upgrade and nothing more", silent(&whole)),
    ];
    house.try_rows(rows);
    house.judge();
}

#[test]
fn many_transports_race_for_a_session_and_one_gets_it() {
    const RACERS: usize = 24;
    let mut house = House::open(options());
    let address = house.server.address;
    let race = to_a_session(&house, "3.5/50 many transports at once", move |session, _| {
        for round in 0..5 {
            say(address, "news", &format!("{round}"));
            let mut carriers: Vec<Carrier> = thread::scope(|scope| {
                let racers: Vec<_> = (0..RACERS)
                    .map(|racer| {
                        let (token, after) = (session.token.clone(), session.got);
                        let way = JSON.ways()[racer % 4];
                        scope.spawn(move || Carrier::open(address, &token, way, JSON, after))
                    })
                    .collect();
                racers.into_iter().map(|racer| racer.join().expect("a racer")).collect()
            });
            // Whoever comes last has the session, so all must have come.
            carriers.iter_mut().for_each(Carrier::until_heard);
            session.go_over(Way::Poll);
            assert_eq!(session.publication()["data"], format!("{round}"));
            drop(carriers);
        }
    });
    house.try_rows([race]);
    house.judge();
}

#[test]
fn slow_messages_do_not_delay_others_and_are_not_waited_for_for_ever() {
    let timeouts = Timeouts { body: Duration::from_secs(2), ..Timeouts::default() };
    let server = start(Options { timeouts, ..options() });
    let mut neighbour = Neighbour::join(server.address);
    let mut session = Session::subscribe(server.address, JSON, Way::Stream, "news");
    let head =
        format!("POST /session/{} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n", session.token);
    let mut slow: Vec<Wire> = (0..300)
        .map(|_| {
            let mut wire = Wire::connect(server.address);
            wire.send(head.as_bytes());
            wire
        })
        .collect();
    for _ in 0..3 {
        slow.iter_mut().for_each(|wire| wire.send(b" "));
        let began = Instant::now();
        for n in 0..20 {
            assert!(session.ask(20 + n, &json!({ "id": 20 + n, "ping": {} }))["pong"].is_object());
        }
        assert!(began.elapsed() < Duration::from_secs(2), "{:?} for 20 messages", began.elapsed());
        neighbour.check();
    }
    for mut wire in slow {
        wire.renew_deadline();
        assert_eq!(wire.response().map(|response| response.status), Some(408));
    }
    assert_eq!(session.request("DELETE", "", b"").status, 204);
    drop(session);
    neighbour.check();
    server.settle(Levels::of(1, 1));
}

/// Little may wait for a client, and its system takes little that it has not read.
fn narrow(settings: Settings) -> Options {
    let sockets =
        SocketOptions { send_buffer_bytes: 16 << 10, user_timeout: PATIENCE * 10, ..Default::default() };
    let timeouts = Timeouts { head: Duration::from_secs(2), ..Timeouts::default() };
    Options { settings, sockets, timeouts, ..options() }
}

#[test]
fn a_reader_that_stops_is_dropped_whatever_carries_its_session() {
    let server = start(narrow(Settings { outbox_bytes: 64 << 10, close_ms: 300, ..options().settings }));
    let mut neighbour = Neighbour::join(server.address);
    let long = "x".repeat(8_000);
    for way in JSON.ways() {
        let mut session = Session::subscribe(server.address, JSON, *way, "flood");
        session.go_over_on(Wire::connect_narrow(server.address), *way);
        let mut said = 0;
        eventually(
            || format!("{way:?}: the reader is dropped, {:?}", server.levels()),
            || {
                said += 1;
                say(server.address, "flood", &long);
                server.gauges().subscriptions() == 1
            },
        );
        assert!(said < 100, "{way:?}: {said} publications of 8 KB");
        neighbour.check();
        server.settle(Levels::of(1, 1));
        drop(session);
    }
    let held = || server.gauges().outbox_bytes();
    eventually(|| format!("nothing is held, {} bytes", held()), || held() == 0);
}

#[test]
fn a_reader_that_is_slow_but_reads_on_is_not_dropped() {
    let server = start(narrow(Settings { stall_ms: 1_000, ..options().settings }));
    let mut session = Session::subscribe(server.address, JSON, Way::Stream, "news");
    session.go_over_on(Wire::connect_narrow(server.address), Way::Stream);
    say(server.address, "news", &"x".repeat(60_000));
    let wire = &mut session.carrier.as_mut().expect("it is carried").wire;
    // It takes a few hundred bytes each time, and so longer than a reader that takes nothing would be waited for.
    let began = Instant::now();
    while wire.unread().len() < 60_000 {
        assert_eq!(wire.fill_little(4_096), Fill::More, "after {:?}", began.elapsed());
        thread::sleep(Duration::from_millis(15));
    }
    assert_eq!(server.gauges().subscriptions(), 1);
}

#[test]
#[cfg(target_os = "linux")]
fn what_is_sent_behind_an_open_response_is_not_kept() {
    const JUNK_BYTES: usize = 16 << 20;
    let program = Program::start(&[]);
    let sessions = [Way::Stream, Way::Sse, Way::Poll].map(|way| {
        let mut session = Session::subscribe(program.address, JSON, Way::Stream, "news");
        session.park(Wire::connect(program.address));
        if way != Way::Poll {
            session.attach(way);
        }
        session
    });
    let before = program.peak_kib();
    for mut session in sessions {
        let wire = &mut session.carrier.as_mut().expect("it is carried").wire;
        let junk = vec![b'x'; 64 << 10];
        (0..JUNK_BYTES / junk.len()).for_each(|_| wire.send(&junk));
        // Whatever became of its transport, the session goes on.
        session.attach(Way::Stream);
        say(program.address, "news", "still here");
        assert_eq!(session.publication()["data"], "still here");
    }
    let grown = program.peak_kib().saturating_sub(before);
    assert!(grown < 4 << 10, "{grown} KiB more at the most");
}

#[test]
fn thousands_of_sessions_that_are_abandoned_leave_nothing() {
    const EACH: usize = 1_000;
    let settings = Settings { linger_ms: 500, connect_ms: 500, close_ms: 300, ..options().settings };
    let server = start(Options { settings, ..options() });
    let mut neighbour = Neighbour::join(server.address);
    let connect = br#"[{"connect":{}},{"subscribe":{"channel":"a"}}]"#;
    let abandon = |first: &[u8]| {
        let mut wire = Wire::connect(server.address);
        for _ in 0..EACH {
            assert_eq!(ask(&mut wire, "POST /session", JSON, first).0.status, 200);
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| abandon(connect));
        scope.spawn(|| abandon(b""));
        scope.spawn(|| {
            for _ in 0..EACH / 5 {
                let session = Session::connect(server.address, JSON);
                Carrier::open(server.address, &session.token, Way::Stream, JSON, 0).wire.reset();
            }
        });
    });
    neighbour.check();
    server.settle(Levels::of(1, 1));
    let held = || server.gauges().outbox_bytes();
    eventually(|| format!("nothing is held, {} bytes", held()), || held() == 0);
}

#[test]
fn two_polls_and_two_messages_at_once_are_each_answered() {
    let mut house = House::open(options());
    let address = house.server.address;
    let at_once = to_a_session(&house, "3.5/50 two of each at once", move |session, wire| {
        for n in 0..10 {
            let poll = format!("GET /session/{}/poll?after={}", session.token, session.got);
            let post = |id: u64| {
                let body = json!({ "id": id, "ping": {} }).to_string();
                written(&format!("POST /session/{}", session.token), JSON, body.as_bytes())
            };
            let mut wires: [Wire; 3] = std::array::from_fn(|_| Wire::connect(address));
            wire.send(&written(&poll, JSON, b""));
            wires[0].send(&written(&poll, JSON, b""));
            wires[1].send(&post(100 + n));
            wires[2].send(&post(200 + n));
            for posted in &mut wires[1..] {
                assert_eq!(answer(posted).0.status, 204);
            }
            let mut statuses = [answer(wire).0.status, answer(&mut wires[0]).0.status];
            statuses.sort_unstable();
            // One waited and was overtaken, or was answered before the other came.
            assert!(matches!(statuses, [200, 409 | 200]), "{statuses:?}");
            session.sent += 2;
            session.attach(Way::Stream);
            let mut pongs = [session.next()["id"].as_u64(), session.next()["id"].as_u64()];
            pongs.sort_unstable();
            assert_eq!(pongs, [Some(100 + n), Some(200 + n)]);
        }
    });
    house.try_rows([at_once]);
    house.judge();
}
