//! Server frames read, and client frames built, by the letter of RFC 6455, 5.2, without the codec under test.

use std::fmt;

/// What the server sent.
#[derive(Clone, PartialEq, Eq)]
pub enum Incoming {
    Text(String),
    Binary(Vec<u8>),
    /// A compressed message as it was on the wire.
    Deflated(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    /// The connection has ended.
    End,
}

/// Reads a frame from the start of `bytes`, and says how long it is.
pub fn take_frame(bytes: &[u8]) -> Option<(Incoming, usize)> {
    let [first, second, rest @ ..] = bytes else { return None };
    assert_eq!(second & 0x80, 0, "a server does not mask (RFC 6455, 5.1)");
    assert_eq!(first & 0xb0, 0x80, "this server sends whole messages and uses neither RSV2 nor RSV3");
    let (length, length_bytes) = match second {
        126 => (u64::from(u16::from_be_bytes(*rest.first_chunk()?)), 2),
        127 => (u64::from_be_bytes(*rest.first_chunk()?), 8),
        _ => (u64::from(*second), 0),
    };
    let length = usize::try_from(length).expect("a length fits into memory");
    let payload = rest.get(length_bytes..length_bytes + length)?.to_vec();
    Some((incoming(*first, payload), 2 + length_bytes + length))
}

fn incoming(first: u8, payload: Vec<u8>) -> Incoming {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("a server sends UTF-8");
    match (first & 0x0f, first & 0x40) {
        (1 | 2, 0x40) => Incoming::Deflated(payload),
        (1, 0) => Incoming::Text(text(&payload)),
        (2, 0) => Incoming::Binary(payload),
        (8, 0) => match &payload[..] {
            [] => Incoming::Close(None, String::new()),
            [high, low, reason @ ..] => {
                Incoming::Close(Some(u16::from_be_bytes([*high, *low])), text(reason))
            }
            [_] => panic!("a close frame has a body of one byte"),
        },
        (9, 0) => Incoming::Ping(payload),
        (10, 0) => Incoming::Pong(payload),
        _ => panic!("the server sent a frame that begins with {first:#04x}"),
    }
}

/// A client frame whose first byte is `first`; the key is zero, so the payload can be read in it.
pub fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        0..=125 => frame.push(0x80 | payload.len() as u8),
        126..=65_535 => {
            frame.push(0x80 | 126);
            frame.extend((payload.len() as u16).to_be_bytes());
        }
        _ => {
            frame.push(0x80 | 127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

/// A message in as many frames as there are `parts`; `first` is the first byte of the first, without FIN.
pub fn fragments(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let last = parts.len() - 1;
    let frames = parts.iter().enumerate().map(|(at, part)| {
        let opcode = if at == 0 { first } else { 0 };
        let fin = if at == last { 0x80 } else { 0 };
        client_frame(fin | opcode, part)
    });
    frames.flatten().collect()
}

/// A close frame of a client.
pub fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    client_frame(0x88, &[&code.to_be_bytes(), reason].concat())
}

impl fmt::Debug for Incoming {
    /// Short, so that a failed comparison can be read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) if text.len() > 200 => write!(f, "text of {} bytes", text.len()),
            Self::Text(text) => write!(f, "text {text}"),
            Self::Binary(bytes) if bytes.len() > 50 => write!(f, "binary of {} bytes", bytes.len()),
            Self::Binary(bytes) => write!(f, "binary {bytes:02x?}"),
            Self::Deflated(bytes) => write!(f, "deflated to {} bytes", bytes.len()),
            Self::Ping(payload) => write!(f, "ping {}", String::from_utf8_lossy(payload)),
            Self::Pong(payload) => write!(f, "pong {}", String::from_utf8_lossy(payload)),
            Self::Close(code, reason) => write!(f, "close {code:?} {reason}"),
            Self::End => f.write_str("the end of the connection"),
        }
    }
}
