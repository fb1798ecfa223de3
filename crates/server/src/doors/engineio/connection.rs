//! An Engine.IO session: one connection to a client, whatever carries it, and the engine's sessions that share it.

mod upgrade;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use duplex_core::{
    ChannelName, CloseReason, EncodingId, Frame, FrameQueue, Heartbeat, Identity, Link, Message, Return,
    Written,
};
use duplex_engine::{Opening, SessionKey};
use duplex_protocol::echo::Echo;
use duplex_protocol::engineio::{
    Bodies, Conversation, Malformed, More, Overlap, Packet, Received, Refused, Transport, Version,
};
use duplex_protocol::socketio::{Quiet, is_fault};
use duplex_transport::poll::PollLink;
use duplex_transport::websocket::WebSocketLink;
use duplex_websocket::encode;
use http::StatusCode;

use super::Posted;
use super::frames::{body, message_frame, packet_frame};
use super::lane::{Ending, Lane, OWN};
use super::registry::Registry;
use crate::doors::Site;
use crate::doors::session::Secret;
use crate::doors::socketio::{Namespaces, Then};
use crate::places::AddressPlace;

/// What is spoken over Engine.IO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upper {
    /// Every message comes back.
    Echo,
    SocketIo,
}

/// Where a connection comes from.
pub(crate) struct Origin {
    pub place: Option<AddressPlace>,
    /// The token in its request.
    pub token: Option<String>,
    /// The channels in its request.
    pub channels: Vec<ChannelName>,
}

/// One client's connection.
pub(crate) struct Connection {
    pub site: Rc<Site>,
    conversation: RefCell<Conversation>,
    carrier: RefCell<Carrier>,
    /// A WebSocket that is tried.
    probe: RefCell<Option<Rc<WebSocketLink>>>,
    /// Whose frames the transport could not take whole: nobody else writes until it has.
    writing: Cell<Option<u32>>,
    state: Cell<State>,
    /// Why it is closed.
    reason: Cell<Option<&'static CloseReason>>,
    own: Cell<Option<SessionKey>>,
    /// `None` over Echo.
    pub namespaces: Option<Box<Namespaces>>,
    /// What goes with it, if something does.
    belongings: RefCell<Option<Box<Belongings>>>,
}

/// What a connection holds for as long as it lasts.
struct Belongings {
    secret: Option<Secret>,
    engines: Rc<Registry>,
    _place: Option<AddressPlace>,
}

impl Drop for Belongings {
    fn drop(&mut self) {
        self.secret.inspect(|secret| self.engines.remove(secret));
    }
}

/// What carries a connection now.
pub(crate) enum Carrier {
    /// No request polls at the moment.
    Nothing,
    Poll(Rc<PollLink>),
    WebSocket(Rc<WebSocketLink>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It is not known who the client is.
    Stranger,
    Admitted,
    Closing,
    /// The close frame of its WebSocket is out: nothing may follow.
    Left,
    Over,
}

impl Connection {
    /// A connection that nothing carries yet.
    pub fn open(
        site: &Rc<Site>,
        (version, transport): (Version, Transport),
        upper: Upper,
        secret: Option<Secret>,
        origin: Origin,
    ) -> Rc<Self> {
        let Origin { place, token, channels } = origin;
        let namespaces = match upper {
            Upper::Echo => None,
            Upper::SocketIo => Some(Box::new(Namespaces::new(version, token.as_deref(), channels))),
        };
        let has_some = secret.is_some() || place.is_some();
        let belongings =
            has_some.then(|| Belongings { secret, engines: Rc::clone(&site.engines), _place: place });
        let connection = Rc::new(Self {
            site: Rc::clone(site),
            conversation: RefCell::new(Conversation::new(version, transport)),
            carrier: RefCell::new(Carrier::Nothing),
            probe: RefCell::default(),
            writing: Cell::default(),
            state: Cell::new(State::Stranger),
            reason: Cell::default(),
            own: Cell::default(),
            namespaces,
            belongings: RefCell::new(belongings.map(Box::new)),
        });
        let link = Lane::new(&connection, OWN);
        let opening = match upper {
            Upper::Echo => Opening {
                link,
                protocol: Box::new(Echo),
                encoding: EncodingId(0),
                identity: None,
                client: None,
                trail: None,
            },
            // Who the client is, it says to each namespace. The connection itself may do nothing.
            Upper::SocketIo => Opening {
                link,
                protocol: Box::new(Quiet),
                encoding: EncodingId(0),
                identity: Some(Identity::default()),
                client: None,
                trail: None,
            },
        };
        connection.own.set(Some(site.shard.open(opening)));
        if upper == Upper::SocketIo {
            site.engines.expect(&connection, Duration::from_millis(site.live().settings.connect_ms.into()));
        }
        connection
    }

