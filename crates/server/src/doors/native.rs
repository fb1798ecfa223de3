//! `/ws`: the native protocol over WebSocket.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use duplex_core::{Encode, Publication};
use duplex_protocol::native::{self, Native};
use duplex_transport::http::{Reply, text};
use duplex_websocket::{Compression, Deflater, Kind, encode};
use http::{Request, StatusCode};

use super::{NATIVE, NATIVE_DEFLATED, Seat, Site, socket};
use crate::query;

/// The subprotocol spoken here; a client that offers none gets it too.
const SUBPROTOCOL: &str = "duplex.v1.json";

pub(super) fn open<B>(site: &Rc<Site>, seat: Rc<Seat>, request: &Request<B>) -> Reply {
    let offer = match socket::offer(request) {
        Ok(offer) => offer,
        Err(refusal) => return socket::refuse(refusal),
    };
    let welcome = Arc::clone(&site.welcome);
    let protocol = match query::channels(request.uri().query()) {
        Ok(None) => Native::new(welcome),
        Ok(Some(channels)) => Native::subscribed(welcome, channels),
        Err(error) => return Reply::Response(text(StatusCode::BAD_REQUEST, format!("channels: {error}\n"))),
    };
    let accept = offer.accept(Some(SUBPROTOCOL), Compression::PerMessage);
    socket::upgrade(site, seat, accept, Box::new(protocol), |compression| match compression {
        Compression::Off => NATIVE,
        Compression::PerMessage => NATIVE_DEFLATED,
    })
}

/// Publications for clients without compression.
pub(super) struct Plain;

impl Encode for Plain {
    fn publication(&self, publication: &Publication) -> Bytes {
        encode::message(Kind::Text, &native::publication(publication))
    }
}

/// Publications for clients with compression: compressed once for all of them.
pub(super) struct Deflated;

thread_local! {
    static DEFLATER: RefCell<Deflater> = RefCell::new(Deflater::new());
}

impl Encode for Deflated {
    fn publication(&self, publication: &Publication) -> Bytes {
        let payload = native::publication(publication);
        DEFLATER
            .with_borrow_mut(|deflater| encode::deflated(Kind::Text, &payload, deflater))
            .unwrap_or_else(|| encode::message(Kind::Text, &payload))
    }
}
