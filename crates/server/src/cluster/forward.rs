//! Sending a request on to the node that has its session, and the answer back.
//!
//! That node does all there is to do, as if the client had come to it. What is said in between is only for this one connection
//! (RFC 9110, 7.6.1): the client's stays open or not as the client wants it, whatever becomes of the other.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use duplex_engine::unix_ms;
use duplex_transport::SocketOptions;
use duplex_transport::Stream;
use duplex_transport::http::{
    Afterwards, Asked, Fields, Line, Lines, Reply, Unanswered, ask, attend, respond, text,
};
use duplex_transport::splice::{Patience, Splice, Upward};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, Version, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body as _, Incoming};
use tokio::time::{Instant, timeout};

use super::proof::{FORWARDED, Proofs, target};
use crate::doors::{Caller, Entrance, Passage, Site, afterwards, find_whose, forwarded, is_stopping, serve};
use crate::drain::Unfinished;

/// How long an answer may take that the other node has at once, unless it must ask for somebody's keys.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest answer to what is not for frames, bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Pause between two warnings that another node does not believe this one.
const WARNING_PAUSE: Duration = Duration::from_secs(10);
/// What is said to clients of a node that does not answer.
const SILENT: &str = "the node that has this session does not answer; try again\n";

/// What is only for one connection. What a client lists in `Connection` beside it stays: it is for us, and must not take from a
/// request what it is judged by.
const HOP_BY_HOP: [HeaderName; 10] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    // Whoever sends a body says how long it is.
    header::CONTENT_LENGTH,
    // It was answered already.
    header::EXPECT,
    FORWARDED,
];

/// The way of one shard to other nodes.
pub(crate) struct Onward {
    lines: Lines,
    unfinished: Unfinished,
    warned: Cell<Option<Instant>>,
}

/// Where a request is sent on to.
pub(crate) struct Destination {
    address: SocketAddr,
    passage: Passage,
    proofs: Arc<Proofs>,
}

/// What became of a request that was to be sent on.
pub(crate) enum Forwarded {
    /// The answer of the other node, complete.
    Theirs(Reply),
    /// An answer in its place.
    Ours(Reply),
    /// The other node is not there, so nobody knows the session.
    Nowhere(Request<Incoming>),
}

/// Why a request has no answer.
enum Failure {
    /// The other node is not there, and has got nothing of it.
    Nowhere(Box<Request<Incoming>>),
    Silent,
}

impl Onward {
    pub fn new(options: SocketOptions, unfinished: Unfinished) -> Self {
        Self { lines: Lines::new(options), unfinished, warned: Cell::default() }
    }
}

/// Where a request must be sent on to: its session is on another node that lives, and it was not sent on before.
pub(crate) async fn destination(
    site: &Site,
    caller: &Caller,
    request: &Request<Incoming>,
) -> Option<Destination> {
    if caller.entrance == Entrance::Peers {
        return None;
    }
    let proofs = Arc::clone(site.proofs.as_ref()?);
    let whose = find_whose(site, request)?;
    // Boxed, so that requests for sessions of this node have no room for it.
    let address = Box::pin(site.nodes.find(whose.node)).await?;
    Some(Destination { address, passage: whose.passage, proofs })
}

/// Sends a request on.
pub(crate) async fn send_on(
    site: &Rc<Site>,
    caller: &Arc<Caller>,
    request: Request<Incoming>,
    destination: Destination,
) -> Forwarded {
    match destination.passage {
        Passage::Plain => plain(site, caller, request, destination).await,
        Passage::Poll => poll(site, caller, request, destination).await,
        Passage::Endless | Passage::Upgrade => spliced(site, caller, request, destination).await,
    }
}

/// A request that is answered soon.
async fn plain(
    site: &Rc<Site>,
    caller: &Caller,
    mut request: Request<Incoming>,
    destination: Destination,
) -> Forwarded {
    let _work = site.onward.unfinished.begin();
    let bodies = site.live().bodies;
    // It would be refused half-way, and the answer perhaps lost.
    if request.body().size_hint().lower() > bodies.bytes_max as u64 {
        let sentence = format!("the body is longer than {} bytes\n", bodies.bytes_max);
        return Forwarded::Ours(Reply::Response(text(StatusCode::PAYLOAD_TOO_LARGE, sentence)));
    }
    let Some(line) = take_line(site, destination.address).await else { return Forwarded::Nowhere(request) };
    prepare(site, caller, &destination.proofs, &mut request);
    let answering = async {
        let (line, response) = exchange(site, destination.address, line, request).await?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|_| Failure::Silent)?;
        site.onward.lines.keep(line);
        Ok(Response::from_parts(head, Full::new(body.to_bytes())))
    };
    // The client may take its time over the body.
    match timeout(bodies.timeout + ANSWER_TIMEOUT, answering).await {
        Ok(Ok(mut response)) => {
            strip_answer(response.headers_mut(), destination.passage);
            Forwarded::Theirs(Reply::Response(response))
        }
        Ok(Err(Failure::Nowhere(request))) => Forwarded::Nowhere(*request),
        Ok(Err(Failure::Silent)) | Err(_) => Forwarded::Ours(Reply::Response(silent())),
    }
}

