//! rust_socketio and signalr-client, unmodified, against Duplex: each story over each way to the server, told as TAP.
//!
//! `DUPLEX_URL=http://127.0.0.1:8000 DUPLEX_PROGRAM=target/debug/duplex duplex-conformance-rust`

#![forbid(unsafe_code)]

mod signalr;
mod socketio;
mod stage;

use std::env::var;
use std::process::ExitCode;

use stage::Place;

fn main() -> ExitCode {
    let (Ok(url), Ok(program)) = (var("DUPLEX_URL"), var("DUPLEX_PROGRAM")) else {
        eprintln!("set DUPLEX_URL to the address of a running server, and DUPLEX_PROGRAM to the program");
        return ExitCode::FAILURE;
    };
    let place = Place { url, program };
    let only = var("ONLY").unwrap_or_default();
    let (mut number, mut failed) = (0, 0);
    for story in socketio::stories().chain(signalr::stories()).filter(|story| story.name.contains(&only)) {
        number += 1;
        match (story.play)(&place) {
            Ok(()) => println!("ok {number} - {}", story.name),
            Err(failure) => {
                failed += 1;
                println!("not ok {number} - {}\n  # {failure}", story.name);
            }
        }
    }
    println!("1..{number}\n# tests {number}\n# pass {}\n# fail {failed}", number - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
