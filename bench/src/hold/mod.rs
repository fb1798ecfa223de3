//! A crowd that one process cannot hold: several nodes, each with as many clients as it may have open files, and as many
//! processes that are the clients. What an idle client costs, and how long a publication takes to all of them.

pub mod group;

use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use duplex_rigs::Redis;
use serde_json::json;

use crate::deadline::Deadline;
use crate::failure::Failure;
use crate::limits::crowd::{Crowd, answers};
use crate::limits::words::connect;
use crate::measure;
use crate::subjects::Server;
use crate::work::{Bench, Measured, Metric};

use group::Group;

/// Clients of one node, and of one process that is its clients: a process may have 20,000 open files on many systems.
pub const GROUP_MAX: usize = 17_000;
/// Open files that a process needs besides its clients.
pub const OTHER_FILES: u64 = 500;
/// In a group, before memory is measured: what is allocated once is there then.
const WARM: usize = 100;
/// Everything that is done among nodes of one kind.
const LENGTH_MAX: Duration = Duration::from_secs(300);
/// Between two publications, so that none waits for what the one before has left to do.
const PAUSE: Duration = Duration::from_millis(200);
/// How long memory must stand still, and when we look anyway.
const STILL: Duration = Duration::from_secs(1);
const STILL_WITHIN: Duration = Duration::from_secs(15);
const STILL_BYTES: u64 = 256 * 1024;

/// How many nodes so many clients take: several in any case.
pub fn nodes(clients: usize) -> usize {
    clients.div_ceil(GROUP_MAX).max(3)
}

/// How nodes meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Among {
    /// Not at all: each has a broker in memory, and is given each publication.
    Apart,
    /// Through one Redis: one of them is given each publication.
    Redis,
}

/// What comes out of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Figure {
    /// Memory of the nodes per client, bytes.
    NodeBytes,
    /// Memory of the processes that are the clients, per client, bytes.
    ClientBytes,
    /// Until all are connected and subscribed, s.
    Joined,
    /// From the moment at which a publication is sent until the first has it, half of all, all but one in a hundred, and the last, ms.
    First,
    Median,
    P99,
    Last,
}

/// Nodes apart, and together as far as there is something to meet through.
pub fn all(bench: &Bench) -> Result<Measured, Failure> {
    let mut measured = hold(bench, Among::Apart)?;
    if duplex_rigs::is_installed("redis-server") {
        measured.extend(hold(bench, Among::Redis)?);
    } else {
        eprintln!("NOTE: nodes on one Redis are LEFT OUT: there is no redis-server.");
    }
    Ok(measured)
}

/// Holds so many clients on as many nodes as that takes.
fn hold(bench: &Bench, among: Among) -> Result<Measured, Failure> {
    let deadline = bench.interrupt.deadline("holding a crowd", LENGTH_MAX);
    let redis = (among == Among::Redis).then(Redis::start);
    let mut house = House::build(bench, redis.as_ref(), &deadline)?;
    house.join(WARM, &deadline)?;
    let before = house.settled(&deadline)?;
    let begin = Instant::now();
    house.join_rest(bench.sizes.held_clients, &deadline)?;
    let joined = begin.elapsed();
    let after = house.settled(&deadline)?;
    let count = (bench.sizes.held_clients - WARM * house.nodes.len()) as f64;
    let per_client = |before: u64, after: u64| after.saturating_sub(before) as f64 / count;
    let mut measured = vec![
        (Figure::NodeBytes, per_client(before.nodes, after.nodes)),
        (Figure::ClientBytes, per_client(before.clients, after.clients)),
        (Figure::Joined, joined.as_secs_f64()),
    ];
    let mut publishers = house.publishers(among, &deadline)?;
    for number in 0..bench.sizes.held_publications {
        let delays = house.publish(&mut publishers, number, &deadline)?;
        measured.extend(summary(&delays));
        rest(&mut publishers, PAUSE, &deadline)?;
    }
    house.end()?;
    Ok(medians(&measured).into_iter().map(|(figure, value)| (Metric::Hold(among, figure), value)).collect())
}

/// The nodes and their clients.
struct House {
    // Dropped in this order: clients first.
    groups: Vec<Group>,
    nodes: Vec<Server>,
}

/// Memory of both sides, bytes.
#[derive(Clone, Copy)]
struct Level {
    nodes: u64,
    clients: u64,
}

impl House {
    fn build(bench: &Bench, redis: Option<&Redis>, deadline: &Deadline) -> Result<Self, Failure> {
        let count = nodes(bench.sizes.held_clients);
        let url = redis.map(Redis::url);
        let mut settings = vec![
            ("SERVER__CONNECTIONS_PER_ADDRESS_MAX", "20000"),
            ("SERVER__CONNECTIONS_PER_ADDRESS_PER_SECOND", "20000"),
            ("SERVER__CONNECTIONS_PER_ADDRESS_BURST", "20000"),
        ];
        if let Some(url) = &url {
            settings.push(("BROKER__URL", url));
        }
        let mut house = Self { groups: Vec::new(), nodes: Vec::new() };
        for number in 0..count {
            let ip = Ipv4Addr::new(127, 0, 0, 10 + u8::try_from(number).expect("nodes are few"));
            let address = SocketAddr::from((ip, duplex_rigs::free_port()));
            house.nodes.push(bench.starter.start_at(address, &settings, deadline)?);
            house.groups.push(Group::start(address)?);
        }
        Ok(house)
    }

    /// Lets so many more join each group.
    fn join(&mut self, count: usize, deadline: &Deadline) -> Result<(), Failure> {
        let counts = vec![count; self.groups.len()];
        self.join_each(&counts, deadline)
    }

