//! Engine.IO, the layer under Socket.IO: packets over long polls or a WebSocket, and the way from the one to the other
//! (<https://socket.io/docs/v4/engine-io-protocol/>). Version 4, and version 3 for clients of Socket.IO 2.
//!
//! Messages pass through unread: what they say is the upper layer's affair.

mod packet;
mod payload;
mod request;
mod conversation;

pub use conversation::{Conversation, Overlap, Probed, Received};
pub use packet::{BINARY_V3, Malformed, Packet};
pub use payload::{Bodies, More, Written};
pub use request::{Refused, Transport, Wanted};

/// The protocol's version, `EIO` in the query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Version {
    V3,
    V4,
}

/// What a server tells about itself in the packet that opens a session.
#[derive(Debug, Clone, Copy, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Handshake<'a> {
    /// Names the session to its client and to nobody else.
    pub sid: &'a str,
    /// Better transports that it may go over to.
    pub upgrades: &'a [&'a str],
    /// How often the server sends a ping, ms; in version 3 the client does.
    pub ping_interval: u32,
    /// How long a pong may take, ms.
    pub ping_timeout: u32,
    /// Longest body or message the server takes, bytes.
    pub max_payload: usize,
}

impl Handshake<'_> {
    /// The text of the packet.
    pub fn packet(&self) -> String {
        format!("0{}", serde_json::to_string(self).expect("strings and numbers always serialize"))
    }
}

#[cfg(test)]
mod tests;
