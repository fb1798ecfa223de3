//! Subscriptions: which there are, where each stands, and what is asked for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::event::ClientEvent;
use crate::frame::Subscribed;
use crate::inbox::{Inbox, Put};
use crate::options::{Token, TokenReason, TokenRequest};
use crate::subscription::{Event, Seat};
use crate::{End, Member, Position, Publication, Refusal, SubscribeError, SubscribeOptions};

use super::commands::{Command, Commands, Purpose};
use super::{For, Wish};

/// Errors that may be over the next time: internal, not available, too many requests, timeout.
const TEMPORARY: [u16; 4] = [100, 108, 111, 114];
const ALREADY_SUBSCRIBED: u16 = 105;
const TOKEN_EXPIRED: u16 = 109;

/// Whether the server must be told to send no more of a channel: nobody wants it, or its reader has to catch up.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    No,
    Yes(Box<str>),
}

/// The subscriptions of a client, by channel.
#[derive(Debug, Default)]
pub(crate) struct Channels {
    by_name: BTreeMap<Box<str>, Channel>,
    last_serial: u64,
    /// Counts what was asked for subscriptions.
    last_turn: u64,
}

#[derive(Debug)]
struct Channel {
    /// Tells this subscription from an earlier one to the same channel.
    serial: u64,
    inbox: Arc<Inbox<Event>>,
    token: Token,
    /// Where the newest publication stands that is in the inbox or was, or where the subscription began.
    position: Option<Position>,
    phase: Phase,
    origin: Origin,
    failures: u32,
    /// What was asked in an earlier turn is of no interest any more.
    turn: u64,
    reason: TokenReason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Not asked for: there is no connection.
    Resting,
    /// Asked for.
    Asked,
    Live,
    /// Its inbox was full: nothing is wanted until its reader has read all.
    Lagging,
    /// Refused with an error that may pass; asked for again at this time.
    Again(Instant),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// Somebody asked for it.
    Wanted,
    /// The client's token subscribes it, and nobody has asked.
    Given,
    /// Both.
    GivenAndWanted,
}

impl Channels {
    /// Somebody wants to follow a channel.
    pub fn add(
        &mut self,
        name: Box<str>,
        options: SubscribeOptions,
        connected: bool,
        commands: &mut Commands,
        wishes: &mut VecDeque<Wish>,
    ) -> Result<Seat, SubscribeError> {
        if let Some(known) = self.by_name.get_mut(&name) {
            return match known.origin {
                Origin::Given => {
                    known.origin = Origin::GivenAndWanted;
                    Ok(known.seat())
                }
                // Its reader is gone, and the server is just being told.
                _ if known.inbox.is_abandoned() => {
                    self.by_name.remove(&name);
                    self.add(name, options, connected, commands, wishes)
                }
                _ => Err(SubscribeError::Taken),
            };
        }
        let SubscribeOptions { since, token, buffer } = options;
        let mut channel = self.channel(Inbox::new(buffer), token, Origin::Wanted);
        channel.position = since;
        let seat = channel.seat();
        let channel = self.by_name.entry(name.clone()).or_insert(channel);
        if connected {
            channel.begin(&name, &mut self.last_turn, commands, wishes);
        }
        Ok(seat)
    }

    fn channel(&mut self, inbox: Arc<Inbox<Event>>, token: Token, origin: Origin) -> Channel {
        self.last_serial += 1;
        Channel {
            serial: self.last_serial,
            inbox,
            token,
            position: None,
            phase: Phase::Resting,
            origin,
            failures: 0,
            turn: 0,
            reason: TokenReason::Connect,
        }
    }

    /// Nobody wants the channel any more. Says whether this was so known.
    pub fn remove(&mut self, name: &str, serial: u64) -> bool {
        let known = self.by_name.get(name).is_some_and(|channel| channel.serial == serial);
        if known && let Some(channel) = self.by_name.remove(name) {
            channel.finish(Event::Unsubscribed);
        }
        known
    }

    /// Where the client stands in the channels that its token gives it.
    pub fn given_positions(&self) -> serde_json::Map<String, serde_json::Value> {
        let given = self.by_name.iter().filter(|(_, channel)| channel.origin != Origin::Wanted);
        let positions = given.filter_map(|(name, channel)| {
            let position = serde_json::to_value(channel.position.as_ref()?).ok()?;
            Some((name.to_string(), position))
        });
        positions.collect()
    }

