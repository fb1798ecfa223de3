//! A client of SignalR that says exactly what a test wants said, over each transport and in both hub protocols.

use std::collections::VecDeque;
use std::net::SocketAddr;

use duplex::Options;
use duplex_websocket::Opcode;
use serde_json::{Value, json};

use crate::checker::Checker;
use crate::messages::{read, record, write};
use crate::support::frames::{Incoming, client_frame};
use crate::support::http::Response;
use crate::support::requests::send;
pub use crate::support::session::Form;
use crate::support::session::wire_at;
use crate::support::wire::{Fill, UPGRADE, Wire};
use crate::support::{Levels, start};

/// Where the hub is if nothing else is configured.
pub const HUB: &str = "/signalr";
/// What asks for an event stream.
pub const EVENTS: &str = "Accept: text/event-stream\r\n";

/// What carries messages down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Ws,
    Sse,
    Poll,
}

/// What a client can be carried by, and what it may be written in then.
pub const MANNERS: [(Way, Form); 5] = [
    (Way::Ws, Form::Json),
    (Way::Ws, Form::Packed),
    (Way::Sse, Form::Json),
    (Way::Poll, Form::Json),
    (Way::Poll, Form::Packed),
];

/// How a client comes in.
#[derive(Debug, Clone, Copy)]
pub struct Manner<'a> {
    pub way: Way,
    pub form: Form,
    /// The path of its hub.
    pub hub: &'a str,
    /// What the app has in its query, beginning with `&`.
    pub query: &'a str,
    /// Of all of its requests; each ends with a line break.
    pub headers: &'a str,
    /// The shard where its requests come in; `None` if that does not matter.
    pub place: Option<u8>,
    /// Where they come in, if it is not where it negotiates.
    pub via: Option<SocketAddr>,
    pub reconnect: Reconnect,
}

/// Whether a client asks for a stateful connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reconnect {
    Stateful,
    Never,
}

impl Default for Manner<'_> {
    fn default() -> Self {
        let (way, form) = MANNERS[0];
        let (place, via, reconnect) = (None, None, Reconnect::Never);
        Self { way, form, hub: HUB, query: "", headers: "", place, via, reconnect }
    }
}

/// Asks a hub for a connection, whatever is answered.
pub fn negotiating(address: SocketAddr, hub: &str, query: &str, headers: &str) -> Response {
    let mut wire = Wire::connect(address);
    send(&mut wire, "POST", &format!("{hub}/negotiate{query}"), headers, b"");
    wire.response().expect("an answer")
}

/// The same, as the object that is answered.
pub fn negotiate(address: SocketAddr, hub: &str, query: &str, headers: &str) -> Value {
    let response = negotiating(address, hub, query, headers);
    assert_eq!(response.status, 200, "{query}: {response:?}");
    serde_json::from_str(&response.body).unwrap_or_else(|_| panic!("no JSON: {response:?}"))
}

/// A token of a connection that nobody has begun.
pub fn fresh(address: SocketAddr) -> String {
    text(&negotiate(address, HUB, "?negotiateVersion=1", ""), "connectionToken")
}

/// A member that is a text.
pub fn text(object: &Value, name: &str) -> String {
    object[name].as_str().unwrap_or_else(|| panic!("no {name}: {object}")).to_owned()
}

/// Where the hub's connection with this token is asked for.
pub fn target(token: &str) -> String {
    format!("{HUB}?id={token}")
}

/// Status and text of an answer.
pub fn told(response: &Response) -> (u16, &str) {
    (response.status, &response.body)
}

