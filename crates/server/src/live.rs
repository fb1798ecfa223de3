//! What a running server goes by, made from the options: a reload replaces it as a whole.

use std::sync::Arc;
use std::time::Duration;

use duplex_engine::{Namespaces, Settings};
use duplex_protocol::native::Welcome;
use duplex_transport::websocket;

use crate::Options;
use crate::api::BodyLimits;
use crate::guard::{Guard, Hosts};
use crate::hubs::Hub;
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
    pub hubs: Arc<[Hub]>,
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
        let namespaces = Arc::new(rules::namespaces(options)?);
        Ok(Self {
            settings: options.settings,
            guard: Guard::new(options.allowed_origins.clone(), hosts),
            welcome: Arc::new(welcome),
            sockets: options.websocket_settings(),
            bodies: BodyLimits { bytes_max: message_bytes_max, timeout: options.timeouts.body },
            head_timeout: options.timeouts.head,
            retained_bytes: options.retained_bytes,
            drain: options.drain,
            socketio: options.socketio,
            hubs: checked_hubs(options, &namespaces)?,
            namespaces,
        })
    }
}

/// Hubs whose channels can be, each at a path of its own.
fn checked_hubs(options: &Options, namespaces: &Namespaces) -> Result<Arc<[Hub]>, String> {
    for (index, hub) in options.hubs.iter().enumerate() {
        if options.hubs[..index].iter().any(|other| other.path == hub.path) {
            return Err(format!(
                "signalr.hubs: {} is there twice; give each hub a path of its own",
                hub.path
            ));
        }
        if let Some(namespace) = &hub.namespace
            && let Ok(channel) = duplex_core::ChannelName::parse(&format!("{namespace}:x"))
            && namespaces.of(&channel).is_err()
        {
            return Err(format!(
                "signalr.hubs: {hub}: there is no namespace {namespace:?}; configure [namespace.{namespace}]"
            ));
        }
    }
    Ok(options.hubs.clone().into())
}
