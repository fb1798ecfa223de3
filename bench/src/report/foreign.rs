//! What other people's protocols over our server cost, beside our native one and those people's own servers, as Markdown.

use super::markdown::{spread, verdict};
use super::{Record, Row, Target, grouped};
use crate::load::message;
use crate::subjects::Subject;
use crate::work::{BURST, Metric};

/// One protocol and what it is compared with.
pub struct Protocol {
    name: &'static str,
    pub rows: &'static [Row],
    /// Whose figures are told, in order.
    subjects: &'static [Subject],
    pub comparisons: &'static [Comparison],
    explanation: fn(&Record) -> String,
}

/// Our server by a protocol, beside something.
pub struct Comparison {
    pub ours: Subject,
    base: Subject,
    pub targets: &'static [(Metric, Target)],
    /// What tells the names of its targets from those of others.
    pub suffix: &'static str,
}

/// Every protocol that is measured.
pub const ALL: [&Protocol; 2] = [&SOCKET_IO, &SIGNALR];

const SOCKET_IO: Protocol = Protocol {
    name: "Socket.IO",
    rows: &[
        fanout(Metric::SocketioFanout, "Socket.IO, one at a time"),
        fanout(Metric::SocketioBurst, "Socket.IO, bursts of 8"),
        memory(Metric::SocketioMemory, "idle Socket.IO client"),
        memory(Metric::SocketioMemorySubscribed, "idle Socket.IO client with a subscription"),
    ],
    subjects: &[Subject::DuplexSocketio, Subject::Duplex, Subject::Socketio],
    comparisons: &[
        Comparison {
            ours: Subject::DuplexSocketio,
            base: Subject::Duplex,
            targets: &[(Metric::SocketioFanout, NEARLY_NATIVE), (Metric::SocketioBurst, NEARLY_NATIVE)],
            suffix: "_beside_native",
        },
        Comparison {
            ours: Subject::DuplexSocketio,
            base: Subject::Socketio,
            targets: &[
                (Metric::SocketioFanout, Target::Times(0.5, Subject::Socketio)),
                (Metric::SocketioBurst, Target::Times(0.12, Subject::Socketio)),
                (Metric::SocketioMemory, LITTLE_MEMORY),
            ],
            suffix: "",
        },
    ],
    explanation: |record| {
        format!(
            "Socket.IO: Engine.IO 4 over WebSockets only, no compression. {}, or are in `/` of socket.io; {}",
            subscribers(record),
            rest(record, "in `/`"),
        )
    },
};

const SIGNALR: Protocol = Protocol {
    name: "SignalR",
    rows: &[
        fanout(Metric::SignalrFanout, "SignalR, one at a time"),
        fanout(Metric::SignalrBurst, "SignalR, bursts of 8"),
        memory(Metric::SignalrMemory, "idle SignalR client"),
        memory(Metric::SignalrMemorySubscribed, "idle SignalR client with a subscription"),
    ],
    subjects: &[Subject::DuplexSignalr, Subject::DuplexSignalrMessagepack, Subject::Duplex],
    comparisons: &[
        Comparison {
            ours: Subject::DuplexSignalr,
            base: Subject::Duplex,
            targets: &SIGNALR_TARGETS,
            suffix: "",
        },
        Comparison {
            ours: Subject::DuplexSignalrMessagepack,
            base: Subject::Duplex,
            targets: &SIGNALR_TARGETS,
            suffix: "_messagepack",
        },
    ],
    explanation: |record| {
        format!(
            "SignalR: over WebSockets without negotiation, no compression. {}; {}",
            subscribers(record),
            rest(record, "by SignalR"),
        )
    },
};

const SIGNALR_TARGETS: [(Metric, Target); 3] = [
    (Metric::SignalrFanout, NEARLY_NATIVE),
    (Metric::SignalrBurst, NEARLY_NATIVE),
    (Metric::SignalrMemory, LITTLE_MEMORY),
];

const NEARLY_NATIVE: Target = Target::Times(1.15, Subject::Duplex);
const LITTLE_MEMORY: Target = Target::Most(2_500.0);

const fn fanout(metric: Metric, title: &'static str) -> Row {
    Row { metric, title, unit: "µs CPU per delivery", decimals: 2, target: None }
}

const fn memory(metric: Metric, title: &'static str) -> Row {
    Row { metric, title, unit: "bytes of memory", decimals: 0, target: None }
}

/// For each protocol two tables and what they mean. Empty if nothing of it was measured.
pub fn render(record: &Record) -> String {
    ALL.map(|protocol| protocol.render(record)).concat()
}

impl Protocol {
    fn render(&self, record: &Record) -> String {
        let is_measured = |row: &&Row| record.samples.keys().any(|(metric, _)| *metric == row.metric);
        let rows: Vec<&Row> = self.rows.iter().filter(is_measured).collect();
        if rows.is_empty() {
            return String::new();
        }
        let explanation = format!("\n{}\n", (self.explanation)(record));
        [self.figures(record, &rows), self.ratios(record, &rows), explanation].concat()
    }

