//! A WebSocket that begins a session, or that one may go over to.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use duplex_core::{CloseReason, Frame, Link};
use duplex_protocol::engineio::{Refused, Transport, Version};
use duplex_transport::Handler;
use duplex_transport::Stream;
use duplex_transport::http::Reply;
use duplex_transport::websocket::{self, WebSocketLink};
use duplex_websocket::Compression;
use duplex_websocket::handshake::Accept;
use http::Request;
use hyper::body::Incoming;

use super::connection::{Carrier, Origin};
use super::registry::Sid;
use super::{Connection, Upper, channels, handshake, refuse_upgrade};
use crate::doors::{Caller, Counted, Site, find_place, later, shown_token, socket};

/// The handshake of a WebSocket, without compression: the bytes of events are shared, and compressed for nobody.
fn accept(request: &Request<Incoming>) -> Result<Accept, Refused> {
    let offer = socket::offer(request).map_err(|_| Refused::BadRequest)?;
    Ok(offer.accept(None, Compression::Off))
}

/// A session that begins with a WebSocket.
pub(super) fn begin(
    site: &Rc<Site>,
    caller: Arc<Caller>,
    request: &Request<Incoming>,
    version: Version,
    upper: Upper,
) -> Reply {
    let accept = match accept(request) {
        Ok(accept) => accept,
        Err(refused) => return Reply::Response(refuse_upgrade(&refused)),
    };
    let place = match find_place(site, &caller, request, Counted::Connection) {
        Ok(place) => place,
        Err(status) => return Reply::Response(later(status)),
    };
    let origin = Origin { place, token: shown_token(request), channels: channels(request) };
    let site = Rc::clone(site);
    Reply::Upgrade(
        socket::switching(&accept),
        Box::new(move |stream, early| {
            let link = websocket::link(stream, &accept, Rc::clone(&site.sockets));
            // Nobody may ask for it by this name: what would be better than a WebSocket?
            let sid = site.new_token();
            let connection = Connection::open(&site, (version, Transport::WebSocket), upper, None, origin);
            connection.send_packet(&handshake(&site, &sid, &[]));
            connection.carry(Carrier::WebSocket(Rc::clone(&link)));
            connection.greet();
            wire(connection, link, &accept, early, caller);
        }),
    )
}

/// A WebSocket for a session that is polled.
pub(super) fn probe(site: &Rc<Site>, caller: Arc<Caller>, request: &Request<Incoming>, sid: Sid) -> Reply {
    let accept = match accept(request) {
        Ok(accept) => accept,
        Err(refused) => return Reply::Response(refuse_upgrade(&refused)),
    };
    let site = Rc::clone(site);
    Reply::Upgrade(
        socket::switching(&accept),
        Box::new(move |stream, early| {
            let probe = Probe { sid, accept, early, caller };
            match site.is_place_of(sid.shard) {
                true => receive(&site, stream, probe),
                // Without room on its shard the socket is dropped: the session goes on as before.
                false => drop(site.move_socket(sid.shard, stream, probe, receive)),
            }
        }),
    )
}

struct Probe {
    sid: Sid,
    accept: Accept,
    early: Bytes,
    caller: Arc<Caller>,
}

/// The socket is on the session's shard. That a socket has room is not known as soon as it has come, but what came with its
/// request is answered at once.
fn receive(site: &Rc<Site>, stream: Stream, probe: Probe) {
    let site = Rc::clone(site);
    tokio::task::spawn_local(async move {
        if stream.writable().await.is_ok() {
            arrive(&site, stream, probe);
        }
    });
}

fn arrive(site: &Rc<Site>, stream: Stream, probe: Probe) {
    let Probe { sid, accept, early, caller } = probe;
    caller.seat.move_to(&site.taken);
    // A session that has ended, or has a WebSocket, wants none: the socket is dropped.
    let Some(connection) = site.engines.find(&sid.secret) else { return };
    let link = websocket::link(stream, &accept, Rc::clone(&site.sockets));
    if connection.begin_probe(Rc::clone(&link)).is_ok() {
        wire(connection, link, &accept, early, caller);
    }
}

fn wire(
    connection: Rc<Connection>,
    link: Rc<WebSocketLink>,
    accept: &Accept,
    early: Bytes,
    caller: Arc<Caller>,
) {
    let wired = Wired { connection, link: Rc::clone(&link), _caller: caller };
    tokio::task::spawn_local(websocket::Connection::new(link, accept.compression(), wired, early));
}

/// A WebSocket of a session as its transport sees it. It may be one that is only tried.
struct Wired {
    connection: Rc<Connection>,
    link: Rc<WebSocketLink>,
    /// Kept for as long as the connection lasts.
    _caller: Arc<Caller>,
}

impl Wired {
    fn is_carrier(&self) -> bool {
        self.connection.is_carried_by(&self.link)
    }
}

impl Handler for Wired {
    fn message(&self, frame: Frame<'_>) {
        match self.is_carrier() {
            true => self.connection.receive(frame),
            false => self.connection.probed(&self.link, frame),
        }
    }

    /// Engine.IO counts its own heartbeats alone.
    fn heard(&self) {}

    fn reply(&self, wire: Bytes) {
        if self.is_carrier() {
            self.connection.send(wire);
        }
    }

    fn close(&self, reason: &'static CloseReason, detail: &str) {
        match self.is_carrier() {
            true => self.connection.close(reason, detail),
            false => self.link.abort(),
        }
    }

    fn writable(&self) {
        if self.is_carrier() {
            self.connection.writable();
        }
    }

    fn ended(&self) {
        match self.is_carrier() {
            true => self.connection.over(),
            false => self.connection.probe_ended(&self.link),
        }
    }
}
