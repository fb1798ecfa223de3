use crate::settings::Settings;

/// What waits for all clients of a shard together, and how much one of them may have waiting.
#[derive(Debug)]
pub(crate) struct Outboxes {
    bytes: usize,
    /// This shard's share of what the node may have waiting.
    share: usize,
    client_max: usize,
}

impl Outboxes {
    /// For one of `shards` shards.
    pub fn new(settings: &Settings, shards: usize) -> Self {
        Self { bytes: 0, share: (settings.outboxes_bytes / shards).max(1), client_max: settings.outbox_bytes }
    }

    /// The settings have changed.
    pub fn set(&mut self, settings: &Settings, shards: usize) {
        *self = Self { bytes: self.bytes, ..Self::new(settings, shards) };
    }

    /// Bytes waiting.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that may wait for one client now: the fuller all of them are, the fewer, so that the slowest go first.
    #[inline]
    pub fn client_max(&self) -> usize {
        if self.bytes < self.share / 2 {
            return self.client_max;
        }
        match self.bytes / (self.share / 8).max(1) {
            0..=5 => self.client_max / 2,
            6 => self.client_max / 4,
            7 => self.client_max / 16,
            _ => self.client_max / 64,
        }
    }

    #[inline]
    pub fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    #[inline]
    pub fn remove(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.bytes, "more was taken out than was put in");
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fuller_they_are_the_less_a_client_may_have() {
        let settings = Settings { outbox_bytes: 6_400, outboxes_bytes: 160_000, ..Settings::default() };
        let mut outboxes = Outboxes::new(&settings, 2);
        for (bytes, client_max) in
            [(0, 6_400), (39_999, 6_400), (40_000, 3_200), (60_000, 1_600), (70_000, 400), (80_000, 100)]
        {
            outboxes.bytes = bytes;
            assert_eq!(outboxes.client_max(), client_max, "{bytes}");
        }
    }
}
