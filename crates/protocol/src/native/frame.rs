//! What the server sends.

use std::sync::Arc;

use duplex_core::{
    Attendance, Change, ChannelName, ClientId, Closing, Emission, Payload, Position, PresenceChange, Present,
    Publication, Recovered, Refusal, Return, Ticket,
};
use serde::Serialize;

use super::Welcome;
use crate::publication::{Standing, write_json, write_payload, write_publication, write_text};

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
        match self {
            Self::None => Ticket(0),
            Self::Opening => Ticket::OWN,
            Self::Given(id) => Ticket(id),
        }
    }
}

impl From<Ticket> for Id {
    fn from(ticket: Ticket) -> Self {
        match ticket {
            Ticket(0) => Self::None,
            Ticket::OWN => Self::Opening,
            Ticket(id) => Self::Given(id),
        }
    }
}

pub(crate) fn connected(
    id: Id,
    client: ClientId,
    user: Option<&str>,
    expires_in_ms: Option<u64>,
    welcome: &Welcome,
) -> Vec<u8> {
    #[derive(Serialize)]
    struct Connected<'a> {
        client: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        user: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        expires_in_ms: Option<u64>,
        version: &'a str,
        heartbeat_ms: u32,
        message_bytes_max: usize,
        subscriptions_max: usize,
    }
    let Welcome { version, heartbeat_ms, message_bytes_max, subscriptions_max } = *welcome;
    let client = client.to_string();
    let body = Connected {
        client,
        user,
        expires_in_ms,
        version,
        heartbeat_ms,
        message_bytes_max,
        subscriptions_max,
    };
    frame(id, "connected", &body)
}

pub(crate) fn refreshed(id: Id, expires_in_ms: Option<u64>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Refreshed {
        #[serde(skip_serializing_if = "Option::is_none")]
        expires_in_ms: Option<u64>,
    }
    frame(id, "refreshed", &Refreshed { expires_in_ms })
}

pub(crate) fn present(id: Id, channel: &ChannelName, present: &Present) -> Vec<u8> {
    wrap(id, "presence", &crate::present(channel, present))
}

pub(crate) fn counted(id: Id, channel: &ChannelName, attendance: Attendance) -> Vec<u8> {
    wrap(id, "presence_stats", &crate::attendance(channel, attendance))
}

pub(crate) fn called(id: Id, payload: &Payload) -> Vec<u8> {
    let mut body = Vec::with_capacity(payload.json().as_str().len() + 16);
    body.push(b'{');
    write_payload(payload, &mut body);
    body.push(b'}');
    wrap(id, "called", &body)
}

/// The backend says something to this client alone.
pub(crate) fn told(emission: &Emission) -> Vec<u8> {
    let Emission { event, payload } = emission;
    let mut body = Vec::with_capacity(payload.json().as_str().len() + 64);
    body.extend_from_slice(br#"{"event":"#);
    write_json(&**event, &mut body);
    body.push(b',');
    write_payload(payload, &mut body);
    body.push(b'}');
    wrap(Id::None, "event", &body)
}

/// Someone joined or left, as all subscribers are told.
pub(crate) fn presence(change: &PresenceChange) -> Vec<u8> {
    let kind = match change.change {
        Change::Joined => "joined",
        Change::Left => "left",
    };
    wrap(Id::None, kind, &crate::presence_change(change))
}

/// The server closes the session and says whether and when to come back.
pub(crate) fn closing(closing: &Closing<'_>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Body<'a> {
        code: u16,
        message: &'a str,
        reconnect: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        after_ms: Option<u32>,
    }
    let Closing { reason, detail, after_ms } = *closing;
    let message = match detail {
        "" => reason.sentence,
        detail => &format!("{}: {detail}", reason.sentence),
    };
    let reconnect = reason.then == Return::Reconnect;
    frame(Id::None, "closing", &Body { code: reason.code, message, reconnect, after_ms })
}

/// A transport begins to carry a session's frames: how many came before, and how many messages have arrived.
pub(crate) fn attached(after: u64, received: u64) -> Vec<u8> {
    #[derive(Serialize)]
    struct Attached {
        after: u64,
        received: u64,
    }
    frame(Id::None, "attached", &Attached { after, received })
}

pub(crate) fn standing(
    id: Id,
    kind: &str,
    channel: &str,
    position: Position,
    recovered: Recovered,
) -> Vec<u8> {
    frame(id, kind, &Standing::new(channel, position, recovered))
}

pub(crate) fn unsubscribed(id: Id, channel: &str) -> Vec<u8> {
    #[derive(Serialize)]
    struct Unsubscribed<'a> {
        channel: &'a str,
    }
    frame(id, "unsubscribed", &Unsubscribed { channel })
}

pub(crate) fn pong(id: Id) -> Vec<u8> {
    #[derive(Serialize)]
    struct Pong {}
    frame(id, "pong", &Pong {})
}

pub(crate) fn error(id: Id, refusal: &Refusal) -> Vec<u8> {
    #[derive(Serialize)]
    struct Error<'a> {
        code: u16,
        message: &'a str,
    }
    frame(id, "error", &Error { code: refusal.code as u16, message: &refusal.message })
}

/// The frame of a publication, and where its payload begins.
pub(crate) fn publication(publication: &Publication) -> (Vec<u8>, usize) {
    let mut out = Vec::with_capacity(160 + publication.draft.payload.json().as_str().len());
    out.extend_from_slice(b"{\"publication\":");
    let payload_at = write_publication(publication, &mut out);
    out.push(b'}');
    (out, payload_at)
}

pub(crate) fn history(
    id: Id,
    channel: &ChannelName,
    position: Position,
    publications: &[Arc<Publication>],
) -> Vec<u8> {
    let body = crate::history(channel, position, publications);
    wrap(id, "history", &body)
}

/// `{"id":…,"kind":{…}}`
fn frame(id: Id, kind: &str, body: &impl Serialize) -> Vec<u8> {
    let mut json = Vec::with_capacity(96);
    write_json(body, &mut json);
    wrap(id, kind, &json)
}

fn wrap(id: Id, kind: &str, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 48);
    match id {
        Id::Given(id) => write_text(format_args!(r#"{{"id":{id},"{kind}":"#), &mut out),
        Id::None | Id::Opening => write_text(format_args!(r#"{{"{kind}":"#), &mut out),
    }
    out.extend_from_slice(body);
    out.push(b'}');
    out
}
