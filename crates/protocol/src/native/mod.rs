//! The native protocol in JSON, subprotocol `duplex.v1.json`: see `docs/protocol.md`.

mod frame;
mod request;

use std::sync::Arc;

use duplex_core::{
    Answer, ChannelName, CloseReason, Command, ErrorCode, Frame, Protocol, Publication, Refusal, Step, Steps,
    Ticket,
};

use frame::Id;
use request::Request;

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

/// One client's conversation.
#[derive(Debug)]
pub struct Native {
    welcome: Arc<Welcome>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Nothing but `connect` and `ping` is carried out.
    Waiting,
    Connected,
    /// Connects without being asked and subscribes to these.
    Opening(Box<[ChannelName]>),
}

/// The whole frame of a publication, without transport framing.
pub fn publication(publication: &Publication) -> Vec<u8> {
    frame::publication(publication)
}

impl Native {
    /// A client that says `connect` itself.
    pub fn new(welcome: Arc<Welcome>) -> Self {
        Self { welcome, stage: Stage::Waiting }
    }

    /// A client that is connected and subscribed by its address, `?channels=a,b`.
    pub fn subscribed(welcome: Arc<Welcome>, channels: Vec<ChannelName>) -> Self {
        Self { welcome, stage: Stage::Opening(channels.into()) }
    }

    fn carry_out(&mut self, request: Request<'_>, steps: &mut Steps) {
        let id = request.id;
        match (request.command(), &self.stage) {
            (Ok(request::Command::Ping), _) => steps.push_back(Step::Send(frame::pong(id))),
            (Ok(request::Command::Engine(Command::Connect)), Stage::Connected) => {
                let refusal = Refusal::bad_request("already connected; send connect once");
                steps.push_back(Step::Send(frame::error(id, &refusal)));
            }
            (Ok(request::Command::Engine(command @ Command::Connect)), _) => {
                self.stage = Stage::Connected;
                steps.push_back(Step::Ask(id.ticket(), command));
            }
            (_, Stage::Waiting) => {
                let detail = "the first command must be connect".to_owned();
                steps.push_back(Step::Close(&CloseReason::BAD_REQUEST, detail));
            }
            (Ok(request::Command::Engine(command)), _) => steps.push_back(Step::Ask(id.ticket(), command)),
            (Err(refusal), _) => steps.push_back(Step::Send(frame::error(id, &refusal))),
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
        steps.push_back(Step::Ask(ticket, Command::Connect));
        let subscribe = |channel| Step::Ask(ticket, Command::Subscribe { channel, since: None });
        steps.extend(channels.into_iter().map(subscribe));
    }

    fn receive(&mut self, frame: Frame<'_>, steps: &mut Steps) {
        let requests = match frame {
            Frame::Text(text) => request::parse(text),
            Frame::Binary(_) => Err("a binary message; this subprotocol is JSON in text messages".to_owned()),
        };
        match requests {
            Err(detail) => steps.push_back(Step::Close(&CloseReason::BAD_REQUEST, detail)),
            Ok(requests) => {
                for request in requests {
                    match request {
                        Ok(request) => self.carry_out(request, steps),
                        Err(refusal) => steps.push_back(Step::Send(frame::error(Id::None, &refusal))),
                    }
                    if matches!(steps.back(), Some(Step::Close(..))) {
                        return;
                    }
                }
            }
        }
    }

    fn answer(&mut self, ticket: Ticket, answer: Answer, steps: &mut Steps) {
        let id = Id::from(ticket);
        // Without an id only what the client cannot know is answered.
        if id == Id::None && !matches!(answer, Answer::Refused(_) | Answer::History { .. }) {
            return;
        }
        steps.push_back(Step::Send(match answer {
            Answer::Connected { client } => frame::connected(id, client, &self.welcome),
            Answer::Subscribed { channel, position, recovered } => {
                frame::standing(id, "subscribed", &channel, position, recovered)
            }
            Answer::Unsubscribed { channel } => frame::unsubscribed(id, &channel),
            Answer::History { channel, position, publications } => {
                frame::history(id, &channel, position, &publications)
            }
            Answer::Published { channel, position } => {
                frame::standing(id, "published", &channel, position, duplex_core::Recovered::NotAsked)
            }
            Answer::Refused(refusal) => frame::error(id, &refusal),
        }));
    }
}

fn unknown(command: &str) -> Refusal {
    const KNOWN: &str = "connect, subscribe, unsubscribe, publish, history, ping";
    let shown: String = command.chars().take(64).collect();
    Refusal::new(ErrorCode::UnknownCommand, format_args!("unknown command {shown:?}; there are {KNOWN}"))
}

#[cfg(test)]
mod tests;
