//! Presence as JSON, the form that the native protocol, Server-Sent Events and the HTTP API share.

use std::sync::Arc;

use duplex_core::{Attendance, ChannelName, Member, PresenceChange, Present};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::publication::write_json;

/// `{"client":…,"user":…,"info":…}`
#[derive(Serialize)]
struct MemberBody<'a> {
    client: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<&'a RawValue>,
}

impl<'a> From<&'a Arc<Member>> for MemberBody<'a> {
    fn from(member: &'a Arc<Member>) -> Self {
        let info = member.info.as_ref().and_then(|info| serde_json::from_str(info.as_str()).ok());
        Self { client: member.client.to_string(), user: member.user.as_deref(), info }
    }
}

/// `{"channel":…,"clients":…,"users":…,"members":[…]}`
pub fn present(channel: &ChannelName, present: &Present) -> Vec<u8> {
    #[derive(Serialize)]
    struct Body<'a> {
        channel: &'a str,
        clients: usize,
        users: usize,
        members: Vec<MemberBody<'a>>,
    }
    let Attendance { clients, users } = present.attendance;
    let members = present.members.iter().map(MemberBody::from).collect();
    json(&Body { channel, clients, users, members })
}

/// `{"channel":…,"clients":…,"users":…}`
pub fn attendance(channel: &ChannelName, attendance: Attendance) -> Vec<u8> {
    #[derive(Serialize)]
    struct Body<'a> {
        channel: &'a str,
        clients: usize,
        users: usize,
    }
    let Attendance { clients, users } = attendance;
    json(&Body { channel, clients, users })
}

/// `{"channel":…,"client":…,"user":…,"info":…}`
pub(crate) fn presence_change(change: &PresenceChange) -> Vec<u8> {
    #[derive(Serialize)]
    struct Body<'a> {
        channel: &'a str,
        #[serde(flatten)]
        member: MemberBody<'a>,
    }
    json(&Body { channel: &change.channel, member: MemberBody::from(&change.member) })
}

fn json(body: &impl Serialize) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    write_json(body, &mut out);
    out
}
