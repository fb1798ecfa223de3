//! 3.2: frames that break RFC 6455, 5 or a limit.

use duplex::{Options, Settings};
use duplex_core::Rate;
use duplex_websocket::{Limits, Opcode};

use crate::support::frames::{Incoming, client_frame, close, fragments};
use crate::support::options;
use crate::support::wire::Wire;
use crate::table::{Door, Expect, Row, check, frames, play, row};

/// The default of the longest message.
const LIMIT: usize = 65_536;

fn echo(name: impl Into<String>, bytes: Vec<u8>, expect: impl Into<Expect>) -> Row {
    row(name, Door::Echo, bytes, expect)
}

#[test]
fn a_frame_that_breaks_the_protocol_is_the_last_one() {
    let mut rows = vec![
        echo("3.2/21 an unmasked frame", b"\x81\x05hello".to_vec(), 1002),
        echo("3.2/21 an unmasked ping", b"\x89\x00".to_vec(), 1002),
        echo(
            "3.2/21 unmasked after a good one",
            [client_frame(0x81, b"a"), b"\x81\x00".to_vec()].concat(),
            1002,
        ),
        echo("3.2/24 5 written in 16 bits", b"\x81\xfe\x00\x05\0\0\0\0hello".to_vec(), 1002),
        echo("3.2/24 125 written in 16 bits", b"\x81\xfe\x00\x7d\0\0\0\0".to_vec(), 1002),
        echo("3.2/24 65535 written in 64 bits", b"\x82\xff\0\0\0\0\0\0\xff\xff\0\0\0\0".to_vec(), 1002),
        echo("3.2/24 a length of 2^63", b"\x82\xff\x80\0\0\0\0\0\0\0\0\0\0\0".to_vec(), 1002),
        echo(
            "3.2/24 a length of 2^64 - 1",
            b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0".to_vec(),
            1002,
        ),
    ];
    for bits in [0x10, 0x20, 0x30, 0x40, 0x70] {
        rows.push(echo(
            format!("3.2/22 reserved bits {bits:#04x}"),
            client_frame(0x81 | bits, b"hello"),
            1002,
        ));
        rows.push(echo(format!("3.2/22 {bits:#04x} in a ping"), client_frame(0x89 | bits, b""), 1002));
    }
    for opcode in (3..=7).chain(11..=15) {
        rows.push(echo(format!("3.2/23 opcode {opcode}"), client_frame(0x80 | opcode, b""), 1002));
    }
    check(options(), rows);
}

#[test]
fn a_message_may_be_as_long_as_the_limit_and_no_longer() {
    let declared = |length: u64| [&[0x82, 0xff][..], &length.to_be_bytes(), &[0; 4]].concat();
    let exact = vec![b'a'; LIMIT];
    let half = &exact[..LIMIT / 2];
    let text = "a".repeat(LIMIT);
    let padded = |length: usize| {
        let ping = r#"{"id":2,"ping":{}}"#;
        client_frame(0x81, format!("{ping}{}", " ".repeat(length - ping.len())).as_bytes())
    };
    let echoed = || Expect::Frames(vec![format!("{:?}", Incoming::Text("a".repeat(LIMIT)))]);
    assert_eq!(text.len(), LIMIT);
    check(
        options(),
        [
            echo("3.2/25 2^62 declared, then silence", declared(1 << 62), 1009),
            echo("3.2/25 2^63 - 1 declared", declared(u64::MAX >> 1), 1009),
            echo("3.2/25 1 GB declared", declared(1 << 30), 1009),
            echo(
                "3.2/25 2^62 declared in a continuation",
                [fragments(2, &[b"a", b"b"])[..7].to_vec(), {
                    let mut head = declared(1 << 62);
                    head[0] = 0x80;
                    head
                }]
                .concat(),
                1009,
            ),
            echo("3.2/26 exactly the limit", client_frame(0x81, &exact), echoed()),
            echo("3.2/26 one more", client_frame(0x81, &[&exact[..], b"a"].concat()), 1009),
            echo("3.2/26 the limit in two frames", fragments(1, &[half, half]), echoed()),
            echo("3.2/26 one more in two frames", fragments(1, &[&exact, b"a"]), 1009),
            row("3.2/26 a command of exactly the limit", Door::Native, padded(LIMIT), frames(["pong#2"])),
            row("3.2/26 one more", Door::Native, padded(LIMIT + 1), 1009),
        ],
    );
}

