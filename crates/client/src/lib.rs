//! The native client of Duplex in Rust.
//!
//! Empty so far: the server speaks first. What it will speak is in `docs/protocol.md`.

#![forbid(unsafe_code)]
#![warn(missing_docs)]
