//! Whose a request is: the one place that knows where each protocol names the session that it is about, and what kind of answer
//! it has.

use duplex_core::NodeId;
use http::{Method, Request, Version, header};
use hyper::body::{Body as _, Incoming};

use super::session::{self, SessionToken};
use super::{Site, engine_io, signalr};
use crate::query;

/// A request that names a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Whose {
    /// Where the session is, if it is anywhere.
    pub node: NodeId,
    pub passage: Passage,
}

/// What a request is answered, as far as that matters to whoever stands between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passage {
    /// A response, soon.
    Plain,
    /// A response, perhaps much later.
    Poll,
    /// A response that goes on.
    Endless,
    /// The connection becomes a WebSocket.
    Upgrade,
}

/// The node on which the session of a request is, as its token says.
pub(crate) fn find(site: &Site, request: &Request<Incoming>) -> Option<Whose> {
    let (path, query) = (request.uri().path(), request.uri().query());
    let upgrade_or = |passage| match request.headers().contains_key(header::UPGRADE) {
        true => Passage::Upgrade,
        false => passage,
    };
    let (node, passage) = if let Some(place) = signalr::find(&site.live().hubs, path) {
        signalr::whose(site, request, &place)?
    } else if let Some(rest) = path.strip_prefix("/session") {
        session::whose(rest)?
    } else if path == "/ws" {
        (SessionToken::parse(&query::value(query, "session")?)?.node, upgrade_or(Passage::Plain))
    } else {
        engine_io(path)?;
        (SessionToken::parse(&query::value(query, "sid")?)?.node, upgrade_or(Passage::Poll))
    };
    match *request.method() {
        // It asks what may be asked, which is known everywhere.
        Method::OPTIONS => None,
        // RFC 9110, 7.8: such a client does not know of upgrades.
        _ if passage == Passage::Upgrade && request.version() != Version::HTTP_11 => None,
        // With a body it is wrong whatever it asks for, and soon told so.
        Method::GET if request.body().is_end_stream() => Some(Whose { node, passage }),
        _ => Some(Whose { node, passage: Passage::Plain }),
    }
}
