//! `/socket.io/`: Socket.IO over Engine.IO. A connection has a session of the engine for each namespace its client is in.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use duplex_core::{ChannelName, CloseReason, Encode, EncodingId, Frame, Json, PresenceChange, Publication};
use duplex_engine::{Opening, SessionKey};
use duplex_protocol::engineio::Version;
use duplex_protocol::socketio::{
    self, Dialect, Form, Introduction, Namespace, Part, Refused, RefusedData, Returning, Routed, Seen, Shape,
    Socket, Sockets, Stamp, Within, parse_stamp,
};
use duplex_transport::http::{Body, text};
use http::{Response, StatusCode};
use serde::Deserialize;

use super::Site;
use super::engineio::{Connection, Lane, message_frame};
use super::recovery::{Pid, Recalled};
use super::session::Secret;
use crate::options::ConnectionRecovery;
use crate::query;

/// How long the attachments of a packet may take.
const ATTACHMENTS_TIMEOUT: Duration = Duration::from_secs(10);

/// The form of publications for each kind of client. Their places are ids from `FIRST` on.
const SHAPES: [(Version, Shape); 10] = {
    const fn shape(form: Form, within: Within, stamp: Stamp) -> Shape {
        Shape { form, within, stamp }
    }
    use Form::{MessagePack, Text};
    use Stamp::{Off, Offset};
    use Within::{OwnNamespace, Root};
    [
        (Version::V4, shape(Text, Root, Off)),
        (Version::V4, shape(Text, OwnNamespace, Off)),
        (Version::V4, shape(Text, Root, Offset)),
        (Version::V4, shape(Text, OwnNamespace, Offset)),
        (Version::V4, shape(MessagePack, Root, Off)),
        (Version::V4, shape(MessagePack, OwnNamespace, Off)),
        (Version::V4, shape(MessagePack, Root, Offset)),
        (Version::V4, shape(MessagePack, OwnNamespace, Offset)),
        (Version::V3, shape(Text, Root, Off)),
        (Version::V3, shape(Text, OwnNamespace, Off)),
    ]
};

/// The encodings of [`SHAPES`], in order; their ids begin with `first`.
pub(super) fn encodings(first: u8) -> impl Iterator<Item = (EncodingId, Box<dyn Encode>)> {
    (first..).zip(SHAPES).map(|(id, (version, shape))| {
        let events: Box<dyn Encode> = Box::new(Events { version, shape });
        (EncodingId(id), events)
    })
}

fn encoding(version: Version, shape: Shape) -> EncodingId {
    let place = SHAPES.iter().position(|known| *known == (version, shape)).unwrap_or(0);
    EncodingId(super::SOCKET_IO + u8::try_from(place).expect("there are few"))
}

/// Publications as Socket.IO events, framed for a WebSocket.
struct Events {
    version: Version,
    shape: Shape,
}

impl Events {
    fn frames(&self, parts: Vec<Part>) -> Bytes {
        let mut frames = parts.into_iter().map(|part| message_frame(&part.into(), self.version));
        match (frames.next(), frames.next()) {
            (Some(one), None) => one,
            (one, two) => one.into_iter().chain(two).chain(frames).collect::<Vec<_>>().concat().into(),
        }
    }
}

impl Encode for Events {
    fn publication(&self, publication: &Publication) -> Bytes {
        self.frames(socketio::publication(publication, self.shape))
    }

    fn presence(&self, change: &PresenceChange) -> Bytes {
        self.frames(socketio::presence(change, self.shape))
    }
}

/// Clients are not served here.
pub(super) fn no_bundle() -> Response<Body> {
    text(
        StatusCode::NOT_FOUND,
        "the Socket.IO client is not served here; take `socket.io-client` from npm, or see \
         https://socket.io/docs/v4/client-installation/\n",
    )
}

/// The namespaces of one connection.
pub(crate) struct Namespaces {
    version: Version,
    /// What stood in the request, if something did.
    request: RefCell<Option<Box<FromRequest>>>,
    sockets: RefCell<Sockets>,
    open: RefCell<Vec<Open>>,
    attachments: Attachments,
}

