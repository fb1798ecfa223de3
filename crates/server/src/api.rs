//! Where backends come in: `POST /api/v1/…` with JSON, answered with JSON.

mod request;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use duplex_core::{
    BrokerError, ChannelName, CloseReason, Draft, ErrorCode, Extent, NameError, NodeId, Past, Position,
    Refusal, UserId,
};
use duplex_engine::{Node, Whom, code, unix_ms, unrecoverable, within_page};
use duplex_protocol::{
    HistoryRequest, PublicationError, Publish, PublishRequest, attendance, history, present,
};
use duplex_transport::http::{Body, BodyError, content, read_body};
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::authority::Authority;
use crate::cluster::Gathered;
use crate::doors::{Caller, Site};
use crate::places::Places;

/// What a backend can ask for: the last part of the path. See `docs/protocol.md`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Endpoint {
    Publish,
    History,
    Presence,
    PresenceStats,
    Request,
    Revoke,
    Info,
}

/// What a request body may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyLimits {
    pub bytes_max: usize,
    pub timeout: Duration,
}

impl Endpoint {
    /// The endpoint at a path.
    pub fn at(path: &str) -> Option<Self> {
        match path.strip_prefix("/api/v1/")? {
            "publish" => Some(Self::Publish),
            "history" => Some(Self::History),
            "presence" => Some(Self::Presence),
            "presence_stats" => Some(Self::PresenceStats),
            "request" => Some(Self::Request),
            "revoke" => Some(Self::Revoke),
            "info" => Some(Self::Info),
            _ => None,
        }
    }

    /// Its name in the path.
    pub fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::History => "history",
            Self::Presence => "presence",
            Self::PresenceStats => "presence_stats",
            Self::Request => "request",
            Self::Revoke => "revoke",
            Self::Info => "info",
        }
    }

    /// What this node alone answers; only for what is asked of all nodes.
    pub async fn of_this_node(self, station: &Station, body: &[u8]) -> Result<Vec<u8>, Failure> {
        match self {
            Self::Request => Ok(json(&request::ask(station, &parse(body)?).await?)),
            Self::Revoke => revoke(station, parse(body)?).map(|()| b"{}".to_vec()),
            Self::Info => Ok(json(&info(station))),
            Self::Publish | Self::History | Self::Presence | Self::PresenceStats => {
                Err(Failure::bad("one node answers this for all"))
            }
        }
    }

    /// Answers a request.
    pub async fn answer(self, site: &Site, caller: &Caller, request: Request<Incoming>) -> Response<Body> {
        let (status, mut json) = match self.carry_out(site, caller, request).await {
            Ok(json) => (StatusCode::OK, json),
            Err(Failure { status, refusal }) => {
                let error = Problem { code: refusal.code as u16, message: &refusal.message };
                (status, json(&Failed { error }))
            }
        };
        json.push(b'\n');
        let mut response = content(status, "application/json", json);
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }

    async fn carry_out(
        self,
        site: &Site,
        caller: &Caller,
        request: Request<Incoming>,
    ) -> Result<Vec<u8>, Failure> {
        authorize(site, caller, &request)?;
        let BodyLimits { bytes_max, timeout } = site.live().bodies;
        let body = read_body(request.into_body(), bytes_max, timeout).await;
        let body = body.map_err(|error| unreadable(error, bytes_max))?;
        match self {
            Self::Publish => publish(site, parse(&body)?).await,
            Self::History => read_history(site, parse(&body)?).await,
            Self::Presence => {
                let channel = parse::<ChannelRequest>(&body)?.check()?;
                let limit = site.live().settings.members_listed;
                let read = site.ground.presence.present(&channel, limit).await?;
                Ok(present(&channel, &read))
            }
            Self::PresenceStats => {
                let channel = parse::<ChannelRequest>(&body)?.check()?;
                let read = site.ground.presence.present(&channel, 0).await?;
                Ok(attendance(&channel, read.attendance))
            }
            Self::Request => request::ask_all(site, &body).await,
            Self::Revoke => {
                revoke(&site.station, parse(&body)?)?;
                let others = site.talk.gather(self, &body, Duration::ZERO).await;
                Ok(json(&Everywhere::of(site, &others)))
            }
            Self::Info => {
                let others = site.talk.gather(self, b"", Duration::ZERO).await;
                let everywhere = Everywhere::of(site, &others);
                let peers = others.answers.into_iter().map(|(id, answer)| Peer::new(id, answer)).collect();
                Ok(json(&InfoOfAll { info: info(&site.station), everywhere, peers }))
            }
        }
    }
}

