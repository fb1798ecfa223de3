use std::sync::Arc;
use std::time::{Duration, Instant};

use duplex_core::ChannelName;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::address::Address;
use crate::conversation::Command;
use crate::event::Listeners;
use crate::publication::present;
use crate::task::{self, Ask, Control};
use crate::wire::Dialer;
use crate::{
    ClientEvent, ClientEvents, CommandError, ConnectError, End, Form, Member, Message, Options, Payload,
    Position, Publication, SubscribeError, SubscribeOptions, Subscription, Times, Transport,
};

/// A connection to a Duplex server that comes back by itself, and what is said on it.
///
/// A handle that is cheaply cloned. The connection ends when the last handle and the last [`Subscription`] are dropped, or with
/// [`close`](Self::close).
#[derive(Debug, Clone)]
pub struct Client {
    asks: mpsc::Sender<Ask>,
    control: mpsc::Sender<Control>,
    listeners: Arc<Listeners>,
    times: Times,
}

/// Where something was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The channel.
    pub channel: Box<str>,
    /// The publication's place there.
    pub position: Position,
}

/// Which way history is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// From the oldest to the newest.
    #[default]
    OldestFirst,
    /// From the newest to the oldest.
    NewestFirst,
}

/// Which part of a channel's history is read.
#[derive(Debug, Clone, Default)]
pub struct HistoryOptions {
    /// Where the page before ended. Default `None`: begins at the end that is read from.
    pub since: Option<Position>,
    /// Publications at most, 1 to 1,000. Default `None`: 100.
    pub limit: Option<u32>,
    /// Which way. Default oldest first.
    pub order: Order,
}

/// A page of a channel's history. It may be shorter than asked for: what is large comes in more pages.
#[derive(Debug, Clone)]
pub struct History {
    /// The channel's newest position: a page that ends before it has a next one.
    pub position: Position,
    /// The publications.
    pub publications: Vec<Publication>,
}

/// How many are subscribed to a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct PresenceStats {
    /// Connections.
    pub clients: usize,
    /// Different users among them.
    pub users: usize,
}

/// Who is subscribed to a channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Presence {
    /// How many there are.
    pub stats: PresenceStats,
    /// Them, as many as the server lists.
    pub members: Vec<Member>,
}

