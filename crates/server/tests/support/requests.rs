//! Requests as a test wants them said, one at a time on a connection.

use std::net::SocketAddr;

use super::http::Response;
use super::wire::{UPGRADE, Wire};

/// Sends a request; `headers` end with a line break each.
pub fn send(wire: &mut Wire, method: &str, target: &str, headers: &str, body: &[u8]) {
    let length = match (method, body) {
        ("GET" | "HEAD", []) => String::new(),
        _ => format!("Content-Length: {}\r\n", body.len()),
    };
    let head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{length}{headers}\r\n");
    wire.send(&[head.as_bytes(), body].concat());
}

/// Sends a request and reads the whole answer.
pub fn ask(wire: &mut Wire, method: &str, target: &str, body: &[u8]) -> Response {
    send(wire, method, target, "", body);
    wire.response().expect("an answer")
}

/// The same on a connection of its own.
pub fn once(address: SocketAddr, method: &str, target: &str, body: &[u8]) -> Response {
    ask(&mut Wire::connect(address), method, target, body)
}

/// Asks for a WebSocket; gives back its connection and the answer.
pub fn upgrade(address: SocketAddr, target: &str, headers: &str) -> (Wire, Response) {
    let mut wire = Wire::connect(address);
    wire.send(format!("GET {target} HTTP/1.1\r\n{UPGRADE}{headers}\r\n").as_bytes());
    let response = wire.response().expect("an answer to the upgrade");
    (wire, response)
}