    /// The client may be told what it need not ask for.
    pub fn greet(self: &Rc<Self>) {
        if let Some(namespaces) = &self.namespaces {
            namespaces.greet(self);
        }
    }

    pub fn version(&self) -> Version {
        self.conversation.borrow().version()
    }

    pub fn is_polled(&self) -> bool {
        self.conversation.borrow().is_polled()
    }

    /// Longest body of a request that brings packets.
    pub fn body_bytes_max(&self) -> usize {
        let live = self.site.live();
        match self.state.get() {
            State::Stranger => live.sockets.first_message_bytes.min(live.bodies.bytes_max),
            _ => live.bodies.bytes_max,
        }
    }

    /// Whoever is in no namespace when the time for that is over is closed.
    pub fn be_someone(&self) {
        if self.state.get() == State::Stranger {
            self.close(&CloseReason::STALE, "");
        }
    }

    /// Whether it is closed, and nothing is carried out for the client any more.
    pub fn is_leaving(&self) -> bool {
        !matches!(self.state.get(), State::Stranger | State::Admitted)
    }

    /// Calls `act` with the connection's own session.
    fn own(&self, act: impl FnOnce(&Rc<duplex_engine::Shard>, SessionKey)) {
        if let Some(key) = self.own.get() {
            act(&self.site.shard, key);
        }
    }

    /// Sends a packet that is text, its type included.
    pub fn send_packet(&self, packet: &str) {
        self.send(packet_frame(packet));
    }

    /// Sends a frame of the connection's own.
    pub fn send(&self, frame: Bytes) {
        self.own(|shard, key| shard.queue(key, frame));
    }

    /// Closes the connection for a reason. What waits in its namespaces goes out before.
    pub fn close(&self, reason: &'static CloseReason, detail: &str) {
        self.writable();
        self.own(|shard, key| shard.close(key, reason, detail));
    }

    /// There may be room again: who was interrupted goes on first, and a farewell is the last.
    pub fn writable(&self) {
        let shard = &self.site.shard;
        let mut keys = self.namespaces.as_ref().map(|namespaces| namespaces.keys()).unwrap_or_default();
        let own = self.own.get().map(|key| (OWN, key));
        let last = if self.state.get() == State::Closing { keys.len() } else { 0 };
        own.into_iter().for_each(|own| keys.insert(last, own));
        let (first, others): (Vec<_>, Vec<_>) =
            keys.into_iter().partition(|(number, _)| self.writing.get() == Some(*number));
        first.into_iter().chain(others).for_each(|(_, key)| shard.writable(key));
    }

    /// The connection has ended, and all sessions with it.
    pub fn over(&self) {
        if self.state.replace(State::Over) == State::Over {
            return;
        }
        self.belongings.take();
        if let Some(namespaces) = &self.namespaces {
            namespaces.over(&self.site, self.then());
        }
        self.own(|shard, key| shard.ended(key));
        self.abort();
        self.carrier.replace(Carrier::Nothing);
    }

    /// What becomes of its clients. Who breaks the protocol, or could not be given back what it had, would only come for the
    /// same again.
    fn then(&self) -> Then {
        match self.reason.get() {
            Some(reason) if is_fault(reason) || *reason == CloseReason::GONE => Then::Forget,
            _ => Then::Await,
        }
    }

    /// Cuts what carries it.
    pub fn abort(&self) {
        match self.carrier.replace(Carrier::Nothing) {
            Carrier::Nothing => {}
            // Some clients take a close packet for a word to stay away. Who is to come back finds no session.
            Carrier::Poll(link)
                if self.reason.get().is_some_and(|reason| reason.then == Return::Reconnect) =>
            {
                link.refuse(StatusCode::BAD_REQUEST, Refused::UnknownSession.json().into());
            }
            Carrier::Poll(link) => self.answer_poll(&link, &mut queue_of("1")),
            Carrier::WebSocket(link) => {
                link.abort();
                // Its task says when it has ended, and then the connection has.
                *self.carrier.borrow_mut() = Carrier::WebSocket(link);
            }
        }
        if let Some(link) = self.probe.take() {
            link.abort();
        }
    }

    /// Nobody is at the other end: its clients leave their channels now, not when the WebSocket is given up.
    fn leave_later(self: &Rc<Self>) {
        let connection = Rc::clone(self);
        tokio::task::spawn_local(async move {
            if let Some(namespaces) = &connection.namespaces {
                namespaces.over(&connection.site, Then::Await);
            }
        });
    }