/// What becomes of the clients of a connection that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// They may come back.
    Await,
    /// They broke the protocol, and would again.
    Forget,
}

/// What stands in the query of a connection's first request.
struct FromRequest {
    /// For namespaces to which the client shows none.
    token: Option<Box<str>>,
    /// For the first connect to `/`.
    channels: Vec<ChannelName>,
}

/// A socket that is there.
#[derive(Clone, Copy)]
struct Open {
    /// Of its lane.
    number: u32,
    key: SessionKey,
    /// What its client may come back by.
    pid: Option<Secret>,
}

/// Attachments that are awaited.
#[derive(Default)]
struct Attachments {
    /// Counts packets that had some.
    packets: Cell<u32>,
    watch: Cell<Watch>,
}

#[derive(Default, Clone, Copy, PartialEq)]
enum Watch {
    #[default]
    Asleep,
    /// A task looks whether they come.
    Awake,
}

impl Namespaces {
    pub fn new(version: Version, token: Option<&str>, channels: Vec<ChannelName>) -> Self {
        let is_there = token.is_some() || !channels.is_empty();
        let request = is_there.then(|| Box::new(FromRequest { token: token.map(Into::into), channels }));
        Self {
            version,
            request: RefCell::new(request),
            sockets: RefCell::new(Sockets::new(dialect(version))),
            open: RefCell::default(),
            attachments: Attachments::default(),
        }
    }

    /// A client of Socket.IO 2 is in `/` without asking.
    pub fn greet(&self, connection: &Rc<Connection>) {
        if self.version == Version::V3 {
            let lane = self.sockets.borrow_mut().join(Namespace::ROOT);
            self.connect(connection, lane, Namespace::ROOT, None);
        }
    }

    /// The sessions there are.
    pub fn keys(&self) -> Vec<(u32, SessionKey)> {
        self.open.borrow().iter().map(|open| (open.number, open.key)).collect()
    }

    /// The session whose client may come back by this secret.
    pub fn key_of(&self, pid: &Secret) -> Option<SessionKey> {
        self.open.borrow().iter().find(|open| open.pid.as_ref() == Some(pid)).map(|open| open.key)
    }

    fn key(&self, lane: socketio::Lane) -> Option<SessionKey> {
        self.open.borrow().iter().find(|open| open.number == lane.0).map(|open| open.key)
    }

    /// The connection has ended.
    pub fn over(&self, site: &Site, then: Then) {
        for Open { key, pid, .. } in self.open.take() {
            match (pid, then) {
                (Some(pid), Then::Forget) => site.recoveries.refuse(&pid, self),
                (Some(pid), Then::Await) => {
                    site.recoveries.left(pid, self, site.live().socketio.recovery_ttl);
                }
                (None, _) => {}
            }
            site.shard.ended(key);
        }
    }

    /// One socket has ended, for good.
    pub fn ended(&self, site: &Site, number: u32) {
        let mut open = self.open.borrow_mut();
        if let Some(place) = open.iter().position(|open| open.number == number) {
            let Open { key, pid, .. } = open.swap_remove(place);
            site.shard.ended(key);
            pid.inspect(|pid| site.recoveries.refuse(pid, self));
        }
        self.sockets.borrow_mut().left(socketio::Lane(number));
    }

    /// A message of the client.
    pub fn receive(&self, connection: &Rc<Connection>, frame: Frame<'_>) {
        let shard = &connection.site.shard;
        let routed = self.sockets.borrow_mut().route(frame);
        if !matches!(routed, Ok(Routed::Message(..))) {
            connection.noted(|_, _| {});
            if connection.is_leaving() {
                return;
            }
        }
        match routed {
            Err(breach) => connection.close(&CloseReason::BAD_REQUEST, &breach.to_string()),
            Ok(Routed::Message(lane, frame)) => {
                match self.key(lane) {
                    Some(key) => shard.receive(key, frame),
                    // It is still being found out whether it comes back.
                    None => connection
                        .close(&CloseReason::BAD_REQUEST, "a packet before the namespace was connected"),
                }
                self.watch_attachments(connection, frame);
            }
            Ok(Routed::Connect { lane, namespace, auth }) => {
                self.connect(connection, lane, &namespace, auth.as_deref());
            }
            Ok(Routed::TooMany { namespace }) => {
                let message = "too many namespaces on one connection; open another";
                self.refuse(connection, &namespace, &Refused { message, data: None });
            }
            Ok(Routed::Disconnect(lane)) => {
                if let Some(key) = self.key(lane) {
                    shard.close(key, &CloseReason::GOING_AWAY, "");
                }
            }
            Ok(Routed::Nobody) => {}
        }
    }