#[test]
fn a_message_may_come_in_any_pieces() {
    const LONG: usize = 1 << 20;
    let dripped = play(|wire: &mut Wire| wire.drip(&client_frame(0x81, "byte by byte: äöü".as_bytes())));
    let segments = play(|wire: &mut Wire| {
        let frame = client_frame(0x82, &vec![7; LONG]);
        frame.chunks(frame.len().div_ceil(10_000)).for_each(|segment| wire.send(segment));
        assert_eq!(wire.next(), Incoming::Binary(vec![7; LONG]));
    });
    let parts: Vec<&[u8]> = vec![b"ab"; 1_024];
    let whole = Expect::Frames(vec![format!("{:?}", Incoming::Text("ab".repeat(1_024)))]);
    check(
        Options { websocket: Limits { message_bytes: LONG, ..Limits::default() }, ..options() },
        [
            row("3.2/27 byte by byte", Door::Echo, dripped, frames(["text byte by byte: äöü"])),
            row("3.2/27 1 MiB in 10,000 segments", Door::Echo, segments, frames([])),
            echo("3.2/27 1,024 frames", fragments(1, &parts), whole),
        ],
    );
}

#[test]
fn too_many_messages_at_once_end_the_connection() {
    let flood = |frame: Vec<u8>| {
        play(move |wire: &mut Wire| {
            let hundred = frame.repeat(100);
            (0..1_000).for_each(|_| wire.send(&hundred));
        })
    };
    let ping = client_frame(0x81, br#"{"ping":{}}"#);
    let settings = Settings { messages: Rate { per_second: 50, burst: 200 }, ..options().settings };
    check(
        Options { settings, ..options() },
        [
            row("3.2/28 100,000 empty messages", Door::Echo, flood(client_frame(0x81, b"")), 3013),
            row("3.2/28 100,000 commands", Door::Native, flood(ping), 3013),
            row(
                "3.2/28 as many as allowed",
                Door::Echo,
                client_frame(0x82, b"").repeat(200),
                Expect::Frames(vec!["binary []".to_owned(); 200]),
            ),
        ],
    );
}

#[test]
fn a_close_frame_is_judged_and_answered_with_its_code() {
    let never = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535];
    let good =
        [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999];
    let mut rows = vec![
        echo("3.2/29 an empty body", client_frame(0x88, b""), Expect::CloseWithoutCode),
        echo("3.2/29 one byte", client_frame(0x88, b"\x03"), 1002),
        echo("3.2/29 a reason that is not UTF-8", close(1000, b"\xff\xfe"), 1007),
        echo("3.2/29 a reason cut inside a character", close(1000, "ä".as_bytes()[..1].as_ref()), 1007),
        echo("3.2/29 125 bytes", close(1000, &[b'a'; 123]), 1000),
        echo("3.2/29 126 bytes", close(1000, &[b'a'; 124]), 1002),
        echo("3.2/29 in two frames", fragments(8, &[b"\x03\xe8", b"bye"]), 1002),
    ];
    rows.extend(never.map(|code| echo(format!("3.2/29 code {code}"), close(code, b""), 1002)));
    // RFC 6455, 5.5.1: the code is echoed.
    rows.extend(good.map(|code| echo(format!("3.2/29 code {code}"), close(code, b"bye"), code)));
    check(options(), rows);
}

#[test]
fn nothing_counts_after_a_close_frame() {
    let text = client_frame(0x81, b"ignored");
    let behind =
        |first: Vec<u8>| [first, text.clone(), client_frame(0x89, b"?"), b"\xff\xff".to_vec()].concat();
    let silent = play(|wire: &mut Wire| {
        wire.send_text("not a command");
        assert!(matches!(wire.next(), Incoming::Close(Some(3501), _)));
    });
    let both = [client_frame(0x81, b"not a command"), close(1000, b"")].concat();
    let reset = play(|wire: &mut Wire| {
        wire.send_text(r#"{"id":2,"subscribe":{"channel":"a"}}"#);
        wire.text();
        wire.finish_sending();
    });
    check(
        options(),
        [
            echo("3.2/30 frames after a close frame", behind(close(1000, b"")), 1000),
            echo("3.2/30 frames after a violation", behind(client_frame(0x83, b"")), 1002),
            row("3.2/30 a peer that does not answer is cut off", Door::Native, silent, Expect::End),
            row("3.2/31 both close at once", Door::Native, both, 3501),
            row("3.2/31 the end instead of a close frame", Door::Native, reset, Expect::End),
        ],
    );
}

#[test]
fn a_reset_ends_a_session() {
    let mut house = crate::table::House::open(options());
    let address = house.server.address;
    let reset = play(move |_: &mut Wire| {
        let mut wire = Wire::websocket(address, "/ws?channels=a,b", "");
        (0..3).for_each(|_| drop(wire.text()));
        wire.send_frame(Opcode::Ping, b"");
        wire.reset();
    });
    house.try_rows([row("3.2/31 a reset instead of a close frame", Door::Tcp, reset, Expect::Nothing)]);
    house.judge();
}
