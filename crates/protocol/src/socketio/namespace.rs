use std::sync::Arc;

use duplex_core::{ChannelName, NameError};

/// Longest name, bytes of UTF-8.
const NAME_BYTES_MAX: usize = 128;

/// A Socket.IO namespace. In `/` channels have their whole names; `/chat` has those of the channel namespace `chat`, and
/// leaves that out: its room `lobby` is the channel `chat:lobby`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace(Arc<str>);

impl Namespace {
    /// The namespace that every client knows.
    pub const ROOT: &'static str = "/";

    /// The namespace with this name; `None` if there can be none.
    pub fn parse(name: &str) -> Option<Self> {
        let fits = name.len() <= NAME_BYTES_MAX && !name.contains([':', ',']);
        let namespace = Self(name.into());
        let is_right = name == Self::ROOT || (name.starts_with('/') && namespace.channel("x").is_ok());
        (fits && is_right).then_some(namespace)
    }

    /// Its name, with the slash.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Whether it is `/`.
    pub fn is_root(&self) -> bool {
        &*self.0 == Self::ROOT
    }

    /// The channel that is called `room` in it.
    ///
    /// # Errors
    /// There can be no such channel.
    pub fn channel(&self, room: &str) -> Result<ChannelName, NameError> {
        if self.is_root() || room.is_empty() {
            return ChannelName::parse(room);
        }
        ChannelName::parse(&format!("{}:{room}", &self.0[1..]))
    }
}
