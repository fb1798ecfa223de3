//! Bytes in and out: listeners, HTTP, WebSocket, responses that go on, long polls, sessions that any of them carries, and
//! connections that are passed on to another server.
//!
//! A transport is a file here and a route in the server. It knows nothing of the engine: frames it reads go to a
//! [`Handler`], frames to send come through the [`duplex_core::Link`] it implements.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod listener;
mod dial;
pub mod http;
pub mod websocket;
pub mod movable;
mod endless;
pub mod poll;
mod framing;
mod socket;
mod stream;
mod tls;
pub mod splice;

pub use endless::{Endless, EndlessLink};
pub use framing::Framing;
pub use listener::{Acceptor, BUSY, SocketOptions, TOO_MANY, turn_away};
pub use stream::{Moving, Stream};

use bytes::Bytes;
use duplex_core::{CloseReason, Frame};

/// What a transport tells the session whose bytes it carries.
pub trait Handler {
    /// The client sent a message.
    fn message(&self, frame: Frame<'_>);
    /// The client sent something, if only a sign of life.
    fn heard(&self);
    /// Bytes of the transport's own, such as a pong, go out behind what is queued.
    fn reply(&self, wire: Bytes);
    /// The connection must be closed.
    fn close(&self, reason: &'static CloseReason, detail: &str);
    /// There is room again after a blocked write, or another reason to write again.
    fn writable(&self);
    /// The connection is gone. Nothing is called after it.
    fn ended(&self);
}
