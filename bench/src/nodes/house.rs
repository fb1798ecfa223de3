//! The nodes, their Redis, and all who are connected to them.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use duplex_rigs::Redis;

use crate::deadline::Deadline;
use crate::failure::Failure;
use crate::limits::crowd::{Crowd, answers};
use crate::limits::words::{connect, subscribe};
use crate::load::{IN_FLIGHT_MAX, WAIT_MAX};
use crate::measure;
use crate::subjects::Server;
use crate::work::Bench;

use super::post::{Books, Spent, channel};
use super::{NODES_MAX, Pace, Setting, Traffic};

/// Clients that publish, all at the first node.
const PUBLISHERS: usize = 8;
/// How long what was asked of others may still be under way when clients have their answers.
const SETTLE: Duration = Duration::from_millis(300);
const SECRET: &str = "a secret that the nodes of a benchmark share";

/// Nodes and clients.
pub struct House {
    pub setting: Setting,
    // Dropped in this order: clients first.
    crowd: Crowd,
    pub nodes: Vec<Server>,
    redis: Option<Redis>,
    /// The first subscriber's index.
    first: usize,
    subscribers: usize,
    books: Books,
}

/// What was used while nothing was published.
pub struct Quiet {
    pub spent: Spent,
    /// Pings that clients have answered.
    pub pings: u64,
    /// Scripts that Redis has run.
    pub scripts: u64,
}

impl House {
    /// Starts everything, and lets the publishers come.
    pub fn build(
        bench: &Bench,
        setting: Setting,
        settings: &[(&str, &str)],
        deadline: &Deadline,
    ) -> Result<Self, Failure> {
        let redis = match setting {
            Setting::Memory => None,
            Setting::Redis(_) => {
                // It has a core with the nodes.
                bench.starter.cores.enter_server()?;
                let redis = Redis::start();
                bench.starter.cores.enter_load()?;
                Some(redis)
            }
        };
        let url = redis.as_ref().map(Redis::url);
        let mut nodes = Vec::new();
        for number in 0..setting.nodes() {
            let ip = Ipv4Addr::new(127, 0, 0, 10 + u8::try_from(number).expect("nodes are few"));
            let address = SocketAddr::from((ip, duplex_rigs::free_port()));
            let inner = format!("{ip}:{}", duplex_rigs::free_port());
            let mut all = settings.to_vec();
            // Publishers of this benchmark are few, and stand for many.
            all.push(("CLIENT__IN_FLIGHT_MAX", "1000"));
            all.push(("SERVER__CONNECTIONS_PER_ADDRESS_MAX", "20000"));
            all.push(("SERVER__CONNECTIONS_PER_ADDRESS_PER_SECOND", "20000"));
            all.push(("SERVER__CONNECTIONS_PER_ADDRESS_BURST", "20000"));
            if let Some(url) = &url {
                all.extend([("BROKER__URL", url.as_str()), ("CLUSTER__LISTEN", &inner)]);
                all.push(("CLUSTER__SECRET", SECRET));
            }
            nodes.push(bench.starter.start_at(address, &all, deadline)?);
        }
        let mut crowd = Crowd::new(nodes[0].address)?;
        crowd.join(PUBLISHERS, PUBLISHERS, deadline, |_| vec![connect(None)], answers)?;
        let subscribers = bench.sizes.nodes_subscribers;
        let books = Books::new(PUBLISHERS, subscribers, bench.sizes.nodes_channels);
        Ok(Self { setting, crowd, nodes, redis, first: PUBLISHERS, subscribers, books })
    }

    pub fn subscribers(&self) -> usize {
        self.subscribers
    }

    /// Lets all subscribers come, one to each node in turn, each to a channel of its own and to one that it shares.
    pub fn join(&mut self, deadline: &Deadline) -> Result<Spent, Failure> {
        let before = self.spent()?;
        let (first, channels) = (self.first, self.books.channels);
        let addresses: Vec<SocketAddr> = self.nodes.iter().map(|node| node.address).collect();
        let opening = |index: usize| {
            let number = index - first;
            vec![
                connect(None),
                subscribe(&channel(Traffic::Own, number), None),
                subscribe(&channel(Traffic::Shared, number / NODES_MAX % channels), None),
            ]
        };
        self.crowd.join_in_turn(&addresses, self.subscribers, IN_FLIGHT_MAX, deadline, opening, answers)?;
        self.listen_for(SETTLE, deadline)?;
        Ok(self.spent()?.since(&before))
    }

    /// Publishes for so long, and waits for all that comes of it.
    pub fn publish(
        &mut self,
        traffic: Traffic,
        pace: Pace,
        length: Duration,
        deadline: &Deadline,
    ) -> Result<Spent, Failure> {
        self.books.open();
        let before = self.spent()?;
        let end = Instant::now() + length;
        loop {
            let is_time = Instant::now() < end;
            if is_time && self.books.has_room(traffic, pace.under_way()) {
                let (publisher, text) = self.books.next(traffic);
                self.crowd.say(publisher, [text])?;
                continue;
            }
            if !is_time && self.books.is_done() {
                break;
            }
            let books = &mut self.books;
            self.crowd.turn(WAIT_MAX, deadline, |index, heard| books.hear(index, heard))?;
        }
        let mut spent = self.spent()?.since(&before);
        (spent.publications, spent.deliveries) = self.books.count();
        // Nobody must get anything twice.
        self.listen_for(SETTLE / 3, deadline)?;
        Ok(spent)
    }

    /// Lets everybody be for so long.
    pub fn rest(&mut self, length: Duration, deadline: &Deadline) -> Result<Quiet, Failure> {
        let (pings, scripts) = (self.crowd.pings(), self.scripts());
        let before = self.spent()?;
        self.listen_for(length, deadline)?;
        let spent = self.spent()?.since(&before);
        Ok(Quiet { spent, pings: self.crowd.pings() - pings, scripts: self.scripts() - scripts })
    }

    fn listen_for(&mut self, length: Duration, deadline: &Deadline) -> Result<(), Failure> {
        let end = Instant::now() + length;
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            let books = &mut self.books;
            self.crowd.turn(left, deadline, |index, heard| books.hear(index, heard))?;
        }
        Ok(())
    }

    /// CPU time until now.
    fn spent(&self) -> Result<Spent, Failure> {
        let nodes = self.nodes.iter().map(Server::cpu_time).collect::<Result<_, _>>()?;
        let redis = self.redis.as_ref().map(|redis| measure::cpu_time(redis.pid())).transpose()?;
        Ok(Spent { nodes, redis: redis.unwrap_or_default(), ..Spent::begin() })
    }

    /// Scripts that Redis has run until now.
    fn scripts(&self) -> u64 {
        let Some(redis) = &self.redis else { return 0 };
        let stats = redis.cli(&["INFO", "commandstats"]);
        let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
        line.and_then(|rest| rest.split(',').next()?.parse().ok()).unwrap_or_default()
    }
}
