use std::borrow::Cow;

use bytes::Bytes;
use duplex_core::{
    Able, Answer, ChannelName, ClientId, CloseReason, Closing, Command, Emission, Epoch, ErrorCode,
    EventName, Frame, Json, Message, NameError, Payload, Position, Protocol, Publication, Recovered, Refusal,
    RequestId, Return, Span, Step, Steps, Ticket, UserId,
};
use serde::Serialize;

use super::attachments::assemble;
use super::packet::{Breach, Kind, Packet, unpack};
use super::{Dialect, Form, Namespace, Stamp, event};
use crate::arguments::{Arguments, values, within};
use crate::publication::write_json;
use crate::requests::Requests;
use crate::verb::{self, Problem, body, full};

/// What a client brings along when it connects to a namespace.
#[derive(Debug)]
pub struct Introduction {
    /// Says who it is.
    pub token: Option<Box<str>>,
    /// What else it says about itself: its `auth`.
    pub hello: Option<Json>,
    /// Channels it wants to be subscribed to at once, beside those in its token.
    pub channels: Vec<ChannelName>,
    /// What it may come back by.
    pub pid: Option<Box<str>>,
    /// Who it says it was.
    pub returning: Option<Returning>,
}

/// A client that comes back.
#[derive(Debug, Clone)]
pub struct Returning {
    /// Whose client it was.
    pub user: Option<UserId>,
    /// Its channels, and where it stands in each; without a position, nothing is recovered there.
    pub channels: Vec<(ChannelName, Option<Position>)>,
}

/// A client's conversation in one namespace.
#[derive(Debug)]
pub struct Socket {
    namespace: Namespace,
    form: Form,
    dialect: Dialect,
    /// Whether events tell where they stand.
    stamp: Stamp,
    /// Most bytes of a packet with its attachments.
    bytes_max: usize,
    stage: Stage,
    /// What is under way.
    asked: Vec<Asked>,
    /// The last ticket given.
    tickets: u64,
    /// What the application asked.
    requests: Requests,
    partial: Option<Box<Partial>>,
}

#[derive(Debug)]
enum Stage {
    /// It is not known yet who the client is.
    Connecting(Box<Introduction>),
    /// What it missed is being sent, before it is told that it is connected.
    Returning(Box<Greeting>),
    Connected(ClientId),
}

/// What a client is told when it is connected.
#[derive(Debug)]
struct Greeting {
    client: ClientId,
    pid: Option<Box<str>>,
    /// Channels in which it is not back yet.
    awaited: usize,
}

/// Something that was asked for the client.
#[derive(Debug)]
struct Asked {
    ticket: Ticket,
    reply: Reply,
}

/// How the client hears of what became of it.
#[derive(Debug)]
enum Reply {
    /// It gave this ack id.
    Ack(u64),
    /// It gave none, and hears only that something went wrong, by the name of its event.
    OnError(Box<str>),
}

/// A packet whose attachments are still to come.
#[derive(Debug)]
struct Partial {
    packet: Box<str>,
    attachments: Vec<Bytes>,
    awaited: usize,
    bytes: usize,
}

/// What a client has seen last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// In its channel.
    pub position: Position,
    /// Among the publications of all channels; 0 where that is not known.
    pub order: u64,
}

/// The text by which a client that recovers names the last publication it has seen.
pub(super) fn stamp(publication: &Publication) -> String {
    let Publication { position: Position { epoch, offset }, order, .. } = publication;
    match order {
        0 => format!("{epoch}.{offset}"),
        order => format!("{epoch}.{offset}.{order}"),
    }
}

/// Reads what a client says it has seen last. What no server wrote, names nothing there is.
pub fn parse_stamp(text: &str) -> Seen {
    let read = || {
        let (epoch, rest) = text.split_once('.')?;
        let (offset, order) = rest.split_once('.').unwrap_or((rest, "0"));
        let position = Position { epoch: Epoch::parse(epoch)?, offset: offset.parse().ok()? };
        Some(Seen { position, order: order.parse().ok()? })
    };
    read().unwrap_or(Seen { position: Position { epoch: Epoch::NONE, offset: 0 }, order: 0 })
}

