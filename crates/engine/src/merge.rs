use std::sync::Arc;

use duplex_core::{Event, History, Past, Position, Recovered};

use crate::hub::Gap;
use crate::node::Delivery;

/// How a subscription starts.
pub(crate) struct Start {
    /// Where the channel stood when history was read.
    pub position: Position,
    /// Where the subscriber stands once `replay` was sent.
    pub end: Position,
    pub recovered: Recovered,
    /// What to send before anything live.
    pub replay: Vec<Arc<Delivery>>,
}

impl Start {
    /// From where on the subscriber gets everything.
    pub fn begin(&self) -> Position {
        let first = self.replay.iter().find_map(|delivery| match &delivery.event {
            Event::Publication(publication) => Some(publication.position),
            Event::Presence(_) => None,
        });
        first.map_or(self.end, |first| Position { offset: first.offset - 1, ..first })
    }
}

/// What of history the subscriber gets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Asked {
    /// What it missed.
    Missed,
    /// It named a position, but in this channel nothing is recovered.
    InVain,
    /// The newest publication, unless it has seen it.
    Newest(Option<Position>),
    /// Nothing.
    No,
}

/// Joins what history says was missed with what was published while history was read.
///
/// `held` are the deliveries since the subscriber began to join, in order; some of them may stand in `history` already,
/// some may even be older. The result has each publication after the client's position once and in order: all or nothing.
/// If what was held does not follow on history, something was lost on the way here.
pub(crate) fn merge(
    asked: Asked,
    history: History,
    held: Vec<Arc<Delivery>>,
    delivery: impl Fn(Arc<duplex_core::Publication>) -> Arc<Delivery>,
) -> Result<Start, Gap> {
    let (recovered, mut replay) = match (asked, history.past) {
        (Asked::No, _) => (Recovered::NotAsked, Vec::new()),
        (Asked::InVain, _) | (Asked::Missed, Past::Lost) => (Recovered::Nothing, Vec::new()),
        (Asked::Missed, Past::Kept(publications)) => {
            (Recovered::All, publications.into_iter().map(delivery).collect())
        }
        (Asked::Newest(since), past) => {
            let recovered = if since.is_some() { Recovered::All } else { Recovered::NotAsked };
            let newest = match past {
                Past::Kept(publications) => publications.into_iter().next(),
                Past::Lost => None,
            };
            let unseen = newest.filter(|newest| Some(newest.position) != since);
            (recovered, unseen.map(delivery).into_iter().collect())
        }
    };
    let mut end = history.position;
    for live in held {
        let Event::Publication(publication) = &live.event else {
            replay.push(live);
            continue;
        };
        let at = publication.position;
        if at.epoch == end.epoch && at.offset <= end.offset {
            continue;
        }
        if at.epoch != end.epoch || at.offset > end.offset + 1 {
            return Err(Gap);
        }
        end = at;
        replay.push(live);
    }
    Ok(Start { position: history.position, end, recovered, replay })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Node;
    use duplex_core::{ChannelName, Draft, Epoch, EventName, Json, Payload, Publication, Tags};
    use proptest::prelude::*;

    fn publication(offset: u64) -> Arc<Publication> {
        let draft = Draft {
            channel: ChannelName::parse("news").unwrap(),
            event: EventName::default(),
            payload: Payload::Data(Json::check(serde_json::from_str("1").unwrap()).unwrap()),
            tags: Tags::default(),
            client: None,
            time_ms: 0,
            key: None,
            audience: Default::default(),
        };
        Arc::new(Publication { position: position(offset), order: 0, draft })
    }

    fn position(offset: u64) -> Position {
        Position { epoch: Epoch::from_random([7; 6]), offset }
    }

    proptest! {
        /// The client saw up to `seen`; it began to join when the channel stood at `joined`, history was read at `read`,
        /// deliveries reached the shard up to `arrived`, and the inbox still had some from before the join.
        #[test]
        fn each_missed_publication_comes_once_and_in_order(
            seen in 0u64..20, joined in 0u64..20, read in 0u64..20, arrived in 0u64..20, lag in 0u64..5, ring in 0u64..20,
        ) {
            let (joined, read) = (seen + joined, seen + joined + read);
            let arrived = read + arrived;
            let node = Node::new(1, Vec::new(), 0);
            let live = |offset| node.delivery(Event::Publication(publication(offset)));
            let held = (joined.saturating_sub(lag) + 1..=arrived).map(live).collect();
            let past = if read - seen <= ring {
                Past::Kept((seen + 1..=read).map(publication).collect())
            } else {
                Past::Lost
            };
            let start = merge(Asked::Missed, History { position: position(read), past }, held, |p| node.delivery(Event::Publication(p)));
            let start = start.expect("nothing is missing here");
            let offset = |delivery: &Arc<Delivery>| match &delivery.event {
                Event::Publication(publication) => publication.position.offset,
                Event::Presence(_) => unreachable!("there are none here"),
            };
            let replayed: Vec<u64> = start.replay.iter().map(offset).collect();
            let from = if start.recovered == Recovered::All { seen } else { read };
            prop_assert_eq!(replayed, (from + 1..=arrived).collect::<Vec<_>>());
            prop_assert_eq!(start.position, position(read));
            prop_assert_eq!(start.end, position(arrived));
        }
    }
}