    /// A connection begins: asks for all there are. Those that are behind wait for their readers.
    pub fn begin_all(&mut self, commands: &mut Commands, wishes: &mut VecDeque<Wish>) {
        for (name, channel) in &mut self.by_name {
            match channel.origin {
                _ if channel.phase == Phase::Lagging => {}
                Origin::Given => channel.phase = Phase::Asked,
                Origin::Wanted | Origin::GivenAndWanted => {
                    channel.begin(name, &mut self.last_turn, commands, wishes);
                }
            }
        }
    }

    /// A reader that was behind has read all: asks for what it missed.
    pub fn resume(
        &mut self,
        name: &str,
        serial: u64,
        connected: bool,
        commands: &mut Commands,
        wishes: &mut VecDeque<Wish>,
    ) {
        let Some(channel) = self.by_name.get_mut(name) else { return };
        if channel.serial != serial || channel.phase != Phase::Lagging {
            return;
        }
        channel.phase = Phase::Resting;
        if connected {
            channel.begin(name, &mut self.last_turn, commands, wishes);
        }
    }

    /// How often in a row the channel was refused with an error that may pass.
    pub fn failures(&self, name: &str) -> u32 {
        self.by_name.get(name).map_or(0, |channel| channel.failures)
    }

    /// A token for a channel was got, or not; then it is tried `again`.
    pub fn token(
        &mut self,
        name: &str,
        turn: u64,
        token: Result<String, String>,
        again: Instant,
        commands: &mut Commands,
        wishes: &mut VecDeque<Wish>,
    ) {
        let Some(channel) = self.by_name.get_mut(name).filter(|channel| channel.turn == turn) else { return };
        match token {
            Ok(token) => channel.ask(name, Some(&token), commands),
            Err(problem) => {
                channel.later(again);
                wishes.push_back(Wish::Tell(ClientEvent::Trouble(problem)));
            }
        }
    }

    /// The server has subscribed the client, as it asked.
    pub fn subscribed(&mut self, name: &str, turn: u64, subscribed: &Subscribed) {
        if let Some(channel) = self.by_name.get_mut(name).filter(|channel| channel.turn == turn) {
            channel.start(subscribed);
        }
    }

    /// The token subscribes the client. Says whether that is more than its reader can take now.
    pub fn given(&mut self, subscribed: &Subscribed, wishes: &mut VecDeque<Wish>) -> Leave {
        let name = &subscribed.channel;
        if !self.by_name.contains_key(name) {
            let inbox = Inbox::new(SubscribeOptions::default().buffer);
            let channel = self.channel(inbox, Token::None, Origin::Given);
            self.by_name.insert(name.clone(), channel);
            wishes.push_back(Wish::Tell(ClientEvent::Given { channel: name.clone() }));
        }
        let Some(channel) = self.by_name.get_mut(name) else { return Leave::No };
        if channel.origin == Origin::Wanted {
            channel.origin = Origin::GivenAndWanted;
        }
        if channel.phase == Phase::Lagging {
            return Leave::Yes(name.clone());
        }
        channel.start(subscribed);
        Leave::No
    }

    /// The server did not subscribe the client. If that may be another time, it is asked `again`.
    pub fn refused(&mut self, name: &str, turn: u64, refusal: Refusal, again: Instant) {
        let Some(channel) = self.by_name.get_mut(name).filter(|channel| channel.turn == turn) else { return };
        // The token of the client subscribes it too, and that was faster.
        if refusal.code == ALREADY_SUBSCRIBED {
            return;
        }
        let renewable = refusal.code == TOKEN_EXPIRED && channel.token.is_renewable();
        if renewable {
            channel.reason = TokenReason::Expired;
        }
        if renewable || TEMPORARY.contains(&refusal.code) {
            channel.later(again);
            let _ = channel.put(Event::Postponed(refusal));
        } else if let Some(channel) = self.by_name.remove(name) {
            channel.finish(Event::Refused(refusal));
        }
    }

    /// Something was published. Says whether it was too much for its reader.
    pub fn publication(&mut self, publication: Publication) -> Leave {
        let Some((name, channel)) = self.live(&publication.channel) else { return Leave::No };
        let position = publication.position.clone();
        let leave = channel.offer(name, Event::Publication(publication));
        if channel.phase == Phase::Live {
            channel.position = Some(position);
        }
        self.settle(leave)
    }

    /// Something else happened in a channel.
    pub fn event(&mut self, name: &str, event: Event) -> Leave {
        let Some((name, channel)) = self.live(name) else { return Leave::No };
        let leave = channel.offer(name, event);
        self.settle(leave)
    }

    fn live(&mut self, name: &str) -> Option<(Box<str>, &mut Channel)> {
        let channel = self.by_name.get_mut(name)?;
        (channel.phase == Phase::Live).then(|| (name.into(), channel))
    }

