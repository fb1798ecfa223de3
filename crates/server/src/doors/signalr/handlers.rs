//! What comes from a client, over whatever carries its connection.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use duplex_core::{CloseReason, Frame, Link};
use duplex_engine::SessionKey;
use duplex_protocol::signalr::{Breach, Sequencing, Splitter, ack};
use duplex_transport::Handler;
use duplex_transport::movable::{Arrival, MovableLink, Released, Turn};
use duplex_transport::poll::Refused;
use duplex_transport::websocket::WebSocketLink;
use http::StatusCode;

use super::carry::{Begin, open_movable};
use super::registry::{Found, Guard, Known, Polls};
use super::token::ConnectionToken;
use crate::doors::client::Client;
use crate::doors::{Caller, Site};
use crate::places::AddressPlace;

fn bytes<'a>(frame: &Frame<'a>) -> &'a [u8] {
    match frame {
        Frame::Text(text) => text.as_bytes(),
        Frame::Binary(bytes) => bytes,
    }
}

/// Longest message now: until the handshake is over, little is taken.
fn bytes_max(site: &Site, splitter: &Splitter) -> usize {
    let live = site.live();
    let longest = live.bodies.bytes_max;
    if splitter.format().is_some() { longest } else { longest.min(live.sockets.first_message_bytes) }
}

fn reason(breach: Breach) -> &'static CloseReason {
    match breach {
        Breach::TooLong { .. } => &CloseReason::TOO_BIG,
        Breach::Length | Breach::NotText => &CloseReason::BAD_REQUEST,
    }
}

/// A connection whose link is its WebSocket.
pub(super) struct Wired {
    site: Rc<Site>,
    client: Client,
    splitter: RefCell<Splitter>,
    _guard: Option<Guard>,
}

impl Wired {
    pub fn new(
        site: &Rc<Site>,
        key: SessionKey,
        (guard, place): (Option<Guard>, Option<AddressPlace>),
        caller: Arc<Caller>,
    ) -> Self {
        let client = Client { shard: Rc::clone(&site.shard), key, _caller: caller, _place: place };
        Self { site: Rc::clone(site), client, splitter: RefCell::new(Splitter::new(None)), _guard: guard }
    }
}

impl Handler for Wired {
    fn message(&self, frame: Frame<'_>) {
        let splitter = &mut *self.splitter.borrow_mut();
        let bytes_max = bytes_max(&self.site, splitter);
        match splitter.split(bytes(&frame), bytes_max, |message| self.client.message(message)) {
            // What completes nothing counts, too.
            Ok(0) => self.client.message(Frame::Binary(&[])),
            Ok(_) => {}
            Err(breach) => self.close(reason(breach), &breach.to_string()),
        }
    }

    fn heard(&self) {
        self.client.shard.answered(self.client.key);
    }

    fn reply(&self, wire: Bytes) {
        self.client.reply(wire);
    }

    fn close(&self, reason: &'static CloseReason, detail: &str) {
        self.client.close(reason, detail);
    }

    fn writable(&self) {
        self.client.writable();
    }

    fn ended(&self) {
        self.client.ended();
    }
}

/// What of a client's messages is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    All,
    /// It has come back: first it says which messages it will send again.
    AfterSequence,
}

/// A WebSocket that carries a connection to which its client may come back.
pub(super) struct Carried {
    site: Rc<Site>,
    known: Rc<Known>,
    link: Rc<MovableLink>,
    turn: Turn,
    socket: Rc<WebSocketLink>,
    splitter: RefCell<Splitter>,
    heard: Cell<Heard>,
    /// The number of the next message that has one.
    next: Cell<u64>,
    /// The same when the client was last told what has come.
    told: Cell<u64>,
    /// Kept for as long as the connection lasts.
    _caller: Arc<Caller>,
}

