//! Engine.IO and Socket.IO from outside: what goes over the wire, byte for byte, as the official server has it.

#[path = "../support/mod.rs"]
mod support;
mod client;

mod requests;
mod polling;
mod upgrade;
mod closing;
mod connect;
mod packets;
mod events;
mod poison;
mod leaving;
mod recovery;
mod version2;
mod hostile;

use duplex::{Options, Settings};

/// Options of a server that gives its clients little time to take their leave, and never sends a heartbeat by itself.
fn options() -> Options {
    let options = support::options();
    Options { settings: Settings { close_ms: 500, heartbeat_ms: 300_000, ..options.settings }, ..options }
}
