//! What clients and each server say to each other.

use super::frames::Opcode;
use super::message;
use super::signalr::Encoding;

/// How a server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Bare messages: the floor and npm `ws`.
    Bare,
    /// The native protocol, `docs/protocol.md`.
    Native,
    /// What a bare `EventSource` hears of the native protocol. It says nothing.
    EventSource,
    /// Engine.IO 4 and Socket.IO 5.
    SocketIo,
    /// The same with our verbs, by which a subscriber asks for its channel.
    SocketIoVerbs,
    /// SignalR, as far as subscribers go.
    SignalR(Encoding),
}

/// What a client is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Gets every publication.
    Subscriber,
    /// Is connected and has no subscription. Only our servers tell it from `Subscriber`.
    Bystander,
    /// Publishes to all subscribers, and gets none of it.
    Publisher,
    /// Gets back what it sends.
    Echo,
}

/// What a client makes of a message before it is ready.
#[derive(Debug, PartialEq, Eq)]
pub enum Greeting {
    Wait,
    Say(&'static [u8]),
    Ready,
    Strange,
}

/// What a client makes of a message once it is ready.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    Delivery(u64),
    /// A heartbeat in a message, with its answer.
    Heartbeat(&'static [u8]),
    Strange,
}

impl Dialect {
    /// Path and query of the endpoint.
    pub fn path(self, role: Role) -> &'static str {
        match (self, role) {
            (Self::Bare, Role::Subscriber | Role::Bystander) => "/subscribe",
            (Self::Bare, Role::Publisher) => "/publish",
            (Self::Bare | Self::Native, Role::Echo) => "/echo",
            (Self::Native, Role::Subscriber) => "/ws?channels=bench",
            (Self::Native, Role::Bystander | Role::Publisher) => "/ws",
            (Self::EventSource, _) => "/sse?channels=bench",
            (Self::SocketIo | Self::SocketIoVerbs, _) => "/socket.io/?EIO=4&transport=websocket",
            (Self::SignalR(_), _) => "/signalr",
        }
    }

