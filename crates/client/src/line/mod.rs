//! What carries a conversation, without I/O: a WebSocket of its own, or a session that transports carry in turns.
//!
//! Both are told what their wires do and say what the wires should do, so that everything that decides can be tested with
//! wires that are not there. Invariant: after each call that may change something, the caller drains [`Line::poll`].

mod watch;
mod direct;
mod cursor;
mod upward;
mod session;

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::conversation::Outgoing;
use crate::frame::Frame;
use crate::{End, Form, Times, Transport};

pub(crate) use direct::Direct;
pub(crate) use session::Session;

/// What a server's `heartbeat_ms` is until it has said it.
const HEARTBEAT: Duration = Duration::from_secs(25);
/// So many messages may wait in a socket; what comes then waits with the commands, where it may still be too late.
const WRITES_MAX: usize = 8;

/// A wire of a line: one socket or response.
pub(crate) type WireId = u32;

/// Where a line leads and by what.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    /// The transports that may be used, the best first.
    pub transports: Vec<Transport>,
    pub form: Form,
    pub times: Times,
    /// How long a WebSocket may take to open.
    pub open: Duration,
    /// The client was connected before.
    pub returning: bool,
}

impl Way {
    fn query(&self) -> &'static str {
        if self.returning { "?returning=true" } else { "" }
    }
}

/// What a line wants done.
#[derive(Debug)]
pub(crate) enum Act {
    OpenSocket {
        wire: WireId,
        target: String,
    },
    /// A GET whose response brings frames.
    OpenResponse {
        wire: WireId,
        transport: Transport,
        target: String,
    },
    Write {
        wire: WireId,
        message: Bytes,
    },
    /// Closes a socket in good manners. Nothing more is heard of the wire.
    Close {
        wire: WireId,
    },
    /// Lets go of a wire at once: the server may think that it broke. Nothing more is heard of it.
    Drop {
        wire: WireId,
    },
    /// A POST, one at a time.
    Post {
        target: String,
        body: Bytes,
    },
    /// A POST that nobody waits for.
    Farewell {
        target: String,
    },
}

/// What a line tells.
#[derive(Debug)]
pub(crate) enum Output {
    Act(Act),
    Frame(Frame),
    /// Frames come over this transport now.
    Carried(Transport),
    /// Nothing was heard for a while: a ping would tell whether someone is there.
    Quiet,
    /// The server cannot be reached in this way; nothing ever came. It is the last output.
    Unreachable(End),
    /// The conversation is over. It is the last output.
    Lost(End),
}

/// What a wire tells.
#[derive(Debug)]
pub(crate) enum WireEvent {
    /// A socket is open.
    Opened,
    /// Bytes came, even if they say nothing.
    Heard,
    /// A frame came, so many bytes long.
    Frame(Frame, usize),
    /// A message that was to be written is.
    Written,
    /// The last thing. The code is that of a close frame, the status of a refusal, 1000 if a response was complete, or 1006.
    Ended(End),
}

/// The answer to a POST; its status is 200 at least.
#[derive(Debug)]
pub(crate) struct PostAnswer {
    pub status: u16,
    /// What the server says about coming back.
    pub after: Option<Duration>,
    pub body: Bytes,
}

impl PostAnswer {
    fn is_success(&self) -> bool {
        self.status < 300
    }

    fn end(self) -> End {
        let reason = String::from_utf8_lossy(&self.body).trim().chars().take(200).collect::<String>();
        let reason = if reason.is_empty() { "the server refuses".to_owned() } else { reason };
        End { after: self.after, ..End::new(self.status, reason) }
    }
}

/// What came of a POST; an error says why there is no answer.
pub(crate) type Posted = Result<PostAnswer, String>;

/// A connection as its conversation sees it: each message arrives once and in order, and so does each frame. `chance` is any
/// number, drawn anew for each call.
pub(crate) trait Line: Send {
    /// Whether it takes another message now.
    fn writable(&self) -> bool;
    fn send(&mut self, message: Outgoing, now: Instant);
    fn wire(&mut self, wire: WireId, event: WireEvent, now: Instant, chance: u32);
    fn posted(&mut self, posted: Posted, now: Instant, chance: u32);
    fn deadline(&self) -> Option<Instant>;
    fn timeout(&mut self, now: Instant, chance: u32);
    /// Ends it for good, without `Lost`.
    fn close(&mut self);
    fn poll(&mut self) -> Option<Output>;
}
