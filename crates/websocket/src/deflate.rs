//! `permessage-deflate` without context takeover (RFC 7692, 7): each message stands alone, so one compressor and one
//! decompressor serve every connection of a shard.

use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};

use crate::Violation;

/// Payloads shorter than this are sent plain: the gain is below the cost on both sides.
pub const DEFLATE_MIN_BYTES: usize = 128;

/// A sync flush ends in an empty stored block; its last four bytes are not sent (RFC 7692, 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];
/// An empty final block. Right after a complete message it ends the stream at once; anywhere else it does not, which
/// is how a message that stops inside a block is told from a whole one.
const END: [u8; 5] = [0x01, 0x00, 0x00, 0xff, 0xff];
/// Scratch space kept between messages; a larger message gives the surplus back.
const SCRATCH_BYTES_MAX: usize = 256 * 1024;
const LEVEL: u32 = 6;

/// The receiving side of a shard: inflates messages and owns the bytes of the event last delivered.
///
/// About 48 KiB for the window, and at most 256 KiB or one message of scratch. One per shard is enough, because
/// nothing is carried from message to message (`client_no_context_takeover`, RFC 7692, 7.1.1.2).
#[derive(Debug)]
pub struct Inflater {
    stream: Decompress,
    output: Vec<u8>,
    held: Vec<u8>,
}

impl Inflater {
    /// An inflater with no scratch space yet.
    pub fn new() -> Self {
        Self { stream: Decompress::new(false), output: Vec::new(), held: Vec::new() }
    }

    /// Gives back what the last event occupied.
    pub(crate) fn release(&mut self) {
        if self.held.capacity() > 0 {
            self.held = Vec::new();
        }
        if self.output.len() > SCRATCH_BYTES_MAX {
            self.output.truncate(SCRATCH_BYTES_MAX);
            self.output.shrink_to_fit();
        }
    }

    /// Keeps an assembled payload for as long as its event is looked at.
    pub(crate) fn hold(&mut self, payload: Vec<u8>) -> &[u8] {
        self.held = payload;
        &self.held
    }

    /// Inflates one message (RFC 7692, 7.2.2). Stops as soon as the output exceeds `limit`.
    pub(crate) fn inflate(&mut self, message: &[u8], limit: usize) -> Result<&[u8], Violation> {
        self.stream.reset(false);
        let mut filled = 0;
        // A final block right at the end needs no tail: there is no flush to complete.
        if self.run(message, &mut filled, limit)? != Reached::StreamEnd {
            self.run(&TAIL, &mut filled, limit)?;
            let whole = filled;
            if self.run(&END, &mut filled, limit)? != Reached::StreamEnd || filled != whole {
                return Err(Violation::BadDeflate);
            }
        }
        Ok(&self.output[..filled])
    }

    /// Inflates all of `input`, going on with a fresh stream after a final block (RFC 7692, 7.2.3.4).
    fn run(&mut self, mut input: &[u8], filled: &mut usize, limit: usize) -> Result<Reached, Violation> {
        loop {
            self.make_room(*filled, input.len(), limit)?;
            let (read, wrote) = (self.stream.total_in(), self.stream.total_out());
            let status = self
                .stream
                .decompress(input, &mut self.output[*filled..], FlushDecompress::Sync)
                .map_err(|_| Violation::BadDeflate)?;
            let read = (self.stream.total_in() - read) as usize;
            let wrote = (self.stream.total_out() - wrote) as usize;
            input = &input[read..];
            *filled += wrote;
            if *filled > limit {
                return Err(Violation::MessageTooLarge { limit });
            }
            if status == Status::StreamEnd {
                self.stream.reset(false);
                if input.is_empty() {
                    return Ok(Reached::StreamEnd);
                }
            } else if *filled < self.output.len() {
                // With room left, everything that can come out has come out.
                return if input.is_empty() { Ok(Reached::InputEnd) } else { Err(Violation::BadDeflate) };
            }
        }
    }

    /// Makes sure there is room after `filled`, growing with what came out so far and never beyond `limit` + 1.
    fn make_room(&mut self, filled: usize, input_bytes: usize, limit: usize) -> Result<(), Violation> {
        if filled < self.output.len() {
            return Ok(());
        }
        let most = limit.saturating_add(1);
        let wanted = (filled * 2).max(input_bytes.saturating_mul(2)).max(1024).min(most);
        if wanted <= filled {
            return Err(Violation::MessageTooLarge { limit });
        }
        self.output.resize(wanted, 0);
        Ok(())
    }
}

impl Default for Inflater {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reached {
    InputEnd,
    StreamEnd,
}

/// The sending side of a shard: compresses messages that any number of connections may share.
///
/// About 380 KB. Each message starts from nothing (`server_no_context_takeover`, RFC 7692, 7.1.1.1), so what comes
/// out is the same for every connection and decodes in any state of the peer.
#[derive(Debug)]
pub struct Deflater {
    stream: Compress,
    pub(crate) scratch: Vec<u8>,
}

impl Deflater {
    /// A deflater at level 6: a publish is compressed once, so ratio is worth more than speed.
    pub fn new() -> Self {
        let stream = Compress::new(flate2::Compression::new(LEVEL), false);
        Self { stream, scratch: Vec::new() }
    }

    /// Appends the compressed form of `payload` to `out` (RFC 7692, 7.2.1).
    pub fn compress(&mut self, payload: &[u8], out: &mut Vec<u8>) {
        self.stream.reset();
        out.reserve(payload.len() / 2 + 64);
        loop {
            let rest = &payload[self.stream.total_in() as usize..];
            self.stream
                .compress_vec(rest, out, FlushCompress::Sync)
                .expect("deflate takes any input with these constant parameters");
            // Room left over means that the flush is complete.
            if out.len() < out.capacity() {
                break;
            }
            out.reserve(out.len().max(64));
        }
        debug_assert!(out.ends_with(&TAIL), "a sync flush ends in an empty stored block");
        out.truncate(out.len() - TAIL.len());
    }

    /// Compresses into the scratch space and returns it.
    pub(crate) fn compressed(&mut self, payload: &[u8]) -> &[u8] {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        scratch.shrink_to(SCRATCH_BYTES_MAX);
        self.compress(payload, &mut scratch);
        self.scratch = scratch;
        &self.scratch
    }
}

impl Default for Deflater {
    fn default() -> Self {
        Self::new()
    }
}
