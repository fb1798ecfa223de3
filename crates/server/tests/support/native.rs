//! A client of the native protocol by an independent implementation of WebSocket.

use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, WebSocket};
use tungstenite::{Error, Message};

use super::PATIENCE;

pub struct Client {
    socket: WebSocket<TcpStream>,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Closed(u16),
    /// Without a close frame.
    Cut,
}

impl Client {
    /// A WebSocket at `target`, such as `/ws?channels=news`.
    pub fn open(address: SocketAddr, target: &str) -> Self {
        let stream = TcpStream::connect(address).expect("the server accepts connections");
        stream.set_read_timeout(Some(PATIENCE)).expect("a fresh socket takes options");
        stream.set_write_timeout(Some(PATIENCE)).expect("a fresh socket takes options");
        stream.set_nodelay(true).expect("a fresh socket takes options");
        let (socket, _) =
            tungstenite::client(format!("ws://{address}{target}"), stream).expect("a WebSocket");
        Self { socket }
    }

    /// A client that has said `connect`.
    pub fn connect(address: SocketAddr) -> Self {
        let mut client = Self::open(address, "/ws");
        let connected = client.ask(&json!({ "id": 1, "connect": {} }));
        assert_eq!(connected["id"], 1, "{connected}");
        assert!(connected["connected"]["client"].is_string(), "{connected}");
        client
    }

    /// A client that is subscribed to `channel`, and where its subscription starts.
    pub fn subscribe(address: SocketAddr, channel: &str) -> (Self, Value) {
        let mut client = Self::connect(address);
        let answer = client.ask(&json!({ "id": 2, "subscribe": { "channel": channel } }));
        assert_eq!(answer["subscribed"]["channel"], channel, "{answer}");
        (client, answer["subscribed"].clone())
    }

    pub fn send(&mut self, command: &Value) {
        self.socket.send(Message::text(command.to_string())).expect("the server takes a message");
    }

    /// Sends a command and returns the next frame, which is its answer unless something was published meanwhile.
    pub fn ask(&mut self, command: &Value) -> Value {
        self.send(command);
        self.next()
    }

    /// Sends a command with this id and returns its answer; what else comes is passed over.
    pub fn ask_past(&mut self, command: &Value, id: u64) -> Value {
        self.send(command);
        loop {
            let frame = self.next();
            if frame["id"] == id {
                return frame;
            }
        }
    }

    /// The next frame.
    pub fn next(&mut self) -> Value {
        self.frame().unwrap_or_else(|ending| panic!("expected a frame, but the connection was {ending:?}"))
    }

    /// The next frame, or how the connection ended.
    pub fn frame(&mut self) -> Result<Value, Ending> {
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => return Ok(serde_json::from_str(&text).expect("frames are JSON")),
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(Message::Close(frame)) => {
                    let code = frame.map_or(1005, |frame| u16::from(frame.code));
                    return Err(Ending::Closed(code));
                }
                Ok(other) => panic!("the native protocol is text: {other:?}"),
                Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    panic!("nothing came within {PATIENCE:?}")
                }
                Err(_) => return Err(Ending::Cut),
            }
        }
    }

    /// The next frame, which must be a publication.
    pub fn publication(&mut self) -> Value {
        let frame = self.next();
        assert!(frame["publication"].is_object(), "expected a publication, got {frame}");
        frame["publication"].clone()
    }

    /// Reads until the connection has ended.
    pub fn ending(&mut self) -> Ending {
        loop {
            if let Err(ending) = self.frame() {
                return ending;
            }
        }
    }

    /// Waits for the next ping, which is answered. What else comes is passed over.
    pub fn ping(&mut self) {
        while !matches!(self.socket.read().expect("a ping"), Message::Ping(_)) {}
        self.socket.flush().expect("the server takes a pong");
    }

    /// Takes its leave and waits until the server has.
    pub fn leave(mut self) {
        self.socket
            .close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }))
            .expect("the server takes a close frame");
        assert_eq!(self.ending(), Ending::Closed(1000));
    }
}

/// The offset in a publication or a position.
pub fn offset(value: &Value) -> u64 {
    value["offset"].as_u64().unwrap_or_else(|| panic!("no offset in {value}"))
}

/// `{"epoch":…,"offset":…}` of a publication or a position, as `since` wants it.
pub fn since(value: &Value) -> Value {
    json!({ "epoch": value["epoch"], "offset": value["offset"] })
}
