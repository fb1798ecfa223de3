//! Sockets that carry a connection: they go to its shard, and stay there.

use std::rc::Rc;
use std::sync::Arc;

use ::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use bytes::Bytes;
use duplex_core::{Able, CloseReason, Identity, Link, Spent};
use duplex_engine::{Opening, SessionKey};
use duplex_protocol::signalr::{
    Format, Hub as Conversation, Introduction, Sequencing, Transport, Written, sequence,
};
use duplex_transport::Stream;
use duplex_transport::http::{Afterwards, Fields, Reply};
use duplex_transport::movable::{Care, Kind, MovableLink, Visit};
use duplex_transport::poll::{self, PollLink, Refused};
use duplex_transport::{Endless, EndlessLink, Framing, websocket};
use duplex_websocket::Compression;
use duplex_websocket::handshake::{Accept, Refusal};
use hyper::body::Incoming;

use super::handlers::{Carried, Heard, Listening, Polled, Wired, refuse_poll};
use super::registry::{Found, Guard, Known, Owner};
use super::token::{ConnectionToken, UserMark};
use super::{Resume, SIGNALR, Site, new_client};
use crate::doors::{Caller, afterwards, answer_on, endless_headers, serve, socket};
use crate::hubs::Hub;
use crate::places::AddressPlace;

/// Where a new connection comes from.
pub(super) struct Origin {
    pub hub: Hub,
    pub identity: Identity,
    pub owner: Owner,
    /// `None` if the client has not negotiated.
    pub token: Option<ConnectionToken>,
}

/// A connection that is to begin.
pub(super) struct Begin {
    pub introduction: Introduction,
    pub identity: Identity,
    pub owner: Owner,
    pub token: Option<ConnectionToken>,
    pub place: Option<AddressPlace>,
}

/// What a message that we wrote is to a session that goes on: pings and what is said about numbers are sent once.
fn numbered(message: &[u8]) -> (Kind, Care) {
    let Written { format, sequencing } = Written::of(message);
    let kind = match format {
        Format::Json => Kind::Text,
        Format::MessagePack => Kind::Binary,
    };
    let care = if sequencing == Sequencing::Numbered { Care::Kept } else { Care::Once };
    (kind, care)
}

/// The same to a session that ends with its transport.
fn once(message: &[u8]) -> (Kind, Care) {
    (numbered(message).0, Care::Once)
}

/// The same to a session that is polled: what one poll was given is kept until the next one comes.
fn kept(message: &[u8]) -> (Kind, Care) {
    (numbered(message).0, Care::Kept)
}

/// Begins a session whose messages are framed by what carries them. `None` for a client that has not negotiated.
pub(super) fn open_movable(site: &Rc<Site>, begin: Begin) -> Option<(Rc<Known>, Rc<MovableLink>)> {
    let Begin { introduction, identity, owner, token, place } = begin;
    let token = token?;
    let transport = introduction.transport;
    let describe = match transport {
        Transport::WebSocket => numbered,
        Transport::Events => once,
        Transport::Polls => kept,
    };
    let guard = Box::new(Guard::new(&site.hubs, &token, place));
    let link = MovableLink::new(describe, site.live().retained_bytes, guard);
    let key = open(site, link.clone(), introduction, identity, &token);
    let known = Known::new(key, (transport, token.resume), Some(&link), owner);
    Some((site.hubs.add(token.client, known), link))
}

fn open(
    site: &Rc<Site>,
    link: Rc<dyn Link>,
    introduction: Introduction,
    identity: Identity,
    token: &ConnectionToken,
) -> SessionKey {
    site.shard.open(Opening {
        link,
        protocol: Box::new(Conversation::new(introduction)),
        // The handshake says which it really is.
        encoding: SIGNALR,
        identity: Some(identity),
        client: Some(token.client),
        trail: None,
    })
}

/// A new connection over WebSocket.
pub(super) fn by_websocket(
    site: &Rc<Site>,
    caller: Arc<Caller>,
    request: &Request<Incoming>,
    begin: Begin,
) -> Reply {
    let accept = match accept(request) {
        Ok(accept) => accept,
        Err(refusal) => return socket::refuse(refusal),
    };
    let shard = begin.token.map_or(site.id, |token| token.shard);
    let site = Rc::clone(site);
    let switching = socket::switching(&accept);
    let upgraded = Box::new(move |stream, early| {
        let arrival = Arrival { early, caller, accept };
        match site.is_place_of(shard) {
            true => wire(&site, stream, (begin, arrival)),
            // Without room on its shard the socket is dropped: the client negotiates again.
            false => drop(site.move_socket(shard, stream, (begin, arrival), wire)),
        }
    });
    Reply::Upgrade(switching, upgraded)
}

