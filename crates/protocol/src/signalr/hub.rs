//! A client's conversation with a hub.

use std::sync::Arc;

use duplex_core::{
    Able, Answer, ChannelName, ClientId, CloseReason, Closing, Command, Emission, EncodingId, ErrorCode,
    EventName, Frame, Message, NameError, Payload, Protocol, Refusal, RequestId, Return, Span, Step, Steps,
    Stream, Ticket,
};

use super::incoming::{Incoming, Invocation, Way};
use super::upload::{Progress, Upload};
use super::write::{self, Outcome, text};
use super::{Format, Transport, handshake};
use crate::arguments::{Arguments, shifted, values};
use crate::publication::write_json;
use crate::requests::Requests;
use crate::verb::{self, Problem, body, full};

/// Longest a client may go without a ping, ms: its default patience is twice as long.
const SILENCE_MAX_MS: u32 = 15_000;
/// Streams that a client has open, in both directions, at most.
const STREAMS_MAX: usize = 100;
/// What ids begin with that the application's questions are given.
const QUESTION: &str = "s";

/// What is known of a connection when it begins.
#[derive(Debug)]
pub struct Introduction {
    /// The namespace whose channels are in the hub, by what is behind it; `None` for all channels, by their whole names.
    pub namespace: Option<Arc<str>>,
    /// What carries it.
    pub transport: Transport,
    /// Channels it wants to be subscribed to at once, beside those in its token.
    pub channels: Vec<ChannelName>,
    /// Bytes of items that may wait in a stream that the client sends.
    pub bytes_max: usize,
    /// Whether the client can be asked for something: older ones end their connection.
    pub answers: Able,
    /// How publications are written for a client of each format.
    pub encodings: fn(Format) -> Encodings,
}

/// How publications are written for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encodings {
    /// As invocations.
    pub events: EncodingId,
    /// As the items of a stream, before they are put into it: as the native protocol writes them, one by one.
    pub items: EncodingId,
}

/// A client's conversation with a hub.
#[derive(Debug)]
pub struct Hub {
    introduction: Introduction,
    stage: Stage,
    pings: Pings,
    /// What is under way.
    asked: Vec<Asked>,
    /// The last ticket given.
    tickets: u64,
    /// There only once there was one.
    flows: Option<Box<Flows>>,
    /// What the application asked.
    requests: Requests,
}

/// Whether the client has sent a ping by itself.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Pings {
    None,
    Sent,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    /// Nothing was said yet.
    Handshake,
    /// It is being found out who the client is.
    Connecting(Format),
    Connected(Format, ClientId),
}

/// Streams that are open.
#[derive(Debug, Default)]
struct Flows {
    /// Channels that the client gets as streams, by the ids it gave them.
    channels: Vec<(Box<str>, ChannelName)>,
    uploads: Vec<Upload>,
    /// The last number given to an upload.
    numbers: u64,
}

/// Something that was asked for the client.
#[derive(Debug)]
struct Asked {
    ticket: Ticket,
    target: Box<str>,
    reply: Reply,
}

/// How the client hears of what became of it.
#[derive(Debug, PartialEq)]
pub(super) enum Reply {
    /// Only that something went wrong.
    OnError,
    /// By a completion with this id.
    Completion(Box<str>),
    /// By items, and then a completion.
    Items(Box<str>),
    /// As a stream that goes on.
    Channel(Box<str>),
    /// It is an item of this upload.
    Upload(u64),
}

impl Hub {
    /// A conversation of which nothing was said yet.
    pub fn new(introduction: Introduction) -> Self {
        Self {
            introduction,
            stage: Stage::Handshake,
            pings: Pings::None,
            asked: Vec::new(),
            tickets: 0,
            flows: None,
            requests: Requests::default(),
        }
    }

    fn format(&self) -> Format {
        match self.stage {
            Stage::Handshake => Format::Json,
            Stage::Connecting(format) | Stage::Connected(format, _) => format,
        }
    }

