//! Hubs of SignalR: negotiation, and connections over WebSocket, Server-Sent Events and long polling.
//!
//! A connection lives on the shard that its token names. Requests for it come in on any.

mod carry;
mod handlers;
mod registry;
mod token;

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use duplex_core::{
    Able, ChannelName, ClientId, Encode, EncodingId, ErrorCode, Identity, PresenceChange, Publication,
    Refusal,
};
use duplex_engine::{Encoding, Pieces, unix_ms};
use duplex_protocol::native::{self, Form};
use duplex_protocol::signalr::{self, Encodings, Format, Introduction, Transport};
use duplex_transport::http::{Body, BodyError, Reply, content, read_body, text};
use duplex_websocket::{Kind, encode};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::{Body as _, Incoming};
use serde::Serialize;

pub(crate) use registry::Registry;
pub(crate) use token::Signer;
pub(super) use token::whose;

use self::carry::{Begin, Origin};
use self::handlers::Posted;
use self::registry::{Claim, Found, Owner, Polls, TokenDigest};
use self::token::{ConnectionToken, UserMark, token_of_ours};
use super::{
    BARE, Caller, Counted, SIGNALR, SIGNALR_BARE, SIGNALR_BARE_MESSAGE_PACK, SIGNALR_ITEMS,
    SIGNALR_MESSAGE_PACK, Site, bearer, find_place, later, not_allowed, preflight, take_place,
};
use crate::hubs::Hub;
use crate::query;

/// Whether a client wants to come back to its connection when its WebSocket breaks off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resume {
    Yes,
    No,
}

/// How publications are written for clients, framed for a WebSocket or for whatever carries them.
pub(super) fn encodings() -> [Encoding; 5] {
    let framed = |format, plain| Encoding { encode: Box::new(Framed(format)), plain, pieces: Pieces::Joined };
    let bare = |format, plain| Encoding { encode: Box::new(Bare(format)), plain, pieces: Pieces::Single };
    [
        framed(Format::Json, SIGNALR),
        framed(Format::MessagePack, SIGNALR_MESSAGE_PACK),
        bare(Format::Json, SIGNALR_BARE),
        bare(Format::MessagePack, SIGNALR_BARE_MESSAGE_PACK),
        Encoding { encode: Box::new(Items), plain: SIGNALR_ITEMS, pieces: Pieces::Single },
    ]
}

fn items(format: Format) -> EncodingId {
    match format {
        Format::Json => BARE,
        Format::MessagePack => SIGNALR_ITEMS,
    }
}

/// For a client whose link is its WebSocket.
fn framed(format: Format) -> Encodings {
    let events = match format {
        Format::Json => SIGNALR,
        Format::MessagePack => SIGNALR_MESSAGE_PACK,
    };
    Encodings { events, items: items(format) }
}

/// For a client whose link frames each message by itself.
fn bare(format: Format) -> Encodings {
    let events = match format {
        Format::Json => SIGNALR_BARE,
        Format::MessagePack => SIGNALR_BARE_MESSAGE_PACK,
    };
    Encodings { events, items: items(format) }
}

struct Framed(Format);

struct Bare(Format);

/// Frames of the native protocol in MessagePack, with binary data.
struct Items;

impl Encode for Items {
    fn publication(&self, publication: &Publication) -> Bytes {
        signalr::item_value(publication).into()
    }

    fn presence(&self, change: &PresenceChange) -> Bytes {
        native::presence(change, Form::MessagePack).into()
    }
}

impl Framed {
    fn frame(&self, message: &[u8]) -> Bytes {
        let kind = match self.0 {
            Format::Json => Kind::Text,
            Format::MessagePack => Kind::Binary,
        };
        encode::message(kind, message)
    }
}

impl Encode for Framed {
    fn publication(&self, publication: &Publication) -> Bytes {
        self.frame(&signalr::publication(publication, self.0))
    }

    fn presence(&self, change: &PresenceChange) -> Bytes {
        self.frame(&signalr::presence(change, self.0))
    }
}

impl Encode for Bare {
    fn publication(&self, publication: &Publication) -> Bytes {
        signalr::publication(publication, self.0).into()
    }

    fn presence(&self, change: &PresenceChange) -> Bytes {
        signalr::presence(change, self.0).into()
    }
}

/// What a path is in one of the hubs.
pub(super) enum Place {
    Negotiation(Hub),
    Hub(Hub),
}