/// Without compression: the bytes of events are shared, and compressed for nobody.
fn accept(request: &Request<Incoming>) -> Result<Accept, Refusal> {
    Ok(socket::offer(request)?.accept(None, Compression::Off))
}

/// A WebSocket that was upgraded.
struct Arrival {
    early: Bytes,
    caller: Arc<Caller>,
    accept: Accept,
}

/// The socket is on the connection's shard.
fn wire(site: &Rc<Site>, stream: Stream, (begin, arrival): (Begin, Arrival)) {
    let Arrival { early, caller, accept } = arrival;
    caller.seat.move_to(&site.taken);
    let socket = websocket::link(stream, &accept, Rc::clone(&site.sockets));
    if begin.token.is_some_and(|token| token.resume == Resume::Yes) {
        let Some((known, link)) = open_movable(site, begin) else { return };
        let Ok(turn) = link.attach(socket.clone(), Visit::Lasting, 0, None) else { return };
        let carried = Carried::new(site, known, (link, turn), Rc::clone(&socket), Heard::All, caller);
        tokio::task::spawn_local(websocket::Connection::new(socket, accept.compression(), carried, early));
        return;
    }
    let Begin { introduction, identity, owner, token, place } = begin;
    let named = token.unwrap_or_else(|| ConnectionToken {
        node: site.nodes.own(),
        shard: site.id,
        client: new_client(),
        issued_ms: 0,
        resume: Resume::No,
        answers: Able::Yes,
        user: UserMark::of(None),
    });
    let key = open(site, socket.clone(), introduction, identity, &named);
    // Nobody can ask for one that was not negotiated.
    let (guard, place) = match token {
        Some(token) => {
            let known = Known::new(key, (Transport::WebSocket, Resume::No), None, owner);
            site.hubs.add(token.client, known);
            (Some(Guard::new(&site.hubs, &token, place)), None)
        }
        None => (None, place),
    };
    let wired = Wired::new(site, key, (guard, place), caller);
    tokio::task::spawn_local(websocket::Connection::new(socket, accept.compression(), wired, early));
}

/// A client comes back to its connection with another WebSocket.
pub(super) fn resume(
    site: &Rc<Site>,
    caller: Arc<Caller>,
    request: &Request<Incoming>,
    token: ConnectionToken,
) -> Reply {
    let accept = match accept(request) {
        Ok(accept) => accept,
        Err(refusal) => return socket::refuse(refusal),
    };
    let site = Rc::clone(site);
    let switching = socket::switching(&accept);
    let upgraded = Box::new(move |stream, early| {
        let arrival = Arrival { early, caller, accept };
        match site.is_place_of(token.shard) {
            true => resume_here(&site, stream, (token, arrival)),
            // Without room on its shard the socket is dropped: the client tries again.
            false => drop(site.move_socket(token.shard, stream, (token, arrival), resume_here)),
        }
    });
    Reply::Upgrade(switching, upgraded)
}

/// Whether a client may come back: to a connection that was not closed, and that can give it all it has not got.
pub(super) fn may_resume(site: &Rc<Site>, token: &ConnectionToken) -> bool {
    let Found::Connection(known) = site.hubs.find(token) else { return false };
    let Some(link) = known.link().filter(|_| known.format.get().is_some()) else { return false };
    if known.returns() == Spent::Over {
        site.shard.close(known.key, &CloseReason::POLICY, "the client came back too often");
    } else if link.check(link.acknowledged()).is_err() {
        let detail = "messages that the client has not got are no longer kept";
        site.shard.close(known.key, &CloseReason::INSUFFICIENT_STATE, detail);
    }
    site.shard.is_live(known.key)
}

fn resume_here(site: &Rc<Site>, stream: Stream, (token, arrival): (ConnectionToken, Arrival)) {
    let Arrival { early, caller, accept } = arrival;
    caller.seat.move_to(&site.taken);
    // What has changed since it was looked at drops the socket: the client asks again, and hears so.
    let Found::Connection(known) = site.hubs.find(&token) else { return };
    let (Some(link), Some(format)) = (known.link(), known.format.get()) else { return };
    let acknowledged = link.acknowledged();
    let socket = websocket::link(stream, &accept, Rc::clone(&site.sockets));
    let hello = socket.frame(sequence(format, acknowledged + 1));
    let Ok(turn) = link.attach(socket.clone(), Visit::Lasting, acknowledged, Some(hello)) else { return };
    site.shard.heard(known.key);
    site.shard.writable(known.key);
    let carried = Carried::new(site, known, (link, turn), Rc::clone(&socket), Heard::AfterSequence, caller);
    tokio::task::spawn_local(websocket::Connection::new(socket, accept.compression(), carried, early));
}

