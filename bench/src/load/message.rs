//! The benchmark's message: 128 bytes that carry their number, so that no loss, doubling or swap goes unnoticed.

/// Bytes of payload in every work.
pub const BYTES: usize = 128;

const DIGITS: usize = 12;

/// `#000000000042xxx…x~`: printable, and nothing in it needs escaping in JSON.
pub fn message(sequence: u64) -> [u8; BYTES] {
    let mut message = [b'x'; BYTES];
    message[0] = b'#';
    message[BYTES - 1] = b'~';
    let mut rest = sequence;
    for digit in message[1..=DIGITS].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    message
}

/// The number of the whole message that stands somewhere in `text`.
pub fn sequence(text: &[u8]) -> Option<u64> {
    let start = text.iter().position(|&byte| byte == b'#')?;
    let message = text.get(start..start + BYTES)?;
    if message[BYTES - 1] != b'~' {
        return None;
    }
    message[1..=DIGITS].iter().try_fold(0, |number, byte| match byte {
        b'0'..=b'9' => Some(number * 10 + u64::from(byte - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_tells_its_number_wherever_it_stands() {
        for number in [0, 7, 1_234_567, 999_999_999_999] {
            let text = [b"{\"data\":\"".as_slice(), &message(number), b"\"}"].concat();
            assert_eq!(sequence(&text), Some(number));
        }
    }

    #[test]
    fn a_message_that_is_not_whole_has_no_number() {
        let whole = message(5);
        assert_eq!(sequence(&whole[..BYTES - 1]), None);
        assert_eq!(sequence(b"{\"connected\":{}}"), None);
        assert_eq!(sequence(&[&whole[..50], b"longer than it was", &whole[50..]].concat()), None);
    }
}
