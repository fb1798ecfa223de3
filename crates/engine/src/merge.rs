use std::sync::Arc;

use duplex_core::{History, Past, Position, Recovered};

use crate::node::Delivery;

/// How a subscription starts.
pub(crate) struct Start {
    /// Where it stands once `replay` was sent.
    pub position: Position,
    pub recovered: Recovered,
    /// What to send before anything live.
    pub replay: Vec<Arc<Delivery>>,
}

/// Whether the subscriber wants what it missed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Asked {
    Yes,
    No,
}

/// Joins what history says was missed with what was published while history was read.
///
/// `held` are the deliveries since the subscriber began to join, in order; some of them may stand in `history` already,
/// some may even be older. The result has each publication after the client's position once and in order: all or nothing.
pub(crate) fn merge(
    asked: Asked,
    history: History,
    held: Vec<Arc<Delivery>>,
    delivery: impl Fn(Arc<duplex_core::Publication>) -> Arc<Delivery>,
) -> Start {
    let (recovered, mut replay) = match (asked, history.past) {
        (Asked::No, _) => (Recovered::NotAsked, Vec::new()),
        (Asked::Yes, Past::Lost) => (Recovered::Nothing, Vec::new()),
        (Asked::Yes, Past::Kept(publications)) => {
            (Recovered::All, publications.into_iter().map(delivery).collect())
        }
    };
    let mut end = history.position;
    for live in held {
        let at = live.publication.position;
        if at.epoch == end.epoch && at.offset > end.offset {
            end = at;
            replay.push(live);
        }
    }
    Start { position: history.position, recovered, replay }
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
        };
        Arc::new(Publication { position: position(offset), draft })
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
            let held = (joined.saturating_sub(lag) + 1..=arrived).map(|offset| node.delivery(publication(offset))).collect();
            let past = if read - seen <= ring {
                Past::Kept((seen + 1..=read).map(publication).collect())
            } else {
                Past::Lost
            };
            let start = merge(Asked::Yes, History { position: position(read), past }, held, |p| node.delivery(p));
            let replayed: Vec<u64> = start.replay.iter().map(|d| d.publication.position.offset).collect();
            let from = if start.recovered == Recovered::All { seen } else { read };
            prop_assert_eq!(replayed, (from + 1..=arrived).collect::<Vec<_>>());
            prop_assert_eq!(start.position, position(read));
        }
    }
}