    fn send(&self, bytes: Vec<u8>, steps: &mut Steps) {
        steps.push_back(Step::Send(self.format().message(bytes)));
    }

    fn complete(&self, id: &str, outcome: &Outcome<'_>, steps: &mut Steps) {
        self.send(write::completion(self.format(), id, outcome), steps);
    }

    fn shake_hands(&mut self, message: &str, steps: &mut Steps) {
        match handshake::read(message, self.introduction.transport) {
            Ok(format) => {
                self.stage = Stage::Connecting(format);
                steps.push_back(Step::Encode((self.introduction.encodings)(format).events));
                steps.push_back(Step::Ask(Ticket::OWN, Command::Connect { token: None, hello: None }));
            }
            Err(error) => steps.push_back(Step::Close(&CloseReason::BAD_REQUEST, error)),
        }
    }

    fn connected(&mut self, client: ClientId, join: Vec<ChannelName>, steps: &mut Steps) {
        self.stage = Stage::Connected(self.format(), client);
        steps.push_back(Step::Send(write::handshake(None)));
        let mut channels = std::mem::take(&mut self.introduction.channels);
        channels.extend(join);
        channels.sort_unstable();
        channels.dedup();
        steps.extend(
            channels.into_iter().map(|channel| Step::Ask(Ticket::OWN, Command::subscribe(channel, None))),
        );
    }

    fn ask(&mut self, target: Box<str>, reply: Reply, command: Command, steps: &mut Steps) {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.asked.push(Asked { ticket, target, reply });
        steps.push_back(Step::Ask(ticket, command));
    }

    fn invoked(&mut self, invocation: Invocation, steps: &mut Steps) {
        let Invocation { id, target, arguments, streams, way } = invocation;
        if let Some(id) = id.as_deref().filter(|id| self.is_in_use(id)) {
            let error = format!("Invocation ID '{id}' is already in use.");
            return self.complete(id, &Outcome::Error(&error), steps);
        }
        let reply = match (id, way) {
            (None, _) => Reply::OnError,
            (Some(id), Way::Result) => Reply::Completion(id),
            (Some(id), Way::Stream) if &*target == "$subscribe" => Reply::Channel(id),
            (Some(id), Way::Stream) if verb::VERBS.contains(&&*target) => {
                let error = format!(
                    "The client attempted to invoke the non-streaming '{target}' method with a streaming invocation."
                );
                return self.complete(&id, &Outcome::Error(&error), steps);
            }
            (Some(id), Way::Stream) => Reply::Items(id),
        };
        let opens = streams.len() + usize::from(way == Way::Stream);
        if opens > 0 && self.open_streams() + opens > STREAMS_MAX {
            let message = format!("at most {STREAMS_MAX} streams may be open; end some first");
            return self.refuse(&target, &reply, &Refusal::new(ErrorCode::LimitExceeded, message), steps);
        }
        if !streams.is_empty() {
            return self.begin_upload(target, reply, arguments, streams, steps);
        }
        match self.command(&target, &arguments, &reply) {
            Ok(command) => {
                if let (Reply::Channel(id), Command::Subscribe { channel, .. }) = (&reply, &command) {
                    let flows = self.flows.get_or_insert_default();
                    flows.channels.push((id.clone(), channel.clone()));
                }
                self.ask(target, reply, command, steps);
            }
            Err(refusal) => self.refuse(&target, &reply, &refusal, steps),
        }
    }

    /// What an invocation asks for.
    fn command(&self, target: &str, arguments: &Arguments, reply: &Reply) -> Result<Command, Refusal> {
        let client = match self.stage {
            Stage::Connected(_, client) => Some(client),
            Stage::Handshake | Stage::Connecting(_) => None,
        };
        let mut command = verb::command(&|name| self.named(name), client, target, arguments)?;
        if let (Reply::Channel(id), Command::Subscribe { channel, stream, .. }) = (reply, &mut command) {
            let streamed = self.flows.iter().flat_map(|flows| &flows.channels);
            if streamed.into_iter().any(|(_, streamed)| streamed == channel) {
                let message = format!("already subscribed to {channel:?}");
                return Err(Refusal::new(ErrorCode::AlreadySubscribed, message));
            }
            let encoding = (self.introduction.encodings)(self.format()).items;
            *stream = Some(Stream { name: id.clone(), encoding });
        }
        Ok(command)
    }