impl Client {
    /// A client of the server at `url`, which begins to connect. `url` has the scheme http, https, ws or wss, and may have a
    /// path that the server's paths stand behind.
    ///
    /// # Errors
    /// The URL or the options cannot be used.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new(url: &str, options: Options) -> Result<Self, ConnectError> {
        let address = Address::parse(url)?;
        let usable = |transport: &Transport| options.form == Form::Json || *transport != Transport::Sse;
        if !options.transports.iter().any(usable) {
            return Err(ConnectError::NoTransport);
        }
        let times = options.times;
        let dialer = Dialer::new(address)?;
        let (handles, listeners) = task::start(dialer, options);
        let (asks, control) = handles;
        Ok(Self { asks, control, listeners, times })
    }

    /// The same, when it is connected.
    ///
    /// # Errors
    /// The URL or the options cannot be used, the server refuses this client, or there is no connection within
    /// [`Times::connect`](crate::Times::connect).
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn connect(url: &str, options: Options) -> Result<Self, ConnectError> {
        let client = Self::new(url, options)?;
        let mut events = client.events();
        let within = client.times.connect;
        let mut last = End::broken("the server has not answered");
        let arrival = async {
            while let Some(event) = events.next().await {
                match event {
                    ClientEvent::Connected { .. } => return Ok(()),
                    ClientEvent::Closed(end) => return Err(ConnectError::Refused(end)),
                    ClientEvent::Disconnected { end, .. } => last = end,
                    _ => {}
                }
            }
            Ok(())
        };
        match timeout(within, arrival).await {
            Ok(arrived) => arrived.map(|()| client),
            Err(_) => Err(ConnectError::Timeout { within, last }),
        }
    }

    /// What happens to the client from now on.
    pub fn events(&self) -> ClientEvents {
        self.listeners.listen()
    }

    /// Follows a channel; a client has one subscription to each. Whether the server allows it, the first event says.
    ///
    /// # Errors
    /// See [`SubscribeError`].
    pub async fn subscribe(
        &self,
        channel: &str,
        options: SubscribeOptions,
    ) -> Result<Subscription, SubscribeError> {
        ChannelName::parse(channel).map_err(SubscribeError::Channel)?;
        let since = options.since.clone();
        let (reply, answer) = oneshot::channel();
        let channel: Box<str> = channel.into();
        let subscribe = Control::Subscribe { channel: channel.clone(), options, reply };
        self.control.send(subscribe).await.map_err(|_| SubscribeError::Closed)?;
        let known = answer.await.map_err(|_| SubscribeError::Closed)??;
        Ok(Subscription::new(channel, known, since, self.control.clone()))
    }

    /// Publishes a message.
    ///
    /// # Errors
    /// See [`CommandError`]. After [`CommandError::Unknown`] it may be repeated if it has an idempotency key.
    pub async fn publish(&self, channel: &str, message: Message) -> Result<Published, CommandError> {
        check(channel)?;
        message.check()?;
        let Message { event, payload, tags, idempotency_key } = &message;
        let (data, args) = data_and_args(payload);
        let (event, key) = (event.as_deref(), idempotency_key.as_deref());
        let tags = Some(tags).filter(|tags| !tags.is_empty());
        let body = Publish { channel, event, data, args, tags, idempotency_key: key };
        let answer: Standing = self.ask(Command::new("publish", &body)).await?;
        Ok(Published { position: answer.position(), channel: answer.channel })
    }

    /// Asks the backend, and returns its answer: a value, or an array if it answered with arguments.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn call(&self, method: &str, payload: Payload) -> Result<Box<RawValue>, CommandError> {
        let (data, args) = data_and_args(&payload);
        let called: Called = self.ask(Command::new("call", &Call { method, data, args })).await?;
        let unreadable = || CommandError::Unreadable("there is neither data nor args".to_owned());
        called.data.or(called.args).ok_or_else(unreadable)
    }

    /// Reads a page of a channel's history.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn history(&self, channel: &str, options: HistoryOptions) -> Result<History, CommandError> {
        check(channel)?;
        let HistoryOptions { since, limit, order } = &options;
        let reverse = (*order == Order::NewestFirst).then_some(true);
        let body = ReadHistory { channel, since: since.as_ref(), limit: *limit, reverse };
        let page: Page = self.ask(Command::new("history", &body)).await?;
        let publications = page.publications.iter().map(|publication| Publication::read(publication));
        let publications = publications.collect::<Result<_, _>>().map_err(unreadable)?;
        Ok(History { position: Position { epoch: page.epoch, offset: page.offset }, publications })
    }

    /// Who is subscribed to a channel.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn presence(&self, channel: &str) -> Result<Presence, CommandError> {
        check(channel)?;
        let Present { clients, users, members } =
            self.ask(Command::new("presence", &Channel { channel })).await?;
        Ok(Presence { stats: PresenceStats { clients, users }, members })
    }

    /// How many are subscribed to a channel.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn presence_stats(&self, channel: &str) -> Result<PresenceStats, CommandError> {
        check(channel)?;
        self.ask(Command::new("presence_stats", &Channel { channel })).await
    }

    /// How long a message to the server and its answer take.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn ping(&self) -> Result<Duration, CommandError> {
        let began = Instant::now();
        let _: serde::de::IgnoredAny = self.ask(Command::new("ping", &serde_json::Map::new())).await?;
        Ok(began.elapsed())
    }

    /// Ends the connection, in good manners if the network lets us; resolved when it is over. What was asked and is not
    /// answered yet has failed then.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        // Either fails only if the client is closed already.
        if self.control.send(Control::Close(done)).await.is_ok() {
            let _ = closed.await;
        }
    }

    async fn ask<T: for<'a> Deserialize<'a>>(&self, command: Command) -> Result<T, CommandError> {
        let (asker, answer) = oneshot::channel();
        let gone = || CommandError::Closed(self.listeners.end());
        // Where many commands wait already, this is where those who ask wait.
        match timeout(self.times.command, self.asks.send(Ask { command, asker })).await {
            Ok(sent) => sent.map_err(|_| gone())?,
            Err(_) => return Err(CommandError::Timeout { within: self.times.command }),
        }
        let answer = answer.await.map_err(|_| gone())??;
        serde_json::from_str(answer.get()).map_err(unreadable)
    }
}

fn check(channel: &str) -> Result<(), CommandError> {
    let name = |problem| CommandError::Name { field: "channel", problem };
    ChannelName::parse(channel).map(drop).map_err(name)
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
fn unreadable(error: serde_json::Error) -> CommandError {
    CommandError::Unreadable(error.to_string())
}

fn data_and_args(payload: &Payload) -> (Option<&RawValue>, Option<&RawValue>) {
    match payload {
        Payload::Data(data) => (Some(data), None),
        Payload::Args(args) => (None, Some(args)),
    }
}

#[derive(Serialize)]
struct Channel<'a> {
    channel: &'a str,
}

#[derive(Serialize)]
struct Publish<'a> {
    channel: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    args: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<&'a std::collections::BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<&'a str>,
}

#[derive(Serialize)]
struct Call<'a> {
    method: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    args: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct ReadHistory<'a> {
    channel: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<&'a Position>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reverse: Option<bool>,
}

#[derive(Deserialize)]
struct Standing {
    channel: Box<str>,
    epoch: Box<str>,
    offset: u64,
}

impl Standing {
    fn position(&self) -> Position {
        Position { epoch: self.epoch.clone(), offset: self.offset }
    }
}

#[derive(Deserialize)]
struct Called {
    #[serde(default, deserialize_with = "present")]
    data: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "present")]
    args: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Page {
    epoch: Box<str>,
    offset: u64,
    publications: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Present {
    clients: usize,
    users: usize,
    members: Vec<Member>,
}
