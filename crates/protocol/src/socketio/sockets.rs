//! The sockets of a connection, and to which of them a packet belongs.

use std::borrow::Cow;

use duplex_core::Frame;

use super::packet::{Breach, Kind, Packet, unpack};
use super::{Dialect, Form, Namespace};

/// Most namespaces of one connection.
const NAMESPACES_MAX: usize = 16;

/// Tells the sockets of a connection apart; never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lane(pub u32);

/// Which namespaces a connection is connected to, and what its next message is.
#[derive(Debug)]
pub struct Sockets {
    dialect: Dialect,
    /// What the client writes, once it has written something.
    form: Option<Form>,
    /// With the names of their namespaces; that of `/` takes no memory.
    connected: Vec<(Lane, Cow<'static, str>)>,
    lanes: u32,
    /// For whom attachments are still to come, and how many.
    awaited: Option<(Lane, usize)>,
}

/// What a message is.
#[derive(Debug, PartialEq)]
pub enum Routed<'a> {
    /// The client wants to connect to a namespace; its socket is to have this lane.
    Connect {
        /// Of the new socket.
        lane: Lane,
        /// As the client named it.
        namespace: Cow<'a, str>,
        /// JSON: an object, if there is something.
        auth: Option<Cow<'a, str>>,
    },
    /// The client has enough namespaces.
    TooMany {
        /// Which one it wanted in addition.
        namespace: Cow<'a, str>,
    },
    /// For this socket.
    Message(Lane, Frame<'a>),
    /// The client leaves a namespace.
    Disconnect(Lane),
    /// For a socket that is gone.
    Nobody,
}

impl Sockets {
    /// A connection without sockets.
    pub fn new(dialect: Dialect) -> Self {
        Self { dialect, form: None, connected: Vec::new(), lanes: 0, awaited: None }
    }

    /// How the client writes, as far as that is known.
    pub fn form(&self) -> Form {
        self.form.unwrap_or(Form::Text)
    }

    /// Whether attachments are still to come.
    pub fn is_awaiting(&self) -> bool {
        self.awaited.is_some()
    }

    /// A message of the client.
    ///
    /// # Errors
    /// It breaks the protocol: the connection ends.
    pub fn route<'a>(&mut self, frame: Frame<'a>) -> Result<Routed<'a>, Breach> {
        let form = *self.form.get_or_insert(match frame {
            Frame::Text(_) => Form::Text,
            Frame::Binary(_) => Form::MessagePack,
        });
        match (frame, form) {
            (Frame::Text(text), Form::Text) if self.awaited.is_none() => {
                let packet = Packet::parse(text)?;
                let attachments = packet.attachments;
                let routed = self.packet(packet, frame)?;
                if let (Routed::Message(lane, _), 1..) = (&routed, attachments) {
                    self.awaited = Some((*lane, attachments));
                }
                Ok(routed)
            }
            (Frame::Text(_), Form::Text) => Err(Breach::Interrupted),
            (Frame::Text(_), Form::MessagePack) => Err(Breach::OtherForm),
            (Frame::Binary(_), Form::Text) => {
                let (lane, count) = self.awaited.take().ok_or(Breach::Unannounced)?;
                self.awaited = (count > 1).then_some((lane, count - 1));
                Ok(if self.has(lane) { Routed::Message(lane, frame) } else { Routed::Nobody })
            }
            (Frame::Binary(message), Form::MessagePack) => {
                let (json, _) = unpack(message)?;
                Ok(owned(self.packet(Packet::unpacked(&json)?, frame)?, frame))
            }
        }
    }

    fn packet<'p>(&mut self, packet: Packet<'p>, frame: Frame<'p>) -> Result<Routed<'p>, Breach> {
        let Packet { kind, namespace, data, .. } = packet;
        let lane = self.lane(&namespace);
        match (kind, lane) {
            (Kind::Connect, Some(_)) => Err(Breach::ConnectedAlready),
            (Kind::Connect, None) if self.connected.len() >= NAMESPACES_MAX => {
                Ok(Routed::TooMany { namespace })
            }
            (Kind::Connect, None) => {
                let lane = self.join(&namespace);
                Ok(Routed::Connect { lane, namespace, auth: data.map(Cow::Borrowed) })
            }
            (_, None) => Err(Breach::NotConnected),
            (Kind::Disconnect, Some(lane)) => {
                self.left(lane);
                Ok(Routed::Disconnect(lane))
            }
            (_, Some(lane)) => Ok(Routed::Message(lane, frame)),
        }
    }

    /// A socket for a namespace that the client need not ask for.
    pub fn join(&mut self, namespace: &str) -> Lane {
        self.lanes = self.lanes.wrapping_add(1);
        let name = match self.key(namespace) {
            Namespace::ROOT => Cow::Borrowed(Namespace::ROOT),
            name => Cow::Owned(name.to_owned()),
        };
        // Nearly always it is the only one.
        self.connected.reserve_exact(1);
        self.connected.push((Lane(self.lanes), name));
        Lane(self.lanes)
    }

    /// Whether a socket is there.
    pub fn has(&self, lane: Lane) -> bool {
        self.connected.iter().any(|(known, _)| *known == lane)
    }

    /// A socket is gone.
    pub fn left(&mut self, lane: Lane) {
        self.connected.retain(|(known, _)| *known != lane);
    }

    fn lane(&self, namespace: &str) -> Option<Lane> {
        let namespace = self.key(namespace);
        self.connected.iter().find(|(_, known)| **known == *namespace).map(|(lane, _)| *lane)
    }

    /// In version 4 a query may stand behind the name.
    fn key<'n>(&self, namespace: &'n str) -> &'n str {
        match self.dialect {
            Dialect::V4 => namespace.split('?').next().unwrap_or_default(),
            Dialect::V5 => namespace,
        }
    }
}

/// The same, of which only `frame` is borrowed.
fn owned<'a>(routed: Routed<'_>, frame: Frame<'a>) -> Routed<'a> {
    let own = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
    match routed {
        Routed::Connect { lane, namespace, auth } => {
            Routed::Connect { lane, namespace: own(namespace), auth: auth.map(own) }
        }
        Routed::TooMany { namespace } => Routed::TooMany { namespace: own(namespace) },
        Routed::Message(lane, _) => Routed::Message(lane, frame),
        Routed::Disconnect(lane) => Routed::Disconnect(lane),
        Routed::Nobody => Routed::Nobody,
    }
}
