//! What carries publications between shards and nodes, and keeps history.
//!
//! A broker is a file here that passes the contract in `tests/contract.rs`. The first is [`Memory`]: one process,
//! nothing outside it.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod memory;
mod members;

pub use memory::{Capacity, Memory};