/// A request that may wait for its answer. Its socket leaves HTTP, so that it is noticed when the client goes.
async fn poll(
    site: &Rc<Site>,
    caller: &Arc<Caller>,
    mut request: Request<Incoming>,
    destination: Destination,
) -> Forwarded {
    let Some(line) = take_line(site, destination.address).await else { return Forwarded::Nowhere(request) };
    let then = afterwards(&request);
    prepare(site, caller, &destination.proofs, &mut request);
    let (site, caller) = (Rc::clone(site), Arc::clone(caller));
    Forwarded::Ours(Reply::TakeOver(
        HeaderMap::new(),
        Box::new(move |stream, early, headers| {
            let work = site.onward.unfinished.begin();
            tokio::task::spawn_local(async move {
                let _work = work;
                let mut early = Vec::from(early);
                let answering = exchange(&site, destination.address, line, request);
                let Some(answered) = attend(&stream, &mut early, answering).await else { return };
                let then = if is_stopping(&site) { Afterwards::Close } else { then };
                let patience = site.live().head_timeout;
                let written = match answered {
                    Ok((line, response)) => {
                        let relaying = relay(&site, &stream, (line, response), then);
                        timeout(patience, relaying).await.unwrap_or(None)
                    }
                    Err(_) => respond(&stream, &excuse(headers, then), patience).await.ok(),
                };
                if written.is_some() && then == Afterwards::KeepAlive {
                    serve(&site, stream, early.into(), caller);
                }
            });
        }),
    ))
}

/// Writes an answer as it comes. `None` if it did not come whole, or could not be written.
async fn relay(
    site: &Site,
    stream: &Stream,
    (line, mut response): (Line, Response<Incoming>),
    then: Afterwards,
) -> Option<()> {
    let patience = site.live().head_timeout;
    strip(response.headers_mut());
    let length = usize::try_from(response.body().size_hint().exact()?).ok()?;
    let head = Fields::of(response.headers()).head(response.status(), Some(length), then);
    respond(stream, &head, patience).await.ok()?;
    while let Some(frame) = response.body_mut().frame().await {
        if let Ok(data) = frame.ok()?.into_data() {
            respond(stream, &data, patience).await.ok()?;
        }
    }
    site.onward.lines.keep(line);
    Some(())
}

/// A request that takes its connection for itself: from its answer on, what comes on either side goes out on the other.
async fn spliced(
    site: &Rc<Site>,
    caller: &Arc<Caller>,
    mut request: Request<Incoming>,
    destination: Destination,
) -> Forwarded {
    let Ok(server) = site.onward.lines.bare(destination.address).await else {
        return Forwarded::Nowhere(request);
    };
    let upgrade = request.headers().get(header::UPGRADE).cloned();
    prepare(site, caller, &destination.proofs, &mut request);
    let headers = request.headers_mut();
    match upgrade.filter(|_| destination.passage == Passage::Upgrade) {
        Some(protocol) => {
            headers.insert(header::UPGRADE, protocol);
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        }
        None => drop(headers.insert(header::CONNECTION, HeaderValue::from_static("close"))),
    }
    let head = Fields::of(request.headers()).request(request.method(), target(&request));
    let asked = timeout(ANSWER_TIMEOUT, ask(server, &head)).await;
    let (site, caller) = (Rc::clone(site), Arc::clone(caller));
    match asked {
        Ok(Ok(Asked::Whole(response))) if is_disbelieved(&site, response.headers()) => {
            Forwarded::Ours(Reply::Response(silent()))
        }
        Ok(Ok(Asked::Whole(mut response))) => {
            strip_answer(response.headers_mut(), destination.passage);
            Forwarded::Theirs(Reply::Response(response))
        }
        Ok(Ok(Asked::Endless(mut response, server, first))) => {
            strip(response.headers_mut());
            let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
            let taken = Box::new(move |client, _, headers: HeaderMap| {
                let mut head = Fields::of(&headers).head(status, None, Afterwards::Close);
                head.extend_from_slice(&first);
                splice(&site, caller, (client, Bytes::new()), (server, head.into()), Upward::Dropped);
            });
            Forwarded::Theirs(Reply::TakeOver(headers, taken))
        }
        Ok(Ok(Asked::Switched(response, server, first))) => {
            let upgraded = Box::new(move |client, early| {
                splice(&site, caller, (client, early), (server, first), Upward::Passed);
            });
            Forwarded::Theirs(Reply::Upgrade(response, upgraded))
        }
        Ok(Err(_)) | Err(_) => Forwarded::Ours(Reply::Response(silent())),
    }
}

