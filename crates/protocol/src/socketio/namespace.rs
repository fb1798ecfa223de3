use std::sync::Arc;

use duplex_core::{ChannelName, NameError};

/// Longest name, bytes of UTF-8.
const NAME_BYTES_MAX: usize = 128;

/// A Socket.IO namespace. In `/` channels have their whole names; `/chat` has those of the channel namespace `chat`, and
/// leaves that out: its room `lobby` is the channel `chat:lobby`.
///
/// `None` is `/`, so that nearly all clients need no memory for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace(Option<Arc<str>>);

impl Namespace {
    /// The namespace that every client knows.
    pub const ROOT: &'static str = "/";

    /// The namespace with this name; `None` if there can be none.
    pub fn parse(name: &str) -> Option<Self> {
        if name == Self::ROOT {
            return Some(Self(None));
        }
        let fits = name.len() <= NAME_BYTES_MAX && name.starts_with('/') && !name.contains([':', ',']);
        let namespace = fits.then(|| Self(Some(name.into())))?;
        namespace.channel("x").is_ok().then_some(namespace)
    }

    /// Its name, with the slash.
    pub fn name(&self) -> &str {
        self.0.as_deref().unwrap_or(Self::ROOT)
    }

    /// Whether it is `/`.
    pub fn is_root(&self) -> bool {
        self.0.is_none()
    }

    /// The channel that is called `room` in it.
    ///
    /// # Errors
    /// There can be no such channel.
    pub fn channel(&self, room: &str) -> Result<ChannelName, NameError> {
        match &self.0 {
            Some(name) if !room.is_empty() => ChannelName::parse(&format!("{}:{room}", &name[1..])),
            _ => ChannelName::parse(room),
        }
    }
}