    /// The channel that the client calls so.
    fn named(&self, name: &str) -> Result<ChannelName, NameError> {
        match &self.introduction.namespace {
            Some(namespace) if !name.is_empty() => ChannelName::parse(&format!("{namespace}:{name}")),
            _ => ChannelName::parse(name),
        }
    }

    fn is_in_use(&self, id: &str) -> bool {
        let is_open = |flows: &Flows| {
            flows.channels.iter().any(|(known, _)| **known == *id)
                || flows.uploads.iter().any(|upload| upload.reply.id() == Some(id))
        };
        self.asked.iter().any(|asked| asked.reply.id() == Some(id))
            || self.flows.as_deref().is_some_and(is_open)
    }

    fn open_streams(&self) -> usize {
        let uploaded = |flows: &Flows| flows.uploads.iter().map(Upload::streams).sum::<usize>();
        let calls = self.asked.iter().filter(|asked| matches!(asked.reply, Reply::Items(_))).count();
        calls + self.flows.as_deref().map_or(0, |flows| flows.channels.len() + uploaded(flows))
    }

    /// Tells the client that something was not done.
    fn refuse(&self, target: &str, reply: &Reply, refusal: &Refusal, steps: &mut Steps) {
        match reply {
            Reply::Completion(id) | Reply::Items(id) | Reply::Channel(id) => {
                self.complete(id, &Outcome::Error(&error_text(target, refusal)), steps);
            }
            Reply::OnError | Reply::Upload(_) => {
                let mut json = Vec::with_capacity(128);
                write_json(&Problem { event: Some(target), ..Problem::of(refusal) }, &mut json);
                self.send(write::own(self.format(), "$error", json), steps);
            }
        }
    }

