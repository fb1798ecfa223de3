//! Those who take their time: 3.1, row 5; 3.4, rows 39, 47 and 48; 3.5, row 53. What they have in common is that a test
//! must wait for the server's patience to end, so they wait together.

use std::thread;
use std::time::{Duration, Instant};

use duplex::{Options, Settings, Timeouts};

use crate::support::frames::{Incoming, client_frame};
use crate::support::native::Client;
use crate::support::neighbour::Neighbour;
use crate::support::wire::Wire;
use crate::support::{Levels, options, start};

/// Pause of a client that takes its time between two pieces.
const PACE: Duration = Duration::from_millis(100);
const GET: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n";

/// A server that gives heads and bodies of requests, and messages, this long.
fn impatient(patience: Duration) -> Options {
    let timeouts = Timeouts { head: patience, body: patience, message: patience };
    // Pings would be silence broken, which is another story.
    let settings = Settings { heartbeat_ms: 300_000, ..options().settings };
    Options { timeouts, settings, ..options() }
}

#[test]
fn slow_requests_harm_nobody_and_are_not_waited_for_for_ever() {
    let server = start(impatient(Duration::from_secs(3)));
    let mut neighbour = Neighbour::join(server.address);
    let connect = |count: usize, first: &'static [u8]| -> Vec<Wire> {
        let connect = |_| {
            let mut wire = Wire::connect(server.address);
            wire.send(first);
            wire
        };
        (0..count).map(connect).collect()
    };
    let mut dripping = connect(200, GET);
    let silent = connect(50, b"");
    let idle = connect(50, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut posting = connect(
        50,
        b"POST /api/v1/publish HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 9\r\n\r\n1",
    );
    // A line now and then, so that they are never silent for long; meanwhile others come and go as they like.
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        dripping.iter_mut().for_each(|wire| wire.send(b"X: 1\r\n"));
        neighbour.check();
        Client::connect(server.address).leave();
        thread::sleep(PACE);
    }
    for mut wire in dripping.into_iter().chain(silent).chain(idle) {
        wire.renew_deadline();
        wire.wait_for_end();
    }
    for wire in &mut posting {
        wire.renew_deadline();
        assert_eq!(wire.response().map(|response| response.status), Some(408));
    }
    drop(posting);
    neighbour.check();
    server.settle(Levels::of(1, 1));
}

#[test]
fn a_message_has_its_time_and_a_busy_client_any_time() {
    let server = start(impatient(Duration::from_secs(5)));
    let mut neighbour = Neighbour::join(server.address);
    let begin = client_frame(0x01, b"a");
    let end = client_frame(0x80, b"b");
    let mut unfinished = Wire::websocket(server.address, "/echo", "");
    unfinished.send(&begin);
    // Ends a message with the first byte of the next, always: it is never without one, but each one is soon done.
    let mut busy = Wire::websocket(server.address, "/echo", "");
    busy.send(&begin);
    let until = Instant::now() + Duration::from_secs(7);
    let mut answer = Incoming::End;
    while Instant::now() < until {
        busy.send(&[&end[..], &begin[..]].concat());
        answer = busy.next();
        if let Incoming::Close(..) | Incoming::End = answer {
            break;
        }
        thread::sleep(PACE);
    }
    neighbour.check();
    unfinished.renew_deadline();
    let verdict = unfinished.next();
    assert!(matches!(verdict, Incoming::Close(Some(1008), _)), "{verdict:?}");
    assert_eq!(answer, Incoming::Text("ab".to_owned()), "each message was done at once");
    drop((unfinished, busy));
    server.settle(Levels::of(1, 1));
}

/// A server that soon wonders whether somebody is still there.
fn anxious(pong_ms: u32) -> Options {
    Options { settings: Settings { heartbeat_ms: 200, pong_ms, ..options().settings }, ..options() }
}

#[test]
fn who_never_pongs_is_closed() {
    let server = start(anxious(300));
    let mut wire = Wire::websocket(server.address, "/ws?channels=a", "");
    let frames = wire.until_end();
    let pings = frames.iter().filter(|frame| **frame == Incoming::Ping(Vec::new())).count();
    assert!(pings >= 1, "{frames:?}");
    assert!(matches!(frames.last(), Some(Incoming::Close(Some(3012), _))), "{frames:?}");
    server.settle(Levels::of(0, 0));
}

#[test]
fn any_pong_will_do() {
    let server = start(anxious(4_000));
    let mut wire = Wire::websocket(server.address, "/ws?channels=a", "");
    let mut pings = 0;
    while pings < 2 {
        if let Incoming::Ping(_) = wire.next() {
            pings += 1;
            // Too many, and none of them with the payload of the ping.
            wire.send(&[client_frame(0x8a, b"late"), client_frame(0x8a, b"")].concat());
        }
    }
    wire.send_text(r#"{"id":1,"ping":{}}"#);
    assert_eq!(wire.text(), r#"{"id":1,"pong":{}}"#);
}

#[test]
fn who_does_not_say_connect_is_closed() {
    let settings = Settings { connect_ms: 200, ..options().settings };
    let server = start(Options { settings, ..options() });
    let mut connected = Wire::websocket(server.address, "/ws?channels=a", "");
    let mut silent = Wire::websocket(server.address, "/ws", "");
    let mut pinging = Wire::websocket(server.address, "/ws", "");
    pinging.send_text(r#"{"ping":{}}"#);
    for wire in [&mut silent, &mut pinging] {
        let frames = wire.until_end();
        assert!(matches!(frames.last(), Some(Incoming::Close(Some(3502), _))), "{frames:?}");
    }
    // Who has connected stays.
    connected.send_text(r#"{"id":9,"ping":{}}"#);
    while connected.text() != r#"{"id":9,"pong":{}}"# {}
    drop((silent, pinging));
    server.settle(Levels::of(1, 1));
}