impl Socket {
    /// A client that connects to `namespace`. Its packets may have `bytes_max` bytes with their attachments.
    pub fn new(
        namespace: Namespace,
        (form, dialect): (Form, Dialect),
        bytes_max: usize,
        introduction: Introduction,
    ) -> Self {
        let stamp = if introduction.pid.is_some() { Stamp::Offset } else { Stamp::Off };
        let stage = Stage::Connecting(Box::new(introduction));
        Self {
            namespace,
            form,
            dialect,
            stamp,
            bytes_max,
            stage,
            asked: Vec::new(),
            tickets: 0,
            requests: Requests::default(),
            partial: None,
        }
    }

    /// The answer to a client that wants to connect to a namespace that is not there.
    pub fn refusal(namespace: &str, (form, dialect): (Form, Dialect), refusal: &Refused<'_>) -> Message {
        let data = match dialect {
            Dialect::V5 => json(refusal),
            Dialect::V4 => json(&refusal.message),
        };
        form.message(Kind::ConnectError, namespace, None, Some(&data))
    }

    /// The client's public id, once it is connected.
    fn client(&self) -> Option<ClientId> {
        match self.stage {
            Stage::Connected(client) => Some(client),
            Stage::Connecting(_) | Stage::Returning(_) => None,
        }
    }

    fn send(&self, kind: Kind, id: Option<u64>, data: Option<&str>, steps: &mut Steps) {
        steps.push_back(Step::Send(self.form.message(kind, self.namespace.name(), id, data)));
    }

    /// Sends a packet with arguments that may hold binary data.
    fn send_with(&self, kind: Kind, id: Option<u64>, (json, binary): (String, Vec<Span>), steps: &mut Steps) {
        let parts = event::packet(self.form, (kind, self.namespace.name(), id), &json, &binary);
        let mut messages: Vec<Message> = parts.into_iter().map(Message::from).collect();
        steps.push_back(match messages.len() {
            1 => Step::Send(messages.remove(0)),
            _ => Step::SendTogether(messages),
        });
    }

    /// A whole packet, or the beginning of one.
    fn packet(&mut self, text: &str, steps: &mut Steps) -> Result<(), Breach> {
        let packet = Packet::parse(text)?;
        if packet.attachments == 0 {
            let arguments = Arguments::new(packet.data.unwrap_or("[]").to_owned(), Vec::new());
            return self.take(packet.kind, packet.id, &arguments, steps);
        }
        let (packet, awaited) = (text.into(), packet.attachments);
        self.partial =
            Some(Box::new(Partial { packet, attachments: Vec::new(), awaited, bytes: text.len() }));
        Ok(())
    }

    fn attachment(&mut self, bytes: &[u8], steps: &mut Steps) -> Result<(), Breach> {
        let partial = self.partial.as_mut().ok_or(Breach::Unannounced)?;
        partial.bytes += bytes.len();
        if partial.bytes > self.bytes_max {
            let detail = format!("a packet with more than {} bytes of attachments", self.bytes_max);
            steps.push_back(Step::Close(&CloseReason::TOO_BIG, detail));
            return Ok(());
        }
        partial.attachments.push(Bytes::copy_from_slice(bytes));
        if partial.attachments.len() < partial.awaited {
            return Ok(());
        }
        let Some(whole) = self.partial.take() else { return Ok(()) };
        let packet = Packet::parse(&whole.packet)?;
        let arguments = assemble(packet.data.unwrap_or("[]"), &whole.attachments)?;
        self.take(packet.kind, packet.id, &arguments, steps)
    }

