//! The end of a turn: what was published goes into outboxes, and each dirty outbox goes out in one write.

use std::rc::Rc;
use std::sync::Arc;

use duplex_core::{ChannelName, CloseReason};

use crate::fan::Fan;
use crate::hub::Run;
use crate::inbox::{Note, Rest, Waiting};
use crate::node::Delivery;
use crate::session::{Sending, SessionKey};
use crate::shard::{Shard, State};

/// Publications of one channel joined into one piece for its subscribers, at most.
const RUN_MAX: usize = 32;
/// Publications that one turn puts into outboxes, bytes: after a pause of the shard, more may be waiting than its subscribers
/// can take at once.
const TURN_BYTES_MAX: usize = 128 << 10;
/// Outboxes flushed before other tasks of the shard get a turn: about a millisecond's worth.
const FLUSHES_MAX: usize = 256;

impl Shard {
    /// Ends turns, for as long as the shard lives. It is woken by the first delivery of a burst and by the first dirty
    /// outbox, and so runs after what was ready then.
    pub async fn turns(self: Rc<Self>) {
        let wake = &self.node.inbox(self.id).wake;
        loop {
            wake.notified().await;
            loop {
                let (waiting, rest) = self.node.inbox(self.id).take_some(TURN_BYTES_MAX);
                self.take_in(waiting);
                while self.flush() == Flushed::Some {
                    tokio::task::yield_now().await;
                }
                if rest == Rest::Nothing {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
    }

    /// Puts what waits in the inbox into the outboxes of subscribers.
    pub fn drain(self: &Rc<Self>) {
        self.take_in(self.node.inbox(self.id).take());
    }

    fn take_in(self: &Rc<Self>, waiting: Waiting) {
        let mut slow = Vec::new();
        let broken = |channel: &ChannelName| {
            tracing::warn!(?channel, "publications did not arrive at a shard; its subscribers must recover");
            self.give_up_channel(channel);
        };
        // Before they are sent what came later in other channels.
        waiting.missed.iter().for_each(broken);
        for run in
            waiting.deliveries.chunk_by(|a, b| a.channel() == b.channel()).flat_map(|run| run.chunks(RUN_MAX))
        {
            if let Err(Broken) = self.fan_out(run, &mut slow) {
                broken(run[0].channel());
            }
            // At once: what waits for them is taken from the others' room.
            for key in slow.drain(..) {
                self.close(key, &CloseReason::SLOW, "");
            }
            self.make_room();
        }
        self.make_room();
        for note in waiting.notes {
            match note {
                Note::Close(whom, reason) => self.close_those(&whom, reason),
                Note::Ask(inquiry) => self.put(&inquiry),
            }
        }
    }

    /// Publications of one channel to its subscribers. Those who have too much waiting are added to `slow`.
    fn fan_out(&self, run: &[Arc<Delivery>], slow: &mut Vec<SessionKey>) -> Result<(), Broken> {
        let State { sessions, hub, dirty, outboxes, paced, now_ms, .. } = &mut *self.state.borrow_mut();
        let was_clean = dirty.is_empty();
        match hub.deliver(run[0].channel(), run) {
            Run::Gap => return Err(Broken),
            Run::Nothing => {}
            Run::Next(channel, run) => {
                let node = &self.node;
                Fan { node, sessions, outboxes, dirty, paced, now_ms: *now_ms }.out(channel, run, slow);
            }
        }
        if was_clean && !dirty.is_empty() {
            self.node.inbox(self.id).wake.notify_one();
        }
        Ok(())
    }

    pub(crate) fn keys(&self, channel: &ChannelName) -> Vec<SessionKey> {
        let state = &mut *self.state.borrow_mut();
        let members = state.hub.members(channel);
        let key = |index| SessionKey { index, serial: state.sessions.member(index).serial };
        members.into_iter().map(key).collect()
    }

    /// Writes the outboxes that have something to write, up to a limit.
    pub fn flush(&self) -> Flushed {
        let state = &mut *self.state.borrow_mut();
        for _ in 0..FLUSHES_MAX {
            let Some(key) = state.dirty.pop_front() else { return Flushed::All };
            self.write(state, key);
        }
        if state.dirty.is_empty() { Flushed::All } else { Flushed::Some }
    }

    /// One write of what waits for a session, and what follows from it.
    fn write(&self, state: &mut State, key: SessionKey) {
        let Some(session) = state.sessions.get(key) else { return };
        let before = session.stalled.map(|_| session.unsent());
        let sending = session.write(&mut state.outboxes);
        let has_taken = before.is_some_and(|before| session.unsent() < before);
        match &mut session.stalled {
            Some(since_ms) if has_taken => *since_ms = state.now_ms,
            none @ None if sending == Sending::Blocked => {
                *none = Some(state.now_ms);
                state.stalled.push(key);
            }
            Some(_) | None => {}
        }
        if session.has_another_transport() {
            session.heard_ms = state.now_ms;
            session.live(&self.settings.get(), key, &mut state.wheel);
        }
        if sending == Sending::Idle && session.lag.is_some() {
            self.catch_up(state, key);
        }
    }
}

/// A publication before this one is missing.
struct Broken;

/// Whether all dirty outboxes were flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Flushed {
    All,
    Some,
}
