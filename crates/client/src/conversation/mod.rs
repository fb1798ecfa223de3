//! What client and server say to each other, apart from how it gets there: commands, answers and subscriptions.
//!
//! Invariant: after each call that may change something, the caller drains [`Conversation::poll_wish`] and
//! [`Conversation::next_message`].

mod commands;
mod channels;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Serialize;

use crate::event::ClientEvent;
use crate::form::Form;
use crate::frame::{Connected, Frame, Kind};
use crate::options::{TokenReason, TokenRequest, TokenSource};
use crate::subscription::{Event, Seat};
use crate::{CommandError, End, Refusal, SubscribeError, SubscribeOptions, Times};

use channels::{Channels, Leave};
pub(crate) use commands::{Answer, Asker, Command};
use commands::{Commands, Purpose};

/// Longest message before the server knows the client, bytes (`client.first_message_bytes_max`).
const FIRST_BYTES_MAX: usize = 16 * 1024;
/// A token is renewed when this part of its time is over.
const RENEW_AT: f64 = 0.9;
/// A token that is nearly over is not renewed more often than this.
const RENEW_MIN: Duration = Duration::from_secs(1);
/// How soon after a failure to get a newer token it is tried again.
const RENEW_AGAIN: Duration = Duration::from_secs(5);

/// A message to the server.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    /// The id of its first command: an answer to this or a later one says that the message has arrived.
    pub first_id: u64,
    pub bytes: Bytes,
}

/// What a conversation wants of the world.
#[derive(Debug)]
pub(crate) enum Wish {
    /// Get a token; the answer goes to [`Conversation::token`].
    Token(TokenSource, TokenRequest, For),
    /// Tell those who listen to the client.
    Tell(ClientEvent),
    /// The server has let the client in.
    Greeted(Connected),
    /// The server does not let the client in.
    Refused(Refusal),
}

/// What a token was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum For {
    /// A connection that is to be made: the connector's business.
    Connection {
        turn: u64,
    },
    Refresh {
        turn: u64,
    },
    Subscription {
        channel: Box<str>,
        turn: u64,
    },
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    /// There is no connection.
    Apart,
    /// The first message is under way.
    Introduced,
    /// The server has let the client in.
    Met,
}

/// A client's conversation, over as many connections as it takes.
pub(crate) struct Conversation {
    form: Form,
    times: Times,
    stage: Stage,
    /// Counts connections: what was asked for an earlier one is of no interest any more.
    turn: u64,
    commands: Commands,
    channels: Channels,
    message_bytes_max: usize,
    renewal: Option<(Instant, TokenSource)>,
    source: Option<TokenSource>,
    wishes: VecDeque<Wish>,
}

#[derive(Serialize)]
struct Introduction<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    since: serde_json::Map<String, serde_json::Value>,
}

impl Conversation {
    /// `source` gives newer tokens, if there is one.
    pub fn new(form: Form, times: Times, source: Option<TokenSource>) -> Self {
        Self {
            form,
            times,
            stage: Stage::Apart,
            turn: 0,
            commands: Commands::default(),
            channels: Channels::default(),
            message_bytes_max: 0,
            renewal: None,
            source,
            wishes: VecDeque::new(),
        }
    }

    /// The message that begins a connection: `connect`, and the subscriptions there are.
    pub fn introduce(&mut self, token: Option<&str>) -> Outgoing {
        self.turn += 1;
        self.stage = Stage::Introduced;
        let since = self.channels.given_positions();
        let connect = Command::new("connect", &Introduction { token, since });
        let waiting = self.commands.set_aside();
        self.commands.push(connect, Purpose::Connect, None);
        self.channels.begin_all(&mut self.commands, &mut self.wishes);
        let first = self.commands.next(FIRST_BYTES_MAX.max(self.commands.first_bytes()));
        self.commands.put_back(waiting);
        let (first_id, json) = first.expect("connect is there, and fits");
        Outgoing { first_id, bytes: self.form.write(json) }
    }

    /// The next message, if there is something to say and the server knows who says it.
    pub fn next_message(&mut self) -> Option<Outgoing> {
        if self.stage != Stage::Met {
            return None;
        }
        let (first_id, json) = self.commands.next(self.message_bytes_max)?;
        Some(Outgoing { first_id, bytes: self.form.write(json) })
    }

    pub fn poll_wish(&mut self) -> Option<Wish> {
        self.wishes.pop_front()
    }

