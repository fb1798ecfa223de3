//! What waits for a client is WebSocket frames, whatever carries them in the end: over a poll they are taken apart again.

use bytes::Bytes;
use duplex_core::{FrameQueue, Message};
use duplex_protocol::engineio::{BINARY_V3, Bodies, Version, Written};
use duplex_websocket::{Kind, encode};

/// A packet that is text, its type included, as a frame.
pub(crate) fn packet_frame(packet: &str) -> Bytes {
    encode::message(Kind::Text, packet.as_bytes())
}

/// An Engine.IO message as a frame.
pub(crate) fn message_frame(message: &Message, version: Version) -> Bytes {
    match (message, version) {
        (Message::Text(text), _) => encode::message(Kind::Text, &[b"4", &text[..]].concat()),
        (Message::Binary(bytes), Version::V4) => encode::message(Kind::Binary, bytes),
        (Message::Binary(bytes), Version::V3) => {
            encode::message(Kind::Binary, &[&[BINARY_V3], &bytes[..]].concat())
        }
    }
}

/// The body of a poll that takes all that waits.
pub(super) fn body(queue: &mut FrameQueue, bodies: Bodies) -> Bytes {
    let mut body = Vec::with_capacity(queue.bytes());
    while let Some(piece) = queue.pop() {
        let mut rest = &piece[..];
        while let Some((packet, behind)) = split(rest) {
            bodies.write(packet, &mut body);
            rest = behind;
        }
    }
    body.into()
}

/// The first message of what we framed ourselves (RFC 6455, 5.2: whole and without a mask), and what is behind it.
fn split(frames: &[u8]) -> Option<(Written<'_>, &[u8])> {
    let [opcode, length, rest @ ..] = frames else { return None };
    let (length, rest) = match *length {
        126 => {
            let (length, rest) = rest.split_first_chunk()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        127 => {
            let (length, rest) = rest.split_first_chunk()?;
            (usize::try_from(u64::from_be_bytes(*length)).ok()?, rest)
        }
        length => (usize::from(length), rest),
    };
    let (payload, rest) = rest.split_at_checked(length)?;
    let packet = match opcode & 0xf {
        1 => Written::Text(std::str::from_utf8(payload).ok()?),
        _ => Written::Binary(payload),
    };
    Some((packet, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_as_frames_is_what_a_poll_says() {
        let long = "x".repeat(200);
        let longer = "y".repeat(70_000);
        let mut queue = FrameQueue::default();
        let group =
            [packet_frame("451-[0]"), message_frame(&Message::Binary(vec![1, 2].into()), Version::V4)];
        queue.push(group.concat().into());
        queue.push(message_frame(&Message::Text(long.clone().into()), Version::V4));
        queue.push(message_frame(&Message::Text(longer.clone().into()), Version::V4));
        let body = body(&mut queue, Bodies(Version::V4));
        assert_eq!(body, format!("451-[0]\u{1e}bAQI=\u{1e}4{long}\u{1e}4{longer}"));
        assert!(queue.is_empty());
    }
}