    /// A session may end, as soon as the engine is not in the middle of something.
    pub fn end_later(self: &Rc<Self>, number: u32, ending: Ending) {
        let connection = Rc::clone(self);
        tokio::task::spawn_local(async move {
            match (ending, &connection.namespaces) {
                (Ending::Session, Some(namespaces)) => namespaces.ended(&connection.site, number),
                (Ending::Connection(reason), _) if number != OWN => connection.close(reason, ""),
                // The task of a WebSocket goes on until the client has closed, too, and then says so.
                _ if connection.is_polled() => connection.over(),
                _ => {}
            }
        });
    }
}

/// The connection as its sessions' links see it.
impl Connection {
    pub fn frame(&self, message: &Message) -> Bytes {
        message_frame(message, self.version())
    }

    pub fn heartbeat(&self) -> Heartbeat {
        Heartbeat::Ping(match self.version() {
            Version::V4 => packet_frame("2"),
            // The client sends them, and until the deadline it must.
            Version::V3 => Bytes::new(),
        })
    }

    pub fn write(&self, number: u32, queue: &mut FrameQueue) -> Written {
        let carrier = self.carrier.borrow();
        let may_write = match self.writing.get() {
            Some(writing) => writing == number,
            None => number == OWN || !matches!(self.state.get(), State::Left | State::Over),
        };
        if !may_write {
            return Written::Blocked;
        }
        let written = match &*carrier {
            Carrier::WebSocket(link) => link.write(queue),
            _ if queue.is_empty() => Written::All,
            Carrier::Nothing => return Written::Blocked,
            Carrier::Poll(link) => {
                let link = Rc::clone(link);
                drop(carrier);
                self.answer_poll(&link, queue);
                return Written::All;
            }
        };
        let writing = (written == Written::Blocked).then_some(number);
        if self.writing.get() != writing {
            self.writing.set(writing);
        }
        if (number, written, self.state.get()) == (OWN, Written::All, State::Closing) {
            self.state.set(State::Left);
        }
        written
    }

    /// Whether the frames of this session are on the wire in part.
    pub fn is_interrupted_by(&self, number: u32) -> bool {
        self.writing.get() == Some(number)
    }

    fn answer_poll(&self, link: &PollLink, queue: &mut FrameQueue) {
        *self.carrier.borrow_mut() = Carrier::Nothing;
        self.conversation.borrow_mut().polled();
        let mut answer = FrameQueue::default();
        answer.push(body(queue, Bodies(self.version())));
        link.write(&mut answer);
    }

    /// The last packet of the connection, or the frame that ends its WebSocket.
    pub fn farewell(self: &Rc<Self>, reason: &'static CloseReason, detail: &str) -> Option<Bytes> {
        self.state.set(State::Closing);
        self.reason.set(Some(reason));
        if *reason == CloseReason::NO_PONG {
            self.leave_later();
        }
        match &*self.carrier.borrow() {
            Carrier::WebSocket(link) => {
                let close = link.farewell(reason, detail)?;
                // The official server gives no reason, but for what is wrong with the WebSocket itself.
                let is_of_websocket =
                    reason.code < CloseReason::RESTART.code && *reason != CloseReason::GOING_AWAY;
                Some(if is_of_websocket { close } else { encode::close_empty() })
            }
            // Nobody asks for anything any more.
            Carrier::Poll(_) | Carrier::Nothing if *reason == CloseReason::NO_PONG => {
                self.end_later(OWN, Ending::Connection(reason));
                None
            }
            // What waits goes out with the next poll; when this has, too, there is no session any more.
            Carrier::Poll(_) | Carrier::Nothing if reason.then == Return::Reconnect => {
                Some(packet_frame("6"))
            }
            Carrier::Poll(_) => Some(packet_frame("1")),
            Carrier::Nothing => Some([packet_frame("6"), packet_frame("1")].concat().into()),
        }
    }

    /// It is known who a client is: from now on it may send what the settings allow.
    pub fn admitted(&self, number: u32) {
        let is_known = number != OWN || self.namespaces.is_none();
        if is_known && self.state.get() == State::Stranger {
            self.state.set(State::Admitted);
            if let Carrier::WebSocket(link) = &*self.carrier.borrow() {
                link.admitted();
            }
        }
    }
}

/// The connection as its requests and sockets see it.
impl Connection {
    /// From now on `carrier` carries it.
    pub fn carry(&self, carrier: Carrier) {
        if let Carrier::WebSocket(link) = &carrier
            && self.state.get() == State::Admitted
        {
            link.admitted();
        }
        *self.carrier.borrow_mut() = carrier;
        self.writable();
    }

    pub fn is_carried_by(&self, link: &Rc<WebSocketLink>) -> bool {
        matches!(&*self.carrier.borrow(), Carrier::WebSocket(carrier) if Rc::ptr_eq(carrier, link))
    }

