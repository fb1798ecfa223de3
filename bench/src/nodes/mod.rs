//! What a cluster costs: the same subscribers on one node with a broker in memory, and on one, two and four nodes that meet
//! through a Redis. All share a core, so what counts is CPU time: of the node that is given a publication, of one that has
//! subscribers of its channel, of one that has none, and of Redis.

mod house;
mod post;
mod sent_on;

use std::time::Duration;

use crate::deadline::Deadline;
use crate::failure::Failure;
use crate::work::{Bench, Measured, Metric};

use house::House;
use post::Spent;

/// Everything that is done in one round.
const LENGTH_MAX: Duration = Duration::from_secs(300);
/// Subscribers come in blocks of so many, which are one on each node where there are so many nodes.
pub const NODES_MAX: usize = 4;
/// How often nodes do what they do every 25 s, where its cost is looked for.
const OFTEN: &str = "1s";

/// Where the subscribers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Setting {
    /// One node with a broker in memory.
    Memory,
    /// So many nodes that meet through one Redis.
    Redis(usize),
}

pub const SETTINGS: [Setting; 4] = [Setting::Memory, Setting::Redis(1), Setting::Redis(2), Setting::Redis(4)];

impl Setting {
    pub fn nodes(self) -> usize {
        match self {
            Self::Memory => 1,
            Self::Redis(nodes) => nodes,
        }
    }
}

/// Where publications go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Traffic {
    /// Into channels without subscribers.
    Unheard,
    /// Into channels with one subscriber each, one after the other.
    Own,
    /// Into few channels, which share all subscribers, as many of each on every node.
    Shared,
}

pub const TRAFFIC: [Traffic; 3] = [Traffic::Unheard, Traffic::Own, Traffic::Shared];

/// When the next publication is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pace {
    /// When the one before is accepted and delivered.
    Single,
    /// While less than 16 are neither.
    Some,
    /// While less than 256 are neither, so that there is no rest.
    Full,
}

pub const PACES: [Pace; 3] = [Pace::Single, Pace::Some, Pace::Full];

impl Pace {
    /// Publications that are under way at a time.
    pub fn under_way(self) -> u64 {
        match self {
            Self::Single => 1,
            Self::Some => 16,
            Self::Full => 256,
        }
    }
}

/// What is told of publications.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Figure {
    /// Publications accepted per second.
    Accepted,
    /// Deliveries per second.
    Delivered,
    /// Publications for each second of CPU that nodes and Redis used together.
    PerCore,
    /// CPU of the node that publications are made at, per publication, µs.
    Given,
    /// CPU of another node, per publication in a channel that it has subscribers of; without any, per publication, µs.
    Other,
    /// CPU of Redis per publication, µs.
    Redis,
}

/// What a publication's cost consists of, µs CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Taking a publication in memory.
    Take,
    /// Taking one on Redis.
    TakeOnRedis,
    /// Getting it from Redis, on each node with subscribers.
    Get,
    /// Each delivery.
    Delivery,
    /// In Redis, each publication.
    Keep,
    /// In Redis, for each node with subscribers.
    Tell,
}

/// What nodes do though nothing is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Upkeep {
    /// Being there with all their clients, for a second.
    Rest,
    /// A client's ping and pong.
    Heartbeat,
    /// Looking whether everything of a channel has arrived.
    Check,
}

/// A process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    Nodes,
    Redis,
}

/// A request of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asked {
    /// Brings a message up.
    Message,
    /// Takes a frame down that waits.
    Poll,
}

/// Who does what for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The node of the session, asked by the client.
    Right,
    /// Another node, asked by the client.
    Wrong,
    /// The node of the session, asked by that one.
    Behind,
}

/// Whether it is known who is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Presence {
    Off,
    On,
}

/// One figure of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    Published(Setting, Traffic, Pace, Figure),
    Part(Pace, Part),
    /// CPU per client that connects and subscribes to two channels, µs.
    Joined(Setting, Presence, Who),
    /// CPU of each, µs.
    Upkeep(Upkeep, Who),
    /// CPU per request, µs.
    SentOn(Asked, Place),
}

type Points = Vec<(Point, f64)>;

