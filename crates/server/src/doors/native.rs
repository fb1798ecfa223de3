//! `/ws`: the native protocol over WebSocket.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use duplex_core::{Encode, PresenceChange, Publication};
use duplex_protocol::native::{self, Form, Native};
use duplex_transport::http::{Reply, text};
use duplex_websocket::handshake::Accept;
use duplex_websocket::{Compression, Deflater, Kind, encode};
use http::{Request, StatusCode, header};

use super::session::{SessionToken, by_websocket};
use super::{
    Caller, Counted, MESSAGE_PACK, MESSAGE_PACK_DEFLATED, NATIVE, NATIVE_DEFLATED, Site, admit, socket,
};
use crate::query;

/// Subprotocols spoken here. A client that offers none gets the first.
const SUBPROTOCOLS: [(&str, Form); 2] =
    [("duplex.v1.json", Form::Json), ("duplex.v1.msgpack", Form::MessagePack)];

pub(super) async fn open<B>(site: &Rc<Site>, caller: Arc<Caller>, request: &Request<B>) -> Reply {
    let offer = match socket::offer(request) {
        Ok(offer) => offer,
        Err(refusal) => return socket::refuse(refusal),
    };
    let (subprotocol, form) = chosen(request);
    if let Some(session) = query::value(request.uri().query(), "session") {
        let accept = offer.accept(Some(subprotocol), Compression::PerMessage);
        return go_over(site, caller, request, &session, accept, form);
    }
    let welcome = Arc::clone(&site.live().welcome);
    let protocol = match query::channels(request.uri().query()) {
        Ok(None) => Native::new(welcome, form),
        Ok(Some(channels)) => Native::subscribed(welcome, form, channels),
        Err(error) => return Reply::Response(text(StatusCode::BAD_REQUEST, format!("channels: {error}\n"))),
    };
    let accept = offer.accept(Some(subprotocol), Compression::PerMessage);
    let admission = match admit(site, &caller, request, Counted::Connection).await {
        Ok(admission) => admission,
        Err(response) => return Reply::Response(response),
    };
    socket::upgrade(site, caller, admission, accept, Box::new(protocol), move |compression| {
        match (form, compression) {
            (Form::Json, Compression::Off) => NATIVE,
            (Form::Json, Compression::PerMessage) => NATIVE_DEFLATED,
            (Form::MessagePack, Compression::Off) => MESSAGE_PACK,
            (Form::MessagePack, Compression::PerMessage) => MESSAGE_PACK_DEFLATED,
        }
    })
}

/// A session goes over to this WebSocket: whose it is, it has been told already.
fn go_over<B>(
    site: &Rc<Site>,
    caller: Arc<Caller>,
    request: &Request<B>,
    session: &str,
    accept: Accept,
    form: Form,
) -> Reply {
    let Some(token) = SessionToken::parse(session) else {
        let sentence = "session: not a session's token; give the one that POST /session was answered with\n";
        return Reply::Response(text(StatusCode::BAD_REQUEST, sentence));
    };
    let after = match query::number(request.uri().query(), "after") {
        Ok(after) => after.unwrap_or(0),
        Err(error) => return Reply::Response(text(StatusCode::BAD_REQUEST, format!("after: {error}\n"))),
    };
    let site = Rc::clone(site);
    Reply::Upgrade(
        socket::switching(&accept),
        Box::new(move |stream, early| {
            by_websocket(&site, stream, early, caller, (token, after), (accept, form));
        }),
    )
}

/// The first of our subprotocols that the client offers.
fn chosen<B>(request: &Request<B>) -> (&'static str, Form) {
    let offered = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let offered = offered.iter().filter_map(|value| value.to_str().ok()).flat_map(|list| list.split(','));
    let known = |name: &str| SUBPROTOCOLS.into_iter().find(|(ours, _)| *ours == name.trim());
    offered.filter_map(known).next().unwrap_or(SUBPROTOCOLS[0])
}

/// Publications for clients without compression.
pub(super) struct Plain(pub Form);

impl Encode for Plain {
    fn publication(&self, publication: &Publication) -> Bytes {
        encode::message(kind(self.0), &native::publication(publication, self.0))
    }

    fn presence(&self, change: &PresenceChange) -> Bytes {
        encode::message(kind(self.0), &native::presence(change, self.0))
    }
}

/// Publications for clients with compression: compressed once for all of them.
pub(super) struct Deflated(pub Form);

/// Publications without any framing, for sessions that change their transport.
pub(super) struct Bare(pub Form);

impl Encode for Bare {
    fn publication(&self, publication: &Publication) -> Bytes {
        native::publication(publication, self.0).into()
    }

    fn presence(&self, change: &PresenceChange) -> Bytes {
        native::presence(change, self.0).into()
    }
}

fn kind(form: Form) -> Kind {
    match form {
        Form::Json => Kind::Text,
        Form::MessagePack => Kind::Binary,
    }
}

thread_local! {
    static DEFLATER: RefCell<Deflater> = RefCell::new(Deflater::new());
}

impl Encode for Deflated {
    fn publication(&self, publication: &Publication) -> Bytes {
        deflate(kind(self.0), &native::publication(publication, self.0))
    }

    fn presence(&self, change: &PresenceChange) -> Bytes {
        deflate(kind(self.0), &native::presence(change, self.0))
    }
}

fn deflate(kind: Kind, payload: &[u8]) -> Bytes {
    DEFLATER
        .with_borrow_mut(|deflater| encode::deflated(kind, payload, deflater))
        .unwrap_or_else(|| encode::message(kind, payload))
}
