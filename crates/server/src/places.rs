//! How many may connect: at once, from one address, and how fast.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use duplex_core::{Budget, Rate, Spent};

use crate::options::Connections;

/// Most addresses that are remembered. Beyond it, those without a connection are forgotten early.
const ADDRESSES_MAX: usize = 100_000;
/// How long an address without connections is remembered, ms: until its budgets are full again in any case.
const MEMORY_MS: u64 = 60_000;
/// Wrong API keys from one address.
const FAILURES: Rate = Rate { per_second: 1, burst: 20 };

/// The connections of a node, counted.
pub(crate) struct Places {
    limits: RwLock<Limits>,
    connections: AtomicUsize,
    addresses: Mutex<HashMap<IpAddr, Visitor>>,
    clients: Mutex<Budget>,
    closed: AtomicBool,
    refused: Refused,
}

#[derive(Debug, Clone)]
struct Limits {
    connections: Connections,
    proxies: Vec<IpAddr>,
}

/// What is known of an address.
#[derive(Debug, Default)]
struct Visitor {
    connections: usize,
    opened: Budget,
    failures: Budget,
    seen_ms: u64,
}

/// How many were turned away since the start, and why.
#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct Refused {
    node_full: AtomicU64,
    address_full: AtomicU64,
    too_fast: AtomicU64,
    storm: AtomicU64,
    closed: AtomicU64,
    exhausted: AtomicU64,
    wrong_key: AtomicU64,
}

/// Why a connection is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// The node has as many as it may.
    Node,
    /// The address has as many as it may, or opens them too fast.
    Address,
}

/// Whether a client says that it was here before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Returning {
    Yes,
    No,
}

impl Places {
    pub fn new(connections: Connections, proxies: Vec<IpAddr>) -> Arc<Self> {
        Arc::new(Self {
            limits: RwLock::new(Limits { connections, proxies }),
            connections: AtomicUsize::new(0),
            addresses: Mutex::default(),
            clients: Mutex::default(),
            closed: AtomicBool::new(false),
            refused: Refused::default(),
        })
    }

    /// From now on these limits hold, for new connections.
    pub fn set(&self, connections: Connections, proxies: Vec<IpAddr>) {
        *self.limits.write().unwrap_or_else(PoisonError::into_inner) = Limits { connections, proxies };
    }

    /// Connections now.
    pub fn connections(&self) -> usize {
        self.connections.load(Relaxed)
    }

    /// How many connections there may be.
    pub fn limit(&self) -> usize {
        self.limits().connections.node
    }

    /// How many were turned away.
    pub fn refused(&self) -> &Refused {
        &self.refused
    }

    /// A place for a connection from `peer`.
    pub fn take(self: &Arc<Self>, peer: IpAddr, now_ms: u64) -> Result<Place, Full> {
        let limits = self.limits();
        if self.connections.load(Relaxed) >= limits.connections.node {
            self.refused.node_full.fetch_add(1, Relaxed);
            return Err(Full::Node);
        }
        let peer = canonical(peer);
        let address =
            if limits.proxies.contains(&peer) { None } else { Some(self.count(peer, &limits, now_ms)?) };
        self.connections.fetch_add(1, Relaxed);
        Ok(Place { places: Arc::clone(self), _address: address })
    }

    /// A place for a connection of another node. The clients whose requests come on it are counted by their own addresses.
    pub fn take_peers(self: &Arc<Self>) -> Result<Place, Full> {
        if self.connections.load(Relaxed) >= self.limits().connections.node {
            self.refused.node_full.fetch_add(1, Relaxed);
            return Err(Full::Node);
        }
        self.connections.fetch_add(1, Relaxed);
        Ok(Place { places: Arc::clone(self), _address: None })
    }

    /// Counts a client that came through a proxy, by the last address in `forwarded` that is not a proxy's. `None` if the
    /// peer is no proxy, and so counted already, or does not say.
    pub fn take_forwarded(
        self: &Arc<Self>,
        peer: IpAddr,
        forwarded: Option<&str>,
        now_ms: u64,
    ) -> Result<Option<AddressPlace>, Full> {
        match self.limits().proxies.contains(&canonical(peer)) {
            true => self.take_session(peer, forwarded, now_ms),
            false => Ok(None),
        }
    }

    /// Counts a session, which lives on between the connections that carry it, by the address of its client. `None` if that
    /// is a proxy's.
    pub fn take_session(
        self: &Arc<Self>,
        peer: IpAddr,
        forwarded: Option<&str>,
        now_ms: u64,
    ) -> Result<Option<AddressPlace>, Full> {
        let limits = self.limits();
        match self.client(peer, forwarded) {
            client if limits.proxies.contains(&client) => Ok(None),
            client => self.count(client, &limits, now_ms).map(Some),
        }
    }

