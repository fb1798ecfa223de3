//! Who is too slow for all of us: clients that have most waiting when too much waits, and those that take nothing.

use std::cmp::Reverse;

use duplex_core::CloseReason;

use crate::session::Sending;
use crate::shard::{Shard, State};
use crate::turn::Flushed;

impl Shard {
    /// Closes clients whose transport has taken nothing for too long, however little waits for them.
    pub(crate) fn close_stalled(&self) {
        let stall_ms = u64::from(self.settings.get().stall_ms);
        let mut gone = Vec::new();
        {
            let State { sessions, stalled, now_ms, .. } = &mut *self.state.borrow_mut();
            stalled.retain(|key| {
                let Some(session) = sessions.live(*key) else { return false };
                if session.sending != Sending::Blocked {
                    session.stalled = None;
                    return false;
                }
                let is_over = session.stalled.is_some_and(|since_ms| since_ms + stall_ms <= *now_ms);
                if is_over {
                    gone.push(*key);
                }
                !is_over
            });
        }
        gone.into_iter().for_each(|key| self.close(key, &CloseReason::SLOW, ""));
    }

    /// Sees to it that all outboxes together do not hold more than they may: what can be written is, and then those who
    /// have most waiting go.
    pub(crate) fn make_room(&self) {
        let is_needed = || self.state.borrow().outboxes.are_too_full();
        while is_needed() && self.flush() == Flushed::Some {}
        if !is_needed() {
            return;
        }
        let (mut waiting, excess) = {
            let state = self.state.borrow();
            (state.sessions.waiting(), state.outboxes.excess())
        };
        waiting.sort_unstable_by_key(|(bytes, _)| Reverse(*bytes));
        let mut gone = 0;
        for (bytes, key) in waiting {
            if gone >= excess {
                break;
            }
            gone += bytes;
            self.close(key, &CloseReason::SLOW, "");
        }
    }
}
