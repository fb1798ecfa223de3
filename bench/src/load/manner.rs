//! How clients without a WebSocket ask each server for messages, and send theirs.

use std::ops::Range;

use serde_json::Value;

use super::dialect::{Dialect, Role};
use super::http;

/// What the conversation of such a client is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Long polling, `docs/protocol.md`, "Without a WebSocket".
    Poll,
    /// A session that Server-Sent Events carry, in the same place.
    Events,
    /// A bare `EventSource`, `docs/protocol.md`, "Server-Sent Events".
    EventSource,
    /// Long polling of Engine.IO 4.
    EngineIo,
}

/// What of an answer comes next.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece {
    /// Bytes it takes, with what sets it apart from the next one.
    pub length: usize,
    /// Where the message stands in them; `None` if the client has no interest in it and does not count it.
    pub message: Option<Range<usize>>,
}

impl Manner {
    /// What such clients say.
    pub fn dialect(self) -> Dialect {
        match self {
            Self::Poll | Self::Events => Dialect::Native,
            Self::EventSource => Dialect::EventSource,
            Self::EngineIo => Dialect::SocketIo,
        }
    }

    /// The first request. An `EventSource` has no other.
    pub fn opening(self, role: Role) -> Vec<u8> {
        match self {
            Self::Poll | Self::Events => {
                let query = if role == Role::Subscriber { "?channels=bench" } else { "" };
                http::post(&format!("/session{query}"), JSON, b"")
            }
            Self::EventSource => http::get(Dialect::EventSource.path(role)).into(),
            Self::EngineIo => http::get(ENGINE).into(),
        }
    }

    /// The target of the requests that follow, from the body of the first answer.
    pub fn target(self, first: &[u8]) -> Option<String> {
        let (object, key, before) = match self {
            Self::Poll | Self::Events | Self::EventSource => (first, "session", "/session/"),
            Self::EngineIo => (first.strip_prefix(b"0")?, "sid", ENGINE_SESSION),
        };
        let value: Value = serde_json::from_slice(object).ok()?;
        Some(format!("{before}{}", value[key].as_str()?))
    }

    /// The request for messages of one who has `count`.
    pub fn request(self, target: &str, count: u64) -> String {
        match self {
            Self::Poll => http::get(&format!("{target}/poll?after={count}")),
            Self::Events | Self::EventSource => http::get(&format!("{target}/sse?after={count}")),
            Self::EngineIo => http::get(target),
        }
    }

    /// The request of one who has `count` messages and, reading an answer that goes on, has no other way to say so.
    pub fn acknowledgement(self, target: &str, count: u64) -> Option<Vec<u8>> {
        (self == Self::Events).then(|| http::post(&format!("{target}?after={count}"), JSON, b""))
    }

    /// The request that brings messages.
    pub fn delivery(self, target: &str, texts: &[Vec<u8>]) -> Vec<u8> {
        match (self, texts) {
            (Self::EngineIo, _) => http::post(target, "text/plain;charset=UTF-8", &texts.join(&SEPARATOR)),
            (_, [text]) => http::post(target, JSON, text),
            (_, _) => http::post(target, JSON, &[b"[", texts.join(&b',').as_slice(), b"]"].concat()),
        }
    }

    /// The first piece of `bytes`, which are the whole rest of a body or may go on. `None` if its end is not there.
    pub fn piece(self, bytes: &[u8], rest: Rest) -> Option<Piece> {
        let separator = if self == Self::EngineIo { SEPARATOR } else { b'\n' };
        let (end, length) = match (bytes.iter().position(|&byte| byte == separator), rest) {
            (Some(end), _) => (end, end + 1),
            (None, Rest::Whole) if !bytes.is_empty() => (bytes.len(), bytes.len()),
            (None, _) => return None,
        };
        let before: &[u8] = match self {
            Self::Poll | Self::EngineIo => b"",
            Self::Events | Self::EventSource => b"data: ",
        };
        let text = bytes[..end].strip_prefix(before).unwrap_or_default();
        let is_message = !text.is_empty() && !text.starts_with(ATTACHED);
        Some(Piece { length, message: is_message.then_some(before.len()..end) })
    }
}

