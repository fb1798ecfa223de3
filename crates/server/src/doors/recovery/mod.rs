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

use bytes::Bytes;
use duplex_core::{
    ChannelName, ClientId, Cluster, Extent, Health, Kept, Past, Position, Row, ShardId, UserId,
};
use duplex_engine::{Keeper, Settled, Trail};
use duplex_protocol::socketio::{Namespace, Seen};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::row::{Changes, Keeping};
use super::engineio::Connection;
use super::session::{Secret, SessionToken};
use super::socketio::Namespaces;
use super::{Errand, Site};
use crate::drain::Unfinished;

/// Clients of a shard that may come back; beyond it, who has been away longest is forgotten.
const AWAY_MAX: usize = 50_000;
/// Rows that a shard writes at once.
const ROWS_AT_ONCE: usize = 200;

/// What the client calls `pid`: it names the client to itself and to nobody else. It keeps it when it comes back.
pub(super) type Pid = SessionToken;

/// On which shard what is known of a client is: where it was last.
pub(crate) type Whereabouts = Arc<Mutex<HashMap<Secret, ShardId>>>;

/// Clients of all shards that may come back, as other nodes ask for them.
pub(crate) struct Away {
    whereabouts: Whereabouts,
    errands: Arc<[mpsc::Sender<Errand>]>,
}

impl Away {
    pub fn new(whereabouts: Whereabouts, errands: Arc<[mpsc::Sender<Errand>]>) -> Self {
        Self { whereabouts, errands }
    }

    /// Lets go of a client that has come back to another node; calls `released` when it is written down where it stood. A
    /// shard that has too much to do does not answer.
    pub fn release(&self, client: Secret, released: Box<dyn FnOnce() + Send>) {
        let shard = self.whereabouts.lock().unwrap_or_else(PoisonError::into_inner).get(&client).copied();
        let Some(shard) = shard else { return released() };
        let errand: Errand = Box::new(move |site| {
            let writing = site.recoveries.release(&client);
            tokio::task::spawn_local(async move {
                if let Some(writing) = writing {
                    drop(writing.await);
                }
                released();
            });
        });
        if let Some(errands) = self.errands.get(shard.index()) {
            drop(errands.try_send(errand));
        }
    }
}

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
    /// Rows that are written again, when nothing has changed.
    rewrites: VecDeque<Secret>,
    /// When all of them are.
    rewrite_at: Instant,
    /// Whether the broker could be reached when it was looked at last.
    health: Health,
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
    /// The version of its row.
    version: u64,
}

