/// How many frames of a session have arrived, whatever carried them.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    seen: u64,
}

/// What a frame's number says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Counted {
    /// It is the next one.
    New,
    /// It has come before, over another transport.
    Again,
    /// Others before it are missing.
    Gap,
}

impl Cursor {
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// A frame with this number came.
    pub fn count(&mut self, number: u64) -> Counted {
        match number {
            _ if number <= self.seen => Counted::Again,
            _ if number > self.seen + 1 => Counted::Gap,
            _ => {
                self.seen = number;
                Counted::New
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_frame_counts_once_and_none_is_left_out() {
        let mut cursor = Cursor::default();
        let counted = [1, 2, 1, 2, 3, 5, 4].map(|number| cursor.count(number));
        let expected = {
            use Counted::{Again, Gap, New};
            [New, New, Again, Again, New, Gap, New]
        };
        assert_eq!((counted, cursor.seen()), (expected, 4));
    }
}