pub struct Hub {
    pub address: SocketAddr,
    pub way: Way,
    pub form: Form,
    /// By which its requests name it.
    pub token: String,
    /// By which others know it.
    pub connection: String,
    /// What its requests ask for.
    pub target: String,
    pub headers: String,
    place: Option<u8>,
    pub down: Wire,
    up: Wire,
    /// The head of its event stream.
    pub head: Option<Response>,
    /// What is expected of the server.
    pub checker: Checker,
    /// Messages that were read while something else was waited for.
    pub early: VecDeque<Value>,
    /// Pings that came.
    pub pings: usize,
    /// Messages that came and are counted (C8).
    pub taken: u64,
    /// How its transport ended.
    pub end: Option<Incoming>,
    last_id: u64,
}

impl Hub {
    /// A client in JSON on a WebSocket.
    pub fn open(address: SocketAddr) -> Self {
        Self::open_as(address, Manner::default())
    }

    /// One that is carried by this, and written in that.
    pub fn open_by(address: SocketAddr, (way, form): (Way, Form)) -> Self {
        Self::open_as(address, Manner { way, form, ..Manner::default() })
    }

    /// One that has shaken hands.
    pub fn open_as(address: SocketAddr, manner: Manner<'_>) -> Self {
        let mut hub = Self::begin(address, manner);
        hub.shake_hands(if manner.reconnect == Reconnect::Stateful { 2 } else { 1 });
        hub
    }

    /// One that has said nothing yet.
    pub fn begin(address: SocketAddr, manner: Manner<'_>) -> Self {
        let Manner { way, form, hub, query, headers, place, via, reconnect } = manner;
        let stateful = if reconnect == Reconnect::Stateful { "&useStatefulReconnect=true" } else { "" };
        let asked = format!("?negotiateVersion=1{stateful}{query}");
        let negotiated = negotiate(address, hub, &asked, headers);
        assert_eq!(negotiated["useStatefulReconnect"] == true, !stateful.is_empty(), "{negotiated}");
        let token = text(&negotiated, "connectionToken");
        let address = via.unwrap_or(address);
        let mut client = Self {
            address,
            way,
            form,
            target: format!("{hub}?id={token}{query}"),
            token,
            connection: text(&negotiated, "connectionId"),
            headers: headers.to_owned(),
            place,
            down: wire(address, place),
            up: wire(address, place),
            head: None,
            checker: Checker::new(reconnect),
            early: VecDeque::new(),
            pings: 0,
            taken: 0,
            end: None,
            last_id: 0,
        };
        client.start();
        client
    }

    /// Asks for its transport.
    fn start(&mut self) {
        let (target, headers) = (self.target.clone(), self.headers.clone());
        match self.way {
            Way::Ws => drop(self.down.upgrade(&target, &headers)),
            Way::Sse => {
                send(&mut self.down, "GET", &target, &format!("{EVENTS}{headers}"), b"");
                self.head = Some(head(&mut self.down));
            }
            Way::Poll => assert_eq!(told(&self.get()), (200, ""), "the first poll starts the connection"),
        }
    }

    /// Says which protocol it speaks; the answer must be that all is well.
    pub fn shake_hands(&mut self, version: u8) {
        let protocol = if self.form == Form::Json { "json" } else { "messagepack" };
        self.say_text(&json!({ "protocol": protocol, "version": version }).to_string());
        assert_eq!(self.handshake(), "{}");
    }

    /// What the handshake is answered; nothing comes with it.
    pub fn handshake(&mut self) -> String {
        let payload = self.payload().unwrap_or_else(|| panic!("no answer to the handshake: {:?}", self.end));
        let text = String::from_utf8(payload).expect("the handshake is text");
        let answer = text.strip_suffix('\u{1e}').unwrap_or_else(|| panic!("cut off: {text}"));
        assert!(!answer.contains('\u{1e}'), "more than one: {text}");
        answer.to_owned()
    }

    /// A connection where its requests come in.
    pub fn wire(&self) -> Wire {
        wire(self.address, self.place)
    }

    /// Says what is text in every protocol.
    pub fn say_text(&mut self, text: &str) {
        let bytes = record(text);
        match self.way {
            Way::Ws => self.down.send_frame(Opcode::Text, &bytes),
            Way::Sse | Way::Poll => self.bring(&bytes),
        }
    }

