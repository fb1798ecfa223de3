//! A client of a scenario, behind a network of its own.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use duplex_client::{
    Client, ClientEvent, ClientEvents, Event, Form, HistoryOptions, Message, Options, Payload,
    SubscribeOptions, Subscription, Token, TokenReason, Transport,
};
use serde_json::Value;
use serde_json::value::to_raw_value;
use tokio::runtime::Handle;

use crate::gate::Gate;
use crate::language::numbered;
use crate::support::eventually;
use crate::support::tokens::{now, signed};

/// What it was told.
#[derive(Debug, Default)]
pub struct Note {
    pub connected: bool,
    pub publications: Vec<(String, Value)>,
    pub subscribed: Vec<(String, Option<bool>)>,
    pub presence: Vec<String>,
    /// Codes, and whether it comes back.
    pub ends: Vec<(u16, bool)>,
    pub refreshes: usize,
    pub trouble: Vec<String>,
}

pub struct Actor {
    pub gate: Gate,
    handle: Handle,
    client: Client,
    note: Arc<Mutex<Note>>,
    /// Publications of each channel that the scenario has named.
    taken: HashMap<String, usize>,
    ends_taken: usize,
}

/// As whom and how an actor comes.
pub struct Part<'a> {
    pub name: &'a str,
    pub token_seconds: f64,
    pub transport: Transport,
    pub form: Form,
    pub secret: &'static str,
}

impl Actor {
    pub fn enter(handle: &Handle, server: SocketAddr, part: &Part<'_>) -> Self {
        let gate = Gate::open(handle, server);
        let note: Arc<Mutex<Note>> = Arc::default();
        let transports = vec![part.transport];
        let token = tokens(part, Arc::clone(&note));
        let options = Options { token, transports, form: part.form, ..Options::default() };
        let client = {
            let _inside = handle.enter();
            Client::new(&format!("http://{}", gate.address), options).expect("the options are right")
        };
        handle.spawn(listen(client.events(), Arc::clone(&note)));
        let (handle, taken) = (handle.clone(), HashMap::new());
        let actor = Self { gate, handle, client, note, taken, ends_taken: 0 };
        actor.is("connected", |note| note.connected);
        actor
    }

    fn note(&self) -> MutexGuard<'_, Note> {
        locked(&self.note)
    }

    /// Waits until it was told so.
    pub fn is(&self, what: &str, holds: impl Fn(&Note) -> bool) {
        let told = || format!("{what}: {:.2000}", format!("{:?}", self.note()));
        eventually(told, || holds(&self.note()));
    }

    pub fn subscribe(&mut self, channel: &str) {
        let subscribing = self.client.subscribe(channel, SubscribeOptions::default());
        let subscription = self.handle.block_on(subscribing).expect("it may subscribe");
        self.handle.spawn(follow(subscription, Arc::clone(&self.note)));
        self.is("subscribed", |note| note.subscribed.iter().any(|(name, _)| name == channel));
    }

    pub fn publish(&self, channel: &str, value: &Value) {
        let data = Payload::Data(to_raw_value(value).expect("a value is JSON"));
        let publishing = self.client.publish(channel, Message::of(data));
        self.handle.block_on(publishing).expect("it may publish");
    }

    pub fn history(&self, channel: &str, limit: usize) -> Vec<Value> {
        let limit = Some(u32::try_from(limit).expect("a page is small"));
        let reading = self.client.history(channel, HistoryOptions { limit, ..HistoryOptions::default() });
        let page = self.handle.block_on(reading).expect("it may read history");
        page.publications.iter().map(duplex_client::Publication::value).collect()
    }

    pub fn count(&self, channel: &str) -> usize {
        self.handle.block_on(self.client.presence_stats(channel)).expect("it may count").clients
    }

    /// The next publications of a channel must be these: as many as there are, none twice.
    pub fn gets(&mut self, channel: &str, values: &[Value]) {
        let taken = self.taken.entry(channel.to_owned()).or_default();
        let (before, until) = (*taken, *taken + values.len());
        *taken = until;
        let mine = |note: &Note| -> Vec<Value> {
            let mine = note.publications.iter().filter(|(name, _)| name == channel);
            mine.map(|(_, value)| numbered(value.clone())).collect()
        };
        self.is(&format!("{until} publications in {channel}"), |note| {
            note.publications.iter().filter(|(name, _)| name == channel).count() >= until
        });
        assert_eq!(&mine(&self.note())[before..until], values);
    }

    /// The next end that it was told of.
    pub fn is_told(&mut self, code: u16, comes_back: bool) {
        let seen = self.ends_taken;
        self.is("an end", |note| note.ends.len() > seen);
        assert_eq!(self.note().ends[seen], (code, comes_back));
        self.ends_taken += 1;
    }

    pub fn stays(&self) {
        let note = self.note();
        assert_eq!((&note.ends[self.ends_taken..], note.connected), (&[][..], true), "{:?}", note.trouble);
    }

    pub fn close(&self) {
        self.handle.block_on(self.client.close());
    }

    /// Nothing came that the scenario did not name.
    pub fn has_nothing_more(&self) {
        let named = self.taken.values().sum::<usize>();
        let came = self.note().publications.len();
        assert_eq!(came, named, "publications came that nobody named");
    }
}

fn locked(note: &Mutex<Note>) -> MutexGuard<'_, Note> {
    note.lock().unwrap_or_else(PoisonError::into_inner)
}

fn tokens(part: &Part<'_>, note: Arc<Mutex<Note>>) -> Token {
    let (name, seconds, secret) = (part.name.to_owned(), part.token_seconds, part.secret);
    Token::ask(move |request| {
        if request.reason == TokenReason::Refresh {
            locked(&note).refreshes += 1;
        }
        let token = signed(secret, &name, &serde_json::json!({ "exp": now() + seconds }));
        async move { Ok(token) }
    })
}

async fn listen(mut events: ClientEvents, note: Arc<Mutex<Note>>) {
    while let Some(event) = events.next().await {
        let mut note = locked(&note);
        match event {
            ClientEvent::Connected { .. } => note.connected = true,
            ClientEvent::Disconnected { end, .. } => {
                note.connected = false;
                note.ends.push((end.code, true));
            }
            ClientEvent::Closed(end) => {
                note.connected = false;
                note.ends.push((end.code, false));
            }
            ClientEvent::Trouble(trouble) => note.trouble.push(trouble),
            ClientEvent::Transport(_) | ClientEvent::Given { .. } => {}
        }
    }
}

async fn follow(mut subscription: Subscription, note: Arc<Mutex<Note>>) {
    let channel = subscription.channel().to_owned();
    while let Some(event) = subscription.next().await {
        let mut note = locked(&note);
        let user = |member: duplex_client::Member| member.user.unwrap_or_default();
        match event {
            Event::Publication(publication) => {
                note.publications.push((channel.clone(), publication.value()));
            }
            Event::Subscribed { recovered, .. } => note.subscribed.push((channel.clone(), recovered)),
            Event::Joined(member) => note.presence.push(format!("{} join {channel}", user(member))),
            Event::Left(member) => note.presence.push(format!("{} leave {channel}", user(member))),
            other => note.trouble.push(format!("{channel}: {other:?}")),
        }
    }
}
