//! The table of crowds that several nodes hold.

use super::{Record, grouped};
use crate::hold::{Among, Figure, nodes};
use crate::measure::median;
use crate::subjects::Subject;
use crate::work::Metric;

const AMONG: [(Among, &str); 2] = [(Among::Apart, "nodes apart"), (Among::Redis, "nodes on one Redis")];

const ROWS: [(Figure, &str, usize); 7] = [
    (Figure::NodeBytes, "memory of the nodes per client, bytes", 0),
    (Figure::ClientBytes, "memory of the clients' processes per client, bytes", 0),
    (Figure::Joined, "all are connected and subscribed after, s", 1),
    (Figure::First, "a publication is with the first after, ms", 1),
    (Figure::Median, "with half of them after, ms", 0),
    (Figure::P99, "with 99 % of them after, ms", 0),
    (Figure::Last, "with all of them after, ms", 0),
];

/// Names of the figures for other programs, units last.
pub fn key(among: Among, figure: Figure) -> &'static str {
    match (among, figure) {
        (Among::Apart, Figure::NodeBytes) => "held_apart_node_bytes",
        (Among::Apart, Figure::ClientBytes) => "held_apart_client_bytes",
        (Among::Apart, Figure::Joined) => "held_apart_joined_s",
        (Among::Apart, Figure::First) => "held_apart_first_ms",
        (Among::Apart, Figure::Median) => "held_apart_median_ms",
        (Among::Apart, Figure::P99) => "held_apart_p99_ms",
        (Among::Apart, Figure::Last) => "held_apart_last_ms",
        (Among::Redis, Figure::NodeBytes) => "held_redis_node_bytes",
        (Among::Redis, Figure::ClientBytes) => "held_redis_client_bytes",
        (Among::Redis, Figure::Joined) => "held_redis_joined_s",
        (Among::Redis, Figure::First) => "held_redis_first_ms",
        (Among::Redis, Figure::Median) => "held_redis_median_ms",
        (Among::Redis, Figure::P99) => "held_redis_p99_ms",
        (Among::Redis, Figure::Last) => "held_redis_last_ms",
    }
}

/// Empty if nothing was held.
pub fn render(record: &Record) -> String {
    let figure = |among, figure| median(record.samples.get(&(Metric::Hold(among, figure), Subject::Duplex))?);
    let columns: Vec<_> =
        AMONG.into_iter().filter(|(among, _)| figure(*among, Figure::NodeBytes).is_some()).collect();
    if columns.is_empty() {
        return String::new();
    }
    let clients = grouped(record.sizes.held_clients as f64, 0);
    let names: Vec<&str> = columns.iter().map(|(_, name)| *name).collect();
    let mut out =
        format!("\n| {clients} clients | {} |\n|---|{}\n", names.join(" | "), "---:|".repeat(names.len()));
    for (row, title, decimals) in ROWS {
        let cells: Vec<String> = columns
            .iter()
            .map(|(among, _)| figure(*among, row).map_or(String::new(), |value| grouped(value, decimals)))
            .collect();
        out += &format!("| {title} | {} |\n", cells.join(" | "));
    }
    out + &explanation(record)
}

fn explanation(record: &Record) -> String {
    let count = nodes(record.sizes.held_clients);
    format!(
        "\nNative clients over WebSockets with one subscription each, all to the same channel, on {count} nodes of one shard each \
         and as many processes that are the clients: all nodes share one core, all clients the other. Memory is what the processes \
         occupy; the kernel's for each connection comes on top. Times are medians of {} publications of some 100 bytes, one after the \
         other, and count from just before one is sent. Nodes apart are each given every publication, of nodes on one Redis the \
         first one is. Each client has got each publication once and in order, or nothing would be told.\n",
        record.sizes.held_publications,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::example;

    #[test]
    fn a_crowd_is_told_by_how_its_nodes_meet() {
        let mut record = example();
        assert_eq!(render(&record), "");
        let mut note = |figure, value| {
            record.samples.insert((Metric::Hold(Among::Apart, figure), Subject::Duplex), vec![value]);
        };
        note(Figure::NodeBytes, 1_234.0);
        note(Figure::Last, 567.8);
        let text = render(&record);
        for line in [
            "| 100,000 clients | nodes apart |",
            "| memory of the nodes per client, bytes | 1,234 |",
            "| with all of them after, ms | 568 |",
        ] {
            assert!(text.contains(line), "{line}\nis not in\n{text}");
        }
    }
}
