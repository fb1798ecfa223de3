//! What was measured, and how it is told.

use std::collections::BTreeMap;

use crate::measure::{Cores, Machine, median};
use crate::subjects::Subject;
use crate::work::{Metric, Sizes};

pub mod foreign;
pub mod hold;
pub mod json;
pub mod markdown;
pub mod nodes;
pub mod svg;
pub mod without_websocket;

/// All samples of a run and the circumstances.
pub struct Record {
    pub samples: BTreeMap<(Metric, Subject), Vec<f64>>,
    pub subjects: Vec<Subject>,
    pub rounds: usize,
    pub sizes: Sizes,
    pub machine: Machine,
    pub cores: Cores,
    /// Processors that other programs kept busy meanwhile, if that is known.
    pub disturbance: Option<f64>,
    /// Program and version.
    pub versions: Vec<(String, String)>,
}

/// A figure beside another one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    /// Median of the rounds' ratios.
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

/// How a metric is told.
pub struct Row {
    pub metric: Metric,
    pub title: &'static str,
    pub unit: &'static str,
    pub decimals: usize,
    pub target: Option<Target>,
}

/// What our figure is to stay within.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// So many times the other's.
    Times(f64, Subject),
    /// So much.
    Most(f64),
}

/// Every metric but those that have a table of their own.
pub const ROWS: [Row; 7] = [
    Row {
        metric: Metric::Fanout,
        title: "fan-out, one at a time",
        unit: "µs CPU per delivery",
        decimals: 2,
        target: Some(Target::Times(1.10, Subject::Floor)),
    },
    Row {
        metric: Metric::Burst,
        title: "fan-out, bursts of 8",
        unit: "µs CPU per delivery",
        decimals: 2,
        target: Some(Target::Times(1.30, Subject::Floor)),
    },
    Row {
        metric: Metric::Echo,
        title: "echo",
        unit: "µs CPU per echo",
        decimals: 2,
        target: Some(Target::Times(1.15, Subject::Floor)),
    },
    Row {
        metric: Metric::Connect,
        title: "connect",
        unit: "µs CPU per connect",
        decimals: 1,
        target: Some(Target::Times(0.6, Subject::Ws)),
    },
    Row {
        metric: Metric::Memory,
        title: "idle client",
        unit: "bytes of memory",
        decimals: 0,
        target: Some(Target::Most(1_500.0)),
    },
    Row {
        metric: Metric::MemoryUnsubscribed,
        title: "idle client, no subscription",
        unit: "bytes of memory",
        decimals: 0,
        target: None,
    },
    Row {
        metric: Metric::Start,
        title: "start to ready",
        unit: "ms",
        decimals: 1,
        target: Some(Target::Most(100.0)),
    },
];

/// What deliveries cost without a WebSocket, where there is another server to compare with.
pub const POLLING: [Row; 2] = [
    Row {
        metric: Metric::Polling,
        title: "long polling, one at a time",
        unit: "µs CPU per delivery",
        decimals: 1,
        target: Some(Target::Times(0.5, Subject::Socketio)),
    },
    Row {
        metric: Metric::PollingBurst,
        title: "long polling, bursts of 8",
        unit: "µs CPU per delivery",
        decimals: 1,
        target: Some(Target::Times(0.5, Subject::Socketio)),
    },
];

/// What our server keeps up where others are not measured.
pub const LIMITS: [Row; 9] = [
    limit(
        Metric::MemoryToken,
        "idle client with a token and a recoverable subscription",
        "bytes of memory",
        0,
        2_000.0,
    ),
    limit(
        Metric::StalledLatency,
        "stalled subscribers: 99th percentile of the others, after the first second",
        "× without them",
        2,
        2.0,
    ),
    Row {
        metric: Metric::FillingLatency,
        title: "the same in the first second, while the kernel takes what is not read",
        unit: "× without them",
        decimals: 2,
        target: None,
    },
    limit(Metric::StalledGone, "stalled subscribers: the last one is gone after", "s", 1, 10.0),
    limit(Metric::StalledMemory, "stalled subscribers: memory of each", "KiB", 0, 1_024.0),
    limit(Metric::TickerAge, "ticker: oldest value a slow reader holds", "reading intervals", 2, 2.0),
    limit(Metric::TickerMemory, "ticker: growth of memory", "KiB", 0, 1_024.0),
    limit(Metric::StormTime, "storm: all are back and have what they missed after", "s", 1, 5.0),
    limit(Metric::StormOverflows, "storm: connections the kernel refused", "", 0, 0.0),
];

/// What our server keeps up for clients without a WebSocket.
pub const WITHOUT_WEBSOCKET: [Row; 4] = [
    limit(Metric::EventSourceMemory, "idle `EventSource`", "bytes of memory", 0, 2_500.0),
    limit(Metric::EventsMemory, "idle session that Server-Sent Events carry", "bytes of memory", 0, 2_500.0),
    Row {
        metric: Metric::PollMemory,
        title: "session with a long poll that waits",
        unit: "bytes of memory",
        decimals: 0,
        target: None,
    },
    Row {
        metric: Metric::EventsFanout,
        title: "fan-out to sessions that Server-Sent Events carry, CPU per delivery",
        unit: "× over WebSockets",
        decimals: 2,
        target: None,
    },
];

