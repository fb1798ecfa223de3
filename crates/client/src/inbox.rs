//! A queue between a client's task and somebody who reads, or does not.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// What came of putting something into an inbox.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Put {
    Done,
    /// There is no room.
    Full,
    /// Nobody reads it any more.
    Abandoned,
}

/// A queue of limited length. What happens when it is full is the writer's business.
#[derive(Debug)]
pub(crate) struct Inbox<T> {
    state: Mutex<State<T>>,
    changed: Notify,
    length_max: usize,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    life: Life,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Open,
    /// Nothing more is put in.
    Ended,
    /// Nothing more is taken out.
    Abandoned,
}

impl<T> Inbox<T> {
    /// `length_max` is one at least.
    pub fn new(length_max: usize) -> Arc<Self> {
        let state = Mutex::new(State { items: VecDeque::new(), life: Life::Open });
        Arc::new(Self { state, changed: Notify::new(), length_max: length_max.max(1) })
    }

    /// Puts something in, if there is room.
    pub fn put(&self, item: T) -> Put {
        let mut state = self.state();
        if state.life != Life::Open {
            return Put::Abandoned;
        }
        if state.items.len() >= self.length_max {
            return Put::Full;
        }
        state.items.push_back(item);
        drop(state);
        self.changed.notify_one();
        Put::Done
    }

    /// Puts something in that the reader must not miss, whether there is room or not. A writer does this once in a while.
    pub fn put_anyway(&self, item: T) {
        let mut state = self.state();
        if state.life == Life::Open {
            state.items.push_back(item);
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Puts something in, and makes room for it by forgetting what is oldest.
    pub fn put_newest(&self, item: T) -> Put {
        let mut state = self.state();
        if state.life != Life::Open {
            return Put::Abandoned;
        }
        if state.items.len() >= self.length_max {
            state.items.pop_front();
        }
        state.items.push_back(item);
        drop(state);
        self.changed.notify_one();
        Put::Done
    }

    /// Nothing more will come.
    pub fn end(&self) {
        let mut state = self.state();
        if state.life == Life::Open {
            state.life = Life::Ended;
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Nobody reads any more.
    pub fn abandon(&self) {
        let mut state = self.state();
        state.life = Life::Abandoned;
        state.items.clear();
    }

    pub fn is_abandoned(&self) -> bool {
        self.state().life == Life::Abandoned
    }

    /// The next thing; `None` when nothing more comes. Nothing is lost if the future is dropped.
    pub async fn take(&self) -> Option<T> {
        loop {
            {
                let mut state = self.state();
                if let Some(item) = state.items.pop_front() {
                    return Some(item);
                }
                if state.life != Life::Open {
                    return None;
                }
            }
            self.changed.notified().await;
        }
    }

    /// The state is whole after each statement that changes it, so a panic elsewhere does not spoil it.
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_put_in_comes_out_and_then_the_end() {
        let inbox = Inbox::new(2);
        assert_eq!([inbox.put(1), inbox.put(2), inbox.put(3)], [Put::Done, Put::Done, Put::Full]);
        inbox.put_anyway(4);
        inbox.end();
        assert_eq!(inbox.put(5), Put::Abandoned);
        assert_eq!([inbox.take().await, inbox.take().await], [Some(1), Some(2)]);
        assert_eq!([inbox.take().await, inbox.take().await], [Some(4), None]);
    }

    #[tokio::test]
    async fn what_is_oldest_makes_room() {
        let inbox = Inbox::new(2);
        (1..=3).for_each(|item| assert_eq!(inbox.put_newest(item), Put::Done));
        assert_eq!([inbox.take().await, inbox.take().await], [Some(2), Some(3)]);
        inbox.abandon();
        assert_eq!((inbox.put(4), inbox.take().await), (Put::Abandoned, None));
    }
}
