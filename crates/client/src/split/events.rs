use super::SplitError;
use super::lines::{FIELD_BYTES_MAX, Lines};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The data of Server-Sent Events (HTML Standard, 9.2.6). Names and ids do not matter here.
#[derive(Debug)]
pub(crate) struct Events {
    lines: Lines,
    event: Event,
}

#[derive(Debug)]
struct Event {
    data: Vec<u8>,
    began: Began,
    bytes_max: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum Began {
    /// A byte order mark may come.
    Nothing,
    Stream,
    Data,
}

impl Events {
    pub fn new(bytes_max: usize) -> Self {
        let lines = Lines::new(bytes_max.saturating_add(FIELD_BYTES_MAX));
        Self { lines, event: Event { data: Vec::new(), began: Began::Nothing, bytes_max } }
    }

    pub fn feed(&mut self, bytes: &[u8], take: &mut dyn FnMut(&[u8])) -> Result<(), SplitError> {
        let Self { lines, event } = self;
        lines.feed(bytes, &mut |line| event.line(line, take))
    }
}

impl Event {
    fn line(&mut self, mut line: &[u8], take: &mut dyn FnMut(&[u8])) -> Result<(), SplitError> {
        if self.began == Began::Nothing {
            self.began = Began::Stream;
            line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        }
        if line.is_empty() {
            self.end(take);
            return Ok(());
        }
        let (name, value) = match line.iter().position(|byte| *byte == b':') {
            Some(at) => (&line[..at], &line[at + 1..]),
            None => (line, &line[line.len()..]),
        };
        match name {
            b"data" => self.add(value.strip_prefix(b" ").unwrap_or(value)),
            _ => Ok(()),
        }
    }

    fn add(&mut self, data: &[u8]) -> Result<(), SplitError> {
        if self.began == Began::Data {
            self.data.push(b'\n');
        }
        self.began = Began::Data;
        self.data.extend_from_slice(data);
        match self.data.len() > self.bytes_max {
            true => Err(SplitError::TooLong { bytes_max: self.bytes_max }),
            false => Ok(()),
        }
    }

    fn end(&mut self, take: &mut dyn FnMut(&[u8])) {
        if self.began == Began::Data {
            self.began = Began::Stream;
            take(&std::mem::take(&mut self.data));
        }
    }
}
