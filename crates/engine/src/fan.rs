//! Fan-out: one publication, many outboxes; and what is done for those that cannot keep up.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use duplex_core::{Audience, Effort, EncodingId, Event};

use crate::hub::{Channel, Group};
use crate::lag::{Kept, Lag};
use crate::node::{Delivery, Node};
use crate::outboxes::Outboxes;
use crate::policy::{Deflate, Policy};
use crate::session::{Phase, Queued, Session, SessionKey};
use crate::shard::{Sessions, Shard, State};

/// Bytes in an outbox beyond which what may be thinned out waits outside of it, where it still can be: what is in the
/// outbox will be sent.
const AHEAD_MAX: usize = 4 << 10;
/// The same for what a client missed and gets now.
const PAST_AHEAD_MAX: usize = 64 << 10;

/// What fan-out needs of a shard.
pub(crate) struct Fan<'a> {
    pub node: &'a Node,
    pub sessions: &'a mut Sessions,
    pub outboxes: &'a mut Outboxes,
    pub dirty: &'a mut VecDeque<SessionKey>,
    pub paced: &'a mut Vec<SessionKey>,
    pub now_ms: u64,
}

impl Fan<'_> {
    /// A run of deliveries to all live subscribers of a channel. Those who have too much waiting are added to `slow`.
    pub fn out(&mut self, channel: &Channel, run: &[Arc<Delivery>], slow: &mut Vec<SessionKey>) {
        if channel.policy.thins_out() {
            return self.each_its_own(channel, run);
        }
        // What not everybody gets, goes by itself.
        for alike in run.chunk_by(|a, b| a.is_for_everyone() && b.is_for_everyone()) {
            self.all_alike(channel, alike, slow);
        }
    }

    /// Encoded once per group, one piece for each member.
    fn all_alike(&mut self, channel: &Channel, run: &[Arc<Delivery>], slow: &mut Vec<SessionKey>) {
        let is_for_everyone = run[0].is_for_everyone();
        for Group { encoding, members } in &channel.groups {
            let pieces = self.node.pieces(run, self.node.suited(*encoding, &channel.policy));
            for &index in members {
                let session = self.sessions.member(index);
                if !is_for_everyone && !session.is_reached_by(&run[0]) {
                    continue;
                }
                let key = SessionKey { index, serial: session.serial };
                if let Some(lag) = &mut session.lag
                    && lag.holds(channel.key)
                {
                    if wait_behind(lag, channel, run, self.outboxes) == Queued::Full {
                        slow.push(key);
                    }
                    continue;
                }
                for piece in &pieces {
                    match session.queue(session.piece(channel.key, piece.clone()), self.outboxes) {
                        Queued::First => self.dirty.push_back(key),
                        Queued::Behind => {}
                        Queued::Full => {
                            slow.push(key);
                            break;
                        }
                    }
                }
                session.note(channel.key, run);
            }
        }
    }

    /// Each member gets what it can take now; the rest waits where newer publications may take its place.
    fn each_its_own(&mut self, channel: &Channel, run: &[Arc<Delivery>]) {
        for Group { members, .. } in &channel.groups {
            for &index in members {
                let dropped: u64 = run.iter().map(|delivery| self.offer(index, channel, delivery)).sum();
                self.node.gauges.thinned_out.fetch_add(dropped, Relaxed);
                let session = self.sessions.member(index);
                let key = SessionKey { index, serial: session.serial };
                if !session.outbox.is_empty() && session.mark_dirty() == Queued::First {
                    self.dirty.push_back(key);
                }
                if let Some(lag) = &mut session.lag
                    && channel.policy.deliveries.is_some()
                    && lag.is_to_be_paced()
                {
                    self.paced.push(key);
                }
            }
        }
    }

    /// One delivery to one member; returns how many others were dropped for it.
    fn offer(&mut self, index: u32, channel: &Channel, delivery: &Arc<Delivery>) -> u64 {
        let Self { node, sessions, outboxes, now_ms, .. } = self;
        let session = sessions.member(index);
        if session.phase == Phase::Closing || !session.is_reached_by(delivery) {
            return 0;
        }
        let policy = &*channel.policy;
        let is_publication = matches!(delivery.event, Event::Publication(_));
        if !is_publication || session.takes_now(channel.key, policy, *now_ms) {
            let encoding = node.suited(session.encoding_in(channel.key), policy);
            let piece = session.piece(channel.key, node.encode(std::slice::from_ref(delivery), encoding));
            outboxes.add(piece.len());
            session.outbox.push(piece);
            session.note(channel.key, std::slice::from_ref(delivery));
            return 0;
        }
        let lag = session.lag.get_or_insert_default();
        let before = lag.bytes();
        let kept = lag.keep(channel.key, policy, Arc::clone(delivery), outboxes.client_max());
        outboxes.remove(before);
        outboxes.add(lag.bytes());
        match kept {
            Kept::Added | Kept::Full => 0,
            Kept::InPlaceOf(dropped) => dropped,
        }
    }
}

