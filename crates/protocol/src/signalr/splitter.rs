//! What a client sends is a stream of bytes: messages may come in pieces, and several at once.

use duplex_core::Frame;

use super::{Format, handshake};

/// Ends each message in JSON.
pub(super) const END: u8 = 0x1e;
/// Bytes of a length at most: seven bits each.
const LENGTH_BYTES_MAX: usize = 5;

/// What makes no message; the connection ends. The text is for the client's developer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Breach {
    #[error("a message of more than {bytes_max} bytes; send less at once")]
    TooLong { bytes_max: usize },
    #[error("a length that no message has; send it in at most five bytes of seven bits")]
    Length,
    #[error("a message that is not UTF-8")]
    NotText,
}

/// Cuts what a client sends into messages.
#[derive(Debug)]
pub struct Splitter {
    /// `None` until the handshake says it.
    format: Option<Format>,
    /// The beginning of a message.
    partial: Vec<u8>,
}

/// Whether what came has completed a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// One from the first to the second place, behind which what follows begins at the third.
    Whole(usize, usize, usize),
    Partial,
}

impl Splitter {
    /// For a client whose handshake has said in which format it writes, or is still to come.
    pub fn new(format: Option<Format>) -> Self {
        Self { format, partial: Vec::new() }
    }

    /// In which format the client writes, once that is known.
    pub fn format(&self) -> Option<Format> {
        self.format
    }

    /// Whether a message has begun and not ended.
    pub fn is_partial(&self) -> bool {
        !self.partial.is_empty()
    }

    /// Gives each message that `bytes` complete to `take`, and says how many there were. A message has at most `bytes_max`.
    ///
    /// # Errors
    /// What follows makes no message.
    pub fn split(
        &mut self,
        bytes: &[u8],
        bytes_max: usize,
        mut take: impl FnMut(Frame<'_>),
    ) -> Result<usize, Breach> {
        let known = self.partial.len();
        if known == 0 {
            let (used, count) = self.messages(bytes, 0, bytes_max, &mut take)?;
            self.partial.extend_from_slice(&bytes[used..]);
            return Ok(count);
        }
        let mut whole = std::mem::take(&mut self.partial);
        whole.extend_from_slice(bytes);
        let (used, count) = self.messages(&whole, known, bytes_max, &mut take)?;
        if used < whole.len() {
            whole.drain(..used);
            self.partial = whole;
        }
        Ok(count)
    }

    /// The messages in `bytes`, of which so many are known to end none: how many bytes they have, and how many there are.
    fn messages(
        &mut self,
        bytes: &[u8],
        mut known: usize,
        bytes_max: usize,
        take: &mut impl FnMut(Frame<'_>),
    ) -> Result<(usize, usize), Breach> {
        let (mut used, mut count) = (0, 0);
        while let Next::Whole(start, end, next) = self.next(&bytes[used..], known, bytes_max)? {
            self.give(&bytes[used + start..used + end], take)?;
            (used, known, count) = (used + next, 0, count + 1);
        }
        Ok((used, count))
    }

    fn next(&self, bytes: &[u8], known: usize, bytes_max: usize) -> Result<Next, Breach> {
        let next = match self.format {
            Some(Format::MessagePack) => next_counted(bytes, bytes_max)?,
            Some(Format::Json) | None => match bytes[known..].iter().position(|byte| *byte == END) {
                Some(at) => Next::Whole(0, known + at, known + at + 1),
                None => Next::Partial,
            },
        };
        let length = match next {
            Next::Whole(start, end, _) => end - start,
            Next::Partial => bytes.len().saturating_sub(LENGTH_BYTES_MAX),
        };
        if length > bytes_max { Err(Breach::TooLong { bytes_max }) } else { Ok(next) }
    }

    fn give(&mut self, message: &[u8], take: &mut impl FnMut(Frame<'_>)) -> Result<(), Breach> {
        let text = |bytes| std::str::from_utf8(bytes).map(Frame::Text).map_err(|_| Breach::NotText);
        match self.format {
            None => {
                // Whoever says nothing that is understood hears so, and nothing else it says counts.
                self.format = Some(handshake::peek(message).unwrap_or(Format::Json));
                take(text(message)?);
            }
            Some(Format::Json) => take(text(message)?),
            Some(Format::MessagePack) => take(Frame::Binary(message)),
        }
        Ok(())
    }
}

/// A message behind its length: seven bits in each byte, the lowest first, and the highest bit in all but the last.
fn next_counted(bytes: &[u8], bytes_max: usize) -> Result<Next, Breach> {
    let mut length = 0;
    for (index, byte) in bytes.iter().take(LENGTH_BYTES_MAX).enumerate() {
        length |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let length = usize::try_from(length).map_err(|_| Breach::Length)?;
            if length > bytes_max {
                return Err(Breach::TooLong { bytes_max });
            }
            let (start, end) = (index + 1, index + 1 + length);
            return Ok(if end <= bytes.len() { Next::Whole(start, end, end) } else { Next::Partial });
        }
    }
    if bytes.len() >= LENGTH_BYTES_MAX { Err(Breach::Length) } else { Ok(Next::Partial) }
}
