//! The client under test behind calls that wait, which notes what it is told.

use std::sync::LazyLock;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use futures::{Stream, StreamExt};
use serde_json::Value;
use signalr_client::{ArgumentConfiguration, CallbackHandler, InvocationContext, SignalRClient};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::stage::{Failure, PATIENCE, equal};

/// More than any story lets come before it looks.
const NOTES_MAX: usize = 1000;
/// It hears only what it has a handler for.
const EVENTS: [&str; 6] = ["message", "said", "count", "text", "file", "$error"];
/// The event that it answers, with its first argument.
pub const ASKED: &str = "ready?";

fn runtime() -> &'static Runtime {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("threads"));
    &RUNTIME
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Json,
    MessagePack,
}

/// An event and its arguments.
pub type Note = (String, Vec<Value>);

pub struct Player {
    client: SignalRClient,
    handlers: Vec<Box<dyn FnOnce()>>,
    notes: Receiver<Note>,
}

impl Player {
    /// A client that is connected.
    pub fn enter(url: &str, encoding: Encoding, token: Option<String>) -> Result<Self, Failure> {
        let port: i32 = url.rsplit_once(':').ok_or("no port")?.1.parse()?;
        let connecting = SignalRClient::connect_with("127.0.0.1", "signalr", |options| {
            options.unsecure();
            options.with_port(port);
            if encoding == Encoding::MessagePack {
                options.with_messagepack_protocol();
            }
            if let Some(token) = &token {
                options.authenticate_bearer(token.clone());
            }
        });
        let client = runtime().block_on(async { timeout(PATIENCE, connecting).await })??;
        let (sender, notes) = sync_channel(NOTES_MAX);
        let mut player = Self { client, handlers: Vec::new(), notes };
        for event in EVENTS {
            let sender = sender.clone();
            player.on(event, move |context| tell(&sender, event, &context));
        }
        player.on(ASKED, answer);
        Ok(player)
    }

    fn on(&mut self, event: &str, handle: impl Fn(InvocationContext) + Send + 'static) {
        let handler = self.client.register(event.into(), handle);
        self.handlers.push(Box::new(move || handler.unregister()));
    }

    /// The next event that it is told.
    pub fn next(&self) -> Result<Note, Failure> {
        self.notes.recv_timeout(PATIENCE).map_err(|_| "it was told nothing in time".into())
    }

    /// The next events that it is told are these.
    pub fn hears(&self, expected: &[(&str, Value)]) -> Result<(), Failure> {
        for (event, args) in expected {
            equal(self.next()?, ((*event).to_owned(), args.as_array().cloned().unwrap_or_default()))?;
        }
        Ok(())
    }

    /// Invokes, and tells the result or the error.
    pub fn call(&mut self, target: &str, args: &Value) -> Result<Result<Value, String>, Failure> {
        let args = args.clone();
        let calling = self.client.invoke_with_args::<Value, _>(target.into(), |call| put(call, &args));
        Ok(runtime().block_on(async { timeout(PATIENCE, calling).await })?)
    }

    /// Invokes and wants no answer.
    pub fn send(&mut self, target: &str, args: &Value) -> Result<(), Failure> {
        let args = args.clone();
        Ok(runtime().block_on(self.client.send_with_args(target.into(), |call| put(call, &args)))?)
    }

    /// Asks for a stream.
    pub fn stream(&mut self, target: &str, args: &Value) -> impl Stream<Item = Value> + use<> {
        let args = args.clone();
        runtime().block_on(
            self.client.enumerate_with_args::<Value, _>(target.into(), move |call| put(call, &args)),
        )
    }

    /// Its connection is closed. The client keeps it as long as it has a handler.
    pub fn leave(mut self) {
        for unregister in self.handlers.drain(..) {
            unregister();
        }
        self.client.disconnect();
    }
}

/// The next item, or that there is none any more.
pub fn item(stream: &mut (impl Stream<Item = Value> + Unpin)) -> Result<Option<Value>, Failure> {
    Ok(runtime().block_on(async { timeout(PATIENCE, stream.next()).await })?)
}

fn put(call: &mut ArgumentConfiguration, args: &Value) {
    for arg in args.as_array().into_iter().flatten() {
        call.argument(arg.clone());
    }
}

fn tell(sender: &SyncSender<Note>, event: &str, context: &InvocationContext) {
    let args = (0..).map_while(|index| context.argument(index).ok()).collect();
    // Nobody listens any more when the story is over.
    let _ = sender.send((event.into(), args));
}

fn answer(mut context: InvocationContext) {
    let result = context.argument::<Value>(0).unwrap_or_default();
    InvocationContext::spawn(async move {
        // The story finds out when the answer does not come.
        let _ = context.complete(result).await;
    });
}
