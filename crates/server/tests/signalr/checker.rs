//! What each message of a server must be, lest the JavaScript client drops it or breaks off (C9), and when it may come.

use std::collections::HashMap;

use serde_json::Value;

use crate::client::Reconnect;

/// What a client has seen of its server.
#[derive(Default)]
pub struct Checker {
    /// Invocations that are not complete, by id. An id may have been used twice: each use is answered.
    open: HashMap<String, usize>,
    /// Whether something was said that was not taken note of.
    is_loose: bool,
    is_over: bool,
    /// Whether messages are counted (C8).
    is_stateful: bool,
}

impl Checker {
    pub fn new(reconnect: Reconnect) -> Self {
        Self { is_stateful: reconnect == Reconnect::Stateful, ..Self::default() }
    }

    /// The client says this.
    pub fn said(&mut self, message: &Value) {
        if let (Some(1 | 4), Some(id)) = (message["type"].as_u64(), message["invocationId"].as_str()) {
            *self.open.entry(id.to_owned()).or_default() += 1;
        }
    }

    /// The client says something of which no note is taken: its answers are not expected, and not held for wrong.
    pub fn loosen(&mut self) {
        self.is_loose = true;
    }

    /// Panics unless the server may say this now.
    pub fn judge(&mut self, message: &Value) {
        assert!(!self.is_over, "behind a close message: {message}");
        let named = |name: &str| message[name].as_str().is_some_and(|text| !text.is_empty());
        let kind = message["type"].as_u64().unwrap_or_else(|| panic!("no type: {message}"));
        let (known, is_right): (&[&str], bool) = match kind {
            1 => {
                (&["target", "arguments", "invocationId"], named("target") && message["arguments"].is_array())
            }
            2 => (&["invocationId", "item"], named("invocationId") && message.get("item").is_some()),
            3 => (
                &["invocationId", "result", "error"],
                named("invocationId") && !(message.get("result").is_some() && message.get("error").is_some()),
            ),
            6 => (&[], true),
            7 => (&["error", "allowReconnect"], true),
            8 | 9 => (&["sequenceId"], self.is_stateful && message["sequenceId"].is_u64()),
            _ => (&[], false),
        };
        let is_known = |name: &String| name == "type" || known.contains(&&**name);
        let members = message.as_object().expect("a message is an object");
        assert!(is_right && members.keys().all(is_known), "clients cannot take {message}");
        for name in ["invocationId", "error"] {
            assert!(message.get(name).is_none() || named(name), "an empty {name}: {message}");
        }
        assert!(message.get("allowReconnect").is_none_or(Value::is_boolean), "{message}");
        self.follow(kind, message);
    }

    /// Takes note of it.
    fn follow(&mut self, kind: u64, message: &Value) {
        self.is_over = kind == 7;
        let (Some(id), 2 | 3) = (message["invocationId"].as_str(), kind) else { return };
        let open = self.open.entry(id.to_owned()).or_default();
        assert!(*open > 0 || self.is_loose, "nothing of that id is open: {message}");
        if kind == 3 {
            *open = open.saturating_sub(1);
        }
    }
}