fn splice(
    site: &Site,
    caller: Arc<Caller>,
    (client, early): (Stream, Bytes),
    (server, first): (Stream, Bytes),
    upward: Upward,
) {
    let settings = site.live().settings;
    let ms = |ms| Duration::from_millis(u64::from(ms));
    let patience = Patience { stall: ms(settings.stall_ms), leave: ms(settings.close_ms) };
    let splice = Splice { client, early, server, first, upward, patience };
    tokio::task::spawn_local(async move {
        splice.run().await;
        // It is counted for as long as it lasts.
        drop(caller);
    });
}

/// A connection to another node, if it is there.
async fn take_line(site: &Site, address: SocketAddr) -> Option<Line> {
    // The other one ends those that are idle for longer than this time, which is the same there.
    site.onward.lines.take(address, site.live().head_timeout / 2).await.ok()
}

/// Sends a request, and once more if the connection was one that had ended unnoticed.
async fn exchange(
    site: &Site,
    address: SocketAddr,
    mut line: Line,
    request: Request<Incoming>,
) -> Result<(Line, Response<Incoming>), Failure> {
    let mut sent = line.send(request).await;
    if let Err(Unanswered::Unsent(request)) = sent {
        line = match site.onward.lines.fresh(address).await {
            Ok(line) => line,
            Err(_) => return Err(Failure::Nowhere(request)),
        };
        sent = line.send(*request).await;
    }
    match sent {
        Ok(response) if is_disbelieved(site, response.headers()) => Err(Failure::Silent),
        Ok(response) => Ok((line, response)),
        Err(Unanswered::Unsent(request)) => Err(Failure::Nowhere(request)),
        Err(Unanswered::Broken(error)) => {
            tracing::debug!(%address, %error, "a node did not answer what was sent on to it");
            Err(Failure::Silent)
        }
    }
}

/// Whether the other node does not believe that this one is a node. Clients cannot help that.
fn is_disbelieved(site: &Site, headers: &HeaderMap) -> bool {
    let is_refused = headers.contains_key(FORWARDED);
    let warned = &site.onward.warned;
    if is_refused && warned.get().is_none_or(|at| at.elapsed() > WARNING_PAUSE) {
        warned.set(Some(Instant::now()));
        tracing::warn!(
            "another node does not believe this one; check that cluster.secret is the same on both, and their clocks"
        );
    }
    is_refused
}

/// Makes a request one to another node.
fn prepare(site: &Site, caller: &Caller, proofs: &Proofs, request: &mut Request<Incoming>) {
    let client = site.places.client(caller.peer, forwarded(request.headers()));
    let proof = proofs.prove(request, client, unix_ms());
    // Of an address with a host in it, as some write it to proxies, the host stands in its header, too.
    if let Ok(target) = target(request).parse::<Uri>() {
        *request.uri_mut() = target;
    }
    *request.version_mut() = Version::HTTP_11;
    strip(request.headers_mut());
    request.headers_mut().insert(FORWARDED, proof);
}

fn strip(headers: &mut HeaderMap) {
    HOP_BY_HOP.iter().for_each(|name| drop(headers.remove(name)));
    // Whoever writes a head says when.
    headers.remove(header::DATE);
}

/// The same of an answer; but what it says about upgrades is meant for the client.
fn strip_answer(headers: &mut HeaderMap, passage: Passage) {
    let upgrade = headers.remove(header::UPGRADE);
    let is_about_upgrades = upgrade.is_some() || passage == Passage::Upgrade;
    let connection = headers.remove(header::CONNECTION).filter(|_| is_about_upgrades);
    strip(headers);
    let kept = [(header::UPGRADE, upgrade), (header::CONNECTION, connection)];
    headers.extend(kept.into_iter().filter_map(|(name, value)| Some((name, value?))));
}

/// The other node does not answer.
fn silent() -> Response<duplex_transport::http::Body> {
    let mut response = text(StatusCode::SERVICE_UNAVAILABLE, SILENT);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// The same on a socket that was taken out of HTTP.
fn excuse(mut headers: HeaderMap, then: Afterwards) -> Vec<u8> {
    let response = silent();
    headers.extend(response.headers().clone());
    let mut whole = Fields::of(&headers).head(response.status(), Some(SILENT.len()), then);
    whole.extend_from_slice(SILENT.as_bytes());
    whole
}
