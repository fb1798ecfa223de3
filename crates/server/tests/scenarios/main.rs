//! Every scenario of `conformance/scenarios/scenarios.txt`, with the Rust client, over every transport and in every form.
#![cfg(target_os = "linux")]

#[path = "../support/mod.rs"]
mod support;

mod actor;
mod gate;
mod house;
mod language;
mod stage;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use duplex_client::{Form, Transport};

use house::Host;
use language::{Scenario, scenarios};
use stage::Stage;

fn play_all(host: Host, transport: Transport, form: Form) {
    for Scenario { title, lines } in scenarios() {
        let mut stage = Stage::set(host, transport, form);
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
    play_all(Host::One, Transport::WebSocket, Form::Json);
}

#[test]
fn over_websocket_in_message_pack() {
    play_all(Host::One, Transport::WebSocket, Form::MessagePack);
}

#[test]
fn over_server_sent_events() {
    play_all(Host::One, Transport::Sse, Form::Json);
}

#[test]
fn over_a_stream_in_json() {
    play_all(Host::One, Transport::Stream, Form::Json);
}

#[test]
fn over_a_stream_in_message_pack() {
    play_all(Host::One, Transport::Stream, Form::MessagePack);
}

#[test]
fn over_polls_in_json() {
    play_all(Host::One, Transport::Poll, Form::Json);
}

#[test]
fn over_polls_in_message_pack() {
    play_all(Host::One, Transport::Poll, Form::MessagePack);
}

/// Whatever comes next may be at another node.
mod redis {
    use super::*;

    #[test]
    fn three_nodes_over_websocket_in_json() {
        play_all(Host::Three, Transport::WebSocket, Form::Json);
    }

    #[test]
    fn three_nodes_over_server_sent_events() {
        play_all(Host::Three, Transport::Sse, Form::Json);
    }

    #[test]
    fn three_nodes_over_a_stream_in_message_pack() {
        play_all(Host::Three, Transport::Stream, Form::MessagePack);
    }

    #[test]
    fn three_nodes_over_polls_in_json() {
        play_all(Host::Three, Transport::Poll, Form::Json);
    }
}
