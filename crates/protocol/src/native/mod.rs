//! The native protocol, in JSON or MessagePack: see `docs/protocol.md`.

pub(crate) mod frame;
mod request;

use std::sync::Arc;

use bytes::Bytes;
use duplex_core::{
    Answer, ChannelName, CloseReason, Closing, Command, ErrorCode, Frame, Message, Position, PresenceChange,
    Protocol, Publication, Recovered, Refusal, Step, Steps, Ticket,
};

use crate::msgpack;
use frame::Id;
use request::{Introduction, Request};

/// A message in MessagePack may be so many times as long in JSON: the worst are control characters, which are escaped.
const JSON_GROWTH: usize = 6;

/// What the server tells about itself when a client connects.
#[derive(Debug, Clone)]
pub struct Welcome {
    /// Of the server.
    pub version: &'static str,
    /// See `docs/protocol.md`, connect.
    pub heartbeat_ms: u32,
    /// Longest message the server accepts, bytes.
    pub message_bytes_max: usize,
    /// Most subscriptions of one client.
    pub subscriptions_max: usize,
}

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// JSON in text messages: subprotocol `duplex.v1.json`.
    Json,
    /// The same as MessagePack in binary messages: subprotocol `duplex.v1.msgpack`.
    MessagePack,
}

/// One client's conversation.
#[derive(Debug)]
pub struct Native {
    welcome: Arc<Welcome>,
    form: Form,
    stage: Stage,
    farewell: Farewell,
}

/// When the client is told in a frame why the server closes.
#[derive(Debug, PartialEq, Eq)]
enum Farewell {
    /// When there is more to say than its transport has words for.
    AtNeed,
    /// Always: its transport may have no words.
    Always,
}

#[derive(Debug)]
enum Stage {
    /// Nothing but `connect` and `ping` is carried out.
    Waiting,
    /// These are the positions from which the channels in its token are recovered.
    Connecting(Box<[(ChannelName, Position)]>),
    Connected,
    /// Connects without being asked and subscribes to these.
    Opening(Box<[ChannelName]>),
}

/// The whole message of a publication, without transport framing.
pub fn publication(publication: &Publication, form: Form) -> Vec<u8> {
    form.write(frame::publication(publication).0)
}

/// The whole message of someone who joined or left, without transport framing.
pub fn presence(change: &PresenceChange, form: Form) -> Vec<u8> {
    form.write(frame::presence(change))
}

/// What a transport says first when it begins to carry a session: `after` frames came before, and `received` messages have
/// arrived.
pub fn attached(after: u64, received: u64, form: Form) -> Message {
    form.message(frame::attached(after, received))
}

impl Form {
    /// A frame as a message of this form.
    pub fn message(self, json: Vec<u8>) -> Message {
        let bytes = Bytes::from(self.write(json));
        match self {
            Self::Json => Message::Text(bytes),
            Self::MessagePack => Message::Binary(bytes),
        }
    }

    /// JSON in this form.
    pub fn write(self, json: Vec<u8>) -> Vec<u8> {
        match self {
            Self::Json => json,
            Self::MessagePack => {
                msgpack::from_json(std::str::from_utf8(&json).expect("frames are written as UTF-8"))
            }
        }
    }
}

impl Native {
    /// A client that says `connect` itself.
    pub fn new(welcome: Arc<Welcome>, form: Form) -> Self {
        Self { welcome, form, stage: Stage::Waiting, farewell: Farewell::AtNeed }
    }

    /// A client that is connected and subscribed by its address, `?channels=a,b`.
    pub fn subscribed(welcome: Arc<Welcome>, form: Form, channels: Vec<ChannelName>) -> Self {
        Self { stage: Stage::Opening(channels.into()), ..Self::new(welcome, form) }
    }

    /// The same client, where any transport may carry the session.
    pub fn movable(self) -> Self {
        Self { farewell: Farewell::Always, ..self }
    }

    fn send(&self, json: Vec<u8>, steps: &mut Steps) {
        steps.push_back(Step::Send(self.form.message(json)));
    }

    fn carry_out(&mut self, request: Request<'_>, steps: &mut Steps) {
        let id = request.id;
        match (request.command(), &self.stage) {
            (Ok(request::Command::Ping), _) => self.send(frame::pong(id), steps),
            (Ok(request::Command::Connect(introduction)), Stage::Waiting) => {
                let Introduction { token, since } = introduction;
                self.stage = Stage::Connecting(since);
                steps.push_back(Step::Ask(id.ticket(), Command::Connect { token, hello: None }));
            }
            (Ok(request::Command::Connect(_)), _) => {
                let refusal = Refusal::bad_request("already connected; send connect once");
                self.send(frame::error(id, &refusal), steps);
            }
            (_, Stage::Waiting) => {
                let detail = "the first command must be connect".to_owned();
                steps.push_back(Step::Close(&CloseReason::BAD_REQUEST, detail));
            }
            (Ok(request::Command::Engine(command)), _) => steps.push_back(Step::Ask(id.ticket(), command)),
            (Err(refusal), _) => self.send(frame::error(id, &refusal), steps),
        }
    }

