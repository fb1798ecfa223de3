//! The report as Markdown tables.

use super::{
    LATENCIES, LIMITS, ROWS, Ratio, Record, Row, Target, foreign, grouped, hold, nodes, without_websocket,
};
use crate::limits::{stalled, storm, ticker};
use crate::load::message;
use crate::measure::{Cores, median};
use crate::subjects::Subject;
use crate::work::{BURST, Metric};

/// Everything, ready to be a section of a page.
pub fn render(record: &Record) -> String {
    [
        circumstances(record),
        disturbance(record),
        figures(record),
        ratios(record),
        latencies(record),
        explanation(record),
        without_websocket::render(record),
        foreign::render(record),
        limits(record),
        hold::render(record),
        nodes::render(record),
    ]
    .concat()
}

fn circumstances(record: &Record) -> String {
    let machine = &record.machine;
    let cores = match &record.cores {
        Cores::Separate { .. } => "server on one core, load generator on another".to_owned(),
        Cores::Shared { why } => {
            format!("server and load NOT on cores of their own ({why}): figures are noisy")
        }
    };
    let versions: Vec<String> =
        record.versions.iter().map(|(program, version)| format!("; {program} {version}")).collect();
    let rounds = match record.rounds {
        1 => "One round only".to_owned(),
        rounds => format!("Medians of {rounds} interleaved rounds"),
    };
    format!(
        "{} ({} processors), {}{}. {rounds}, {cores}.\n\n",
        machine.processor,
        machine.processors,
        machine.system,
        versions.concat(),
    )
}

fn disturbance(record: &Record) -> String {
    match record.disturbance {
        Some(processors) if record.is_disturbed() => format!(
            "**Disturbed:** other programs kept {processors:.2} processors busy meanwhile. Ratios of CPU time are less \
             exact, latencies are not to be trusted.\n\n"
        ),
        _ => String::new(),
    }
}

fn figures(record: &Record) -> String {
    let mut out = heading(record, "median");
    for row in rows(record) {
        out += &format!("| {}, {} |", row.title, row.unit);
        for subject in columns(record) {
            let figure = record.figure(row.metric, subject);
            out += &format!(" {} |", figure.map_or("".into(), |figure| grouped(figure, row.decimals)));
        }
        out += "\n";
    }
    if out.lines().count() == 2 { String::new() } else { out + "\n" }
}

fn ratios(record: &Record) -> String {
    let mut out = "| ratio (least – most of the rounds) | duplex ÷ bare epoll | npm ws ÷ bare epoll \
                   | socket.io ÷ bare epoll | duplex ÷ npm ws | target | met |\n\
                   |---|---:|---:|---:|---:|---|---|\n"
        .to_owned();
    for row in rows(record) {
        let cells = [
            (Subject::Duplex, Subject::Floor),
            (Subject::Ws, Subject::Floor),
            (Subject::Socketio, Subject::Floor),
            (Subject::Duplex, Subject::Ws),
        ]
        .map(|(subject, base)| record.ratio(row.metric, subject, base).map(spread).unwrap_or_default());
        let target = row.target.map_or(String::new(), |target| target.text(row.unit));
        let met = verdict(record.met(row));
        out += &format!("| {} | {} | {target} | {met} |\n", row.title, cells.join(" | "));
    }
    if out.lines().count() == 2 { String::new() } else { out + "\n" }
}

fn latencies(record: &Record) -> String {
    if record.figure(Metric::LatencyP50, record.subjects[0]).is_none() {
        return String::new();
    }
    let title = format!(
        "latency, µs; {} publications/s to {} subscribers",
        record.sizes.latency_per_second, record.sizes.latency_subscribers
    );
    let mut out = heading(record, &title);
    for (metric, name) in LATENCIES {
        out += &format!("| {name} |");
        for subject in columns(record) {
            let figure = record.figure(metric, subject);
            out += &format!(" {} |", figure.map_or("".into(), |figure| grouped(figure, 0)));
        }
        out += "\n";
    }
    out + "\n"
}

fn explanation(record: &Record) -> String {
    if rows(record).next().is_none() && record.figure(Metric::LatencyP50, record.subjects[0]).is_none() {
        return String::new();
    }
    let sizes = &record.sizes;
    let count = |value: usize| grouped(value as f64, 0);
    format!(
        "Messages of {} bytes. Fan-out: 1 publisher, {} subscribers, the next publication (or burst of {BURST}) after all \
         deliveries of the one before. Echo: {} clients with one message in flight each. Idle client: growth of resident \
         memory over {} clients. Connect: TCP, upgrade and, for duplex, subscription; {} of them, at most {} in flight. \
         Latency: from the time a publication was due, not sent, so waiting counts. CPU time is that of the whole server \
         process, kernel included. \
         A ratio is the median of the rounds' ratios. `bare epoll` does nothing but `epoll_wait`, `read` and `send`; its messages carry no \
         channel, position or time. Every delivery is checked for loss and order; a run that lost one prints nothing.\n",
        message::BYTES,
        count(sizes.subscribers),
        count(sizes.echo_clients),
        count(sizes.idle_clients),
        count(sizes.connects()),
        crate::load::IN_FLIGHT_MAX,
    )
}

