//! Engine.IO: `/engine.io/`, where messages come back, and `/socket.io/`, where they are Socket.IO.
//!
//! A session lives on one shard. Requests for it come in on any: their sockets go to the session, and what they bring is an
//! errand.

mod connection;
mod frames;
mod lane;
mod poll;
mod registry;
mod websocket;

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use duplex_core::ChannelName;
use duplex_protocol::engineio::{Handshake, Refused, Transport, Version, Wanted};
use duplex_transport::http::{Body, BodyError, Reply, content, read_body, text};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;

pub(super) use connection::{Connection, Upper};
pub(super) use frames::message_frame;
pub(super) use lane::Lane;
pub(crate) use registry::Registry;

use self::connection::Origin;
use self::registry::Sid;
use super::{Caller, Counted, Site, find_place, later, preflight, shown_token};
use crate::options::Version2;
use crate::query;

/// Answers a request to a path of Engine.IO, over which `upper` is spoken.
pub(super) async fn answer(
    site: &Rc<Site>,
    caller: Arc<Caller>,
    request: Request<Incoming>,
    upper: Upper,
) -> Reply {
    let headers = request.headers();
    let is_upgrade = headers.contains_key(header::UPGRADE);
    if *request.method() == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) {
        return Reply::Response(preflight("GET, POST"));
    }
    match wanted(site, &request, is_upgrade) {
        Err(refused) if is_upgrade => Reply::Response(refuse_upgrade(&refused)),
        Err(refused) => Reply::Response(refuse(&refused)),
        Ok(Wanted { sid: None, transport: Transport::Polling, version }) => {
            Reply::Response(begin_polled(site, &caller, &request, version, upper))
        }
        Ok(Wanted { sid: None, transport: Transport::WebSocket, version }) => {
            websocket::begin(site, caller, &request, version, upper)
        }
        Ok(Wanted { sid: Some(sid), transport, .. }) => {
            of_session(site, caller, request, &sid, transport, is_upgrade).await
        }
    }
}

/// What a request wants, checked as far as that does not depend on its session, in the order of the official server.
fn wanted(site: &Site, request: &Request<Incoming>, is_upgrade: bool) -> Result<Wanted, Refused> {
    let wanted = Wanted::parse(|name| query::value(request.uri().query(), name))?;
    if wanted.sid.is_none() {
        if *request.method() != Method::GET {
            return Err(Refused::Method);
        }
        if wanted.transport == Transport::WebSocket && !is_upgrade {
            return Err(Refused::BadRequest);
        }
        if wanted.version == Version::V3 && site.live().socketio.version_2 == Version2::Refused {
            return Err(Refused::UnsupportedVersion);
        }
    }
    Ok(wanted)
}

/// A request is refused as the official server refuses it.
fn refuse(refused: &Refused) -> Response<Body> {
    let status = StatusCode::from_u16(refused.status()).unwrap_or(StatusCode::BAD_REQUEST);
    content(status, "application/json", refused.json())
}

/// The same for a WebSocket. Here the official server has nothing but the message.
fn refuse_upgrade(refused: &Refused) -> Response<Body> {
    let mut response = content(StatusCode::BAD_REQUEST, "text/html", refused.message().into_owned());
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Two requests of a kind at once for one session: an error without words, as from the official server.
fn overlap() -> Response<Body> {
    text(StatusCode::BAD_REQUEST, "")
}

/// The first request of a session that is polled.
fn begin_polled(
    site: &Rc<Site>,
    caller: &Caller,
    request: &Request<Incoming>,
    version: Version,
    upper: Upper,
) -> Response<Body> {
    let place = match find_place(site, caller, request, Counted::Session) {
        Ok(place) => place,
        Err(status) => return later(status),
    };
    let sid = site.new_token();
    let origin = Origin { place, token: shown_token(request), channels: channels(request) };
    let connection = Connection::open(site, (version, Transport::Polling), upper, Some(sid.secret), origin);
    site.engines.add(sid.secret, &connection);
    connection.greet();
    let mut packets = Vec::new();
    let bodies = duplex_protocol::engineio::Bodies(version);
    let handshake = handshake(site, &sid, &["websocket"]);
    bodies.write(duplex_protocol::engineio::Written::Text(&handshake), &mut packets);
    let mut response = text(StatusCode::OK, "");
    *response.body_mut() = packets.into();
    for (name, value) in poll::headers() {
        response.headers_mut().insert(name, value);
    }
    response
}

/// The packet that opens a session.
fn handshake(site: &Site, sid: &Sid, upgrades: &[&str]) -> String {
    let live = site.live();
    let handshake = Handshake {
        sid: &sid.to_string(),
        upgrades,
        ping_interval: live.settings.heartbeat_ms,
        ping_timeout: live.settings.pong_ms,
        max_payload: live.bodies.bytes_max,
    };
    handshake.packet()
}

/// Channels that a request asks for, `?channels=a,b`. The client encodes the comma. Names that cannot be are passed over: there is
/// nobody yet who could be told.
fn channels(request: &Request<Incoming>) -> Vec<ChannelName> {
    let list = query::value(request.uri().query(), "channels").unwrap_or_default();
    list.split(',').filter_map(|name| ChannelName::parse(name).ok()).collect()
}

/// A request of a session that is there, or should be.
async fn of_session(
    site: &Rc<Site>,
    caller: Arc<Caller>,
    request: Request<Incoming>,
    sid: &str,
    transport: Transport,
    is_upgrade: bool,
) -> Reply {
    let refused = |refused: &Refused| {
        Reply::Response(if is_upgrade { refuse_upgrade(refused) } else { refuse(refused) })
    };
    let Some(sid) = Sid::parse(sid) else { return refused(&Refused::UnknownSession) };
    let visit = match *request.method() {
        _ if is_upgrade => Visit::Upgrade,
        Method::GET => Visit::Poll,
        Method::POST => Visit::Post,
        _ => Visit::Other,
    };
    let begun = on_shard(site, sid, move |site| begin(site, sid, transport, visit)).await;
    match (begun, visit) {
        (Err(Unavailable), _) => Reply::Response(later(StatusCode::SERVICE_UNAVAILABLE)),
        (Ok(Begun::Refused(refusal)), _) => refused(&refusal),
        (Ok(Begun::Overlapped), _) => Reply::Response(overlap()),
        (Ok(Begun::Ready(_)), Visit::Upgrade) => websocket::probe(site, caller, &request, sid),
        (Ok(Begun::Ready(bytes_max)), Visit::Post) => {
            Reply::Response(post(site, request, sid, bytes_max).await)
        }
        (Ok(Begun::Ready(_)), Visit::Poll) => poll::answer(site, caller, &request, sid),
        (Ok(Begun::Ready(_)), Visit::Other) => refused(&Refused::BadRequest),
    }
}

/// What a request wants of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Visit {
    Poll,
    Post,
    Upgrade,
    /// A method that has no meaning here.
    Other,
}