impl Carried {
    pub fn new(
        site: &Rc<Site>,
        known: Rc<Known>,
        (link, turn): (Rc<MovableLink>, Turn),
        socket: Rc<WebSocketLink>,
        heard: Heard,
        caller: Arc<Caller>,
    ) -> Self {
        let splitter = RefCell::new(Splitter::new(known.format.get()));
        Self {
            site: Rc::clone(site),
            known,
            link,
            turn,
            socket,
            splitter,
            heard: Cell::new(heard),
            next: Cell::new(1),
            told: Cell::new(1),
            _caller: caller,
        }
    }

    fn fault(&self, detail: &str) {
        self.close(&CloseReason::BAD_REQUEST, detail);
    }

    /// One message; those that have come before are passed over.
    fn take(&self, message: Frame<'_>) {
        let shard = &self.site.shard;
        match (Sequencing::of(message), self.heard.get()) {
            (Sequencing::Sequence(next), _) if next == 0 || next > self.link.received() + 1 => {
                self.fault("a sequence that leaves messages out");
            }
            (Sequencing::Sequence(next), _) => {
                self.next.set(next);
                self.told.set(next);
                self.heard.set(Heard::All);
            }
            (_, Heard::AfterSequence) => {}
            (Sequencing::Numbered, Heard::All) => {
                let number = self.next.replace(self.next.get() + 1);
                match self.link.arrive(Some(number)) {
                    Arrival::Next => shard.receive(self.known.key, message),
                    Arrival::Again => {}
                    Arrival::Early { .. } => self.fault("a sequence that leaves messages out"),
                }
            }
            (Sequencing::Ack(number), Heard::All) => match self.link.acknowledge(number) {
                Ok(()) => shard.writable(self.known.key),
                Err(_) => self.fault("an acknowledgement of messages that were not sent"),
            },
            (Sequencing::Unnumbered, Heard::All) => shard.receive(self.known.key, message),
        }
    }
}

impl Handler for Carried {
    fn message(&self, frame: Frame<'_>) {
        let splitter = &mut *self.splitter.borrow_mut();
        let bytes_max = bytes_max(&self.site, splitter);
        match splitter.split(bytes(&frame), bytes_max, |message| self.take(message)) {
            Ok(0) => self.site.shard.receive(self.known.key, Frame::Binary(&[])),
            Ok(_) => {}
            Err(breach) => self.close(reason(breach), &breach.to_string()),
        }
        self.known.format.set(splitter.format());
        // What came before the connection broke may have come without its acknowledgement.
        let received = self.link.received();
        let is_news = self.next.get() > self.told.replace(self.next.get());
        if let Some(format) = splitter.format().filter(|_| is_news && received > 0) {
            self.reply(self.socket.frame(ack(format, received)));
        }
    }

    fn heard(&self) {
        self.site.shard.answered(self.known.key);
    }

    fn reply(&self, wire: Bytes) {
        self.link.reply(self.turn, wire);
        self.writable();
    }

    fn close(&self, reason: &'static CloseReason, detail: &str) {
        self.site.shard.close(self.known.key, reason, detail);
    }

    fn writable(&self) {
        self.site.shard.writable(self.known.key);
    }

    fn ended(&self) {
        match self.link.release(self.turn) {
            Released::Last => self.site.shard.left(self.known.key),
            // That nothing carries it is learnt by writing.
            Released::Owing => self.site.shard.writable(self.known.key),
            Released::Former => {}
        }
    }
}

/// A response of events, which says nothing: its client sends requests.
pub(super) struct Listening {
    site: Rc<Site>,
    key: SessionKey,
    link: Rc<MovableLink>,
    turn: Turn,
    /// Kept for as long as the connection lasts.
    _caller: Arc<Caller>,
}

impl Listening {
    pub fn new(
        site: &Rc<Site>,
        known: Rc<Known>,
        (link, turn): (Rc<MovableLink>, Turn),
        caller: Arc<Caller>,
    ) -> Self {
        Self { site: Rc::clone(site), key: known.key, link, turn, _caller: caller }
    }
}

