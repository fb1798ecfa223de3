//! What a running server goes by, made from the options: a reload replaces it as a whole.

use std::sync::Arc;
use std::time::Duration;

use duplex_engine::{Namespaces, Settings};
use duplex_protocol::native::Welcome;
use duplex_transport::websocket;

use crate::Options;
use crate::api::BodyLimits;
use crate::guard::{Guard, Hosts};
use crate::options::{Drain, Mode, SocketIo};
use crate::rules;

/// What the shards go by.
pub(crate) struct Live {
    pub settings: Settings,
    pub namespaces: Arc<Namespaces>,
    pub guard: Guard,
    pub welcome: Arc<Welcome>,
    pub sockets: websocket::Settings,
    pub bodies: BodyLimits,
    pub head_timeout: Duration,
    pub retained_bytes: usize,
    pub drain: Drain,
    pub socketio: SocketIo,
}

impl Live {
    /// # Errors
    /// What is wrong, with the path of the option.
    pub fn new(options: &Options) -> Result<Self, String> {
        let hosts = match options.mode {
            Mode::Dev => Hosts::Loopback,
            Mode::Closed => Hosts::Any,
        };
        let message_bytes_max = options.websocket.message_bytes;
        let welcome = Welcome {
            version: env!("CARGO_PKG_VERSION"),
            heartbeat_ms: options.settings.heartbeat_ms,
            message_bytes_max,
            subscriptions_max: options.settings.subscriptions,
        };
        Ok(Self {
            settings: options.settings,
            namespaces: Arc::new(rules::namespaces(options)?),
            guard: Guard::new(options.allowed_origins.clone(), hosts),
            welcome: Arc::new(welcome),
            sockets: options.websocket_settings(),
            bodies: BodyLimits { bytes_max: message_bytes_max, timeout: options.timeouts.body },
            head_timeout: options.timeouts.head,
            retained_bytes: options.retained_bytes,
            drain: options.drain,
            socketio: options.socketio,
        })
    }
}