    fn carry_out_all(&mut self, text: &str, steps: &mut Steps) {
        let requests = match request::parse(text) {
            Ok(requests) => requests,
            Err(detail) => return steps.push_back(Step::Close(&CloseReason::BAD_REQUEST, detail)),
        };
        for request in requests {
            match request {
                Ok(request) => self.carry_out(request, steps),
                Err(refusal) => self.send(frame::error(Id::None, &refusal), steps),
            }
            if matches!(steps.back(), Some(Step::Close(..))) {
                return;
            }
        }
    }

    /// Subscribes to the channels in the client's token, from where it stood in them.
    fn join(&mut self, channels: Vec<ChannelName>, steps: &mut Steps) {
        let stood = match std::mem::replace(&mut self.stage, Stage::Connected) {
            Stage::Connecting(since) => since,
            Stage::Waiting | Stage::Connected | Stage::Opening(_) => Box::default(),
        };
        for channel in channels {
            let since = stood.iter().find(|(name, _)| *name == channel).map(|(_, position)| *position);
            steps.push_back(Step::Ask(Id::Opening.ticket(), Command::subscribe(channel, since)));
        }
    }
}

impl Protocol for Native {
    fn open(&mut self, steps: &mut Steps) {
        let Stage::Opening(channels) = std::mem::replace(&mut self.stage, Stage::Connected) else {
            self.stage = Stage::Waiting;
            return;
        };
        let ticket = Id::Opening.ticket();
        steps.push_back(Step::Ask(ticket, Command::Connect { token: None, hello: None }));
        let subscribe = |channel| Step::Ask(ticket, Command::subscribe(channel, None));
        steps.extend(channels.into_iter().map(subscribe));
    }

    fn receive(&mut self, frame: Frame<'_>, steps: &mut Steps) {
        let refused = match (frame, self.form) {
            (Frame::Text(text), Form::Json) => return self.carry_out_all(text, steps),
            (Frame::Binary(message), Form::MessagePack) => {
                match msgpack::to_json(message, self.welcome.message_bytes_max.saturating_mul(JSON_GROWTH)) {
                    Ok(text) => return self.carry_out_all(&text, steps),
                    Err(error) => format!("not MessagePack: {error}"),
                }
            }
            (Frame::Binary(_), Form::Json) => {
                "a binary message; this subprotocol is JSON in text messages".to_owned()
            }
            (Frame::Text(_), Form::MessagePack) => {
                "a text message; this subprotocol is MessagePack in binary messages".to_owned()
            }
        };
        steps.push_back(Step::Close(&CloseReason::BAD_REQUEST, refused));
    }

    fn answer(&mut self, ticket: Ticket, answer: Answer, steps: &mut Steps) {
        let id = Id::from(ticket);
        if let Answer::Connected { join, .. } = &answer {
            let join = join.clone();
            if id != Id::None {
                self.send(self.written(id, answer), steps);
            }
            return self.join(join, steps);
        }
        if matches!(answer, Answer::Recovered { .. }) {
            return;
        }
        if let Answer::Told { events } = answer {
            return events.iter().for_each(|event| self.send(frame::told(event), steps));
        }
        // Without an id only what the client cannot know is answered.
        let silent = matches!(
            answer,
            Answer::Subscribed { .. }
                | Answer::Unsubscribed { .. }
                | Answer::Published { .. }
                | Answer::Refreshed { .. }
        );
        if id != Id::None || !silent {
            self.send(self.written(id, answer), steps);
        }
    }

    fn closing(&mut self, closing: &Closing<'_>, steps: &mut Steps) {
        if closing.after_ms.is_some() || self.farewell == Farewell::Always {
            self.send(frame::closing(closing), steps);
        }
    }
}

impl Native {
    fn written(&self, id: Id, answer: Answer) -> Vec<u8> {
        match answer {
            Answer::Connected { client, user, expires_in_ms, .. } => {
                frame::connected(id, client, user.as_deref(), expires_in_ms, &self.welcome)
            }
            Answer::Refreshed { expires_in_ms } => frame::refreshed(id, expires_in_ms),
            Answer::Subscribed { channel, position, recovered } => {
                frame::standing(id, "subscribed", &channel, position, recovered)
            }
            // What was recovered speaks for itself; events have no answer.
            Answer::Recovered { .. } | Answer::Told { .. } => Vec::new(),
            Answer::Unsubscribed { channel } => frame::unsubscribed(id, &channel),
            Answer::History { channel, position, publications } => {
                frame::history(id, &channel, position, &publications)
            }
            Answer::Present { channel, present } => frame::present(id, &channel, &present),
            Answer::Counted { channel, attendance } => frame::counted(id, &channel, attendance),
            Answer::Called { payload } => frame::called(id, &payload),
            Answer::Published { channel, position } => {
                frame::standing(id, "published", &channel, position, Recovered::NotAsked)
            }
            Answer::Refused(refusal) => frame::error(id, &refusal),
        }
    }
}

fn unknown(command: &str) -> Refusal {
    const KNOWN: &str =
        "connect, refresh, subscribe, unsubscribe, publish, history, presence, presence_stats, call, ping";
    let shown: String = command.chars().take(64).collect();
    Refusal::new(ErrorCode::UnknownCommand, format_args!("unknown command {shown:?}; there are {KNOWN}"))
}

#[cfg(test)]
mod tests;
