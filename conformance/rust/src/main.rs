//! rust_socketio, unmodified, against Duplex: each story over each way to the server, told as TAP.
//!
//! `DUPLEX_URL=http://127.0.0.1:8000 DUPLEX_PROGRAM=target/debug/duplex duplex-conformance-rust`

#![forbid(unsafe_code)]

mod player;
mod stage;
mod stories;

use std::env::var;
use std::process::ExitCode;

use rust_socketio::TransportType;

/// The ways to the server that the client knows.
const WAYS: [(&str, TransportType); 3] = [
    ("polling", TransportType::Polling),
    ("WebSocket", TransportType::Websocket),
    ("polling, then WebSocket", TransportType::WebsocketUpgrade),
];

fn main() -> ExitCode {
    let (Ok(url), Ok(program)) = (var("DUPLEX_URL"), var("DUPLEX_PROGRAM")) else {
        eprintln!("set DUPLEX_URL to the address of a running server, and DUPLEX_PROGRAM to the program");
        return ExitCode::FAILURE;
    };
    let only = var("ONLY").unwrap_or_default();
    let (mut number, mut failed) = (0, 0);
    for (way, transport) in WAYS {
        for (promise, story) in stories::ALL {
            let name = format!("over {way}: {promise}");
            if !name.contains(&only) {
                continue;
            }
            number += 1;
            let scene = stories::Scene { url: &url, program: &program, transport: transport.clone() };
            match story(&scene) {
                Ok(()) => println!("ok {number} - {name}"),
                Err(failure) => {
                    failed += 1;
                    println!("not ok {number} - {name}\n  # {failure}");
                }
            }
        }
    }
    println!("1..{number}\n# tests {number}\n# pass {}\n# fail {failed}", number - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
