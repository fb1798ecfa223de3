use std::time::{Duration, Instant};

/// Judges by silence whether a wire is dead.
#[derive(Debug)]
pub(super) struct Watch {
    heard: Instant,
    silence_max: Duration,
    then: Then,
    asked: Option<Instant>,
    answer_max: Duration,
}

/// What to do when nothing was heard for long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// Ask whether someone is there.
    Ask,
    /// Give it up.
    GiveUp,
}

/// What the time says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Fine,
    Ask,
    Dead,
}

impl Watch {
    /// From now on so much silence is too much, and so much after a question.
    pub fn new(silence_max: Duration, then: Then, answer_max: Duration, now: Instant) -> Self {
        Self { heard: now, silence_max, then, asked: None, answer_max }
    }

    pub fn expect(&mut self, silence_max: Duration, then: Then, now: Instant) {
        *self = Self::new(silence_max, then, self.answer_max, now);
    }

    pub fn heard(&mut self, now: Instant) {
        (self.heard, self.asked) = (now, None);
    }

    pub fn deadline(&self) -> Instant {
        match self.asked {
            Some(asked) => asked + self.answer_max,
            None => self.heard + self.silence_max,
        }
    }

    pub fn timeout(&mut self, now: Instant) -> Verdict {
        if now < self.deadline() {
            return Verdict::Fine;
        }
        match (self.then, self.asked) {
            (Then::Ask, None) => {
                self.asked = Some(now);
                Verdict::Ask
            }
            _ => Verdict::Dead,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_questioned_before_it_is_death() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let seconds = Duration::from_secs;
        let mut watch = Watch::new(seconds(25), Then::Ask, seconds(10), start);
        assert_eq!(watch.timeout(at(24)), Verdict::Fine);
        watch.heard(at(24));
        assert_eq!([watch.timeout(at(48)), watch.timeout(at(49))], [Verdict::Fine, Verdict::Ask]);
        assert_eq!(watch.timeout(at(58)), Verdict::Fine);
        watch.heard(at(58));
        assert_eq!([watch.timeout(at(83)), watch.timeout(at(93))], [Verdict::Ask, Verdict::Dead]);
        watch.expect(seconds(5), Then::GiveUp, at(100));
        assert_eq!([watch.timeout(at(104)), watch.timeout(at(105))], [Verdict::Fine, Verdict::Dead]);
    }
}
