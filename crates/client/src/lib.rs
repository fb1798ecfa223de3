//! The native client of Duplex in Rust.
//!
//! A [`Client`] is a connection that comes back by itself, and a [`Subscription`] goes on where it broke off. What they
//! speak is in `docs/protocol.md`. Where no WebSocket gets through, the same conversation goes over plain HTTP.
//!
//! ```no_run
//! use duplex_client::{Client, Event, Message, Options, SubscribeOptions};
//!
//! # async fn talk() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect("http://127.0.0.1:8000", Options::default()).await?;
//! let mut news = client.subscribe("news", SubscribeOptions::default()).await?;
//! client.publish("news", Message::data("hello")).await?;
//! while let Some(event) = news.next().await {
//!     if let Event::Publication(publication) = event {
//!         println!("{}", publication.payload());
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Inside, what is decided is a value without I/O and without a clock: `conversation` (commands, answers, subscriptions),
//! `line` (a WebSocket or a session that transports carry in turns) and `connector` (when to come back, and by what).
//! One `task` for each client feeds them; beside it there are only tasks that move bytes (`wire`).

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod options;
mod error;
mod message;
mod publication;
mod client;
mod subscription;
mod event;

mod address;
mod inbox;
mod form;
mod frame;
mod backoff;

mod conversation;
mod line;
mod connector;

mod split;
mod wire;
mod task;

pub use address::AddressError;
pub use client::{Client, History, HistoryOptions, Order, Presence, PresenceStats, Published};
pub use duplex_core::NameError;
pub use error::{CommandError, ConnectError, End, Refusal, SubscribeError};
pub use event::{ClientEvent, ClientEvents};
pub use form::Form;
pub use message::{Message, Payload};
pub use options::{
    Options, Times, Token, TokenError, TokenReason, TokenRequest, TokenSource, Transport, UnknownTransport,
};
pub use publication::{Member, Position, PositionError, Publication};
pub use subscription::{Event, SubscribeOptions, Subscription};
