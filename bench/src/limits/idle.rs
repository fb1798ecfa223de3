//! Memory of idle clients with everything on: a token each, heartbeats, a recoverable subscription.

use crate::deadline::Deadline;
use crate::failure::Failure;
use crate::load::IN_FLIGHT_MAX;
use crate::subjects::Subject;
use crate::work::{Bench, Measured, Metric, WARM_CLIENTS};

use super::crowd::{Crowd, answers};
use super::words::{self, connect, subscribe, token};

/// Growth of the server's memory over so many clients, each a user of its own.
pub fn idle(bench: &Bench, deadline: &Deadline) -> Result<Measured, Failure> {
    let settings = [
        ("AUTH__HMAC_SECRET", words::SECRET),
        ("NAMESPACE__DEFAULT__ALLOW__SUBSCRIBE", "user"),
        ("SERVER__CONNECTIONS_PER_ADDRESS_MAX", "20000"),
        ("SERVER__CONNECTIONS_PER_ADDRESS_PER_SECOND", "20000"),
    ];
    let server = bench.starter.start_with(Subject::Duplex, &settings, deadline)?;
    let mut crowd = Crowd::new(server.address)?;
    let opening =
        |index: usize| vec![connect(Some(&token(&format!("user-{index}")))), subscribe("bench", None)];
    crowd.join(WARM_CLIENTS, IN_FLIGHT_MAX, deadline, opening, answers)?;
    let before = server.settled_bytes(|pause| crowd.turn(pause, deadline, answers))?;
    crowd.join(bench.sizes.idle_clients, IN_FLIGHT_MAX, deadline, opening, answers)?;
    let after = server.settled_bytes(|pause| crowd.turn(pause, deadline, answers))?;
    Ok(vec![(Metric::MemoryToken, (after - before) / bench.sizes.idle_clients as f64)])
}