    /// Something was done. `asked` is how the client hears of it.
    fn done(&mut self, asked: Asked, answer: Answer, steps: &mut Steps) {
        let ended = match &answer {
            Answer::Unsubscribed { channel } => self.take_stream(channel),
            _ => None,
        };
        if let Some(id) = ended {
            self.complete(&id, &Outcome::Void, steps);
        }
        match (asked.reply, answer) {
            (Reply::OnError | Reply::Upload(_), _) => {}
            (Reply::Channel(id), answer) => {
                let item = format!(r#"{{"subscribed":{}}}"#, text(body(answer)));
                let format = self.format();
                self.send(write::item(format, &id, &format.value(&item, &[])), steps);
            }
            (Reply::Items(id), Answer::Called { payload }) => self.items(&id, &payload, steps),
            (Reply::Completion(id), Answer::Called { payload }) => match value(&payload) {
                Some((json, binary)) => self.complete(&id, &Outcome::Result(&json, &binary), steps),
                None => self.complete(&id, &Outcome::Void, steps),
            },
            (Reply::Completion(id) | Reply::Items(id), answer) => {
                self.complete(&id, &Outcome::Result(&text(body(answer)), &[]), steps);
            }
        }
    }

    /// The backend's answer to a streamed call: each element of an array is an item.
    fn items(&self, id: &str, payload: &Payload, steps: &mut Steps) {
        let format = self.format();
        let (json, binary) = match value(payload) {
            Some((json, binary)) if json.starts_with('[') => (json, binary),
            Some((json, binary)) => (format!("[{json}]"), shifted(&binary, 1)),
            None => ("[]".to_owned(), Vec::new()),
        };
        for (json, binary) in Arguments::new(json, binary).each() {
            self.send(write::item(format, id, &format.value(json, &binary)), steps);
        }
        self.complete(id, &Outcome::Void, steps);
    }

    /// The stream by which the client gets a channel, which it leaves.
    fn take_stream(&mut self, channel: &ChannelName) -> Option<Box<str>> {
        let streams = &mut self.flows.as_mut()?.channels;
        let place = streams.iter().position(|(_, streamed)| streamed == channel)?;
        Some(streams.swap_remove(place).0)
    }

    fn cancelled(&mut self, id: &str, steps: &mut Steps) {
        let streams = self.flows.iter().flat_map(|flows| &flows.channels);
        let channel =
            streams.into_iter().find(|(known, _)| **known == *id).map(|(_, channel)| channel.clone());
        if let Some(channel) = channel {
            return self.ask("$unsubscribe".into(), Reply::OnError, Command::Unsubscribe { channel }, steps);
        }
        // What the backend answers to a call that is cancelled, nobody wants any more.
        let called = self.asked.iter().position(|asked| asked.reply == Reply::Items(id.into()));
        if let Some(place) = called {
            self.asked.swap_remove(place);
            self.complete(id, &Outcome::Void, steps);
        }
    }

    fn begin_upload(
        &mut self,
        target: Box<str>,
        reply: Reply,
        arguments: Arguments,
        streams: Vec<Box<str>>,
        steps: &mut Steps,
    ) {
        let is_known =
            |stream| self.flows.iter().any(|flows| flows.uploads.iter().any(|upload| upload.has(stream)));
        let expected = usize::from(matches!(&*target, "$publish" | "$broadcast"));
        let refusal = match streams.iter().find(|stream| is_known(stream)) {
            Some(stream) => Some(format!("Stream ID '{stream}' is already in use.")),
            None if target.starts_with('$') && streams.len() != expected => {
                Some(format!("Client sent {} stream(s), Hub method expects {expected}.", streams.len()))
            }
            None => None,
        };
        if let Some(error) = refusal {
            return match reply.id() {
                Some(id) => self.complete(id, &Outcome::Error(&error), steps),
                None => self.refuse(&target, &reply, &Refusal::bad_request(error), steps),
            };
        }
        let command = match self.command(&target, &arguments, &reply) {
            Ok(command) => command,
            Err(refusal) => return self.refuse(&target, &reply, &refusal, steps),
        };
        let bytes_max = self.introduction.bytes_max;
        let flows = self.flows.get_or_insert_default();
        flows.numbers += 1;
        let named = (target, reply);
        flows.uploads.push(Upload::new(flows.numbers, named, (command, arguments), streams, bytes_max));
    }

    /// Something has come for an upload, if it is still there.
    fn upload(
        &mut self,
        is_meant: impl Fn(&Upload) -> bool,
        act: impl FnOnce(&mut Upload) -> Progress,
        steps: &mut Steps,
    ) {
        let Some(flows) = &mut self.flows else { return };
        let Some(place) = flows.uploads.iter().position(is_meant) else { return };
        let upload = &mut flows.uploads[place];
        let progress = match act(upload) {
            Progress::Wait => return,
            Progress::Publish(command) => {
                let (target, reply) = (upload.target.clone(), Reply::Upload(upload.number));
                return self.ask(target, reply, command, steps);
            }
            ended => ended,
        };
        let Upload { target, reply, .. } = flows.uploads.swap_remove(place);
        match progress {
            Progress::Published(json) => {
                if let Some(id) = reply.id() {
                    self.complete(id, &Outcome::Result(&json, &[]), steps);
                }
            }
            Progress::Call(arguments) => match self.command(&target, &arguments, &reply) {
                Ok(command) => self.ask(target, reply, command, steps),
                Err(refusal) => self.refuse(&target, &reply, &refusal, steps),
            },
            Progress::Failed(refusal) => self.refuse(&target, &reply, &refusal, steps),
            Progress::Wait | Progress::Publish(_) => {}
        }
    }

    /// The client has ended a stream, or answers what the application asked. What it was not asked is passed over.
    fn completed(&mut self, id: &str, outcome: Result<Arguments, String>, steps: &mut Steps) {
        let is_upload = self.flows.iter().any(|flows| flows.uploads.iter().any(|upload| upload.has(id)));
        if is_upload {
            let act = |upload: &mut Upload| match outcome {
                Ok(_) => upload.ended(id),
                Err(error) => {
                    let message = format!("the client ended stream {id:?} with an error: {error}");
                    Progress::Failed(Refusal::bad_request(message))
                }
            };
            return self.upload(|upload| upload.has(id), act, steps);
        }
        let number = id.strip_prefix(QUESTION).and_then(|number| number.parse().ok());
        // However else a number may be written, it is not what the client was given.
        let number = number.filter(|number| format!("{QUESTION}{number}") == id);
        let Some(request) = number.and_then(|number| self.requests.answered(number)) else { return };
        let answer =
            outcome.and_then(|arguments| arguments.all().map_err(|error| format!("result: {error}")));
        steps.push_back(Step::Reply(request, answer));
    }
}

impl Reply {
    /// The id of the invocation, if it has one.
    fn id(&self) -> Option<&str> {
        match self {
            Self::Completion(id) | Self::Items(id) | Self::Channel(id) => Some(id),
            Self::OnError | Self::Upload(_) => None,
        }
    }
}

/// The backend's answer to a call as one value, with its binary data: several are an array, and none is nothing.
fn value(payload: &Payload) -> Option<(String, Vec<Span>)> {
    let (json, binary) = values(payload);
    let arguments = Arguments::new(json, binary);
    let mut each = arguments.each();
    match (each.next()?, each.next()) {
        ((one, binary), None) => Some((one.to_owned(), binary)),
        _ => Some(values(payload)),
    }
}

/// Why an invocation failed, in the words of the official server.
fn error_text(target: &str, refusal: &Refusal) -> String {
    match refusal.code {
        ErrorCode::UnknownCommand => format!("Unknown hub method '{target}'"),
        ErrorCode::Unauthorized | ErrorCode::PermissionDenied => {
            format!("Failed to invoke '{target}' because user is unauthorized: {refusal}")
        }
        _ => {
            format!("An unexpected error occurred invoking '{target}' on the server. HubException: {refusal}")
        }
    }
}

impl Protocol for Hub {
    fn open(&mut self, _: &mut Steps) {}