    /// A request polls. If another does, the client is out of its senses: that one is told that the session is over.
    pub fn begin_poll(&self, link: Rc<PollLink>) -> Result<(), Overlap> {
        let begun = self.conversation.borrow_mut().poll();
        match begun {
            Ok(()) => self.carry(Carrier::Poll(link)),
            Err(Overlap) => self.over(),
        }
        begun
    }

    /// A request that polled is gone. Without an answer, packets may be lost with it, so the session ends.
    pub fn poll_ended(&self, link: &Rc<PollLink>) {
        let was_waiting =
            matches!(&*self.carrier.borrow(), Carrier::Poll(carrier) if Rc::ptr_eq(carrier, link));
        if was_waiting {
            self.over();
        }
    }

    /// A request will bring packets.
    pub fn begin_post(&self) -> Result<(), Overlap> {
        let begun = self.conversation.borrow_mut().post();
        if begun.is_err() {
            self.over();
        }
        begun
    }

    /// A request has brought packets.
    pub fn posted(self: &Rc<Self>, posted: Posted) -> Result<(), Refused> {
        self.conversation.borrow_mut().posted();
        let version = self.version();
        let bodies = Bodies(version);
        let take = |packet: Packet<'_>| {
            self.packet(packet);
            if self.state.get() == State::Over { More::No } else { More::Yes }
        };
        let read = match &posted {
            Posted::Nothing => return Ok(()),
            Posted::Broken => return Err(self.fail("a request broke off")),
            Posted::Body { body, is_binary: true } => match version {
                Version::V4 => return Err(self.fail("a body of bytes; version 4 has text only")),
                Version::V3 => bodies.read_bytes(body, take),
            },
            Posted::Body { body, is_binary: false } => match std::str::from_utf8(body) {
                Ok(text) => bodies.read(text, take),
                Err(_) => Err(Malformed::NotText),
            },
        };
        read.map_err(|malformed| self.fail(&malformed.to_string()))
    }

    /// The client has broken the protocol in a request: the session is over when that is answered.
    fn fail(&self, detail: &str) -> Refused {
        self.close(&CloseReason::BAD_REQUEST, detail);
        self.over();
        Refused::BadRequest
    }

    /// A message came over the WebSocket that carries the connection.
    pub fn receive(self: &Rc<Self>, frame: Frame<'_>) {
        let packet = match frame {
            Frame::Text(text) => Packet::text(text),
            Frame::Binary(bytes) => Packet::binary(bytes, self.version()),
        };
        match packet {
            Ok(packet) => self.packet(packet),
            Err(malformed) => self.close(&CloseReason::BAD_REQUEST, &malformed.to_string()),
        }
    }

    fn packet(self: &Rc<Self>, packet: Packet<'_>) {
        let received = self.conversation.borrow().receive(packet);
        match received {
            Received::Text(text) => self.message(Frame::Text(text)),
            Received::Binary(bytes) => self.message(Frame::Binary(bytes)),
            Received::Alive => self.noted(|shard, key| shard.heard(key)),
            Received::Beat(answer) => {
                self.noted(|shard, key| shard.heard(key));
                self.send_packet(answer);
            }
            Received::Ignored => self.noted(|_, _| {}),
            Received::Closed => self.closed_by_client(),
            Received::Violation => {
                self.close(&CloseReason::BAD_REQUEST, "a ping; in version 4 the server sends them");
            }
        }
    }

    /// A packet that says nothing, or is for no socket, counts as a message, too.
    pub fn noted(&self, act: impl FnOnce(&Rc<duplex_engine::Shard>, SessionKey)) {
        match &self.namespaces {
            Some(_) => self.own(|shard, key| {
                shard.receive(key, Frame::Text(""));
                act(shard, key);
            }),
            None => self.own(act),
        }
    }

    fn message(self: &Rc<Self>, frame: Frame<'_>) {
        match &self.namespaces {
            Some(_) if self.is_leaving() => {}
            Some(namespaces) => namespaces.receive(self, frame),
            None => self.own(|shard, key| shard.receive(key, frame)),
        }
    }

    fn closed_by_client(&self) {
        let carrier = self.carrier.replace(Carrier::Nothing);
        match carrier {
            Carrier::Poll(link) => self.answer_poll(&link, &mut queue_of("6")),
            Carrier::WebSocket(link) => {
                *self.carrier.borrow_mut() = Carrier::WebSocket(link);
                return self.close(&CloseReason::GOING_AWAY, "");
            }
            Carrier::Nothing => {}
        }
        self.over();
    }
}

fn queue_of(packet: &str) -> FrameQueue {
    let mut queue = FrameQueue::default();
    queue.push(packet_frame(packet));
    queue
}
