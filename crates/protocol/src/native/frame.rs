//! What the server sends.

use std::sync::Arc;

use bytes::Bytes;
use duplex_core::{ChannelName, ClientId, Message, Position, Publication, Recovered, Refusal, Ticket};
use serde::Serialize;

use super::Welcome;
use crate::publication::{Standing, write_json, write_publication, write_text};

/// Largest `id` of a command: the largest integer every JSON parser keeps exact, 2^53 − 1.
pub(crate) const ID_MAX: u64 = (1 << 53) - 1;

/// Which command an answer belongs to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Id {
    /// The command had no id: only its failure is answered.
    None,
    /// Nobody sent the command, the address named it: answered without an id.
    Opening,
    Given(u64),
}

impl Id {
    pub fn ticket(self) -> Ticket {
        Ticket(match self {
            Self::None => 0,
            Self::Opening => u64::MAX,
            Self::Given(id) => id,
        })
    }
}

impl From<Ticket> for Id {
    fn from(ticket: Ticket) -> Self {
        match ticket.0 {
            0 => Self::None,
            u64::MAX => Self::Opening,
            id => Self::Given(id),
        }
    }
}

pub(crate) fn connected(id: Id, client: ClientId, welcome: &Welcome) -> Message {
    #[derive(Serialize)]
    struct Connected<'a> {
        client: String,
        version: &'a str,
        heartbeat_ms: u32,
        message_bytes_max: usize,
        subscriptions_max: usize,
    }
    let Welcome { version, heartbeat_ms, message_bytes_max, subscriptions_max } = *welcome;
    let client = client.to_string();
    frame(id, "connected", &Connected { client, version, heartbeat_ms, message_bytes_max, subscriptions_max })
}

pub(crate) fn standing(
    id: Id,
    kind: &str,
    channel: &str,
    position: Position,
    recovered: Recovered,
) -> Message {
    frame(id, kind, &Standing::new(channel, position, recovered))
}

pub(crate) fn unsubscribed(id: Id, channel: &str) -> Message {
    #[derive(Serialize)]
    struct Unsubscribed<'a> {
        channel: &'a str,
    }
    frame(id, "unsubscribed", &Unsubscribed { channel })
}

pub(crate) fn pong(id: Id) -> Message {
    #[derive(Serialize)]
    struct Pong {}
    frame(id, "pong", &Pong {})
}

pub(crate) fn error(id: Id, refusal: &Refusal) -> Message {
    #[derive(Serialize)]
    struct Error<'a> {
        code: u16,
        message: &'a str,
    }
    frame(id, "error", &Error { code: refusal.code as u16, message: &refusal.message })
}

pub(crate) fn publication(publication: &Publication) -> Vec<u8> {
    let mut out = Vec::with_capacity(160 + publication.draft.payload.json().as_str().len());
    out.extend_from_slice(b"{\"publication\":");
    write_publication(publication, &mut out);
    out.push(b'}');
    out
}

pub(crate) fn history(
    id: Id,
    channel: &ChannelName,
    position: Position,
    publications: &[Arc<Publication>],
) -> Message {
    let body = crate::history(channel, position, publications);
    wrap(id, "history", &body)
}

/// `{"id":…,"kind":{…}}`
fn frame(id: Id, kind: &str, body: &impl Serialize) -> Message {
    let mut json = Vec::with_capacity(96);
    write_json(body, &mut json);
    wrap(id, kind, &json)
}

fn wrap(id: Id, kind: &str, body: &[u8]) -> Message {
    let mut out = Vec::with_capacity(body.len() + 48);
    match id {
        Id::Given(id) => write_text(format_args!(r#"{{"id":{id},"{kind}":"#), &mut out),
        Id::None | Id::Opening => write_text(format_args!(r#"{{"{kind}":"#), &mut out),
    }
    out.extend_from_slice(body);
    out.push(b'}');
    Message::Text(Bytes::from(out))
}