    /// The address that a request came from.
    pub fn client(&self, peer: IpAddr, forwarded: Option<&str>) -> IpAddr {
        let limits = self.limits();
        let peer = canonical(peer);
        if !limits.proxies.contains(&peer) {
            return peer;
        }
        let named = forwarded.into_iter().flat_map(|list| list.rsplit(','));
        let known = named.map_while(|address| address.trim().parse().ok().map(canonical));
        let mut last = peer;
        for address in known {
            last = address;
            if !limits.proxies.contains(&address) {
                break;
            }
        }
        last
    }

    /// From now on no client is let in: those who are sent away would come back by connections that are still open.
    pub fn close(&self) {
        self.closed.store(true, Relaxed);
    }

    /// Whether another client may be let in; the last quarter is for those who come back.
    pub fn admit(&self, returning: Returning, now_ms: u64) -> Spent {
        if self.closed.load(Relaxed) {
            self.refused.closed.fetch_add(1, Relaxed);
            return Spent::Over;
        }
        let Rate { per_second, burst } = self.limits().connections.clients;
        let burst = match returning {
            Returning::Yes => burst,
            Returning::No => burst - burst / 4,
        };
        let spent = lock(&self.clients).spend(1, Rate { per_second, burst }, now_ms);
        if spent == Spent::Over {
            self.refused.storm.fetch_add(1, Relaxed);
        }
        spent
    }

    /// Whether an address may try an API key; each wrong one is to be reported with [`failed`](Self::failed).
    pub fn may_try(&self, address: IpAddr, now_ms: u64) -> bool {
        let mut addresses = lock(&self.addresses);
        let known = addresses.get_mut(&group(address));
        known.is_none_or(|visitor| visitor.failures.covers(1, FAILURES, now_ms) == Spent::Within)
    }

    /// An address has shown a wrong API key.
    pub fn failed(&self, address: IpAddr, now_ms: u64) {
        self.refused.wrong_key.fetch_add(1, Relaxed);
        let mut addresses = lock(&self.addresses);
        if addresses.len() < ADDRESSES_MAX {
            let visitor = addresses.entry(group(address)).or_default();
            visitor.seen_ms = now_ms;
            visitor.failures.spend(1, FAILURES, now_ms);
        }
    }

    /// The process had no file descriptors for so many connections.
    pub fn exhausted(&self, count: usize) {
        self.refused.exhausted.fetch_add(count as u64, Relaxed);
    }

    /// Forgets addresses that have not been seen for a while. Call it about once a second.
    pub fn sweep(&self, now_ms: u64) {
        lock(&self.addresses)
            .retain(|_, visitor| visitor.connections > 0 || visitor.seen_ms + MEMORY_MS > now_ms);
    }

    fn count(self: &Arc<Self>, address: IpAddr, limits: &Limits, now_ms: u64) -> Result<AddressPlace, Full> {
        let address = group(address);
        let mut addresses = lock(&self.addresses);
        if addresses.len() >= ADDRESSES_MAX && !addresses.contains_key(&address) {
            addresses.retain(|_, visitor| visitor.connections > 0);
            if addresses.len() >= ADDRESSES_MAX {
                self.refused.node_full.fetch_add(1, Relaxed);
                return Err(Full::Node);
            }
        }
        let visitor = addresses.entry(address).or_default();
        visitor.seen_ms = now_ms;
        if visitor.connections >= limits.connections.per_address {
            self.refused.address_full.fetch_add(1, Relaxed);
            return Err(Full::Address);
        }
        if visitor.opened.spend(1, limits.connections.per_address_rate, now_ms) == Spent::Over {
            self.refused.too_fast.fetch_add(1, Relaxed);
            return Err(Full::Address);
        }
        visitor.connections += 1;
        Ok(AddressPlace { places: Arc::clone(self), address })
    }

    fn limits(&self) -> Limits {
        self.limits.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Refused {
    /// Each reason, as in metrics, and how many.
    pub fn counts(&self) -> [(&'static str, u64); 7] {
        let Self { node_full, address_full, too_fast, storm, closed, exhausted, wrong_key } = self;
        [
            ("node_full", node_full),
            ("address_full", address_full),
            ("address_too_fast", too_fast),
            ("clients_too_fast", storm),
            ("stopping", closed),
            ("file_descriptors", exhausted),
            ("wrong_api_key", wrong_key),
        ]
        .map(|(name, count)| (name, count.load(Relaxed)))
    }
}

/// A connection's place. Dropping it frees it.
pub(crate) struct Place {
    places: Arc<Places>,
    _address: Option<AddressPlace>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.connections.fetch_sub(1, Relaxed);
    }
}

/// A place among the connections of an address. Dropping it frees it.
pub(crate) struct AddressPlace {
    places: Arc<Places>,
    address: IpAddr,
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        if let Some(visitor) = lock(&self.places.addresses).get_mut(&self.address) {
            visitor.connections -= 1;
        }
    }
}

/// An IPv4 address that is written as an IPv6 one is the same client.
fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// What counts as one address: of IPv6 a network of 64 bits, which is what one customer gets at least.
fn group(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
    }
}

