use crate::session::SessionKey;

/// Length of a slot, ms: a deadline is met at most this much late.
pub(crate) const TICK_MS: u64 = 100;
/// Slots of the wheel; a deadline further away goes round again.
const SLOTS: u64 = 512;

/// A slot's turn, counted from the start of the shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tick(u64);

/// The deadlines of a shard: which sessions to look at in which tick. Eight bytes per client.
///
/// Nothing is ever taken out: a session remembers the tick of its last entry, and any other entry does not count.
pub(crate) struct Wheel {
    slots: Box<[Vec<SessionKey>]>,
    /// The next tick to be turned to.
    next: u64,
}

impl Wheel {
    pub fn new() -> Self {
        Self { slots: (0..SLOTS).map(|_| Vec::new()).collect(), next: 0 }
    }

    /// Looks at `key` at `due_ms`, or before if that is more than a turn away. Says in which tick.
    pub fn insert(&mut self, key: SessionKey, due_ms: u64) -> Tick {
        let tick = due_ms.div_ceil(TICK_MS).clamp(self.next, self.next + SLOTS - 1);
        self.slots[(tick % SLOTS) as usize].push(key);
        Tick(tick)
    }

    /// Whether an entry is still to come up, and not later than `due_ms`.
    pub fn comes_up_until(&self, entry: Tick, due_ms: u64) -> bool {
        entry.0 >= self.next && entry.0 <= due_ms.div_ceil(TICK_MS)
    }

    /// Takes the sessions of the next tick that is due at `now_ms`, or `None` when all ticks until then were taken.
    pub fn turn(&mut self, now_ms: u64) -> Option<(Tick, Vec<SessionKey>)> {
        if self.next * TICK_MS > now_ms {
            return None;
        }
        let tick = self.next;
        self.next += 1;
        Some((Tick(tick), std::mem::take(&mut self.slots[(tick % SLOTS) as usize])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_entry_comes_up_once_and_never_early_within_a_turn() {
        let mut wheel = Wheel::new();
        let dues = [0, 1, 100, 101, 25_000, 51_100];
        for (index, due) in dues.into_iter().enumerate() {
            wheel.insert(SessionKey { index: index as u32, serial: 0 }, due);
        }
        let mut seen = Vec::new();
        for now_ms in (0..60_000).step_by(50) {
            while let Some((_, keys)) = wheel.turn(now_ms) {
                seen.extend(keys.into_iter().map(|key| (key.index, now_ms)));
            }
        }
        assert_eq!(seen, [(0, 0), (1, 100), (2, 100), (3, 200), (4, 25_000), (5, 51_100)]);
    }

    #[test]
    fn an_entry_counts_until_its_tick_was_taken() {
        let mut wheel = Wheel::new();
        let entry = wheel.insert(SessionKey { index: 0, serial: 0 }, 1_000);
        assert!(wheel.comes_up_until(entry, 1_000) && wheel.comes_up_until(entry, 30_000));
        assert!(!wheel.comes_up_until(entry, 900), "it would be late");
        while wheel.turn(1_000).is_some() {}
        assert!(!wheel.comes_up_until(entry, 30_000), "it was taken");
    }

    #[test]
    fn a_deadline_beyond_a_turn_comes_up_early_to_be_inserted_again() {
        let mut wheel = Wheel::new();
        wheel.insert(SessionKey { index: 0, serial: 0 }, 1_000_000);
        let ticks = std::iter::from_fn(|| wheel.turn(60_000)).position(|(_, keys)| !keys.is_empty());
        assert_eq!(ticks, Some(511));
    }
}
