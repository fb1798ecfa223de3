//! The blocking client of rust_socketio, over every way it has to the server.

mod player;
mod stories;

use rust_socketio::TransportType;

use crate::stage::{Place, Story};

const WAYS: [(&str, TransportType); 3] = [
    ("polling", TransportType::Polling),
    ("WebSocket", TransportType::Websocket),
    ("polling, then WebSocket", TransportType::WebsocketUpgrade),
];

/// Every story over each way.
pub fn stories() -> impl Iterator<Item = Story> {
    WAYS.into_iter().flat_map(|(way, transport)| {
        stories::ALL.into_iter().map(move |(promise, story)| {
            let transport = transport.clone();
            let play = move |place: &Place| {
                let scene =
                    stories::Scene { url: &place.url, program: &place.program, transport: transport.clone() };
                story(&scene)
            };
            Story { name: format!("Socket.IO over {way}: {promise}"), play: Box::new(play) }
        })
    })
}
