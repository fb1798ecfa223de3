//! A request that polls: its socket goes to the shard of its session, waits there, and comes back into HTTP.

use std::rc::Rc;
use std::sync::Arc;

use ::http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use bytes::Bytes;
use duplex_core::{CloseReason, Frame};
use duplex_protocol::engineio::Refused;
use duplex_transport::Stream;
use duplex_transport::http::{Afterwards, Fields, Reply};
use duplex_transport::poll::{self, PollLink};
use duplex_transport::{Framing, Handler};
use hyper::body::{Body as _, Incoming};

use super::registry::Sid;
use super::{Connection, refuse};
use crate::doors::{Caller, Site, afterwards, answer_on, serve};

/// Header fields of every answer that brings packets.
pub(super) fn headers() -> [(HeaderName, HeaderValue); 3] {
    [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=UTF-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ]
}

/// A poll apart from its socket.
struct Visit {
    sid: Sid,
    early: Bytes,
    caller: Arc<Caller>,
    headers: HeaderMap,
    afterwards: Afterwards,
}

pub(super) fn answer(site: &Rc<Site>, caller: Arc<Caller>, request: &Request<Incoming>, sid: Sid) -> Reply {
    if !request.body().is_end_stream() {
        return Reply::Response(refuse(&Refused::BadRequest));
    }
    let afterwards = afterwards(request);
    let site = Rc::clone(site);
    Reply::TakeOver(
        HeaderMap::new(),
        Box::new(move |stream, early, headers| {
            let visit = Visit { sid, early, caller, headers, afterwards };
            if site.is_place_of(sid.shard) {
                return arrive(&site, stream, visit);
            }
            if let Err((stream, visit)) = site.move_socket(sid.shard, stream, visit, arrive) {
                turn_away(&site, stream, visit, StatusCode::SERVICE_UNAVAILABLE, "");
            }
        }),
    )
}

/// The socket is on the session's shard.
fn arrive(site: &Rc<Site>, stream: Stream, visit: Visit) {
    visit.caller.seat.move_to(&site.taken);
    let Some(connection) = site.engines.find(&visit.sid.secret) else {
        return turn_away(site, stream, visit, StatusCode::BAD_REQUEST, &Refused::UnknownSession.json());
    };
    if !connection.is_polled() {
        return turn_away(site, stream, visit, StatusCode::BAD_REQUEST, &Refused::BadRequest.json());
    }
    let link = PollLink::new(Framing::Ready, None);
    if connection.begin_poll(Rc::clone(&link)).is_err() {
        return turn_away(site, stream, visit, StatusCode::BAD_REQUEST, "");
    }
    let Visit { early, caller, headers: mut fields, afterwards, .. } = visit;
    fields.extend(headers());
    let request = poll::Request {
        stream,
        early,
        fields: Fields::of(&fields),
        afterwards,
        patience: site.live().head_timeout,
    };
    drop(fields);
    let polled = Polled { connection, link: Rc::clone(&link) };
    let site = Rc::clone(site);
    tokio::task::spawn_local(async move {
        if let Some((stream, early)) = poll::run(request, link, polled).await {
            serve(&site, stream, early, caller);
        }
    });
}

/// Answers with a status; another request may come behind.
fn turn_away(site: &Rc<Site>, stream: Stream, visit: Visit, status: StatusCode, json: &str) {
    let Visit { early, caller, headers: mut fields, afterwards, .. } = visit;
    if !json.is_empty() {
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    let mut response = Fields::of(&fields).head(status, Some(json.len()), afterwards);
    response.extend_from_slice(json.as_bytes());
    answer_on(site, stream, (early, caller), (response, afterwards));
}

/// A poll as its transport sees it: all it can do is end.
struct Polled {
    connection: Rc<Connection>,
    link: Rc<PollLink>,
}

impl Handler for Polled {
    fn message(&self, _: Frame<'_>) {}

    fn heard(&self) {}

    fn reply(&self, _: Bytes) {}

    fn close(&self, _: &'static CloseReason, _: &str) {}

    fn writable(&self) {}

    fn ended(&self) {
        self.connection.poll_ended(&self.link);
    }
}
