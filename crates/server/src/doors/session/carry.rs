//! A transport that begins to carry a session: its socket goes to the session's shard, and stays there.

use std::rc::Rc;
use std::sync::Arc;

use ::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use bytes::Bytes;
use duplex_core::{CloseReason, Frame, Link};
use duplex_engine::{SessionKey, Shard};
use duplex_protocol::native::{self, Form};
use duplex_transport::Stream;
use duplex_transport::http::{Afterwards, Fields, Reply, text};
use duplex_transport::movable::{CountError, MovableLink, Released, Turn, Visit};
use duplex_transport::poll::{self, PollLink};
use duplex_transport::{Endless, EndlessLink, Framing, Handler, websocket};
use duplex_websocket::handshake::Accept;
use duplex_websocket::{CloseCode, encode};
use hyper::body::{Body as _, Incoming};

use super::registry::Found;
use super::{NotTaken, SessionToken};
use crate::doors::{Caller, Site, afterwards, answer_on, endless_headers, serve};
use crate::query;

/// How a response carries frames down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Events,
    Stream,
    Poll,
}

/// A transport for a session, apart from its socket.
struct Carry {
    token: SessionToken,
    after: u64,
    early: Bytes,
    caller: Arc<Caller>,
    transport: Transport,
}

enum Transport {
    Response(Way, HeaderMap, Afterwards),
    WebSocket(Accept, Form),
}

/// `GET /session/S/…`: the response carries the session.
pub(super) fn by_response(
    site: &Rc<Site>,
    caller: Arc<Caller>,
    request: &Request<Incoming>,
    token: SessionToken,
    way: Way,
) -> Reply {
    let refuse = |sentence: String| Reply::Response(text(StatusCode::BAD_REQUEST, sentence));
    let after = match query::number(request.uri().query(), "after") {
        Ok(after) => after.unwrap_or(0),
        Err(error) => return refuse(format!("after: {error}\n")),
    };
    if !request.body().is_end_stream() {
        return refuse("a request for frames has no body\n".to_owned());
    }
    let afterwards = afterwards(request);
    let site = Rc::clone(site);
    Reply::TakeOver(
        HeaderMap::new(),
        Box::new(move |stream, early, headers| {
            let transport = Transport::Response(way, headers, afterwards);
            bring(&site, stream, Carry { token, after, early, caller, transport });
        }),
    )
}

/// A WebSocket, upgraded already, carries the session.
pub(in crate::doors) fn by_websocket(
    site: &Rc<Site>,
    stream: Stream,
    early: Bytes,
    caller: Arc<Caller>,
    (token, after): (SessionToken, u64),
    (accept, form): (Accept, Form),
) {
    let transport = Transport::WebSocket(accept, form);
    bring(site, stream, Carry { token, after, early, caller, transport });
}

/// Brings a socket to the shard of the session.
fn bring(site: &Rc<Site>, stream: Stream, carry: Carry) {
    if site.is_place_of(carry.token.shard) {
        return here(site, stream, carry);
    }
    let carried = site.move_socket(carry.token.shard, stream, carry, here);
    if let Err((stream, carry)) = carried {
        refuse(site, stream, carry, &NotTaken::Busy);
    }
}

/// The socket is on the session's shard.
fn here(site: &Rc<Site>, stream: Stream, mut carry: Carry) {
    carry.caller.seat.move_to(&site.taken);
    let Some(session) = site.sessions.find(&carry.token.secret) else {
        return refuse(site, stream, carry, &NotTaken::NoSession);
    };
    match session.link.check(carry.after) {
        Err(CountError::Ahead { sent }) => return refuse(site, stream, carry, &NotTaken::Ahead { sent }),
        Err(CountError::Lost) => {
            // A request that was on its way for long must not end what goes well without it.
            if !session.link.is_carried() {
                let detail = "frames that were asked for are no longer kept";
                site.shard.close(session.key, &CloseReason::INSUFFICIENT_STATE, detail);
            }
            return lost(site, stream, carry);
        }
        Ok(after) => carry.after = after,
    }
    match (&carry.transport, session.form) {
        (Transport::Response(Way::Events, ..), Form::MessagePack) => {
            let sentence =
                "Server-Sent Events are text, and this session is in MessagePack; take stream or poll";
            turn_away(site, stream, carry, StatusCode::BAD_REQUEST, sentence);
        }
        (Transport::WebSocket(_, form), theirs) if *form != theirs => {
            refuse(site, stream, carry, &NotTaken::OtherForm);
        }
        (Transport::WebSocket(..), _) => over_websocket(site, stream, carry, session),
        (Transport::Response(Way::Poll, ..), _) => poll(site, stream, carry, session),
        (Transport::Response(..), _) => endless(site, stream, carry, session),
    }
}

/// Frames that the client wants are no longer kept.
fn lost(site: &Rc<Site>, stream: Stream, carry: Carry) {
    let sentence = "after: these frames are no longer kept; open another session and recover";
    turn_away(site, stream, carry, StatusCode::GONE, sentence);
}

fn refuse(site: &Rc<Site>, stream: Stream, carry: Carry, refusal: &NotTaken) {
    turn_away(site, stream, carry, refusal.status(), &refusal.to_string());
}

