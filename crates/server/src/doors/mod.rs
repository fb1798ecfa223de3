//! Doors: where a protocol meets a transport, and the paths they stand at.

mod client;
mod errand;
mod echo;
mod engineio;
mod eventsource;
mod native;
mod recovery;
mod session;
mod signalr;
mod socket;
mod socketio;
mod whose;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use duplex_core::{EncodingId, ErrorCode, Health, Identity, Refusal, ShardId, Spent};
use duplex_engine::{Encoding, Ground, Pieces, Shard, unix_ms};
use duplex_protocol::native::Form;
use duplex_transport::Stream;
use duplex_transport::http::{self as transport, Afterwards, Body, Reply, text};
use duplex_transport::{Framing, websocket};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use tokio::sync::mpsc;

use crate::api::{Endpoint, Station};
use crate::authority::Authority;
use crate::carrier::Carrier;
use crate::cluster::{self, Forwarded, Nodes, Onward, Proofs, Talk, Unproven};
use crate::guard::Visitor;
use crate::live::Live;
use crate::places::{AddressPlace, Full, Places, Returning};
use crate::{page, query};
pub(crate) use client::{Caller, Entrance, Seat};
pub(crate) use engineio::Registry as Engines;
pub(crate) use errand::{Errand, run as run_errands};
pub(crate) use recovery::{Away, Recoveries, Whereabouts};
pub(crate) use session::{Registry, SessionToken};
pub(crate) use signalr::{Registry as Hubs, Signer};
pub(crate) use whose::{Passage, find as find_whose};

/// Publications as native frames over WebSocket.
const NATIVE: EncodingId = EncodingId(0);
/// The same, deflated.
const NATIVE_DEFLATED: EncodingId = EncodingId(1);
/// Publications as Server-Sent Events.
const EVENTS: EncodingId = EncodingId(2);
/// Publications as native frames in MessagePack.
const MESSAGE_PACK: EncodingId = EncodingId(3);
/// The same, deflated.
const MESSAGE_PACK_DEFLATED: EncodingId = EncodingId(4);
/// Publications as native frames for sessions that any transport may carry.
const BARE: EncodingId = EncodingId(5);
/// The same in MessagePack.
const BARE_MESSAGE_PACK: EncodingId = EncodingId(6);

/// Publications as invocations of SignalR in JSON, framed for a WebSocket.
const SIGNALR: EncodingId = EncodingId(7);
/// The same in MessagePack.
const SIGNALR_MESSAGE_PACK: EncodingId = EncodingId(8);
/// Publications as invocations of SignalR for connections that any transport may carry.
const SIGNALR_BARE: EncodingId = EncodingId(9);
/// The same in MessagePack.
const SIGNALR_BARE_MESSAGE_PACK: EncodingId = EncodingId(10);
/// Publications as items of SignalR's streams in MessagePack.
const SIGNALR_ITEMS: EncodingId = EncodingId(11);
/// Publications as Socket.IO events, in several shapes from here on.
const SOCKET_IO: u8 = 12;

/// What [`EncodingId`]s stand for, in order.
pub(crate) fn encodings() -> Vec<Encoding> {
    use native::{Bare, Deflated, Plain};
    let joined = |encode, plain| Encoding { encode, plain, pieces: Pieces::Joined };
    let single = |encode, plain| Encoding { encode, plain, pieces: Pieces::Single };
    let mut encodings = vec![
        joined(Box::new(Plain(Form::Json)), NATIVE),
        joined(Box::new(Deflated(Form::Json)), NATIVE),
        joined(Box::new(duplex_protocol::eventsource::Events), EVENTS),
        joined(Box::new(Plain(Form::MessagePack)), MESSAGE_PACK),
        joined(Box::new(Deflated(Form::MessagePack)), MESSAGE_PACK),
        single(Box::new(Bare(Form::Json)), BARE),
        single(Box::new(Bare(Form::MessagePack)), BARE_MESSAGE_PACK),
    ];
    encodings.extend(signalr::encodings());
    encodings.extend(socketio::encodings(SOCKET_IO).map(|(id, events)| joined(events, id)));
    encodings
}