/// Which hub is at a path, and what of it.
pub(super) fn find(hubs: &[Hub], path: &str) -> Option<Place> {
    let negotiated = path.strip_suffix("/negotiate");
    hubs.iter().find_map(|hub| match &*hub.path {
        known if known == path => Some(Place::Hub(hub.clone())),
        known if Some(known) == negotiated => Some(Place::Negotiation(hub.clone())),
        _ => None,
    })
}

/// The client's token is not good. Clients put the sentence into one of theirs.
fn turned_away(refusal: &Refusal) -> Response<Body> {
    let mut response = super::turned_away(refusal);
    *response.body_mut() = refusal.to_string().into();
    response
}

/// Tells a browser what pages may send here: what the client sends by itself, too.
fn invitation() -> Response<Body> {
    let mut response = preflight("GET, POST, DELETE");
    let allowed = "content-type, authorization, x-requested-with, x-signalr-user-agent";
    let allowed = HeaderValue::from_static(allowed);
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    response
}

/// Answers a request to a hub. Pages send credentials along, which browsers want to be allowed.
pub(super) async fn answer(
    site: &Rc<Site>,
    caller: Arc<Caller>,
    request: Request<Incoming>,
    place: Place,
) -> Reply {
    let mut reply = match (place, request.method()) {
        (_, &Method::OPTIONS) => Reply::Response(invitation()),
        (Place::Negotiation(hub), &Method::POST) => {
            Reply::Response(negotiate(site, &caller, &request, &hub).await)
        }
        (Place::Negotiation(_), _) => Reply::Response(not_allowed("POST")),
        (Place::Hub(hub), _) => of_hub(site, caller, request, &hub).await.unwrap_or_else(Reply::Response),
    };
    let allowed = HeaderValue::from_static("true");
    reply.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, allowed);
    reply
}

/// The token that says whose client it is. It stands in the query only where a browser cannot set headers.
fn shown_token<B>(request: &Request<B>) -> Option<String> {
    let bearer = bearer(request.headers()).map(str::to_owned);
    let in_query = || query::any_case(request.uri().query(), "access_token");
    bearer.or_else(|| if *request.method() == Method::GET { in_query() } else { None })
}

fn refuse(status: StatusCode, sentence: &'static str) -> Response<Body> {
    text(status, sentence)
}

fn unknown() -> Response<Body> {
    refuse(StatusCode::NOT_FOUND, "No Connection with that ID")
}

/// Tells a client how it may connect, and by which name.
async fn negotiate(site: &Site, caller: &Caller, request: &Request<Incoming>, hub: &Hub) -> Response<Body> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Negotiated {
        negotiate_version: u8,
        connection_id: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        connection_token: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        use_stateful_reconnect: Option<bool>,
        available_transports: [Available; 3],
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Available {
        transport: &'static str,
        transfer_formats: &'static [&'static str],
    }
    // It is counted, but has no place until it connects.
    if let Err(status) = find_place(site, caller, request, Counted::Session) {
        return later(status);
    }
    let identity = match identify(site, shown_token(request).as_deref()).await {
        Ok(identity) => identity,
        Err(refusal) => return turned_away(&refusal),
    };
    let query = request.uri().query();
    let version = query::any_case(query, "negotiateVersion");
    let version = match version.as_deref().map(str::parse::<i64>) {
        None | Some(Ok(0)) => 0,
        Some(Ok(1..)) => 1,
        Some(Ok(_) | Err(_)) => {
            let error = r#"{"error":"negotiateVersion must be 0 or more; this server speaks 0 and 1"}"#;
            return json(error.into());
        }
    };
    let wants_to_resume = query::any_case(query, "useStatefulReconnect");
    let resume = match wants_to_resume.as_deref().map(str::to_ascii_lowercase).as_deref() {
        Some("true") => Resume::Yes,
        _ => Resume::No,
    };
    let token = ConnectionToken {
        node: site.nodes.own(),
        shard: site.id,
        client: new_client(),
        issued_ms: unix_ms(),
        resume,
        answers: answers(request),
        user: UserMark::of(identity.user.as_ref()),
    };
    let signed = token.sign(&site.signer, &hub.path).to_string();
    let (connection_id, connection_token) = match version {
        0 => (signed, None),
        _ => (token.client.to_string(), Some(signed)),
    };
    let both: &[&str] = &["Text", "Binary"];
    let available = |transport, transfer_formats| Available { transport, transfer_formats };
    let negotiated = Negotiated {
        negotiate_version: version,
        connection_id,
        connection_token,
        use_stateful_reconnect: (resume == Resume::Yes).then_some(true),
        available_transports: [
            available("WebSockets", both),
            available("ServerSentEvents", &["Text"]),
            available("LongPolling", both),
        ],
    };
    json(serde_json::to_vec(&negotiated).expect("strings and numbers always serialize"))
}

