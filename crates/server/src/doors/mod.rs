//! Doors: where a protocol meets a transport, and the paths they stand at.

mod client;
mod echo;
mod eventsource;
mod native;
mod socket;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use duplex_core::{Broker, Encode, EncodingId};
use duplex_engine::Shard;
use duplex_protocol::native::Welcome;
use duplex_transport::http::{Body, Reply, text};
use duplex_transport::websocket;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;

use crate::api::{BodyLimits, Endpoint};
use crate::guard::{Guard, Visitor};
use crate::page;
pub(crate) use client::Seat;

/// Publications as native frames over WebSocket.
const NATIVE: EncodingId = EncodingId(0);
/// The same, deflated.
const NATIVE_DEFLATED: EncodingId = EncodingId(1);
/// Publications as Server-Sent Events.
const EVENTS: EncodingId = EncodingId(2);

/// What [`EncodingId`]s stand for, in order.
pub(crate) fn encodings() -> Vec<Box<dyn Encode>> {
    vec![Box::new(native::Plain), Box::new(native::Deflated), Box::new(duplex_protocol::eventsource::Events)]
}

/// What the doors of one shard need.
pub(crate) struct Site {
    pub shard: Rc<Shard>,
    pub broker: Arc<dyn Broker>,
    pub guard: Arc<Guard>,
    pub sockets: Rc<websocket::Shared>,
    pub welcome: Arc<Welcome>,
    pub bodies: BodyLimits,
    pub head_timeout: Duration,
    pub ready: Arc<AtomicBool>,
}

const WHERE: &str =
    "there is nothing here; try /, /ws, /sse, /echo, /api/v1/publish, /api/v1/history, /healthz or /readyz\n";

/// Answers one request. A connection that becomes a client keeps `seat`.
pub(crate) async fn answer(site: Rc<Site>, seat: Rc<Seat>, request: Request<Incoming>) -> Reply {
    // RFC 9112, 6.1: with both a length and chunks, a request may be meant to look different to a proxy in front of us.
    // hyper goes by the chunks and hides the length, so nothing behind a chunked request is trusted.
    let chunked = request.headers().contains_key(header::TRANSFER_ENCODING);
    let mut reply = match site.guard.admit(request.headers()) {
        Err(stranger) => Reply::Response(text(stranger.status(), format!("{stranger}\n"))),
        Ok(Visitor::Own) => route(&site, seat, request).await,
        Ok(Visitor::Guest(origin)) => welcome_guest(route(&site, seat, request).await, origin),
    };
    if let (Reply::Response(response), true) = (&mut reply, chunked) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    reply
}

async fn route(site: &Rc<Site>, seat: Rc<Seat>, request: Request<Incoming>) -> Reply {
    let path = request.uri().path();
    if let Some(endpoint) = Endpoint::at(path) {
        return Reply::Response(match *request.method() {
            Method::POST => endpoint.answer(&*site.broker, request.into_body(), site.bodies).await,
            Method::OPTIONS => preflight(),
            _ => not_allowed("POST"),
        });
    }
    let read = matches!(*request.method(), Method::GET | Method::HEAD);
    Reply::Response(match path {
        "/ws" => return native::open(site, seat, &request),
        "/echo" => return echo::open(site, seat, &request),
        "/sse" if *request.method() == Method::GET => eventsource::open(site, seat, &request),
        "/" if read => page::index(),
        "/healthz" if read => text(StatusCode::OK, "ok\n"),
        "/readyz" if read && site.ready.load(Relaxed) => text(StatusCode::OK, "ready\n"),
        "/readyz" if read => {
            text(StatusCode::SERVICE_UNAVAILABLE, "not ready: the server is shutting down\n")
        }
        "/" | "/sse" | "/healthz" | "/readyz" => not_allowed("GET"),
        _ => text(StatusCode::NOT_FOUND, WHERE),
    })
}

fn not_allowed(allowed: &'static str) -> Response<Body> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, format!("use {allowed} here\n"));
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

/// Tells a browser that pages may post JSON here. Which pages, `welcome_guest` adds.
fn preflight() -> Response<Body> {
    let mut response = text(StatusCode::NO_CONTENT, "");
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("content-type, authorization"),
    );
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}

/// Lets the page at `origin` read the answer, errors too.
fn welcome_guest(mut reply: Reply, origin: HeaderValue) -> Reply {
    let (Reply::Response(response) | Reply::Upgrade(response, _)) = &mut reply;
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    response.headers_mut().append(header::VARY, HeaderValue::from_static("origin"));
    reply
}
