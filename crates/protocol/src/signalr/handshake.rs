//! The first message of each side, which is JSON whatever follows.

use std::borrow::Cow;

use serde::Deserialize;

use super::{Format, Transport};

/// The newest version of the hub protocol. It adds acknowledgements, which concern its transport alone. As on the official server,
/// older ones are whatever a client says; some say 0.
const VERSION: u64 = 2;

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    protocol: Cow<'a, str>,
    version: u64,
}

/// What the client wants to speak, if that can be.
///
/// # Errors
/// Why not, in the words of the official server where it has some.
pub(super) fn read(message: &str, transport: Transport) -> Result<Format, String> {
    let Request { protocol, version } = serde_json::from_str(message).map_err(|_| {
        r#"not a handshake; send {"protocol":"json","version":1} and the character 0x1E first"#.to_owned()
    })?;
    let format = format(&protocol).ok_or_else(|| {
        let protocol: String = protocol.chars().take(64).collect();
        format!("The protocol '{protocol}' is not supported.")
    })?;
    if version > VERSION {
        return Err(format!("The server does not support version {version} of the '{protocol}' protocol."));
    }
    match (format, transport) {
        (Format::MessagePack, Transport::Events) => Err("Cannot use the 'messagepack' protocol on the current transport. The transport does not support 'Binary' transfer format.".to_owned()),
        (format, _) => Ok(format),
    }
}

/// What will be spoken after this message, if it is a handshake at all.
pub(super) fn peek(message: &[u8]) -> Option<Format> {
    let request: Request<'_> = serde_json::from_slice(message).ok()?;
    format(&request.protocol)
}

fn format(protocol: &str) -> Option<Format> {
    match protocol {
        "json" => Some(Format::Json),
        "messagepack" => Some(Format::MessagePack),
        _ => None,
    }
}
