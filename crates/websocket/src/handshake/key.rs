//! `Sec-WebSocket-Key` and `Sec-WebSocket-Accept` (RFC 6455, 4.2.2).

use sha1::{Digest, Sha1};

const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// What a server answers to `key`, the header's text.
pub(super) fn accept(key: &[u8]) -> String {
    base64(&Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

/// Whether `key` is the base64 of 16 bytes (RFC 6455, 4.2.1). The four bits beyond them may be anything.
pub(super) fn is_valid(key: &[u8]) -> bool {
    matches!(key, [digits @ .., b'=', b'='] if digits.len() == 22 && digits.iter().all(is_digit))
}

fn is_digit(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/')
}

/// RFC 4648, 4.
pub(super) fn base64(bytes: &[u8]) -> String {
    bytes.chunks(3).flat_map(four_digits).map(char::from).collect()
}

fn four_digits(chunk: &[u8]) -> [u8; 4] {
    let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
    let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
    std::array::from_fn(|at| match at <= chunk.len() {
        true => ALPHABET[(bits >> (18 - 6 * at)) as usize & 63],
        false => b'=',
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rfc_key_gets_the_rfc_answer() {
        // RFC 6455, 1.3.
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(base64(b"the sample nonce"), "dGhlIHNhbXBsZSBub25jZQ==");
    }

    #[test]
    fn base64_follows_the_rfc_vectors() {
        // RFC 4648, 10.
        let vectors = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
        for (length, expected) in vectors.iter().enumerate() {
            assert_eq!(base64(&b"foobar"[..length]), *expected);
        }
    }

    #[test]
    fn only_sixteen_bytes_of_base64_are_a_key() {
        for (key, valid) in [
            ("dGhlIHNhbXBsZSBub25jZQ==", true),
            ("++++++++++++/////////w==", true),
            ("", false),
            ("dGhlIHNhbXBsZSBub25jZQ", false),
            ("dGhlIHNhbXBsZSBub25jZQ=a", false),
            ("dGhlIHNhbXBsZSBub25jZQAA", false),
            ("dGhlIHNhbXBsZSBub25jZ===", false),
            ("dGhlIHNhbXBsZSBub25j-_==", false),
            ("dGhlIHNhbXBsZSBub25jZ Q==", false),
            ("dGhlIHNhbXBsZSBub25jZQdGhlIHNhbXBsZSBub25jZQ==", false),
        ] {
            assert_eq!(is_valid(key.as_bytes()), valid, "{key}");
        }
    }
}