    /// A packet in MessagePack.
    fn unpacked(&mut self, message: &[u8], steps: &mut Steps) -> Result<(), Breach> {
        let (json, binary) = unpack(message)?;
        let packet = Packet::unpacked(&json)?;
        let arguments = match packet.data {
            Some(data) => {
                let start = data.as_ptr() as usize - json.as_ptr() as usize;
                Arguments::new(data.to_owned(), within(&binary, start..start + data.len(), 0))
            }
            None => Arguments::new("[]".to_owned(), Vec::new()),
        };
        self.take(packet.kind, packet.id, &arguments, steps)
    }

    fn take(
        &mut self,
        kind: Kind,
        id: Option<u64>,
        arguments: &Arguments,
        steps: &mut Steps,
    ) -> Result<(), Breach> {
        match kind {
            Kind::Event => self.event(id, arguments, steps),
            Kind::Ack => {
                self.answered(id, arguments, steps);
                Ok(())
            }
            Kind::Connect | Kind::Disconnect | Kind::ConnectError => Err(Breach::Payload),
        }
    }

    fn event(&mut self, id: Option<u64>, arguments: &Arguments, steps: &mut Steps) -> Result<(), Breach> {
        let values = arguments.values();
        let name = values.first().ok_or(Breach::Payload)?.get();
        let name: Cow<'_, str> = match name.as_bytes() {
            [b'"', ..] => serde_json::from_str(name).map_err(|_| Breach::Payload)?,
            // A number is a name, too.
            [b'-' | b'0'..=b'9', ..] => name.into(),
            _ => return Err(Breach::Payload),
        };
        if EventName::parse(&name) == Err(NameError::OfSocketIo) {
            return Err(Breach::ReservedEvent);
        }
        let reply = id.map_or_else(|| Reply::OnError((&*name).into()), Reply::Ack);
        match verb::command(&|room| self.namespace.channel(room), self.client(), &name, arguments) {
            Ok(command) => {
                self.tickets += 1;
                let ticket = Ticket(self.tickets);
                self.asked.push(Asked { ticket, reply });
                steps.push_back(Step::Ask(ticket, command));
            }
            Err(refusal) => self.reply(&reply, Err(&refusal), steps),
        }
        Ok(())
    }

    /// The client answers what the application asked. What it was not asked, or has answered, is passed over, as the official
    /// server does.
    fn answered(&mut self, id: Option<u64>, arguments: &Arguments, steps: &mut Steps) {
        let Some(request) = id.and_then(|ack| self.requests.answered(ack)) else { return };
        if let Ok(args) = arguments.all() {
            steps.push_back(Step::Reply(request, Ok(args)));
        }
    }

    /// Tells the client what became of what it asked for: the body of the answer, or why it was refused.
    fn reply(&self, reply: &Reply, outcome: Result<Vec<u8>, &Refusal>, steps: &mut Steps) {
        let mut data = Vec::with_capacity(128);
        match (reply, outcome) {
            (Reply::OnError(_), Ok(_)) => return,
            (Reply::Ack(_), Ok(body)) => {
                data.push(b'[');
                data.extend_from_slice(&body);
                data.push(b']');
            }
            (Reply::Ack(_), Err(refusal)) => {
                data.extend_from_slice(br#"[{"error":"#);
                write_json(&Problem::of(refusal), &mut data);
                data.extend_from_slice(b"}]");
            }
            (Reply::OnError(event), Err(refusal)) => {
                data.extend_from_slice(br#"["$error","#);
                write_json(&Problem { event: Some(event), ..Problem::of(refusal) }, &mut data);
                data.push(b']');
            }
        }
        let data = String::from_utf8(data).expect("JSON of texts is text");
        match reply {
            Reply::Ack(id) => self.send(Kind::Ack, Some(*id), Some(&data), steps),
            Reply::OnError(_) => self.send(Kind::Event, None, Some(&data), steps),
        }
    }

    fn connected(
        &mut self,
        client: ClientId,
        user: Option<&UserId>,
        join: Vec<ChannelName>,
        steps: &mut Steps,
    ) {
        let Stage::Connecting(introduction) = std::mem::replace(&mut self.stage, Stage::Connected(client))
        else {
            return;
        };
        let Introduction { mut channels, pid, returning, .. } = *introduction;
        if let Some(Returning { user: before, channels, .. }) = returning {
            if before.as_ref() != user {
                let detail = "who comes back is another user".to_owned();
                return steps.push_back(Step::Close(&CloseReason::GONE, detail));
            }
            let awaited = channels.len();
            for (channel, since) in channels {
                steps.push_back(Step::Ask(Ticket::OWN, Command::subscribe(channel, since)));
            }
            self.stage = Stage::Returning(Box::new(Greeting { client, pid, awaited }));
            return self.greet_if_back(steps);
        }
        self.greet(client, pid.as_deref(), steps);
        channels.extend(join);
        channels.sort_unstable();
        channels.dedup();
        for channel in channels {
            steps.push_back(Step::Ask(Ticket::OWN, Command::subscribe(channel, None)));
        }
    }

    /// The client is told that it is connected.
    fn greet(&self, client: ClientId, pid: Option<&str>, steps: &mut Steps) {
        let data = match (self.dialect, pid) {
            (Dialect::V5, None) => Some(format!(r#"{{"sid":"{client}"}}"#)),
            (Dialect::V5, Some(pid)) => Some(format!(r#"{{"sid":"{client}","pid":"{pid}"}}"#)),
            (Dialect::V4, _) => None,
        };
        self.send(Kind::Connect, None, data.as_deref(), steps);
    }

    /// What the backend says to this client alone. Clients that recover take a text at the end for an offset, so something
    /// else stands there.
    fn tell(&self, events: Vec<Emission>, steps: &mut Steps) {
        for Emission { event, payload } in events {
            let (mut json, binary) = event::arguments(&event, &payload);
            if self.stamp == Stamp::Offset {
                json.pop();
                json.push_str(",null]");
            }
            self.send_with(Kind::Event, None, (json, binary), steps);
        }
    }

    fn greet_if_back(&mut self, steps: &mut Steps) {
        if let Stage::Returning(greeting) = &self.stage
            && greeting.awaited == 0
        {
            self.greet(greeting.client, greeting.pid.as_deref(), steps);
            self.stage = Stage::Connected(greeting.client);
        }
    }

    /// Something happened in a channel to which the client comes back. What it cannot get back is no silent gap: it comes
    /// again, and begins anew.
    fn back_in(&mut self, answer: &Answer, steps: &mut Steps) {
        let Stage::Returning(greeting) = &mut self.stage else { return };
        match answer {
            Answer::Recovered { .. } | Answer::Subscribed { recovered: Recovered::NotAsked, .. } => {
                greeting.awaited = greeting.awaited.saturating_sub(1);
            }
            Answer::Subscribed { recovered: Recovered::All, .. } => {}
            Answer::Refused(Refusal { code: ErrorCode::NotAvailable | ErrorCode::Timeout, .. }) => {
                let detail = "a channel cannot be read now".to_owned();
                return steps.push_back(Step::Close(&CloseReason::TRY_LATER, detail));
            }
            _ => {
                let detail = "a channel could not be recovered".to_owned();
                return steps.push_back(Step::Close(&CloseReason::GONE, detail));
            }
        }
        self.greet_if_back(steps);
    }

    fn breach(breach: &Breach, steps: &mut Steps) {
        steps.push_back(Step::Close(&CloseReason::BAD_REQUEST, breach.to_string()));
    }
}

impl Protocol for Socket {
    fn open(&mut self, steps: &mut Steps) {
        if let Stage::Connecting(introduction) = &mut self.stage {
            let (token, hello) = (introduction.token.take(), introduction.hello.take());
            steps.push_back(Step::Ask(Ticket::OWN, Command::Connect { token, hello }));
        }
    }

    fn receive(&mut self, frame: Frame<'_>, steps: &mut Steps) {
        let taken = match (frame, self.form) {
            (Frame::Text(text), _) => self.packet(text, steps),
            (Frame::Binary(bytes), Form::Text) => self.attachment(bytes, steps),
            (Frame::Binary(message), Form::MessagePack) => self.unpacked(message, steps),
        };
        if let Err(breach) = taken {
            Self::breach(&breach, steps);
        }
    }

    fn answer(&mut self, ticket: Ticket, answer: Answer, steps: &mut Steps) {
        if let Answer::Connected { client, user, join, .. } = answer {
            return self.connected(client, user.as_ref(), join, steps);
        }
        if ticket == Ticket::OWN && matches!(self.stage, Stage::Returning(_)) {
            return self.back_in(&answer, steps);
        }
        if let Answer::Told { events } = answer {
            return self.tell(events, steps);
        }
        if matches!(answer, Answer::Recovered { .. }) {
            return;
        }
        let asked = self.asked.iter().position(|asked| asked.ticket == ticket);
        let reply = match asked {
            Some(asked) => self.asked.swap_remove(asked).reply,
            None => Reply::OnError("$subscribe".into()),
        };
        if self.asked.is_empty() {
            // Nearly always nothing is under way, and then it takes no memory either.
            self.asked = Vec::new();
        }
        match answer {
            Answer::Refused(refusal) => self.reply(&reply, Err(&refusal), steps),
            Answer::Called { payload } => {
                if let Reply::Ack(id) = reply {
                    self.send_with(Kind::Ack, Some(id), values(&payload), steps);
                }
            }
            answer => self.reply(&reply, Ok(body(answer)), steps),
        }
    }

    fn request(
        &mut self,
        request: RequestId,
        event: &EventName,
        payload: &Payload,
        steps: &mut Steps,
    ) -> Able {
        if !matches!(self.stage, Stage::Connected(_)) {
            return Able::No;
        }
        let ack = self.requests.ask(request);
        self.send_with(Kind::Event, Some(ack), event::arguments(event, payload), steps);
        Able::Yes
    }

    fn unanswered(&mut self) -> Vec<RequestId> {
        self.requests.take()
    }

    fn closing(&mut self, closing: &Closing<'_>, steps: &mut Steps) {
        let Closing { reason, detail, .. } = *closing;
        match self.stage {
            Stage::Connecting(_) if *reason != CloseReason::GOING_AWAY && *reason != CloseReason::RESTART => {
                let message = full(reason, detail);
                let refused = Refused { message: &message, data: Some(RefusedData { code: reason.code }) };
                let form = (self.form, self.dialect);
                steps.push_back(Step::Send(Self::refusal(self.namespace.name(), form, &refused)));
            }
            // A client that is told so stays away; one that is to come back only finds its transport closed.
            Stage::Connected(_) if reason.then == Return::Stay && !is_fault(reason) => {
                let refusal = Refusal::new(ErrorCode::Unauthorized, full(reason, detail));
                for Asked { reply, .. } in std::mem::take(&mut self.asked) {
                    self.reply(&reply, Err(&refusal), steps);
                }
                self.send(Kind::Disconnect, None, None, steps);
            }
            Stage::Connecting(_) | Stage::Returning(_) | Stage::Connected(_) => {}
        }
    }
}

/// Whether the client broke the protocol: then its connection ends as the official server would end it, without a word.
pub fn is_fault(reason: &CloseReason) -> bool {
    [CloseReason::BAD_REQUEST, CloseReason::TOO_BIG].contains(reason)
}

/// Why a client may not connect to a namespace.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct Refused<'a> {
    pub message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<RefusedData>,
}

/// The same for programs.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct RefusedData {
    pub code: u16,
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings and numbers always serialize")
}
