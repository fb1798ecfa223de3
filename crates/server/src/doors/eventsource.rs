//! `/sse`: Server-Sent Events for a bare `EventSource`.

use std::rc::Rc;

use duplex_engine::Opening;
use duplex_protocol::eventsource::EventSource;
use duplex_transport::http::{Body, text};
use duplex_transport::stream::{StreamBody, StreamLink};
use http::{HeaderValue, Request, Response, StatusCode, header};

use super::client::Client;
use super::{EVENTS, Seat, Site};
use crate::query;

pub(super) fn open<B>(site: &Rc<Site>, seat: Rc<Seat>, request: &Request<B>) -> Response<Body> {
    let channels = match query::channels(request.uri().query()) {
        Ok(Some(channels)) => channels,
        Ok(None) => {
            return text(StatusCode::BAD_REQUEST, "channels: name some, as in /sse?channels=news,chat\n");
        }
        Err(error) => return text(StatusCode::BAD_REQUEST, format!("channels: {error}\n")),
    };
    let last = request.headers().get("last-event-id").map(|id| id.to_str().unwrap_or_default());
    let link = Rc::new(StreamLink::default());
    let protocol = Box::new(EventSource::new(channels, last));
    let key = site.shard.open(Opening { link: link.clone(), protocol, encoding: EVENTS });
    let client = Client { shard: Rc::clone(&site.shard), key, _seat: seat };
    let mut response = Response::new(Body::Stream(StreamBody::new(link, Box::new(client))));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    // Proxies must neither keep, nor gather, nor compress what goes through.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
