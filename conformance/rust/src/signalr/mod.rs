//! signalr-client over WebSockets, in both of its encodings.

mod player;
mod stories;

use crate::stage::Story;
use player::Encoding;

/// Every story in each encoding.
pub fn stories() -> impl Iterator<Item = Story> {
    [Encoding::Json, Encoding::MessagePack].into_iter().flat_map(|encoding| {
        stories::ALL.into_iter().filter(move |(_, encodings, _)| encodings.contains(&encoding)).map(
            move |(promise, _, story)| Story {
                name: format!("SignalR in {encoding:?}: {promise}"),
                play: Box::new(move |place| story(&stories::Scene { place, encoding })),
            },
        )
    })
}