/// One round of everything.
pub fn all(bench: &Bench) -> Result<Measured, Failure> {
    let deadline = bench.interrupt.deadline("measuring nodes", LENGTH_MAX);
    if !duplex_rigs::is_installed("redis-server") {
        eprintln!("NOTE: nodes are LEFT OUT: there is no redis-server.");
        return Ok(Measured::new());
    }
    let mut points = Points::new();
    for setting in SETTINGS {
        let mut house = House::build(bench, setting, &[("NAMESPACE__DEFAULT__PRESENCE", "off")], &deadline)?;
        points.extend(joined(&mut house, Presence::Off, &deadline)?);
        points.extend(published(bench, &mut house, &deadline)?);
        if setting == Setting::Redis(2) {
            let figures = sent_on::measure(&house, bench.sizes.nodes_requests, &deadline)?;
            points.extend(figures.map(|(asked, place, cost)| (Point::SentOn(asked, place), cost)));
        }
    }
    points.extend(upkeep(bench, &deadline)?);
    let mut house =
        House::build(bench, Setting::Redis(1), &[("NAMESPACE__DEFAULT__PRESENCE", "on")], &deadline)?;
    points.extend(joined(&mut house, Presence::On, &deadline)?);
    let parts = PACES.into_iter().flat_map(|pace| parts(&points, pace, bench.sizes.nodes_listeners()));
    let parts: Points = parts.collect();
    points.extend(parts);
    Ok(points.into_iter().map(|(point, value)| (Metric::Nodes(point), value)).collect())
}

/// Lets all subscribers come.
fn joined(house: &mut House, presence: Presence, deadline: &Deadline) -> Result<Points, Failure> {
    let spent = house.join(deadline)?;
    let count = house.subscribers() as f64;
    let setting = house.setting;
    let mut points =
        vec![(Point::Joined(setting, presence, Who::Nodes), micros(spent.nodes.iter().sum()) / count)];
    if setting != Setting::Memory {
        points.push((Point::Joined(setting, presence, Who::Redis), micros(spent.redis) / count));
    }
    Ok(points)
}

fn published(bench: &Bench, house: &mut House, deadline: &Deadline) -> Result<Points, Failure> {
    let mut points = Points::new();
    for pace in PACES {
        for traffic in TRAFFIC {
            // What is allocated once is there then.
            house.publish(traffic, pace, bench.sizes.nodes_length / 5, deadline)?;
            let spent = house.publish(traffic, pace, bench.sizes.nodes_length, deadline)?;
            let figures = figures(&spent, house.setting, traffic);
            points.extend(
                figures
                    .into_iter()
                    .map(|(figure, value)| (Point::Published(house.setting, traffic, pace, figure), value)),
            );
        }
    }
    Ok(points)
}

fn figures(spent: &Spent, setting: Setting, traffic: Traffic) -> Vec<(Figure, f64)> {
    let publications = spent.publications as f64;
    let seconds = spent.length.as_secs_f64();
    let all = spent.nodes.iter().sum::<Duration>() + spent.redis;
    let mut figures = vec![
        (Figure::Accepted, publications / seconds),
        (Figure::Delivered, spent.deliveries as f64 / seconds),
        (Figure::PerCore, publications / all.as_secs_f64()),
        (Figure::Given, micros(spent.nodes[0]) / publications),
    ];
    if let Setting::Redis(nodes) = setting {
        figures.push((Figure::Redis, micros(spent.redis) / publications));
        if nodes > 1 {
            let others = (nodes - 1) as f64;
            let had = match traffic {
                Traffic::Unheard | Traffic::Shared => publications * others,
                Traffic::Own => publications * others / nodes as f64,
            };
            figures.push((Figure::Other, micros(spent.nodes[1..].iter().sum()) / had));
        }
    }
    figures
}

