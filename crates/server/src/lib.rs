//! Duplex, assembled: everything the `duplex` program does, for use inside another program or a test.
//!
//! ```
//! use duplex::{Options, Server};
//!
//! let options = Options { listen: "127.0.0.1:0".parse()?, shards: 1, ..Options::default() };
//! let server = Server::start(options)?;
//! println!("http://{}/", server.address());
//! server.stop();
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod options;
pub mod config;
pub mod auth;
mod assemble;
mod live;
mod drain;
mod rules;
mod authority;
mod places;
mod doors;
mod guard;
mod query;
mod api;
mod page;
pub mod cli;

pub use assemble::{Server, StartError};
pub use duplex_engine::{Deflate, Gauges, Overload, Policy, Recovery, Settings, Visibility, Who};
pub use guard::{Origin, OriginError};
pub use options::{Auth, Connections, Drain, Mode, Namespace, Options, Slow, Timeouts};
pub use places::Refused;
