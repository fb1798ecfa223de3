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
mod threads;
mod tls;
mod carrier;
mod cluster;
mod live;
mod drain;
mod rules;
mod authority;
mod places;
mod doors;
mod guard;
mod hubs;
mod query;
mod api;
mod page;
pub mod cli;

pub use assemble::{Server, StartError};
pub use duplex_engine::{Deflate, Gauges, Overload, Policy, Recovery, Settings, Visibility, Who};
/// What an application that has a server within it implements, and what that is made of.
pub mod backend {
    pub use duplex_core::{
        Arrival, Backend, Call, ChannelName, ClientId, Emission, ErrorCode, EventName, Identity, Json,
        JsonError, NameError, Payload, Pending, Refusal, Said, UserId,
    };
}

pub use cluster::{Known, Nodes, Peer};
pub use duplex_broker::{NatsMedium, NatsStorage, NatsTarget, RedisTarget};
pub use guard::{Origin, OriginError};
pub use hubs::{Hub, HubError};
pub use options::{
    AtStart, Auth, BrokerOptions, BrokerPlace, Cluster, ConnectionRecovery, Connections, Drain, Mode,
    Namespace, Options, Slow, SocketIo, Timeouts, Tls, Version2,
};
pub use places::Refused;