/// What the doors of one shard need.
pub(crate) struct Site {
    pub id: ShardId,
    /// This node and its peers.
    pub nodes: Arc<Nodes>,
    /// How they know each other, if they do.
    pub proofs: Option<Arc<Proofs>>,
    /// The way to them.
    pub onward: Onward,
    pub shard: Rc<Shard>,
    pub ground: Ground,
    pub authority: Arc<Authority>,
    pub places: Arc<Places>,
    pub sockets: Rc<websocket::Shared>,
    pub live: RefCell<Arc<Live>>,
    pub ready: Arc<AtomicBool>,
    pub carrier: Carrier,
    /// What this node does for backends.
    pub station: Station,
    /// How it talks to other nodes.
    pub talk: Arc<Talk>,
    /// Connections this shard has or will have.
    pub taken: Arc<AtomicUsize>,
    /// Sessions here that may change their transport.
    pub sessions: Rc<Registry>,
    /// Engine.IO sessions here that requests may ask for.
    pub engines: Rc<Engines>,
    /// Connections of SignalR here that requests may ask for.
    pub hubs: Rc<Hubs>,
    /// Signs their tokens.
    pub signer: Arc<Signer>,
    /// Clients of Socket.IO here that may come back.
    pub recoveries: Recoveries,
    /// How each shard is asked to do something for a session of its.
    pub errands: Arc<[mpsc::Sender<Errand>]>,
}

impl Site {
    /// What holds now.
    pub fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live.borrow())
    }

    /// The name of a session that is to be here.
    pub fn new_token(&self) -> SessionToken {
        SessionToken::random(self.nodes.own(), self.id)
    }

    /// From now on this holds.
    pub fn go_by(&self, live: Arc<Live>) {
        self.shard.reconfigure(live.settings, Arc::clone(&live.namespaces));
        self.sockets.set(live.sockets);
        self.live.replace(live);
    }
}

/// A client that is let in, as far as numbers go, and who it is, if its request says so.
struct Admission {
    place: Option<AddressPlace>,
    identity: Option<Identity>,
}

/// What a client that is let in is counted as, per address.
#[derive(Clone, Copy)]
enum Counted {
    /// Its connection, which is counted already unless it came through a proxy.
    Connection,
    /// Its session.
    Session,
}

/// Lets a client in, or says why not. A token may stand in the header `Authorization` or, since browsers cannot set headers
/// of WebSockets and EventSources, in the query.
async fn admit<B>(
    site: &Site,
    caller: &Caller,
    request: &Request<B>,
    counted: Counted,
) -> Result<Admission, Response<Body>> {
    let place = find_place(site, caller, request, counted).map_err(later)?;
    let Some(token) = shown_token(request) else { return Ok(Admission { place, identity: None }) };
    let identity = site.ground.backend.connect(Some(&token)).await;
    match identity {
        Ok(identity) => Ok(Admission { place, identity: Some(identity) }),
        Err(refusal) => Err(turned_away(&refusal)),
    }
}

/// The token that a request shows.
fn shown_token<B>(request: &Request<B>) -> Option<String> {
    let bearer = bearer(request.headers()).map(str::to_owned);
    bearer.or_else(|| query::value(request.uri().query(), "token"))
}

/// Whether there is room for a client, whoever it is, and it may come now; if not, what it is answered.
fn find_place<B>(
    site: &Site,
    caller: &Caller,
    request: &Request<B>,
    counted: Counted,
) -> Result<Option<AddressPlace>, StatusCode> {
    let place = take_place(site, caller, request, counted)?;
    let query = request.uri().query();
    let comes_back = request.headers().contains_key("last-event-id") || query::flag(query, "returning");
    let returning = if comes_back { Returning::Yes } else { Returning::No };
    match site.places.admit(returning, unix_ms()) {
        Spent::Within => Ok(place),
        Spent::Over => Err(StatusCode::SERVICE_UNAVAILABLE),
    }
}

/// Whether there is room for a client that may come; if not, what it is answered.
fn take_place<B>(
    site: &Site,
    caller: &Caller,
    request: &Request<B>,
    counted: Counted,
) -> Result<Option<AddressPlace>, StatusCode> {
    let now_ms = unix_ms();
    let place = match (caller.entrance, counted) {
        // A connection of another node counts as nobody's, and who its client is, that node has found out.
        (Entrance::Peers, _) => site.places.take_session(caller.peer, None, now_ms),
        (Entrance::Public, Counted::Connection) => {
            site.places.take_forwarded(caller.peer, forwarded(request.headers()), now_ms)
        }
        (Entrance::Public, Counted::Session) => {
            site.places.take_session(caller.peer, forwarded(request.headers()), now_ms)
        }
    };
    place.map_err(|full| match full {
        Full::Node => StatusCode::SERVICE_UNAVAILABLE,
        Full::Address => StatusCode::TOO_MANY_REQUESTS,
    })
}

