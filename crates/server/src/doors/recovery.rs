//! Connection state recovery of Socket.IO: a client whose connection broke comes back to the channels it was in, and gets
//! what it missed in each (<https://socket.io/docs/v4/connection-state-recovery>).
//!
//! What is known of a client is written as it changes (its trail), so it does not matter how its connection ended, nor
//! whether that was noticed.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use duplex_core::{ChannelName, ClientId, Extent, Past, Position, UserId};
use duplex_engine::{Recovery, SessionKey, Trail};

use super::Site;
use super::session::{Secret, SessionToken};

/// Clients of a shard that may come back; beyond it, who has been away longest is forgotten.
const AWAY_MAX: usize = 50_000;

/// What the client calls `pid`: it names the client to itself and to nobody else, and says on which shard it was.
pub(super) type Pid = SessionToken;

/// Clients of a shard that may come back.
#[derive(Default)]
pub(crate) struct Recoveries(RefCell<State>);

#[derive(Default)]
struct State {
    known: HashMap<Secret, Known>,
    /// Those whose connection is gone, in the order in which they will be forgotten, and when, ms of the shard's clock.
    away: VecDeque<(u64, Secret)>,
}

struct Known {
    trail: Rc<Trail>,
    client: ClientId,
    user: Option<UserId>,
    /// Its session, which may not have noticed yet that the client has gone.
    key: SessionKey,
}

/// A client that comes back.
#[derive(Debug, Clone)]
pub(super) struct Returning {
    pub client: ClientId,
    pub user: Option<UserId>,
    /// Its channels, and where it stands in each; without a position, nothing is recovered there.
    pub channels: Vec<(ChannelName, Option<Position>)>,
}
