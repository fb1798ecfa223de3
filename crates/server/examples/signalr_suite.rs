//! An application in Rust behind SignalR clients, as the suite in `conformance/signalr` wants it: methods that answer, fail, send events,
//! stream, and take streams.
//!
//! `cargo run --example signalr_suite 127.0.0.1:0` says where it listens, and ends when its input does.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use duplex::backend::{
    Arrival, Backend, Call, ChannelName, Emission, ErrorCode, EventName, Identity, Json, Payload, Pending,
    Refusal, Said,
};
use duplex::{Options, Server};
use serde_json::{Value, json};

/// Knows some methods; tokens are left to the configured backend.
struct Hub(Arc<dyn Backend>);

impl Backend for Hub {
    fn connect(&self, token: Option<&str>) -> Pending<Result<Identity, Refusal>> {
        self.0.connect(token)
    }

    fn subscribe(&self, who: &Identity, channel: &ChannelName, token: &str) -> Pending<Result<(), Refusal>> {
        self.0.subscribe(who, channel, token)
    }

    fn connected(&self, arrival: Arrival) -> Option<Pending<Vec<Emission>>> {
        self.0.connected(arrival)
    }

    fn call(&self, call: Call) -> Pending<Result<Said, Refusal>> {
        Box::pin(async move {
            match &*call.method {
                // As it came, so that bytes stay bytes.
                "Echo" => Ok(Said { payload: call.payload, events: Vec::new() }),
                "Wait" => {
                    let milliseconds = arguments(&call)[0].as_u64().unwrap_or_default();
                    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
                    answer(json!(milliseconds))
                }
                _ => said(&call),
            }
        })
    }
}

/// What there is to say at once.
fn said(call: &Call) -> Result<Said, Refusal> {
    let arguments = arguments(call);
    match &*call.method {
        "WhoAmI" => answer(json!(call.client.to_string())),
        "Fail" => Err(Refusal::new(ErrorCode::BadRequest, format!("no good: {}", text(&arguments[0])))),
        "Forbidden" => Err(Refusal::new(ErrorCode::PermissionDenied, "not for everybody".to_owned())),
        "Nothing" => Ok(Said { payload: Payload::Args(checked(&json!([]))), events: Vec::new() }),
        "Tell" => Ok(tell("Message", &arguments)),
        "TellObject" => Ok(tell("CustomObject", &arguments)),
        "Letters" => answer(json!(["a", "b", "c"])),
        "NoLetters" => answer(json!([])),
        "Concat" => answer(json!(items(&arguments[0]).map(text).collect::<String>())),
        "Join" => answer(json!(arguments)),
        "Double" => {
            answer(items(&arguments[0]).map(|n| json!(n.as_f64().unwrap_or_default() * 2.0)).collect())
        }
        other => Err(Refusal::new(ErrorCode::UnknownCommand, format!("there is no {other}"))),
    }
}

fn arguments(call: &Call) -> Vec<Value> {
    let value: Value = serde_json::from_str(call.payload.json().as_str()).expect("right JSON");
    match (&call.payload, value) {
        (Payload::Args(_), Value::Array(arguments)) => arguments,
        (_, value) => vec![value],
    }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("not a text")
}

fn checked(value: &Value) -> Json {
    let raw = serde_json::value::to_raw_value(value).expect("right JSON");
    Json::check(&raw).expect("it is not deep")
}

fn answer(value: Value) -> Result<Said, Refusal> {
    Ok(Said { payload: Payload::Data(checked(&value)), events: Vec::new() })
}

/// An event for the client, and no value.
fn tell(event: &str, arguments: &[Value]) -> Said {
    let event = EventName::parse(event).expect("a right name");
    let payload = Payload::Args(checked(&json!(arguments)));
    Said { payload: Payload::Args(checked(&json!([]))), events: vec![Emission { event, payload }] }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listen = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8000".to_owned());
    let options = Options { listen: listen.parse()?, ..Options::default() };
    let server = Server::start_with(options, |configured| Arc::new(Hub(configured)))?;
    println!("http://{}", server.address());
    std::io::stdin().read_to_end(&mut Vec::new())?;
    server.stop();
    Ok(())
}