/// There is no room now. Those who are told so at once are told different times to come back.
fn later(status: StatusCode) -> Response<Body> {
    let after_s = 1 + unix_ms() % 10;
    let mut response = text(status, format!("no place for another client now; come back in {after_s} s\n"));
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(after_s));
    response
}

/// The client's token is not good.
fn turned_away(refusal: &Refusal) -> Response<Body> {
    let status = match refusal.code {
        ErrorCode::NotAvailable | ErrorCode::Timeout => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::PermissionDenied => StatusCode::FORBIDDEN,
        _ => StatusCode::UNAUTHORIZED,
    };
    let mut response = text(status, format!("{refusal}\n"));
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

pub(crate) fn forwarded(headers: &HeaderMap) -> Option<&str> {
    headers.get("x-forwarded-for")?.to_str().ok()
}

const WHERE: &str = "there is nothing here; try /, /ws, /sse, /session, /signalr, /socket.io/, /engine.io/, /echo, /api/v1/publish, /healthz or /readyz\n";

/// Serves a connection from now on; `early` is what was read of it already.
pub(crate) fn serve(site: &Rc<Site>, stream: Stream, early: Bytes, caller: Arc<Caller>) {
    let site = Rc::clone(site);
    let head_timeout = site.live().head_timeout;
    tokio::task::spawn_local(async move {
        let answer = |request| answer(Rc::clone(&site), Arc::clone(&caller), request);
        transport::serve(stream, early, head_timeout, answer).await;
    });
}

/// Answers on a socket that was taken out of HTTP; another request may come behind.
fn answer_on(
    site: &Rc<Site>,
    stream: Stream,
    (early, caller): (Bytes, Arc<Caller>),
    (response, then): (Vec<u8>, Afterwards),
) {
    let (site, patience) = (Rc::clone(site), site.live().head_timeout);
    tokio::task::spawn_local(async move {
        let written = transport::respond(&stream, &response, patience).await;
        if written.is_ok() && then == Afterwards::KeepAlive {
            serve(&site, stream, early, caller);
        }
    });
}

/// The head of a response that goes on. Proxies must neither keep, nor gather, nor compress what goes through.
fn endless_headers(mut headers: HeaderMap, framing: Framing) -> Vec<u8> {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(framing.content_type()));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store, no-transform"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    transport::Fields::of(&headers).head(StatusCode::OK, None, Afterwards::Close)
}

/// What becomes of a connection after the answer to a request (RFC 9112, 9.3).
pub(crate) fn afterwards<B>(request: &Request<B>) -> Afterwards {
    match request.version() {
        Version::HTTP_11 if !wants_close(request.headers()) => Afterwards::KeepAlive,
        _ => Afterwards::Close,
    }
}

/// RFC 9110, 7.6.1: `Connection` is a list of options, and their case does not matter.
fn wants_close(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|list| list.split(',')).any(|option| option.trim().eq_ignore_ascii_case("close"))
}

