//! `/socket.io/`: Socket.IO over Engine.IO. A connection has a session of the engine for each namespace its client is in.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use duplex_core::{ChannelName, CloseReason, Encode, EncodingId, Frame, PresenceChange, Publication};
use duplex_engine::{Opening, SessionKey, Shard};
use duplex_protocol::engineio::Version;
use duplex_protocol::socketio::{
    self, Dialect, Form, Introduction, Namespace, Part, Refused, RefusedData, Routed, Shape, Socket, Sockets,
    Stamp, Within,
};
use duplex_transport::http::{Body, text};
use http::{Response, StatusCode};
use serde::Deserialize;

use super::engineio::{Connection, Lane, message_frame};
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
    /// The token in the request, for namespaces to which the client shows none.
    token: Option<Box<str>>,
    /// Channels of the request, for the first connect to `/`.
    channels: RefCell<Vec<ChannelName>>,
    sockets: RefCell<Sockets>,
    /// The sessions of sockets, by the number of their lane.
    open: RefCell<Vec<(u32, SessionKey)>>,
    attachments: Attachments,
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
        Self {
            version,
            token: token.map(Into::into),
            channels: channels.into(),
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
        self.open.borrow().clone()
    }

    fn key(&self, lane: socketio::Lane) -> Option<SessionKey> {
        self.open.borrow().iter().find(|(number, _)| *number == lane.0).map(|(_, key)| *key)
    }

    /// The connection has ended.
    pub fn over(&self, shard: &Shard) {
        let open = self.open.take();
        open.into_iter().for_each(|(_, key)| shard.ended(key));
    }

    /// One session has ended.
    pub fn ended(&self, shard: &Shard, number: u32) {
        let lane = socketio::Lane(number);
        if let Some(key) = self.key(lane) {
            shard.ended(key);
        }
        self.open.borrow_mut().retain(|(known, _)| *known != number);
        self.sockets.borrow_mut().left(lane);
    }

    /// A message of the client.
    pub fn receive(&self, connection: &Rc<Connection>, frame: Frame<'_>) {
        let shard = &connection.site.shard;
        let routed = self.sockets.borrow_mut().route(frame);
        match routed {
            Err(breach) => connection.close(&CloseReason::BAD_REQUEST, &breach.to_string()),
            Ok(Routed::Message(lane, frame)) => {
                if let Some(key) = self.key(lane) {
                    shard.receive(key, frame);
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
        let connection = Rc::clone(connection);
        tokio::task::spawn_local(async move {
            while let Some(namespaces) = &connection.namespaces {
                let before = namespaces.attachments.packets.get();
                tokio::time::sleep(ATTACHMENTS_TIMEOUT).await;
                if !namespaces.sockets.borrow().is_awaiting() {
                    return namespaces.attachments.watch.set(Watch::Asleep);
                }
                if namespaces.attachments.packets.get() == before {
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
        let token = match Auth::read(auth.unwrap_or("{}")) {
            Ok(Auth { token }) => token.map(|token| token.as_ref().into()),
            Err(error) => {
                self.sockets.borrow_mut().left(lane);
                let data = Some(RefusedData { code: CloseReason::BAD_REQUEST.code });
                let refused = Refused { message: &format!("auth: {error}"), data };
                return self.refuse(connection, name, &refused);
            }
        };
        let token = token.or(shown.map(Into::into)).or_else(|| self.token.clone());
        let channels = if namespace.is_root() { self.channels.take() } else { Vec::new() };
        let form = self.sockets.borrow().form();
        let within = if namespace.is_root() { Within::Root } else { Within::OwnNamespace };
        let bytes_max = connection.site.live().bodies.bytes_max;
        let introduction = Introduction { token, channels };
        let socket = Socket::new(namespace, (form, dialect(self.version)), bytes_max, introduction);
        let link = Lane::new(connection, lane.0);
        let encoding = encoding(self.version, Shape { form, within, stamp: Stamp::Off });
        let opening =
            Opening { link, protocol: Box::new(socket), encoding, identity: None, client: None, trail: None };
        let key = connection.site.shard.open(opening);
        self.open.borrow_mut().push((lane.0, key));
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
}

impl<'a> Auth<'a> {
    fn read(json: &'a str) -> Result<Self, String> {
        serde_json::from_str(json).map_err(|_| "token must be a string".to_owned())
    }
}