/// Answers with a status; another request may come behind. A WebSocket is closed.
fn turn_away(site: &Rc<Site>, stream: Stream, carry: Carry, status: StatusCode, sentence: &str) {
    let answer = match carry.transport {
        Transport::Response(_, mut headers, then) => {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
            headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            let mut response = Fields::of(&headers).head(status, Some(sentence.len() + 1), then);
            response.extend_from_slice(sentence.as_bytes());
            response.push(b'\n');
            (response, then)
        }
        Transport::WebSocket(..) => {
            let code = CloseCode::parse(CloseReason::GONE.code).unwrap_or(CloseCode::INTERNAL_ERROR);
            (encode::close(code, sentence).to_vec(), Afterwards::Close)
        }
    };
    answer_on(site, stream, (carry.early, carry.caller), answer);
}

/// A carrier as its transport sees it.
struct Carried {
    shard: Rc<Shard>,
    key: SessionKey,
    link: Rc<MovableLink>,
    turn: Turn,
    /// Kept for as long as the connection lasts.
    _caller: Arc<Caller>,
}

impl Handler for Carried {
    fn message(&self, frame: Frame<'_>) {
        self.link.arrive(None);
        self.shard.receive(self.key, frame);
    }

    fn heard(&self) {
        self.shard.heard(self.key);
    }

    fn reply(&self, wire: Bytes) {
        self.link.reply(self.turn, wire);
        self.shard.writable(self.key);
    }

    fn close(&self, reason: &'static CloseReason, detail: &str) {
        self.shard.close(self.key, reason, detail);
    }

    fn writable(&self) {
        self.shard.writable(self.key);
    }

    fn ended(&self) {
        match self.link.release(self.turn) {
            Released::Last => self.shard.left(self.key),
            // That nothing carries it is learnt by writing.
            Released::Owing => self.shard.writable(self.key),
            Released::Former => {}
        }
    }
}

/// From now on `carrier` carries the session. `None` if the client's count is wrong, which was checked.
fn attach(
    site: &Site,
    session: Found,
    (carrier, visit): (Rc<dyn Link>, Visit),
    after: u64,
    hello: Option<Bytes>,
    caller: Arc<Caller>,
) -> Option<Carried> {
    let Found { link, key, .. } = session;
    let turn = link.attach(carrier, visit, after, hello).ok()?;
    let shard = Rc::clone(&site.shard);
    shard.heard(key);
    shard.writable(key);
    Some(Carried { shard, key, link, turn, _caller: caller })
}

fn framing(way: Way, form: Form) -> Framing {
    match (way, form) {
        (Way::Events, _) => Framing::Events,
        (Way::Stream | Way::Poll, Form::Json) => Framing::Lines,
        (Way::Stream | Way::Poll, Form::MessagePack) => Framing::Blobs,
    }
}

fn endless(site: &Rc<Site>, stream: Stream, carry: Carry, session: Found) {
    let Carry { after, caller, transport: Transport::Response(way, headers, _), .. } = carry else { return };
    let framing = framing(way, session.form);
    let mut head = endless_headers(headers, framing);
    head.extend_from_slice(&framing.frame(native::attached(after, session.link.received(), session.form)));
    let link = EndlessLink::new(stream, framing, head);
    if let Some(carried) = attach(site, session, (link.clone(), Visit::Lasting), after, None, caller) {
        tokio::task::spawn_local(Endless::new(link, carried));
    }
}

fn over_websocket(site: &Rc<Site>, stream: Stream, carry: Carry, session: Found) {
    let Carry { after, early, caller, transport: Transport::WebSocket(accept, form), .. } = carry else {
        return;
    };
    let link = websocket::link(stream, &accept, Rc::clone(&site.sockets));
    let hello = link.frame(native::attached(after, session.link.received(), form));
    if let Some(carried) = attach(site, session, (link.clone(), Visit::Lasting), after, Some(hello), caller) {
        tokio::task::spawn_local(websocket::Connection::new(link, accept.compression(), carried, early));
    }
}

fn poll(site: &Rc<Site>, stream: Stream, carry: Carry, session: Found) {
    let Carry { after, early, caller, transport: Transport::Response(way, mut headers, afterwards), .. } =
        carry
    else {
        return;
    };
    let framing = framing(way, session.form);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(framing.content_type()));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let hello = native::attached(after, session.link.received(), session.form);
    let link = PollLink::new(framing, Some(hello));
    // What another transport had taken, and whether it is gone, the client does not know: it is told at once. In a session
    // that is closed there is nothing to wait for.
    let is_urgent = session.link.visit() == Visit::Lasting || !site.shard.is_live(session.key);
    let visiting = (link.clone() as Rc<dyn Link>, Visit::Once);
    let Some(carried) = attach(site, session, visiting, after, None, Arc::clone(&caller)) else { return };
    let patience = site.live().head_timeout;
    let fields = Fields::of(&headers);
    drop(headers);
    let request = poll::Request { stream, early, fields, afterwards, patience };
    let site = Rc::clone(site);
    tokio::task::spawn_local(async move {
        // By now the turn is over in which frames that waited were written.
        if is_urgent {
            link.heartbeat();
        }
        if let Some((stream, early)) = poll::run(request, link, carried).await {
            serve(&site, stream, early, caller);
        }
    });
}
