//! SignalR from outside: what goes over the wire, byte for byte, as ASP.NET Core has it.

#[path = "../support/mod.rs"]
mod support;
mod messages;
mod checker;
mod client;
mod backend;

mod negotiate;
mod requests;
mod polling;
mod sse;
mod handshake;
mod forms;
mod invocations;
mod verbs;
mod streams;
mod uploads;
mod questions;
mod tokens;
mod closing;
mod heartbeats;
mod resuming;
mod replaying;
mod poison;
#[cfg(target_os = "linux")]
mod hubs;
mod hostile;
mod chance;

use duplex::{Options, Settings, Timeouts};
use std::time::Duration;

/// Options of a server that gives its clients little time to take their leave, never sends a heartbeat by itself, and lets
/// connections of requests be idle for as long as a story may take.
fn options() -> Options {
    let options = support::options();
    let timeouts = Timeouts { head: Duration::from_secs(60), ..Timeouts::default() };
    let settings = Settings { close_ms: 500, heartbeat_ms: 300_000, ..options.settings };
    Options { settings, timeouts, ..options }
}