    fn figures(&self, record: &Record, rows: &[&Row]) -> String {
        let names: Vec<_> = self.subjects.iter().map(|subject| subject.name()).collect();
        let mut out = format!(
            "\n| {} over a WebSocket, median | {} |\n|---|{}\n",
            self.name,
            names.join(" | "),
            "---:|".repeat(names.len())
        );
        for row in rows {
            let cells: Vec<_> = self.subjects.iter().map(|&subject| figure(record, row, subject)).collect();
            out += &format!("| {}, {} | {} |\n", row.title, row.unit, cells.join(" | "));
        }
        out
    }

    fn ratios(&self, record: &Record, rows: &[&Row]) -> String {
        let heads = self.comparisons.iter().map(Comparison::heading);
        let mut out = format!(
            "\n| ratio (least – most of the rounds) | {} |\n|---|{}\n",
            heads.collect::<Vec<_>>().join(" | "),
            "---:|---|---|".repeat(self.comparisons.len())
        );
        for row in rows {
            let cells = self.comparisons.iter().map(|comparison| comparison.cells(record, row));
            out += &format!("| {} | {} |\n", row.title, cells.collect::<Vec<_>>().join(" | "));
        }
        out
    }
}

impl Comparison {
    fn heading(&self) -> String {
        format!("{} ÷ {} | target | met", self.ours.name(), self.base.name())
    }

    fn cells(&self, record: &Record, row: &Row) -> String {
        let ratio = record.ratio(row.metric, self.ours, self.base).map(spread).unwrap_or_default();
        let target = self.targets.iter().find(|(metric, _)| *metric == row.metric).map(|(_, target)| *target);
        let met = verdict(target.and_then(|target| record.meets(row.metric, self.ours, target)));
        let target = target.map_or(String::new(), |target| target.text(row.unit));
        format!("{ratio} | {target} | {met}")
    }
}

fn figure(record: &Record, row: &Row, subject: Subject) -> String {
    record.figure(row.metric, subject).map_or(String::new(), |figure| grouped(figure, row.decimals))
}

fn count(value: usize) -> String {
    grouped(value as f64, 0)
}

fn subscribers(record: &Record) -> String {
    format!(
        "Fan-out: messages of {} bytes, 1 publisher, {} subscribers that have asked for their channel with `$subscribe`",
        message::BYTES,
        count(record.sizes.subscribers)
    )
}

fn rest(record: &Record, place: &str) -> String {
    format!(
        "the next publication (or burst of {BURST}) after all deliveries of the one before. The publisher of duplex speaks the native \
         protocol, so that only the subscribers differ. Memory: growth of resident memory over {} clients connected {place}, or by the \
         native protocol.",
        count(record.sizes.idle_clients)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::example;

    #[test]
    fn ours_stands_beside_the_native_protocol_and_npm() {
        let mut record = example();
        assert_eq!(render(&record), "");
        for (metric, subject, samples) in [
            (Metric::SocketioFanout, Subject::DuplexSocketio, vec![5.5, 6.0, 5.0]),
            (Metric::SocketioFanout, Subject::Duplex, vec![5.0, 5.0, 5.0]),
            (Metric::SocketioFanout, Subject::Socketio, vec![10.0, 10.0, 10.0]),
            (Metric::SocketioMemory, Subject::DuplexSocketio, vec![2_600.4]),
        ] {
            record.samples.insert((metric, subject), samples);
        }
        let text = render(&record);
        for line in [
            "| Socket.IO, one at a time, µs CPU per delivery | 5.50 | 5.00 | 10.00 |",
            "| Socket.IO, one at a time | 1.10 (1.00 – 1.20) | ≤ 1.15 × duplex | yes | 0.55 (0.50 – 0.60) \
             | ≤ 0.50 × socket.io | **no** |",
            "| idle Socket.IO client |  |  |  |  | ≤ 2,500 bytes | **no** |",
        ] {
            assert!(text.contains(line), "{line}\nis not in\n{text}");
        }
        assert!(!text.contains("bursts of 8, µs") && !text.contains("SignalR"));
    }

    #[test]
    fn each_encoding_of_signalr_has_targets_of_its_own() {
        let mut record = example();
        for (subject, samples) in [
            (Subject::DuplexSignalr, vec![5.0]),
            (Subject::DuplexSignalrMessagepack, vec![6.0]),
            (Subject::Duplex, vec![5.0]),
        ] {
            record.samples.insert((Metric::SignalrFanout, subject), samples);
        }
        let line = "| SignalR, one at a time | 1.00 (1.00 – 1.00) | ≤ 1.15 × duplex | yes \
                    | 1.20 (1.20 – 1.20) | ≤ 1.15 × duplex | **no** |";
        let text = render(&record);
        assert!(text.contains(line), "{line}\nis not in\n{text}");
        let targets = crate::report::json::render(&record);
        assert!(targets.contains("signalr_fanout_cpu_us_messagepack"), "{targets}");
    }
}
