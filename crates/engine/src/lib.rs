//! What happens: sessions, subscriptions, fan-out, limits and deadlines.
//!
//! A [`Node`] is a process; it has [`Shard`]s, each a thread with clients of its own that no other thread touches.
//! What goes between shards goes through the broker and arrives in a shard's inbox.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod settings;
mod policy;
mod node;
mod inbox;
mod inquiry;
mod shard;
mod connect;
mod command;
mod subscribe;
mod turn;
mod fan;
mod session;
mod outboxes;
mod lag;
mod trail;
mod slow;
mod hub;
mod merge;
mod wheel;

pub use command::{code, unix_ms, unrecoverable, within_page};
pub use inbox::{NoRoom, Whom};
pub use inquiry::{Addressee, Outcome, Reply};
pub use node::{Encoding, Gauges, Node, Pieces};
pub use policy::{
    Allow, Deflate, Namespaces, Others, Overload, Policy, Recovery, Rules, UserLimited, Visibility, Who,
};
pub use session::SessionKey;
pub use settings::Settings;
pub use shard::{Ground, Opening, Shard};
pub use subscribe::Settled;
pub use trail::{Keeper, Membership, Memory, Record, Trail};
pub use turn::Flushed;
