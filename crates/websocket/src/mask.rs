/// XORs `bytes` with the masking key (RFC 6455, 5.3). `phase` is how many bytes of the same frame came before.
pub(crate) fn apply(bytes: &mut [u8], key: [u8; 4], phase: usize) {
    // What a server sends: there is nothing to undo.
    if key == [0; 4] {
        return;
    }
    let key = rotated(key, phase);
    let wide = u128::from_ne_bytes(std::array::from_fn(|at| key[at % 4]));
    // Whole 16-byte words compile to vector instructions; the rest is at most 15 bytes.
    let (words, rest) = bytes.as_chunks_mut::<16>();
    for word in words {
        *word = (u128::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

fn rotated(mut key: [u8; 4], phase: usize) -> [u8; 4] {
    key.rotate_left(phase % 4);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    #[test]
    fn the_rfc_example_unmasks_to_hello() {
        // RFC 6455, 5.7.
        let mut bytes = [0x7f, 0x9f, 0x4d, 0x51, 0x58];
        apply(&mut bytes, KEY, 0);
        assert_eq!(&bytes, b"Hello");
    }

    #[test]
    fn every_length_and_every_cut_masks_like_one_byte_at_a_time() {
        for length in 0..70 {
            let plain: Vec<u8> = (0..length).collect();
            let expected: Vec<u8> =
                plain.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
            for cut in 0..=plain.len() {
                let mut bytes = plain.clone();
                let (head, tail) = bytes.split_at_mut(cut);
                apply(head, KEY, 0);
                apply(tail, KEY, cut);
                assert_eq!(bytes, expected, "length {length} cut at {cut}");
            }
        }
    }
}
