//! From an upgrade request to a session on a bare socket, whatever protocol is spoken on it.

use std::rc::Rc;
use std::sync::Arc;

use duplex_core::{EncodingId, Protocol};
use duplex_engine::Opening;
use duplex_transport::http::{Body, Reply, text};
use duplex_transport::websocket;
use duplex_websocket::Compression;
use duplex_websocket::handshake::{self, Accept, HttpVersion, Offer, Refusal};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Version};

use super::client::{Caller, Client};
use super::{Admission, Site};

/// Checks that a request asks for a WebSocket.
pub(super) fn offer<B>(request: &Request<B>) -> Result<Offer<'_>, Refusal> {
    let version = match request.version() {
        Version::HTTP_11 => HttpVersion::Http11,
        _ => HttpVersion::Http10,
    };
    let headers = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let headers: Vec<_> = headers.collect();
    handshake::check(request.method().as_str(), version, headers.into_iter())
}

/// The answer to a request that cannot be upgraded.
pub(super) fn refuse(refusal: Refusal) -> Reply {
    let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
    let mut response = text(status, format!("{refusal}\n"));
    add_headers(&mut response, refusal.headers().iter().copied());
    Reply::Response(response)
}

/// Answers 101; once that is out, `protocol` has the socket.
pub(super) fn upgrade(
    site: &Rc<Site>,
    caller: Arc<Caller>,
    admission: Admission,
    accept: Accept,
    protocol: Box<dyn Protocol>,
    encoding: impl FnOnce(Compression) -> EncodingId + 'static,
) -> Reply {
    let site = Rc::clone(site);
    Reply::Upgrade(
        switching(&accept),
        Box::new(move |stream, early| {
            let shared = if accept.shared_frames() { Compression::PerMessage } else { Compression::Off };
            let link = websocket::link(stream, &accept, Rc::clone(&site.sockets));
            let Admission { place, identity } = admission;
            let opening = Opening {
                link: link.clone(),
                protocol,
                encoding: encoding(shared),
                identity,
                client: None,
                trail: None,
            };
            let key = site.shard.open(opening);
            let client = Client { shard: Rc::clone(&site.shard), key, _caller: caller, _place: place };
            tokio::task::spawn_local(websocket::Connection::new(link, accept.compression(), client, early));
        }),
    )
}

/// The answer that makes a WebSocket of the connection.
pub(super) fn switching(accept: &Accept) -> Response<Body> {
    let mut response = text(StatusCode::SWITCHING_PROTOCOLS, "");
    response.headers_mut().clear();
    add_headers(&mut response, accept.headers());
    response
}

fn add_headers<'a>(response: &mut Response<Body>, headers: impl Iterator<Item = (&'static str, &'a str)>) {
    for (name, value) in headers {
        let pair = (name.parse::<HeaderName>(), HeaderValue::from_str(value));
        let (Ok(name), Ok(value)) = pair else { continue };
        response.headers_mut().append(name, value);
    }
}
