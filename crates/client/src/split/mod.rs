//! Frames out of the bytes of a response, however they are cut.

mod blobs;
mod events;
mod lines;

use crate::{Form, Transport};

use self::blobs::Blobs;
use self::events::Events;
use self::lines::Lines;

/// A frame is longer than allowed, or the bytes are not frames at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SplitError {
    #[error("a frame is longer than {bytes_max} bytes")]
    TooLong { bytes_max: usize },
    #[error("the response is not made of frames")]
    Malformed,
}

/// Turns bytes into frames. Heartbeats and comments are none.
#[derive(Debug)]
pub(crate) enum Splitter {
    Lines(Lines),
    Events(Events),
    Blobs(Blobs),
}

impl Splitter {
    /// Of a response that carries a session. Frames have `bytes_max` bytes at most.
    pub fn of(transport: Transport, form: Form, bytes_max: usize) -> Self {
        match (transport, form) {
            (Transport::Sse, _) => Self::Events(Events::new(bytes_max)),
            (_, Form::Json) => Self::Lines(Lines::new(bytes_max)),
            (_, Form::MessagePack) => Self::Blobs(Blobs::new(bytes_max)),
        }
    }

    /// Takes the next bytes; `take` gets each frame that is complete now.
    pub fn feed(&mut self, bytes: &[u8], take: &mut dyn FnMut(&[u8])) -> Result<(), SplitError> {
        match self {
            Self::Lines(lines) => lines.feed(bytes, &mut |line| {
                if !line.is_empty() {
                    take(line);
                }
                Ok(())
            }),
            Self::Events(events) => events.feed(bytes, take),
            Self::Blobs(blobs) => blobs.feed(bytes, take),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(mut splitter: Splitter, pieces: [&[u8]; 2]) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        for piece in pieces {
            splitter.feed(piece, &mut |frame| frames.push(frame.to_vec())).unwrap();
        }
        frames
    }

    /// A transport, a form, what comes, and the frames in it.
    type Row = (Transport, Form, &'static [u8], &'static [&'static [u8]]);

    #[test]
    fn frames_are_the_same_wherever_the_bytes_are_cut() {
        let table: [Row; 9] = [
            (Transport::Stream, Form::Json, b"{}\n\n{\"a\":1}\n{", &[b"{}", b"{\"a\":1}"]),
            (Transport::Poll, Form::Json, b"{}\r\n\r\n", &[b"{}"]),
            (Transport::Sse, Form::Json, b"data: {}\n\n", &[b"{}"]),
            (Transport::Sse, Form::Json, b":\n\ndata:{}\r\n\r\ndata: 1\r\r", &[b"{}", b"1"]),
            (Transport::Sse, Form::Json, b"data: {\"a\":\ndata: 1}\n\n", &[b"{\"a\":\n1}"]),
            (Transport::Sse, Form::Json, b"\xef\xbb\xbfid: 1\nevent: x\ndata: 1\ndata\n\n", &[b"1\n"]),
            // An event that the end cuts off is none.
            (Transport::Sse, Form::Json, b"retry: 5\n\ndata: 1\n", &[]),
            (
                Transport::Stream,
                Form::MessagePack,
                &[0xc6, 0, 0, 0, 2, 1, 2, 0xc6, 0, 0, 0, 0, 0xc6, 0, 0, 0, 1, 3, 0xc6],
                &[&[1, 2], &[3]],
            ),
            (Transport::Poll, Form::MessagePack, b"", &[]),
        ];
        for (transport, form, bytes, frames) in table {
            for cut in 0..=bytes.len() {
                let (head, tail) = bytes.split_at(cut);
                let found = split(Splitter::of(transport, form, 100), [head, tail]);
                assert_eq!(found, frames, "{transport} {form:?} cut at {cut}");
            }
            let mut frames_bytewise: Vec<Vec<u8>> = Vec::new();
            let mut splitter = Splitter::of(transport, form, 100);
            for byte in bytes {
                splitter.feed(&[*byte], &mut |frame| frames_bytewise.push(frame.to_vec())).unwrap();
            }
            assert_eq!(frames_bytewise, frames, "{transport} {form:?} byte by byte");
        }
    }

    #[test]
    fn what_is_too_long_is_refused_before_all_of_it_is_there() {
        let too_long = Err(SplitError::TooLong { bytes_max: 8 });
        for (transport, form, bytes, expected) in [
            (Transport::Stream, Form::Json, &b"123456789"[..], too_long),
            (Transport::Stream, Form::Json, b"12345678\n", Ok(())),
            (Transport::Sse, Form::Json, b"data: 1234\ndata: 5678\n", too_long),
            (Transport::Stream, Form::MessagePack, &[0xc6, 0xff, 0, 0, 0], too_long),
            (Transport::Stream, Form::MessagePack, b"<html>", Err(SplitError::Malformed)),
        ] {
            let outcome = Splitter::of(transport, form, 8).feed(bytes, &mut |_| {});
            assert_eq!(outcome, expected, "{transport} {form:?}");
        }
    }
}
