//! Connection state recovery of Socket.IO: a client whose connection broke comes back to the channels it was in, and gets
//! what it missed in each (<https://socket.io/docs/v4/connection-state-recovery>).
//!
//! What is known of a client is written as it changes (its trail), so it does not matter how its connection ended, nor
//! whether that was noticed.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::{Rc, Weak};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use duplex_core::{ChannelName, ClientId, Extent, Past, Position, ShardId, UserId};
use duplex_engine::Trail;
use duplex_protocol::socketio::Namespace;
use tokio::time::Instant;

use super::Site;
use super::engineio::Connection;
use super::session::{Secret, SessionToken};

/// Clients of a shard that may come back; beyond it, who has been away longest is forgotten.
const AWAY_MAX: usize = 50_000;

/// What the client calls `pid`: it names the client to itself and to nobody else. It keeps it when it comes back.
pub(super) type Pid = SessionToken;

/// On which shard what is known of a client is: where it was last.
pub(crate) type Whereabouts = Arc<Mutex<HashMap<Secret, ShardId>>>;

/// Clients of a shard that may come back.
pub(crate) struct Recoveries {
    shard: ShardId,
    whereabouts: Whereabouts,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    known: HashMap<Secret, Known>,
    /// Those whose connection is gone, in the order in which they are forgotten.
    away: VecDeque<(Instant, Secret)>,
}

struct Known {
    trail: Rc<Trail>,
    /// Where it was, and only there it may come back.
    namespace: Namespace,
    connection: Weak<Connection>,
    /// Until when it may come back, once its connection is gone.
    until: Option<Instant>,
}

/// A client that comes back.
pub(super) struct Recalled {
    pub client: ClientId,
    pub user: Option<UserId>,
    /// Its channels, and where it stands in each.
    pub stands: Vec<(ChannelName, Position)>,
}

impl Recoveries {
    /// Nobody's, on this shard.
    pub fn new(shard: ShardId, whereabouts: Whereabouts) -> Self {
        Self { shard, whereabouts, state: RefCell::default() }
    }

    /// From now on a client may come back by this secret.
    fn add(&self, secret: Secret, (trail, namespace): (Rc<Trail>, Namespace), connection: &Rc<Connection>) {
        let known = Known { trail, namespace, connection: Rc::downgrade(connection), until: None };
        self.state.borrow_mut().known.insert(secret, known);
        self.lock().insert(secret, self.shard);
    }

    /// It may not any more.
    pub fn remove(&self, secret: &Secret) {
        self.state.borrow_mut().known.remove(secret);
        let mut whereabouts = self.lock();
        // It may have come back to another shard meanwhile.
        if whereabouts.get(secret) == Some(&self.shard) {
            whereabouts.remove(secret);
        }
    }

    /// Its connection is gone: it may come back for so long.
    pub fn left(&self, secret: Secret, ttl: Duration) {
        let until = Instant::now() + ttl;
        let oldest = {
            let state = &mut *self.state.borrow_mut();
            let Some(known) = state.known.get_mut(&secret) else { return };
            known.until = Some(until);
            state.away.push_back((until, secret));
            if state.away.len() > AWAY_MAX { state.away.pop_front() } else { None }
        };
        oldest.inspect(|(until, secret)| self.forget(*until, secret));
    }

    /// Forgets those who have been away too long.
    pub fn sweep(&self, now: Instant) {
        let next = || self.state.borrow_mut().away.pop_front_if(|(until, _)| *until <= now);
        while let Some((until, secret)) = next() {
            self.forget(until, &secret);
        }
    }

    /// Forgets a client, unless it has come back meanwhile.
    fn forget(&self, until: Instant, secret: &Secret) {
        let is_away = self.state.borrow().known.get(secret).is_some_and(|known| known.until == Some(until));
        if is_away {
            self.remove(secret);
        }
    }

    /// Where the client of a secret stands that has seen `last`. If its old connection is still there, nobody is at the other
    /// end of it any more. It stays known here until it is back.
    fn find(&self, secret: &Secret, namespace: &str, last: Option<Position>) -> Option<Recalled> {
        let (trail, connection) = {
            let state = self.state.borrow();
            let known = state.known.get(secret).filter(|known| known.namespace.name() == namespace)?;
            (Rc::clone(&known.trail), known.connection.upgrade())
        };
        if let Some(connection) = connection {
            connection.over();
        }
        let (client, user) = trail.whose()?;
        Some(Recalled { client, user, stands: trail.positions(last)? })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Secret, ShardId>> {
        self.whereabouts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Site {
    /// Who comes back by this secret, and where it stands in its channels, if it can get everything that it missed.
    pub(super) async fn recall(
        self: &Rc<Self>,
        secret: Secret,
        namespace: &Namespace,
        last: Option<Position>,
    ) -> Option<Recalled> {
        let shard = self.recoveries.lock().get(&secret).copied()?;
        let recalled = match self.is_place_of(shard) {
            true => self.recoveries.find(&secret, namespace.name(), last),
            false => {
                let name = namespace.name().to_owned();
                self.ask(shard, move |site| site.recoveries.find(&secret, &name, last))?.await.ok()?
            }
        };
        let recalled = recalled?;
        for (channel, position) in &recalled.stands {
            if self.recovers(channel) && !self.keeps_all_after(channel, *position).await {
                return None;
            }
        }
        Some(recalled)
    }

    /// A client has come back here: it is no longer known where it was.
    pub(super) fn came_back(
        self: &Rc<Self>,
        secret: Secret,
        trail: (Rc<Trail>, Namespace),
        connection: &Rc<Connection>,
    ) {
        let before = self.recoveries.lock().get(&secret).copied();
        self.recoveries.add(secret, trail, connection);
        if let Some(before) = before.filter(|before| *before != self.id) {
            // If that shard has too much to do, it forgets the client by itself, in time.
            drop(self.ask(before, move |site| site.recoveries.remove(&secret)));
        }
    }

    /// Whether anything is recovered in a channel at all.
    pub(super) fn recovers(&self, channel: &ChannelName) -> bool {
        let namespaces = self.shard.namespaces();
        namespaces.of(channel).is_ok_and(|policy| policy.recovery != duplex_engine::Recovery::Off)
    }

    async fn keeps_all_after(&self, channel: &ChannelName, position: Position) -> bool {
        let history = self.ground.broker.history(channel, Extent::After(position)).await;
        history.is_ok_and(|history| history.past != Past::Lost)
    }
}
