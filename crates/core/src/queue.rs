use std::collections::VecDeque;

use bytes::{Buf, Bytes};

/// Frames that wait for a transport to take them, oldest first.
///
/// Empty or with one frame, as it is nearly always, it owns no memory of its own.
#[derive(Debug, Default)]
pub struct FrameQueue {
    frames: Frames,
    bytes: usize,
    /// Part of the front frame is on the wire already, so it can no longer be taken back.
    front: Front,
}

#[derive(Debug, Default)]
enum Frames {
    #[default]
    None,
    One(Bytes),
    Many(VecDeque<Bytes>),
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum Front {
    #[default]
    Whole,
    Begun,
}

impl FrameQueue {
    /// Bytes waiting.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Puts a frame at the end. Frames are not empty.
    pub fn push(&mut self, frame: Bytes) {
        debug_assert!(!frame.is_empty());
        self.bytes += frame.len();
        match &mut self.frames {
            Frames::None => self.frames = Frames::One(frame),
            Frames::Many(frames) => frames.push_back(frame),
            Frames::One(_) => {
                let Frames::One(first) = std::mem::take(&mut self.frames) else {
                    unreachable!("just matched")
                };
                self.frames = Frames::Many(VecDeque::from([first, frame]));
            }
        }
    }

    /// Takes the first frame out.
    pub fn pop(&mut self) -> Option<Bytes> {
        let frame = match &mut self.frames {
            Frames::Many(frames) if frames.len() > 1 => frames.pop_front()?,
            _ => match std::mem::take(&mut self.frames) {
                Frames::None => return None,
                Frames::One(frame) => frame,
                Frames::Many(mut frames) => frames.pop_front()?,
            },
        };
        self.bytes -= frame.len();
        self.front = Front::Whole;
        Some(frame)
    }

    /// The waiting frames, in order; the first is what is left of it.
    pub fn iter(&self) -> impl Iterator<Item = &Bytes> {
        let (one, many) = match &self.frames {
            Frames::None => (None, None),
            Frames::One(frame) => (Some(frame), None),
            Frames::Many(frames) => (None, Some(frames.iter())),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    /// Removes `written` bytes from the front.
    pub fn advance(&mut self, mut written: usize) {
        while let Some(front) = self.front_mut() {
            if written < front.len() {
                if written > 0 {
                    front.advance(written);
                    self.bytes -= written;
                    self.front = Front::Begun;
                }
                return;
            }
            written -= front.len();
            self.pop();
        }
        debug_assert_eq!(written, 0, "more bytes written than there were");
    }

    /// Drops what waits, except for the rest of a frame whose beginning is on the wire.
    pub fn clear(&mut self) {
        let begun = (self.front == Front::Begun).then(|| self.pop()).flatten();
        *self = Self::default();
        if let Some(rest) = begun {
            self.push(rest);
            self.front = Front::Begun;
        }
    }

    fn front_mut(&mut self) -> Option<&mut Bytes> {
        match &mut self.frames {
            Frames::None => None,
            Frames::One(frame) => Some(frame),
            Frames::Many(frames) => frames.front_mut(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(frames: &[&'static str]) -> FrameQueue {
        let mut queue = FrameQueue::default();
        frames.iter().for_each(|frame| queue.push(Bytes::from_static(frame.as_bytes())));
        queue
    }

    fn text(queue: &FrameQueue) -> String {
        queue.iter().map(|frame| String::from_utf8_lossy(frame).into_owned()).collect::<Vec<_>>().join("|")
    }

    #[test]
    fn every_byte_leaves_once_and_in_order() {
        for step in 1..=6 {
            let mut queue = queue(&["ab", "cde", "f"]);
            let mut seen = String::new();
            while !queue.is_empty() {
                let rest = text(&queue).replace('|', "");
                let taken = step.min(rest.len());
                seen.push_str(&rest[..taken]);
                queue.advance(taken);
                assert_eq!(queue.bytes(), 6 - seen.len());
            }
            assert_eq!(seen, "abcdef");
            assert!(queue.pop().is_none());
        }
    }

    #[test]
    fn clearing_keeps_the_rest_of_a_frame_that_has_begun() {
        let mut queue = queue(&["abc", "def"]);
        queue.advance(1);
        queue.clear();
        assert_eq!((text(&queue).as_str(), queue.bytes()), ("bc", 2));
        queue.advance(2);
        queue.push(Bytes::from_static(b"x"));
        queue.clear();
        assert!(queue.is_empty());
    }
}
