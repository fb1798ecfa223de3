//! Clients without a WebSocket: what an idle one occupies, and what a delivery by Server-Sent Events costs.

use crate::deadline::Deadline;
use crate::failure::Failure;
use crate::load::Load;
use crate::load::dialect::Role;
use crate::load::manner::Manner;
use crate::load::wire::Transport;
use crate::race;
use crate::subjects::Subject;
use crate::work::{Bench, Measured, Metric};

/// Growth of the server's memory over so many clients with one subscription each.
pub fn memory(bench: &Bench, deadline: &Deadline) -> Result<Measured, Failure> {
    let per_client = |manner, metric| {
        let transport = Transport::Requests(manner);
        let bytes = bench.memory_per_client(Subject::Duplex, transport, Role::Subscriber, deadline)?;
        Ok((metric, bytes))
    };
    Ok(vec![
        per_client(Manner::EventSource, Metric::EventSourceMemory)?,
        per_client(Manner::Events, Metric::EventsMemory)?,
        per_client(Manner::Poll, Metric::PollMemory)?,
    ])
}

/// Server CPU per delivery to sessions that Server-Sent Events carry, as multiple of that over WebSockets, one publication at
/// a time.
pub fn fanout(bench: &Bench, deadline: &Deadline) -> Result<Measured, Failure> {
    let sizes = &bench.sizes;
    let contestants = [
        (Subject::Duplex, Transport::WebSocket(Subject::Duplex.dialect())),
        (Subject::Duplex, Transport::Requests(Manner::Events)),
    ];
    let task = |load: &mut Load, deadline: &Deadline| {
        race::publish(load, sizes.subscribers, sizes.publications_per_slice, 1, deadline)
    };
    let runners = bench.run(&contestants, &mut |_| (), task, deadline)?;
    let costs: Vec<f64> = runners.iter().map(race::Runner::cost).collect();
    Ok(vec![(Metric::EventsFanout, costs[1] / costs[0])])
}
