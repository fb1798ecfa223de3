//! Several nodes, and clients whose requests come in anywhere: each session is on one of them, and nobody notices.

#[path = "../support/mod.rs"]
mod support;
#[path = "../signalr/checker.rs"]
#[allow(dead_code, reason = "SignalR's tests use the rest")]
mod checker;
#[path = "../signalr/client.rs"]
#[allow(dead_code, reason = "SignalR's tests use the rest")]
mod client;
#[path = "../signalr/messages.rs"]
#[allow(dead_code, reason = "SignalR's tests use the rest")]
mod messages;
#[path = "../socketio/client.rs"]
#[allow(dead_code, unused_imports, reason = "Socket.IO's tests use the rest")]
mod polled;

mod together;

mod native;
mod answers;
mod engineio;
mod signalr;
mod strangers;
mod trouble;
