//! What happens: sessions, subscriptions, fan-out, limits and deadlines.
//!
//! A [`Node`] is a process; it has [`Shard`]s, each a thread with clients of its own that no other thread touches.
//! What goes between shards goes through the broker and arrives in a shard's inbox.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod settings;
mod node;
mod inbox;
mod shard;
mod command;
mod turn;
mod session;
mod hub;
mod merge;
mod wheel;

pub use command::{code, unix_ms, unrecoverable, within_page};
pub use node::{Gauges, Node};
pub use session::SessionKey;
pub use settings::Settings;
pub use shard::{Opening, Shard};
pub use turn::Flushed;
