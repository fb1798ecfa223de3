use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use duplex_core::{
    Budget, ClientId, CloseReason, Command, EncodingId, FrameQueue, Identity, Link, Protocol, Stream, Ticket,
    Written,
};

use crate::hub::{Place, Subscription};
use crate::lag::Lag;
use crate::node::Delivery;
use crate::outboxes::Outboxes;
use crate::settings::Settings;
use crate::trail::Trail;
use crate::wheel::{TICK_MS, Tick, Wheel};

/// How long a transport that was aborted may take to end, ms.
const ABORTED_MS: u64 = 5_000;

/// Names a session on its shard. A key of a session that has ended names nobody, even when its place is taken again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionKey {
    pub(crate) index: u32,
    pub(crate) serial: u32,
}

impl SessionKey {
    /// A number below `range` that differs from session to session: consecutive serials times the golden ratio spread evenly.
    pub(crate) fn spread(self, range: u32) -> u32 {
        let spread = u64::from(self.serial.wrapping_mul(0x9E37_79B9)) * u64::from(range);
        (spread >> 32) as u32
    }
}

/// What the shard keeps for a client.
pub(crate) struct Session {
    pub outbox: FrameQueue,
    pub link: Rc<dyn Link>,
    pub sending: Sending,
    /// What its link kept when it was last asked, bytes.
    pub kept: usize,
    pub phase: Phase,
    pub encoding: EncodingId,
    pub serial: u32,
    /// What is due next, ms of the shard's clock: see `Phase`.
    pub due_ms: u64,
    /// Its entry in the wheel; earlier ones do not count.
    pub entry: Tick,
    /// When something last came from the client.
    pub heard_ms: u64,
    /// Whether it has ever answered a ping.
    pub has_answered: bool,
    /// When its transport last took something of what waits, ms of the shard's clock; while it is full.
    pub stalled: Option<u64>,
    pub messages: Budget,
    pub protocol: Box<dyn Protocol>,
    pub subscriptions: Vec<Subscription>,
    /// Those of its channels of which it is told as streams. Nearly always there are none.
    pub streams: Vec<(u32, Stream)>,
    pub client: ClientId,
    pub introduction: Introduction,
    /// When its token is no good any more, ms of the shard's clock.
    pub expires_ms: u64,
    /// Commands whose answer is awaited.
    pub in_flight: u32,
    pub lag: Option<Box<Lag>>,
    /// Where what it is sent is noted, if it may come back by naming one publication.
    pub trail: Option<Rc<Trail>>,
    /// What it may still publish in namespaces that limit it, which are told apart by where their policies lie. There only
    /// once it has published in such.
    pub publications: Option<Box<[(usize, Budget)]>>,
}

/// Whether it is known who the client is.
pub(crate) enum Introduction {
    /// It has not said `connect`. A door may know already who it is.
    Awaited(Option<Arc<Identity>>),
    /// Its token is being checked; these commands came meanwhile.
    Checking(Vec<(Ticket, Command)>),
    Done(Arc<Identity>),
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
    /// Has no transport; another must come until the deadline.
    Away,
    /// Closed; the link is cut at the deadline.
    Closing,
}

/// What must happen to a session whose time has come.
pub(crate) enum Due {
    Later,
    Heartbeat,
    Close(&'static CloseReason),
    /// It was closed, and there is no transport that could end it.
    End,
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
    /// There is no transport; one that comes says so.
    Away,
}

impl Sending {
    /// Whether what is put into the outbox stays there until the transport says something.
    pub fn is_stuck(self) -> bool {
        matches!(self, Self::Blocked | Self::Away)
    }
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
    /// Queues a frame. One frame fits always.
    #[inline]
    pub fn queue(&mut self, frame: Bytes, outboxes: &mut Outboxes) -> Queued {
        if self.phase == Phase::Closing {
            return Queued::Behind;
        }
        if self.is_full_for(&frame, outboxes) {
            // Nobody is slow whose transport has not been asked.
            if self.sending == Sending::Dirty && self.write(outboxes) == Sending::Idle {
                self.sending = Sending::Dirty;
            }
            if self.is_full_for(&frame, outboxes) {
                return Queued::Full;
            }
        }
        outboxes.add(frame.len());
        self.outbox.push(frame);
        self.mark_dirty()
    }

    #[inline]
    fn is_full_for(&self, frame: &Bytes, outboxes: &Outboxes) -> bool {
        !self.outbox.is_empty() && self.outbox.bytes() + frame.len() > outboxes.client_max()
    }

    /// One write of all that waits. A dead link ends the session by itself: its transport sees the same error.
    pub fn write(&mut self, outboxes: &mut Outboxes) -> Sending {
        let before = self.outbox.bytes() + self.kept;
        self.sending = match self.link.write(&mut self.outbox) {
            Written::All => Sending::Idle,
            Written::Blocked => Sending::Blocked,
            Written::Away => Sending::Away,
            Written::Dead => {
                self.outbox.clear();
                self.phase = Phase::Closing;
                self.link.abort();
                Sending::Blocked
            }
        };
        self.kept = self.link.kept_bytes();
        outboxes.remove(before);
        outboxes.add(self.outbox.bytes() + self.kept);
        self.sending
    }

    /// Notes that it is sent publications of a channel.
    #[inline]
    pub fn note(&self, channel: u32, run: &[Arc<Delivery>]) {
        if let Some(trail) = &self.trail {
            trail.sent(channel, run);
        }
    }

    /// Who the client is, once that is known.
    pub fn identity(&self) -> Option<&Arc<Identity>> {
        match &self.introduction {
            Introduction::Done(identity) => Some(identity),
            Introduction::Awaited(_) | Introduction::Checking(_) => None,
        }
    }

