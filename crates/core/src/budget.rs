/// How much may be spent per second, and at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Rate {
    pub per_second: u32,
    pub burst: u32,
}

/// What one client has left of a [`Rate`]: a token bucket, eight bytes.
///
/// Time comes in as a count of milliseconds since any fixed moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Budget {
    /// Tokens taken and not yet given back.
    spent: u32,
    /// When `spent` was last brought up to date.
    at_ms: u32,
}

/// Whether there was enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Spent {
    Within,
    Over,
}

impl Budget {
    /// Takes `amount` tokens, or none if there are not as many.
    pub fn spend(&mut self, amount: u32, rate: Rate, now_ms: u64) -> Spent {
        let covered = self.covers(amount, rate, now_ms);
        if covered == Spent::Within {
            self.spent += amount;
        }
        covered
    }

    /// Whether there are `amount` tokens; none are taken.
    pub fn covers(&mut self, amount: u32, rate: Rate, now_ms: u64) -> Spent {
        // Only differences count, and after 49 days of silence nothing is owed in any case.
        let now_ms = now_ms as u32;
        let earned = u64::from(now_ms.wrapping_sub(self.at_ms)) * u64::from(rate.per_second) / 1_000;
        if earned > 0 {
            self.spent = self.spent.saturating_sub(u32::try_from(earned).unwrap_or(u32::MAX));
            self.at_ms = now_ms;
        }
        match self.spent.checked_add(amount) {
            Some(spent) if spent <= rate.burst => Spent::Within,
            _ => Spent::Over,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let rate = Rate { per_second: 10, burst: 3 };
        let mut budget = Budget::default();
        let mut passed =
            |now_ms, tries| (0..tries).filter(|_| budget.spend(1, rate, now_ms) == Spent::Within).count();
        assert_eq!(passed(0, 9), 3);
        assert_eq!(passed(99, 9), 0);
        assert_eq!(passed(100, 9), 1);
        assert_eq!(passed(10_000, 9), 3);
    }

    #[test]
    fn what_is_too_much_takes_nothing() {
        let rate = Rate { per_second: 10, burst: 10 };
        let mut budget = Budget::default();
        let outcomes = [8, 3, u32::MAX, 2, 1].map(|amount| budget.spend(amount, rate, 0));
        assert_eq!(outcomes, [Spent::Within, Spent::Over, Spent::Over, Spent::Within, Spent::Over]);
    }

    #[test]
    fn small_steps_of_time_are_not_lost() {
        let rate = Rate { per_second: 10, burst: 1 };
        let mut budget = Budget::default();
        let passed = (0..1_000).filter(|now_ms| budget.spend(1, rate, *now_ms) == Spent::Within).count();
        assert_eq!(passed, 10);
    }
}
