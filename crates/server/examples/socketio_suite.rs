//! The server that the official test suites of Engine.IO and Socket.IO want: a backend in Rust that says back what it hears.
//!
//! `cargo run --example socketio_suite`, then run the suites within a minute: see docs/conformance.md.

use std::sync::Arc;
use std::time::Duration;

use duplex::auth::Anonymous;
use duplex::backend::{
    Arrival, Backend, Call, ChannelName, Emission, ErrorCode, EventName, Identity, Json, Payload, Pending,
    Refusal, Said,
};
use duplex::{Mode, Namespace, Options, Server};

/// Lets everybody in, whatever token it shows, and knows `message` and `message-with-ack`.
struct Parrot(Arc<dyn Backend>);

impl Backend for Parrot {
    fn connect(&self, _: Option<&str>) -> Pending<Result<Identity, Refusal>> {
        Box::pin(async { Ok(Identity::default()) })
    }

    fn subscribe(&self, who: &Identity, channel: &ChannelName, token: &str) -> Pending<Result<(), Refusal>> {
        self.0.subscribe(who, channel, token)
    }

    /// Tells a client what it said about itself.
    fn connected(&self, arrival: Arrival) -> Option<Pending<Vec<Emission>>> {
        let hello = Payload::Data(arrival.hello?);
        Some(Box::pin(async { vec![event("auth", hello)] }))
    }

    fn call(&self, call: Call) -> Pending<Result<Said, Refusal>> {
        Box::pin(async move {
            match &*call.method {
                "message" => {
                    Ok(Said { events: vec![event("message-back", call.payload)], payload: nothing() })
                }
                "message-with-ack" => Ok(Said { events: Vec::new(), payload: call.payload }),
                other => Err(Refusal::new(ErrorCode::NotAvailable, format!("nothing is known of {other:?}"))),
            }
        })
    }
}

fn event(name: &str, payload: Payload) -> Emission {
    Emission { event: EventName::parse(name).expect("a right name"), payload }
}

fn nothing() -> Payload {
    let empty = serde_json::from_str("[]").expect("right JSON");
    Payload::Args(Json::check(empty).expect("it is not deep"))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Closed, so that a namespace that is not configured is none.
    let mut options = Options { listen: "127.0.0.1:3000".parse()?, mode: Mode::Closed, ..Options::default() };
    options.auth.anonymous = Anonymous::Allowed;
    // What the suite counts on.
    options.settings.heartbeat_ms = 300;
    options.settings.pong_ms = 200;
    options.settings.connect_ms = 1_000;
    options.websocket.message_bytes = 1_000_000;
    options.namespaces.insert("custom".to_owned(), Namespace::default());
    let server = Server::start_with(options, |configured| Arc::new(Parrot(configured)))?;
    println!("http://{}/", server.address());
    // The suite takes seconds.
    std::thread::sleep(Duration::from_secs(60));
    server.stop();
    Ok(())
}
