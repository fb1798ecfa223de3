//! As much of RFC 6455 as a load generator needs: server frames are read by their headers, client frames are masked.

/// RFC 6455, 5.2: the opcodes that servers send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

/// One whole frame from a server.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub opcode: Opcode,
    pub payload: &'a [u8],
}

/// Bytes that are no frame any of the servers has a reason to send: masked, fragmented, compressed or reserved.
#[derive(Debug, PartialEq, Eq)]
pub struct Unreadable(pub [u8; 2]);

/// The frame at the start of `bytes` and the length it takes, or `None` while it is incomplete.
pub fn first(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, Unreadable> {
    let &[first, second, ..] = bytes else { return Ok(None) };
    let opcode = match first {
        0x81 => Opcode::Text,
        0x82 => Opcode::Binary,
        0x88 => Opcode::Close,
        0x89 => Opcode::Ping,
        0x8a => Opcode::Pong,
        _ => return Err(Unreadable([first, second])),
    };
    let (start, length) = match (second, bytes) {
        (0..=125, _) => (2, u64::from(second)),
        (126, &[_, _, a, b, ..]) => (4, u64::from(u16::from_be_bytes([a, b]))),
        (127, &[_, _, a, b, c, d, e, f, g, h, ..]) => (10, u64::from_be_bytes([a, b, c, d, e, f, g, h])),
        (126 | 127, _) => return Ok(None),
        _ => return Err(Unreadable([first, second])),
    };
    let Ok(length) = usize::try_from(length) else { return Err(Unreadable([first, second])) };
    let end = start + length;
    Ok(bytes.get(start..end).map(|payload| (Frame { opcode, payload }, end)))
}

/// A fixed mask: it must cost the server the unmasking, not hide anything from a proxy.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// Appends a masked client frame (RFC 6455, 5.3). Payloads up to 65,535 bytes.
pub fn masked(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    let code = match opcode {
        Opcode::Text => 0x81,
        Opcode::Binary => 0x82,
        Opcode::Close => 0x88,
        Opcode::Ping => 0x89,
        Opcode::Pong => 0x8a,
    };
    let length = u16::try_from(payload.len()).expect("the load sends short messages only");
    match length {
        0..=125 => out.extend([code, 0x80 | length as u8]),
        _ => {
            out.extend([code, 0x80 | 126]);
            out.extend(length.to_be_bytes());
        }
    }
    out.extend(MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_when_its_last_byte_is_there() {
        let lengths = [(0, vec![0x81, 0]), (125, vec![0x81, 125]), (126, vec![0x81, 126, 0, 126])];
        for (length, mut bytes) in lengths {
            bytes.extend(vec![b'x'; length]);
            for cut in 0..bytes.len() {
                assert_eq!(first(&bytes[..cut]), Ok(None), "{length} cut at {cut}");
            }
            bytes.extend([0x81, 1, b'y']);
            let (frame, end) = first(&bytes).expect("readable").expect("whole");
            assert_eq!((frame.payload.len(), end), (length, bytes.len() - 3));
        }
    }

    #[test]
    fn what_no_server_should_send_is_refused() {
        for bytes in [[0x01, 0], [0xc1, 0], [0x81, 0x80], [0x83, 0], [0x81, 0xff]] {
            assert_eq!(first(&bytes), Err(Unreadable(bytes)));
        }
    }

    #[test]
    fn a_masked_frame_unmasks_to_its_payload() {
        for length in [0, 5, 125, 126, 300] {
            let payload: Vec<u8> = (0..length).map(|i| i as u8).collect();
            let mut frame = Vec::new();
            masked(Opcode::Text, &payload, &mut frame);
            let body = &frame[frame.len() - payload.len()..];
            let unmasked: Vec<u8> = body.iter().zip(MASK.iter().cycle()).map(|(b, m)| b ^ m).collect();
            assert_eq!(unmasked, payload);
        }
    }
}
