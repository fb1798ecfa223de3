//! The tables of one node and several.

use super::markdown::spread;
use super::{Ratio, Record, grouped};
use crate::measure::median;
use crate::nodes::{
    Asked, Figure, PACES, Pace, Part, Place, Point, Presence, SETTINGS, Setting, TRAFFIC, Traffic, Upkeep,
    Who,
};
use crate::subjects::Subject;
use crate::work::Metric;

const PARTS: [(Part, &str); 6] = [
    (Part::Take, "taking a publication, in memory"),
    (Part::TakeOnRedis, "taking a publication, on Redis"),
    (Part::Get, "getting it from Redis, each node with subscribers"),
    (Part::Delivery, "each delivery"),
    (Part::Keep, "Redis: each publication"),
    (Part::Tell, "Redis: each node that it is told"),
];

const UPKEEP: [(Upkeep, &str); 3] = [
    (Upkeep::Rest, "nothing but being there, for a second"),
    (Upkeep::Heartbeat, "a client's ping and pong"),
    (Upkeep::Check, "a look whether a channel's publications have arrived"),
];

const SENT_ON: [(Asked, &str); 2] =
    [(Asked::Message, "a message of a session"), (Asked::Poll, "a poll that is answered with a frame")];

/// Names of the figures for other programs, units last.
pub fn key(point: Point) -> String {
    let text = match point {
        Point::Published(setting, traffic, pace, figure) => {
            let unit = match figure {
                Figure::Accepted | Figure::Delivered => "per_second",
                Figure::PerCore => "per_core_second",
                Figure::Given | Figure::Other | Figure::Redis => "cpu_us",
            };
            format!("{}_{traffic:?}_{pace:?}_{figure:?}_{unit}", place(setting))
        }
        Point::Part(pace, part) => format!("part_{pace:?}_{part:?}_cpu_us"),
        Point::Joined(setting, presence, who) => {
            format!("{}_join_presence_{presence:?}_{who:?}_cpu_us", place(setting))
        }
        Point::Upkeep(upkeep, who) => format!("{upkeep:?}_{who:?}_cpu_us"),
        Point::SentOn(asked, place) => format!("sent_on_{asked:?}_{place:?}_cpu_us"),
    };
    format!("nodes_{text}").to_lowercase()
}

fn place(setting: Setting) -> String {
    match setting {
        Setting::Memory => "memory".into(),
        Setting::Redis(nodes) => format!("redis_{nodes}"),
    }
}

/// Empty if nothing of it was measured.
pub fn render(record: &Record) -> String {
    let figures = Figures(record);
    if figures.of(Point::Part(Pace::Full, Part::Take)).is_none() {
        return String::new();
    }
    let paces = PACES.map(|pace| figures.published(pace)).concat();
    [
        figures.at_full_pace(),
        figures.ratios(),
        paces,
        figures.parts(),
        figures.joined(),
        figures.others(),
        explanation(record),
    ]
    .concat()
}

struct Figures<'a>(&'a Record);

impl Figures<'_> {
    fn of(&self, point: Point) -> Option<f64> {
        median(self.0.samples.get(&(Metric::Nodes(point), Subject::Duplex))?)
    }

    /// A cell; empty without a figure.
    fn cell(&self, point: Point, decimals: usize) -> String {
        self.of(point).map_or(String::new(), |value| grouped(value, decimals))
    }

    /// A cell for each setting.
    fn cells(&self, decimals: usize, point: impl Fn(Setting) -> Point) -> String {
        SETTINGS.map(|setting| self.cell(point(setting), decimals)).join(" | ")
    }

    fn at_full_pace(&self) -> String {
        let mut out = heading("256 under way");
        for (traffic, title) in TRAFFIC.map(|traffic| (traffic, self.title(traffic))) {
            let figure = |figure| move |setting| Point::Published(setting, traffic, Pace::Full, figure);
            out += &format!("| {title}: publications/s | {} |\n", self.cells(0, figure(Figure::Accepted)));
            out += &format!("| the same per second of CPU | {} |\n", self.cells(0, figure(Figure::PerCore)));
            if traffic == Traffic::Shared {
                out += &format!("| deliveries/s | {} |\n", self.cells(0, figure(Figure::Delivered)));
            }
        }
        out
    }

    fn ratios(&self) -> String {
        let mut out = "\n| ratio (least – most of the rounds) | Redis, 1 node ÷ memory | Redis, 2 nodes ÷ 1 | Redis, 4 nodes ÷ 1 |\n\
                       |---|---:|---:|---:|\n"
            .to_owned();
        for traffic in TRAFFIC {
            let samples = |setting| {
                let point = Point::Published(setting, traffic, Pace::Full, Figure::PerCore);
                self.0.samples.get(&(Metric::Nodes(point), Subject::Duplex))
            };
            let ratio = |ours, base| Some(spread(Ratio::of(samples(ours)?, samples(base)?)?));
            let cells = [
                ratio(Setting::Redis(1), Setting::Memory),
                ratio(Setting::Redis(2), Setting::Redis(1)),
                ratio(Setting::Redis(4), Setting::Redis(1)),
            ];
            let cells = cells.map(Option::unwrap_or_default);
            out += &format!(
                "| {}: publications per second of CPU | {} |\n",
                self.title(traffic),
                cells.join(" | ")
            );
        }
        out
    }

    fn published(&self, pace: Pace) -> String {
        let mut out = heading(&format!("{} under way, µs CPU per publication", pace.under_way()));
        for (traffic, title) in TRAFFIC.map(|traffic| (traffic, self.title(traffic))) {
            for (figure, who) in [
                (Figure::Given, "the node that is given it"),
                (
                    Figure::Other,
                    if traffic == Traffic::Unheard { "another node" } else { "another node that gets it" },
                ),
                (Figure::Redis, "Redis"),
            ] {
                let point = |setting| Point::Published(setting, traffic, pace, figure);
                let decimals = if traffic == Traffic::Unheard && figure == Figure::Other { 2 } else { 1 };
                out += &format!("| {title}: {who} | {} |\n", self.cells(decimals, point));
            }
        }
        out
    }

    fn parts(&self) -> String {
        let mut out = "\n| so a publication costs, µs CPU | 1 under way | 16 | 256 |\n|---|---:|---:|---:|\n"
            .to_owned();
        for (part, title) in PARTS {
            let cells = PACES.map(|pace| self.cell(Point::Part(pace, part), 2));
            out += &format!("| {title} | {} |\n", cells.join(" | "));
        }
        out
    }

    fn joined(&self) -> String {
        let mut out = heading("a client that connects and subscribes to two channels, µs CPU");
        for (presence, who, title) in [
            (Presence::Off, Who::Nodes, "nodes"),
            (Presence::Off, Who::Redis, "Redis"),
            (Presence::On, Who::Nodes, "nodes, with presence"),
            (Presence::On, Who::Redis, "Redis, with presence"),
        ] {
            out += &format!(
                "| {title} | {} |\n",
                self.cells(1, |setting| Point::Joined(setting, presence, who))
            );
        }
        out
    }

    fn others(&self) -> String {
        let mut out = "\n| without publications, µs CPU | node | Redis |\n|---|---:|---:|\n".to_owned();
        for (upkeep, title) in UPKEEP {
            let cells = [Who::Nodes, Who::Redis].map(|who| self.cell(Point::Upkeep(upkeep, who), 1));
            out += &format!("| {title} | {} |\n", cells.join(" | "));
        }
        out += "\n| a request, µs CPU | at the right node | sent on: node asked | sent on: node of the session |\n|---|---:|---:|---:|\n";
        for (asked, title) in SENT_ON {
            let places = [Place::Right, Place::Wrong, Place::Behind];
            let cells = places.map(|place| self.cell(Point::SentOn(asked, place), 1));
            out += &format!("| {title} | {} |\n", cells.join(" | "));
        }
        out
    }

    fn title(&self, traffic: Traffic) -> String {
        match traffic {
            Traffic::Unheard => "no subscribers".into(),
            Traffic::Own => "1 subscriber".into(),
            Traffic::Shared => format!("{} subscribers", self.0.sizes.nodes_listeners()),
        }
    }
}

