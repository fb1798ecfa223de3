//! 3.1, rows 11 and 12: handshakes in pieces, and connections reset in the middle of them.

use duplex::Options;

use crate::support::frames::client_frame;
use crate::support::options;
use crate::support::wire::{UPGRADE, Wire};
use crate::table::{Door, Expect, House, Input, Row, check, frames, play, row};

const CONNECT: &[u8] = br#"{"id":1,"connect":{}}"#;

/// An upgrade request and, glued to it, the first command.
fn glued() -> Vec<u8> {
    let mut bytes = format!("GET /ws HTTP/1.1\r\n{UPGRADE}\r\n").into_bytes();
    bytes.extend(client_frame(0x81, CONNECT));
    bytes
}

fn expect_connected(wire: &mut Wire) {
    let response = wire.response().expect("a response");
    assert_eq!(response.status, 101, "{response:?}");
    let connected = wire.text();
    assert!(connected.starts_with(r#"{"id":1,"connected":{"#), "{connected}");
}

#[test]
fn a_handshake_is_read_the_same_however_it_is_cut() {
    // On one shard a request that is answered proves that what was sent before it has been read.
    let mut house = House::open(Options { shards: 1, ..options() });
    let address = house.server.address;
    let cut_at = |at: usize| {
        play(move |wire: &mut Wire| {
            let bytes = glued();
            wire.send(&bytes[..at]);
            let mut other = Wire::connect(address);
            other.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            assert_eq!(other.response().expect("a response").status, 200);
            wire.send(&bytes[at..]);
            expect_connected(wire);
        })
    };
    let cuts =
        (1..glued().len()).map(|at| row(format!("3.1/11 cut at {at}"), Door::Tcp, cut_at(at), frames([])));
    house.try_rows(cuts);
    house.judge();
}

#[test]
fn frames_may_come_with_the_handshake() {
    let whole = |tail: Vec<u8>| -> Input {
        play(move |wire: &mut Wire| {
            let mut bytes = glued();
            bytes.extend(tail);
            wire.send(&bytes);
            expect_connected(wire);
        })
    };
    let dripped = play(|wire: &mut Wire| {
        wire.drip(&glued());
        expect_connected(wire);
    });
    let ping = client_frame(0x81, br#"{"id":2,"ping":{}}"#);
    let many = ping.repeat(500);
    let pongs = Expect::Frames(vec!["pong#2".to_owned(); 500]);
    let early = play(|wire: &mut Wire| {
        wire.send(format!("GET /ws HTTP/1.1\r\n{UPGRADE}\r\n\u{1}\u{1}").as_bytes());
        assert_eq!(wire.response().expect("a response").status, 101);
    });
    check(
        options(),
        [
            row("3.1/11 with a frame", Door::Tcp, whole(vec![]), frames([])),
            row("3.1/11 with two frames", Door::Tcp, whole(ping.clone()), frames(["pong#2"])),
            row("3.1/11 with 500 frames", Door::Tcp, whole(many), pongs),
            row("3.1/11 with a close frame", Door::Tcp, whole(client_frame(0x88, b"\x03\xe8")), 1000),
            row("3.1/11 with half a frame", Door::Tcp, dripped, frames([])),
            row("3.1/11 with a frame that breaks the protocol", Door::Tcp, early, 1002),
        ],
    );
}

#[test]
fn a_connection_may_be_reset_at_any_time() {
    let mut house = House::open(options());
    let address = house.server.address;
    let reset_after = |bytes: Vec<u8>| {
        play(move |_: &mut Wire| {
            let mut wire = Wire::connect(address);
            wire.send(&bytes);
            wire.reset();
        })
    };
    let answered = play(move |_: &mut Wire| {
        let mut wire = Wire::connect(address);
        wire.send(&glued());
        expect_connected(&mut wire);
        wire.send(&client_frame(0x81, CONNECT)[..9]);
        wire.reset();
    });
    let half_closed = play(move |wire: &mut Wire| {
        wire.send(format!("GET /ws?channels=a HTTP/1.1\r\n{UPGRADE}\r\n").as_bytes());
        wire.finish_sending();
    });
    let cuts = [0, 1, 20, glued().len() - 30, glued().len()];
    let mut rows: Vec<Row> = Vec::new();
    for at in cuts {
        let input = reset_after(glued()[..at].to_vec());
        rows.push(row(format!("3.1/12 reset after {at} bytes"), Door::Tcp, input, Expect::Nothing));
    }
    rows.push(row("3.1/12 reset inside a frame", Door::Tcp, answered, Expect::Nothing));
    rows.push(row("3.1/12 nothing more after the request", Door::Tcp, half_closed, Expect::Nothing));
    house.try_rows(rows);
    house.judge();
}
