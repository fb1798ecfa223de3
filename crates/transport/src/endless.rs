//! A response that goes on for as long as its session, on a bare socket: Server-Sent Events and streams of frames.
//!
//! An idle one holds no buffer. What the client sends meanwhile is read, to notice its end, and dropped.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::Stream;
use bytes::Bytes;
use duplex_core::{CloseReason, FrameQueue, Heartbeat, Link, Message, Written};

use crate::Handler;
use crate::framing::Framing;
use crate::socket;

/// The writing side of the response.
pub struct EndlessLink {
    stream: Stream,
    framing: Framing,
    /// What comes before all frames, as long as it is not out.
    head: RefCell<FrameQueue>,
    stage: Cell<Stage>,
    is_full: Cell<bool>,
    reader: RefCell<Option<Waker>>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    Open,
    /// Ends when all is written.
    Ending,
    /// All is written: the client reads the rest and closes.
    Ended,
    Over,
}

impl EndlessLink {
    /// Frames go out on `stream`, behind `head`.
    pub fn new(stream: Stream, framing: Framing, head: Vec<u8>) -> Rc<Self> {
        let mut queue = FrameQueue::default();
        queue.push(Bytes::from(head));
        Rc::new(Self {
            stream,
            framing,
            head: RefCell::new(queue),
            stage: Cell::new(Stage::Open),
            is_full: Cell::new(false),
            reader: RefCell::new(None),
        })
    }

    fn wake_reader(&self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    fn write_all(&self, queue: &mut FrameQueue) -> io::Result<()> {
        socket::write_all(&self.stream, &mut self.head.borrow_mut())?;
        socket::write_all(&self.stream, queue)
    }
}

impl Link for EndlessLink {
    fn frame(&self, message: Message) -> Bytes {
        self.framing.frame(message)
    }

    fn heartbeat(&self) -> Heartbeat {
        Heartbeat::Comment(self.framing.heartbeat())
    }

    fn write(&self, queue: &mut FrameQueue) -> Written {
        if self.stage.get() == Stage::Over {
            return Written::Dead;
        }
        match self.write_all(queue) {
            Ok(()) => {
                if self.stage.get() == Stage::Ending {
                    self.stage.set(Stage::Ended);
                    let _ = self.stream.shutdown_write();
                }
                Written::All
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.is_full.set(true);
                self.wake_reader();
                Written::Blocked
            }
            Err(_) => Written::Dead,
        }
    }

    fn farewell(&self, _: &'static CloseReason, _: &str) -> Option<Bytes> {
        if self.stage.get() == Stage::Open {
            self.stage.set(Stage::Ending);
        }
        None
    }

    fn abort(&self) {
        // A browser repeats a request that was not answered at all.
        let _ = socket::write_all(&self.stream, &mut self.head.borrow_mut());
        if self.stage.get() == Stage::Ending {
            // Time is over. What it has not taken would stay in the kernel for as long as it takes nothing.
            let _ = self.stream.set_zero_linger();
        }
        self.stage.set(Stage::Over);
        self.wake_reader();
    }
}

/// The task that waits for room and for the end of the connection, and ends with it.
pub struct Endless<H: Handler> {
    link: Rc<EndlessLink>,
    handler: H,
}

impl<H: Handler> Endless<H> {
    /// The reading side of `link`.
    pub fn new(link: Rc<EndlessLink>, handler: H) -> Self {
        Self { link, handler }
    }
}

impl<H: Handler + Unpin> Future for Endless<H> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { link, handler } = &*self;
        if link.stage.get() == Stage::Over {
            return Poll::Ready(());
        }
        *link.reader.borrow_mut() = Some(cx.waker().clone());
        if link.is_full.get() && link.stream.poll_write_ready(cx).is_ready() {
            link.is_full.set(false);
            handler.writable();
        }
        socket::poll_end(&link.stream, cx, |_| {})
    }
}

impl<H: Handler> Drop for Endless<H> {
    fn drop(&mut self) {
        self.link.stage.set(Stage::Over);
        self.handler.ended();
    }
}
