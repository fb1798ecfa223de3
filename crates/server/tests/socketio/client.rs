//! Clients that say what a test wants said: one that is polled, and a Socket.IO client on a WebSocket.

use std::net::SocketAddr;

use duplex::Options;
use serde_json::Value;

use crate::support::frames::Incoming;
use crate::support::http::Response;
pub use crate::support::requests::{ask, once, send, upgrade};
use crate::support::session::shard;
use crate::support::wire::Wire;
use crate::support::{Levels, start};
use duplex_websocket::Opcode;

/// Where every message comes back.
pub const ECHO: &str = "/engine.io/?EIO=4&transport=polling";
/// The same over a WebSocket.
pub const ECHO_WS: &str = "/engine.io/?EIO=4&transport=websocket";
pub const IO: &str = "/socket.io/?EIO=4&transport=polling";
pub const IO_WS: &str = "/socket.io/?EIO=4&transport=websocket";

/// Stands between packets in one body.
pub const SEPARATOR: char = '\u{1e}';

/// The answers to requests for what is not there, or not so.
pub const UNKNOWN_SESSION: &str = r#"{"code":1,"message":"Session ID unknown"}"#;
pub const BAD_REQUEST: &str = r#"{"code":3,"message":"Bad request"}"#;

/// Where the requests of a client come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// On the shard of its session.
    Home,
    /// On another one.
    Away,
}

pub const PLACES: [Place; 2] = [Place::Home, Place::Away];

/// The opening packet, as JSON.
pub fn handshake(packet: &str) -> Value {
    let json = packet.strip_prefix('0').unwrap_or_else(|| panic!("no opening packet: {packet}"));
    serde_json::from_str(json).expect("it is JSON")
}

/// The session's name in an opening packet.
pub fn sid(packet: &str) -> String {
    handshake(packet)["sid"].as_str().expect("a sid").to_owned()
}

/// A connection that is on shard `at`.
pub fn wire_at(address: SocketAddr, at: u8) -> Wire {
    // A new connection goes where there are fewest, so those that do not suit are held until one does.
    let mut held = Vec::new();
    loop {
        let mut wire = Wire::connect(address);
        let sid = sid(&ask(&mut wire, "GET", ECHO, b"").body);
        assert_eq!(ask(&mut wire, "POST", &format!("{ECHO}&sid={sid}"), b"1").body, "ok");
        if shard(&sid) == at {
            return wire;
        }
        held.push(wire);
        assert!(held.len() < 100, "connections go to all shards");
    }
}

/// A client whose session is carried by requests: one connection for those that poll, one for those that bring.
pub struct Polled {
    pub address: SocketAddr,
    pub sid: String,
    /// What its requests ask for.
    pub target: String,
    /// Where they come in; `None` if that does not matter.
    place: Option<Place>,
    down: Wire,
    up: Wire,
}

impl Polled {
    /// A session at `target`, which is a path with a query.
    pub fn open(address: SocketAddr, target: &str) -> Self {
        let mut down = Wire::connect(address);
        let opened = ask(&mut down, "GET", target, b"");
        assert_eq!(opened.status, 200, "{opened:?}");
        let sid = sid(&opened.body);
        let target = format!("{target}&sid={sid}");
        Self { address, sid, target, place: None, down, up: Wire::connect(address) }
    }

    /// The same; its requests come in at `place`.
    pub fn open_at(address: SocketAddr, target: &str, place: Place) -> Self {
        let mut client = Self::open(address, target);
        client.place = Some(place);
        client.down = client.wire();
        client.up = client.wire();
        client
    }

    /// One that has its session already, on new connections.
    pub fn resume(address: SocketAddr, target: &str, sid: &str) -> Self {
        let (down, up) = (Wire::connect(address), Wire::connect(address));
        Self { address, sid: sid.to_owned(), target: target.to_owned(), place: None, down, up }
    }