/// Whether more of a body may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    Whole,
    Open,
}

const JSON: &str = "application/json";
/// The Engine.IO endpoint; with the session's id behind it in [`ENGINE_SESSION`].
const ENGINE: &str = "/socket.io/?EIO=4&transport=polling";
const ENGINE_SESSION: &str = "/socket.io/?EIO=4&transport=polling&sid=";
/// Between the packets of an Engine.IO body.
const SEPARATOR: u8 = 0x1e;
/// The first thing that every transport brings, which is not counted.
const ATTACHED: &[u8] = br#"{"attached":"#;

#[cfg(test)]
mod tests {
    use super::*;

    /// The messages of a body, and what is left of it.
    fn messages(manner: Manner, mut body: &str, rest: Rest) -> (Vec<&str>, &str) {
        let mut found = Vec::new();
        while let Some(piece) = manner.piece(body.as_bytes(), rest) {
            found.extend(piece.message.map(|range| &body[range]));
            body = &body[piece.length..];
        }
        (found, body)
    }

    #[test]
    fn each_body_falls_into_its_messages() {
        use Rest::{Open, Whole};
        let attached = r#"{"attached":{"after":0,"received":1}}"#;
        let check = |manner, body: &str, rest, expected: &[&str], left| {
            assert_eq!(messages(manner, body, rest), (expected.to_vec(), left), "{manner:?} {body:?}");
        };
        check(Manner::Poll, &format!("{attached}\n{{}}\n[]\n"), Whole, &["{}", "[]"], "");
        check(Manner::Poll, &format!("{attached}\n"), Whole, &[], "");
        check(Manner::Poll, "\n{}\n", Whole, &["{}"], "");
        check(Manner::EngineIo, "2", Whole, &["2"], "");
        check(Manner::EngineIo, "42[1]\u{1e}2", Whole, &["42[1]", "2"], "");
        check(
            Manner::Events,
            &format!("data: {attached}\n\n:\n\ndata: {{}}\n\ndata: {{"),
            Open,
            &["{}"],
            "data: {",
        );
        check(Manner::EventSource, "retry: 2000\n\nid: f3:1:bench\ndata: {}\n\n", Open, &["{}"], "");
    }

    #[test]
    fn the_first_answer_names_what_is_asked_from_then_on() {
        let session = Manner::Poll.target(br#"{"session":"0Zk3","linger_ms":30000}"#).expect("a session");
        let request = Manner::Poll.request(&session, 7);
        assert!(request.starts_with("GET /session/0Zk3/poll?after=7 HTTP/1.1\r\n"), "{request}");
        let session = Manner::EngineIo.target(br#"0{"sid":"lv_V","upgrades":[]}"#).expect("a session");
        let request = Manner::EngineIo.request(&session, 7);
        assert!(request.starts_with("GET /socket.io/?EIO=4&transport=polling&sid=lv_V HTTP/1.1\r\n"));
        for strange in [r#"{"sid":"lv_V"}"#, r#"44{"message":"no"}"#, "", "ok"] {
            assert_eq!(Manner::EngineIo.target(strange.as_bytes()), None, "{strange}");
        }
    }

    #[test]
    fn several_messages_go_up_in_one_request() {
        let body = |manner: Manner, texts: &[&str]| {
            let texts: Vec<_> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
            let request = String::from_utf8(manner.delivery("/s", &texts)).expect("UTF-8");
            request.split_once("\r\n\r\n").expect("a head").1.to_owned()
        };
        assert_eq!(body(Manner::Poll, &["{}"]), "{}");
        assert_eq!(body(Manner::Poll, &["{}", "[]"]), "[{},[]]");
        assert_eq!(body(Manner::EngineIo, &["40", "3"]), "40\u{1e}3");
    }
}
