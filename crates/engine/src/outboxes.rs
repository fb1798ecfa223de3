use crate::settings::Settings;

/// What waits for all clients of a shard together, and how much may.
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

    /// Bytes that may wait for one client.
    #[inline]
    pub fn client_max(&self) -> usize {
        self.client_max
    }

    /// Whether more waits than may.
    #[inline]
    pub fn are_too_full(&self) -> bool {
        self.bytes > self.share
    }

    /// Bytes that must go before there is room again: all but half of what may wait.
    pub fn excess(&self) -> usize {
        self.bytes.saturating_sub(self.share / 2)
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
