//! Tasks that move bytes, and decide nothing: a socket, a response that brings frames, a POST.

mod dial;
mod http;
mod response;
mod socket;

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::conversation::For;
use crate::frame::Frame;
use crate::line::{Posted, WireEvent, WireId};
use crate::{End, Form};

pub(crate) use dial::Dialer;
pub(crate) use http::post;
pub(crate) use response::bring;
pub(crate) use socket::{Write, carry};

/// What such a task tells the client's.
#[derive(Debug)]
pub(crate) enum Report {
    Wire(u64, WireId, WireEvent),
    Posted(u64, Posted),
    Token(For, Result<String, String>),
}

/// A wire's way to the client's task.
pub(crate) struct Teller {
    pub reports: mpsc::Sender<Report>,
    pub turn: u64,
    pub wire: WireId,
    pub form: Form,
    pub message_bytes_max: usize,
}

/// The client's task is gone, or what came is not of Duplex: the wire has nothing more to do.
struct Over;

impl Teller {
    async fn tell(&self, event: WireEvent) -> Result<(), Over> {
        self.reports.send(Report::Wire(self.turn, self.wire, event)).await.map_err(|_| Over)
    }

    /// A frame as it came.
    async fn frame(&self, message: &[u8]) -> Result<(), End> {
        let json = self.form.read(message).ok_or_else(stranger)?;
        let frame = Frame::read(&json).map_err(|_| stranger())?;
        // A client's task that is gone has stopped this one too.
        let _ = self.tell(WireEvent::Frame(frame, message.len())).await;
        Ok(())
    }
}

/// A task that does not outlive this.
pub(crate) struct AbortOnDrop(pub tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn stranger() -> End {
    End::broken("something else than Duplex answers here")
}

/// Any number.
pub(crate) fn chance() -> u32 {
    getrandom::u32().expect("the operating system gives random bytes")
}

/// What `Retry-After` says, and up to a quarter more: all who were refused were told the same number.
fn retry_after(value: &[u8]) -> Option<Duration> {
    let seconds: u32 = std::str::from_utf8(value).ok()?.trim().parse().ok()?;
    let spread = 1.0 + f64::from(chance()) / f64::from(u32::MAX) / 4.0;
    (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)).mul_f64(spread))
}

/// A request up.
#[derive(Debug)]
pub(crate) struct Upload {
    pub target: String,
    pub body: Bytes,
    pub form: Form,
    /// How long it may take altogether.
    pub time_max: Duration,
}
