//! Client protocols: frames in, commands and frames out.
//!
//! Each protocol is a value that implements [`duplex_core::Protocol`] and knows nothing of sockets, clocks or the
//! engine. Adding one is adding a folder here and a door in the server.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod native;
pub mod eventsource;
pub mod echo;
pub mod engineio;
pub mod socketio;
pub mod signalr;
mod arguments;
mod verb;
mod requests;
mod msgpack;
mod publication;
mod history;
mod presence;

pub use history::{HistoryError, HistoryRequest, history};
pub(crate) use presence::presence_change;
pub use presence::{attendance, present};
pub use publication::{PublicationError, Publish, PublishRequest, question};
