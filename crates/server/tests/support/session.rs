//! A session of the native protocol over plain HTTP, by the letter of `docs/protocol.md`: frames are counted, messages are
//! numbered, and whatever carries them, none is missing and none comes twice.

use std::collections::VecDeque;
use std::net::SocketAddr;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::eventually;
use super::frames::{Incoming, client_frame};
use super::http::Response;
use super::wire::{Fill, UPGRADE, Wire};

/// What a session's messages are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Json,
    Packed,
}

/// What carries its frames down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Sse,
    Stream,
    Poll,
    Ws,
}

impl Form {
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Packed => "application/vnd.msgpack",
        }
    }

    /// The transports it can be carried by.
    pub fn ways(self) -> &'static [Way] {
        match self {
            Self::Json => &[Way::Sse, Way::Stream, Way::Poll, Way::Ws],
            Self::Packed => &[Way::Stream, Way::Poll, Way::Ws],
        }
    }

    pub fn write(self, message: &Value) -> Vec<u8> {
        match self {
            Self::Json => message.to_string().into_bytes(),
            Self::Packed => rmp_serde::to_vec(message).expect("JSON is MessagePack"),
        }
    }

    pub fn read(self, message: &[u8]) -> Value {
        match self {
            Self::Json => serde_json::from_slice(message).expect("frames are JSON"),
            Self::Packed => rmp_serde::from_slice(message).expect("frames are MessagePack"),
        }
    }
}

