use super::SplitError;

/// Bytes that a line may have beside its frame: the name of a field of an event.
pub(super) const FIELD_BYTES_MAX: usize = 16;

/// Lines that end with LF, CRLF or CR.
#[derive(Debug)]
pub(crate) struct Lines {
    unfinished: Vec<u8>,
    /// The last byte was a CR: a LF behind it belongs to the same end.
    after_cr: bool,
    bytes_max: usize,
}

impl Lines {
    pub fn new(bytes_max: usize) -> Self {
        Self { unfinished: Vec::new(), after_cr: false, bytes_max }
    }

    /// `take` gets each line that is complete now, empty ones too.
    pub fn feed(
        &mut self,
        mut bytes: &[u8],
        take: &mut dyn FnMut(&[u8]) -> Result<(), SplitError>,
    ) -> Result<(), SplitError> {
        if self.after_cr && !bytes.is_empty() {
            self.after_cr = false;
            bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
        }
        while let Some(at) = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
            self.line(&bytes[..at], take)?;
            bytes = match &bytes[at..] {
                [b'\r', b'\n', rest @ ..] => rest,
                [b'\r'] => {
                    self.after_cr = true;
                    &[]
                }
                [_, rest @ ..] => rest,
                [] => &[],
            };
        }
        self.unfinished.extend_from_slice(bytes);
        self.check(self.unfinished.len())
    }

    fn line(
        &mut self,
        end: &[u8],
        take: &mut dyn FnMut(&[u8]) -> Result<(), SplitError>,
    ) -> Result<(), SplitError> {
        self.check(self.unfinished.len() + end.len())?;
        if self.unfinished.is_empty() {
            return take(end);
        }
        self.unfinished.extend_from_slice(end);
        take(&std::mem::take(&mut self.unfinished))
    }

    fn check(&self, bytes: usize) -> Result<(), SplitError> {
        match bytes > self.bytes_max {
            true => Err(SplitError::TooLong { bytes_max: self.bytes_max }),
            false => Ok(()),
        }
    }
}
