//! Whole frames, ready to write (RFC 6455, 5.2). A server frame is a [`Bytes`]: encode once, share with everyone.

use bytes::Bytes;

use crate::head::{CONTROL_BYTES_MAX, FIN, HEAD_BYTES_MAX, MASKED, RSV1};
use crate::{CloseCode, DEFLATE_MIN_BYTES, Deflater, Opcode, mask};

/// The two kinds of message (RFC 6455, 5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The payload is UTF-8; that is the caller's promise.
    Text,
    /// The payload is any bytes.
    Binary,
}

impl From<Kind> for Opcode {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Text => Self::Text,
            Kind::Binary => Self::Binary,
        }
    }
}

/// A message as one server frame.
pub fn message(kind: Kind, payload: &[u8]) -> Bytes {
    server_frame(FIN | Opcode::from(kind).bits(), payload)
}

/// A message as one compressed server frame (RFC 7692, 7.2.1), or `None` when it is not worth it: shorter than
/// [`DEFLATE_MIN_BYTES`], or not smaller compressed.
pub fn deflated(kind: Kind, payload: &[u8], deflater: &mut Deflater) -> Option<Bytes> {
    let smaller = compress(payload, deflater)?;
    Some(server_frame(FIN | RSV1 | Opcode::from(kind).bits(), smaller))
}

/// A ping from a server (RFC 6455, 5.5.2). Only the first 125 bytes of `payload` are sent.
pub fn ping(payload: &[u8]) -> Bytes {
    server_frame(FIN | Opcode::Ping.bits(), control_payload(payload))
}

/// A pong from a server (RFC 6455, 5.5.3). Only the first 125 bytes of `payload` are sent.
pub fn pong(payload: &[u8]) -> Bytes {
    server_frame(FIN | Opcode::Pong.bits(), control_payload(payload))
}

/// A close frame from a server; see [`close_payload`].
pub fn close(code: CloseCode, reason: &str) -> Bytes {
    server_frame(FIN | Opcode::Close.bits(), &close_payload(code, reason))
}

/// A close frame from a server that names no code (RFC 6455, 5.5.1).
pub fn close_empty() -> Bytes {
    Bytes::from_static(&[0x88, 0])
}

/// The body of a close frame (RFC 6455, 5.5.1). The reason is cut to 123 bytes, at a character. It is empty for a code
/// that may not be sent.
pub fn close_payload(code: CloseCode, reason: &str) -> Vec<u8> {
    if !code.may_be_sent() {
        return Vec::new();
    }
    let reason = &reason[..reason.floor_char_boundary(CONTROL_BYTES_MAX - 2)];
    [&code.value().to_be_bytes(), reason.as_bytes()].concat()
}

/// Appends a client frame to `out`, masked with `mask`, which must be unpredictable (RFC 6455, 5.3). Only the first
/// 125 bytes of a control payload are sent.
pub fn masked(opcode: Opcode, payload: &[u8], mask: [u8; 4], out: &mut Vec<u8>) {
    let payload = match opcode {
        Opcode::Text | Opcode::Binary => payload,
        Opcode::Close | Opcode::Ping | Opcode::Pong => control_payload(payload),
    };
    append_masked(FIN | opcode.bits(), payload, mask, out);
}

/// Appends a message as a client frame to `out`, compressed if that is worth it (RFC 7692, 7.2.1) and plain if not.
/// Only for connections that negotiated compression.
pub fn masked_deflated(
    kind: Kind,
    payload: &[u8],
    deflater: &mut Deflater,
    mask: [u8; 4],
    out: &mut Vec<u8>,
) {
    let opcode = Opcode::from(kind);
    match compress(payload, deflater) {
        Some(smaller) => append_masked(FIN | RSV1 | opcode.bits(), smaller, mask, out),
        None => masked(opcode, payload, mask, out),
    }
}

fn compress<'a>(payload: &[u8], deflater: &'a mut Deflater) -> Option<&'a [u8]> {
    if payload.len() < DEFLATE_MIN_BYTES {
        return None;
    }
    Some(deflater.compressed(payload)).filter(|smaller| smaller.len() < payload.len())
}

fn control_payload(payload: &[u8]) -> &[u8] {
    &payload[..payload.len().min(CONTROL_BYTES_MAX)]
}

fn server_frame(first: u8, payload: &[u8]) -> Bytes {
    // Exactly as large as needed, so that turning it into `Bytes` does not move it.
    let mut frame = Vec::with_capacity(2 + length_bytes(payload.len()) + payload.len());
    append_head(first, 0, payload.len(), &mut frame);
    frame.extend_from_slice(payload);
    Bytes::from(frame)
}

fn append_masked(first: u8, payload: &[u8], key: [u8; 4], out: &mut Vec<u8>) {
    out.reserve(HEAD_BYTES_MAX + payload.len());
    append_head(first, MASKED, payload.len(), out);
    out.extend_from_slice(&key);
    let start = out.len();
    out.extend_from_slice(payload);
    mask::apply(&mut out[start..], key, 0);
}

fn length_bytes(length: usize) -> usize {
    match length {
        0..=125 => 0,
        126..=65_535 => 2,
        _ => 8,
    }
}

fn append_head(first: u8, mask_bit: u8, length: usize, out: &mut Vec<u8>) {
    match length_bytes(length) {
        0 => out.extend_from_slice(&[first, mask_bit | length as u8]),
        2 => {
            out.extend_from_slice(&[first, mask_bit | 126]);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.extend_from_slice(&[first, mask_bit | 127]);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}
