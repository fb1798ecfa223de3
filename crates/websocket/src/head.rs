//! The head of a frame: everything before the payload (RFC 6455, 5.2).

use crate::{Compression, Role, Violation};

/// The longest head: two bytes, a 64-bit length, a masking key.
pub(crate) const HEAD_BYTES_MAX: usize = 14;
/// The longest payload of a control frame (RFC 6455, 5.5).
pub(crate) const CONTROL_BYTES_MAX: usize = 125;

pub(crate) const FIN: u8 = 0x80;
pub(crate) const RSV1: u8 = 0x40;
pub(crate) const MASKED: u8 = 0x80;

/// What a whole frame is (RFC 6455, 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// A text message.
    Text,
    /// A binary message.
    Binary,
    /// The connection ends.
    Close,
    /// A question that a pong answers.
    Ping,
    /// The answer to a ping, or an unasked sign of life.
    Pong,
}

impl Opcode {
    pub(crate) fn bits(self) -> u8 {
        match self {
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }
}

/// The place of a frame in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The first frame of a message, or a control frame.
    Start(Opcode),
    /// A further frame of a message.
    Continuation,
}

impl Part {
    fn parse(opcode: u8) -> Result<Self, Violation> {
        Ok(match opcode {
            0 => Self::Continuation,
            1 => Self::Start(Opcode::Text),
            2 => Self::Start(Opcode::Binary),
            8 => Self::Start(Opcode::Close),
            9 => Self::Start(Opcode::Ping),
            10 => Self::Start(Opcode::Pong),
            _ => return Err(Violation::ReservedOpcode { opcode }),
        })
    }

    pub(crate) fn is_control(self) -> bool {
        matches!(self, Self::Start(Opcode::Close | Opcode::Ping | Opcode::Pong))
    }

    fn starts_message(self) -> bool {
        matches!(self, Self::Start(Opcode::Text | Opcode::Binary))
    }
}

/// A frame head that obeys every rule a head can obey by itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub part: Part,
    pub fin: bool,
    pub compressed: bool,
    pub length: u64,
    pub key: [u8; 4],
}

impl Head {
    /// Reads a head from the start of `bytes` and says how long it is, or `None` when more bytes are needed. Judges
    /// what is there as soon as it is there.
    pub(crate) fn read(
        bytes: &[u8],
        role: Role,
        compression: Compression,
    ) -> Result<Option<(Self, usize)>, Violation> {
        let [first, second, rest @ ..] = bytes else { return Ok(None) };
        let (part, fin) = judge_start(*first, *second, role, compression)?;
        let Some((length, length_bytes)) = read_length(second & !MASKED, rest)? else { return Ok(None) };
        let Some((key, key_bytes)) = read_key(role, &rest[length_bytes..]) else { return Ok(None) };
        let head = Self { part, fin, compressed: first & RSV1 != 0, length, key };
        Ok(Some((head, 2 + length_bytes + key_bytes)))
    }
}

fn judge_start(
    first: u8,
    second: u8,
    role: Role,
    compression: Compression,
) -> Result<(Part, bool), Violation> {
    let part = Part::parse(first & 0x0f)?;
    // RFC 7692, 6: RSV1 only on the first frame of a message, and only when negotiated.
    let may_compress = compression == Compression::PerMessage && part.starts_message();
    let allowed = if may_compress { RSV1 } else { 0 };
    if first & 0x70 & !allowed != 0 {
        return Err(Violation::ReservedBits { bits: (first & 0x70) >> 4 });
    }
    let fin = first & FIN != 0;
    if part.is_control() {
        judge_control(fin, second & !MASKED)?;
    }
    match (role, second & MASKED != 0) {
        (Role::Server, false) => Err(Violation::UnmaskedFrame),
        (Role::Client, true) => Err(Violation::MaskedFrame),
        _ => Ok((part, fin)),
    }
}

fn judge_control(fin: bool, length: u8) -> Result<(), Violation> {
    if !fin {
        return Err(Violation::ControlFragmented);
    }
    if usize::from(length) > CONTROL_BYTES_MAX {
        return Err(Violation::ControlTooLong);
    }
    Ok(())
}

/// The payload length and how many bytes it took beyond the seven bits in `short`.
fn read_length(short: u8, rest: &[u8]) -> Result<Option<(u64, usize)>, Violation> {
    let (length, bytes, least) = match short {
        126 => (rest.first_chunk().map(|b| u64::from(u16::from_be_bytes(*b))), 2, 126),
        127 => (rest.first_chunk().map(|b| u64::from_be_bytes(*b)), 8, 65_536),
        _ => (Some(u64::from(short)), 0, 0),
    };
    match length {
        Some(length) if length < least => Err(Violation::LengthNotMinimal { length }),
        Some(length) if length >> 63 != 0 => Err(Violation::LengthTooLarge),
        Some(length) => Ok(Some((length, bytes))),
        None => Ok(None),
    }
}

fn read_key(role: Role, rest: &[u8]) -> Option<([u8; 4], usize)> {
    match role {
        Role::Server => rest.first_chunk().map(|key| (*key, 4)),
        Role::Client => Some(([0; 4], 0)),
    }
}