fn heading(title: &str) -> String {
    let names = SETTINGS.map(|setting| match setting {
        Setting::Memory => "memory, 1 node".to_owned(),
        Setting::Redis(1) => "Redis, 1 node".to_owned(),
        Setting::Redis(nodes) => format!("Redis, {nodes} nodes"),
    });
    format!("\n| {title} | {} |\n|---|{}\n", names.join(" | "), "---:|".repeat(names.len()))
}

fn explanation(record: &Record) -> String {
    let sizes = &record.sizes;
    let count = |value: usize| grouped(value as f64, 0);
    format!(
        "\n{} clients over WebSockets, as many on each node, each subscribed to a channel of its own and to one of {} that they \
         share, so that a node has as many subscribers of each of those as any other. Publications of {} bytes are made by clients of \
         the first node, into 1,000 channels without subscribers, into those with one each, or into those that are shared, always in turn, \
         for {} s each: the next when the one before is accepted and delivered, or with 16 or 256 under way, where subscribers of a \
         channel get several in one write. All nodes, of one shard each, and their Redis, which writes nothing to a disk, share one core, \
         the clients have the other: so several nodes cannot do more here than one, and what carries over to other machines is CPU time. \
         Namespaces keep 100 publications for each channel. What a publication consists of is taken from differences: in memory, \
         between many deliveries and one; on four nodes, between publications to one subscriber, \
         whose node is told and gets it, and to none. Each delivery \
         is checked for loss, doubling and order; a run that lost one prints nothing.\n",
        count(sizes.nodes_subscribers),
        sizes.nodes_channels,
        crate::load::message::BYTES,
        sizes.nodes_length.as_secs_f64(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::example;

    #[test]
    fn figures_stand_in_the_column_of_their_nodes() {
        let mut record = example();
        assert_eq!(render(&record), "");
        let mut note = |point, value| {
            record.samples.insert((Metric::Nodes(point), Subject::Duplex), vec![value]);
        };
        note(Point::Part(Pace::Full, Part::Take), 3.25);
        note(Point::Published(Setting::Redis(2), Traffic::Shared, Pace::Single, Figure::Redis), 41.0);
        note(Point::SentOn(Asked::Poll, Place::Wrong), 30.0);
        let text = render(&record);
        for line in [
            "| taking a publication, in memory |  |  | 3.25 |",
            "| 100 subscribers: Redis |  |  | 41.0 |  |",
            "| a poll that is answered with a frame |  | 30.0 |  |",
        ] {
            assert!(text.contains(line), "{line}\nis not in\n{text}");
        }
    }

    #[test]
    fn a_program_finds_each_figure_by_a_name_of_its_own() {
        let point = Point::Published(Setting::Redis(4), Traffic::Own, Pace::Single, Figure::Other);
        assert_eq!(key(point), "nodes_redis_4_own_single_other_cpu_us");
        assert_eq!(key(Point::Upkeep(Upkeep::Check, Who::Redis)), "nodes_check_redis_cpu_us");
    }
}