impl Handler for Listening {
    fn message(&self, _: Frame<'_>) {}

    fn heard(&self) {}

    fn reply(&self, _: Bytes) {}

    fn close(&self, reason: &'static CloseReason, detail: &str) {
        self.site.shard.close(self.key, reason, detail);
    }

    fn writable(&self) {
        self.site.shard.writable(self.key);
    }

    fn ended(&self) {
        if self.link.release(self.turn) != Released::Former {
            self.site.shard.ended(self.key);
        }
    }
}

/// A poll as its transport sees it: all it can do is end.
pub(super) struct Polled {
    site: Rc<Site>,
    known: Rc<Known>,
    link: Rc<MovableLink>,
    turn: Turn,
    is_last: Cell<bool>,
}

impl Polled {
    pub fn new(site: &Rc<Site>, known: Rc<Known>, (link, turn): (Rc<MovableLink>, Turn)) -> Self {
        Self { site: Rc::clone(site), known, link, turn, is_last: Cell::new(false) }
    }

    /// It tells the client that the connection is over.
    pub fn end(&self) {
        self.is_last.set(true);
    }
}

impl Handler for Polled {
    fn message(&self, _: Frame<'_>) {}

    fn heard(&self) {}

    fn reply(&self, _: Bytes) {}

    fn close(&self, _: &'static CloseReason, _: &str) {}

    fn writable(&self) {}

    fn ended(&self) {
        let released = self.link.release(self.turn);
        match released {
            _ if self.is_last.get() => self.site.shard.ended(self.known.key),
            // A connection that was closed is kept until a poll has said so.
            Released::Last | Released::Owing => self.site.shard.writable(self.known.key),
            Released::Former => {}
        }
    }
}

/// A connection begins with its first poll. `None` if the client has connected already.
pub(super) fn open_polled(site: &Rc<Site>, begin: Begin) -> Option<()> {
    let (known, _) = open_movable(site, begin)?;
    // Nothing carries it yet, which is learnt by writing.
    site.shard.writable(known.key);
    Some(())
}

/// The client's first poll has come.
pub(super) fn begin_polling(site: &Rc<Site>, token: &ConnectionToken) {
    if let Found::Connection(known) = site.hubs.find(token) {
        known.polls.set(Polls::Begun);
    }
}

/// What became of messages in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Posted {
    Taken,
    /// The connection has ended.
    Nowhere,
}

/// A request has brought messages.
pub(super) fn posted(site: &Rc<Site>, token: &ConnectionToken, body: &[u8]) -> Posted {
    let Found::Connection(known) = site.hubs.find(token) else { return Posted::Nowhere };
    let (shard, key) = (&site.shard, known.key);
    if !shard.is_live(key) {
        return Posted::Nowhere;
    }
    let splitter = &mut *known.posted.borrow_mut();
    let bytes_max = bytes_max(site, splitter);
    match splitter.split(body, bytes_max, |message| shard.receive(key, message)) {
        Ok(0) => shard.receive(key, Frame::Binary(&[])),
        Ok(_) => {}
        Err(breach) => shard.close(key, reason(breach), &breach.to_string()),
    }
    if !shard.is_live(key) {
        let (known, shard) = (Rc::clone(&known), Rc::clone(shard));
        tokio::task::spawn_local(async move {
            // By now the turn is over in which its last words, if it had some, were given to who polls.
            if refuse_poll(&known) == Some(Refused::Now) {
                shard.ended(known.key);
            }
        });
    }
    Posted::Taken
}

/// A request that polls, if there is one, is told that it is to be the last, or that another has come.
pub(super) fn refuse_poll(known: &Known) -> Option<Refused> {
    let poll = known.poll.borrow().upgrade()?;
    Some(poll.refuse(StatusCode::NO_CONTENT, Bytes::new()))
}

/// The client ends its connection.
pub(super) fn end(site: &Rc<Site>, token: &ConnectionToken) {
    if let Found::Connection(known) = site.hubs.find(token) {
        refuse_poll(&known);
        site.shard.ended(known.key);
    }
}
