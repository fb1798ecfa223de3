use std::rc::Rc;

use bytes::Bytes;
use duplex_core::{Budget, ClientId, CloseReason, EncodingId, FrameQueue, Link, Protocol};

use crate::hub::{Place, Subscription};
use crate::settings::Settings;
use crate::wheel::{Tick, Wheel};

/// Names a session on its shard. A key of a session that has ended names nobody, even when its place is taken again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionKey {
    pub(crate) index: u32,
    pub(crate) serial: u32,
}

/// What the shard keeps for a client.
pub(crate) struct Session {
    pub outbox: FrameQueue,
    pub link: Rc<dyn Link>,
    pub sending: Sending,
    pub phase: Phase,
    pub encoding: EncodingId,
    pub serial: u32,
    /// What is due next, ms of the shard's clock: see `Phase`.
    pub due_ms: u64,
    /// Its entry in the wheel; earlier ones do not count.
    pub entry: Tick,
    /// When something last came from the client.
    pub heard_ms: u64,
    pub messages: Budget,
    pub protocol: Box<dyn Protocol>,
    pub subscriptions: Vec<Subscription>,
    pub client: ClientId,
}

/// What a session is at, and so what its deadline means.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Phase {
    /// Must say `connect` until the deadline.
    Opening,
    /// Looked at for silence at the deadline.
    Live,
    /// Was pinged; must be heard of until the deadline.
    Pinged,
    /// Closed; the link is cut at the deadline.
    Closing,
}

/// What must happen to a session whose time has come.
pub(crate) enum Due {
    Later,
    Heartbeat,
    Close(&'static CloseReason),
}

/// Whether there is something to write, and who will see to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Sending {
    /// Nothing waits.
    Idle,
    /// In the shard's list of dirty outboxes.
    Dirty,
    /// The transport is full and will say when there is room.
    Blocked,
}

/// Whether a frame fitted into the outbox.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Queued {
    /// And the shard must flush it.
    First,
    /// Behind others.
    Behind,
    /// It did not fit: the client is slow.
    Full,
}

impl Session {
    /// Queues a frame, of at most `bytes_max` in all. One frame fits always.
    #[inline]
    pub fn queue(&mut self, frame: Bytes, bytes_max: usize) -> Queued {
        if self.phase == Phase::Closing {
            return Queued::Behind;
        }
        if !self.outbox.is_empty() && self.outbox.bytes() + frame.len() > bytes_max {
            return Queued::Full;
        }
        self.outbox.push(frame);
        self.mark_dirty()
    }

    #[inline]
    pub fn mark_dirty(&mut self) -> Queued {
        if self.sending != Sending::Idle {
            return Queued::Behind;
        }
        self.sending = Sending::Dirty;
        Queued::First
    }

    /// Sets the deadline.
    pub fn wait_until(&mut self, due_ms: u64, key: SessionKey, wheel: &mut Wheel) {
        self.due_ms = due_ms;
        self.entry = wheel.insert(key, due_ms);
    }

    /// Something came from the client.
    pub fn heard(&mut self, settings: &Settings, key: SessionKey, now_ms: u64, wheel: &mut Wheel) {
        self.heard_ms = now_ms;
        if self.phase == Phase::Pinged {
            self.phase = Phase::Live;
            self.wait_until(now_ms + u64::from(self.beat_ms(settings)), key, wheel);
        }
    }

    /// Its entry in the wheel has come up: what is due?
    pub fn due(&mut self, settings: &Settings, key: SessionKey, now_ms: u64, wheel: &mut Wheel) -> Due {
        let silent_at = self.heard_ms + u64::from(self.beat_ms(settings));
        match self.phase {
            // A deadline more than a turn of the wheel away comes up early.
            _ if self.due_ms > now_ms => self.wait_until(self.due_ms, key, wheel),
            Phase::Opening => return Due::Close(&CloseReason::STALE),
            Phase::Closing => self.link.abort(),
            Phase::Pinged => return Due::Close(&CloseReason::NO_PONG),
            Phase::Live if silent_at <= now_ms => return Due::Heartbeat,
            Phase::Live => self.wait_until(silent_at, key, wheel),
        }
        Due::Later
    }

    /// After how much silence this client gets a heartbeat: 80 to 100 % of the setting, so that clients that came at once
    /// are not pinged at once. Consecutive serials times the golden ratio spread evenly.
    pub fn beat_ms(&self, settings: &Settings) -> u32 {
        let spread = u64::from(self.serial.wrapping_mul(0x9E37_79B9)) * u64::from(settings.heartbeat_ms / 5);
        settings.heartbeat_ms - (spread >> 32) as u32
    }

    /// Its subscription to a channel.
    pub fn subscription(&self, channel: u32) -> Option<Subscription> {
        self.subscriptions.iter().copied().find(|subscription| subscription.channel == channel)
    }

    /// Notes where it now stands in a channel.
    pub fn set_place(&mut self, channel: u32, place: Place) {
        if let Some(subscription) = self.subscriptions.iter_mut().find(|s| s.channel == channel) {
            subscription.place = place;
        }
    }
}
