//! `/echo`: every WebSocket message comes back. To check a client, a proxy or a network path, and to measure.

use std::rc::Rc;
use std::sync::Arc;

use duplex_protocol::echo::Echo;
use duplex_transport::http::Reply;
use duplex_websocket::Compression;
use http::Request;

use super::{Caller, Counted, NATIVE, Site, admit, socket};

pub(super) async fn open<B>(site: &Rc<Site>, caller: Arc<Caller>, request: &Request<B>) -> Reply {
    let offer = match socket::offer(request) {
        Ok(offer) => offer,
        Err(refusal) => return socket::refuse(refusal),
    };
    let accept = offer.accept(None, Compression::PerMessage);
    match admit(site, &caller, request, Counted::Connection).await {
        Ok(admission) => socket::upgrade(site, caller, admission, accept, Box::new(Echo), |_| NATIVE),
        Err(response) => Reply::Response(response),
    }
}