/// Answers one request. A connection that becomes a client keeps `caller`.
async fn answer(site: Rc<Site>, caller: Arc<Caller>, request: Request<Incoming>) -> Reply {
    let caller = match caller.entrance {
        Entrance::Public => caller,
        Entrance::Peers => match sent_on(&site, &caller, &request) {
            Ok(caller) => caller,
            Err(unproven) => return Reply::Response(unproven.answer()),
        },
    };
    // RFC 9112, 6.1: with both a length and chunks, a request may be meant to look different to a proxy in front of us.
    // hyper goes by the chunks and hides the length, so nothing behind a chunked request is trusted.
    let chunked = request.headers().contains_key(header::TRANSFER_ENCODING);
    let mut reply = match site.live().guard.admit(request.headers()) {
        Err(stranger) => Reply::Response(text(stranger.status(), format!("{stranger}\n"))),
        Ok(visitor) => answer_visitor(&site, caller, request, visitor).await,
    };
    if (chunked || is_stopping(&site))
        && let Reply::Response(response) = &mut reply
    {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    reply
}

/// Answers a request that is let in; if another node has its session, that node does.
async fn answer_visitor(
    site: &Rc<Site>,
    caller: Arc<Caller>,
    mut request: Request<Incoming>,
    visitor: Visitor,
) -> Reply {
    let welcome = |reply| match visitor {
        Visitor::Own => reply,
        Visitor::Guest(origin) => welcome_guest(reply, origin),
    };
    if let Some(destination) = cluster::destination(site, &caller, &request).await {
        // Boxed, so that other requests have no room for it.
        request = match Box::pin(cluster::send_on(site, &caller, request, destination)).await {
            Forwarded::Theirs(reply) => return reply,
            Forwarded::Ours(reply) => return welcome(reply),
            Forwarded::Nowhere(request) => request,
        };
    }
    welcome(route(site, caller, request).await)
}

/// The client whose request another node has sent on. It is for a session of this node, or for one that is not: it is not sent
/// on again.
fn sent_on(site: &Site, caller: &Caller, request: &Request<Incoming>) -> Result<Arc<Caller>, Unproven> {
    let proofs = site.proofs.as_ref().ok_or(Unproven::Absent)?;
    let peer = proofs.check(request, unix_ms())?;
    if find_whose(site, request).is_none() {
        return Err(Unproven::Misdirected);
    }
    Ok(Arc::new(Caller { peer, entrance: Entrance::Peers, seat: Arc::clone(&caller.seat) }))
}

async fn route(site: &Rc<Site>, caller: Arc<Caller>, request: Request<Incoming>) -> Reply {
    let path = request.uri().path();
    if let Some(place) = signalr::find(&site.live().hubs, path) {
        return signalr::answer(site, caller, request, place).await;
    }
    let behind = path.strip_prefix("/session").map(str::to_owned);
    if let Some(rest) = behind.filter(|rest| rest.is_empty() || rest.starts_with('/')) {
        return session::answer(site, caller, request, &rest).await;
    }
    if let Some(upper) = engine_io(path) {
        // The official server answers whatever begins so, but for the client it serves there.
        return match path.ends_with(".js") || path.ends_with(".map") {
            true => Reply::Response(socketio::no_bundle()),
            false => engineio::answer(site, caller, request, upper).await,
        };
    }
    if let Some(endpoint) = Endpoint::at(path) {
        return Reply::Response(match *request.method() {
            Method::POST => endpoint.answer(site, &caller, request).await,
            Method::OPTIONS => preflight("POST"),
            _ => not_allowed("POST"),
        });
    }
    let read = matches!(*request.method(), Method::GET | Method::HEAD);
    Reply::Response(match path {
        "/ws" => return native::open(site, caller, &request).await,
        "/echo" => return echo::open(site, caller, &request).await,
        "/sse" if *request.method() == Method::GET => {
            return eventsource::open(site, caller, &request).await;
        }
        "/" if read => page::index(),
        "/duplex.js" if read => page::script(),
        "/duplex.mjs" if read => page::module(),
        "/healthz" if read => match site.carrier.health() {
            Health::Reachable => text(StatusCode::OK, "ok\n"),
            Health::Unreachable => text(StatusCode::OK, "degraded: the broker cannot be reached\n"),
        },
        "/readyz" if read => readiness(site),
        "/" | "/duplex.js" | "/duplex.mjs" | "/sse" | "/healthz" | "/readyz" => not_allowed("GET"),
        _ => text(StatusCode::NOT_FOUND, WHERE),
    })
}

/// Whether clients should go elsewhere with their next request.
pub(crate) fn is_stopping(site: &Site) -> bool {
    !site.ready.load(Relaxed)
}

/// Whether clients should be sent here.
fn readiness(site: &Site) -> Response<Body> {
    let why_not = match (is_stopping(site), site.carrier.health()) {
        (false, Health::Reachable) if site.nodes.is_introduced() => {
            return text(StatusCode::OK, "ready\n");
        }
        (false, Health::Reachable) => "not ready: the other nodes do not know of this one yet\n",
        (false, Health::Unreachable) => "not ready: the broker cannot be reached\n",
        (true, _) => "not ready: the server is shutting down\n",
    };
    text(StatusCode::SERVICE_UNAVAILABLE, why_not)
}

/// What is spoken over Engine.IO at a path.
fn engine_io(path: &str) -> Option<engineio::Upper> {
    let is_at =
        |base: &str| path.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if is_at("/socket.io") {
        return Some(engineio::Upper::SocketIo);
    }
    is_at("/engine.io").then_some(engineio::Upper::Echo)
}

fn not_allowed(allowed: &'static str) -> Response<Body> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, format!("use {allowed} here\n"));
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

/// Tells a browser that pages may send requests with JSON here. Which pages, `welcome_guest` adds.
fn preflight(methods: &'static str) -> Response<Body> {
    let mut response = text(StatusCode::NO_CONTENT, "");
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("content-type, authorization"),
    );
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}

/// Lets the page at `origin` read the answer, errors too.
fn welcome_guest(mut reply: Reply, origin: HeaderValue) -> Reply {
    let headers = reply.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("retry-after"));
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    reply
}