    /// A channel that nobody reads any more is forgotten.
    fn settle(&mut self, leave: Leave) -> Leave {
        if let Leave::Yes(name) = &leave
            && self.by_name.get(name).is_some_and(|channel| channel.inbox.is_abandoned())
        {
            self.by_name.remove(name);
        }
        leave
    }

    pub fn deadline(&self) -> Option<Instant> {
        let again = self.by_name.values().filter_map(|channel| match channel.phase {
            Phase::Again(at) => Some(at),
            _ => None,
        });
        again.min()
    }

    pub fn timeout(&mut self, now: Instant, commands: &mut Commands, wishes: &mut VecDeque<Wish>) {
        for (name, channel) in &mut self.by_name {
            if matches!(channel.phase, Phase::Again(at) if at <= now) {
                channel.begin(name, &mut self.last_turn, commands, wishes);
            }
        }
    }

    /// There is no connection: nothing is subscribed to.
    pub fn rest(&mut self) {
        for channel in self.by_name.values_mut() {
            channel.turn = 0;
            if channel.phase != Phase::Lagging {
                channel.phase = Phase::Resting;
            }
        }
    }

    /// There will be no connection any more.
    pub fn end(&mut self, end: &End) {
        for channel in std::mem::take(&mut self.by_name).into_values() {
            channel.finish(Event::Closed(end.clone()));
        }
    }
}

impl Channel {
    fn seat(&self) -> Seat {
        Seat { serial: self.serial, inbox: Arc::clone(&self.inbox) }
    }

    /// Asks for it, or for the token that it takes.
    fn begin(&mut self, name: &str, turns: &mut u64, commands: &mut Commands, wishes: &mut VecDeque<Wish>) {
        *turns += 1;
        self.turn = *turns;
        match &self.token {
            Token::None => self.ask(name, None, commands),
            Token::Fixed(token) => {
                let token = token.clone();
                self.ask(name, Some(&token), commands);
            }
            Token::Ask(source) => {
                self.phase = Phase::Asked;
                let request = TokenRequest { reason: self.reason, channel: Some(name.into()) };
                let asked = For::Subscription { channel: name.into(), turn: self.turn };
                wishes.push_back(Wish::Token(source.clone(), request, asked));
            }
        }
    }

    fn ask(&mut self, name: &str, token: Option<&str>, commands: &mut Commands) {
        self.phase = Phase::Asked;
        let mut body = serde_json::json!({ "channel": name });
        if let Some(position) = &self.position {
            body["since"] = serde_json::json!(position);
        }
        if let Some(token) = token {
            body["token"] = token.into();
        }
        let purpose = Purpose::Subscribe { channel: name.into(), turn: self.turn };
        commands.push(Command::new("subscribe", &body), purpose, None);
    }

    fn start(&mut self, subscribed: &Subscribed) {
        // Nothing was recovered if the server was not told of a position that is known here.
        let recovered = subscribed.recovered.or(self.position.is_some().then_some(false));
        let position = subscribed.position();
        // What was missed follows, and until it is here, the old position is where we stand.
        if recovered != Some(true) {
            self.position = Some(position.clone());
        }
        (self.phase, self.failures, self.reason) = (Phase::Live, 0, TokenReason::Connect);
        self.inbox.put_anyway(Event::Subscribed { position, recovered });
    }

    fn later(&mut self, again: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.phase = Phase::Again(again);
    }

    fn put(&self, event: Event) -> Put {
        self.inbox.put(event)
    }

    /// Gives its reader something. One that does not read is told that it is behind.
    fn offer(&mut self, name: Box<str>, event: Event) -> Leave {
        match self.put(event) {
            Put::Done => Leave::No,
            Put::Abandoned => Leave::Yes(name),
            Put::Full => {
                self.phase = Phase::Lagging;
                self.inbox.put_anyway(Event::Lagged);
                Leave::Yes(name)
            }
        }
    }

    fn finish(self, last: Event) {
        self.inbox.put_anyway(last);
        self.inbox.end();
    }
}

/// The command that ends a subscription.
pub(super) fn unsubscribe(name: &str) -> Command {
    Command::new("unsubscribe", &serde_json::json!({ "channel": name }))
}

/// Reads the object of a `joined` or `left` frame.
pub(super) fn presence(json: &RawValue) -> Result<(Box<str>, Member), serde_json::Error> {
    #[derive(Deserialize)]
    struct Change {
        channel: Box<str>,
        client: Box<str>,
        #[serde(default)]
        user: Option<Box<str>>,
        #[serde(default)]
        info: Option<serde_json::Value>,
    }
    let Change { channel, client, user, info } = serde_json::from_str(json.get())?;
    Ok((channel, Member { client, user, info }))
}