/// A request such as `POST /session`, to which further lines of the head may be added.
pub fn written(head: &str, form: Form, body: &[u8]) -> Vec<u8> {
    let (target, more) = head.split_once("\r\n").unwrap_or((head, ""));
    let end = if more.is_empty() { "" } else { "\r\n" };
    let (kind, length) = (form.content_type(), body.len());
    let head = format!(
        "{target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{more}{end}\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// Sends a request on a connection and reads the whole answer.
pub fn ask(wire: &mut Wire, head: &str, form: Form, body: &[u8]) -> (Response, Vec<u8>) {
    wire.send(&written(head, form, body));
    answer(wire)
}

/// The next answer on a connection, with its body.
pub fn answer(wire: &mut Wire) -> (Response, Vec<u8>) {
    loop {
        if let Some((mut response, body, length)) = Response::take_whole(wire.unread()) {
            wire.unread().drain(..length);
            response.body = String::from_utf8_lossy(&body).into_owned();
            return (response, body);
        }
        assert_eq!(wire.fill(), Fill::More, "the connection ended before an answer");
    }
}

/// The same on a connection of its own.
pub fn once(address: SocketAddr, head: &str, form: Form, body: &[u8]) -> (Response, Vec<u8>) {
    let mut wire = Wire::connect(address);
    let answered = ask(&mut wire, head, form, body);
    // All was said. Thousands of requests would leave as many closed connections in the system's tables otherwise.
    wire.reset();
    answered
}

/// The status of a request without a body, and the text.
pub fn status(address: SocketAddr, head: &str) -> (u16, String) {
    let (response, _) = once(address, head, Form::Json, b"");
    (response.status, response.body)
}

/// On which shard of its node a session is: the last byte of its token says so.
pub fn shard(token: &str) -> u8 {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).expect("a token is base64url");
    assert_eq!(bytes.len(), 25, "{token}: 128 bits, the node and the shard");
    bytes[24]
}

/// A connection that is on `shard`, where no session of its is left.
pub fn wire_at(address: SocketAddr, at: u8) -> Wire {
    // A new connection goes where there are fewest, so those that do not suit are held until one does.
    let mut held = Vec::new();
    loop {
        let mut wire = Wire::connect(address);
        let (_, body) = ask(&mut wire, "POST /session", Form::Json, b"");
        let token = token(&Form::Json.read(&body));
        let (ended, _) = ask(&mut wire, &format!("DELETE /session/{token}"), Form::Json, b"");
        assert_eq!(ended.status, 204, "{ended:?}");
        if shard(&token) == at {
            return wire;
        }
        held.push(wire);
        assert!(held.len() < 100, "connections go to all shards");
    }
}

/// The token in the answer to `POST /session`.
pub fn token(opened: &Value) -> String {
    opened["session"].as_str().unwrap_or_else(|| panic!("no session in {opened}")).to_owned()
}

/// A transport that carries a session.
pub struct Carrier {
    pub wire: Wire,
    pub way: Way,
    form: Form,
    /// The head of its answer, once that has come.
    pub head: Option<Response>,
    body: Vec<u8>,
    /// Whether `body` is all there is.
    is_whole: bool,
    /// Signs of life that were no frames.
    pub heartbeats: usize,
}

impl Carrier {
    pub fn open(address: SocketAddr, token: &str, way: Way, form: Form, after: u64) -> Self {
        Self::over(Wire::connect(address), token, way, form, after)
    }

    /// Asks on this connection for the frames after the first `after`.
    pub fn over(mut wire: Wire, token: &str, way: Way, form: Form, after: u64) -> Self {
        let get = |name: &str| {
            format!("GET /session/{token}/{name}?after={after} HTTP/1.1\r\nHost: localhost\r\n\r\n")
        };
        let request = match way {
            Way::Sse => get("sse"),
            Way::Stream => get("stream"),
            Way::Poll => get("poll"),
            Way::Ws => {
                let subprotocol = if form == Form::Json { "json" } else { "msgpack" };
                format!(
                    "GET /ws?session={token}&after={after} HTTP/1.1\r\n{UPGRADE}\
                     Sec-WebSocket-Protocol: duplex.v1.{subprotocol}\r\n\r\n"
                )
            }
        };
        wire.send(request.as_bytes());
        Self { wire, way, form, head: None, body: Vec::new(), is_whole: false, heartbeats: 0 }
    }

    /// Waits until the server has said something, or has ended the connection.
    pub fn until_heard(&mut self) {
        self.wire.renew_deadline();
        while self.wire.unread().is_empty() && self.wire.fill() == Fill::More {}
    }

    /// The next frame, or `None` when there are no more: a poll is used up, or the transport has ended.
    pub fn next(&mut self) -> Option<Value> {
        self.wire.renew_deadline();
        self.begin();
        if self.way == Way::Ws {
            return self.message();
        }
        loop {
            while let Some((frame, length)) = self.take() {
                self.body.drain(..length);
                match frame {
                    Some(frame) => return Some(self.form.read(&frame)),
                    None => self.heartbeats += 1,
                }
            }
            if self.is_whole {
                assert!(self.body.is_empty(), "{:?} ends between frames", self.way);
                return None;
            }
            self.is_whole = self.wire.fill() == Fill::End;
            self.body.append(self.wire.unread());
        }
    }

    /// Reads the head of the answer, and of a poll all of it.
    fn begin(&mut self) {
        if self.head.is_some() {
            return;
        }
        let head = match self.way {
            Way::Poll => {
                let (head, body) = answer(&mut self.wire);
                (self.body, self.is_whole) = (body, true);
                head
            }
            Way::Sse | Way::Stream | Way::Ws => loop {
                if let Some((head, length)) = Response::take_head(self.wire.unread()) {
                    self.wire.unread().drain(..length);
                    break head;
                }
                assert_eq!(self.wire.fill(), Fill::More, "the connection ended before an answer");
            },
        };
        assert_eq!(head.status, if self.way == Way::Ws { 101 } else { 200 }, "{:?}: {head:?}", self.way);
        if self.way != Way::Ws {
            self.body.append(self.wire.unread());
        }
        self.head = Some(head);
    }

    fn message(&mut self) -> Option<Value> {
        loop {
            match (self.wire.next(), self.form) {
                (Incoming::Text(text), Form::Json) => return Some(self.form.read(text.as_bytes())),
                (Incoming::Binary(bytes), Form::Packed) => return Some(self.form.read(&bytes)),
                (Incoming::Ping(payload), _) => {
                    self.heartbeats += 1;
                    self.wire.send(&client_frame(0x8a, &payload));
                }
                (Incoming::Close(..) | Incoming::End, _) => return None,
                (other, form) => panic!("{other:?} in a session in {form:?}"),
            }
        }
    }

    /// A frame from the start of the body, or `None` for a heartbeat, and how long it is.
    fn take(&self) -> Option<(Option<Vec<u8>>, usize)> {
        match (self.way, self.form) {
            (Way::Sse, _) => {
                let end = self.body.windows(2).position(|window| window == b"\n\n")?;
                let block = std::str::from_utf8(&self.body[..end]).expect("events are UTF-8");
                let data: Vec<&str> = block.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
                assert!(data.len() == block.lines().count() || block == ":", "data or a comment: {block}");
                Some(((block != ":").then(|| data.join("\n").into_bytes()), end + 2))
            }
            (_, Form::Json) => {
                let end = self.body.iter().position(|byte| *byte == b'\n')?;
                Some(((end > 0).then(|| self.body[..end].to_vec()), end + 1))
            }
            (_, Form::Packed) => {
                let (head, rest) = self.body.split_first_chunk::<5>()?;
                assert_eq!(head[0], 0xc6, "a bin 32");
                let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
                let frame = rest.get(..length)?.to_vec();
                Some(((length > 0).then_some(frame), 5 + length))
            }
        }
    }
}

/// A session as its client sees it.
pub struct Session {
    pub address: SocketAddr,
    pub token: String,
    pub form: Form,
    /// Frames it has got.
    pub got: u64,
    /// Messages it has sent.
    pub sent: u64,
    /// How many of them had arrived when the last transport began, as far as it has said so.
    pub received: u64,
    pub carrier: Option<Carrier>,
    /// Frames that were read while something else was waited for.
    early: VecDeque<Value>,
}

impl Session {
    /// Opens a session; `behind` is what stands behind its address, and further lines of the head.
    pub fn open(address: SocketAddr, behind: &str, form: Form, first: Option<&Value>) -> Self {
        Self::open_on(&mut Wire::connect(address), address, behind, form, first)
    }

    /// The same on this connection, and so on its shard.
    pub fn open_on(
        wire: &mut Wire,
        address: SocketAddr,
        behind: &str,
        form: Form,
        first: Option<&Value>,
    ) -> Self {
        let body = first.map_or(Vec::new(), |first| form.write(first));
        let (response, body) = ask(wire, &format!("POST /session{behind}"), form, &body);
        assert_eq!(response.status, 200, "{response:?}");
        assert_eq!(response.header("content-type"), Some(form.content_type()));
        let token = token(&form.read(&body));
        let sent = u64::from(first.is_some());
        Self { address, token, form, got: 0, sent, received: 0, carrier: None, early: VecDeque::new() }
    }

    /// One that has said `connect` in its first message.
    pub fn connect(address: SocketAddr, form: Form) -> Self {
        Self::open(address, "", form, Some(&json!({ "id": 1, "connect": {} })))
    }

    /// The same, on this shard.
    pub fn connect_at(address: SocketAddr, at: u8, form: Form) -> Self {
        let mut wire = wire_at(address, at);
        Self::open_on(&mut wire, address, "", form, Some(&json!({ "id": 1, "connect": {} })))
    }

    /// One that is carried and subscribed to `channel`.
    pub fn subscribe(address: SocketAddr, form: Form, way: Way, channel: &str) -> Self {
        let mut session = Self::connect(address, form);
        session.go_over(way);
        session.begin(channel);
        session
    }

    /// Waits until it is connected, and subscribes to `channel`.
    pub fn begin(&mut self, channel: &str) {
        let connected = self.next();
        assert!(connected["connected"]["client"].is_string(), "{connected}");
        self.send(&json!({ "id": 2, "subscribe": { "channel": channel } }));
        let subscribed = self.next();
        assert_eq!(subscribed["subscribed"]["channel"], channel, "{subscribed}");
    }

    /// A request about it, such as `POST` and `?n=3`.
    pub fn request(&self, method: &str, behind: &str, body: &[u8]) -> Response {
        once(self.address, &format!("{method} /session/{}{behind}", self.token), self.form, body).0
    }

    /// Sends a message by number, over whatever goes up.
    pub fn send(&mut self, message: &Value) {
        self.sent += 1;
        let body = self.form.write(message);
        match &mut self.carrier {
            Some(Carrier { way: Way::Ws, wire, .. }) => {
                let first = if self.form == Form::Json { 0x81 } else { 0x82 };
                wire.send(&client_frame(first, &body));
            }
            _ => {
                let response = self.request("POST", &format!("?n={}", self.sent), &body);
                assert_eq!((response.status, &*response.body), (204, ""), "{message}");
            }
        }
    }

    /// From now on this carries it; what the transport before brought and was not read is lost with it.
    pub fn go_over(&mut self, way: Way) {
        self.carrier = Some(Carrier::open(self.address, &self.token, way, self.form, self.got));
    }

    /// The same on this connection.
    pub fn go_over_on(&mut self, wire: Wire, way: Way) {
        self.carrier = Some(Carrier::over(wire, &self.token, way, self.form, self.got));
    }

    /// The same; when it returns, the transport is there.
    pub fn attach(&mut self, way: Way) {
        assert_ne!(way, Way::Poll, "it says that it is there when it has something to bring");
        self.go_over(way);
        let attached = self.carrier.as_mut().and_then(Carrier::next).expect("a frame");
        self.note(&attached["attached"]);
    }

    /// From now on a poll on this connection carries it, and waits, since there is nothing to bring. That it has come is seen
    /// by another one that it takes the place of.
    pub fn park(&mut self, wire: Wire) {
        self.attach(Way::Stream);
        // What follows another transport is answered at once.
        self.go_over(Way::Poll);
        let mut other = self.carrier.take().expect("just asked");
        while let Some(frame) = other.next() {
            self.note(&frame["attached"]);
        }
        self.go_over_on(other.wire, Way::Poll);
        let mut other = self.carrier.take().expect("just asked").wire;
        self.overtake(wire, &other);
        assert_eq!(other.response().expect("an answer").status, 409);
    }

    /// A poll on this connection takes the place of the one that waits on `older`, or soon will.
    pub fn overtake(&mut self, wire: Wire, older: &Wire) {
        let poll = |wire: Wire| Carrier::over(wire, &self.token, Way::Poll, self.form, self.got);
        let mut newer = poll(wire);
        eventually(
            || "one of two polls is overtaken".to_owned(),
            || older.has_something() || newer.wire.has_something(),
        );
        if newer.wire.has_something() {
            assert_eq!(newer.wire.response().expect("an answer").status, 409);
            newer = poll(newer.wire);
            eventually(|| "the older poll is overtaken".to_owned(), || older.has_something());
        }
        self.carrier = Some(newer);
    }

    /// What a transport says when it begins.
    fn note(&mut self, attached: &Value) {
        assert_eq!(attached["after"], self.got, "{attached}");
        self.received = attached["received"].as_u64().expect("a number");
        assert!(self.received <= self.sent, "{attached}, but {} were sent", self.sent);
    }

    /// The next frame, or `None` when its transport has ended; a poll is followed by the next one.
    pub fn frame(&mut self) -> Option<Value> {
        if let Some(frame) = self.early.pop_front() {
            return Some(frame);
        }
        loop {
            let carrier = self.carrier.as_mut().expect("something carries it");
            match carrier.next() {
                Some(frame) if frame["attached"].is_object() => self.note(&frame["attached"]),
                Some(frame) => {
                    self.got += 1;
                    return Some(frame);
                }
                None if carrier.way == Way::Poll => {
                    let wire = self.carrier.take().expect("just used").wire;
                    self.go_over_on(wire, Way::Poll);
                }
                None => return None,
            }
        }
    }

    /// The next frame.
    pub fn next(&mut self) -> Value {
        self.frame().expect("a frame, but its transport has ended")
    }

    /// The next frame, which must be a publication.
    pub fn publication(&mut self) -> Value {
        let frame = self.next();
        assert!(frame["publication"].is_object(), "expected a publication, got {frame}");
        frame["publication"].clone()
    }

    /// Sends a command with this id and returns its answer; what comes before it is kept.
    pub fn ask(&mut self, id: u64, command: &Value) -> Value {
        self.send(command);
        let mut before = VecDeque::new();
        let answer = loop {
            let frame = self.next();
            if frame["id"] == id {
                break frame;
            }
            before.push_back(frame);
        };
        self.early = before;
        answer
    }

    /// The code of the last frame of its transport, which must be `closing`, and then the transport ends.
    pub fn closing(&mut self) -> u64 {
        let frame = self.next();
        let code = frame["closing"]["code"].as_u64().unwrap_or_else(|| panic!("not closing: {frame}"));
        if let Some(carrier) = self.carrier.as_mut() {
            assert_eq!(carrier.next(), None, "nothing follows");
        }
        code
    }
}