    /// Says bytes of its protocol, of which no note is taken.
    pub fn say(&mut self, bytes: &[u8]) {
        self.checker.loosen();
        self.carry(bytes);
    }

    fn carry(&mut self, bytes: &[u8]) {
        match (self.way, self.form) {
            (Way::Ws, Form::Json) => self.down.send_frame(Opcode::Text, bytes),
            (Way::Ws, Form::Packed) => self.down.send_frame(Opcode::Binary, bytes),
            (Way::Sse | Way::Poll, _) => self.bring(bytes),
        }
    }

    fn bring(&mut self, bytes: &[u8]) {
        let response = self.post(bytes);
        assert_eq!(told(&response), (200, ""), "{:.100}", String::from_utf8_lossy(bytes));
    }

    /// Brings bytes by a request, whatever is answered.
    pub fn post(&mut self, bytes: &[u8]) -> Response {
        self.up.renew_deadline();
        send(&mut self.up, "POST", &self.target, &self.headers, bytes);
        self.up.response().expect("an answer")
    }

    /// The same on a connection of its own.
    pub fn post_anew(&mut self, bytes: &[u8]) -> Response {
        self.up = self.wire();
        self.post(bytes)
    }

    pub fn send(&mut self, message: &Value) {
        self.checker.said(message);
        self.carry(&write(self.form, message));
    }

    /// Sends messages in one piece.
    pub fn send_all(&mut self, messages: &[Value]) {
        messages.iter().for_each(|message| self.checker.said(message));
        let bytes: Vec<u8> = messages.iter().flat_map(|message| write(self.form, message)).collect();
        self.carry(&bytes);
    }

    /// Polls; the answer is still to come.
    pub fn ask(&mut self) {
        self.down.renew_deadline();
        send(&mut self.down, "GET", &self.target, &self.headers, b"");
    }

    /// The answer to the poll that is under way.
    pub fn answer(&mut self) -> Response {
        self.down.renew_deadline();
        let (response, body) = crate::support::session::answer(&mut self.down);
        assert!(response.status != 200 || response.header("content-length").is_some(), "{response:?}");
        Response { body: body.iter().map(|byte| char::from(*byte)).collect(), ..response }
    }

    /// Polls, whatever is answered. Each byte of the body is a character.
    pub fn get(&mut self) -> Response {
        self.ask();
        self.answer()
    }

    /// What one WebSocket message, event, or poll that is not empty brings; `None` at the end.
    pub fn payload(&mut self) -> Option<Vec<u8>> {
        self.down.renew_deadline();
        match self.way {
            Way::Ws => self.message_payload(),
            Way::Sse => self.event_payload(),
            Way::Poll => self.poll_payload(),
        }
    }

    fn message_payload(&mut self) -> Option<Vec<u8>> {
        loop {
            match self.down.next() {
                Incoming::Text(text) => {
                    assert!(self.form == Form::Json || text.starts_with('{'), "text in MessagePack: {text}");
                    return Some(text.into_bytes());
                }
                Incoming::Binary(bytes) if self.form == Form::Packed => return Some(bytes),
                Incoming::Ping(payload) => self.down.send(&client_frame(0x8a, &payload)),
                Incoming::Pong(_) => {}
                end @ (Incoming::Close(..) | Incoming::End) => {
                    self.end = Some(end);
                    return None;
                }
                other => panic!("{other:?} in {:?}", self.form),
            }
        }
    }