fn json(body: Vec<u8>) -> Response<Body> {
    let mut response = content(StatusCode::OK, "application/json", body);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn new_client() -> ClientId {
    let mut random = [0; 16];
    getrandom::fill(&mut random).expect("the operating system gives random bytes");
    ClientId::from_random(random)
}

async fn identify(site: &Site, token: Option<&str>) -> Result<Identity, Refusal> {
    site.ground.backend.connect(token).await
}

/// Whether a client can be asked for something, by the version it names. Those before 7 end their connection when they are.
fn answers<B>(request: &Request<B>) -> Able {
    let headers = request.headers();
    let agent = headers.get("x-signalr-user-agent").or_else(|| headers.get(header::USER_AGENT));
    let version = agent.and_then(|agent| agent.to_str().ok()?.strip_prefix("Microsoft SignalR/"));
    let major = version.and_then(|version| version.split('.').next()?.parse::<u32>().ok());
    if major.is_some_and(|major| major < 7) { Able::No } else { Able::Yes }
}

/// What a request wants of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Visit {
    Upgrade,
    Events,
    Poll,
    Post,
    Delete,
}

impl Visit {
    fn of(request: &Request<Incoming>) -> Option<Self> {
        let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
        match *request.method() {
            Method::GET if request.headers().contains_key(header::UPGRADE) => Some(Self::Upgrade),
            Method::GET if accept.is_some_and(|accept| accept.contains("text/event-stream")) => {
                Some(Self::Events)
            }
            Method::GET => Some(Self::Poll),
            Method::POST => Some(Self::Post),
            Method::DELETE => Some(Self::Delete),
            _ => None,
        }
    }
}

/// A connection as another shard tells of it.
struct View {
    transport: Transport,
    resume: Resume,
    polls: Polls,
    owner: Owner,
    body_bytes_max: usize,
}

enum Sight {
    Nothing,
    Room,
    Connection(View),
}

/// A request for a connection, or for a new one.
async fn of_hub(
    site: &Rc<Site>,
    caller: Arc<Caller>,
    request: Request<Incoming>,
    hub: &Hub,
) -> Result<Reply, Response<Body>> {
    let visit = Visit::of(&request).ok_or_else(|| not_allowed("GET, POST, DELETE"))?;
    if visit != Visit::Post && !request.body().is_end_stream() {
        return Err(refuse(StatusCode::BAD_REQUEST, "only a POST request has a body here\n"));
    }
    let shown = shown_token(&request);
    let token = match query::any_case(request.uri().query(), "id") {
        Some(id) => Some(token_of_ours(site, &id, hub).ok_or_else(unknown)?),
        None if visit == Visit::Upgrade => None,
        None => return Err(refuse(StatusCode::BAD_REQUEST, "Connection ID required")),
    };
    let sight = match token {
        None => Sight::Room,
        Some(token) => on_shard(site, token, look).await?,
    };
    match (sight, token) {
        (Sight::Room, token) => {
            let identity = identify(site, shown.as_deref()).await.map_err(|refusal| turned_away(&refusal))?;
            if token.is_some_and(|token| token.user != UserMark::of(identity.user.as_ref())) {
                return Err(not_theirs());
            }
            let owner = Owner { token: shown.as_deref().map(TokenDigest::of), user: identity.user.clone() };
            let origin = Origin { hub: hub.clone(), identity, owner, token };
            of_nothing_yet(site, caller, request, visit, origin).await
        }
        (Sight::Connection(view), Some(token)) => {
            check_owner(site, &view.owner, shown.as_deref()).await?;
            of_connection(site, caller, request, visit, (token, &view)).await
        }
        (Sight::Nothing | Sight::Connection(_), _) => Err(unknown()),
    }
}

