//! The report for other programs.

use serde_json::{Map, Value, json};

use super::{LIMITS, POLLING, ROWS, Record, WITHOUT_WEBSOCKET, foreign, hold, nodes};
use crate::measure::{Cores, median};
use crate::work::Metric;

/// Everything: per metric and subject the median and the sample of each round.
pub fn render(record: &Record) -> String {
    let sizes = &record.sizes;
    let value = json!({
        "machine": {
            "system": record.machine.system,
            "processor": record.machine.processor,
            "processors": record.machine.processors,
            "processors_busy_otherwise": record.disturbance,
            "separate_cores": matches!(record.cores, Cores::Separate { .. }),
        },
        "versions": record.versions.iter().map(|(k, v)| (k.clone(), json!(v))).collect::<Map<_, _>>(),
        "rounds": record.rounds,
        "sizes": {
            "payload_bytes": crate::load::message::BYTES,
            "subscribers": sizes.subscribers,
            "slices": crate::race::SLICES,
            "publications_per_slice": sizes.publications_per_slice,
            "bursts_per_slice": sizes.bursts_per_slice,
            "pollers": sizes.pollers,
            "echo_clients": sizes.echo_clients,
            "echoes_per_client_and_slice": sizes.echoes_per_client_and_slice,
            "idle_clients": sizes.idle_clients,
            "connects": sizes.connects(),
            "latency_subscribers": sizes.latency_subscribers,
            "latency_publications": sizes.latency_publications,
            "latency_publications_per_second": sizes.latency_per_second,
            "stalled_clients": sizes.stalled_clients,
            "ticker_s": sizes.ticker_length.as_secs(),
            "storm_clients": sizes.storm_clients,
            "held_clients": sizes.held_clients,
            "held_publications": sizes.held_publications,
            "nodes_subscribers": sizes.nodes_subscribers,
            "nodes_channels": sizes.nodes_channels,
            "nodes_ms": sizes.nodes_length.as_millis() as u64,
            "nodes_requests": sizes.nodes_requests,
        },
        "figures": figures(record),
        "targets": targets(record),
    });
    serde_json::to_string_pretty(&value).expect("a value of strings and finite numbers is JSON") + "\n"
}

fn figures(record: &Record) -> Map<String, Value> {
    let mut figures = Map::new();
    for ((metric, subject), samples) in &record.samples {
        let of_metric = figures.entry(key(*metric)).or_insert_with(|| json!({}));
        of_metric[subject.key()] = json!({ "median": median(samples), "samples": samples });
    }
    figures
}

fn targets(record: &Record) -> Map<String, Value> {
    let rows = ROWS.iter().chain(&LIMITS).chain(&POLLING).chain(&WITHOUT_WEBSOCKET).filter_map(|row| {
        let target = row.target?.text(row.unit);
        Some((key(row.metric), json!({ "target": target, "met": record.met(row)? })))
    });
    rows.chain(foreign_targets(record)).collect()
}

/// Those of other people's protocols over our server.
fn foreign_targets(record: &Record) -> impl Iterator<Item = (String, Value)> {
    let comparisons = foreign::ALL.into_iter().flat_map(|protocol| protocol.comparisons);
    let targets = comparisons.flat_map(|comparison| {
        comparison.targets.iter().map(move |&(metric, target)| (comparison, metric, target))
    });
    targets.filter_map(|(comparison, metric, target)| {
        let met = record.meets(metric, comparison.ours, target)?;
        let name = format!("{}{}", key(metric), comparison.suffix);
        Some((name, json!({ "target": target.text("bytes"), "met": met })))
    })
}

/// The name of a metric, its unit last.
fn key(metric: Metric) -> String {
    match metric {
        Metric::Nodes(point) => nodes::key(point),
        other => name(other).to_owned(),
    }
}

/// The same of those that have one name each.
fn name(metric: Metric) -> &'static str {
    match metric {
        Metric::Nodes(_) => "nodes",
        Metric::Hold(among, figure) => hold::key(among, figure),
        Metric::Fanout => "fanout_cpu_us",
        Metric::Burst => "burst_cpu_us",
        Metric::Polling => "polling_cpu_us",
        Metric::PollingBurst => "polling_burst_cpu_us",
        Metric::Echo => "echo_cpu_us",
        Metric::Memory => "client_bytes",
        Metric::MemoryUnsubscribed => "client_unsubscribed_bytes",
        Metric::Connect => "connect_cpu_us",
        Metric::Start => "start_ms",
        Metric::LatencyP50 => "latency_p50_us",
        Metric::LatencyP99 => "latency_p99_us",
        Metric::LatencyP999 => "latency_p999_us",
        Metric::LatencyMax => "latency_max_us",
        Metric::MemoryToken => "client_with_token_bytes",
        Metric::StalledLatency => "beside_stalled_latency_p99_ratio",
        Metric::FillingLatency => "beside_filling_latency_p99_ratio",
        Metric::StalledGone => "stalled_gone_s",
        Metric::StalledMemory => "stalled_client_kib",
        Metric::TickerAge => "ticker_age_intervals",
        Metric::TickerMemory => "ticker_growth_kib",
        Metric::StormTime => "storm_s",
        Metric::StormOverflows => "storm_listen_overflows",
        Metric::EventSourceMemory => "event_source_client_bytes",
        Metric::EventsMemory => "events_session_bytes",
        Metric::PollMemory => "poll_session_bytes",
        Metric::EventsFanout => "events_fanout_cpu_ratio",
        Metric::SocketioMemory => "socketio_client_bytes",
        Metric::SocketioMemorySubscribed => "socketio_client_subscribed_bytes",
        Metric::SocketioFanout => "socketio_fanout_cpu_us",
        Metric::SocketioBurst => "socketio_burst_cpu_us",
        Metric::SignalrMemory => "signalr_client_bytes",
        Metric::SignalrMemorySubscribed => "signalr_client_subscribed_bytes",
        Metric::SignalrFanout => "signalr_fanout_cpu_us",
        Metric::SignalrBurst => "signalr_burst_cpu_us",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::example;

    #[test]
    fn a_program_finds_medians_samples_and_verdicts() {
        let value: Value = serde_json::from_str(&render(&example())).expect("JSON");
        assert_eq!(value["figures"]["fanout_cpu_us"]["duplex"]["samples"][0], 5.3);
        assert_eq!(value["targets"]["burst_cpu_us"]["met"], false);
        assert_eq!(value["targets"]["echo_cpu_us"], Value::Null);
    }
}