    fn event_payload(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = self.down.unread().windows(4).position(|window| window == b"\r\n\r\n") {
                let block: Vec<u8> = self.down.unread().drain(..end + 4).collect();
                let block = std::str::from_utf8(&block[..end]).expect("events are UTF-8");
                let lines = block.split("\r\n").filter(|line| !line.starts_with(':'));
                let data = lines.map(|line| {
                    line.strip_prefix("data: ").unwrap_or_else(|| panic!("neither data nor comment: {block}"))
                });
                let data: Vec<&str> = data.collect();
                if !data.is_empty() {
                    return Some(data.join("\n").into_bytes());
                }
            } else if self.down.fill() == Fill::End {
                let rest = self.down.unread();
                assert!(rest.is_empty() || rest == b":\r\n", "the stream ends between events: {rest:?}");
                self.end = Some(Incoming::End);
                return None;
            }
        }
    }

    fn poll_payload(&mut self) -> Option<Vec<u8>> {
        loop {
            let response = self.get();
            match response.status {
                200 if response.body.is_empty() => {}
                200 => return Some(response.body.chars().map(|letter| letter as u8).collect()),
                204 => {
                    self.end = Some(Incoming::End);
                    return None;
                }
                _ => panic!("a poll is answered {response:?}"),
            }
        }
    }

    /// The next message, of whatever kind; `None` at the end.
    pub fn message(&mut self) -> Option<Value> {
        if self.early.is_empty() {
            for message in read(self.form, &self.payload()?) {
                self.checker.judge(&message);
                self.early.push_back(message);
            }
            assert!(!self.early.is_empty(), "something without a message");
        }
        self.early.pop_front().inspect(|message| {
            self.taken += u64::from(message["type"].as_u64().is_some_and(|kind| kind <= 5));
        })
    }

    /// The next message that is neither a ping nor an ack; `None` at the end.
    pub fn late_next(&mut self) -> Option<Value> {
        loop {
            let message = self.message()?;
            match message["type"].as_u64() {
                Some(6) => self.pings += 1,
                Some(8) => {}
                _ => return Some(message),
            }
        }
    }

    pub fn next(&mut self) -> Value {
        self.late_next().unwrap_or_else(|| panic!("expected a message, got {:?}", self.end))
    }

    /// The next message must be this event; its arguments.
    pub fn event(&mut self, target: &str) -> Value {
        let message = self.next();
        assert_eq!((&message["type"], &message["target"]), (&json!(1), &json!(target)), "{message}");
        assert!(message.get("invocationId").is_none(), "{message}");
        message["arguments"].clone()
    }

    /// An id that was not used yet.
    pub fn fresh_id(&mut self) -> String {
        self.last_id += 1;
        self.last_id.to_string()
    }

    /// Invokes a method and returns how that was completed; what comes before is kept.
    pub fn invoke(&mut self, method: &str, arguments: Value) -> Value {
        let id = self.fresh_id();
        self.send(&json!({ "type": 1, "invocationId": id, "target": method, "arguments": arguments }));
        self.completion(&id)
    }

    /// How this invocation was completed; what comes before is kept.
    pub fn completion(&mut self, id: &str) -> Value {
        let mut before = VecDeque::new();
        let completion = loop {
            let message = self.next();
            if message["type"] == 3 && message["invocationId"] == id {
                break message;
            }
            before.push_back(message);
        };
        // They are counted when they are read again, as those are that were not read yet.
        let again = before.iter().filter(|it| it["type"].as_u64().is_some_and(|kind| kind <= 5)).count();
        self.taken -= again as u64;
        before.append(&mut self.early);
        self.early = before;
        completion
    }

    /// Invokes a method that must work; its result.
    pub fn call(&mut self, method: &str, arguments: Value) -> Value {
        let completion = self.invoke(method, arguments);
        let result = completion.get("result");
        result.cloned().unwrap_or_else(|| panic!("no result of {method}: {completion}"))
    }

    /// Invokes a method that must fail; the error.
    pub fn fails(&mut self, method: &str, arguments: Value) -> String {
        text(&self.invoke(method, arguments), "error")
    }

    /// Subscribes to a channel.
    pub fn hear(&mut self, channel: &str) -> Value {
        let position = self.call("$subscribe", json!([channel]));
        assert!(position["offset"].is_u64(), "{position}");
        position
    }

    /// Panics if it is not served.
    pub fn is_well(&mut self) {
        let error = self.fails("nobody", json!([]));
        assert!(error.ends_with("(code 108)"), "{error}");
    }

    /// The close message, which must come next; nothing but the end follows.
    pub fn close_message(&mut self) -> Value {
        let message = self.next();
        assert_eq!(message["type"], 7, "{message}");
        self.is_over();
        message
    }

    /// Panics unless nothing but the end follows.
    pub fn is_over(&mut self) {
        assert_eq!(self.late_next(), None);
        if self.way == Way::Ws {
            self.down.send_frame(Opcode::Close, &1000u16.to_be_bytes());
            self.down.wait_for_end();
        }
    }

    /// The code of the close frame that ended its WebSocket.
    pub fn close_code(&self) -> Option<u16> {
        match &self.end {
            Some(Incoming::Close(code, _)) => *code,
            other => panic!("no close frame: {other:?}"),
        }
    }

    /// Takes its leave.
    pub fn leave(&mut self) {
        match self.way {
            Way::Ws => {
                self.down.send_frame(Opcode::Close, &1000u16.to_be_bytes());
                self.down.until_end();
            }
            Way::Sse => self.down.finish_sending(),
            Way::Poll => {
                let target = self.target.clone();
                send(&mut self.up, "DELETE", &target, &self.headers, b"");
                assert_eq!(told(&self.up.response().expect("an answer")), (202, ""));
            }
        }
    }

    /// Asks for another WebSocket of the same connection; the answer.
    pub fn upgrade(&self, headers: &str) -> (Wire, Response) {
        let mut wire = self.wire();
        wire.send(format!("GET {} HTTP/1.1\r\n{UPGRADE}{headers}\r\n", self.target).as_bytes());
        let response = wire.response().expect("an answer to the upgrade");
        (wire, response)
    }

    /// Panics unless its connection is unknown, on whatever it asks.
    pub fn is_gone(&self) {
        for (method, headers) in [("GET", ""), ("GET", EVENTS), ("POST", ""), ("DELETE", "")] {
            let mut wire = self.wire();
            send(&mut wire, method, &self.target, &format!("{headers}{}", self.headers), b"");
            let response = wire.response().expect("an answer");
            assert_eq!(told(&response), (404, UNKNOWN), "{method} {headers}");
        }
        assert_eq!(told(&self.upgrade(&self.headers).1), (404, UNKNOWN));
    }
}

