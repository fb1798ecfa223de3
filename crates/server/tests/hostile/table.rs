//! The table: what a row is, and how it is tried.

use std::panic::{AssertUnwindSafe, catch_unwind};

use duplex::Options;
use duplex_websocket::Opcode;
use serde_json::Value;

use crate::support::frames::Incoming;
use crate::support::neighbour::Neighbour;
use crate::support::wire::{DEFLATE, Wire};
use crate::support::{Levels, Running, start};

/// One hostile input.
pub struct Row {
    pub name: String,
    pub door: Door,
    pub input: Input,
    pub expect: Expect,
}

/// Where a row comes in, and what has been said there before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Door {
    /// A TCP connection.
    Tcp,
    /// A WebSocket that echoes.
    Echo,
    /// The same, with compression.
    EchoDeflated,
    /// A native client that has not said `connect`.
    Stranger,
    /// A native client that has.
    Native,
}

/// What a row does.
pub enum Input {
    Bytes(Vec<u8>),
    Play(Box<dyn FnOnce(&mut Wire)>),
}

/// What must come of it.
pub enum Expect {
    /// This response.
    Status(u16),
    /// 101, or any other status, with these headers; `None` for a header that must not be there.
    Answer(u16, Vec<(&'static str, Option<&'static str>)>),
    /// This response and then the end of the connection, with nothing in between. If the server had no reason to read
    /// all of the input, its system may reset the connection before the client has read the response.
    Refused(u16),
    /// Any frames, then one close frame with this code, then the end of the connection.
    Close(u16),
    /// A close frame without a code, then the end of the connection.
    CloseWithoutCode,
    /// These frames, as [`shown`], and then the connection is as good as before.
    Frames(Vec<String>),
    /// Nothing but the end of the connection.
    End,
    /// What the row itself has checked.
    Nothing,
}

pub fn row(name: impl Into<String>, door: Door, input: impl Into<Input>, expect: impl Into<Expect>) -> Row {
    Row { name: name.into(), door, input: input.into(), expect: expect.into() }
}

/// A row that is more than bytes.
pub fn play(act: impl FnOnce(&mut Wire) + 'static) -> Input {
    Input::Play(Box::new(act))
}

/// Expects these frames.
pub fn frames<const N: usize>(frames: [&str; N]) -> Expect {
    Expect::Frames(frames.map(str::to_owned).to_vec())
}

/// A server, its neighbour, and what was wrong so far.
pub struct House {
    pub server: Running,
    neighbour: Neighbour,
    baseline: Levels,
    tried: usize,
    wrong: Vec<String>,
}

impl House {
    pub fn open(options: Options) -> Self {
        let server = start(options);
        let mut neighbour = Neighbour::join(server.address);
        neighbour.check();
        let baseline = Levels::of(1, 1);
        server.settle(baseline);
        Self { server, neighbour, baseline, tried: 0, wrong: Vec::new() }
    }

    /// Tries rows one after the other; what is wrong with one is noted and does not keep back the others.
    pub fn try_rows(&mut self, rows: impl IntoIterator<Item = Row>) {
        for row in rows {
            self.tried += 1;
            let name = row.name.clone();
            let tried = catch_unwind(AssertUnwindSafe(|| {
                let wire = row.perform(&self.server);
                self.neighbour.check();
                drop(wire);
                self.server.settle(self.baseline);
            }));
            if let Err(panic) = tried {
                self.wrong.push(format!("{name}: {}", message(&*panic)));
                self.neighbour = Neighbour::join(self.server.address);
                self.server.settle(self.baseline);
            }
        }
    }

    /// Fails with all that was wrong.
    pub fn judge(mut self) {
        self.neighbour.check();
        let Self { wrong, tried, .. } = self;
        assert!(wrong.is_empty(), "{} of {tried} rows:\n{}", wrong.len(), wrong.join("\n"));
    }
}

/// Tries `rows` on a server with `options`.
pub fn check(options: Options, rows: impl IntoIterator<Item = Row>) {
    let mut house = House::open(options);
    house.try_rows(rows);
    house.judge();
}

fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a text")
}