/// What the figures of a round say about the parts of a publication's cost, where a shared channel has so many `listeners`.
fn parts(points: &[(Point, f64)], pace: Pace, listeners: usize) -> Points {
    let of = |setting, traffic, figure| {
        let wanted = Point::Published(setting, traffic, pace, figure);
        points.iter().find(|(point, _)| *point == wanted).map_or(f64::NAN, |(_, value)| *value)
    };
    let most = Setting::Redis(NODES_MAX);
    let redis = |traffic| of(most, traffic, Figure::Redis);
    let memory = |traffic| of(Setting::Memory, traffic, Figure::Given);
    let delivery = (memory(Traffic::Shared) - memory(Traffic::Own)) / (listeners as f64 - 1.0);
    let values = [
        (Part::Take, memory(Traffic::Unheard)),
        (Part::TakeOnRedis, of(most, Traffic::Unheard, Figure::Given)),
        (Part::Get, of(most, Traffic::Own, Figure::Other) - delivery),
        (Part::Delivery, delivery),
        (Part::Keep, redis(Traffic::Unheard)),
        (Part::Tell, redis(Traffic::Own) - redis(Traffic::Unheard)),
    ];
    values.into_iter().map(|(part, value)| (Point::Part(pace, part), value)).collect()
}

/// What there is to do though nothing is published.
fn upkeep(bench: &Bench, deadline: &Deadline) -> Result<Points, Failure> {
    let mut points = Points::new();
    let mut rest = None;
    for (upkeep, setting) in [
        (Upkeep::Rest, None),
        (Upkeep::Heartbeat, Some(("CLIENT__HEARTBEAT", OFTEN))),
        (Upkeep::Check, Some(("CLIENT__POSITION_CHECK", OFTEN))),
    ] {
        let settings: Vec<_> = setting.into_iter().chain([("NAMESPACE__DEFAULT__PRESENCE", "off")]).collect();
        let mut house = House::build(bench, Setting::Redis(1), &settings, deadline)?;
        house.join(deadline)?;
        let quiet = house.rest(bench.sizes.nodes_length * 2, deadline)?;
        let costs = [(Who::Nodes, quiet.spent.nodes[0]), (Who::Redis, quiet.spent.redis)];
        let seconds = quiet.spent.length.as_secs_f64();
        let per_second = costs.map(|(who, cost)| (who, micros(cost) / seconds));
        let base = *rest.get_or_insert(per_second);
        for ((who, cost), (_, base)) in per_second.into_iter().zip(base) {
            let value = match upkeep {
                Upkeep::Rest => cost,
                Upkeep::Heartbeat => (cost - base) * seconds / quiet.pings as f64,
                Upkeep::Check => (cost - base) * seconds / quiet.scripts as f64,
            };
            points.push((Point::Upkeep(upkeep, who), value));
        }
    }
    Ok(points)
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_without_subscribers_is_told_by_all_publications_and_one_with_some_by_its_own() {
        let spent = Spent {
            publications: 1_000,
            deliveries: 1_000,
            length: Duration::from_secs(1),
            nodes: vec![Duration::from_millis(20), Duration::from_millis(4), Duration::from_millis(2)],
            redis: Duration::from_millis(10),
        };
        let other = |traffic| {
            let figures = figures(&spent, Setting::Redis(3), traffic);
            figures.into_iter().find(|(figure, _)| *figure == Figure::Other).map(|(_, value)| value)
        };
        assert_eq!(other(Traffic::Unheard), Some(3.0));
        assert_eq!(other(Traffic::Shared), Some(3.0));
        assert_eq!(other(Traffic::Own).map(f64::round), Some(9.0));
    }

    #[test]
    fn parts_add_up_to_what_was_measured() {
        let most = Setting::Redis(NODES_MAX);
        let point =
            |setting, traffic, figure, value| (Point::Published(setting, traffic, Pace::Full, figure), value);
        let points = [
            point(Setting::Memory, Traffic::Own, Figure::Given, 12.0),
            point(Setting::Memory, Traffic::Shared, Figure::Given, 12.0 + 99.0 * 5.0),
            point(most, Traffic::Unheard, Figure::Redis, 10.0),
            point(most, Traffic::Own, Figure::Redis, 12.0),
            point(most, Traffic::Own, Figure::Other, 12.0),
        ];
        let parts = parts(&points, Pace::Full, 100);
        let part = |wanted| {
            let found = parts.iter().find(|(point, _)| *point == Point::Part(Pace::Full, wanted));
            found.map(|(_, value)| *value)
        };
        assert_eq!(part(Part::Delivery), Some(5.0));
        assert_eq!(part(Part::Get), Some(7.0));
        assert_eq!((part(Part::Keep), part(Part::Tell)), (Some(10.0), Some(2.0)));
    }
}
