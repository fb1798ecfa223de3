//! Heartbeats (C7): on schedule whatever the client says, since it says only what it is asked for.

use std::thread;
use std::time::{Duration, Instant};

use duplex::{Options, Settings};
use serde_json::json;

use crate::client::{Form, Hub, Way};
use crate::options;
use crate::support::frames::{Incoming, client_frame};
use crate::support::{Levels, eventually, start};

/// A server that soon wonders whether somebody is still there.
fn anxious(heartbeat_ms: u32, pong_ms: u32) -> Options {
    Options { settings: Settings { heartbeat_ms, pong_ms, ..options().settings }, ..options() }
}

const FORMS: [Form; 2] = [Form::Json, Form::Packed];

#[test]
fn a_websocket_gets_pings_of_both_kinds() {
    let server = start(anxious(1_000, 20_000));
    for form in FORMS {
        let mut hub = Hub::open_by(server.address, (Way::Ws, form));
        let (mut frames, mut messages) = (0, 0);
        let before = Instant::now();
        while frames < 3 || messages < 3 {
            hub.down.renew_deadline();
            match hub.down.next() {
                Incoming::Ping(payload) => {
                    frames += 1;
                    hub.down.send(&client_frame(0x8a, &payload));
                }
                Incoming::Text(text) if form == Form::Json => {
                    assert_eq!(text, "{\"type\":6}\u{1e}");
                    messages += 1;
                }
                Incoming::Binary(bytes) if form == Form::Packed => {
                    assert_eq!(bytes, [0x02, 0x91, 0x06]);
                    messages += 1;
                }
                other => panic!("{other:?}"),
            }
            assert!(frames < 20 && messages < 20, "{frames} and {messages}");
        }
        assert!(before.elapsed() > Duration::from_millis(1_200), "hardly more often than it is set");
    }
}

#[test]
fn they_come_also_while_the_client_talks() {
    let server = start(anxious(300, 20_000));
    for way in [Way::Ws, Way::Sse] {
        let mut hub = Hub::open_by(server.address, (way, Form::Json));
        let deadline = Instant::now() + crate::support::PATIENCE;
        while hub.pings < 3 {
            assert!(Instant::now() < deadline, "{way:?}: {} pings", hub.pings);
            hub.is_well();
            thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn who_answers_nothing_is_closed() {
    let server = start(anxious(200, 300));
    for form in FORMS {
        let mut hub = Hub::open_by(server.address, (Way::Ws, form));
        // Who has never pinged nor answered may be one that does neither.
        let ping = if form == Form::Json { &b"{\"type\":6}\x1e"[..] } else { &[0x02, 0x91, 0x06] };
        hub.say(ping);
        let end = loop {
            match hub.down.next() {
                Incoming::Close(..) => break hub.down.until_end(),
                Incoming::End => break Vec::new(),
                _ => {}
            }
        };
        assert!(end.is_empty(), "{end:?}");
        drop(hub);
        server.settle(Levels::of(0, 0));
    }
}

/// How a client shows that it is there.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Life {
    /// It answers pings of WebSocket, as browsers do by themselves.
    Pongs,
    /// It answers pings of SignalR.
    Pings,
    /// It talks of something else.
    Talk,
}

/// Is there for so long, and shows it in one way only.
fn live(mut hub: Hub, life: Life, time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        hub.down.renew_deadline();
        match (hub.down.next(), life) {
            (Incoming::Ping(payload), Life::Pongs) => hub.down.send(&client_frame(0x8a, &payload)),
            (Incoming::Text(text), Life::Pings) if text == "{\"type\":6}\u{1e}" => hub.down.send_text(&text),
            (Incoming::Ping(_), Life::Talk) => {
                hub.down.send_text("{\"type\":1,\"target\":\"$unsubscribe\",\"arguments\":[\"a\"]}\u{1e}");
            }
            (Incoming::Ping(_) | Incoming::Text(_), _) => {}
            (other, _) => panic!("{life:?}: {other:?}"),
        }
    }
    hub.is_well();
}

#[test]
fn any_sign_of_life_is_one() {
    let server = start(anxious(200, 2_000));
    let address = server.address;
    thread::scope(|scope| {
        for life in [Life::Pongs, Life::Pings, Life::Talk] {
            scope.spawn(move || live(Hub::open(address), life, Duration::from_secs(5)));
        }
    });
}

#[test]
fn a_stream_of_events_that_nobody_answers_goes_on() {
    // Its client can say nothing over it; its socket says whether somebody is there.
    let server = start(anxious(100, 200));
    let mut hub = Hub::open_by(server.address, (Way::Sse, Form::Json));
    for _ in 0..15 {
        assert_eq!(hub.message(), Some(json!({ "type": 6 })));
    }
    hub.is_well();
    hub.leave();
    drop(hub);
    eventually(|| "it is gone".to_owned(), || server.gauges().sessions() == 0);
}

#[test]
fn they_are_not_sent_before_the_handshake_is_answered() {
    let server = start(anxious(50, 20_000));
    for way in [Way::Ws, Way::Sse] {
        let mut hub = Hub::begin(server.address, crate::client::Manner { way, ..Default::default() });
        thread::sleep(Duration::from_millis(400));
        hub.shake_hands(1);
        hub.is_well();
    }
}
