//! A long poll: a request that waits for frames and is answered with all there are. Its connection goes on after it.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::Stream;
use bytes::Bytes;
use duplex_core::{CloseReason, FrameQueue, Heartbeat, Link, Message, Written};
use http::StatusCode;

use crate::Handler;
use crate::framing::Framing;
use crate::http::{Afterwards, Fields, respond};
use crate::socket;

/// The answer to a poll that another request has taken the place of.
const OVERTAKEN: &str = "another request carries the session now\n";

/// The side of a poll that is written to.
pub struct PollLink {
    framing: Framing,
    stage: RefCell<Stage>,
    waiter: RefCell<Option<Waker>>,
}

enum Stage {
    /// For frames. What comes before them in the answer is no reason to answer.
    Waiting(FrameQueue),
    Answered(FrameQueue),
    Refused(StatusCode, Bytes),
    Over,
}

impl PollLink {
    /// A poll whose answer begins with `hello`, if there is one.
    pub fn new(framing: Framing, hello: Option<Message>) -> Rc<Self> {
        let mut answer = FrameQueue::default();
        if let Some(hello) = hello {
            answer.push(framing.frame(hello));
        }
        let (stage, waiter) = (RefCell::new(Stage::Waiting(answer)), RefCell::default());
        Rc::new(Self { framing, stage, waiter })
    }

    /// Answers with what there is and `frames`, unless it is answered already.
    fn answer(&self, frames: &mut FrameQueue) {
        let stage = &mut *self.stage.borrow_mut();
        if let Stage::Waiting(answer) = stage {
            while let Some(frame) = frames.pop() {
                answer.push(frame);
            }
            *stage = Stage::Answered(std::mem::take(answer));
            self.wake();
        }
    }

    /// Answers with a status and a body, unless it is answered already.
    pub fn refuse(&self, status: StatusCode, body: Bytes) -> Refused {
        let stage = &mut *self.stage.borrow_mut();
        match stage {
            Stage::Waiting(_) => {
                *stage = Stage::Refused(status, body);
                self.wake();
                Refused::Now
            }
            Stage::Answered(_) | Stage::Refused(..) | Stage::Over => Refused::Late,
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waiter.take() {
            waker.wake();
        }
    }

    /// Waits for the answer; `None` if the connection ends before.
    fn poll_answer(
        &self,
        stream: &Stream,
        early: &mut Vec<u8>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<(StatusCode, FrameQueue)>> {
        let stage = &mut *self.stage.borrow_mut();
        match std::mem::replace(stage, Stage::Over) {
            Stage::Answered(answer) => return Poll::Ready(Some((StatusCode::OK, answer))),
            Stage::Refused(status, body) => {
                let mut answer = FrameQueue::default();
                if !body.is_empty() {
                    answer.push(body);
                }
                return Poll::Ready(Some((status, answer)));
            }
            waiting => *stage = waiting,
        }
        *self.waiter.borrow_mut() = Some(cx.waker().clone());
        socket::poll_gone(stream, early, cx).map(|()| None)
    }
}

impl Link for PollLink {
    fn frame(&self, message: Message) -> Bytes {
        self.framing.frame(message)
    }

    /// The wait is over: the client asks again.
    fn heartbeat(&self) -> Heartbeat {
        self.answer(&mut FrameQueue::default());
        Heartbeat::Comment(Bytes::new())
    }

    fn write(&self, queue: &mut FrameQueue) -> Written {
        if !matches!(*self.stage.borrow(), Stage::Waiting(_)) {
            return Written::Away;
        }
        if queue.is_empty() {
            return Written::All;
        }
        self.answer(queue);
        Written::Away
    }

    fn farewell(&self, _: &'static CloseReason, _: &str) -> Option<Bytes> {
        None
    }

    fn abort(&self) {
        let _ = self.refuse(StatusCode::CONFLICT, Bytes::from_static(OVERTAKEN.as_bytes()));
    }
}

/// Whether a poll was still waiting when it was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It was.
    Now,
    /// It had an answer.
    Late,
}

/// A request that polls, and its connection.
pub struct Request {
    /// Where the answer goes.
    pub stream: Stream,
    /// What the client sent behind its request.
    pub early: Bytes,
    /// Header fields of the answer.
    pub fields: Fields,
    /// What becomes of the connection.
    pub afterwards: Afterwards,
    /// How long the client may take to read the answer.
    pub patience: Duration,
}

/// Waits until `link` has an answer and sends it. Gives the connection back if another request may come on it.
pub async fn run(request: Request, link: Rc<PollLink>, handler: impl Handler) -> Option<(Stream, Bytes)> {
    let Request { stream, early, fields, afterwards, patience } = request;
    let ending = Ending { link: Rc::clone(&link), handler };
    let mut early = Vec::from(early);
    let answer = poll_fn(|cx| link.poll_answer(&stream, &mut early, cx)).await;
    let (status, frames) = answer?;
    let mut response = fields.head(status, Some(frames.bytes()), afterwards);
    frames.iter().for_each(|frame| response.extend_from_slice(frame));
    // Boxed, so that a poll that waits does not hold room for it.
    let written = Box::pin(respond(&stream, &response, patience)).await;
    drop(ending);
    (written.is_ok() && afterwards == Afterwards::KeepAlive).then(|| (stream, Bytes::from(early)))
}

/// However it ends, the session is told.
struct Ending<H: Handler> {
    link: Rc<PollLink>,
    handler: H,
}

impl<H: Handler> Drop for Ending<H> {
    fn drop(&mut self) {
        *self.link.stage.borrow_mut() = Stage::Over;
        self.handler.ended();
    }
}