/// A request by which a connection begins.
async fn of_nothing_yet(
    site: &Rc<Site>,
    caller: Arc<Caller>,
    request: Request<Incoming>,
    visit: Visit,
    origin: Origin,
) -> Result<Reply, Response<Body>> {
    let token = origin.token;
    match (begin(site, caller, &request, visit, origin).await?, token) {
        (Begun::Answered(reply), _) => Ok(reply),
        (Begun::Open, Some(token)) if visit == Visit::Post => {
            let bytes_max = site.live().sockets.first_message_bytes;
            post(site, request, token, bytes_max).await.map(Reply::Response)
        }
        (Begun::Open, Some(token)) => first_poll(site, token).await,
        (Begun::Open, None) => Err(unknown()),
    }
}

/// A request for a connection that is there.
async fn of_connection(
    site: &Rc<Site>,
    caller: Arc<Caller>,
    request: Request<Incoming>,
    visit: Visit,
    (token, view): (ConnectionToken, &View),
) -> Result<Reply, Response<Body>> {
    match (visit, view.transport) {
        (Visit::Upgrade, Transport::WebSocket) if view.resume == Resume::Yes => {
            match on_shard(site, token, carry::may_resume).await? {
                true => Ok(carry::resume(site, caller, &request, token)),
                false => Err(unknown()),
            }
        }
        (Visit::Upgrade, Transport::WebSocket) | (Visit::Events, Transport::Events) => Err(refuse(
            StatusCode::CONFLICT,
            "the connection has this transport already; negotiate another\n",
        )),
        (Visit::Poll, Transport::Polls) if view.polls == Polls::NotYet => first_poll(site, token).await,
        (Visit::Poll, Transport::Polls) => Ok(carry::poll(site, caller, &request, token)),
        (Visit::Upgrade | Visit::Events | Visit::Poll, _) => {
            Err(refuse(StatusCode::BAD_REQUEST, "Cannot change transports mid-connection"))
        }
        (Visit::Post, Transport::WebSocket) => Err(refuse(
            StatusCode::METHOD_NOT_ALLOWED,
            "POST requests are not allowed for WebSocket connections.",
        )),
        (Visit::Post, Transport::Events | Transport::Polls) => {
            post(site, request, token, view.body_bytes_max).await.map(Reply::Response)
        }
        (Visit::Delete, Transport::Polls) => {
            on_shard(site, token, handlers::end).await?;
            Ok(Reply::Response(text(StatusCode::ACCEPTED, "")))
        }
        (Visit::Delete, _) => Err(not_by_delete()),
    }
}

fn not_by_delete() -> Response<Body> {
    refuse(StatusCode::BAD_REQUEST, "Cannot terminate this connection using the DELETE endpoint.")
}

async fn begin(
    site: &Rc<Site>,
    caller: Arc<Caller>,
    request: &Request<Incoming>,
    visit: Visit,
    origin: Origin,
) -> Result<Begun, Response<Body>> {
    let channels = query::channels_encoded(request.uri().query())
        .map_err(|error| text(StatusCode::BAD_REQUEST, format!("channels: {error}\n")))?;
    let within = |channel: &ChannelName| origin.hub.channel(channel);
    let channels = channels.iter().map(within).collect::<Result<_, _>>();
    let channels =
        channels.map_err(|error| text(StatusCode::BAD_REQUEST, format!("channels: a name {error}\n")))?;
    let (transport, counted) = match visit {
        Visit::Upgrade => (Transport::WebSocket, Counted::Connection),
        Visit::Events => (Transport::Events, Counted::Connection),
        Visit::Poll | Visit::Post => (Transport::Polls, Counted::Session),
        Visit::Delete => return Err(not_by_delete()),
    };
    // Whoever has negotiated was let in then.
    let place = match origin.token {
        Some(_) => take_place(site, &caller, request, counted),
        None => find_place(site, &caller, request, counted),
    };
    let place = place.map_err(later)?;
    if let Some(token) = origin.token
        && on_shard(site, token, |site, token| site.hubs.claim(token)).await? == Claim::Late
    {
        return Err(refuse(StatusCode::CONFLICT, "the connection begins with another request\n"));
    }
    let Origin { hub, identity, owner, token } = origin;
    let is_movable =
        transport != Transport::WebSocket || token.is_some_and(|token| token.resume == Resume::Yes);
    let introduction = Introduction {
        namespace: hub.namespace,
        transport,
        channels,
        bytes_max: site.live().bodies.bytes_max,
        answers: token.map_or_else(|| answers(request), |token| token.answers),
        encodings: if is_movable { bare } else { framed },
    };
    let begin = Begin { introduction, identity, owner, token, place };
    Ok(Begun::Answered(match (transport, token) {
        (Transport::Events, _) => carry::by_events(site, caller, begin),
        (Transport::WebSocket, _) | (Transport::Polls, None) => {
            carry::by_websocket(site, caller, request, begin)
        }
        (Transport::Polls, Some(token)) => {
            let opened = on_shard(site, token, move |site, _| handlers::open_polled(site, begin)).await?;
            opened.ok_or_else(unknown)?;
            return Ok(Begun::Open);
        }
    }))
}

