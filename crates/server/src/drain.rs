//! Stopping without losing anybody: clients are sent away at a pace that those who take them in can bear.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use duplex_engine::{Node, Shard};
use tokio::time::interval;

use crate::assemble::Stage;
use crate::options::Drain;

/// How often some clients are sent away.
const STEP: Duration = Duration::from_millis(50);
/// How often it is logged how far it has come.
const REPORT: Duration = Duration::from_secs(1);

/// Sends the clients of one of `shards` shards away, and whoever still comes, until the time for it is over.
pub(crate) async fn send_away(
    shard: &Shard,
    drain: Drain,
    shards: usize,
    mut stage: tokio::sync::watch::Receiver<Stage>,
) {
    let spread_ms = u32::try_from(drain.spread.as_millis()).unwrap_or(u32::MAX);
    let step = step(drain, shard.sessions(), shards);
    let mut steps = interval(STEP);
    loop {
        tokio::select! {
            _ = stage.wait_for(|stage| *stage == Stage::Over) => return,
            _ = steps.tick() => shard.send_away(step, spread_ms),
        };
    }
}

/// Clients to be sent away in each step: as many as set, but so that half the time suffices.
fn step(drain: Drain, sessions: usize, shards: usize) -> usize {
    let steps_a_second = (1_000 / STEP.as_millis()) as usize;
    let wanted = drain.clients_per_second.div_ceil(shards * steps_a_second);
    let steps = (drain.timeout / 2).as_millis() / STEP.as_millis();
    wanted.max(sessions.div_ceil(usize::try_from(steps).unwrap_or(usize::MAX).max(1)))
}

/// What is under way for clients that are not, or no more, at this node. One that stops waits for it: a poll of another node's
/// client that is cut off would end its session for some, and what is kept of those that were sent away is what they come back by.
#[derive(Clone, Default)]
pub(crate) struct Unfinished(Arc<AtomicUsize>);

/// Some of it. Dropping it ends it.
pub(crate) struct Work(Arc<AtomicUsize>);

impl Unfinished {
    pub fn begin(&self) -> Work {
        self.0.fetch_add(1, Relaxed);
        Work(Arc::clone(&self.0))
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Waits until all clients have left, and nothing is unfinished, or until the deadline, and logs how far it has come.
pub(crate) fn watch(node: &Node, unfinished: &Unfinished, deadline: Instant) {
    let mut reported = Instant::now();
    tracing::info!(clients = node.gauges().sessions(), "stopping: clients are asked to come back");
    loop {
        let clients = node.gauges().sessions();
        if clients == 0 && unfinished.0.load(Relaxed) == 0 {
            return tracing::info!("stopped: all clients have left");
        }
        if Instant::now() >= deadline {
            return tracing::warn!(clients, "stopped: these clients did not leave in time and are cut off");
        }
        if reported.elapsed() >= REPORT {
            reported = Instant::now();
            tracing::info!(clients, "stopping: waiting for clients to leave");
        }
        thread::sleep(STEP / 5);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_as_set_unless_the_time_would_not_suffice() {
        let drain = |clients_per_second, seconds| Drain {
            clients_per_second,
            timeout: Duration::from_secs(seconds),
            ..Drain::default()
        };
        assert_eq!(step(drain(1_000, 30), 100, 1), 50);
        assert_eq!(step(drain(1_000, 30), 100, 2), 25);
        assert_eq!(step(drain(1, 30), 15_000, 2), 50);
        assert_eq!(step(drain(1, 1), 15_000, 2), 1_500);
    }
}