/// A new connection over Server-Sent Events.
pub(super) fn by_events(site: &Rc<Site>, caller: Arc<Caller>, begin: Begin) -> Reply {
    let shard = begin.token.map_or(site.id, |token| token.shard);
    let site = Rc::clone(site);
    Reply::TakeOver(
        HeaderMap::new(),
        Box::new(move |stream, _, headers| match site.is_place_of(shard) {
            true => listen(&site, stream, (begin, headers, caller)),
            // Without room on its shard the socket is dropped: the client negotiates again.
            false => drop(site.move_socket(shard, stream, (begin, headers, caller), listen)),
        }),
    )
}

fn listen(site: &Rc<Site>, stream: Stream, (begin, mut headers, caller): (Begin, HeaderMap, Arc<Caller>)) {
    caller.seat.move_to(&site.taken);
    let Some((known, link)) = open_movable(site, begin) else { return };
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, no-transform"));
    let mut head = endless_headers(headers, Framing::CrlfEvents);
    // Some browsers take a response for open only when something of it has come.
    head.extend_from_slice(b":\r\n");
    let events = EndlessLink::new(stream, Framing::CrlfEvents, head);
    let Ok(turn) = link.attach(events.clone(), Visit::Lasting, 0, None) else { return };
    site.shard.writable(known.key);
    let listening = Listening::new(site, known, (link, turn), caller);
    tokio::task::spawn_local(Endless::new(events, listening));
}

/// A poll apart from its socket.
struct Poll {
    token: ConnectionToken,
    early: Bytes,
    caller: Arc<Caller>,
    headers: HeaderMap,
    afterwards: Afterwards,
}

/// A request polls for a connection.
pub(super) fn poll(
    site: &Rc<Site>,
    caller: Arc<Caller>,
    request: &Request<Incoming>,
    token: ConnectionToken,
) -> Reply {
    let (site, afterwards) = (Rc::clone(site), afterwards(request));
    Reply::TakeOver(
        HeaderMap::new(),
        Box::new(move |stream, early, headers| {
            let poll = Poll { token, early, caller, headers, afterwards };
            if site.is_place_of(token.shard) {
                return poll_here(&site, stream, poll);
            }
            if let Err((stream, poll)) = site.move_socket(token.shard, stream, poll, poll_here) {
                turn_away(
                    &site,
                    stream,
                    poll,
                    StatusCode::SERVICE_UNAVAILABLE,
                    "the server is busy; try again\n",
                );
            }
        }),
    )
}

/// The socket is on the connection's shard.
fn poll_here(site: &Rc<Site>, stream: Stream, poll: Poll) {
    poll.caller.seat.move_to(&site.taken);
    let known = match site.hubs.find(&poll.token) {
        Found::Connection(known) => known,
        Found::Nothing | Found::Room => return poll_nothing(site, stream, poll),
    };
    let Some(link) = known.link() else { return poll_nothing(site, stream, poll) };
    refuse_poll(&known);
    // That the client polls again says that it has what the poll before was given.
    let carrier = PollLink::new(Framing::Ready, None);
    let Ok(turn) = link.attach(carrier.clone(), Visit::Once, link.given(), None) else { return };
    *known.poll.borrow_mut() = Rc::downgrade(&carrier);
    site.shard.heard(known.key);
    site.shard.writable(known.key);
    let is_over = !site.shard.is_live(known.key);
    let Poll { early, caller, mut headers, afterwards, .. } = poll;
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let (fields, patience) = (Fields::of(&headers), site.live().head_timeout);
    drop(headers);
    let request = poll::Request { stream, early, fields, afterwards, patience };
    let polled = Polled::new(site, known, (link, turn));
    let site = Rc::clone(site);
    tokio::task::spawn_local(async move {
        // By now the turn is over in which what waited was written.
        if is_over && carrier.refuse(StatusCode::NO_CONTENT, Bytes::new()) == Refused::Now {
            polled.end();
        }
        if let Some((stream, early)) = poll::run(request, carrier, polled).await {
            serve(&site, stream, early, caller);
        }
    });
}

fn poll_nothing(site: &Rc<Site>, stream: Stream, poll: Poll) {
    turn_away(site, stream, poll, StatusCode::NOT_FOUND, "No Connection with that ID");
}

/// Answers with a status; another request may come behind.
fn turn_away(site: &Rc<Site>, stream: Stream, poll: Poll, status: StatusCode, sentence: &str) {
    let Poll { early, caller, mut headers, afterwards, .. } = poll;
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    let mut response = Fields::of(&headers).head(status, Some(sentence.len()), afterwards);
    response.extend_from_slice(sentence.as_bytes());
    answer_on(site, stream, (early, caller), (response, afterwards));
}
