//! How frames are told apart in the body of a response.

use bytes::Bytes;
use duplex_core::Message;

/// How frames are told apart in the body of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// The protocol writes events by itself.
    Ready,
    /// Each is the data of a Server-Sent Event (HTML Standard, 9.2).
    Events,
    /// The same with lines that end in CR LF, for readers that know no other, and that take no comment for a heartbeat.
    CrlfEvents,
    /// Each is a line.
    Lines,
    /// Each is a MessagePack `bin 32`.
    Blobs,
}

/// Marks a `bin 32`; its length follows in four bytes.
const BIN_32: u8 = 0xc6;

impl Framing {
    /// The content type of such a body.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Ready | Self::Events | Self::CrlfEvents => "text/event-stream",
            Self::Lines => "application/x-ndjson",
            Self::Blobs => "application/vnd.msgpack",
        }
    }

    /// One frame.
    pub fn frame(self, message: Message) -> Bytes {
        let (Message::Text(bytes) | Message::Binary(bytes)) = message;
        match self {
            Self::Ready => bytes,
            Self::Events => event(&bytes, b"\n"),
            Self::CrlfEvents => event(&bytes, b"\r\n"),
            Self::Lines => line(&bytes),
            Self::Blobs => blob(&bytes),
        }
    }

    /// What says that the connection is alive, and nothing else; empty if the protocol does.
    pub fn heartbeat(self) -> Bytes {
        Bytes::from_static(match self {
            Self::Ready | Self::Events => b":\n\n",
            Self::CrlfEvents => b"",
            Self::Lines => b"\n",
            Self::Blobs => &[BIN_32, 0, 0, 0, 0],
        })
    }
}

fn is_break(byte: &u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

fn event(bytes: &[u8], line_end: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(bytes.len() + 16);
    // A line of data ends at CR, LF or CRLF; in JSON they can only be white space between tokens.
    for line in bytes.split(is_break) {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line);
        out.extend_from_slice(line_end);
    }
    out.extend_from_slice(line_end);
    Bytes::from(out)
}

fn line(bytes: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(bytes.len() + 1);
    out.extend_from_slice(bytes);
    out.iter_mut().filter(|byte| is_break(byte)).for_each(|byte| *byte = b' ');
    out.push(b'\n');
    Bytes::from(out)
}

fn blob(bytes: &[u8]) -> Bytes {
    let length = u32::try_from(bytes.len()).expect("a frame is smaller than 4 GiB");
    let mut out = Vec::with_capacity(bytes.len() + 5);
    out.push(BIN_32);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
    Bytes::from(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_ends_where_its_framing_says_whatever_is_in_it() {
        let frame = |framing: Framing, text: &'static str| {
            let bytes = framing.frame(Message::Text(Bytes::from_static(text.as_bytes())));
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let odd = "{\"a\":\r\n1}";
        assert_eq!(frame(Framing::Ready, "data: 1\n\n"), "data: 1\n\n");
        assert_eq!(frame(Framing::Events, "{}"), "data: {}\n\n");
        assert_eq!(frame(Framing::Events, odd), "data: {\"a\":\ndata: \ndata: 1}\n\n");
        assert_eq!(frame(Framing::CrlfEvents, odd), "data: {\"a\":\r\ndata: \r\ndata: 1}\r\n\r\n");
        assert_eq!(frame(Framing::Lines, "{}"), "{}\n");
        assert_eq!(frame(Framing::Lines, odd), "{\"a\":  1}\n");
        let blob = Framing::Blobs.frame(Message::Binary(Bytes::from_static(&[1, 2])));
        assert_eq!(&blob[..], [0xc6, 0, 0, 0, 2, 1, 2]);
    }
}
