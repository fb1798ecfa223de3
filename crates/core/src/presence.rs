use std::sync::Arc;

use crate::{ChannelName, ClientId, Json, UserId};

/// A client that is present in a channel, as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its public id.
    pub client: ClientId,
    /// Whose client it is; `None` if it is anonymous.
    pub user: Option<UserId>,
    /// What its token says about it.
    pub info: Option<Json>,
}

/// How many are present in a channel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attendance {
    /// Clients.
    pub clients: usize,
    /// Different users among them. Anonymous clients are nobody's.
    pub users: usize,
}

/// Who is present in a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Present {
    pub attendance: Attendance,
    /// As many of them as were asked for.
    pub members: Vec<Arc<Member>>,
}

/// Which way a member went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Change {
    Joined,
    Left,
}

/// Someone joined a channel or left it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct PresenceChange {
    pub channel: ChannelName,
    pub member: Arc<Member>,
    pub change: Change,
}