/// Whether the request shows a right key. Whoever shows wrong ones must wait.
fn authorize(site: &Site, caller: &Caller, request: &Request<Incoming>) -> Result<(), Failure> {
    let now_ms = unix_ms();
    let headers = request.headers();
    let forwarded = headers.get("x-forwarded-for").and_then(|list| list.to_str().ok());
    let address = site.places.client(caller.peer, forwarded);
    if !site.places.may_try(address, now_ms) {
        let message = "too many wrong keys came from this address; wait a few seconds";
        let refusal = Refusal::new(ErrorCode::TooManyRequests, message);
        return Err(Failure { status: StatusCode::TOO_MANY_REQUESTS, refusal });
    }
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    site.authority.admit_backend(authorization).map_err(|refusal| {
        if authorization.is_some() {
            site.places.failed(address, now_ms);
        }
        Failure { status: StatusCode::UNAUTHORIZED, refusal }
    })
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| Failure::bad(format_args!("not a right request: {error}")))
}

async fn publish(site: &Site, request: PublishRequest<'_>) -> Result<Vec<u8>, Failure> {
    let checked = request.check().map_err(unacceptable)?;
    let Publish { channel, event, payload, tags, key, audience } = checked;
    let name = channel.clone();
    let draft = Draft { channel, event, payload, tags, client: None, time_ms: unix_ms(), key, audience };
    let retention = site.shard.namespaces().admit(&draft).map_err(|refusal| {
        let status = match refusal.code {
            ErrorCode::LimitExceeded => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorCode::UnknownNamespace => StatusCode::NOT_FOUND,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Failure { status, refusal }
    })?;
    let Position { epoch, offset } = site.ground.broker.publish(draft, retention).await?;
    Ok(json(&Published { channel: &name, epoch: epoch.to_string(), offset }))
}

/// What cannot be published, in the words of HTTP.
fn unacceptable(error: PublicationError) -> Failure {
    match error {
        // Right JSON that some subscriber could not parse, and names that some could not bear.
        PublicationError::Data(_)
        | PublicationError::Args(_)
        | PublicationError::Event(NameError::OfSocketIo) => {
            Failure { status: StatusCode::UNPROCESSABLE_ENTITY, refusal: Refusal::bad_request(error) }
        }
        error => Failure::bad(error),
    }
}

async fn read_history(site: &Site, request: HistoryRequest<'_>) -> Result<Vec<u8>, Failure> {
    let (channel, page) = request.check().map_err(Failure::bad)?;
    let read = site.ground.broker.history(&channel, Extent::Page(page)).await?;
    match read.past {
        Past::Kept(publications) => Ok(history(&channel, read.position, &within_page(publications))),
        Past::Lost => Err(Failure { status: StatusCode::CONFLICT, refusal: unrecoverable() }),
    }
}

/// What a node can do for a backend without the others, on any of its threads.
#[derive(Clone)]
pub(crate) struct Station {
    pub node: Arc<Node>,
    pub authority: Arc<Authority>,
    pub places: Arc<Places>,
}

/// On how many nodes something was done, where there are several.
#[derive(Default, Serialize)]
struct Everywhere {
    /// This node.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    /// Those that have done it, this one among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    nodes: Option<usize>,
    /// Those that have not answered in time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    silent: Vec<String>,
}

impl Everywhere {
    fn of(site: &Site, others: &Gathered) -> Self {
        if others.answers.is_empty() && others.silent.is_empty() {
            return Self::default();
        }
        Self {
            node: Some(site.talk.nodes().own().to_string()),
            nodes: Some(others.answers.len() + 1),
            silent: others.silent.iter().map(NodeId::to_string).collect(),
        }
    }
}

/// No token of the user, or not this token, is believed any more; who is connected with one is sent away.
fn revoke(station: &Station, request: RevokeRequest) -> Result<(), Failure> {
    let now_ms = unix_ms();
    let whom = match (request.user, request.token) {
        (Some(user), None) => {
            let user = UserId::parse(&user).map_err(|error| Failure::bad(format_args!("user: {error}")))?;
            station.authority.revoke_user(&user, now_ms).map_err(Failure::full)?;
            Whom::UserUntil(user, now_ms)
        }
        (None, Some(token)) => {
            station.authority.revoke_token(&token, now_ms).map_err(Failure::full)?;
            Whom::Token(token.into())
        }
        _ => return Err(Failure::bad("give either user or token, which is a token's jti")),
    };
    station.node.close(&whom, &CloseReason::REVOKED).map_err(Failure::full)
}

/// How much there is of everything, and how much was refused.
fn info(station: &Station) -> Info {
    let gauges = station.node.gauges();
    let closed = CloseReason::ALL.iter().map(|reason| (reason.code.to_string(), gauges.closed(reason)));
    Info {
        version: env!("CARGO_PKG_VERSION"),
        connections: station.places.connections(),
        sessions: gauges.sessions(),
        subscriptions: gauges.subscriptions(),
        outbox_bytes: gauges.outbox_bytes(),
        thinned_out: gauges.thinned_out(),
        closed: closed.filter(|(_, count)| *count > 0).collect(),
        refused: station.places.refused().counts().into_iter().collect(),
    }
}

#[derive(Serialize)]
struct InfoOfAll {
    #[serde(flatten)]
    info: Info,
    #[serde(flatten)]
    everywhere: Everywhere,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    peers: Vec<Peer>,
}

/// What another node says about itself.
#[derive(Serialize)]
struct Peer {
    node: String,
    info: Box<RawValue>,
}

impl Peer {
    fn new(id: NodeId, info: Box<RawValue>) -> Self {
        Self { node: id.to_string(), info }
    }
}

#[derive(Serialize)]
struct Info {
    version: &'static str,
    connections: usize,
    sessions: usize,
    subscriptions: usize,
    outbox_bytes: usize,
    thinned_out: u64,
    closed: BTreeMap<String, u64>,
    refused: BTreeMap<&'static str, u64>,
}

#[derive(Deserialize)]
struct ChannelRequest {
    channel: String,
}

impl ChannelRequest {
    fn check(self) -> Result<ChannelName, Failure> {
        ChannelName::parse(&self.channel).map_err(|error| Failure::bad(format_args!("channel: {error}")))
    }
}

#[derive(Deserialize)]
struct RevokeRequest {
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    token: Option<String>,
}

/// Why nothing was done.
pub(crate) struct Failure {
    status: StatusCode,
    refusal: Refusal,
}

impl Failure {
    fn bad(message: impl std::fmt::Display) -> Self {
        Self { status: StatusCode::BAD_REQUEST, refusal: Refusal::bad_request(message) }
    }

    fn full(message: impl std::fmt::Display) -> Self {
        let refusal = Refusal::new(ErrorCode::LimitExceeded, message);
        Self { status: StatusCode::SERVICE_UNAVAILABLE, refusal }
    }
}

impl From<BrokerError> for Failure {
    fn from(error: BrokerError) -> Self {
        let status = match error {
            BrokerError::KeyReused => StatusCode::CONFLICT,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self { status, refusal: Refusal::new(code(&error), error) }
    }
}

fn unreadable(error: BodyError, bytes_max: usize) -> Failure {
    match error {
        BodyError::TooLong => {
            let message = format_args!("the body is longer than {bytes_max} bytes");
            let refusal = Refusal::new(ErrorCode::LimitExceeded, message);
            Failure { status: StatusCode::PAYLOAD_TOO_LARGE, refusal }
        }
        BodyError::TooSlow => {
            let refusal = Refusal::bad_request("the body did not arrive in time");
            Failure { status: StatusCode::REQUEST_TIMEOUT, refusal }
        }
        BodyError::Broken => Failure::bad("the body is malformed"),
    }
}

#[derive(Serialize)]
struct Published<'a> {
    channel: &'a str,
    epoch: String,
    offset: u64,
}

#[derive(Serialize)]
struct Failed<'a> {
    error: Problem<'a>,
}

#[derive(Serialize)]
struct Problem<'a> {
    code: u16,
    message: &'a str,
}

fn json(body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(body).expect("strings and numbers always serialize")
}
