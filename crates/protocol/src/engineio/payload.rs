//! Bodies of requests that poll and post: several packets in one.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::{Malformed, Packet, Version};

/// Stands between packets in version 4.
const SEPARATOR: u8 = 0x1e;
/// Most packets in one body: a body of separators alone would be very many.
pub(super) const PACKETS_MAX: usize = 1_000;

/// What the bodies of a session are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Bodies(pub Version);

/// A packet for the client, as a WebSocket would carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Written<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
}

impl Bodies {
    /// Appends a packet to the body of an answer. Binary data goes as Base64, which every client takes.
    pub fn write(self, packet: Written<'_>, body: &mut Vec<u8>) {
        match (self.0, packet) {
            (Version::V4, packet) => {
                if !body.is_empty() {
                    body.push(SEPARATOR);
                }
                match packet {
                    Written::Text(text) => body.extend_from_slice(text.as_bytes()),
                    Written::Binary(bytes) => {
                        body.push(b'b');
                        body.extend_from_slice(BASE64_STANDARD.encode(bytes).as_bytes());
                    }
                }
            }
            (Version::V3, Written::Text(text)) => lengthened(text, body),
            (Version::V3, Written::Binary(bytes)) => {
                // The type of the packet, its first byte, is a digit in front of the Base64.
                let (kind, payload) = bytes.split_first().unwrap_or((&0, &[]));
                lengthened(&format!("b{kind}{}", BASE64_STANDARD.encode(payload)), body);
            }
        }
    }

    /// Gives each packet of a text body to `take`, in order, until it says that it wants no more.
    ///
    /// # Errors
    /// From what cannot be read on nothing is given.
    pub fn read(self, body: &str, mut take: impl FnMut(Packet<'_>) -> More) -> Result<(), Malformed> {
        let mut rest = Some(body);
        for _ in 0..PACKETS_MAX {
            let Some(unread) = rest else { return Ok(()) };
            let (packet, behind) = match self.0 {
                Version::V4 => match unread.split_once(char::from(SEPARATOR)) {
                    Some((packet, behind)) => (packet, Some(behind)),
                    None => (unread, None),
                },
                Version::V3 => {
                    let (packet, behind) = shortened(unread)?;
                    (packet, Some(behind).filter(|behind| !behind.is_empty()))
                }
            };
            rest = behind;
            let more = match packet.strip_prefix('b') {
                Some(encoded) => take(Packet::Binary(&self.decoded(encoded)?)),
                None => take(Packet::text(packet)?),
            };
            if more == More::No {
                return Ok(());
            }
        }
        if rest.is_some() { Err(Malformed::TooMany { max: PACKETS_MAX }) } else { Ok(()) }
    }

    /// The same for a body of bytes, which only version 3 has: of each packet 0 for text or 1 for binary, the digits of its
    /// length as a byte each, 255, and the packet.
    ///
    /// # Errors
    /// From what cannot be read on nothing is given.
    pub fn read_bytes(
        self,
        mut body: &[u8],
        mut take: impl FnMut(Packet<'_>) -> More,
    ) -> Result<(), Malformed> {
        for _ in 0..PACKETS_MAX {
            let [kind @ (0 | 1), rest @ ..] = body else {
                return if body.is_empty() { Ok(()) } else { Err(Malformed::Type) };
            };
            let digits = rest.iter().take(10).position(|byte| *byte == 255).ok_or(Malformed::Length)?;
            let length = rest[..digits].iter().try_fold(0usize, |length, digit| match digit {
                0..=9 => Ok(length * 10 + usize::from(*digit)),
                _ => Err(Malformed::Length),
            })?;
            let rest = &rest[digits + 1..];
            let packet = rest.get(..length).ok_or(Malformed::Length)?;
            body = &rest[length..];
            let packet = match kind {
                0 => Packet::text(std::str::from_utf8(packet).map_err(|_| Malformed::NotText)?)?,
                _ => Packet::binary(packet, self.0)?,
            };
            if take(packet) == More::No {
                return Ok(());
            }
        }
        if body.is_empty() { Ok(()) } else { Err(Malformed::TooMany { max: PACKETS_MAX }) }
    }

    /// What is behind the `b` of a binary packet.
    fn decoded(self, encoded: &str) -> Result<Vec<u8>, Malformed> {
        let encoded = match self.0 {
            Version::V4 => encoded,
            Version::V3 => encoded.strip_prefix('4').ok_or(Malformed::Type)?,
        };
        BASE64_STANDARD.decode(encoded).map_err(|_| Malformed::Base64)
    }
}

/// Whether another packet is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum More {
    Yes,
    No,
}

/// Version 3: the length, which counts UTF-16 code units as JavaScript does, a colon, and the packet.
fn lengthened(packet: &str, body: &mut Vec<u8>) {
    let units = packet.encode_utf16().count();
    body.extend_from_slice(format!("{units}:{packet}").as_bytes());
}

fn shortened(body: &str) -> Result<(&str, &str), Malformed> {
    let (length, rest) = body.split_once(':').ok_or(Malformed::Length)?;
    let units: usize = length.parse().map_err(|_| Malformed::Length)?;
    let mut count = 0;
    let end = rest.char_indices().find(|(_, c)| {
        let here = count;
        count += c.len_utf16();
        here >= units
    });
    match end {
        Some((end, _)) => Ok(rest.split_at(end)),
        None if rest.encode_utf16().count() == units => Ok((rest, "")),
        None => Err(Malformed::Length),
    }
}
