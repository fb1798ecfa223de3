//! Sessions over plain HTTP, by the letter of `docs/protocol.md`, "Without a WebSocket".

#[path = "../support/mod.rs"]
mod support;

mod carriers;
mod counting;
mod connections;
mod lifetime;
mod pages;

use duplex::{Options, Settings};

use support::Levels;

/// What is left when everybody has gone.
const GONE: Levels = Levels::of(0, 0);

/// Options of a server that waits only shortly for sessions that are away when it stops.
fn options() -> Options {
    let options = support::options();
    Options { settings: Settings { close_ms: 200, ..options.settings }, ..options }
}