    fn receive(&mut self, frame: Frame<'_>, steps: &mut Steps) {
        if let (Stage::Handshake, Frame::Text(message)) = (self.stage, frame) {
            return self.shake_hands(message, steps);
        }
        match Incoming::read(frame) {
            Err(error) => steps.push_back(Step::Close(&CloseReason::BAD_REQUEST, error)),
            Ok(Incoming::Invocation(invocation)) => self.invoked(invocation, steps),
            Ok(Incoming::Item { stream, item }) => {
                self.upload(|upload| upload.has(&stream), |upload| upload.item(&stream, &item), steps);
            }
            Ok(Incoming::Completion { id, outcome }) => self.completed(&id, outcome, steps),
            Ok(Incoming::Cancel { id }) => self.cancelled(&id, steps),
            Ok(Incoming::Close) => steps.push_back(Step::Close(&CloseReason::GOING_AWAY, String::new())),
            Ok(Incoming::Ping) => self.pings = Pings::Sent,
            Ok(Incoming::Ignored) => {}
        }
    }

    fn answer(&mut self, ticket: Ticket, answer: Answer, steps: &mut Steps) {
        match answer {
            Answer::Connected { client, join, .. } => return self.connected(client, join, steps),
            Answer::Told { events } => {
                for Emission { event, payload } in events {
                    self.send(write::event(self.format(), None, &event, &payload), steps);
                }
                return;
            }
            Answer::Recovered { .. } => return,
            _ => {}
        }
        let place = self.asked.iter().position(|asked| asked.ticket == ticket);
        let asked = place.map(|place| self.asked.swap_remove(place));
        if self.asked.is_empty() {
            // Nearly always nothing is under way, and then it takes no memory either.
            self.asked = Vec::new();
        }
        let own = || Asked { ticket, target: "$subscribe".into(), reply: Reply::OnError };
        // The answer to a call that was cancelled is nobody's.
        let Some(asked) = asked.or_else(|| (ticket == Ticket::OWN).then(own)) else { return };
        match (answer, &asked.reply) {
            (answer, Reply::Upload(number)) => {
                self.upload(|upload| upload.number == *number, |upload| upload.answered(answer), steps);
            }
            (Answer::Refused(refusal), reply) => {
                if let (Reply::Channel(id), Some(flows)) = (reply, &mut self.flows) {
                    flows.channels.retain(|(known, _)| known != id);
                }
                self.refuse(&asked.target, reply, &refusal, steps);
            }
            (answer, _) => self.done(asked, answer, steps),
        }
    }

