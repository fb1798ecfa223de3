//! When to come back: a random part of a time that doubles, so that clients that were cut off together do not come back
//! together.

use std::time::{Duration, Instant};

use crate::{End, Times};

/// Losses after which the time does not double any more, so that it does not overflow.
const LOSSES_MAX: u32 = 16;
/// Whoever sent too much would only do so again: its loss counts like so many.
const HEAVY_LOSS: u32 = 4;
const POLICY: u16 = 1008;
const TOO_MANY_MESSAGES: u16 = 3013;

/// Any part of the time after so many losses. `chance` is any number.
pub(crate) fn jitter(times: &Times, losses: u32, chance: u32) -> Duration {
    let most = times.backoff.saturating_mul(1 << losses.min(LOSSES_MAX)).min(times.backoff_max);
    most.mul_f64(f64::from(chance) / f64::from(u32::MAX))
}

/// Counts losses.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    losses: u32,
    good_since: Option<Instant>,
}

impl Backoff {
    /// The server has let the client in.
    pub fn connected(&mut self, now: Instant) {
        self.good_since = Some(now);
    }

    /// How long to wait after `end`. `chance` is any number.
    pub fn delay(&mut self, end: &End, times: &Times, now: Instant, chance: u32) -> Duration {
        let good = self.good_since.take();
        if good.is_some_and(|since| now.duration_since(since) >= times.stable) {
            self.losses = 0;
        }
        let delay = end.after.unwrap_or_else(|| jitter(times, self.losses, chance));
        let weight = if matches!(end.code, POLICY | TOO_MANY_MESSAGES) { HEAVY_LOSS } else { 1 };
        self.losses = (self.losses + weight).min(LOSSES_MAX);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_loss_doubles_the_wait_until_a_connection_was_good() {
        let (times, start) = (Times::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let broken = End::broken("x");
        let asked = End { after: Some(Duration::from_millis(2750)), ..End::new(1012, "restart") };
        let mut backoff = Backoff::default();
        for (connected_s, lost_s, end, expected_ms) in [
            (None, 0, &broken, 500),
            (None, 1, &broken, 1_000),
            (Some(2), 3, &asked, 2_750),
            // One second of a good connection is not enough to forget.
            (Some(5), 6, &broken, 4_000),
            (None, 7, &End::new(3013, "flood"), 8_000),
            (None, 8, &broken, 30_000),
            (Some(9), 19, &broken, 500),
        ] {
            if let Some(connected_s) = connected_s {
                backoff.connected(at(connected_s));
            }
            let delay = backoff.delay(end, &times, at(lost_s), u32::MAX);
            assert_eq!(delay.as_millis(), expected_ms, "lost at {lost_s}");
        }
        assert_eq!(Backoff::default().delay(&broken, &times, start, 0), Duration::ZERO);
        assert_eq!(jitter(&times, u32::MAX, u32::MAX), times.backoff_max);
    }
}
