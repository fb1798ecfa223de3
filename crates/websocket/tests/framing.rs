//! Frames, fragments and control frames (RFC 6455, 5).

mod support;

use support::{
    BINARY, CLOSE, CONT, Ear, FIN, KEY, PING, PONG, RSV1, SERVER, TEXT, brief, client, head, server,
};

/// Each stream must tell its story however it is cut.
fn check(ear: Ear, table: &[(&[Vec<u8>], &str)]) {
    for (frames, expected) in table {
        assert_eq!(ear.hears(&frames.concat()), *expected);
    }
}

#[test]
fn the_frames_of_the_rfc_are_heard() {
    // RFC 6455, 5.7.
    let hello = vec![0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
    let fragments = vec![0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f];
    let ping = vec![0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
    check(
        SERVER.client(),
        &[(&[hello], "text \"Hello\""), (&[fragments], "text \"Hello\""), (&[ping], "ping \"Hello\"")],
    );
    let masked = vec![0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    let pong = vec![0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    check(SERVER, &[(&[masked], "text \"Hello\""), (&[pong], "pong \"Hello\"")]);
}

#[test]
fn every_length_form_arrives_whole() {
    for length in [0, 1, 15, 16, 17, 124, 125, 126, 127, 128, 65_535, 65_536] {
        let payload: Vec<u8> = (0..length).map(|at| (at * 7) as u8).collect();
        let expected = format!("binary {}", brief(&payload));
        assert_eq!(SERVER.hears(&client(FIN | BINARY, &payload)), expected);
        assert_eq!(SERVER.client().hears(&server(FIN | BINARY, &payload)), expected);
    }
}

#[test]
fn frames_glued_together_are_heard_one_by_one() {
    check(
        SERVER,
        &[(
            &[
                client(FIN | TEXT, b"a"),
                client(FIN | BINARY, b""),
                client(FIN | PING, b"p"),
                client(FIN | PONG, b""),
                client(FIN | CLOSE, b"\x03\xe8bye"),
            ],
            "text \"a\"; binary \"\"; ping \"p\"; pong \"\"; close 1000 \"bye\"",
        )],
    );
}

#[test]
fn fragments_join_and_control_frames_overtake_them() {
    check(
        SERVER,
        &[
            (&[client(TEXT, b"a"), client(CONT, b"b"), client(FIN | CONT, b"c")], "text \"abc\""),
            (&[client(BINARY, b""), client(CONT, b""), client(FIN | CONT, b"")], "binary \"\""),
            (
                &[client(TEXT, b"a"), client(FIN | PING, b"now"), client(FIN | CONT, b"b")],
                "ping \"now\"; text \"ab\"",
            ),
            (&[client(TEXT, b"a"), client(FIN | CLOSE, b"")], "close"),
            (
                &[client(TEXT, b"a"), client(FIN | CONT, b"b"), client(FIN | TEXT, b"c")],
                "text \"ab\"; text \"c\"",
            ),
        ],
    );
}

#[test]
fn what_is_unfinished_is_said_to_be() {
    let ping = client(FIN | PING, b"abc");
    let part = client(BINARY, b"abc");
    for (wire, expected) in [
        (&ping[..1], "...0"),
        (&ping[..6], "...0"),
        (&ping[..8], "...2"),
        (&part, "...3"),
        (&[&part[..], &ping[..8]].concat(), "...5"),
        (&[&part[..], &ping].concat(), "ping \"abc\"; ...3"),
    ] {
        assert_eq!(SERVER.hears(wire), expected);
    }
}

#[test]
fn a_mask_is_required_from_clients_and_refused_from_servers() {
    check(
        SERVER,
        &[
            (&[server(FIN | TEXT, b"a")], "! UnmaskedFrame 1002"),
            (&[server(FIN | CLOSE, b"")], "! UnmaskedFrame 1002"),
            (&[client(FIN | TEXT, b"a"), server(FIN | TEXT, b"b")], "text \"a\"; ! UnmaskedFrame 1002"),
        ],
    );
    check(SERVER.client(), &[(&[client(FIN | TEXT, b"a")], "! MaskedFrame 1002")]);
}

#[test]
fn reserved_bits_are_refused_where_nothing_gave_them_a_meaning() {
    for (bits, name) in [(0x10, 1), (0x20, 2), (0x40, 4), (0x70, 7)] {
        for opcode in [TEXT, BINARY, CLOSE, PING, PONG] {
            let expected = format!("! ReservedBits {{ bits: {name} }} 1002");
            assert_eq!(SERVER.hears(&client(FIN | bits | opcode, b"")), expected);
        }
    }
    let refused = "! ReservedBits { bits: 4 } 1002";
    check(
        SERVER.deflate(),
        &[
            (&[client(FIN | RSV1 | PING, b"")], refused),
            (&[client(FIN | RSV1 | PONG, b"")], refused),
            (&[client(FIN | RSV1 | CLOSE, b"")], refused),
            (&[client(TEXT, b""), client(FIN | RSV1 | CONT, b"")], refused),
            (&[client(RSV1 | TEXT, b""), client(FIN | RSV1 | CONT, b"")], refused),
            (&[client(FIN | RSV1 | 0x20 | TEXT, b"")], "! ReservedBits { bits: 6 } 1002"),
        ],
    );
}

#[test]
fn reserved_opcodes_are_refused() {
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        for fin in [0, FIN] {
            let expected = format!("! ReservedOpcode {{ opcode: {opcode} }} 1002");
            assert_eq!(SERVER.hears(&client(fin | opcode, b"")), expected);
        }
    }
}

#[test]
fn a_length_is_written_in_its_shortest_form() {
    for (length, expected) in [
        (vec![0xfe, 0, 0], "! LengthNotMinimal { length: 0 } 1002"),
        (vec![0xfe, 0, 125], "! LengthNotMinimal { length: 125 } 1002"),
        (vec![0xff, 0, 0, 0, 0, 0, 0, 0, 1], "! LengthNotMinimal { length: 1 } 1002"),
        (vec![0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff], "! LengthNotMinimal { length: 65535 } 1002"),
        (vec![0xff, 0x80, 0, 0, 0, 0, 0, 0, 0], "! LengthTooLarge 1002"),
        (vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "! LengthTooLarge 1002"),
    ] {
        let wire = [&[FIN | BINARY][..], &length, &KEY].concat();
        assert_eq!(SERVER.hears(&wire), expected);
    }
}

#[test]
fn a_control_frame_is_short_and_whole() {
    for opcode in [CLOSE, PING, PONG] {
        assert_eq!(SERVER.hears(&client(FIN | opcode, &[0; 126])), "! ControlTooLong 1002");
        assert_eq!(SERVER.hears(&client(opcode, b"")), "! ControlFragmented 1002");
        let endless = [head(FIN | opcode, 0x80, usize::MAX >> 1), KEY.to_vec()].concat();
        assert_eq!(SERVER.hears(&endless), "! ControlTooLong 1002");
    }
    let longest = [7; 125];
    assert_eq!(SERVER.hears(&client(FIN | PING, &longest)), format!("ping {}", brief(&longest)));
}

#[test]
fn messages_are_not_interleaved_and_continuations_continue() {
    check(
        SERVER,
        &[
            (&[client(FIN | CONT, b"a")], "! UnexpectedContinuation 1002"),
            (&[client(CONT, b"a")], "! UnexpectedContinuation 1002"),
            (
                &[client(FIN | TEXT, b"a"), client(FIN | CONT, b"b")],
                "text \"a\"; ! UnexpectedContinuation 1002",
            ),
            (&[client(TEXT, b"a"), client(FIN | TEXT, b"b")], "! ExpectedContinuation 1002"),
            (&[client(TEXT, b"a"), client(BINARY, b"b")], "! ExpectedContinuation 1002"),
            (
                &[client(TEXT, b"a"), client(FIN | PONG, b""), client(FIN | BINARY, b"b")],
                "pong \"\"; ! ExpectedContinuation 1002",
            ),
        ],
    );
}

#[test]
fn whatever_follows_a_close_is_ignored() {
    check(
        SERVER,
        &[
            (&[client(FIN | CLOSE, b""), client(FIN | TEXT, b"late")], "close"),
            (&[client(FIN | CLOSE, b"\x03\xe8"), vec![0xff; 40]], "close 1000 \"\""),
            (&[client(FIN | CLOSE, b""), client(FIN | CLOSE, b"")], "close"),
        ],
    );
}
