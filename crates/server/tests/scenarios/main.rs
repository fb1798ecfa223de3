//! Every scenario of `conformance/scenarios/scenarios.txt`, with the Rust client, over every transport and in every form.
#![cfg(target_os = "linux")]

#[path = "../support/mod.rs"]
mod support;

mod actor;
mod gate;
mod language;
mod stage;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use duplex_client::{Form, Transport};

use language::{Scenario, scenarios};
use stage::Stage;

fn play_all(transport: Transport, form: Form) {
    for Scenario { title, lines } in scenarios() {
        let mut stage = Stage::set(transport, form);
        for line in &lines {
            let played = catch_unwind(AssertUnwindSafe(|| stage.play(line)));
            if let Err(panic) = played {
                eprintln!("failed in {title:?}, at: {line}");
                resume_unwind(panic);
            }
        }
        stage.end();
    }
}

#[test]
fn over_websocket_in_json() {
    play_all(Transport::WebSocket, Form::Json);
}

#[test]
fn over_websocket_in_message_pack() {
    play_all(Transport::WebSocket, Form::MessagePack);
}

#[test]
fn over_server_sent_events() {
    play_all(Transport::Sse, Form::Json);
}

#[test]
fn over_a_stream_in_json() {
    play_all(Transport::Stream, Form::Json);
}

#[test]
fn over_a_stream_in_message_pack() {
    play_all(Transport::Stream, Form::MessagePack);
}

#[test]
fn over_polls_in_json() {
    play_all(Transport::Poll, Form::Json);
}

#[test]
fn over_polls_in_message_pack() {
    play_all(Transport::Poll, Form::MessagePack);
}
