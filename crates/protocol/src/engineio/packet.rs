use super::Version;

/// A binary message begins with this byte in version 3: the type of a message. In version 4 it is bare.
pub const BINARY_V3: u8 = 4;

/// What a client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Packet<'a> {
    Open,
    Close,
    Ping(&'a str),
    Pong,
    Text(&'a str),
    Binary(&'a [u8]),
    Upgrade,
    Noop,
}

/// It is no packet. The text is for the client's developer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Malformed {
    #[error("an empty packet; a packet begins with its type, a digit from 0 to 6")]
    Empty,
    #[error("a packet of an unknown type; types are the digits from 0 to 6")]
    Type,
    #[error("a body that is not UTF-8")]
    NotText,
    #[error("broken Base64 in a packet")]
    Base64,
    #[error("a packet's length is missing, wrong or not a number")]
    Length,
    #[error("more than {max} packets in one body; send less at once")]
    TooMany { max: usize },
}

impl<'a> Packet<'a> {
    /// Reads a packet that came as text.
    pub fn text(packet: &'a str) -> Result<Self, Malformed> {
        let kind = packet.chars().next().ok_or(Malformed::Empty)?;
        let rest = &packet[kind.len_utf8()..];
        Ok(match kind {
            '0' => Self::Open,
            '1' => Self::Close,
            '2' => Self::Ping(rest),
            '3' => Self::Pong,
            '4' => Self::Text(rest),
            '5' => Self::Upgrade,
            '6' => Self::Noop,
            _ => return Err(Malformed::Type),
        })
    }

    /// Reads a packet that came as bytes: always a message.
    pub fn binary(packet: &'a [u8], version: Version) -> Result<Self, Malformed> {
        match (version, packet) {
            (Version::V4, payload) | (Version::V3, [BINARY_V3, payload @ ..]) => Ok(Self::Binary(payload)),
            (Version::V3, []) => Err(Malformed::Empty),
            (Version::V3, _) => Err(Malformed::Type),
        }
    }
}
