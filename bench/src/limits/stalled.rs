//! Subscribers that stop reading, among as many that go on.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::json;

use crate::deadline::Deadline;
use crate::failure::Failure;
use crate::load::link::strange;
use crate::load::{IN_FLIGHT_MAX, message};
use crate::measure::Cores;
use crate::subjects::{Server, Subject};
use crate::work::{Bench, LATENCY_MAX_NANOS, Measured, Metric};

use super::crowd::{Crowd, Heard, answers};
use super::words::{connect, is_publication, subscribe};

/// Bytes of payload.
pub const BYTES: usize = 1_024;
/// Publications per second.
pub const PER_SECOND: u32 = 1_000;
/// How long latency is measured: longer than a stalled subscriber may stay.
const MEASURED: Duration = Duration::from_secs(15);
/// At the beginning, after which the kernel takes no more of what is not read. Until then those that do not read cost what
/// those that read cost.
pub const FILLING: Duration = Duration::from_secs(1);

/// The latency of those that read, as multiple of what it is without stalled ones; when the last stalled one was gone;
/// what memory they took.
pub fn stalled(bench: &Bench, deadline: &Deadline) -> Result<Measured, Failure> {
    let count = bench.sizes.stalled_clients;
    let (alone, _) = Scene::open(bench, count, Stalled::None, deadline)?.play(bench, deadline)?;
    let scene = Scene::open(bench, 2 * count, Stalled::EverySecond, deadline)?;
    let before = scene.server.resident_bytes()?;
    let (beside, toll) = scene.play(bench, deadline)?;
    let p99 = |latencies: &Histogram<u64>| latencies.value_at_quantile(0.99) as f64;
    if toll.gone < count {
        let left = count - toll.gone;
        return Err(Failure::Misbehaved(format!("{left} of {count} stalled clients were not closed")));
    }
    let growth = toll.resident_bytes_max.saturating_sub(before);
    Ok(vec![
        (Metric::StalledLatency, p99(&beside.after) / p99(&alone.after)),
        (Metric::FillingLatency, p99(&beside.filling) / p99(&alone.filling)),
        (Metric::StalledGone, toll.last_gone.as_secs_f64()),
        (Metric::StalledMemory, growth as f64 / count as f64 / 1024.0),
    ])
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stalled {
    None,
    /// Nobody is always served first.
    EverySecond,
}

/// Of deliveries to those that read, nanoseconds.
struct Latencies {
    filling: Histogram<u64>,
    after: Histogram<u64>,
}

impl Latencies {
    fn new() -> Self {
        let new = || Histogram::new_with_max(LATENCY_MAX_NANOS, 3).expect("bounds and digits are allowed");
        Self { filling: new(), after: new() }
    }

    /// Those of publications that were due at this time.
    fn at(&mut self, time: Duration) -> &mut Histogram<u64> {
        if time < FILLING { &mut self.filling } else { &mut self.after }
    }
}

/// What those that stall cost.
#[derive(Default)]
struct Toll {
    gone: usize,
    /// After they stopped reading.
    last_gone: Duration,
    resident_bytes_max: u64,
}

struct Scene {
    server: Server,
    crowd: Crowd,
    publisher: usize,
    /// Number of the publication that each member gets next.
    due: Vec<u64>,
    stalled: Stalled,
}

impl Scene {
    fn open(
        bench: &Bench,
        subscribers: usize,
        stalled: Stalled,
        deadline: &Deadline,
    ) -> Result<Self, Failure> {
        let settings = [("SERVER__CONNECTIONS_PER_ADDRESS_MAX", "20000")];
        let server = bench.starter.start_with(Subject::Duplex, &settings, deadline)?;
        let mut crowd = Crowd::new(server.address)?;
        let publisher = crowd.join(1, 1, deadline, |_| vec![connect(None)], answers)?.start;
        let opening = |_| vec![connect(None), subscribe("bench", None)];
        crowd.join(subscribers, IN_FLIGHT_MAX, deadline, opening, answers)?;
        let due = vec![0; 1 + subscribers];
        Ok(Self { server, crowd, publisher, due, stalled })
    }

    /// Publishes for a while.
    fn play(mut self, bench: &Bench, deadline: &Deadline) -> Result<(Latencies, Toll), Failure> {
        let mut toll = Toll::default();
        if self.stalled == Stalled::EverySecond {
            for index in (2..self.due.len()).step_by(2) {
                self.crowd.shut_ears(index)?;
            }
        }
        let latencies = self.publish(bench, &mut toll, deadline)?;
        Ok((latencies, toll))
    }

    /// An open loop, as in [`Bench::latency`]: each delivery's latency counts from when its publication was due.
    fn publish(&mut self, bench: &Bench, toll: &mut Toll, deadline: &Deadline) -> Result<Latencies, Failure> {
        let mut latencies = Latencies::new();
        let wait = match bench.starter.cores {
            Cores::Separate { .. } => Duration::ZERO,
            Cores::Shared { .. } => Duration::from_millis(1),
        };
        let begin = Instant::now();
        let due_at = |number: u64| begin + Duration::from_secs(number) / PER_SECOND;
        let mut next = 0;
        let end = MEASURED.as_secs() * u64::from(PER_SECOND);
        let reading = |due: &[u64]| match self.stalled {
            Stalled::None => due[1..].iter().all(|&due| due == end),
            Stalled::EverySecond => due[1..].iter().step_by(2).all(|&due| due == end),
        };
        while next < end || !reading(&self.due) {
            if next < end && Instant::now() >= due_at(next) {
                self.crowd.say(self.publisher, [publication(next)])?;
                next += 1;
                toll.resident_bytes_max = toll.resident_bytes_max.max(self.server.resident_bytes()?);
            }
            let due = &mut self.due;
            self.crowd.turn(wait, deadline, |index, heard| match heard {
                Heard::Text(text) => {
                    let number = message::sequence(text)
                        .filter(|_| is_publication(text))
                        .ok_or_else(|| strange(text))?;
                    if number != due[index] {
                        return Err(Failure::OutOfOrder { expected: due[index], got: number });
                    }
                    due[index] += 1;
                    let latency = Instant::now().saturating_duration_since(due_at(number));
                    latencies
                        .at(due_at(number) - begin)
                        .saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
                    Ok(())
                }
                Heard::Gone => {
                    toll.gone += 1;
                    toll.last_gone = begin.elapsed();
                    Ok(())
                }
            })?;
        }
        Ok(latencies)
    }
}

fn publication(number: u64) -> Vec<u8> {
    let mut data = message::message(number).to_vec();
    data.resize(BYTES, b'x');
    json!({ "publish": { "channel": "bench", "data": String::from_utf8_lossy(&data) } })
        .to_string()
        .into_bytes()
}