    /// A Socket.IO client that is connected to `/`.
    pub fn connect(address: SocketAddr) -> Self {
        let mut client = Self::open(address, IO);
        client.say("40");
        let connected = client.poll();
        assert!(connected.starts_with(r#"40{"sid":""#), "{connected}");
        client
    }

    /// A connection where its requests come in.
    pub fn wire(&self) -> Wire {
        match self.place {
            None => Wire::connect(self.address),
            Some(Place::Home) => wire_at(self.address, shard(&self.sid)),
            Some(Place::Away) => wire_at(self.address, 1 - shard(&self.sid)),
        }
    }

    /// Polls; the answer is still to come.
    pub fn ask(&mut self) {
        if self.place == Some(Place::Away) {
            // A connection stays where it has waited.
            self.down = self.wire();
        }
        send(&mut self.down, "GET", &self.target, "", b"");
    }

    /// Polls, and returns when that has been noticed.
    pub fn wait(&mut self) {
        self.ask();
        self.let_pass();
    }

    /// Returns when whatever was sent before has been taken: what takes the same way behind it was answered, several times.
    pub fn let_pass(&self) {
        let mut wire = self.wire();
        // Nobody's, but of the same shard.
        let stranger = format!("{}{}", "A".repeat(20), &self.sid[20..]);
        let target = self.target.replace(&self.sid, &stranger);
        for _ in 0..8 {
            assert_eq!(ask(&mut wire, "GET", &target, b"").body, UNKNOWN_SESSION);
        }
    }

    /// The answer to the poll that is under way.
    pub fn answer(&mut self) -> Response {
        self.down.renew_deadline();
        self.down.response().expect("an answer to the poll")
    }

    /// The same, or `None` if the connection has ended.
    pub fn late_answer(&mut self) -> Option<Response> {
        self.down.renew_deadline();
        self.down.response()
    }

    /// Polls, whatever is answered.
    pub fn get(&mut self) -> Response {
        self.ask();
        self.answer()
    }

    /// Polls.
    pub fn poll(&mut self) -> String {
        let response = self.get();
        assert_eq!(response.status, 200, "{response:?}");
        response.body
    }

    /// Polls until so many packets have come.
    pub fn packets(&mut self, count: usize) -> Vec<String> {
        let mut packets = Vec::new();
        while packets.len() < count {
            packets.extend(self.poll().split(SEPARATOR).map(str::to_owned));
        }
        assert_eq!(packets.len(), count, "{packets:?}");
        packets
    }

    /// Brings packets, whatever is answered.
    pub fn post(&mut self, body: &[u8]) -> Response {
        let target = self.target.clone();
        ask(&mut self.up, "POST", &target, body)
    }

    /// Brings packets.
    pub fn say(&mut self, body: &str) {
        let response = self.post(body.as_bytes());
        assert_eq!((response.status, &*response.body), (200, "ok"), "{body:.100}");
    }

    /// Panics unless what it says comes back.
    pub fn echoes(&mut self, message: &str) {
        self.say(&format!("4{message}"));
        assert_eq!(self.packets(1), [format!("4{message}")]);
    }

    /// Panics unless its session is unknown.
    pub fn is_gone(&mut self) {
        let response = self.get();
        assert_eq!((response.status, &*response.body), (400, UNKNOWN_SESSION));
    }

    /// Where a WebSocket for it is asked for.
    pub fn websocket_target(&self) -> String {
        self.target.replace("transport=polling", "transport=websocket")
    }

    /// A WebSocket for the session, on which nothing was said.
    pub fn websocket(&self) -> Wire {
        let mut wire = self.wire();
        wire.upgrade(&self.websocket_target(), "");
        wire
    }

    /// The same; it is being tried.
    pub fn probe(&self) -> Wire {
        let mut wire = self.websocket();
        wire.send_text("2probe");
        assert_eq!(wire.text(), "3probe");
        wire
    }
}

/// Tells a story to a client whose requests and WebSockets come in on its session's shard, and to one for which they do not; nothing may
/// be left of them.
pub fn everywhere(options: &Options, story: impl Fn(&mut Polled)) {
    let server = start(options.clone());
    for place in PLACES {
        let mut client = Polled::open_at(server.address, ECHO, place);
        story(&mut client);
        // It ends a session that is still there.
        client.post(b"1");
    }
    server.settle(Levels::of(0, 0));
}

/// A Socket.IO client on a WebSocket.
pub struct Io {
    pub wire: Wire,
    /// Of its connection.
    pub sid: String,
}

impl Io {
    /// One that is connected to no namespace.
    pub fn open(address: SocketAddr) -> Self {
        Self::open_at(address, IO_WS)
    }

    /// The same at `target`.
    pub fn open_at(address: SocketAddr, target: &str) -> Self {
        let mut wire = Wire::websocket(address, target, "");
        let sid = sid(&wire.text());
        Self { wire, sid }
    }

    /// One that is connected to `/`.
    pub fn connect(address: SocketAddr) -> Self {
        let mut client = Self::open(address);
        client.join("");
        client
    }

    /// One that is connected to `/` and subscribed to `channel` there.
    pub fn subscribe(address: SocketAddr, channel: &str) -> Self {
        let mut client = Self::connect(address);
        client.hear("", channel);
        client
    }

    /// Connects to a namespace, written as packets have it, `/chat,`, and returns its sid there.
    pub fn join(&mut self, namespace: &str) -> String {
        self.send(&format!("40{namespace}"));
        let connected = self.text();
        let payload = connected.strip_prefix(&format!("40{namespace}"));
        let payload = payload.unwrap_or_else(|| panic!("not connected to {namespace:?}: {connected}"));
        let payload: Value = serde_json::from_str(payload).expect("JSON");
        assert_eq!(payload.as_object().map(|keys| keys.len()), Some(1), "only a sid: {connected}");
        payload["sid"].as_str().expect("a sid").to_owned()
    }

    /// Subscribes to a channel.
    pub fn hear(&mut self, namespace: &str, channel: &str) {
        let answer = self.call(namespace, 900, &format!(r#"["$subscribe","{channel}"]"#));
        assert!(answer[0]["offset"].is_number(), "{answer}");
    }

    /// Sends an event with an ack id; the next message must be its acknowledgement.
    pub fn call(&mut self, namespace: &str, id: u64, event: &str) -> Value {
        self.send(&format!("42{namespace}{id}{event}"));
        let answer = self.text();
        let body = answer.strip_prefix(&format!("43{namespace}{id}"));
        serde_json::from_str(body.unwrap_or_else(|| panic!("no answer to {event}: {answer}"))).expect("JSON")
    }

    pub fn send(&mut self, packet: &str) {
        self.wire.send_text(packet);
    }

    pub fn send_binary(&mut self, bytes: &[u8]) {
        self.wire.send_frame(Opcode::Binary, bytes);
    }

    pub fn next(&mut self) -> Incoming {
        self.wire.renew_deadline();
        self.wire.next()
    }

    pub fn text(&mut self) -> String {
        match self.next() {
            Incoming::Text(text) => text,
            other => panic!("expected a text message, got {other:?}"),
        }
    }

    /// Panics if something came that nobody has read, or if the client is not connected to `namespace`.
    pub fn is_well(&mut self, namespace: &str) {
        let answer = self.call(namespace, 901, r#"["nobody"]"#);
        assert_eq!(answer[0]["error"]["code"], 108, "{answer}");
    }

    /// Panics unless the connection is closed as the official server closes it: with an empty close frame, and nothing
    /// before it.
    pub fn is_closed(&mut self) {
        is_closed(&mut self.wire);
    }
}

/// Panics unless what comes is a close frame without a status, and the end.
pub fn is_closed(wire: &mut Wire) {
    wire.renew_deadline();
    assert_eq!(wire.until_end(), [Incoming::Close(None, String::new())]);
}

/// A text message.
pub fn text(message: &str) -> Incoming {
    Incoming::Text(message.to_owned())
}

/// A binary message.
pub fn binary(message: &[u8]) -> Incoming {
    Incoming::Binary(message.to_vec())
}
