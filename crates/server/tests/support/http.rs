//! Requests and responses, and the event stream.

use std::net::SocketAddr;

use serde_json::Value;

use super::wire::{Fill, Wire};

/// A response, whole.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Response {
    /// Reads a response from the start of `bytes`, and says how long it is.
    pub fn take(bytes: &[u8]) -> Option<(Self, usize)> {
        let (mut response, body, length) = Self::take_whole(bytes)?;
        response.body = String::from_utf8(body).expect("this server answers in UTF-8");
        Some((response, length))
    }

    /// As [`take`](Self::take), with a body that need not be text beside it.
    pub fn take_whole(bytes: &[u8]) -> Option<(Self, Vec<u8>, usize)> {
        let (response, length) = Self::take_head(bytes)?;
        let rest = &bytes[length..];
        let (body, body_length) = match (response.header("transfer-encoding"), response.status) {
            (_, 101 | 204 | 304) => (Vec::new(), 0),
            (Some("chunked"), _) => take_chunked(rest)?,
            _ => {
                let length = response.header("content-length").map_or(0, |n| n.parse().expect("a length"));
                (rest.get(..length)?.to_vec(), length)
            }
        };
        Some((response, body, length + body_length))
    }

    /// As [`take`](Self::take), without the body.
    pub fn take_head(bytes: &[u8]) -> Option<(Self, usize)> {
        let length = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let head = std::str::from_utf8(&bytes[..length]).expect("a head is ASCII");
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.")).expect("a status line");
        let status = status.get(2..5).and_then(|status| status.parse().ok()).expect("a status");
        let header = |line: &str| {
            let (name, value) = line.split_once(": ").expect("a header has a name and a value");
            (name.to_ascii_lowercase(), value.to_owned())
        };
        Some((Self { status, headers: lines.map(header).collect(), body: String::new() }, length))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| &**value)
    }
}

fn take_chunked(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let (chunk, length) = take_chunk(&bytes[at..])?;
        at += length;
        match chunk.is_empty() {
            true => return Some((body, at)),
            false => body.extend(chunk),
        }
    }
}

/// A chunk and how many bytes it took; the last one is empty (RFC 9112, 7.1).
fn take_chunk(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let line = bytes.windows(2).position(|window| window == b"\r\n")?;
    let size = std::str::from_utf8(&bytes[..line]).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
    let size = size.expect("a chunk begins with its size");
    let end = line + 2 + size;
    assert_eq!(bytes.get(end..end + 2)?, b"\r\n", "a chunk ends where its size says");
    Some((bytes[line + 2..end].to_vec(), end + 2))
}

/// A request with a connection of its own.
pub fn request(address: SocketAddr, head: &str, body: &str) -> Response {
    let mut wire = Wire::connect(address);
    let length = body.len();
    wire.send(
        format!("{head}\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
            .as_bytes(),
    );
    let response = wire.response().expect("a response");
    // All was said. Thousands of requests would leave as many closed connections in the system's tables otherwise.
    wire.reset();
    response
}

/// Publishes through the HTTP API and returns the position it answered, as JSON.
pub fn publish(address: SocketAddr, body: &str) -> Value {
    let response = request(address, "POST /api/v1/publish HTTP/1.1", body);
    assert_eq!(response.status, 200, "{body}: {response:?}");
    serde_json::from_str(&response.body).expect("the API answers in JSON")
}

/// Publishes a string.
pub fn say(address: SocketAddr, channel: &str, data: &str) -> Value {
    publish(address, &serde_json::json!({ "channel": channel, "data": data }).to_string())
}

/// What an `EventSource` gets.
pub struct Events {
    wire: Wire,
    text: String,
    pub head: Response,
}

impl Events {
    /// Opens a stream at `target`; `headers` are added to the request.
    pub fn open(address: SocketAddr, target: &str, headers: &str) -> Self {
        let mut wire = Wire::connect(address);
        wire.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n").as_bytes());
        let head = loop {
            if let Some((head, length)) = Response::take_head(wire.unread()) {
                wire.unread().drain(..length);
                break head;
            }
            assert_eq!(wire.fill(), Fill::More, "a response");
        };
        Self { wire, text: String::new(), head }
    }

    /// The next event with the empty line behind it, or `None` at the end of the stream.
    pub fn next(&mut self) -> Option<String> {
        self.wire.renew_deadline();
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let rest = self.text.split_off(end + 2);
                return Some(std::mem::replace(&mut self.text, rest));
            }
            if self.wire.unread().is_empty() && self.wire.fill() == Fill::End {
                assert_eq!(self.text, "", "the stream ends between events");
                return None;
            }
            let unread = std::mem::take(self.wire.unread());
            let whole = match std::str::from_utf8(&unread) {
                Ok(text) => text,
                Err(cut) => std::str::from_utf8(&unread[..cut.valid_up_to()]).expect("just checked"),
            };
            self.text.push_str(whole);
            *self.wire.unread() = unread[whole.len()..].to_vec();
            assert!(self.wire.unread().len() < 4, "events are UTF-8");
            if !self.wire.unread().is_empty() {
                assert_eq!(self.wire.fill(), Fill::More, "the stream ends between characters");
            }
        }
    }

    /// The JSON behind `data:` of the next event, which must have the given name.
    pub fn data(&mut self, event: &str) -> Value {
        let block = self.next().expect("an event");
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
        assert_eq!(field("event: ").unwrap_or("message"), event, "{block}");
        serde_json::from_str(field("data: ").expect("data")).expect("data is JSON")
    }

    /// Passes over what every stream begins with, and returns the answer to the first channel.
    pub fn subscribed(&mut self) -> Value {
        assert_eq!(self.next().as_deref(), Some("retry: 2000\n\n"));
        self.data("$subscribed")
    }
}
