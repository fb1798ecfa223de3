//! Nodes that share a broker, as processes: what their clients get while the broker fails, and nodes do.
#![cfg(target_os = "linux")]

#[path = "../support/mod.rs"]
mod support;

mod stage;

mod nats;
mod redis {
    mod cut;
    mod foreign;
    mod full;
    mod restart;
    mod servers;
    mod start;
}