const fn limit(metric: Metric, title: &'static str, unit: &'static str, decimals: usize, most: f64) -> Row {
    Row { metric, title, unit, decimals, target: Some(Target::Most(most)) }
}

/// The latencies, µs.
pub const LATENCIES: [(Metric, &str); 4] = [
    (Metric::LatencyP50, "p50"),
    (Metric::LatencyP99, "p99"),
    (Metric::LatencyP999, "p99.9"),
    (Metric::LatencyMax, "max"),
];

/// From here on, in processors, other programs are in the figures.
const DISTURBANCE_MAX: f64 = 0.1;

impl Record {
    /// Whether other programs were busy enough to make the figures doubtful.
    pub fn is_disturbed(&self) -> bool {
        self.disturbance.is_some_and(|processors| processors > DISTURBANCE_MAX)
    }

    /// The median of a metric.
    pub fn figure(&self, metric: Metric, subject: Subject) -> Option<f64> {
        median(self.samples.get(&(metric, subject))?)
    }

    /// `subject` beside `base`: round by round, since a noisy minute hits both.
    pub fn ratio(&self, metric: Metric, subject: Subject, base: Subject) -> Option<Ratio> {
        let ours = self.samples.get(&(metric, subject))?;
        let theirs = self.samples.get(&(metric, base))?;
        Ratio::of(ours, theirs)
    }

    /// Whether we met the target of a row. `None` without figures or target.
    pub fn met(&self, row: &Row) -> Option<bool> {
        self.meets(row.metric, Subject::Duplex, row.target?)
    }

    /// Whether `ours` met a target. `None` without figures.
    pub fn meets(&self, metric: Metric, ours: Subject, target: Target) -> Option<bool> {
        match target {
            Target::Times(most, base) => self.ratio(metric, ours, base).map(|ratio| ratio.median <= most),
            Target::Most(most) => self.figure(metric, ours).map(|figure| figure <= most),
        }
    }
}

impl Ratio {
    /// Of samples of the same rounds.
    pub fn of(ours: &[f64], theirs: &[f64]) -> Option<Self> {
        let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(our, their)| our / their).collect();
        Some(Self {
            median: median(&ratios)?,
            min: ratios.iter().copied().fold(f64::INFINITY, f64::min),
            max: ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        })
    }
}

impl Target {
    /// `≤ 1.10 × bare epoll`.
    pub fn text(self, unit: &str) -> String {
        match self {
            Self::Times(most, base) => format!("≤ {most:.2} × {}", base.name()),
            Self::Most(most) => format!("≤ {} {}", grouped(most, 0), unit.split(' ').next().unwrap_or(unit)),
        }
    }
}

/// A number with its thousands apart: `15,700`.
pub fn grouped(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let (whole, fraction) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut out = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) && !out.ends_with('-') {
            out.push(',');
        }
        out.push(digit);
    }
    out + fraction
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Two rounds of all subjects with round figures.
    pub fn example() -> Record {
        let mut samples = BTreeMap::new();
        let subjects = vec![Subject::Duplex, Subject::Floor, Subject::Ws, Subject::Socketio];
        for (metric, figures) in [
            (Metric::Fanout, [5.3, 5.0, 9.3, 12.6]),
            (Metric::Burst, [1.2, 0.8, 9.5, 9.6]),
            (Metric::Memory, [1_265.0, f64::NAN, 6_200.0, 15_700.0]),
            (Metric::LatencyP50, [900.0, 800.0, 1_900.0, 2_400.0]),
        ] {
            for (&subject, figure) in subjects.iter().zip(figures).filter(|(_, figure)| figure.is_finite()) {
                samples.insert((metric, subject), vec![figure, figure * 1.02]);
            }
        }
        Record {
            samples,
            subjects,
            rounds: 2,
            sizes: Sizes::FULL,
            machine: Machine { system: "linux 6".into(), processor: "a processor".into(), processors: 2 },
            cores: Cores::Separate { server: 1, load: 0 },
            disturbance: Some(0.5),
            versions: vec![("npm ws".into(), "8.0.0".into())],
        }
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let mut record = example();
        record.samples.insert((Metric::Echo, Subject::Duplex), vec![2.0, 30.0, 4.4]);
        record.samples.insert((Metric::Echo, Subject::Floor), vec![2.0, 20.0, 4.0]);
        let ratio = record.ratio(Metric::Echo, Subject::Duplex, Subject::Floor).expect("figures");
        assert!((ratio.median - 1.1).abs() < 1e-9);
        assert_eq!((ratio.min, ratio.max), (1.0, 1.5));
    }

    #[test]
    fn a_target_is_met_missed_or_open() {
        let record = example();
        let verdicts: Vec<_> = ROWS.iter().map(|row| record.met(row)).collect();
        assert_eq!(verdicts, [Some(true), Some(false), None, None, Some(true), None, None]);
    }

    #[test]
    fn thousands_stand_apart() {
        for (value, decimals, text) in [
            (0.0, 0, "0"),
            (999.4, 0, "999"),
            (15_700.0, 0, "15,700"),
            (1_234_567.8, 1, "1,234,567.8"),
            (-100.0, 0, "-100"),
        ] {
            assert_eq!(grouped(value, decimals), text);
        }
    }
}
