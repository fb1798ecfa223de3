use super::SplitError;

/// Marks a `bin 32`; its length follows in four bytes, most significant first.
const BIN_32: u8 = 0xc6;
const HEAD_BYTES: usize = 5;

/// MessagePack `bin 32` values, one behind the other. Empty ones are heartbeats.
#[derive(Debug)]
pub(crate) struct Blobs {
    unfinished: Vec<u8>,
    bytes_max: usize,
}

impl Blobs {
    pub fn new(bytes_max: usize) -> Self {
        Self { unfinished: Vec::new(), bytes_max }
    }

    pub fn feed(&mut self, bytes: &[u8], take: &mut dyn FnMut(&[u8])) -> Result<(), SplitError> {
        self.unfinished.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(length) = self.length(at)? {
            let start = at + HEAD_BYTES;
            let Some(blob) = self.unfinished.get(start..start + length) else { break };
            if !blob.is_empty() {
                take(blob);
            }
            at = start + length;
        }
        self.unfinished.drain(..at);
        Ok(())
    }

    /// How long the value is that begins at `at`; `None` until its head is there.
    fn length(&self, at: usize) -> Result<Option<usize>, SplitError> {
        let rest = &self.unfinished[at..];
        if rest.first().is_some_and(|marker| *marker != BIN_32) {
            return Err(SplitError::Malformed);
        }
        let Some([_, length @ ..]) = rest.first_chunk::<HEAD_BYTES>() else { return Ok(None) };
        match usize::try_from(u32::from_be_bytes(*length)) {
            Ok(length) if length <= self.bytes_max => Ok(Some(length)),
            _ => Err(SplitError::TooLong { bytes_max: self.bytes_max }),
        }
    }
}