    /// Whether one more command may wait.
    pub fn has_room(&self) -> bool {
        self.commands.has_room()
    }

    /// Asks the server, now or when there is a connection.
    pub fn ask(&mut self, command: Command, asker: Asker, now: Instant) {
        let expires = now + self.times.command;
        self.commands.push(command, Purpose::Caller(asker), Some(expires));
    }

    /// Asks whether somebody is there.
    pub fn ping(&mut self) {
        self.commands.push(Command::new("ping", &serde_json::Map::new()), Purpose::Silent, None);
    }

    /// A channel somebody wants to follow.
    pub fn subscribe(
        &mut self,
        channel: Box<str>,
        options: SubscribeOptions,
    ) -> Result<Seat, SubscribeError> {
        let connected = self.stage != Stage::Apart;
        self.channels.add(channel, options, connected, &mut self.commands, &mut self.wishes)
    }

    /// Nobody wants to follow the channel any more; `done` is told when nothing more comes.
    pub fn unsubscribe(&mut self, channel: &str, serial: u64, done: Option<Asker>) {
        if self.channels.remove(channel, serial) {
            self.leave(channel, done);
        }
    }

    fn leave_if(&mut self, leave: Leave) {
        if let Leave::Yes(channel) = leave {
            self.leave(&channel, None);
        }
    }

    fn leave(&mut self, channel: &str, done: Option<Asker>) {
        if self.stage != Stage::Apart {
            self.commands.push(
                channels::unsubscribe(channel),
                done.map_or(Purpose::Silent, Purpose::Caller),
                None,
            );
        }
    }

    /// The reader of a subscription that lagged behind has read everything.
    pub fn resume(&mut self, channel: &str, serial: u64) {
        let connected = self.stage != Stage::Apart;
        self.channels.resume(channel, serial, connected, &mut self.commands, &mut self.wishes);
    }

    /// A token was got, or not.
    pub fn token(&mut self, asked: For, token: Result<String, String>, now: Instant, chance: u32) {
        match asked {
            For::Refresh { turn } if turn == self.turn && self.stage == Stage::Met => {
                self.refresh(token, now);
            }
            For::Subscription { channel, turn } => {
                let again =
                    now + crate::backoff::jitter(&self.times, self.channels.failures(&channel), chance);
                self.channels.token(&channel, turn, token, again, &mut self.commands, &mut self.wishes);
            }
            For::Refresh { .. } | For::Connection { .. } => {}
        }
    }

    fn refresh(&mut self, token: Result<String, String>, now: Instant) {
        match token {
            Ok(token) => {
                let body = serde_json::json!({ "token": token });
                self.commands.push(Command::new("refresh", &body), Purpose::Refresh, None);
            }
            Err(problem) => {
                self.wishes.push_back(Wish::Tell(ClientEvent::Trouble(problem)));
                self.renew_in(RENEW_AGAIN, now);
            }
        }
    }

    /// Something came from the server.
    pub fn take(&mut self, frame: Frame, now: Instant, chance: u32) {
        match (frame.kind, frame.id) {
            (Kind::Publication(json), _) => self.published(&json),
            (Kind::Joined(json), _) => self.changed(&json, Event::Joined),
            (Kind::Left(json), _) => self.changed(&json, Event::Left),
            (Kind::Error(refusal), None) => {
                self.wishes.push_back(Wish::Tell(ClientEvent::Trouble(refusal.to_string())));
            }
            (Kind::Subscribed(subscribed), None) => {
                let leave = self.channels.given(&subscribed, &mut self.wishes);
                self.leave_if(leave);
            }
            (kind, Some(id)) => {
                if let Some(purpose) = self.commands.answered(id) {
                    self.answered(purpose, kind, now, chance);
                }
            }
            _ => {}
        }
    }

    fn published(&mut self, json: &serde_json::value::RawValue) {
        match crate::Publication::read(json) {
            Ok(publication) => {
                let leave = self.channels.publication(publication);
                self.leave_if(leave);
            }
            Err(error) => self.unreadable(&error),
        }
    }

    fn changed(&mut self, json: &serde_json::value::RawValue, event: fn(crate::Member) -> Event) {
        match channels::presence(json) {
            Ok((channel, member)) => {
                let leave = self.channels.event(&channel, event(member));
                self.leave_if(leave);
            }
            Err(error) => self.unreadable(&error),
        }
    }

