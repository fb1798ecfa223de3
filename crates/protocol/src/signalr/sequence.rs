//! Which messages count for a connection that goes on after its transport broke off (`docs/specs/HubProtocol.md`, "Stateful
//! reconnect"): both sides number those that say something, and neither pings nor what is said about the numbers.

use duplex_core::Frame;
use serde::Deserialize;

use super::Format;
use crate::msgpack;

/// What a client's message says about numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sequencing {
    /// It has the next number.
    Numbered,
    /// It has none.
    Unnumbered,
    /// The client has taken all messages up to this one.
    Ack(u64),
    /// The next message that counts has this number.
    Sequence(u64),
}

#[derive(Deserialize)]
struct Fields {
    #[serde(rename = "type", default)]
    kind: Option<u64>,
    #[serde(rename = "sequenceId", default)]
    number: Option<u64>,
}

impl Sequencing {
    /// Of a client's message. One that cannot be read has no number.
    pub fn of(message: Frame<'_>) -> Self {
        let (kind, number) = match message {
            Frame::Text(json) => match serde_json::from_str(json) {
                Ok(Fields { kind, number }) => (kind, number),
                Err(_) => (None, None),
            },
            Frame::Binary(body) => match kind(body) {
                Some(kind @ (8 | 9)) => (Some(kind), number(body)),
                kind => (kind, None),
            },
        };
        match (kind, number) {
            (Some(1..=5), _) => Self::Numbered,
            (Some(8), Some(number)) => Self::Ack(number),
            (Some(9), Some(number)) => Self::Sequence(number),
            _ => Self::Unnumbered,
        }
    }
}

/// The first element of an array, if it is an integer, however long the heads of both are written.
fn kind(body: &[u8]) -> Option<u64> {
    let ([0x90..=0x9f, rest @ ..] | [0xdc, _, _, rest @ ..] | [0xdd, _, _, _, _, rest @ ..]) = body else {
        return None;
    };
    match rest.split_first()? {
        (small @ 0..=0x7f, _) => Some(u64::from(*small)),
        (marker @ 0xcc..=0xd3, rest) => {
            let digits = rest.get(..1 << ((marker - 0xcc) % 4))?;
            Some(digits.iter().fold(0, |value, digit| value << 8 | u64::from(*digit)))
        }
        _ => None,
    }
}

/// The second element of an array.
fn number(body: &[u8]) -> Option<u64> {
    let json = msgpack::to_json(body, 64).ok()?;
    serde_json::from_str::<Vec<u64>>(&json).ok()?.get(1).copied()
}

/// What a message is that we wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Written {
    pub format: Format,
    pub sequencing: Sequencing,
}

impl Written {
    /// Of a message that was written by this module. The answer to a handshake is JSON, whatever follows.
    pub fn of(message: &[u8]) -> Self {
        let kind = |byte| if (1..=5).contains(&byte) { Sequencing::Numbered } else { Sequencing::Unnumbered };
        if let [b'{', b'"' | b'}', ..] = message {
            let digit = message.strip_prefix(br#"{"type":"#).and_then(|rest| rest.first());
            let sequencing = kind(digit.map_or(0, |digit| digit.wrapping_sub(b'0')));
            return Self { format: Format::Json, sequencing };
        }
        let length = message.iter().take_while(|byte| **byte & 0x80 != 0).count() + 1;
        let sequencing = kind(message.get(length + 1).copied().unwrap_or(0));
        Self { format: Format::MessagePack, sequencing }
    }
}