    /// What the client says as soon as the WebSocket is open.
    pub fn opening(self, role: Role) -> Greeting {
        match (self, role) {
            (Self::Bare, _) | (Self::Native, Role::Echo) => Greeting::Ready,
            (Self::Native, Role::Subscriber)
            | (Self::EventSource | Self::SocketIo | Self::SocketIoVerbs, _) => Greeting::Wait,
            (Self::Native, Role::Bystander | Role::Publisher) => Greeting::Say(br#"{"id":1,"connect":{}}"#),
            (Self::SignalR(encoding), _) => Greeting::Say(encoding.handshake()),
        }
    }

    /// What `text` means to a client that is not ready yet.
    pub fn greet(self, role: Role, text: &[u8]) -> Greeting {
        match (self, role) {
            (Self::Native, Role::Subscriber) if has_kind(text, r#""connected""#) => Greeting::Wait,
            (Self::Native, Role::Subscriber) if has_kind(text, r#""subscribed""#) => Greeting::Ready,
            (Self::Native, Role::Bystander | Role::Publisher) if has_kind(text, r#""connected""#) => {
                Greeting::Ready
            }
            (Self::EventSource, _) if text.starts_with(OF_CHANNEL) => Greeting::Ready,
            (Self::SocketIo, Role::Publisher) if text.starts_with(b"0{") => Greeting::Say(b"40/publish,"),
            (Self::SocketIo, Role::Publisher) if text.starts_with(b"40/publish,{") => Greeting::Ready,
            (Self::SocketIo | Self::SocketIoVerbs, _) if text.starts_with(b"0{") => Greeting::Say(b"40"),
            (Self::SocketIoVerbs, Role::Subscriber) if text.starts_with(b"40{") => {
                Greeting::Say(br#"420["$subscribe","bench"]"#)
            }
            (Self::SocketIoVerbs, Role::Subscriber) if text.starts_with(SUBSCRIBED) => Greeting::Ready,
            (Self::SocketIo | Self::SocketIoVerbs, _) if text.starts_with(b"40{") => Greeting::Ready,
            (Self::SignalR(encoding), _) => encoding.greet(role, text),
            _ => Greeting::Strange,
        }
    }

    /// The kind of frames that carry it over a WebSocket.
    pub fn frames(self) -> Opcode {
        match self {
            Self::SignalR(Encoding::MessagePack) => Opcode::Binary,
            _ => Opcode::Text,
        }
    }

    /// The first thing that a message to a client that is ready says, and the rest of it. `None` if it makes no sense.
    pub fn split(self, said: &[u8]) -> Option<(&[u8], &[u8])> {
        match self {
            Self::SignalR(encoding) => encoding.split(said),
            _ => Some((said, b"")),
        }
    }

    /// What `text` means to a client that is ready.
    pub fn hear(self, role: Role, text: &[u8]) -> Heard {
        let start: &[u8] = match (self, role) {
            (Self::Bare, _) | (Self::Native, Role::Echo) => b"#",
            (Self::Native, _) => br#"{"publication":{"#,
            (Self::EventSource, _) => OF_CHANNEL,
            (Self::SocketIo, Role::Echo) => br##"42["echo","#"##,
            (Self::SocketIo | Self::SocketIoVerbs, _) => br##"42["message","#"##,
            (Self::SignalR(encoding), _) => encoding.publication(),
        };
        if text.starts_with(start)
            && let Some(sequence) = message::sequence(text)
        {
            return Heard::Delivery(sequence);
        }
        match self {
            Self::SocketIo | Self::SocketIoVerbs if text == b"2" => Heard::Heartbeat(b"3"),
            Self::SignalR(encoding) if encoding.is_ping(text) => Heard::Heartbeat(encoding.ping()),
            _ => Heard::Strange,
        }
    }

    /// The text of publication `sequence`, or of an echo. Where subscribers have a dialect of their own, publishers speak the
    /// native one.
    pub fn speech(self, role: Role, sequence: u64) -> Vec<u8> {
        let (before, after) = match (self, role) {
            (Self::Bare, _) | (Self::Native, Role::Echo) => ("", ""),
            (Self::Native | Self::EventSource | Self::SocketIoVerbs | Self::SignalR(_), _) => {
                (r#"{"publish":{"channel":"bench","data":""#, r#""}}"#)
            }
            (Self::SocketIo, Role::Echo) => (r#"42["echo",""#, r#""]"#),
            (Self::SocketIo, _) => (r#"42/publish,["publish",""#, r#""]"#),
        };
        [before.as_bytes(), &message::message(sequence), after.as_bytes()].concat()
    }
}

/// How the data of a subscription, or of a publication, begins for an `EventSource`.
const OF_CHANNEL: &[u8] = br#"{"channel":"bench","#;

/// How the acknowledgement of a subscription begins.
const SUBSCRIBED: &[u8] = br#"430[{"channel":"bench","#;

/// Whether one of the first keys of a native frame is `kind`, quotes included.
fn has_kind(text: &[u8], kind: &str) -> bool {
    let head = &text[..text.len().min(40)];
    head.windows(kind.len()).any(|window| window == kind.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_publications_count_as_deliveries() {
        let native = |text: &str| Dialect::Native.hear(Role::Subscriber, text.as_bytes());
        let message = String::from_utf8(message::message(3).to_vec()).expect("ASCII");
        let publication = format!(
            r#"{{"publication":{{"channel":"bench","epoch":"f3","offset":1,"event":"message","data":"{message}"}}}}"#
        );
        assert_eq!(native(&publication), Heard::Delivery(3));
        assert_eq!(native(r#"{"connected":{"client":"5d0c"}}"#), Heard::Strange);
        assert_eq!(native(&format!(r#"{{"error":{{"code":107,"message":"{message}"}}}}"#)), Heard::Strange);
    }

    #[test]
    fn each_side_says_its_lines() {
        use Dialect::{EventSource, Native, SocketIo, SocketIoVerbs};
        let script = [
            (Native, Role::Subscriber, r#"{"connected":{"client":"5d0c"}}"#, Greeting::Wait),
            (Native, Role::Subscriber, r#"{"subscribed":{"channel":"bench"}}"#, Greeting::Ready),
            (Native, Role::Publisher, r#"{"id":1,"connected":{}}"#, Greeting::Ready),
            (Native, Role::Subscriber, r#"{"error":{"code":103}}"#, Greeting::Strange),
            (
                EventSource,
                Role::Subscriber,
                r#"{"channel":"bench","epoch":"f3","offset":0}"#,
                Greeting::Ready,
            ),
            (EventSource, Role::Subscriber, r#"{"code":103}"#, Greeting::Strange),
            (SocketIo, Role::Echo, r#"0{"sid":"x"}"#, Greeting::Say(b"40")),
            (SocketIo, Role::Echo, r#"40{"sid":"x"}"#, Greeting::Ready),
            (SocketIo, Role::Publisher, r#"0{"sid":"x"}"#, Greeting::Say(b"40/publish,")),
            (SocketIo, Role::Publisher, r#"40/publish,{"sid":"x"}"#, Greeting::Ready),
            (SocketIo, Role::Publisher, r#"44{"message":"no"}"#, Greeting::Strange),
            (SocketIoVerbs, Role::Bystander, r#"0{"sid":"x"}"#, Greeting::Say(b"40")),
            (SocketIoVerbs, Role::Bystander, r#"40{"sid":"x"}"#, Greeting::Ready),
            (
                SocketIoVerbs,
                Role::Subscriber,
                r#"40{"sid":"x"}"#,
                Greeting::Say(br#"420["$subscribe","bench"]"#),
            ),
            (
                SocketIoVerbs,
                Role::Subscriber,
                r#"430[{"channel":"bench","epoch":"f3","offset":0}]"#,
                Greeting::Ready,
            ),
            (SocketIoVerbs, Role::Subscriber, r#"430[{"error":{"code":103}}]"#, Greeting::Strange),
        ];
        for (dialect, role, line, greeting) in script {
            assert_eq!(dialect.greet(role, line.as_bytes()), greeting, "{dialect:?} {role:?} {line}");
        }
        for dialect in [SocketIo, SocketIoVerbs] {
            assert_eq!(dialect.hear(Role::Subscriber, b"2"), Heard::Heartbeat(b"3"));
        }
    }
}