    fn unreadable(&mut self, error: &serde_json::Error) {
        let problem = format!("the server sent what is not as the protocol says: {error}");
        self.wishes.push_back(Wish::Tell(ClientEvent::Trouble(problem)));
    }

    fn answered(&mut self, purpose: Purpose, answer: Kind, now: Instant, chance: u32) {
        match (purpose, answer) {
            (Purpose::Caller(asker), Kind::Error(refusal)) => drop(asker.send(Err(refusal.into()))),
            (Purpose::Caller(asker), Kind::Answer(answer)) => drop(asker.send(Ok(answer))),
            (Purpose::Connect, Kind::Connected(connected)) => self.greet(connected, now),
            (Purpose::Connect, Kind::Error(refusal)) => self.wishes.push_back(Wish::Refused(refusal)),
            (Purpose::Refresh, Kind::Answer(answer)) => self.refreshed(&answer, now),
            (Purpose::Refresh, Kind::Error(refusal)) => {
                self.wishes.push_back(Wish::Tell(ClientEvent::Trouble(refusal.to_string())));
                self.renew_in(RENEW_AGAIN, now);
            }
            (Purpose::Subscribe { channel, turn }, Kind::Subscribed(subscribed)) => {
                self.channels.subscribed(&channel, turn, &subscribed);
            }
            (Purpose::Subscribe { channel, turn }, Kind::Error(refusal)) => {
                let again =
                    now + crate::backoff::jitter(&self.times, self.channels.failures(&channel), chance);
                self.channels.refused(&channel, turn, refusal, again);
            }
            (Purpose::Caller(asker), _) => {
                let problem = "it answers another command".to_owned();
                drop(asker.send(Err(CommandError::Unreadable(problem))));
            }
            _ => {}
        }
    }

    fn greet(&mut self, connected: Connected, now: Instant) {
        self.stage = Stage::Met;
        self.message_bytes_max = connected.message_bytes_max;
        self.renew_after(connected.expires_in_ms, now);
        self.wishes.push_back(Wish::Greeted(connected));
    }

    fn refreshed(&mut self, answer: &serde_json::value::RawValue, now: Instant) {
        #[derive(serde::Deserialize)]
        struct Refreshed {
            #[serde(default)]
            expires_in_ms: Option<u64>,
        }
        let refreshed: Option<Refreshed> = serde_json::from_str(answer.get()).ok();
        self.renew_after(refreshed.and_then(|refreshed| refreshed.expires_in_ms), now);
    }

    fn renew_after(&mut self, expires_in_ms: Option<u64>, now: Instant) {
        self.renewal = None;
        if let Some(expires_in_ms) = expires_in_ms {
            self.renew_in(Duration::from_millis(expires_in_ms).mul_f64(RENEW_AT).max(RENEW_MIN), now);
        }
    }

    fn renew_in(&mut self, delay: Duration, now: Instant) {
        self.renewal = self.source.clone().and_then(|source| Some((now.checked_add(delay)?, source)));
    }

    /// When [`timeout`](Self::timeout) wants to be called.
    pub fn deadline(&self) -> Option<Instant> {
        let renewal = self.renewal.as_ref().map(|(at, _)| *at);
        let again = if self.stage == Stage::Apart { None } else { self.channels.deadline() };
        [renewal, again, self.commands.deadline()].into_iter().flatten().min()
    }

    /// Time has passed.
    pub fn timeout(&mut self, now: Instant) {
        self.commands.expire(now, self.times.command);
        if let Some((_, source)) = self.renewal.take_if(|(at, _)| *at <= now) {
            let request = TokenRequest { reason: TokenReason::Refresh, channel: None };
            self.wishes.push_back(Wish::Token(source, request, For::Refresh { turn: self.turn }));
        }
        if self.stage != Stage::Apart {
            self.channels.timeout(now, &mut self.commands, &mut self.wishes);
        }
    }

    /// The connection is over: what was sent is not answered any more.
    pub fn lost(&mut self, end: &End) {
        self.stage = Stage::Apart;
        self.turn += 1;
        self.renewal = None;
        self.commands.lost(end);
        self.channels.rest();
    }

    /// There will be no connection any more.
    pub fn closed(&mut self, end: &End) {
        self.lost(end);
        self.commands.fail(end);
        self.channels.end(end);
    }
}

#[cfg(test)]
mod tests;