fn limits(record: &Record) -> String {
    let table = limit_table(record, &LIMITS);
    if table.is_empty() { table } else { table + &explanation_of_limits(record) }
}

/// What ours measured of `rows`, and whether that is within the limits. Empty if it is nothing.
pub fn limit_table(record: &Record, rows: &[Row]) -> String {
    let measured: Vec<&Row> =
        rows.iter().filter(|row| record.samples.keys().any(|(metric, _)| *metric == row.metric)).collect();
    if measured.is_empty() {
        return String::new();
    }
    let mut out =
        "\n| limit | median (least – most of the rounds) | at most | met |\n|---|---:|---:|---|\n".to_owned();
    for row in measured {
        let Some(samples) = record.samples.get(&(row.metric, Subject::Duplex)) else { continue };
        let figure = |value| grouped(value, row.decimals);
        let least = samples.iter().copied().fold(f64::INFINITY, f64::min);
        let most = samples.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let limit = match row.target {
            Some(Target::Most(limit)) => figure(limit),
            _ => String::new(),
        };
        let met = verdict(record.met(row));
        let middle = median(samples).map(figure).unwrap_or_default();
        out += &format!(
            "| {}{} | {middle} ({} – {}) | {limit} | {met} |\n",
            row.title,
            if row.unit.is_empty() { String::new() } else { format!(", {}", row.unit) },
            figure(least),
            figure(most),
        );
    }
    out
}

fn explanation_of_limits(record: &Record) -> String {
    let sizes = &record.sizes;
    let count = |value: usize| grouped(value as f64, 0);
    format!(
        "\nIdle: each of {} clients is a user of its own. Stalled: {} subscribers read and as many stop reading, one after the \
         other in the server's list; {} publications of {} bytes per second, of which the kernel takes some 180 KB for each \
         before the server can see it. Ticker: {} updates per second over {} keys to a client that reads {} publications per second \
         through a receive buffer of {} bytes; a reading interval is the time it takes to read each key once. Storm: {} \
         clients connect at once, subscribe and get the {} publications they missed.\n",
        count(sizes.idle_clients),
        count(sizes.stalled_clients),
        count(stalled::PER_SECOND as usize),
        count(stalled::BYTES),
        count(ticker::KEYS * ticker::UPDATES_PER_SECOND as usize),
        ticker::KEYS,
        ticker::READS_PER_SECOND,
        count(ticker::RECEIVE_BUFFER_BYTES),
        count(sizes.storm_clients),
        storm::MISSED,
    )
}

fn heading(record: &Record, title: &str) -> String {
    let names: Vec<&str> = columns(record).map(Subject::name).collect();
    format!("| {title} | {} |\n|---|{}\n", names.join(" | "), "---:|".repeat(names.len()))
}

/// Whoever is in the main tables: ours by other people's protocols has its own.
fn columns(record: &Record) -> impl Iterator<Item = Subject> {
    record.subjects.iter().copied().filter(|subject| !subject.is_foreign())
}

/// The rows that have a figure.
fn rows(record: &Record) -> impl Iterator<Item = &'static Row> {
    ROWS.iter().filter(|row| record.samples.keys().any(|(metric, _)| *metric == row.metric))
}

/// Whether we met a target, in a cell.
pub fn verdict(met: Option<bool>) -> &'static str {
    match met {
        Some(true) => "yes",
        Some(false) => "**no**",
        None => "",
    }
}

/// A ratio in a cell.
pub fn spread(ratio: Ratio) -> String {
    format!("{:.2} ({:.2} – {:.2})", ratio.median, ratio.min, ratio.max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::example;

    #[test]
    fn the_report_tells_figures_ratios_and_verdicts() {
        let text = render(&example());
        for line in [
            "| fan-out, one at a time, µs CPU per delivery | 5.35 | 5.05 | 9.39 | 12.73 |",
            "| fan-out, one at a time | 1.06 (1.06 – 1.06) | 1.86 (1.86 – 1.86) | 2.52 (2.52 – 2.52) \
             | 0.57 (0.57 – 0.57) | ≤ 1.10 × bare epoll | yes |",
            "| idle client |  |  |  | 0.20 (0.20 – 0.20) | ≤ 1,500 bytes | yes |",
            "| p50 | 909 | 808 | 1,919 | 2,424 |",
        ] {
            assert!(text.contains(line), "{line}\nis not in\n{text}");
        }
        assert!(text.contains("| **no** |"));
    }
}
