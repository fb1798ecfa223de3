//! Frames built by hand, and streams read as one line of text, so that a test is a table.
#![allow(dead_code, reason = "each test binary uses its part")]

use duplex_websocket::{Compression, Decoder, Event, Inflater, Limits, Role, Violation};

pub const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

pub const CONT: u8 = 0x0;
pub const TEXT: u8 = 0x1;
pub const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xa;
pub const FIN: u8 = 0x80;
pub const RSV1: u8 = 0x40;

/// A masked frame as a client sends it; `first` is the whole first byte.
pub fn client(first: u8, payload: &[u8]) -> Vec<u8> {
    let body = payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key);
    [head(first, 0x80, payload.len()), KEY.to_vec(), body.collect()].concat()
}

/// A plain frame as a server sends it.
pub fn server(first: u8, payload: &[u8]) -> Vec<u8> {
    [head(first, 0, payload.len()), payload.to_vec()].concat()
}

/// The head of a frame in shortest form, without the key.
pub fn head(first: u8, mask_bit: u8, length: usize) -> Vec<u8> {
    match length {
        0..=125 => vec![first, mask_bit | length as u8],
        126..=65_535 => [&[first, mask_bit | 126][..], &(length as u16).to_be_bytes()].concat(),
        _ => [&[first, mask_bit | 127][..], &(length as u64).to_be_bytes()].concat(),
    }
}

/// One side of a connection under test.
#[derive(Clone, Copy)]
pub struct Ear {
    pub role: Role,
    pub compression: Compression,
    pub limits: Limits,
}

pub const SERVER: Ear = Ear {
    role: Role::Server,
    compression: Compression::Off,
    limits: Limits { message_bytes: 65_536, fragments: 1_024, control_frames: 100 },
};

impl Ear {
    pub fn deflate(self) -> Self {
        Self { compression: Compression::PerMessage, ..self }
    }

    pub fn client(self) -> Self {
        Self { role: Role::Client, ..self }
    }

    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// What is heard, however the stream is cut: every single cut of a short stream (the ends of a long one), and
    /// byte by byte, must tell the same.
    pub fn hears(&self, wire: &[u8]) -> String {
        let whole = self.hears_cut(wire, &[]);
        let near_an_end = |at: &usize| wire.len() < 700 || *at < 20 || wire.len() - at < 20;
        for at in (0..=wire.len()).filter(near_an_end) {
            assert_eq!(self.hears_cut(wire, &[at]), whole, "cut at {at}");
        }
        let all: Vec<usize> = (0..wire.len()).collect();
        assert_eq!(self.hears_cut(wire, &all), whole, "byte by byte");
        whole
    }

    /// What is heard when the stream comes in pieces that end at `cuts`.
    pub fn hears_cut(&self, wire: &[u8], cuts: &[usize]) -> String {
        self.events(wire, cuts).join("; ")
    }

    /// The same, one by one; the last may be a violation or what is unfinished.
    pub fn events(&self, wire: &[u8], cuts: &[usize]) -> Vec<String> {
        let mut told = Vec::new();
        let mut decoder = Decoder::new(self.role, self.compression);
        let mut inflater = Inflater::new();
        let mut start = 0;
        for end in cuts.iter().copied().chain([wire.len()]) {
            let mut piece = wire[start..end].to_vec();
            start = end;
            if let Err(violation) = self.listen(&mut decoder, &mut piece, &mut inflater, &mut told) {
                told.push(format!("! {violation:?} {}", violation.close_code()));
                assert_eq!(decoder.decode(&mut [0; 3], &self.limits, &mut inflater), Err(violation));
                assert!(!decoder.mid_message(), "a dead connection holds nothing");
                break;
            }
        }
        if decoder.mid_message() {
            told.push(format!("...{}", decoder.held_bytes()));
        }
        told
    }

    fn listen(
        &self,
        decoder: &mut Decoder,
        mut piece: &mut [u8],
        inflater: &mut Inflater,
        told: &mut Vec<String>,
    ) -> Result<(), Violation> {
        loop {
            let (used, event) = decoder.decode(piece, &self.limits, inflater)?;
            match event {
                Some(event) => told.push(tell(&event)),
                None => assert_eq!(used, piece.len(), "without an event all is consumed"),
            }
            piece = &mut std::mem::take(&mut piece)[used..];
            if piece.is_empty() {
                return Ok(());
            }
        }
    }
}

/// Runs `work`, which must take less than `seconds`. The bounds tell linear from quadratic cost on a busy machine, no
/// more.
#[expect(clippy::disallowed_methods, reason = "what is promised here is the time real work takes")]
pub fn within<T>(seconds: u64, work: impl FnOnce() -> T) -> T {
    let started = std::time::Instant::now();
    let result = work();
    let took = started.elapsed();
    assert!(took.as_secs() < seconds, "took {took:?}");
    result
}

/// An event in a few words.
pub fn tell(event: &Event<'_>) -> String {
    match event {
        Event::Text(text) => format!("text {}", brief(text.as_bytes())),
        Event::Binary(payload) => format!("binary {}", brief(payload)),
        Event::Ping(payload) => format!("ping {}", brief(payload)),
        Event::Pong(payload) => format!("pong {}", brief(payload)),
        Event::Close(None, _) => "close".to_owned(),
        Event::Close(Some(code), reason) => format!("close {code} {}", brief(reason.as_bytes())),
    }
}

/// A payload that is short, or its length and a checksum that notices a swap.
pub fn brief(payload: &[u8]) -> String {
    if payload.len() <= 64 {
        return format!("\"{}\"", payload.escape_ascii());
    }
    let sum = payload.iter().fold(7u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    format!("[{} {sum:016x}]", payload.len())
}
