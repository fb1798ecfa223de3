//! Nodes that share a broker, as processes: what their clients get while the broker fails, and nodes do.
#![cfg(target_os = "linux")]

#[path = "../support/mod.rs"]
mod support;
#[path = "../socketio/client.rs"]
#[allow(dead_code, unused_imports, reason = "Socket.IO's tests use the rest")]
mod client;

mod crowd;
mod path;
mod press;
mod stage;
mod watcher;

mod moved;

mod nats;
mod redis {
    mod cut;
    mod drained;
    mod far;
    mod foreign;
    mod full;
    mod killed;
    mod paused;
    mod restart;
    mod servers;
    mod start;
}