    /// Attachments that do not come would be waited for as long as the connection lasts.
    fn watch_attachments(&self, connection: &Rc<Connection>, frame: Frame<'_>) {
        if matches!(frame, Frame::Binary(_)) || !self.sockets.borrow().is_awaiting() {
            return;
        }
        let Attachments { packets, watch } = &self.attachments;
        packets.set(packets.get().wrapping_add(1));
        if watch.replace(Watch::Awake) == Watch::Awake {
            return;
        }
        let (connection, mut before) = (Rc::downgrade(connection), packets.get());
        tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(ATTACHMENTS_TIMEOUT).await;
                let Some(connection) = connection.upgrade() else { return };
                let Some(namespaces) = &connection.namespaces else { return };
                if !namespaces.sockets.borrow().is_awaiting() {
                    return namespaces.attachments.watch.set(Watch::Asleep);
                }
                let packets = namespaces.attachments.packets.get();
                if std::mem::replace(&mut before, packets) == packets {
                    return connection
                        .close(&CloseReason::POLICY, "attachments that were announced did not come");
                }
            }
        });
    }

    fn connect(&self, connection: &Rc<Connection>, lane: socketio::Lane, named: &str, auth: Option<&str>) {
        let (name, shown) = self.name_and_token(named);
        let namespace = Namespace::parse(name).filter(|namespace| is_known(connection, namespace));
        let Some(namespace) = namespace else {
            self.sockets.borrow_mut().left(lane);
            let refused = Refused { message: "Invalid namespace", data: None };
            return self.refuse(connection, name, &refused);
        };
        let said = auth.unwrap_or("{}");
        let auth = match Auth::read(said) {
            Ok(auth) => auth,
            Err(error) => {
                self.sockets.borrow_mut().left(lane);
                let data = Some(RefusedData { code: CloseReason::BAD_REQUEST.code });
                let refused = Refused { message: &format!("auth: {error}"), data };
                return self.refuse(connection, name, &refused);
            }
        };
        let Auth { token, pid, offset } = auth;
        let token = token.map(|token| token.as_ref().into());
        let mut request = self.request.borrow_mut();
        let (token_of_request, channels) = match request.as_deref_mut() {
            Some(FromRequest { token, channels }) if namespace.is_root() => {
                (token.clone(), std::mem::take(channels))
            }
            Some(FromRequest { token, .. }) => (token.clone(), Vec::new()),
            None => (None, Vec::new()),
        };
        drop(request);
        let token = token.or(shown.map(Into::into)).or(token_of_request);
        let hello = serde_json::from_str(said).ok().and_then(|hello| Json::check(hello).ok());
        let introduction = Introduction { token, hello, channels, pid: None, returning: None };
        let last = offset.map(|offset| parse_stamp(&offset));
        match pid.filter(|_| self.recovers(connection)) {
            None => self.begin(connection, (lane, namespace), introduction, (last, None)),
            Some(pid) => {
                let (connection, pid) = (Rc::clone(connection), Pid::parse(&pid));
                tokio::task::spawn_local(async move {
                    let recalled = match pid {
                        Some(pid) => connection.site.recall(pid, &namespace, last).await,
                        None => Ok(None),
                    };
                    let Ok(recalled) = recalled else {
                        let detail = "what the client comes back for cannot be read now";
                        return connection.close(&CloseReason::TRY_LATER, detail);
                    };
                    let recalled = pid.zip(recalled);
                    if let Some(namespaces) = &connection.namespaces {
                        namespaces.begin(&connection, (lane, namespace), introduction, (last, recalled));
                    }
                });
            }
        }
    }

    fn recovers(&self, connection: &Connection) -> bool {
        connection.site.live().socketio.recovery == ConnectionRecovery::On && self.version == Version::V4
    }

    /// Begins the session of a socket, whose client has seen `last`, if it was here before, and may be one that comes back.
    fn begin(
        &self,
        connection: &Rc<Connection>,
        (lane, namespace): (socketio::Lane, Namespace),
        mut introduction: Introduction,
        (last, recalled): (Option<Seen>, Option<(Pid, Recalled)>),
    ) {
        if connection.is_leaving() || !self.sockets.borrow().has(lane) {
            return;
        }
        let (site, form) = (&connection.site, self.sockets.borrow().form());
        let within = if namespace.is_root() { Within::Root } else { Within::OwnNamespace };
        let (mut stamp, mut trail, mut secret, mut client) = (Stamp::Off, None, None, None);
        if self.recovers(connection) {
            let pid = recalled.as_ref().map_or_else(|| site.new_token(), |(pid, _)| *pid);
            let recalled = recalled.map(|(_, recalled)| recalled);
            trail = Some(site.begin_trail(pid.secret, (last, recalled.as_ref()), (&namespace, connection)));
            if let Some(Recalled { client: before, user, stands, .. }) = recalled {
                client = Some(before);
                let since = |(channel, at)| {
                    let since = site.recovers(&channel).then_some(at);
                    (channel, since)
                };
                let channels = stands.into_iter().map(since).collect();
                introduction.returning = Some(Returning { user, channels });
            }
            introduction.pid = Some(pid.to_string().into());
            (stamp, secret) = (Stamp::Offset, Some(pid.secret));
        }
        let form_and_dialect = (form, dialect(self.version));
        let bytes_max = site.live().bodies.bytes_max;
        let protocol = Box::new(Socket::new(namespace, form_and_dialect, bytes_max, introduction));
        let link = Lane::new(connection, lane.0);
        let encoding = encoding(self.version, Shape { form, within, stamp });
        let key = site.shard.open(Opening { link, protocol, encoding, identity: None, client, trail });
        let mut open = self.open.borrow_mut();
        open.reserve_exact(1);
        open.push(Open { number: lane.0, key, pid: secret });
    }

    /// In version 2 of Socket.IO a namespace has a query in place of `auth`.
    fn name_and_token<'n>(&self, named: &'n str) -> (&'n str, Option<String>) {
        match (self.version, named.split_once('?')) {
            (Version::V3, Some((name, query))) => (name, query::value(Some(query), "token")),
            _ => (named, None),
        }
    }

    fn refuse(&self, connection: &Connection, name: &str, refused: &Refused<'_>) {
        let form = (self.sockets.borrow().form(), dialect(self.version));
        connection.send(message_frame(&Socket::refusal(name, form, refused), self.version));
    }
}

/// Whether channels of this namespace can be.
fn is_known(connection: &Connection, namespace: &Namespace) -> bool {
    namespace.is_root()
        || namespace.channel("x").is_ok_and(|channel| connection.site.shard.namespaces().of(&channel).is_ok())
}

fn dialect(version: Version) -> Dialect {
    match version {
        Version::V3 => Dialect::V4,
        Version::V4 => Dialect::V5,
    }
}

/// What a client says about itself. Whatever else is in it, is the application's.
#[derive(Deserialize)]
struct Auth<'a> {
    #[serde(borrow, default)]
    token: Option<Cow<'a, str>>,
    /// Sent by the client itself when it comes back.
    #[serde(borrow, default)]
    pid: Option<Cow<'a, str>>,
    /// The same.
    #[serde(borrow, default)]
    offset: Option<Cow<'a, str>>,
}

impl<'a> Auth<'a> {
    fn read(json: &'a str) -> Result<Self, String> {
        serde_json::from_str(json).map_err(|_| "token, pid and offset must be strings".to_owned())
    }
}
