//! Whatever is inflated stays within the limit, and what we compress comes back.
#![no_main]

use std::cell::RefCell;

use duplex_websocket::{Compression, Decoder, Deflater, Event, Inflater, Kind, Limits, Role, encode};
use libfuzzer_sys::fuzz_target;

thread_local! {
    // Pooled as in a server, so that what one message leaves behind would be noticed.
    static POOL: RefCell<(Inflater, Deflater)> = RefCell::new((Inflater::new(), Deflater::new()));
}

/// A compressed binary frame from a server.
fn frame(payload: &[u8]) -> Vec<u8> {
    let plain = encode::message(Kind::Binary, payload);
    let mut frame = plain.to_vec();
    frame[0] |= 0x40;
    frame
}

fn inflate(message: &[u8], limits: &Limits, inflater: &mut Inflater) -> Option<Vec<u8>> {
    let mut decoder = Decoder::new(Role::Client, Compression::PerMessage);
    match decoder.decode(&mut frame(message), limits, inflater) {
        Ok((_, Some(Event::Binary(payload)))) => Some(payload.to_vec()),
        Ok(other) => panic!("a whole binary frame is a binary message, not {other:?}"),
        Err(_) => None,
    }
}

fuzz_target!(|input: (u16, &[u8])| {
    let (limit, bytes) = input;
    let limits = Limits { message_bytes: limit.into(), ..Limits::default() };
    POOL.with_borrow_mut(|(inflater, deflater)| {
        let pooled = inflate(bytes, &limits, inflater);
        assert!(pooled.as_ref().is_none_or(|payload| payload.len() <= limits.message_bytes));
        assert_eq!(pooled, inflate(bytes, &limits, &mut Inflater::new()));

        let mut compressed = Vec::new();
        deflater.compress(bytes, &mut compressed);
        let fits = bytes.len() <= limits.message_bytes;
        assert_eq!(inflate(&compressed, &limits, inflater), fits.then(|| bytes.to_vec()));
    });
});