/// What is counted is right between any two statements, so a panic elsewhere does not make it wrong.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(change: impl FnOnce(&mut Connections)) -> Arc<Places> {
        let mut connections = Connections::default();
        change(&mut connections);
        Places::new(connections, vec![ip("127.0.0.1"), ip("10.0.0.9")])
    }

    fn ip(address: &str) -> IpAddr {
        address.parse().unwrap()
    }

    #[test]
    fn an_address_has_only_so_many_connections_and_gets_room_when_they_end() {
        let places = places(|limits| limits.per_address = 2);
        let mut held: Vec<Place> = Vec::new();
        for (address, full) in [
            ("192.0.2.1", false),
            ("192.0.2.1", false),
            ("::ffff:192.0.2.1", true),
            ("192.0.2.2", false),
            ("2001:db8::1", false),
            ("2001:db8::2", false),
            ("2001:db8:0:0:ffff::", true),
            ("2001:db8:0:1::", false),
        ] {
            match places.take(ip(address), 0) {
                Ok(place) => held.push(place),
                Err(reason) => assert!(full && reason == Full::Address, "{address}"),
            }
        }
        assert_eq!(places.connections(), 6);
        held.clear();
        assert_eq!(places.connections(), 0);
        assert!(places.take(ip("192.0.2.1"), 0).is_ok());
        places.sweep(MEMORY_MS);
        assert!(lock(&places.addresses).is_empty());
    }

    #[test]
    fn a_flapping_address_is_slowed_down() {
        let places = places(|limits| limits.per_address_rate = Rate { per_second: 1, burst: 3 });
        let opened = |now_ms| (0..10).filter(|_| places.take(ip("192.0.2.1"), now_ms).is_ok()).count();
        assert_eq!([opened(0), opened(100), opened(2_000)], [3, 0, 2]);
    }

    #[test]
    fn the_node_has_only_so_many_connections() {
        let places = places(|limits| limits.node = 1);
        let held = places.take(ip("127.0.0.1"), 0);
        assert!(matches!(places.take(ip("192.0.2.1"), 0), Err(Full::Node)));
        drop(held);
        assert!(places.take(ip("192.0.2.1"), 0).is_ok());
        assert_eq!(places.refused().counts()[0], ("node_full", 1));
    }

    #[test]
    fn behind_a_proxy_the_last_address_that_is_not_a_proxy_counts() {
        let places = places(|_| ());
        for (peer, forwarded, client) in [
            ("192.0.2.1", Some("198.51.100.7"), "192.0.2.1"),
            ("127.0.0.1", None, "127.0.0.1"),
            ("127.0.0.1", Some("198.51.100.7"), "198.51.100.7"),
            ("127.0.0.1", Some("203.0.113.5, 198.51.100.7"), "198.51.100.7"),
            ("127.0.0.1", Some("198.51.100.7, 10.0.0.9"), "198.51.100.7"),
            ("127.0.0.1", Some("198.51.100.7, nonsense"), "127.0.0.1"),
            ("127.0.0.1", Some(""), "127.0.0.1"),
            ("::1", Some("198.51.100.7"), "::1"),
        ] {
            assert_eq!(places.client(ip(peer), forwarded), ip(client), "{peer} {forwarded:?}");
        }
        assert!(places.take_forwarded(ip("127.0.0.1"), None, 0).unwrap().is_none());
        assert!(places.take_forwarded(ip("192.0.2.1"), Some("198.51.100.7"), 0).unwrap().is_none());
        assert!(places.take_forwarded(ip("127.0.0.1"), Some("198.51.100.7"), 0).unwrap().is_some());
    }

    #[test]
    fn in_a_storm_those_who_come_back_are_let_in_first() {
        let places = places(|limits| limits.clients = Rate { per_second: 1, burst: 8 });
        let admitted = |returning| (0..10).filter(|_| places.admit(returning, 0) == Spent::Within).count();
        assert_eq!([admitted(Returning::No), admitted(Returning::Yes)], [6, 2]);
    }

    #[test]
    fn whoever_tries_wrong_keys_must_wait() {
        let places = places(|_| ());
        let address = ip("192.0.2.1");
        let tries = (0..100).filter(|_| {
            let may = places.may_try(address, 0);
            if may {
                places.failed(address, 0);
            }
            may
        });
        assert_eq!(tries.count(), 20);
        assert!(places.may_try(ip("192.0.2.2"), 0) && places.may_try(address, 1_000));
    }
}
