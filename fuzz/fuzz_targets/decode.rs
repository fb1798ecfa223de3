//! However a stream is cut, it means the same.
#![no_main]

use arbitrary::Arbitrary;
use duplex_websocket::{Compression, Decoder, Inflater, Limits, Role, Violation};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    client: bool,
    deflate: bool,
    message_bytes: u16,
    fragments: u8,
    control_frames: u8,
    cuts: Vec<u8>,
    wire: Vec<u8>,
}

#[derive(Debug, PartialEq)]
struct Story {
    events: Vec<String>,
    violation: Option<Violation>,
    held_bytes: usize,
    mid_message: bool,
}

fn listen(input: &Input, pieces: impl Iterator<Item = usize>) -> Story {
    let role = if input.client { Role::Client } else { Role::Server };
    let compression = if input.deflate { Compression::PerMessage } else { Compression::Off };
    let limits = Limits {
        message_bytes: input.message_bytes.into(),
        fragments: input.fragments.into(),
        control_frames: input.control_frames.into(),
    };
    let mut wire = input.wire.clone();
    let mut rest = &mut wire[..];
    let mut inflater = Inflater::new();
    let mut decoder = Decoder::new(role, compression);
    let mut story = Story { events: Vec::new(), violation: None, held_bytes: 0, mid_message: false };
    for piece in pieces {
        let (mut piece, later) = rest.split_at_mut(piece.min(rest.len()));
        rest = later;
        loop {
            let length = piece.len();
            match decoder.decode(piece, &limits, &mut inflater) {
                Ok((used, event)) => {
                    assert!(event.is_some() || used == length);
                    story.events.extend(event.map(|event| format!("{event:?}")));
                    piece = &mut std::mem::take(&mut piece)[used..];
                }
                Err(violation) => {
                    story.violation = Some(violation);
                    return story;
                }
            }
            if piece.is_empty() {
                break;
            }
        }
        assert!(decoder.held_bytes() <= input.wire.len());
    }
    story.held_bytes = decoder.held_bytes();
    story.mid_message = decoder.mid_message();
    story
}

fuzz_target!(|input: Input| {
    let whole = listen(&input, [usize::MAX].into_iter());
    let cuts = input.cuts.iter().map(|bytes| usize::from(*bytes));
    assert_eq!(listen(&input, cuts.chain([usize::MAX])), whole);
    let bytes = std::iter::repeat_n(1, input.wire.len());
    assert_eq!(listen(&input, bytes), whole);
});