/// What is said of a connection that is not there.
pub const UNKNOWN: &str = "No Connection with that ID";

fn wire(address: SocketAddr, place: Option<u8>) -> Wire {
    place.map_or_else(|| Wire::connect(address), |place| wire_at(address, place))
}

/// The head of an answer whose body goes on.
pub fn head(wire: &mut Wire) -> Response {
    loop {
        if let Some((head, length)) = Response::take_head(wire.unread()) {
            wire.unread().drain(..length);
            assert_eq!(head.status, 200, "{head:?}");
            return head;
        }
        assert_eq!(wire.fill(), Fill::More, "an answer");
    }
}

/// Sends a request to a hub on a connection of its own.
pub fn once(address: SocketAddr, method: &str, target: &str, headers: &str) -> Response {
    let mut wire = Wire::connect(address);
    send(&mut wire, method, target, headers, b"");
    wire.response().expect("an answer")
}

/// Tells a story to a client of each manner, whose requests come in on each shard; nothing may be left of them.
pub fn everywhere(options: &Options, story: impl Fn(&mut Hub)) {
    let server = start(options.clone());
    for (way, form) in MANNERS {
        for place in [0, 1] {
            println!("{way:?} {form:?} on shard {place}");
            let manner = Manner { way, form, place: Some(place), ..Manner::default() };
            let mut hub = Hub::open_as(server.address, manner);
            story(&mut hub);
            hub.leave();
        }
    }
    server.settle(Levels::of(0, 0));
}
