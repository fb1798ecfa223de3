//! SignalR's hub protocol, versions 1 and 2, as JSON and MessagePack
//! (<https://github.com/dotnet/aspnetcore/blob/main/src/SignalR/docs/specs/HubProtocol.md>).
//!
//! What comes from a client in any pieces is cut into messages by a [`Splitter`]; each goes to its [`Hub`]. What goes to a
//! client is always whole: one message in one frame.
//!
//! SignalR has no words for channels, so clients invoke methods whose names begin with `$`: see `docs/signalr.md`.

mod handshake;
mod hub;
mod incoming;
mod sequence;
mod splitter;
mod upload;
mod write;

pub use hub::{Encodings, Hub, Introduction};
pub use sequence::{Sequencing, Written};
pub use splitter::{Breach, Splitter};
pub use write::{ack, item_value, presence, publication, sequence};

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// As JSON; each message ends with 0x1E.
    Json,
    /// As MessagePack; each message begins with its length.
    MessagePack,
}

/// What carries a connection, as far as it matters for what is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Text and binary data.
    WebSocket,
    /// Server-Sent Events: text only.
    Events,
    /// Long polling: each poll is a sign of life by itself.
    Polls,
}

#[cfg(test)]
mod tests;
