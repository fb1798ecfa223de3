//! The part of the report on clients that speak plain HTTP.

use super::markdown::{limit_table, spread, verdict};
use super::{POLLING, Record, WITHOUT_WEBSOCKET, grouped};
use crate::load::message;
use crate::subjects::Subject;
use crate::work::BURST;

/// Two tables and what they mean. Empty if nothing of it was measured.
pub fn render(record: &Record) -> String {
    let tables = polling(record) + &limit_table(record, &WITHOUT_WEBSOCKET);
    if tables.is_empty() { tables } else { format!("{tables}\n{}", explanation(record)) }
}

fn polling(record: &Record) -> String {
    const BASE: Subject = Subject::Socketio;
    let mut out = String::new();
    for row in &POLLING {
        let figure = |subject| Some(grouped(record.figure(row.metric, subject)?, row.decimals));
        let Some(ours) = figure(Subject::Duplex) else { continue };
        let theirs = figure(BASE).unwrap_or_default();
        let ratio = record.ratio(row.metric, Subject::Duplex, BASE).map(spread).unwrap_or_default();
        let target = row.target.map_or(String::new(), |target| target.text(row.unit));
        let met = verdict(record.met(row));
        out += &format!("| {}, {} | {ours} | {theirs} | {ratio} | {target} | {met} |\n", row.title, row.unit);
    }
    if out.is_empty() {
        return out;
    }
    let heading = "\n| long polling, median | duplex | socket.io | ratio (least – most of the rounds) | target | met |\n\
                   |---|---:|---:|---:|---|---|\n";
    heading.to_owned() + &out
}

fn explanation(record: &Record) -> String {
    let sizes = &record.sizes;
    let count = |value: usize| grouped(value as f64, 0);
    format!(
        "Long polling: messages of {} bytes, 1 publisher, {} clients that each have a poll waiting on a connection that is kept, and ask \
         again as soon as it is answered; the next publication (or burst of {BURST}) after all deliveries of the one before. \
         The CPU time is that of deliveries and of the polls that follow them. socket.io has `transports: [\"polling\"]`. Requests have no \
         more headers than they need. Memory: growth of resident memory over {} clients with one subscription each. Fan-out: {} \
         subscribers of each kind, one publication at a time.\n",
        message::BYTES,
        count(sizes.pollers),
        count(sizes.idle_clients),
        count(sizes.subscribers),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::example;
    use crate::work::Metric;

    #[test]
    fn the_report_tells_of_clients_without_a_websocket_what_was_measured() {
        let mut record = example();
        assert_eq!(render(&record), "");
        for (metric, subject, samples) in [
            (Metric::Polling, Subject::Duplex, vec![20.0, 30.0, 22.0]),
            (Metric::Polling, Subject::Socketio, vec![50.0, 50.0, 50.0]),
            (Metric::EventsMemory, Subject::Duplex, vec![2_600.4]),
        ] {
            record.samples.insert((metric, subject), samples);
        }
        let text = render(&record);
        for line in [
            "| long polling, one at a time, µs CPU per delivery | 22.0 | 50.0 | 0.44 (0.40 – 0.60) \
             | ≤ 0.50 × socket.io | yes |",
            "| idle session that Server-Sent Events carry, bytes of memory | 2,600 (2,600 – 2,600) | 2,500 | **no** |",
        ] {
            assert!(text.contains(line), "{line}\nis not in\n{text}");
        }
        assert!(!text.contains("bursts of 8, µs"));
    }
}