    /// Lets so many more join that there are `total`.
    fn join_rest(&mut self, total: usize, deadline: &Deadline) -> Result<(), Failure> {
        let groups = self.groups.len();
        let wanted = |number: usize| total / groups + usize::from(number < total % groups);
        let counts: Vec<usize> =
            self.groups.iter().enumerate().map(|(number, group)| wanted(number) - group.members).collect();
        self.join_each(&counts, deadline)
    }

    fn join_each(&mut self, counts: &[usize], deadline: &Deadline) -> Result<(), Failure> {
        for (group, count) in self.groups.iter_mut().zip(counts) {
            group.ask_to_join(*count)?;
        }
        self.groups.iter_mut().try_for_each(|group| group.await_joined(deadline))
    }

    fn level(&self) -> Result<Level, Failure> {
        let mut level = Level { nodes: 0, clients: 0 };
        for (node, group) in self.nodes.iter().zip(&self.groups) {
            level.nodes += node.resident_bytes()?;
            level.clients += measure::resident_bytes(group.id())?;
        }
        Ok(level)
    }

    /// Memory once that of the nodes has stood still.
    fn settled(&self, deadline: &Deadline) -> Result<Level, Failure> {
        let begin = Instant::now();
        let mut reference = self.level()?;
        let mut since = begin;
        while since.elapsed() < STILL && begin.elapsed() < STILL_WITHIN {
            deadline.check()?;
            thread::sleep(Duration::from_millis(100));
            let now = self.level()?;
            if now.nodes.abs_diff(reference.nodes) > STILL_BYTES {
                reference = now;
                since = Instant::now();
            }
        }
        self.level()
    }

    /// One at each node that is given publications.
    fn publishers(&self, among: Among, deadline: &Deadline) -> Result<Vec<Crowd>, Failure> {
        let nodes = match among {
            Among::Apart => &self.nodes[..],
            Among::Redis => &self.nodes[..1],
        };
        let publisher = |node: &Server| {
            let mut publisher = Crowd::new(node.address)?;
            publisher.join(1, 1, deadline, |_| vec![connect(None)], answers)?;
            Ok(publisher)
        };
        nodes.iter().map(publisher).collect()
    }

    /// Publishes and waits until everybody has it. Returns how long that took for each, µs, in order.
    fn publish(
        &mut self,
        publishers: &mut [Crowd],
        number: u64,
        deadline: &Deadline,
    ) -> Result<Vec<u64>, Failure> {
        let at = now_us();
        for publisher in publishers {
            publisher.say(0, [publication(number, at)])?;
        }
        let mut delays = Vec::new();
        for group in &mut self.groups {
            delays.extend(group.await_delays(deadline)?);
        }
        let members: usize = self.groups.iter().map(|group| group.members).sum();
        if delays.len() != members {
            return Err(Failure::OutOfOrder { expected: members as u64, got: delays.len() as u64 });
        }
        delays.sort_unstable();
        Ok(delays)
    }

    /// Nobody must have got anything more.
    fn end(self) -> Result<(), Failure> {
        self.groups.into_iter().try_for_each(Group::end)
    }
}

/// Lets publishers answer what they are asked.
fn rest(publishers: &mut [Crowd], length: Duration, deadline: &Deadline) -> Result<(), Failure> {
    let end = Instant::now() + length;
    while Instant::now() < end {
        for publisher in &mut *publishers {
            publisher.turn(Duration::from_millis(5), deadline, answers)?;
        }
    }
    Ok(())
}

fn publication(number: u64, at: u64) -> Vec<u8> {
    json!({ "publish": { "channel": "bench", "data": { "number": number, "at": at } } })
        .to_string()
        .into_bytes()
}

/// The time of day, which all processes of a machine share, µs.
pub fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Of delays in order, µs.
fn summary(delays: &[u64]) -> [(Figure, f64); 4] {
    let at = |part: f64| {
        let index = (delays.len() as f64 * part).ceil() as usize;
        delays.get(index.clamp(1, delays.len().max(1)) - 1).map_or(f64::NAN, |us| *us as f64 / 1e3)
    };
    [(Figure::First, at(0.0)), (Figure::Median, at(0.5)), (Figure::P99, at(0.99)), (Figure::Last, at(1.0))]
}

/// One value of each figure.
fn medians(measured: &[(Figure, f64)]) -> Vec<(Figure, f64)> {
    let mut figures: Vec<Figure> = measured.iter().map(|(figure, _)| *figure).collect();
    figures.sort();
    figures.dedup();
    let values =
        |figure| measured.iter().filter(|(f, _)| *f == figure).map(|(_, value)| *value).collect::<Vec<_>>();
    figures.into_iter().filter_map(|figure| Some((figure, measure::median(&values(figure))?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_names_the_first_the_middle_and_the_last() {
        let delays: Vec<u64> = (1..=200).map(|number| number * 1_000).collect();
        let figures = summary(&delays).map(|(_, value)| value);
        assert_eq!(figures, [1.0, 100.0, 198.0, 200.0]);
        assert_eq!(summary(&[7_000])[2], (Figure::P99, 7.0));
    }

    #[test]
    fn each_figure_is_the_median_of_its_values() {
        let measured = [(Figure::Last, 3.0), (Figure::First, 1.0), (Figure::Last, 9.0), (Figure::Last, 4.0)];
        assert_eq!(medians(&measured), [(Figure::First, 1.0), (Figure::Last, 4.0)]);
    }
}
