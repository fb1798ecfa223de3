//! `/sse`: Server-Sent Events for a bare `EventSource`.

use std::rc::Rc;

use duplex_engine::Opening;
use duplex_protocol::eventsource::EventSource;
use duplex_transport::http::{Body, text};
use duplex_transport::stream::{StreamBody, StreamLink};
use http::{HeaderValue, Request, Response, StatusCode, header};

use super::client::Client;
use super::{Admission, Caller, EVENTS, Site, admit, turned_away};
use crate::query;

pub(super) async fn open<B>(site: &Rc<Site>, caller: Rc<Caller>, request: &Request<B>) -> Response<Body> {
    let channels = match query::channels(request.uri().query()) {
        Ok(channels) => channels,
        Err(error) => return text(StatusCode::BAD_REQUEST, format!("channels: {error}\n")),
    };
    let Admission { place, identity } = match admit(site, &caller, request).await {
        Ok(admission) => admission,
        Err(response) => return response,
    };
    // An EventSource comes back for ever after a connection that ends, but not after an error.
    let identity = match identity {
        Some(identity) => identity,
        None => match site.ground.backend.connect(None).await {
            Ok(anonymous) => anonymous,
            Err(refusal) => return turned_away(&refusal),
        },
    };
    if channels.is_none() && identity.channels.is_empty() {
        return text(StatusCode::BAD_REQUEST, "channels: name some, as in /sse?channels=news,chat\n");
    }
    let last = request.headers().get("last-event-id").map(|id| id.to_str().unwrap_or_default());
    let link = Rc::new(StreamLink::default());
    let protocol = Box::new(EventSource::new(channels.unwrap_or_default(), last));
    let opening = Opening { link: link.clone(), protocol, encoding: EVENTS, identity: Some(identity) };
    let key = site.shard.open(opening);
    let client = Client { shard: Rc::clone(&site.shard), key, _caller: caller, _place: place };
    let mut response = Response::new(Body::Stream(StreamBody::new(link, Box::new(client))));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    // Proxies must neither keep, nor gather, nor compress what goes through.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