impl Row {
    /// Sends the input and checks what comes. The connection is given back as it is then.
    fn perform(self, server: &Running) -> Wire {
        let mut wire = self.door.enter(server);
        match self.input {
            Input::Bytes(bytes) => wire.send(&bytes),
            Input::Play(act) => act(&mut wire),
        }
        self.expect.check(&mut wire, self.door);
        wire
    }
}

impl Door {
    fn enter(self, server: &Running) -> Wire {
        let address = server.address;
        match self {
            Self::Tcp => Wire::connect(address),
            Self::Echo => Wire::websocket(address, "/echo", ""),
            Self::EchoDeflated => Wire::websocket(address, "/echo", DEFLATE),
            Self::Stranger => Wire::websocket(address, "/ws", ""),
            Self::Native => {
                let mut wire = Wire::websocket(address, "/ws", "");
                wire.send_text(r#"{"connect":{},"id":1}"#);
                let connected = wire.text();
                assert!(connected.starts_with(r#"{"id":1,"connected":{"#), "{connected}");
                wire
            }
        }
    }
}

impl Expect {
    fn check(self, wire: &mut Wire, door: Door) {
        match self {
            Self::Status(status) => {
                let response = wire.response().expect("a response");
                assert_eq!(response.status, status, "{response:?}");
            }
            Self::Answer(status, headers) => {
                let response = wire.response().expect("a response");
                assert_eq!(response.status, status, "{response:?}");
                for (name, value) in headers {
                    assert_eq!(response.header(name), value, "{name}: {response:?}");
                }
            }
            Self::Refused(status) => {
                if let Some(response) = wire.response() {
                    assert_eq!(response.status, status, "{response:?}");
                    wire.wait_for_end();
                }
                let behind = wire.unread();
                assert!(behind.is_empty(), "and then {:?}", String::from_utf8_lossy(behind));
            }
            Self::Close(code) => check_close(wire, Some(code)),
            Self::CloseWithoutCode => check_close(wire, None),
            Self::Frames(frames) => check_frames(wire, &frames, door),
            Self::End => assert_eq!(wire.until_end(), []),
            Self::Nothing => {}
        }
    }
}

fn check_close(wire: &mut Wire, expected: Option<u16>) {
    let frames = wire.until_end();
    let closes = frames.iter().filter(|frame| matches!(frame, Incoming::Close(..))).count();
    match frames.last() {
        Some(Incoming::Close(code, _)) => assert_eq!(*code, expected, "{frames:?}"),
        other => panic!("expected a close frame with {expected:?}, got {other:?}"),
    }
    assert_eq!(closes, 1, "{frames:?}");
}

fn check_frames(wire: &mut Wire, expected: &[String], door: Door) {
    for (at, expected) in expected.iter().enumerate() {
        assert_eq!(&shown(&wire.next()), expected, "frame {at}");
    }
    // Whatever came too much is in front of this pong.
    wire.send_frame(Opcode::Ping, b"well?");
    assert_eq!(shown(&wire.next()), "pong well?", "is it still good? {door:?}");
}

/// A frame in short: commands of the native protocol by what they say.
pub fn shown(frame: &Incoming) -> String {
    let Incoming::Text(text) = frame else { return format!("{frame:?}") };
    let Ok(Value::Object(object)) = serde_json::from_str(text) else { return format!("{frame:?}") };
    let id = object.get("id").map(|id| format!("#{id}")).unwrap_or_default();
    let kind = object.iter().find(|(key, _)| *key != "id");
    let Some((kind, body)) = kind else { return format!("{frame:?}") };
    match (&**kind, &body["code"], &body["recovered"]) {
        ("error", code, _) => format!("error{id} {code}"),
        (_, _, Value::Bool(true)) => format!("{kind}{id} recovered"),
        (_, _, Value::Bool(false)) => format!("{kind}{id} not recovered"),
        ("publication", ..) => format!("publication {} {}", body["offset"], body["data"]),
        _ => format!("{kind}{id}"),
    }
}

impl From<Vec<u8>> for Input {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<&[u8]> for Input {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.to_vec())
    }
}

impl From<String> for Input {
    fn from(text: String) -> Self {
        Self::Bytes(text.into_bytes())
    }
}

impl From<u16> for Expect {
    /// A status below 1000, a close code from there on.
    fn from(code: u16) -> Self {
        if code < 1_000 { Self::Status(code) } else { Self::Close(code) }
    }
}