/// A run waits behind what the client missed and is still being sent.
fn wait_behind(lag: &mut Lag, channel: &Channel, run: &[Arc<Delivery>], outboxes: &mut Outboxes) -> Queued {
    let before = lag.bytes();
    let full = run.iter().any(|delivery| {
        lag.keep(channel.key, &channel.policy, Arc::clone(delivery), outboxes.client_max()) == Kept::Full
    });
    outboxes.add(lag.bytes() - before);
    if full { Queued::Full } else { Queued::Behind }
}

impl Session {
    /// Whether it is among those that get a delivery now.
    fn is_reached_by(&self, delivery: &Delivery) -> bool {
        let Some(Audience { except, effort }) = delivery.audience() else { return true };
        let is_ready = || !self.sending.is_stuck() && self.outbox.is_empty() && self.lag.is_none();
        !except.contains(&self.client) && (*effort == Effort::Wait || is_ready())
    }

    /// Whether it gets a delivery afterwards, if it missed it.
    fn is_owed(&self, delivery: &Delivery) -> bool {
        let Some(Audience { except, effort }) = delivery.audience() else { return true };
        !except.contains(&self.client) && *effort == Effort::Wait
    }

    /// Whether a publication of a channel that thins out may go into the outbox.
    fn takes_now(&mut self, channel: u32, policy: &Policy, now_ms: u64) -> bool {
        if self.sending.is_stuck() || self.outbox.bytes() >= AHEAD_MAX {
            return false;
        }
        match &mut self.lag {
            None if policy.deliveries.is_none() => true,
            lag => lag.get_or_insert_default().passes(channel, policy, now_ms),
        }
    }
}

impl Node {
    /// The encoding for clients that want `encoding`, where the policy may not want compression.
    pub(crate) fn suited(&self, encoding: EncodingId, policy: &Policy) -> EncodingId {
        match policy.deflate {
            Deflate::On => encoding,
            Deflate::Off => self.plain(encoding),
        }
    }
}

impl Shard {
    /// Sends what a client missed: at once as much as it has room for, the rest as it reads.
    pub(crate) fn replay(
        &self,
        key: SessionKey,
        channel: u32,
        policy: &Policy,
        mut past: Vec<Arc<Delivery>>,
    ) {
        let state = &mut *self.state.borrow_mut();
        let Some(session) = state.sessions.live(key) else { return };
        let encoding = self.node.suited(session.encoding_in(channel), policy);
        past.retain(|delivery| session.is_owed(delivery));
        let mut past = past.into_iter();
        let room = PAST_AHEAD_MAX.min(state.outboxes.client_max() / 4);
        while session.outbox.bytes() < room
            && let Some(delivery) = past.next()
        {
            let delivery = [delivery];
            let piece = session.piece(channel, self.node.encode(&delivery, encoding));
            state.outboxes.add(piece.len());
            session.outbox.push(piece);
            session.note(channel, &delivery);
        }
        if past.len() > 0 {
            let lag = session.lag.get_or_insert_default();
            let before = lag.bytes();
            past.for_each(|delivery| lag.keep_past(channel, policy, delivery));
            state.outboxes.remove(before);
            state.outboxes.add(lag.bytes());
        }
        if !session.outbox.is_empty() && session.mark_dirty() == Queued::First {
            self.dirty(state, key);
        }
    }

    /// Moves what waits for a session into its outbox, as far as it will be sent soon.
    pub(crate) fn catch_up(&self, state: &mut State, key: SessionKey) {
        let State { sessions, hub, outboxes, now_ms, .. } = state;
        let Some(session) = sessions.live(key) else { return };
        let thins_out = session.subscriptions.iter().any(|s| hub.channel(s.channel).policy.thins_out());
        let ahead_max = if thins_out { AHEAD_MAX } else { PAST_AHEAD_MAX };
        while !session.sending.is_stuck() && session.outbox.bytes() < ahead_max {
            let Some(lag) = &mut session.lag else { return };
            let before = lag.bytes();
            let Some((channel, delivery)) = lag.next(|channel| &*hub.channel(channel).policy, *now_ms) else {
                break;
            };
            outboxes.remove(before - lag.bytes());
            let encoding = self.node.suited(session.encoding_in(channel), &hub.channel(channel).policy);
            let delivery = [delivery];
            let piece = session.piece(channel, self.node.encode(&delivery, encoding));
            outboxes.add(piece.len());
            session.outbox.push(piece);
            session.note(channel, &delivery);
        }
        if session.lag.as_ref().is_some_and(|lag| lag.is_idle(|channel| &*hub.channel(channel).policy)) {
            session.lag = None;
        }
        if !session.outbox.is_empty() && session.mark_dirty() == Queued::First {
            self.dirty(state, key);
        }
    }

    /// Some time has passed: sessions whose rate is limited may get more.
    pub(crate) fn send_paced(&self) {
        let state = &mut *self.state.borrow_mut();
        for key in std::mem::take(&mut state.paced) {
            let Some(session) = state.sessions.live(key) else { continue };
            let Some(lag) = &mut session.lag else { continue };
            lag.paced();
            self.catch_up(state, key);
            let lag = state.sessions.live(key).and_then(|session| session.lag.as_mut());
            if lag.is_some_and(|lag| lag.is_to_be_paced()) {
                state.paced.push(key);
            }
        }
    }
}