/// How a connection begins.
enum Begun {
    /// By this answer.
    Answered(Reply),
    /// It is there, and what carries it asks for it.
    Open,
}

/// The first poll only begins the connection: the client waits for its answer before it says anything.
async fn first_poll(site: &Rc<Site>, token: ConnectionToken) -> Result<Reply, Response<Body>> {
    on_shard(site, token, handlers::begin_polling).await?;
    Ok(Reply::Response(polled(StatusCode::OK)))
}

/// The answer to a poll that brings nothing.
fn polled(status: StatusCode) -> Response<Body> {
    let mut response = content(status, "application/octet-stream", "");
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store"));
    response
}

fn look(site: &Rc<Site>, token: &ConnectionToken) -> Sight {
    match site.hubs.find(token) {
        Found::Nothing => Sight::Nothing,
        Found::Room => Sight::Room,
        // Only who polls has yet to hear that its connection was closed.
        Found::Connection(known) if known.transport != Transport::Polls && !site.shard.is_live(known.key) => {
            Sight::Nothing
        }
        Found::Connection(known) => {
            let live = site.live();
            let is_admitted = known.link().is_none_or(|link| link.is_admitted());
            let bytes_max = live.bodies.bytes_max;
            Sight::Connection(View {
                transport: known.transport,
                resume: known.resume,
                polls: known.polls.get(),
                owner: known.owner.clone(),
                body_bytes_max: if is_admitted {
                    bytes_max
                } else {
                    live.sockets.first_message_bytes.min(bytes_max)
                },
            })
        }
    }
}

/// Whether a request may come from whom the connection belongs to. A newer token of the same user is as good.
async fn check_owner(site: &Site, owner: &Owner, shown: Option<&str>) -> Result<(), Response<Body>> {
    let Some(first) = owner.token else { return Ok(()) };
    let Some(shown) = shown else {
        let message = "this connection was opened with a token; show it in the header Authorization";
        return Err(turned_away(&Refusal::new(ErrorCode::Unauthorized, message)));
    };
    if TokenDigest::of(shown) == first {
        return Ok(());
    }
    let identity = identify(site, Some(shown)).await.map_err(|refusal| turned_away(&refusal))?;
    if identity.user == owner.user {
        return Ok(());
    }
    Err(not_theirs())
}

fn not_theirs() -> Response<Body> {
    let message = "this connection belongs to another user; negotiate one of your own";
    turned_away(&Refusal::new(ErrorCode::PermissionDenied, message))
}

/// Has something done on the shard of a connection.
async fn on_shard<T: Send + 'static>(
    site: &Rc<Site>,
    token: ConnectionToken,
    act: impl FnOnce(&Rc<Site>, &ConnectionToken) -> T + Send + 'static,
) -> Result<T, Response<Body>> {
    if site.is_place_of(token.shard) {
        return Ok(act(site, &token));
    }
    let busy = || later(StatusCode::SERVICE_UNAVAILABLE);
    let answer = site.ask(token.shard, move |site| act(site, &token)).ok_or_else(busy)?;
    answer.await.map_err(|_| busy())
}

/// Messages of a client in the body of a request.
async fn post(
    site: &Rc<Site>,
    request: Request<Incoming>,
    token: ConnectionToken,
    bytes_max: usize,
) -> Result<Response<Body>, Response<Body>> {
    let timeout = site.live().bodies.timeout;
    let body = read_body(request.into_body(), bytes_max, timeout).await.map_err(|error| match error {
        BodyError::TooLong => {
            text(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is longer than {bytes_max} bytes\n"))
        }
        BodyError::TooSlow => refuse(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time\n"),
        BodyError::Broken => refuse(StatusCode::BAD_REQUEST, "the body is malformed\n"),
    })?;
    match on_shard(site, token, move |site, token| handlers::posted(site, token, &body)).await? {
        Posted::Taken => Ok(content(StatusCode::OK, "text/plain", "")),
        Posted::Nowhere => Err(unknown()),
    }
}
