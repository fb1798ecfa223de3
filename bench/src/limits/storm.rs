//! All clients lose their connections at once, miss something, and come back at once.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::deadline::Deadline;
use crate::failure::Failure;
use crate::load::link::strange;
use crate::load::{IN_FLIGHT_MAX, WAIT_MAX};
use crate::measure;
use crate::subjects::Subject;
use crate::work::{Bench, Measured, Metric};

use super::crowd::{Crowd, Heard, answers};
use super::words::{body, connect, is_publication, subscribe};

/// Publications that everybody misses.
pub const MISSED: u64 = 5;
const LENGTH_MAX: Duration = Duration::from_secs(60);

/// How long until the last one has all that it missed, and how many connections the kernel refused meanwhile.
pub fn storm(bench: &Bench, deadline: &Deadline) -> Result<Measured, Failure> {
    let count = bench.sizes.storm_clients;
    let settings = [
        ("SERVER__CONNECTIONS_PER_ADDRESS_MAX", "20000"),
        ("SERVER__CONNECTIONS_PER_ADDRESS_PER_SECOND", "20000"),
        ("SERVER__CONNECTIONS_PER_ADDRESS_BURST", "20000"),
    ];
    let server = bench.starter.start_with(Subject::Duplex, &settings, deadline)?;
    let mut crowd = Crowd::new(server.address)?;
    let mut position = Value::Null;
    let opening = |_| vec![connect(None), subscribe("bench", None)];
    crowd.join(count, IN_FLIGHT_MAX, deadline, opening, |_, heard| note(heard, &mut position))?;
    drop(crowd);

    let mut publisher = Crowd::new(server.address)?;
    publisher.join(1, 1, deadline, |_| vec![connect(None)], answers)?;
    publisher.say(0, (0..MISSED).map(publication))?;
    publisher.turn(Duration::from_millis(100), deadline, answers)?;

    let deadline = bench.interrupt.deadline("coming back", LENGTH_MAX);
    let overflows = measure::listen_overflows()?;
    let mut returned = Returned { due: vec![0; count], complete: 0 };
    let begin = Instant::now();
    let mut crowd = Crowd::new(server.address)?;
    let opening = |_| vec![connect(None), subscribe("bench", Some(&position))];
    crowd.join(count, count, &deadline, opening, |index, heard| returned.hear(index, heard))?;
    while returned.complete < count {
        crowd.turn(WAIT_MAX, &deadline, |index, heard| returned.hear(index, heard))?;
    }
    let took = begin.elapsed();
    let overflowed = measure::listen_overflows()? - overflows;
    Ok(vec![(Metric::StormTime, took.as_secs_f64()), (Metric::StormOverflows, overflowed as f64)])
}

/// Those that came back, and what they have got.
struct Returned {
    /// Number of the publication that each gets next.
    due: Vec<u64>,
    complete: usize,
}

impl Returned {
    fn hear(&mut self, index: usize, heard: Heard<'_>) -> Result<(), Failure> {
        let Heard::Text(text) = heard else { return answers(index, heard) };
        if !is_publication(text) {
            return answers(index, heard);
        }
        let got = body(text, "publication")?["data"].as_u64().ok_or_else(|| strange(text))?;
        let due = &mut self.due[index];
        if got != *due {
            return Err(Failure::OutOfOrder { expected: *due, got });
        }
        *due += 1;
        self.complete += usize::from(*due == MISSED);
        Ok(())
    }
}

/// Where the subscription started: nothing is published before the storm, so all start there.
fn note(heard: Heard<'_>, position: &mut Value) -> Result<(), Failure> {
    if let Heard::Text(text) = &heard
        && let Ok(subscribed) = body(text, "subscribed")
    {
        *position = json!({ "epoch": subscribed["epoch"], "offset": subscribed["offset"] });
    }
    answers(0, heard)
}

fn publication(number: u64) -> Vec<u8> {
    json!({ "publish": { "channel": "bench", "data": number } }).to_string().into_bytes()
}
