//! `permessage-deflate` (RFC 7692, 7), and what our encoder sends being what our decoder hears.

mod support;

use duplex_websocket::{
    CloseCode, Compression, DEFLATE_MIN_BYTES, Decoder, Deflater, Inflater, Kind, Limits, Opcode, Role,
    Violation, encode,
};
use support::{BINARY, CONT, FIN, KEY, RSV1, SERVER, TEXT, brief, client, within};

const BAD: &str = "! BadDeflate 1007";

fn json(bytes: usize) -> Vec<u8> {
    let lines = (0..)
        .flat_map(|id: u32| format!("{{\"id\":{id},\"name\":\"user {}\"}},", id * 7919 % 1000).into_bytes());
    lines.take(bytes).collect()
}

/// Bytes that do not compress, the same every time.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

fn compressed(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Deflater::new().compress(payload, &mut out);
    out
}

#[test]
fn the_examples_of_the_rfc_inflate() {
    // RFC 7692, 7.2.3.
    for (name, message) in [
        ("one block", &b"\xf2\x48\xcd\xc9\xc9\x07\x00"[..]),
        ("stored", b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00"),
        ("final block", b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00"),
        ("two blocks", b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"),
        ("final block and nothing after it", b"\xf3\x48\xcd\xc9\xc9\x07\x00"),
        ("a final block, then another stream", b"\xf3\x48\x05\x00\xca\xc9\xc9\x07\x00"),
    ] {
        let heard = SERVER.deflate().hears(&client(FIN | RSV1 | TEXT, message));
        assert_eq!(heard, "text \"Hello\"", "{name}");
    }
    assert_eq!(SERVER.deflate().hears(&client(FIN | RSV1 | TEXT, b"\x00")), "text \"\"");
}

#[test]
fn a_compressed_message_may_be_fragmented_anywhere() {
    let message = compressed(&json(300));
    let expected = format!("ping \"\"; text {}; text \"plain\"", brief(&json(300)));
    for cut in 0..=message.len() {
        let (head, tail) = message.split_at(cut);
        let frames = [
            client(RSV1 | TEXT, head),
            client(FIN | 9, b""),
            client(CONT, b""),
            client(FIN | CONT, tail),
            client(FIN | TEXT, b"plain"),
        ];
        assert_eq!(SERVER.deflate().hears_cut(&frames.concat(), &[cut]), expected);
    }
}

#[test]
fn what_does_not_inflate_whole_is_refused() {
    let good = compressed(&json(300));
    let stored = b"\x00\x64\x00\x9b\xffonly a few of the hundred bytes";
    for (name, message) in [
        ("empty", &b""[..]),
        ("reserved block type", b"\x07"),
        ("bad stored length", b"\x00\x05\x00\xfa\xfeHello\x00"),
        ("distance before the start", b"\x4b\x04\x23\x00\x00"),
        ("truncated", &good[..good.len() / 2]),
        ("truncated by one byte", &good[..good.len() - 1]),
        ("stored block cut short", stored),
        ("trailing bytes", &[&good[..], b"\xde\xad\xbe\xef\xff\xff"].concat()),
        ("noise", &noise(200)),
    ] {
        assert_eq!(SERVER.deflate().hears(&client(FIN | RSV1 | BINARY, message)), BAD, "{name}");
    }
}

#[test]
fn inflated_text_is_utf8() {
    let wire = client(FIN | RSV1 | TEXT, &compressed(b"\xce\xba\xed\xa0\x80"));
    assert_eq!(SERVER.deflate().hears(&wire), "! InvalidUtf8 1007");
}

#[test]
fn one_bad_message_does_not_spoil_the_inflater_for_others() {
    let (limits, mut inflater) = (Limits::default(), Inflater::new());
    let mut bad = client(FIN | RSV1 | BINARY, b"\xf2\x48\xcd");
    let outcome =
        Decoder::new(Role::Server, Compression::PerMessage).decode(&mut bad, &limits, &mut inflater);
    assert_eq!(outcome, Err(Violation::BadDeflate));
    let mut good = client(FIN | RSV1 | TEXT, b"\xf2\x48\xcd\xc9\xc9\x07\x00");
    let mut decoder = Decoder::new(Role::Server, Compression::PerMessage);
    let (_, event) = decoder.decode(&mut good, &limits, &mut inflater).unwrap();
    assert_eq!(event.map(|event| support::tell(&event)), Some("text \"Hello\"".to_owned()));
}

#[test]
fn the_limit_counts_inflated_bytes() {
    for payload in [json(1_000), noise(1_000), vec![0; 1_000]] {
        let wire = client(FIN | RSV1 | BINARY, &compressed(&payload));
        let with = |message_bytes| SERVER.deflate().limits(Limits { message_bytes, ..Limits::default() });
        assert_eq!(with(1_000).hears(&wire), format!("binary {}", brief(&payload)));
        assert_eq!(with(999).hears(&wire), "! MessageTooLarge { limit: 999 } 1009");
        assert_eq!(with(1).hears(&wire), "! MessageTooLarge { limit: 1 } 1009");
    }
}

#[test]
fn a_bomb_stops_at_the_limit() {
    // A megabyte on the wire that inflates to a gigabyte.
    let zeros = vec![0; 1 << 20];
    let bomb = [compressed(&zeros), vec![0x00, 0x00, 0xff, 0xff]].concat().repeat(1_000);
    assert!((900_000..1_100_000).contains(&bomb.len()), "{}", bomb.len());
    let limits = Limits { message_bytes: 1 << 20, ..Limits::default() };
    let mut inflater = Inflater::new();
    for fragments in [1, 100] {
        let mut decoder = Decoder::new(Role::Server, Compression::PerMessage);
        let frames = bomb.chunks(bomb.len().div_ceil(fragments)).enumerate();
        let mut outcome = Ok(());
        for (at, chunk) in frames {
            let first = if at == 0 { RSV1 | BINARY } else { CONT };
            let fin = if at + 1 == fragments { FIN } else { 0 };
            let mut frame = client(fin | first, chunk);
            outcome = within(5, || decoder.decode(&mut frame, &limits, &mut inflater).map(drop));
        }
        assert_eq!(outcome, Err(Violation::MessageTooLarge { limit: 1 << 20 }));
    }
}

#[test]
fn many_empty_final_blocks_cost_linear_time() {
    let wire = client(FIN | RSV1 | BINARY, &b"\x03\x00".repeat(30_000));
    assert_eq!(within(5, || SERVER.deflate().hears_cut(&wire, &[])), "binary \"\"");
}

#[test]
fn what_a_client_encodes_a_server_hears() {
    let mut deflater = Deflater::new();
    for payload in payloads() {
        for (kind, opcode, name) in
            [(Kind::Text, Opcode::Text, "text"), (Kind::Binary, Opcode::Binary, "binary")]
        {
            let expected = format!("{name} {}; {name} {}", brief(&payload), brief(&payload));
            let mut wire = Vec::new();
            encode::masked(opcode, &payload, KEY, &mut wire);
            encode::masked_deflated(kind, &payload, &mut deflater, [1, 0, 255, 7], &mut wire);
            if kind == Kind::Text && payload.iter().any(|byte| *byte > 127) {
                continue;
            }
            assert_eq!(SERVER.deflate().hears(&wire), expected);
        }
    }
}

#[test]
fn what_a_server_encodes_a_client_hears() {
    let mut deflater = Deflater::new();
    for payload in payloads() {
        let expected = format!("binary {}", brief(&payload));
        let plain = encode::message(Kind::Binary, &payload);
        assert_eq!(SERVER.client().hears(&plain), expected);
        if let Some(deflated) = encode::deflated(Kind::Binary, &payload, &mut deflater) {
            assert!(deflated.len() < plain.len());
            assert_eq!(SERVER.client().deflate().hears(&deflated), expected);
        }
    }
}

fn payloads() -> Vec<Vec<u8>> {
    let sizes = [0, 1, 125, 126, 127, 128, 1_000, 65_535, 65_536];
    sizes.iter().flat_map(|bytes| [json(*bytes), noise(*bytes), vec![b'a'; *bytes]]).collect()
}

#[test]
fn control_frames_survive_both_ways() {
    let away = CloseCode::GOING_AWAY;
    for (frame, expected) in [
        (encode::ping(b"p"), "ping \"p\"".to_owned()),
        (encode::pong(b""), "pong \"\"".to_owned()),
        (encode::ping(&[7; 200]), format!("ping {}", brief(&[7; 125]))),
        (encode::close(away, "bye"), "close 1001 \"bye\"".to_owned()),
        (encode::close_empty(), "close".to_owned()),
        (encode::close(CloseCode::NO_STATUS, "never sent"), "close".to_owned()),
        (encode::close(CloseCode::ABNORMAL, "never sent"), "close".to_owned()),
        // 62 two-byte characters are 124 bytes: the last one does not fit.
        (encode::close(away, &"é".repeat(62)), format!("close 1001 {}", brief("é".repeat(61).as_bytes()))),
        (encode::close(away, &"x".repeat(500)), format!("close 1001 {}", brief(&[b'x'; 123]))),
    ] {
        assert_eq!(SERVER.client().hears(&frame), expected);
    }
    let mut wire = Vec::new();
    encode::masked(Opcode::Ping, &[7; 200], KEY, &mut wire);
    encode::masked(Opcode::Pong, b"q", KEY, &mut wire);
    encode::masked(Opcode::Close, &encode::close_payload(away, "bye"), KEY, &mut wire);
    let expected = format!("ping {}; pong \"q\"; close 1001 \"bye\"", brief(&[7; 125]));
    assert_eq!(SERVER.hears(&wire), expected);
}

#[test]
fn compression_is_used_only_where_it_pays() {
    let mut deflater = Deflater::new();
    for (payload, pays) in [
        (json(DEFLATE_MIN_BYTES - 1), false),
        (json(DEFLATE_MIN_BYTES), true),
        (noise(1_000), false),
        (json(10_000), true),
        (vec![], false),
    ] {
        assert_eq!(
            encode::deflated(Kind::Text, &payload, &mut deflater).is_some(),
            pays,
            "{}",
            payload.len()
        );
    }
}

#[test]
fn a_shared_frame_is_the_same_whatever_was_compressed_before() {
    let mut deflater = Deflater::new();
    let first = encode::deflated(Kind::Text, &json(500), &mut deflater);
    encode::deflated(Kind::Text, &json(5_000), &mut deflater);
    assert_eq!(encode::deflated(Kind::Text, &json(500), &mut deflater), first);
}
