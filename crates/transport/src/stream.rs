//! A response body that goes on for as long as its session: Server-Sent Events.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use duplex_core::{CloseReason, FrameQueue, Heartbeat, Link, Message, Written};
use tokio::sync::Notify;

use crate::Handler;

/// What a body takes from the outbox before the HTTP connection has taken it on, bytes: its "socket buffer".
const TAKEN_BYTES_MAX: usize = 16 << 10;

/// The side of a streamed body that the engine writes to.
#[derive(Default)]
pub struct StreamLink {
    taken: RefCell<FrameQueue>,
    end: Cell<End>,
    waker: RefCell<Option<Waker>>,
    /// Cuts the connection that carries the body: while its socket is full, HTTP does not ask for more, and so would never
    /// learn that there is none.
    cut: RefCell<Rc<Notify>>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum End {
    #[default]
    Open,
    /// Is to end, when the outbox is empty.
    Asked,
    /// Ends when all was taken.
    AfterRest,
    Now,
}

impl StreamLink {
    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Link for StreamLink {
    fn frame(&self, message: Message) -> Bytes {
        let (Message::Text(bytes) | Message::Binary(bytes)) = message;
        bytes
    }

    fn heartbeat(&self) -> Heartbeat {
        Heartbeat::Comment(Bytes::from_static(b":\n\n"))
    }

    fn write(&self, queue: &mut FrameQueue) -> Written {
        let mut taken = self.taken.borrow_mut();
        while taken.bytes() < TAKEN_BYTES_MAX
            && let Some(frame) = queue.pop()
        {
            taken.push(frame);
        }
        if queue.is_empty() && self.end.get() == End::Asked {
            self.end.set(End::AfterRest);
        }
        self.wake();
        if queue.is_empty() { Written::All } else { Written::Blocked }
    }

    fn farewell(&self, _: &'static CloseReason, _: &str) -> Option<Bytes> {
        self.end.set(End::Asked);
        None
    }

    fn abort(&self) {
        self.end.set(End::Now);
        self.wake();
        self.cut.borrow().notify_one();
    }
}

/// The side of a streamed body that HTTP reads from. Dropping it ends the session.
pub struct StreamBody {
    link: Rc<StreamLink>,
    handler: Box<dyn Handler>,
}

impl StreamBody {
    /// The body that delivers what is written to `link`.
    pub fn new(link: Rc<StreamLink>, handler: Box<dyn Handler>) -> Self {
        Self { link, handler }
    }

    /// From now on aborting notifies `cut`.
    pub(crate) fn cut_by(&self, cut: &Rc<Notify>) {
        *self.link.cut.borrow_mut() = Rc::clone(cut);
    }

    /// The next piece, or `None` at the end.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let link = &self.link;
        if link.end.get() == End::Now {
            return Poll::Ready(None);
        }
        let (next, was_full) = {
            let mut taken = link.taken.borrow_mut();
            let was_full = taken.bytes() >= TAKEN_BYTES_MAX;
            (taken.pop(), was_full && taken.bytes() < TAKEN_BYTES_MAX)
        };
        if was_full {
            self.handler.writable();
        }
        match next {
            Some(bytes) => Poll::Ready(Some(bytes)),
            None if link.end.get() == End::AfterRest => Poll::Ready(None),
            None => {
                *link.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        self.handler.ended();
    }
}
