//! Connection state recovery of Socket.IO: a client whose connection broke comes back to the channels it was in, and gets
//! what it missed in each (<https://socket.io/docs/v4/connection-state-recovery>).
//!
//! What is known of a client is written as it changes (its trail), so it does not matter how its connection ended, nor
//! whether that was noticed. Where nodes share a broker it is kept there, too (its row), so that the client may come back to
//! any of them.

mod row;

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::{Rc, Weak};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use duplex_core::{ChannelName, ClientId, Cluster, Extent, Past, Position, ShardId, UserId};
use duplex_engine::{Keeper, Settled, Trail};
use duplex_protocol::socketio::{Namespace, Seen};
use tokio::time::Instant;

use self::row::{Changes, Keeping};
use super::Site;
use super::engineio::Connection;
use super::session::{Secret, SessionToken};
use crate::drain::Unfinished;

/// Clients of a shard that may come back; beyond it, who has been away longest is forgotten.
const AWAY_MAX: usize = 50_000;
/// Rows that a shard writes at once.
const ROWS_AT_ONCE: usize = 200;

/// What the client calls `pid`: it names the client to itself and to nobody else. It keeps it when it comes back.
pub(super) type Pid = SessionToken;

/// On which shard what is known of a client is: where it was last.
pub(crate) type Whereabouts = Arc<Mutex<HashMap<Secret, ShardId>>>;

/// Clients of a shard that may come back.
pub(crate) struct Recoveries {
    shard: ShardId,
    whereabouts: Whereabouts,
    /// Where rows are kept, if anywhere, and what waits for it.
    rows: Option<(Arc<dyn Cluster>, Unfinished)>,
    changes: Rc<Changes>,
    state: RefCell<State>,
}

struct State {
    known: HashMap<Secret, Known>,
    /// Those whose connection is gone, in the order in which they are forgotten.
    away: VecDeque<(Instant, Secret)>,
    /// When all rows are written again.
    rewrite: Instant,
}

struct Known {
    trail: Rc<Trail>,
    keeping: Option<Rc<Keeping>>,
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
    /// The newest version of its row.
    version: u64,
}

/// A client that is known here.
struct Found {
    /// `None` if it cannot be given back what it had.
    recalled: Option<Recalled>,
    version: u64,
}

impl Recoveries {
    /// Nobody's, on this shard.
    pub fn new(
        shard: ShardId,
        whereabouts: Whereabouts,
        rows: Option<(Arc<dyn Cluster>, Unfinished)>,
    ) -> Self {
        let rewrite = Instant::now() + row::TTL / 2;
        let state = State { known: HashMap::default(), away: VecDeque::default(), rewrite };
        Self { shard, whereabouts, rows, changes: Rc::default(), state: RefCell::new(state) }
    }

    /// It may not come back any more.
    pub fn remove(&self, secret: &Secret) {
        let known = self.state.borrow_mut().known.remove(secret);
        if let Some(Known { keeping: Some(keeping), .. }) = known {
            keeping.erase();
        }
        self.not_here(secret);
    }

    /// It is somewhere else.
    fn moved(&self, secret: &Secret) {
        self.state.borrow_mut().known.remove(secret);
        self.not_here(secret);
    }