/// What is kept of clients cannot be read now.
#[derive(Debug)]
pub(super) struct Unavailable;

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
        let state = State {
            known: HashMap::default(),
            away: VecDeque::default(),
            rewrites: VecDeque::default(),
            rewrite_at: Instant::now() + row::TTL / 2,
            health: Health::Reachable,
        };
        Self { shard, whereabouts, rows, changes: Rc::default(), state: RefCell::new(state) }
    }

    /// The client of these namespaces may not come back any more.
    pub fn refuse(&self, secret: &Secret, namespaces: &Namespaces) {
        if self.state.borrow().known.get(secret).is_some_and(|known| known.is_of(namespaces)) {
            self.remove(secret);
        }
    }

    fn remove(&self, secret: &Secret) {
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

    /// A client has come back elsewhere: its connection, if it is still there, is over. Ends when it is written down where it
    /// stood.
    fn release(&self, secret: &Secret) -> Option<JoinHandle<()>> {
        let connection = self.state.borrow().known.get(secret)?.connection.upgrade();
        if let Some(connection) = connection {
            connection.over();
        }
        self.state.borrow().known.get(secret)?.write_last(row::TTL)
    }

    fn not_here(&self, secret: &Secret) {
        let mut whereabouts = self.lock();
        // It may have come back to another shard meanwhile.
        if whereabouts.get(secret) == Some(&self.shard) {
            whereabouts.remove(secret);
        }
    }

    /// The connection of these namespaces is gone: their client may come back for so long.
    pub fn left(&self, secret: Secret, namespaces: &Namespaces, ttl: Duration) {
        let until = Instant::now() + ttl;
        let oldest = {
            let state = &mut *self.state.borrow_mut();
            let known = state.known.get_mut(&secret).filter(|known| known.is_of(namespaces));
            let Some(known) = known else { return };
            known.until = Some(until);
            drop(known.write_last(ttl));
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
        let Some((cluster, _)) = &self.rows else { return };
        let changed = self.changes.borrow().len().min(ROWS_AT_ONCE);
        for _ in 0..changed {
            let secret = self.changes.borrow_mut().pop_front();
            secret.inspect(|secret| self.write_row(site, secret, now));
        }
        for _ in changed..ROWS_AT_ONCE {
            let Some(secret) = self.state.borrow_mut().rewrites.pop_front() else { break };
            self.write_row(site, &secret, now);
        }
        let state = &mut *self.state.borrow_mut();
        // What was written last may be lost with the broker that was there before.
        let is_back = state.health == Health::Unreachable && cluster.health() == Health::Reachable;
        state.health = cluster.health();
        if is_back || state.rewrite_at <= now {
            state.rewrite_at = now + row::TTL / 2;
            state.rewrites = state.known.keys().copied().collect();
        }
    }

    /// Writes the row of a client that is sent everything in order from here on.
    fn write_row(&self, site: &Site, secret: &Secret, now: Instant) {
        let state = self.state.borrow();
        let Some(known) = state.known.get(secret) else { return };
        let Some(keeping) = &known.keeping else { return };
        keeping.seen_to();
        if let Some(until) = known.until {
            return drop(known.write_last(until - now));
        }
        let connection = known.connection.upgrade();
        let key = connection.and_then(|connection| connection.namespaces.as_ref()?.key_of(secret));
        match (key.map(|key| site.shard.settled(key)), known.trail.record()) {
            (Some(Settled::Yes), Some(record)) => {
                drop(keeping.write(&record, known.namespace.name(), row::TTL));
            }
            (Some(Settled::NotYet), _) | (Some(Settled::Yes), None) => keeping.changed(),
            (Some(Settled::Never), _) => keeping.erase(),
            // Its session begins.
            (None, _) => {}
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

impl Known {
    /// Whether it is of this connection, and has not come back by another one.
    fn is_of(&self, namespaces: &Namespaces) -> bool {
        let connection = self.connection.upgrade();
        connection.is_none_or(|connection| {
            connection.namespaces.as_deref().is_some_and(|own| std::ptr::eq(own, namespaces))
        })
    }

    /// Writes what was known when it left.
    fn write_last(&self, ttl: Duration) -> Option<JoinHandle<()>> {
        let keeping = self.keeping.as_ref()?;
        let Some(record) = self.trail.record() else {
            // It has asked for more than that is.
            keeping.erase();
            return None;
        };
        Some(keeping.write(&record, self.namespace.name(), ttl))
    }
}

impl Site {
    /// Who comes back by this secret, and where it stands in its channels, if it can get everything that it missed.
    pub(super) async fn recall(
        self: &Rc<Self>,
        pid: Pid,
        namespace: &Namespace,
        last: Option<Seen>,
    ) -> Result<Option<Recalled>, Unavailable> {
        let secret = pid.secret;
        let row = self.kept(secret).await?;
        let found = self.find_client(secret, namespace, last).await;
        let is_here = |found: &Found| row.as_ref().is_none_or(|row| row.version <= found.version);
        let (recalled, row) = match found.filter(is_here) {
            Some(found) => (found.recalled, Bytes::new()),
            None => {
                // Where it was last, or, if nobody has written that down yet, first.
                let writer = row.and_then(|row| row::writer(&row.content)).unwrap_or(pid.node);
                self.talk.release(writer, secret).await;
                match self.kept(secret).await? {
                    Some(row) => (self.read_row(&row, namespace, last).await?, row.content),
                    None => (None, Bytes::new()),
                }
            }
        };
        let Some(recalled) = recalled else { return Ok(None) };
        for (channel, position) in &recalled.stands {
            if self.recovers(channel) && !self.keeps_all_after(channel, *position).await? {
                return Ok(None);
            }
        }
        self.claim(secret, recalled, row).await
    }

    async fn kept(&self, secret: Secret) -> Result<Option<Row>, Unavailable> {
        match &self.carrier.cluster {
            Some(cluster) => cluster.kept(secret).await.map_err(|_| Unavailable),
            None => Ok(None),
        }
    }

    /// What a row says of a client that comes back.
    async fn read_row(
        &self,
        row: &Row,
        namespace: &Namespace,
        last: Option<Seen>,
    ) -> Result<Option<Recalled>, Unavailable> {
        let trail = row::read(&row.content, namespace.name()).and_then(Trail::kept);
        let Some(trail) = trail else { return Ok(None) };
        let stands = self.stands(&trail, last).await?;
        let recalled = trail.whose().zip(stands);
        let version = row.version;
        Ok(recalled.map(|((client, user), stands)| Recalled { client, user, stands, version }))
    }

    /// Takes a client over, of whom `row` is kept meanwhile: of several nodes that try, one has it.
    async fn claim(
        &self,
        secret: Secret,
        recalled: Recalled,
        row: Bytes,
    ) -> Result<Option<Recalled>, Unavailable> {
        let Some(cluster) = &self.carrier.cluster else { return Ok(Some(recalled)) };
        let version = row::next_term(recalled.version);
        let row = Row { version, content: row };
        match cluster.keep(secret, row, row::TTL_MS).await {
            Ok(Kept::Now) => Ok(Some(Recalled { version, ..recalled })),
            Ok(Kept::TooLate) => Ok(None),
            Err(_) => Err(Unavailable),
        }
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
    async fn stands(
        &self,
        trail: &Trail,
        last: Option<Seen>,
    ) -> Result<Option<Vec<(ChannelName, Position)>>, Unavailable> {
        if let Some(stands) = trail.positions(last.map(|last| last.position)) {
            return Ok(Some(stands));
        }
        let Some(last) = last else { return Ok(None) };
        let Some(mut stands) = trail.ahead(last.position) else { return Ok(None) };
        for (channel, at) in &mut stands {
            if *at == last.position || !self.recovers(channel) {
                continue;
            }
            let history = self.ground.broker.history(channel, Extent::After(*at)).await;
            let Past::Kept(publications) = history.map_err(|_| Unavailable)?.past else { return Ok(None) };
            for publication in publications {
                match publication.order {
                    order if order == 0 || last.order == 0 => return Ok(None),
                    order if order > last.order => break,
                    _ => *at = publication.position,
                }
            }
        }
        Ok(Some(stands))
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
        let own = self.nodes.own();
        let keeping = rows.clone().map(|rows| Keeping::new((secret, own), version, rows, Rc::clone(changes)));
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

    async fn keeps_all_after(&self, channel: &ChannelName, position: Position) -> Result<bool, Unavailable> {
        let history = self.ground.broker.history(channel, Extent::After(position)).await;
        history.map(|history| history.past != Past::Lost).map_err(|_| Unavailable)
    }
}