/// How a request begins on the shard of its session.
enum Begun {
    /// It may go on; a body may have so many bytes.
    Ready(usize),
    Refused(Refused),
    /// Another of its kind is under way: the session has ended.
    Overlapped,
}

/// A shard has too much to do.
struct Unavailable;

fn begin(site: &Rc<Site>, sid: Sid, transport: Transport, visit: Visit) -> Begun {
    let Some(connection) = site.engines.find(&sid.secret) else {
        return Begun::Refused(Refused::UnknownSession);
    };
    if visit != Visit::Upgrade && (transport == Transport::WebSocket || !connection.is_polled()) {
        return Begun::Refused(Refused::BadRequest);
    }
    // To a session that is closed, only what still waits is given.
    if connection.is_leaving() && matches!(visit, Visit::Post | Visit::Upgrade) {
        return Begun::Refused(Refused::UnknownSession);
    }
    if visit == Visit::Post && connection.begin_post().is_err() {
        return Begun::Overlapped;
    }
    Begun::Ready(connection.body_bytes_max())
}

async fn on_shard<T: Send + 'static>(
    site: &Rc<Site>,
    sid: Sid,
    act: impl FnOnce(&Rc<Site>) -> T + Send + 'static,
) -> Result<T, Unavailable> {
    if site.is_place_of(sid.shard) {
        return Ok(act(site));
    }
    site.ask(sid.shard, act).ok_or(Unavailable)?.await.map_err(|_| Unavailable)
}

/// Packets of a client whose session waits for them.
async fn post(site: &Rc<Site>, request: Request<Incoming>, sid: Sid, bytes_max: usize) -> Response<Body> {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    let is_binary =
        content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/octet-stream"));
    let timeout = site.live().bodies.timeout;
    let body = read_body(request.into_body(), bytes_max, timeout).await;
    let (posted, response) = match body {
        Ok(body) => (Posted::Body { body, is_binary }, None),
        Err(BodyError::TooLong) => {
            let sentence = format!("the body is longer than {bytes_max} bytes\n");
            (Posted::Nothing, Some(text(StatusCode::PAYLOAD_TOO_LARGE, sentence)))
        }
        Err(BodyError::TooSlow) => {
            (Posted::Broken, Some(text(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time\n")))
        }
        Err(BodyError::Broken) => (Posted::Broken, Some(refuse(&Refused::BadRequest))),
    };
    let taken = on_shard(site, sid, move |site| match site.engines.find(&sid.secret) {
        Some(connection) => connection.posted(posted),
        None => Err(Refused::UnknownSession),
    });
    match (taken.await, response) {
        (_, Some(response)) => response,
        (Ok(Ok(())), None) => {
            let mut response = content(StatusCode::OK, "text/html", "ok");
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
        (Ok(Err(refused)), None) => refuse(&refused),
        (Err(Unavailable), None) => later(StatusCode::SERVICE_UNAVAILABLE),
    }
}

/// What became of the body of a request that brings packets.
pub(crate) enum Posted {
    Body {
        body: Bytes,
        is_binary: bool,
    },
    /// It was refused unread; the session goes on.
    Nothing,
    /// It broke off: packets are lost, so the session ends.
    Broken,
}
