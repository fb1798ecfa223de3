//! `/echo`: every WebSocket message comes back. To check a client, a proxy or a network path, and to measure.

use std::rc::Rc;

use duplex_protocol::echo::Echo;
use duplex_transport::http::Reply;
use duplex_websocket::Compression;
use http::Request;

use super::{NATIVE, Seat, Site, socket};

pub(super) fn open<B>(site: &Rc<Site>, seat: Rc<Seat>, request: &Request<B>) -> Reply {
    match socket::offer(request) {
        Err(refusal) => socket::refuse(refusal),
        Ok(offer) => {
            let accept = offer.accept(None, Compression::PerMessage);
            socket::upgrade(site, seat, accept, Box::new(Echo), |_| NATIVE)
        }
    }
}
