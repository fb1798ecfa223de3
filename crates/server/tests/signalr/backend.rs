//! A backend in Rust that answers some calls.

use std::sync::Arc;

use duplex::Options;
use duplex::backend::{
    Backend, Call, ChannelName, Emission, ErrorCode, EventName, Identity, Json, Payload, Pending, Refusal,
    Said,
};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::support::{Running, start_with};

/// Whoever calls `wait` is answered when it may go on.
#[derive(Clone)]
pub struct Gate(Arc<Semaphore>);

impl Gate {
    /// One of those who wait, or come to wait, may go on.
    pub fn open(&self) {
        self.0.add_permits(1);
    }
}

/// A server with that backend, and what holds back its slow calls.
pub fn start(options: Options) -> (Running, Gate) {
    let gate = Gate(Arc::new(Semaphore::new(0)));
    let inner = gate.clone();
    (start_with(options, |configured| Arc::new(Parrot { configured, gate: inner })), gate)
}

struct Parrot {
    configured: Arc<dyn Backend>,
    gate: Gate,
}

impl Backend for Parrot {
    fn connect(&self, token: Option<&str>) -> Pending<Result<Identity, Refusal>> {
        self.configured.connect(token)
    }

    fn subscribe(&self, who: &Identity, channel: &ChannelName, token: &str) -> Pending<Result<(), Refusal>> {
        self.configured.subscribe(who, channel, token)
    }

    fn call(&self, call: Call) -> Pending<Result<Said, Refusal>> {
        let gate = self.gate.clone();
        Box::pin(async move {
            let refused = |code, message: &str| Err(Refusal::new(code, message));
            match &*call.method {
                "echo" => Ok(said(call.payload)),
                "wait" => {
                    gate.0.acquire().await.expect("it is never closed").forget();
                    Ok(said(call.payload))
                }
                "seven" => Ok(said(Payload::Data(checked(&json!(7))))),
                "list" => Ok(said(Payload::Args(checked(&json!([1, [2], { "three": 3 }]))))),
                "nothing" => Ok(said(Payload::Args(checked(&json!([]))))),
                "back" => Ok(Said {
                    events: vec![event("before", call.payload)],
                    ..said(Payload::Data(checked(&json!(1))))
                }),
                "who" => Ok(said(Payload::Data(checked(&json!(call.identity.user.as_deref()))))),
                "unknown" => refused(ErrorCode::UnknownCommand, "there is no such thing"),
                "stranger" => refused(ErrorCode::Unauthorized, "say who you are"),
                "forbidden" => refused(ErrorCode::PermissionDenied, "not for you"),
                "broken" => refused(ErrorCode::Internal, "it \"broke\""),
                other => refused(ErrorCode::NotAvailable, &format!("nothing is known of {other:?}")),
            }
        })
    }
}

fn said(payload: Payload) -> Said {
    Said { events: Vec::new(), payload }
}

fn event(name: &str, payload: Payload) -> Emission {
    Emission { event: EventName::parse(name).expect("a right name"), payload }
}

fn checked(value: &Value) -> Json {
    Json::check(serde_json::from_str(&value.to_string()).expect("it is JSON")).expect("it is not deep")
}