    fn not_here(&self, secret: &Secret) {
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
            if let (Some(keeping), Some(record)) = (&known.keeping, known.trail.record()) {
                keeping.write(&record, known.namespace.name(), ttl);
            }
            state.away.push_back((until, secret));
            if state.away.len() > AWAY_MAX { state.away.pop_front() } else { None }
        };
        oldest.inspect(|(until, secret)| self.forget(*until, secret));
    }

    /// Forgets those who have been away too long, and keeps what has changed of the others.
    pub fn sweep(&self, site: &Site, now: Instant) {
        let next = || self.state.borrow_mut().away.pop_front_if(|(until, _)| *until <= now);
        while let Some((until, secret)) = next() {
            self.forget(until, &secret);
        }
        self.write_rows(site);
        let state = &mut *self.state.borrow_mut();
        if state.rewrite <= now {
            state.rewrite = now + row::TTL / 2;
            let there = state.known.values().filter(|known| known.until.is_none());
            there.filter_map(|known| known.keeping.as_ref()).for_each(|keeping| keeping.changed());
        }
    }

    /// Writes some of the rows that have changed, of clients from whom on everything comes in order.
    fn write_rows(&self, site: &Site) {
        let count = self.changes.borrow().len().min(ROWS_AT_ONCE);
        for _ in 0..count {
            let Some(secret) = self.changes.borrow_mut().pop_front() else { return };
            let state = self.state.borrow();
            let Some(Known { trail, keeping: Some(keeping), namespace, connection, .. }) =
                state.known.get(&secret)
            else {
                continue;
            };
            keeping.seen_to();
            let key =
                connection.upgrade().and_then(|connection| connection.namespaces.as_ref()?.key_of(&secret));
            match (key.map(|key| site.shard.settled(key)), trail.record()) {
                (Some(Settled::Yes), Some(record)) => keeping.write(&record, namespace.name(), row::TTL),
                (Some(Settled::NotYet), _) | (Some(Settled::Yes), None) => keeping.changed(),
                (Some(Settled::Never) | None, _) => {}
            }
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
    /// end of it any more. It stays known here until it is back. `None` if it is not known here.
    fn find(&self, secret: &Secret, namespace: &str, last: Option<Position>) -> Option<Found> {
        let (trail, keeping, connection) = {
            let state = self.state.borrow();
            let known = state.known.get(secret).filter(|known| known.namespace.name() == namespace)?;
            (Rc::clone(&known.trail), known.keeping.clone(), known.connection.upgrade())
        };
        if let Some(connection) = connection {
            connection.over();
        }
        let version = keeping.map_or(0, |keeping| keeping.version());
        let recalled = trail.whose().zip(trail.positions(last));
        let recalled = recalled.map(|((client, user), stands)| Recalled { client, user, stands, version });
        Some(Found { recalled, version })
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
        last: Option<Seen>,
    ) -> Option<Recalled> {
        let row = match &self.carrier.cluster {
            Some(cluster) => cluster.kept(secret).await.ok()?,
            None => None,
        };
        let found = self.find_client(secret, namespace, last).await;
        let recalled = match (found, row) {
            (Some(Found { recalled, version }), row) if row.as_ref().is_none_or(|r| r.version <= version) => {
                recalled?
            }
            (_, Some(row)) => {
                let trail = Trail::kept(row::read(&row.content, namespace.name())?)?;
                let (client, user) = trail.whose()?;
                let stands = self.stands(&trail, last).await?;
                self.talk.took_over(client);
                Recalled { client, user, stands, version: row.version }
            }
            (_, None) => return None,
        };
        for (channel, position) in &recalled.stands {
            if self.recovers(channel) && !self.keeps_all_after(channel, *position).await {
                return None;
            }
        }
        Some(recalled)
    }

    /// A client that was at this node last, as far as this node knows.
    async fn find_client(
        self: &Rc<Self>,
        secret: Secret,
        namespace: &Namespace,
        last: Option<Seen>,
    ) -> Option<Found> {
        let shard = self.recoveries.lock().get(&secret).copied()?;
        let last = last.map(|last| last.position);
        if self.is_place_of(shard) {
            return self.recoveries.find(&secret, namespace.name(), last);
        }
        let name = namespace.name().to_owned();
        self.ask(shard, move |site| site.recoveries.find(&secret, &name, last))?.await.ok()?
    }

    /// Where a client stands that has seen `last`, by a trail that was kept while it was at another node: in the order of
    /// all channels, if it was sent that later. `None` if that is not known.
    async fn stands(&self, trail: &Trail, last: Option<Seen>) -> Option<Vec<(ChannelName, Position)>> {
        if let Some(stands) = trail.positions(last.map(|last| last.position)) {
            return Some(stands);
        }
        let last = last?;
        let mut stands = trail.ahead(last.position)?;
        for (channel, at) in stands.iter_mut().filter(|(_, at)| *at != last.position) {
            let history = self.ground.broker.history(channel, Extent::After(*at)).await.ok()?;
            let Past::Kept(publications) = history.past else { return None };
            for publication in publications {
                match publication.order {
                    0 => return None,
                    order if order > last.order => break,
                    _ => *at = publication.position,
                }
            }
        }
        Some(stands)
    }

    /// Begins the trail of a client that has seen `last`, and stands there if it has come back; it is no longer known where
    /// it was.
    pub(super) fn begin_trail(
        self: &Rc<Self>,
        secret: Secret,
        (last, recalled): (Option<Seen>, Option<&Recalled>),
        (namespace, connection): (&Namespace, &Rc<Connection>),
    ) -> Rc<Trail> {
        let Recoveries { shard, rows, changes, state, .. } = &self.recoveries;
        let version = recalled.map_or(0, |recalled| recalled.version);
        let keeping = rows.clone().map(|rows| Keeping::new(secret, version, rows, Rc::clone(changes)));
        let keeper = keeping.clone().map(|keeping| keeping as Rc<dyn Keeper>);
        let stands = recalled.map_or_else(Vec::new, |recalled| recalled.stands.clone());
        let trail = Rc::new(Trail::new(last.map(|last| last.position), stands, keeper));
        let known = Known {
            trail: Rc::clone(&trail),
            keeping,
            namespace: namespace.clone(),
            connection: Rc::downgrade(connection),
            until: None,
        };
        state.borrow_mut().known.insert(secret, known);
        let before = self.recoveries.lock().insert(secret, *shard);
        if let Some(before) = before.filter(|before| before != shard) {
            // If that shard has too much to do, it forgets the client by itself, in time.
            drop(self.ask(before, move |site| site.recoveries.moved(&secret)));
        }
        trail
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
