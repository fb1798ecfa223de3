//! As much of SignalR as a subscriber needs, in both of its encodings.

use super::dialect::{Greeting, Role};

/// The hub protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Json,
    MessagePack,
}

/// Behind every message in JSON, and behind the handshake and its answer in either encoding.
const END: u8 = 0x1e;
/// What the server answers a handshake that it agrees to.
const AGREED: &[u8] = b"{}\x1e";

impl Encoding {
    /// What a client says first.
    pub fn handshake(self) -> &'static [u8] {
        match self {
            Self::Json => b"{\"protocol\":\"json\",\"version\":1}\x1e",
            Self::MessagePack => b"{\"protocol\":\"messagepack\",\"version\":1}\x1e",
        }
    }

    /// What a message means to a client that is not ready yet.
    pub fn greet(self, role: Role, said: &[u8]) -> Greeting {
        match (role, self.split(said)) {
            (Role::Subscriber, _) if said == AGREED => Greeting::Say(self.subscribe()),
            (Role::Bystander, _) if said == AGREED => Greeting::Ready,
            (_, Some((first, _))) if self.is_ping(first) => Greeting::Wait,
            (Role::Subscriber, Some((first, _))) if first.starts_with(self.subscribed()) => Greeting::Ready,
            _ => Greeting::Strange,
        }
    }

    /// The first of the messages in `said`, without what sets it apart, and the rest. `None` if it has no end.
    pub fn split(self, said: &[u8]) -> Option<(&[u8], &[u8])> {
        match self {
            Self::Json => {
                let end = said.iter().position(|&byte| byte == END)?;
                Some((&said[..end], &said[end + 1..]))
            }
            Self::MessagePack => {
                let (length, start) = prefix(said)?;
                said[start..].split_at_checked(length)
            }
        }
    }

    /// How a publication begins, up to its arguments.
    pub fn publication(self) -> &'static [u8] {
        match self {
            Self::Json => br#"{"type":1,"target":"message","arguments":["#,
            Self::MessagePack => b"\x96\x01\x80\xc0\xa7message\x91",
        }
    }

    /// Whether a message is a ping.
    pub fn is_ping(self, message: &[u8]) -> bool {
        match self {
            Self::Json => message == br#"{"type":6}"#,
            Self::MessagePack => message == b"\x91\x06",
        }
    }

    /// A ping, whole.
    pub fn ping(self) -> &'static [u8] {
        match self {
            Self::Json => b"{\"type\":6}\x1e",
            Self::MessagePack => b"\x02\x91\x06",
        }
    }

    fn subscribe(self) -> &'static [u8] {
        match self {
            Self::Json => {
                b"{\"type\":1,\"invocationId\":\"0\",\"target\":\"$subscribe\",\"arguments\":[\"bench\"]}\x1e"
            }
            Self::MessagePack => b"\x17\x95\x01\x80\xa10\xaa$subscribe\x91\xa5bench",
        }
    }

    /// How the answer to that begins.
    fn subscribed(self) -> &'static [u8] {
        match self {
            Self::Json => br#"{"type":3,"invocationId":"0","result":{"channel":"bench","#,
            Self::MessagePack => b"\x95\x03\x80\xa10\x03",
        }
    }
}

/// The length before a message in MessagePack, seven bits to a byte with the least ones first, and the bytes it takes.
fn prefix(said: &[u8]) -> Option<(usize, usize)> {
    let mut length = 0;
    for (index, &byte) in said.iter().enumerate().take(5) {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return Some((length, index + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::Encoding::{Json, MessagePack};
    use super::*;
    use crate::load::dialect::{Dialect, Heard};
    use crate::load::message;

    /// A message in MessagePack with its length before it.
    fn packed(message: &[u8]) -> Vec<u8> {
        let length = [message.len() as u8 & 0x7f | 0x80, (message.len() >> 7) as u8];
        [length.as_slice(), message].concat()
    }

    /// What a client that is ready makes of a whole message.
    fn hear_all(encoding: Encoding, mut said: &[u8]) -> Option<Vec<Heard>> {
        let dialect = Dialect::SignalR(encoding);
        let mut heard = Vec::new();
        while !said.is_empty() {
            let (first, rest) = dialect.split(said)?;
            heard.push(dialect.hear(Role::Subscriber, first));
            said = rest;
        }
        Some(heard)
    }

    #[test]
    fn a_subscriber_greets_and_asks_for_its_channel() {
        let script: [(_, _, &[u8], _); 9] = [
            (Json, Role::Subscriber, b"{}\x1e", Greeting::Say(Json.subscribe())),
            (Json, Role::Bystander, b"{}\x1e", Greeting::Ready),
            (Json, Role::Subscriber, b"{\"type\":6}\x1e", Greeting::Wait),
            (
                Json,
                Role::Subscriber,
                b"{\"type\":3,\"invocationId\":\"0\",\"result\":{\"channel\":\"bench\",\"offset\":0}}\x1e",
                Greeting::Ready,
            ),
            (Json, Role::Subscriber, b"{\"error\":\"no\"}\x1e", Greeting::Strange),
            (MessagePack, Role::Subscriber, b"{}\x1e", Greeting::Say(MessagePack.subscribe())),
            (MessagePack, Role::Subscriber, b"\x02\x91\x06", Greeting::Wait),
            (MessagePack, Role::Subscriber, b"\x07\x95\x03\x80\xa10\x03\x80", Greeting::Ready),
            (MessagePack, Role::Subscriber, b"\x09\x95\x03\x80\xa10\x01\xa2no", Greeting::Strange),
        ];
        for (encoding, role, said, greeting) in script {
            assert_eq!(encoding.greet(role, said), greeting, "{encoding:?} {role:?} {said:?}");
        }
        let length = usize::from(MessagePack.subscribe()[0]);
        assert_eq!(MessagePack.split(MessagePack.subscribe()).expect("whole").0.len(), length);
    }

    #[test]
    fn each_of_several_publications_in_a_message_is_heard() {
        let publication = |encoding: Encoding, sequence| match encoding {
            Json => [Json.publication(), b"\"", &message::message(sequence), b"\"]}\x1e"].concat(),
            MessagePack => {
                let text = message::message(sequence);
                packed(&[MessagePack.publication(), b"\xd9\x80", &text, b"\x90"].concat())
            }
        };
        for encoding in [Json, MessagePack] {
            let said = [&publication(encoding, 7), encoding.ping(), &publication(encoding, 8)].concat();
            let heard = vec![Heard::Delivery(7), Heard::Heartbeat(encoding.ping()), Heard::Delivery(8)];
            assert_eq!(hear_all(encoding, &said), Some(heard));
            assert_eq!(hear_all(encoding, &said[..said.len() - 1]), None);
        }
    }
}
