//! What carries publications between shards and nodes, and keeps history.
//!
//! A broker is a file or folder here that passes the contract in `tests/contract`. [`Memory`] is one process and nothing
//! outside it; [`Redis`] and [`Nats`] are for many nodes.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod envelope;
mod listeners;
mod memory;
mod members;
mod nats;
mod redis;

pub use memory::{Capacity, Memory};
pub use nats::{Nats, NatsMedium, NatsStorage, NatsTarget, NatsTargetError};
pub use redis::{Redis, RedisTarget, RedisTargetError};
