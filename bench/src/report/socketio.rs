//! What Socket.IO over our server costs, beside our native protocol and npm `socket.io`, as Markdown.

use super::markdown::{spread, verdict};
use super::{BESIDE_NATIVE, Record, Row, SOCKET_IO, Target, grouped};
use crate::load::message;
use crate::subjects::Subject;
use crate::work::BURST;

const OURS: Subject = Subject::DuplexSocketio;
const NATIVE: Subject = Subject::Duplex;
const THEIRS: Subject = Subject::Socketio;

/// Two tables and what they mean. Empty if nothing of it was measured.
pub fn render(record: &Record) -> String {
    let measured: Vec<&Row> = SOCKET_IO
        .iter()
        .filter(|row| record.samples.keys().any(|(metric, _)| *metric == row.metric))
        .collect();
    if measured.is_empty() {
        return String::new();
    }
    [figures(record, &measured), ratios(record, &measured), explanation(record)].concat()
}

fn figures(record: &Record, rows: &[&Row]) -> String {
    let [ours, native, theirs] = [OURS, NATIVE, THEIRS].map(Subject::name);
    let mut out = format!(
        "\n| Socket.IO over a WebSocket, median | {ours} | {native} | {theirs} |\n|---|---:|---:|---:|\n"
    );
    for row in rows {
        let cells = [OURS, NATIVE, THEIRS].map(|subject| {
            let figure = record.figure(row.metric, subject);
            figure.map_or(String::new(), |figure| grouped(figure, row.decimals))
        });
        out += &format!("| {}, {} | {} |\n", row.title, row.unit, cells.join(" | "));
    }
    out
}

fn ratios(record: &Record, rows: &[&Row]) -> String {
    let [ours, native, theirs] = [OURS, NATIVE, THEIRS].map(Subject::name);
    let mut out = format!(
        "\n| ratio (least – most of the rounds) | {ours} ÷ {native} | target | met | {ours} ÷ {theirs} | target | met |\n\
         |---|---:|---|---|---:|---|---|\n"
    );
    for row in rows {
        let beside =
            BESIDE_NATIVE.iter().find(|(metric, _)| *metric == row.metric).map(|(_, target)| *target);
        let cells = [(NATIVE, beside), (THEIRS, row.target)].map(|(base, target)| {
            let ratio = record.ratio(row.metric, OURS, base).map(spread).unwrap_or_default();
            let met = verdict(target.and_then(|target| record.meets(row.metric, OURS, target)));
            let target = target.map_or(String::new(), |target: Target| target.text(row.unit));
            format!("{ratio} | {target} | {met}")
        });
        out += &format!("| {} | {} |\n", row.title, cells.join(" | "));
    }
    out
}

fn explanation(record: &Record) -> String {
    let sizes = &record.sizes;
    let count = |value: usize| grouped(value as f64, 0);
    format!(
        "\nSocket.IO: Engine.IO 4 over WebSockets only, no compression. Fan-out: messages of {} bytes, 1 publisher, {} subscribers that \
         have asked for their channel with `$subscribe`, or are in `/` of socket.io; the next publication (or burst of {BURST}) after all \
         deliveries of the one before. The publisher of duplex speaks the native protocol, so that only the subscribers differ. \
         Memory: growth of resident memory over {} clients in `/`, or connected by the native protocol.\n",
        message::BYTES,
        count(sizes.subscribers),
        count(sizes.idle_clients),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::example;
    use crate::work::Metric;

    #[test]
    fn ours_stands_beside_the_native_protocol_and_npm() {
        let mut record = example();
        assert_eq!(render(&record), "");
        for (metric, subject, samples) in [
            (Metric::SocketioFanout, OURS, vec![5.5, 6.0, 5.0]),
            (Metric::SocketioFanout, NATIVE, vec![5.0, 5.0, 5.0]),
            (Metric::SocketioFanout, THEIRS, vec![10.0, 10.0, 10.0]),
            (Metric::SocketioMemory, OURS, vec![2_600.4]),
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
        assert!(!text.contains("bursts of 8, µs"));
    }
}
