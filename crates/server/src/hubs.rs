//! Where clients of SignalR connect.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use duplex_core::{ChannelName, NameError};

/// Paths that mean something else, and all below them.
const TAKEN: [&str; 9] =
    ["/ws", "/sse", "/session", "/echo", "/socket.io", "/engine.io", "/api", "/healthz", "/readyz"];

/// A hub: a path, and the channels that clients meet there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hub {
    /// Where it is.
    pub path: Arc<str>,
    /// The namespace of its channels, which their names leave out; `None` for all channels, by their whole names.
    pub namespace: Option<Arc<str>>,
}

impl Hub {
    /// The channel that is called so in the hub.
    pub(crate) fn channel(&self, name: &str) -> Result<ChannelName, NameError> {
        match &self.namespace {
            Some(namespace) => ChannelName::parse(&format!("{namespace}:{name}")),
            None => ChannelName::parse(name),
        }
    }
}

impl Default for Hub {
    fn default() -> Self {
        Self { path: "/signalr".into(), namespace: None }
    }
}

/// Why a text names no hub. It completes "signalr.hubs: …".
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum HubError {
    /// Not a path at all.
    #[error(
        "a path begins with '/', does not end with it, and has no other characters than letters, digits and -._~/; write /chat or /chat=NAMESPACE"
    )]
    Path,
    /// Something else is there.
    #[error("the path is taken; choose another")]
    Taken,
    /// Not the name of a namespace.
    #[error("the namespace behind '=' cannot be; give the name of a [namespace.NAME]")]
    Namespace,
}

impl FromStr for Hub {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Self, HubError> {
        let (path, namespace) = match text.split_once('=') {
            Some((path, namespace)) => (path, Some(namespace)),
            None => (text, None),
        };
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
        if !path.starts_with('/') || path.ends_with('/') || path.contains("//") || !path.bytes().all(is_plain)
        {
            return Err(HubError::Path);
        }
        let is_below = |taken: &str| {
            path.strip_prefix(taken).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if TAKEN.into_iter().any(is_below) || path.ends_with("/negotiate") || path.starts_with("/duplex.") {
            return Err(HubError::Taken);
        }
        let names = |namespace: &str| {
            !namespace.contains(':') && ChannelName::parse(&format!("{namespace}:x")).is_ok()
        };
        match namespace {
            Some(namespace) if !names(namespace) => Err(HubError::Namespace),
            namespace => Ok(Self { path: path.into(), namespace: namespace.map(Into::into) }),
        }
    }
}

impl fmt::Display for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{}={namespace}", self.path),
            None => f.write_str(&self.path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_is_a_path_and_perhaps_a_namespace() {
        for text in ["/signalr", "/hubs/chat=chat", "/a.b-c~d_e"] {
            assert_eq!(text.parse::<Hub>().map(|hub| hub.to_string()), Ok(text.to_owned()));
        }
        for (text, error) in [
            ("signalr", HubError::Path),
            ("/", HubError::Path),
            ("/a//b", HubError::Path),
            ("/a b", HubError::Path),
            ("/ws", HubError::Taken),
            ("/api/hub", HubError::Taken),
            ("/chat/negotiate", HubError::Taken),
            ("/chat=", HubError::Namespace),
            ("/chat=a:b", HubError::Namespace),
        ] {
            assert_eq!(text.parse::<Hub>(), Err(error), "{text}");
        }
    }
}
