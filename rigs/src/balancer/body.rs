//! Where the body of a message ends (RFC 9112, 6 and 7).

/// What is left of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    /// Nothing.
    Over,
    Length(u64),
    Chunked(Chunks),
    UntilClose,
}

/// What comes next in a body of chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunks {
    /// The line with a chunk's size, of which this is known.
    Size(u64, SizeLine),
    /// A chunk's bytes, and the line break behind them.
    Data(u64),
    /// A line behind the last chunk, of which so many bytes were read.
    Trailer(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SizeLine {
    Digits,
    /// What is behind the digits says nothing about the size.
    Rest,
}

impl Body {
    pub(super) fn of(length: u64) -> Self {
        if length == 0 { Self::Over } else { Self::Length(length) }
    }

    pub(super) fn chunked() -> Self {
        Self::Chunked(Chunks::Size(0, SizeLine::Digits))
    }

    /// How many of these bytes belong to it. It knows afterwards that they have passed.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while taken < bytes.len() && *self != Self::Over {
            taken += self.step(&bytes[taken..]);
        }
        taken
    }

    /// The same; at least one byte, perhaps not all.
    fn step(&mut self, bytes: &[u8]) -> usize {
        match *self {
            Self::Over => 0,
            Self::UntilClose => bytes.len(),
            Self::Length(left) => {
                let (taken, left) = part(bytes, left);
                *self = Self::of(left);
                taken
            }
            Self::Chunked(Chunks::Data(left)) => {
                let (taken, left) = part(bytes, left);
                *self = if left == 0 { Self::chunked() } else { Self::Chunked(Chunks::Data(left)) };
                taken
            }
            Self::Chunked(line) => {
                *self = line.after(bytes[0]);
                1
            }
        }
    }
}

/// How many of the bytes are among the next `wanted`, and how many of those are still to come.
fn part(bytes: &[u8], wanted: u64) -> (usize, u64) {
    let taken = usize::try_from(wanted).map_or(bytes.len(), |wanted| wanted.min(bytes.len()));
    (taken, wanted - taken as u64)
}

impl Chunks {
    /// After one byte of a line.
    fn after(self, byte: u8) -> Body {
        let digit = char::from(byte).to_digit(16).map(u64::from);
        match (self, byte, digit) {
            (Self::Size(0, _), b'\n', _) => Body::Chunked(Self::Trailer(0)),
            (Self::Size(size, _), b'\n', _) => Body::Chunked(Self::Data(size.saturating_add(2))),
            (Self::Size(size, SizeLine::Digits), _, Some(digit)) => {
                Body::Chunked(Self::Size(size.saturating_mul(16).saturating_add(digit), SizeLine::Digits))
            }
            (Self::Size(size, _), _, _) => Body::Chunked(Self::Size(size, SizeLine::Rest)),
            // A line with nothing but its break ends the body.
            (Self::Trailer(0 | 1), b'\n', _) => Body::Over,
            (Self::Trailer(0), b'\r', _) => Body::Chunked(Self::Trailer(1)),
            (Self::Trailer(_), b'\n', _) => Body::Chunked(Self::Trailer(0)),
            (Self::Trailer(_) | Self::Data(_), _, _) => Body::Chunked(Self::Trailer(2)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How much belongs to the body, in whatever pieces it comes.
    fn length(body: Body, text: &str) -> (usize, Body) {
        let mut whole = body;
        let taken = whole.take(text.as_bytes());
        for size in 1..text.len() {
            let mut pieces = body;
            let of_pieces: usize = text.as_bytes().chunks(size).map(|piece| pieces.take(piece)).sum();
            assert_eq!((of_pieces, pieces), (taken, whole), "in pieces of {size}");
        }
        (taken, whole)
    }

    #[test]
    fn a_body_is_as_long_as_it_says() {
        assert_eq!(length(Body::of(5), "hello, more"), (5, Body::Over));
        assert_eq!(length(Body::of(9), "hello"), (5, Body::of(4)));
        assert_eq!(length(Body::Over, "hello"), (0, Body::Over));
        assert_eq!(length(Body::UntilClose, "hello"), (5, Body::UntilClose));
    }

    #[test]
    fn chunks_end_with_an_empty_one() {
        for text in [
            "5\r\nhello\r\n0\r\n\r\n",
            "1A;a=\"5\"\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nName: value\r\n\r\n",
        ] {
            assert_eq!(length(Body::chunked(), &format!("{text}GET /")), (text.len(), Body::Over), "{text}");
        }
        assert_ne!(length(Body::chunked(), "5\r\nhello\r\n0\r\n").1, Body::Over);
    }
}
