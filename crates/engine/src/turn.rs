//! The end of a turn: what was published goes into outboxes, and each dirty outbox goes out in one write.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use duplex_core::{CloseReason, Written};

use crate::hub::Group;
use crate::node::Delivery;
use crate::session::{Phase, Queued, Sending, Session, SessionKey};
use crate::shard::{Shard, State};

/// Publications of one channel joined into one piece for its subscribers, at most.
const RUN_MAX: usize = 32;
/// Outboxes flushed before other tasks of the shard get a turn: about a millisecond's worth.
const FLUSHES_MAX: usize = 256;

impl Shard {
    /// Ends turns, for as long as the shard lives. It is woken by the first delivery of a burst and by the first dirty
    /// outbox, and so runs after what was ready then.
    pub async fn turns(self: Rc<Self>) {
        let wake = &self.node.inbox(self.id).wake;
        loop {
            wake.notified().await;
            self.drain();
            while self.flush() == Flushed::Some {
                tokio::task::yield_now().await;
                self.drain();
            }
        }
    }

    /// Puts what waits in the inbox into the outboxes of subscribers.
    pub fn drain(&self) {
        let waiting = self.node.inbox(self.id).take();
        let mut slow = Vec::new();
        for run in
            waiting.deliveries.chunk_by(|a, b| a.channel() == b.channel()).flat_map(|run| run.chunks(RUN_MAX))
        {
            self.fan_out(run, &mut slow);
        }
        for key in slow {
            self.close(key, &CloseReason::SLOW, "");
        }
        for channel in waiting.missed {
            tracing::warn!(?channel, "deliveries were dropped because this shard's inbox is full");
            for key in self.keys(&channel) {
                self.close(key, &CloseReason::INSUFFICIENT_STATE, "");
            }
        }
    }

    /// Publications of one channel to its subscribers: encoded once per group, one piece for each member.
    fn fan_out(&self, run: &[Arc<Delivery>], slow: &mut Vec<SessionKey>) {
        let state = &mut *self.state.borrow_mut();
        let State { sessions, hub, dirty, .. } = state;
        let was_clean = dirty.is_empty();
        for Group { encoding, members } in hub.deliver(run[0].channel(), run) {
            let piece: Bytes = self.node.encode(run, *encoding);
            for &index in members {
                let session = sessions.member(index);
                match session.queue(piece.clone(), self.settings.outbox_bytes) {
                    Queued::First => dirty.push_back(SessionKey { index, serial: session.serial }),
                    Queued::Behind => {}
                    Queued::Full => slow.push(SessionKey { index, serial: session.serial }),
                }
            }
        }
        if was_clean && !dirty.is_empty() {
            self.node.inbox(self.id).wake.notify_one();
        }
    }

    fn keys(&self, channel: &duplex_core::ChannelName) -> Vec<SessionKey> {
        let state = &mut *self.state.borrow_mut();
        let members = state.hub.members(channel);
        members
            .into_iter()
            .map(|index| SessionKey { index, serial: state.sessions.member(index).serial })
            .collect()
    }

    /// Writes the outboxes that have something to write, up to a limit.
    pub fn flush(&self) -> Flushed {
        let state = &mut *self.state.borrow_mut();
        for _ in 0..FLUSHES_MAX {
            let Some(key) = state.dirty.pop_front() else { return Flushed::All };
            let Some(session) = state.sessions.get(key) else { continue };
            write(session);
        }
        if state.dirty.is_empty() { Flushed::All } else { Flushed::Some }
    }
}

/// Whether all dirty outboxes were flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Flushed {
    All,
    Some,
}

/// One write of all that waits. A dead link ends the session by itself: its transport sees the same error.
fn write(session: &mut Session) {
    session.sending = match session.link.write(&mut session.outbox) {
        Written::All => Sending::Idle,
        Written::Blocked => Sending::Blocked,
        Written::Dead => {
            session.outbox.clear();
            session.phase = Phase::Closing;
            session.link.abort();
            Sending::Blocked
        }
    };
}