    /// Memory of what waits for it, bytes.
    pub fn waiting(&self) -> usize {
        self.outbox.bytes() + self.kept + self.lag.as_ref().map_or(0, |lag| lag.bytes())
    }

    /// What its transport has not taken, bytes, wherever it is.
    pub fn unsent(&self) -> usize {
        self.outbox.bytes() + self.link.unsent_bytes()
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
        // An entry that comes up early is made anew then: who polls often does not fill the wheel.
        if !wheel.comes_up_until(self.entry, due_ms) {
            self.entry = wheel.insert(key, due_ms);
        }
    }

    /// Something came from the client.
    pub fn heard(&mut self, settings: &Settings, key: SessionKey, now_ms: u64, wheel: &mut Wheel) {
        self.heard_ms = now_ms;
        if self.phase == Phase::Pinged {
            self.has_answered = true;
            self.live(settings, key, wheel);
        }
    }

    /// From now on it is looked after: by heartbeats, or, without a transport, for how long it stays away.
    pub fn live(&mut self, settings: &Settings, key: SessionKey, wheel: &mut Wheel) {
        let (phase, due_ms) = match self.sending {
            Sending::Away => (Phase::Away, self.away_until_ms(settings)),
            _ => (Phase::Live, self.next_look_ms(settings)),
        };
        self.phase = phase;
        self.wait_until(due_ms, key, wheel);
    }

    /// Whether its transport has come or gone, by what became of the last write, and its phase does not say so yet.
    #[inline]
    pub fn has_another_transport(&self) -> bool {
        match self.phase {
            Phase::Live | Phase::Pinged => self.sending == Sending::Away,
            Phase::Away => self.sending != Sending::Away,
            Phase::Opening | Phase::Closing => false,
        }
    }

    fn away_until_ms(&self, settings: &Settings) -> u64 {
        (self.heard_ms + u64::from(settings.linger_ms)).min(self.expires_ms)
    }

    /// When a live session must be looked at next.
    fn next_look_ms(&self, settings: &Settings) -> u64 {
        (self.heard_ms + u64::from(self.beat_ms(settings))).min(self.expires_ms)
    }

    /// Its entry in the wheel has come up: what is due?
    pub fn due(&mut self, settings: &Settings, key: SessionKey, now_ms: u64, wheel: &mut Wheel) -> Due {
        match self.phase {
            // A deadline more than a turn of the wheel away comes up early.
            _ if self.due_ms > now_ms => self.wait_until(self.due_ms, key, wheel),
            Phase::Opening => return Due::Close(&CloseReason::STALE),
            Phase::Closing if self.sending == Sending::Away => return Due::End,
            Phase::Closing => {
                self.link.abort();
                // It ends with its transport; one that may go over to another is looked at again.
                self.wait_until(now_ms + ABORTED_MS, key, wheel);
            }
            Phase::Pinged if !self.has_answered && self.protocol.may_ignore_pings() => {
                self.heard_ms = now_ms;
                self.live(settings, key, wheel);
            }
            Phase::Pinged => return Due::Close(&CloseReason::NO_PONG),
            Phase::Away if self.away_until_ms(settings) > now_ms => self.live(settings, key, wheel),
            Phase::Away if self.expires_ms > now_ms => return Due::Close(&CloseReason::ABSENT),
            Phase::Away => return Due::Close(&CloseReason::EXPIRED),
            Phase::Live if self.expires_ms <= now_ms => return Due::Close(&CloseReason::EXPIRED),
            Phase::Live if self.next_look_ms(settings) <= now_ms => return Due::Heartbeat,
            Phase::Live => self.wait_until(self.next_look_ms(settings), key, wheel),
        }
        Due::Later
    }

    /// After how much silence this client gets a heartbeat: 80 to 100 % of the setting, so that clients that came at once
    /// are not pinged at once, and a tick earlier, so that it is never late: some clients wait no longer.
    fn beat_ms(&self, settings: &Settings) -> u32 {
        let key = SessionKey { index: 0, serial: self.serial };
        let heartbeat_ms = settings.heartbeat_ms.min(self.protocol.silence_max_ms());
        let beat_ms = heartbeat_ms - key.spread(heartbeat_ms / 5);
        beat_ms.saturating_sub(TICK_MS as u32)
    }

    /// How it is told of a channel, if as a stream.
    #[inline]
    fn stream(&self, channel: u32) -> Option<&Stream> {
        self.streams.iter().find(|(streamed, _)| *streamed == channel).map(|(_, stream)| stream)
    }

    /// The wire form in which it wants what happens in a channel.
    #[inline]
    pub fn encoding_in(&self, channel: u32) -> EncodingId {
        self.stream(channel).map_or(self.encoding, |stream| stream.encoding)
    }

    /// A piece of what happened in a channel as this session's client gets it.
    #[inline]
    pub fn piece(&self, channel: u32, encoded: Bytes) -> Bytes {
        match self.stream(channel) {
            None => encoded,
            Some(stream) => self.link.frame(self.protocol.item(&stream.name, &encoded)),
        }
    }

    /// Its subscription to a channel.
    pub fn subscription(&self, channel: u32) -> Option<Subscription> {
        self.subscriptions.iter().copied().find(|subscription| subscription.channel == channel)
    }

    /// The same, to be changed.
    pub fn subscription_mut(&mut self, channel: u32) -> Option<&mut Subscription> {
        self.subscriptions.iter_mut().find(|subscription| subscription.channel == channel)
    }

    /// Notes where it now stands in a channel.
    pub fn set_place(&mut self, channel: u32, place: Place) {
        if let Some(subscription) = self.subscription_mut(channel) {
            subscription.place = place;
        }
    }
}
