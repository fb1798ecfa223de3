//! 3.3, rows 32–35: compressed messages (RFC 7692) that are too much, broken or in the wrong place.

use duplex::Options;
use duplex_websocket::Deflater;

use crate::support::frames::{Incoming, client_frame, close, fragments};
use crate::support::neighbour::Neighbour;
use crate::support::wire::Wire;
use crate::support::{options, start};
use crate::table::{Door, Expect, Row, check, frames, play, row};

const TEXT: u8 = 0xc1;
const BINARY: u8 = 0xc2;

fn compressed(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Deflater::new().compress(payload, &mut out);
    out
}

fn deflated(name: &str, first: u8, payload: &[u8], expect: impl Into<Expect>) -> Row {
    row(name, Door::EchoDeflated, client_frame(first, payload), expect)
}

/// Fixed Huffman code that repeats one byte 258 times for every 13 bits: 30 KB become 4 MB.
fn repeats() -> Vec<u8> {
    let mut bits = vec![false, true, false];
    let mut code = |value: u32, count: u32| bits.extend((0..count).rev().map(|at| value >> at & 1 == 1));
    // A literal 'a', which RFC 1951, 3.2.6 writes as 0x30 + 97; then length 258 at distance 1, again and again.
    code(0x91, 8);
    for _ in 0..18_000 {
        code(0b1100_0101, 8);
        code(0, 5);
    }
    code(0, 7);
    let byte = |bits: &[bool]| bits.iter().rev().fold(0u8, |byte, bit| byte << 1 | u8::from(*bit));
    let mut bytes: Vec<u8> = bits.chunks(8).map(byte).collect();
    bytes.push(0);
    bytes
}

#[test]
fn many_small_bombs_are_too_many() {
    let server = start(Options { inflated_bytes_per_second: 1 << 20, ..options() });
    let mut neighbour = Neighbour::join(server.address);
    let mut wire =
        Wire::websocket(server.address, "/echo", "Sec-WebSocket-Extensions: permessage-deflate\r\n");
    wire.send(&client_frame(BINARY, &compressed(&[0; 65_536])).repeat(40));
    let frames = wire.until_end();
    assert!(matches!(frames.last(), Some(Incoming::Close(Some(1008), _))), "{frames:?}");
    neighbour.check();
}

#[test]
fn a_bomb_is_not_inflated() {
    let bomb = compressed(&vec![0; 8 << 20]);
    let parts: Vec<&[u8]> = bomb.chunks(bomb.len().div_ceil(500)).collect();
    let limit = compressed(&[b'a'; 65_536]);
    let over = compressed(&[b'a'; 65_537]);
    // Small bombs within the limits are work like any other.
    let many = play(|wire: &mut Wire| {
        let frame = client_frame(BINARY, &compressed(&[0; 65_536]));
        for _ in 0..20 {
            wire.send(&frame);
            assert_eq!(format!("{:?}", wire.next()).split(' ').next(), Some("deflated"));
        }
    });
    check(
        options(),
        [
            deflated("3.3/32 8 MiB of zeros", BINARY, &bomb, 1009),
            deflated("3.3/32 4 MB of text", TEXT, &repeats(), 1009),
            deflated("3.3/32 one byte more than the limit", TEXT, &over, 1009),
            deflated("3.3/32 more on the wire than deflate can lose", BINARY, &[0; 80_000], 1009),
            deflated(
                "3.3/32 exactly the limit",
                TEXT,
                &limit,
                frames([&format!("deflated to {} bytes", limit.len())]),
            ),
            row("3.3/33 a bomb in 500 fragments", Door::EchoDeflated, fragments(0x42, &parts), 1009),
            row("3.3/33 many small bombs", Door::EchoDeflated, many, frames([])),
        ],
    );
}

#[test]
fn broken_compression_ends_the_connection() {
    // Not a run of one letter: what is cut off must be missed.
    let letters: Vec<u8> = (0..4_000u32).map(|n| b'a' + (n * n % 23) as u8).collect();
    let whole = compressed(&letters);
    let mut corrupt = whole.clone();
    corrupt.iter_mut().skip(20).step_by(7).for_each(|byte| *byte ^= 0x55);
    let then = [client_frame(TEXT, &[0x06, 0]), client_frame(0x81, b"too late"), close(1000, b"")].concat();
    check(
        options(),
        [
            deflated("3.3/34 cut in the middle", TEXT, &whole[..whole.len() / 2], 1007),
            deflated("3.3/34 cut by three bytes", TEXT, &whole[..whole.len() - 3], 1007),
            deflated("3.3/34 corrupt", TEXT, &corrupt, 1007),
            deflated("3.3/34 a reserved block type", TEXT, &[0x06, 0], 1007),
            deflated("3.3/34 a stored block whose lengths disagree", TEXT, &[0, 5, 0, 0, 0, 1], 1007),
            deflated("3.3/34 a stored block that ends early", TEXT, &[0, 5, 0, 0xfa, 0xff, b'H'], 1007),
            deflated(
                "3.3/34 garbage behind the message",
                TEXT,
                b"\xf2\x48\xcd\xc9\xc9\x07\x00\xff\xff\xff",
                1007,
            ),
            // A length of 3 at distance 1 with nothing before it: the context of the message before is gone.
            deflated("3.3/33 a reference to an earlier message", TEXT, &[0x02, 0x02, 0], 1007),
            deflated("3.3/34 text that inflates to bad UTF-8", TEXT, &compressed(&[0xff; 200]), 1007),
            row("3.3/34 an error is permanent", Door::EchoDeflated, then, 1007),
        ],
    );
}

#[test]
fn the_examples_of_the_standard_are_understood() {
    // RFC 7692, 7.2.3. Short answers are not compressed.
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    check(
        options(),
        [
            deflated("3.3/34 one block", TEXT, &hello, frames(["text Hello"])),
            row(
                "3.3/34 two frames",
                Door::EchoDeflated,
                fragments(0x41, &[&hello[..3], &hello[3..]]),
                frames(["text Hello"]),
            ),
            deflated("3.3/34 a stored block", TEXT, b"\x00\x05\x00\xfa\xffHello\x00", frames(["text Hello"])),
            deflated(
                "3.3/34 BFINAL inside",
                TEXT,
                &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
                frames(["text Hello"]),
            ),
            deflated(
                "3.3/34 two blocks",
                TEXT,
                b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
                frames(["text Hello"]),
            ),
            row(
                "3.3/34 not compressed",
                Door::EchoDeflated,
                client_frame(0x81, b"Hello"),
                frames(["text Hello"]),
            ),
        ],
    );
}

#[test]
fn only_the_first_frame_of_a_message_says_that_it_is_compressed() {
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let continued = [client_frame(0x41, &hello[..3]), client_frame(0xc0, &hello[3..])].concat();
    check(
        options(),
        [
            deflated("3.3/35 RSV1 on a ping", 0xc9, b"", 1002),
            deflated("3.3/35 RSV1 on a pong", 0xca, b"", 1002),
            deflated("3.3/35 RSV1 on a close frame", 0xc8, b"\x03\xe8", 1002),
            deflated("3.3/35 RSV2 on a message", 0xe1, &hello, 1002),
            row("3.3/35 RSV1 on a continuation", Door::EchoDeflated, continued, 1002),
        ],
    );
}
