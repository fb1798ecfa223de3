//! Two connections made one: what comes on either goes out on the other, as fast as that takes it.
//!
//! While nothing waits for a socket to take it, no buffer is held.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::Stream;
use bytes::{Buf, Bytes};
use tokio::time::{Sleep, sleep};

/// Most that is read before it is written, bytes.
const BUFFER_BYTES: usize = 16 << 10;

/// A connection of a client, and one to the server that serves it.
pub struct Splice {
    /// The client's.
    pub client: Stream,
    /// What the client has sent already.
    pub early: Bytes,
    /// The server's.
    pub server: Stream,
    /// What the client is to get first.
    pub first: Bytes,
    /// What becomes of what the client sends.
    pub upward: Upward,
    /// How long a client may take nothing of what waits for it, and how long it may stay when the server has ended.
    pub patience: Patience,
}

/// What becomes of what a client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upward {
    /// The server gets it.
    Passed,
    /// It has nothing to say, and when it ends, all does.
    Dropped,
}

/// How long is waited.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For a client that takes nothing of what waits for it.
    pub stall: Duration,
    /// For one side, when the other has ended.
    pub leave: Duration,
}

/// One direction.
struct Flow {
    waiting: Bytes,
    /// Bytes that the sink has taken.
    taken: u64,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// The source has ended; what waits still goes out.
    Ending,
    Ended,
}

/// What the time is running for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Clock {
    Stopped,
    /// The client must take something of what waits. It has taken so many bytes before.
    Stall(u64),
    Leave,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// In an orderly way.
    Both,
    /// The client is gone, or has had its time; or the server broke off.
    Cut,
}

impl Splice {
    /// Passes on what comes, until either side has ended. What the client has not taken by then is dropped, unless the server
    /// has ended in an orderly way.
    pub async fn run(self) {
        let Self { client, early, server, first, upward, patience } = self;
        let mut up = Flow { waiting: early, taken: 0, stage: Stage::Open };
        let mut down = Flow { waiting: first, taken: 0, stage: Stage::Open };
        if upward == Upward::Dropped {
            up.waiting.clear();
        }
        let (mut clock, mut timer) = (Clock::Stopped, None::<Pin<Box<Sleep>>>);
        let end = poll_fn(|cx| {
            let upper = match upward {
                Upward::Passed => up.poll(&client, &server, cx),
                Upward::Dropped => up.poll_end(&client, cx),
            };
            let lower = down.poll(&server, &client, cx);
            if let Some(end) = end(upper, lower, upward) {
                return Poll::Ready(end);
            }
            let now = clock_for(&up, &down);
            if now != clock {
                clock = now;
                timer = match now {
                    Clock::Stopped => None,
                    Clock::Stall(_) => Some(Box::pin(sleep(patience.stall))),
                    Clock::Leave => Some(Box::pin(sleep(patience.leave))),
                };
            }
            match timer.as_mut().map(|timer| timer.as_mut().poll(cx)) {
                Some(Poll::Ready(())) => Poll::Ready(End::Cut),
                Some(Poll::Pending) | None => Poll::Pending,
            }
        });
        if end.await == End::Cut {
            // What it has not taken would stay in the kernel for as long as it takes nothing.
            let _ = client.set_zero_linger();
        }
    }
}

/// Whether all is over after both directions were looked at.
fn end(upper: Poll<io::Result<()>>, lower: Poll<io::Result<()>>, upward: Upward) -> Option<End> {
    match (upper, lower) {
        (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => Some(End::Cut),
        (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Some(End::Both),
        (Poll::Ready(Ok(())), Poll::Pending) if upward == Upward::Dropped => Some(End::Cut),
        _ => None,
    }
}

fn clock_for(up: &Flow, down: &Flow) -> Clock {
    match (up.stage, down.stage) {
        (Stage::Open, Stage::Open) if down.waiting.is_empty() => Clock::Stopped,
        (Stage::Open, Stage::Open) => Clock::Stall(down.taken),
        _ => Clock::Leave,
    }
}

impl Flow {
    /// Passes on what there is. Ready when the source has ended, and the sink knows it.
    fn poll(&mut self, from: &Stream, to: &Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_write(to, cx))?;
            match self.stage {
                Stage::Ended => return Poll::Ready(Ok(())),
                Stage::Ending => {
                    self.stage = Stage::Ended;
                    to.shutdown_write()?;
                }
                Stage::Open => ready!(self.poll_read(from, to, cx))?,
            }
        }
    }

    /// Writes what waits.
    fn poll_write(&mut self, to: &Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            match to.try_write(&self.waiting) {
                Ok(written) => self.take(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(to.poll_write_ready(cx))?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        // An empty slice would keep all of its buffer.
        self.waiting = Bytes::new();
        while let Err(error) = to.try_flush() {
            if error.kind() != io::ErrorKind::WouldBlock {
                return Poll::Ready(Err(error));
            }
            ready!(to.poll_write_ready(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    fn take(&mut self, written: usize) {
        self.taken += written as u64;
        self.waiting.advance(written);
    }

    /// Reads once, and writes what it can of that; only the rest is kept.
    fn poll_read(&mut self, from: &Stream, to: &Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut buffer = [0; BUFFER_BYTES];
        ready!(from.poll_read_ready(cx))?;
        match from.try_read(&mut buffer) {
            Ok(0) => self.stage = Stage::Ending,
            Ok(length) => {
                // An error comes again with what is left.
                let written = to.try_write(&buffer[..length]).unwrap_or(0);
                self.taken += written as u64;
                self.waiting = Bytes::copy_from_slice(&buffer[written..length]);
            }
            Err(error) if is_passing(&error) => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
        Poll::Ready(Ok(()))
    }

    /// Waits for the end of a client that has nothing to say.
    fn poll_end(&mut self, from: &Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        crate::socket::poll_end(from, cx, |_| {}).map(|()| {
            self.stage = Stage::Ended;
            Ok(())
        })
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests;
