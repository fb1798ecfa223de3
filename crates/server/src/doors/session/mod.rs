//! `/session`: the native protocol without a WebSocket, and sessions that go over from one transport to another.
//!
//! A session lives on one shard. Requests come in on any: what they want done there is an [`Errand`].

mod carry;
mod registry;

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use duplex_core::{CloseReason, Frame, NodeId};
use duplex_engine::Opening;
use duplex_protocol::native::{Form, Native};
use duplex_transport::http::{Body, BodyError, Reply, content, read_body, text};
use duplex_transport::movable::{Arrival, Care, CountError, Describe, Kind, MovableLink};
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use serde::Serialize;

pub(super) use carry::by_websocket;
pub(crate) use registry::{Registry, Secret, SessionToken};

use self::carry::Way;
use self::registry::{Found, Guard};
use super::whose::Passage;
use super::{Admission, BARE, BARE_MESSAGE_PACK, Caller, Counted, Site, admit, not_allowed, preflight};
use crate::query;

/// A message of a client, or only its count of frames.
struct Upward {
    number: Option<u64>,
    after: Option<u64>,
    form: Option<Form>,
    body: Bytes,
}

/// Why a message was not taken. The text is the answer's.
#[derive(Debug, thiserror::Error)]
enum NotTaken {
    #[error("there is no such session, or none any more; open another with POST /session")]
    NoSession,
    #[error("message {next} is next, since {received} have arrived; send the missing ones first", next = received + 1)]
    Early { received: u64 },
    #[error("after: only {sent} frames were sent")]
    Ahead { sent: u64 },
    #[error("the session is in another form: begin it with the Content-Type you want to go on with")]
    OtherForm,
    #[error("send application/json or application/vnd.msgpack")]
    UnknownType,
    #[error("{name}: {error}")]
    NotANumber { name: &'static str, error: query::NumberError },
    #[error("the body is longer than {bytes_max} bytes")]
    TooLong { bytes_max: usize },
    #[error("the body did not arrive in time")]
    TooSlow,
    #[error("the body is malformed")]
    Broken,
    #[error("until the client is connected a message may have {bytes_max} bytes")]
    LongStranger { bytes_max: usize },
    #[error("the body is not UTF-8; send JSON, or begin the session with MessagePack")]
    NotText,
    #[error("the server is busy; try again")]
    Busy,
}

impl NotTaken {
    fn status(&self) -> StatusCode {
        match self {
            Self::NoSession => StatusCode::NOT_FOUND,
            Self::Early { .. } => StatusCode::CONFLICT,
            Self::Ahead { .. } | Self::NotText | Self::NotANumber { .. } | Self::Broken => {
                StatusCode::BAD_REQUEST
            }
            Self::OtherForm | Self::UnknownType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::LongStranger { .. } | Self::TooLong { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// What a path behind `/session` names.
enum Target {
    Sessions,
    Session(SessionToken),
    End(SessionToken),
    Way(SessionToken, Way),
}

impl Target {
    /// Reads what comes behind `/session`.
    fn parse(rest: &str) -> Option<Self> {
        if rest.is_empty() {
            return Some(Self::Sessions);
        }
        let (token, verb) = match rest.strip_prefix('/')?.split_once('/') {
            Some((token, verb)) => (token, Some(verb)),
            None => (rest.strip_prefix('/')?, None),
        };
        let token = SessionToken::parse(token)?;
        Some(match verb {
            None => Self::Session(token),
            Some("end") => Self::End(token),
            Some("sse") => Self::Way(token, Way::Events),
            Some("stream") => Self::Way(token, Way::Stream),
            Some("poll") => Self::Way(token, Way::Poll),
            Some(_) => return None,
        })
    }
}

/// The node of the session that a path names with `rest` behind `/session`, and how a `GET` is answered there.
pub(super) fn whose(rest: &str) -> Option<(NodeId, Passage)> {
    match Target::parse(rest)? {
        Target::Sessions => None,
        Target::Session(token) | Target::End(token) => Some((token.node, Passage::Plain)),
        Target::Way(token, Way::Poll) => Some((token.node, Passage::Poll)),
        Target::Way(token, Way::Events | Way::Stream) => Some((token.node, Passage::Endless)),
    }
}

/// Answers a request whose path goes on with `rest` behind `/session`.
pub(super) async fn answer(
    site: &Rc<Site>,
    caller: Arc<Caller>,
    request: Request<Incoming>,
    rest: &str,
) -> Reply {
    let Some(target) = Target::parse(rest) else { return Reply::Response(refuse(&NotTaken::NoSession)) };
    let method = request.method().clone();
    Reply::Response(match (method, target) {
        (Method::OPTIONS, _) => preflight("GET, POST, DELETE"),
        (Method::POST, Target::Sessions) => open(site, &caller, request).await,
        (Method::POST, Target::Session(token)) => take(site, token, request).await,
        (Method::DELETE, Target::Session(token)) | (Method::POST, Target::End(token)) => {
            ended(site, token).await
        }
        (Method::GET, Target::Way(token, way)) => {
            return carry::by_response(site, caller, &request, token, way);
        }
        (_, Target::Sessions | Target::End(_)) => not_allowed("POST"),
        (_, Target::Session(_)) => not_allowed("POST, DELETE"),
        (_, Target::Way(..)) => not_allowed("GET"),
    })
}

fn refuse(refusal: &NotTaken) -> Response<Body> {
    text(refusal.status(), format!("{refusal}\n"))
}

/// The form that a body's content type names; `None` if it names none in particular. JSON may come as text, which pages of
/// other origins may send without asking first, and as what curl says.
fn form(headers: &HeaderMap) -> Result<Option<Form>, NotTaken> {
    let Some(content_type) = headers.get(header::CONTENT_TYPE) else { return Ok(None) };
    let content_type = content_type.to_str().unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match &*essence {
        "application/vnd.msgpack" | "application/msgpack" | "application/x-msgpack" => {
            Ok(Some(Form::MessagePack))
        }
        "application/json" => Ok(Some(Form::Json)),
        "text/plain" | "application/x-www-form-urlencoded" => Ok(None),
        _ => Err(NotTaken::UnknownType),
    }
}

async fn body(site: &Site, request: Request<Incoming>, bytes_max: usize) -> Result<Bytes, NotTaken> {
    let timeout = site.live().bodies.timeout;
    read_body(request.into_body(), bytes_max, timeout).await.map_err(|error| match error {
        BodyError::TooLong => NotTaken::TooLong { bytes_max },
        BodyError::TooSlow => NotTaken::TooSlow,
        BodyError::Broken => NotTaken::Broken,
    })
}

/// `POST /session`.
async fn open(site: &Rc<Site>, caller: &Caller, request: Request<Incoming>) -> Response<Body> {
    let opened = async {
        let channels = query::channels(request.uri().query())
            .map_err(|error| text(StatusCode::BAD_REQUEST, format!("channels: {error}\n")))?;
        let form = form(request.headers()).map_err(|error| refuse(&error))?.unwrap_or(Form::Json);
        let admission = admit(site, caller, &request, Counted::Session).await?;
        let bytes_max = site.live().sockets.first_message_bytes;
        let first = body(site, request, bytes_max).await.map_err(|error| refuse(&error))?;
        let welcome = Arc::clone(&site.live().welcome);
        let protocol = match channels {
            None => Native::new(welcome, form),
            Some(channels) => Native::subscribed(welcome, form, channels),
        };
        let begun = begin(site, admission, form, protocol.movable(), first);
        begun.map(|token| (token, form)).map_err(|error| refuse(&error))
    };
    match opened.await {
        Ok((token, form)) => welcome(site, token, form),
        Err(response) => response,
    }
}

/// Begins a session with its first message, if there is one.
fn begin(
    site: &Rc<Site>,
    admission: Admission,
    form: Form,
    protocol: Native,
    first: Bytes,
) -> Result<SessionToken, NotTaken> {
    let live = site.live();
    let (describe, encoding): (Describe, _) = match form {
        Form::Json => (|_| (Kind::Text, Care::Kept), BARE),
        Form::MessagePack => (|_| (Kind::Binary, Care::Kept), BARE_MESSAGE_PACK),
    };
    if form == Form::Json && std::str::from_utf8(&first).is_err() {
        return Err(NotTaken::NotText);
    }
    let token = site.new_token();
    let Admission { place, identity } = admission;
    let guard = Guard { registry: Rc::clone(&site.sessions), secret: token.secret, _place: place };
    let link = MovableLink::new(describe, live.retained_bytes, Box::new(guard));
    let opening = Opening {
        link: link.clone(),
        protocol: Box::new(protocol),
        encoding,
        identity,
        client: None,
        trail: None,
    };
    let key = site.shard.open(opening);
    let session = Found { link, key, form };
    site.sessions.add(token.secret, &session);
    // Nothing carries it yet, which is learnt by writing: its first message need not be answered.
    site.shard.writable(key);
    if !first.is_empty() {
        session.link.arrive(None);
        receive(site, &session, &first)?;
    }
    Ok(token)
}

fn welcome(site: &Site, token: SessionToken, form: Form) -> Response<Body> {
    #[derive(Serialize)]
    struct Opened {
        session: String,
        linger_ms: u32,
        retained_bytes_max: usize,
    }
    let live = site.live();
    let (linger_ms, retained_bytes_max) = (live.settings.linger_ms, live.retained_bytes);
    let opened = Opened { session: token.to_string(), linger_ms, retained_bytes_max };
    let json = serde_json::to_vec(&opened).expect("strings and numbers always serialize");
    let content_type = match form {
        Form::Json => "application/json",
        Form::MessagePack => "application/vnd.msgpack",
    };
    let mut response = content(StatusCode::OK, content_type, form.write(json));
    response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}

/// `POST /session/S`.
async fn take(site: &Rc<Site>, token: SessionToken, request: Request<Incoming>) -> Response<Body> {
    let taken = async {
        let query = request.uri().query();
        let number = |name| query::number(query, name).map_err(|error| NotTaken::NotANumber { name, error });
        let (number, after) = (number("n")?, number("after")?);
        let form = form(request.headers())?;
        let body = body(site, request, site.live().bodies.bytes_max).await?;
        let upward = Upward { number, after, form, body };
        if site.is_place_of(token.shard) {
            return take_here(site, &token.secret, upward);
        }
        done_there(site, token, |site, secret| take_here(site, secret, upward)).await
    };
    done(taken.await)
}

/// The answer to a request that had something done.
fn done(done: Result<(), NotTaken>) -> Response<Body> {
    match done {
        Ok(()) => text(StatusCode::NO_CONTENT, ""),
        Err(refusal) => refuse(&refusal),
    }
}

fn take_here(site: &Rc<Site>, secret: &Secret, upward: Upward) -> Result<(), NotTaken> {
    let session = site.sessions.find(secret).filter(|found| site.shard.is_live(found.key));
    let session = session.ok_or(NotTaken::NoSession)?;
    let Upward { number, after, form, body } = upward;
    if form.is_some_and(|form| form != session.form) {
        return Err(NotTaken::OtherForm);
    }
    if let Some(after) = after {
        session.link.acknowledge(after).map_err(|error| match error {
            CountError::Ahead { sent } => NotTaken::Ahead { sent },
            CountError::Lost => NotTaken::NoSession,
        })?;
        site.shard.writable(session.key);
    }
    if body.is_empty() {
        return Ok(());
    }
    let bytes_max = site.live().sockets.first_message_bytes;
    if body.len() > bytes_max && !session.link.is_admitted() {
        return Err(NotTaken::LongStranger { bytes_max });
    }
    if session.form == Form::Json && std::str::from_utf8(&body).is_err() {
        return Err(NotTaken::NotText);
    }
    match session.link.arrive(number) {
        Arrival::Next => receive(site, &session, &body),
        Arrival::Again => Ok(()),
        Arrival::Early { received } => Err(NotTaken::Early { received }),
    }
}

fn receive(site: &Rc<Site>, session: &Found, body: &[u8]) -> Result<(), NotTaken> {
    let frame = match session.form {
        Form::Json => Frame::Text(std::str::from_utf8(body).map_err(|_| NotTaken::NotText)?),
        Form::MessagePack => Frame::Binary(body),
    };
    site.shard.receive(session.key, frame);
    Ok(())
}

/// `DELETE /session/S`.
async fn ended(site: &Rc<Site>, token: SessionToken) -> Response<Body> {
    if site.is_place_of(token.shard) {
        return done(end_here(site, &token.secret));
    }
    done(done_there(site, token, end_here).await)
}

fn end_here(site: &Rc<Site>, secret: &Secret) -> Result<(), NotTaken> {
    let session = site.sessions.find(secret).ok_or(NotTaken::NoSession)?;
    site.shard.close(session.key, &CloseReason::GOING_AWAY, "");
    if !session.link.is_carried() {
        site.shard.left(session.key);
    }
    Ok(())
}

/// Has something done on the shard of a session, and waits for what becomes of it.
async fn done_there(
    site: &Site,
    token: SessionToken,
    act: impl FnOnce(&Rc<Site>, &Secret) -> Result<(), NotTaken> + Send + 'static,
) -> Result<(), NotTaken> {
    let answer = site.ask(token.shard, move |site| act(site, &token.secret));
    answer.ok_or(NotTaken::Busy)?.await.unwrap_or(Err(NotTaken::Busy))
}