    fn request(
        &mut self,
        request: RequestId,
        event: &EventName,
        payload: &Payload,
        steps: &mut Steps,
    ) -> Able {
        let (Stage::Connected(format, _), Able::Yes) = (self.stage, self.introduction.answers) else {
            return Able::No;
        };
        let id = format!("{QUESTION}{}", self.requests.ask(request));
        self.send(write::event(format, Some(&id), event, payload), steps);
        Able::Yes
    }

    fn item(&self, stream: &str, event: &[u8]) -> Message {
        let format = self.format();
        format.message(write::item(format, stream, event))
    }

    fn silence_max_ms(&self) -> u32 {
        SILENCE_MAX_MS
    }

    /// The official server waits for answers only of clients that have sent a ping by themselves.
    fn may_ignore_pings(&self) -> bool {
        self.pings == Pings::None
    }

    fn beat(&mut self, steps: &mut Steps) {
        if let (Stage::Connected(format, _), Transport::WebSocket | Transport::Events) =
            (self.stage, self.introduction.transport)
        {
            self.send(write::ping(format), steps);
        }
    }

    fn unanswered(&mut self) -> Vec<RequestId> {
        self.requests.take()
    }

    fn closing(&mut self, closing: &Closing<'_>, steps: &mut Steps) {
        let Closing { reason, detail, .. } = *closing;
        if *reason == CloseReason::GOING_AWAY {
            return;
        }
        // A client that has asked nothing may not be ready to hear anything: the official one throws where nobody catches it.
        if *reason == CloseReason::RESTART && matches!(self.stage, Stage::Handshake) {
            return;
        }
        let error = match self.stage {
            _ if *reason == CloseReason::RESTART => None,
            Stage::Handshake if *reason == CloseReason::STALE => Some("Handshake was canceled.".to_owned()),
            Stage::Handshake if !detail.is_empty() => Some(detail.to_owned()),
            Stage::Connected(..) if is_fault(reason) => {
                Some(format!("Connection closed with an error. {}", full(reason, detail)))
            }
            Stage::Handshake | Stage::Connecting(_) | Stage::Connected(..) => Some(full(reason, detail)),
        };
        match self.stage {
            Stage::Connected(format, _) => {
                let close = write::close(format, error.as_deref(), reason.then);
                steps.push_back(Step::Send(format.message(close)));
            }
            Stage::Handshake | Stage::Connecting(_) => {
                let error = error.unwrap_or_else(|| reason.sentence.to_owned());
                steps.push_back(Step::Send(write::handshake(Some(&error))));
            }
        }
    }
}

/// Whether the client broke the protocol.
fn is_fault(reason: &CloseReason) -> bool {
    matches!(reason.then, Return::Stay) && [CloseReason::BAD_REQUEST, CloseReason::TOO_BIG].contains(reason)
}
