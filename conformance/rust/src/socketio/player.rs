//! The client under test, which notes what it is told.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rust_socketio::client::Client;
use rust_socketio::{ClientBuilder, Event, Payload, TransportType};
use serde_json::Value;

use crate::stage::{Failure, PATIENCE};

/// More than any story lets come before it looks.
const NOTES_MAX: usize = 1000;

/// What the client was told.
#[derive(Debug, Clone, PartialEq)]
pub enum Note {
    Connected,
    Closed,
    Failed(String),
    Event(String, Vec<Value>),
    Bytes(String, Vec<u8>),
}

pub struct Player {
    client: Client,
    notes: Receiver<Note>,
}

/// Where a client goes, and with what.
pub struct Ticket {
    pub url: String,
    pub namespace: &'static str,
    pub token: Option<&'static str>,
}

impl Ticket {
    pub fn to(url: impl Into<String>) -> Self {
        Self { url: url.into(), namespace: "/", token: None }
    }
}

impl Player {
    /// A client that has been told that it is connected. This client sends as soon as its transport is there, but nobody
    /// may say anything in a namespace before that.
    pub fn enter(ticket: Ticket, transport: TransportType) -> Result<Self, Failure> {
        let player = Self::try_entering(ticket, transport)?;
        player.hears(&Note::Connected)?;
        Ok(player)
    }

    /// A client that has asked to be connected.
    pub fn try_entering(ticket: Ticket, transport: TransportType) -> Result<Self, Failure> {
        let (sender, notes) = sync_channel(NOTES_MAX);
        let note = |make: fn(Payload) -> Note| {
            let sender = sender.clone();
            move |payload, _| tell(&sender, make(payload))
        };
        let any = sender.clone();
        let mut builder = ClientBuilder::new(ticket.url)
            .namespace(ticket.namespace)
            .transport_type(transport)
            .reconnect_delay(100, 300)
            .on(Event::Connect, note(|_| Note::Connected))
            .on(Event::Close, note(|_| Note::Closed))
            .on(Event::Error, note(|payload| Note::Failed(format!("{payload:?}"))))
            .on_any(move |event, payload, _| tell(&any, heard(event, payload)));
        if let Some(token) = ticket.token {
            builder = builder.auth(serde_json::json!({ "token": token }));
        }
        Ok(Self { client: builder.connect()?, notes })
    }

    /// The next thing it is told.
    pub fn next(&self) -> Result<Note, Failure> {
        self.notes.recv_timeout(PATIENCE).map_err(|_| "it was told nothing in time".into())
    }

    /// The next thing it is told is this.
    pub fn hears(&self, expected: &Note) -> Result<(), Failure> {
        match self.next()? {
            note if note == *expected => Ok(()),
            other => Err(format!("expected {expected:?}, heard {other:?}").into()),
        }
    }

    /// It is told this; what it is told before that does not matter.
    pub fn hears_at_last(&self, expected: &Note) -> Result<(), Failure> {
        while self.next()? != *expected {}
        Ok(())
    }

    /// Emits an event, and tells what it was acknowledged with.
    pub fn call(&self, event: &str, args: Value) -> Result<Value, Failure> {
        let (sender, answer) = sync_channel(1);
        let acknowledged = move |payload, _: rust_socketio::RawClient| {
            // Nobody listens any more when it comes too late.
            let _ = sender.send(arguments(payload));
        };
        let Value::Array(args) = args else { return Err("arguments are an array".into()) };
        self.client.emit_with_ack(event, args, PATIENCE, acknowledged)?;
        let answer =
            answer.recv_timeout(PATIENCE).map_err(|_| format!("{event} was not acknowledged in time"))?;
        // The arguments of an acknowledgement come as one value.
        let [Value::Array(args)] = answer.as_slice() else { return Err(format!("odd: {answer:?}").into()) };
        let [only] = args.as_slice() else { return Err(format!("not one argument: {args:?}").into()) };
        Ok(only.clone())
    }

    pub fn emit(&self, event: &str, payload: impl Into<Payload>) -> Result<(), Failure> {
        Ok(self.client.emit(event, payload)?)
    }

    pub fn leave(self) -> Result<(), Failure> {
        Ok(self.client.disconnect()?)
    }
}

fn tell(sender: &SyncSender<Note>, note: Note) {
    // Nobody listens any more when the story is over.
    let _ = sender.send(note);
}

fn heard(event: Event, payload: Payload) -> Note {
    let event = event.as_str().to_owned();
    match payload {
        Payload::Binary(bytes) => Note::Bytes(event, bytes.to_vec()),
        payload => Note::Event(event, arguments(payload)),
    }
}

fn arguments(payload: Payload) -> Vec<Value> {
    match payload {
        Payload::Text(values) => values,
        other => vec![Value::String(format!("{other:?}"))],
    }
}
