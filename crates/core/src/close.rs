/// Whether a client whose connection was closed should come back by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Return {
    /// Yes, after a randomised, growing delay.
    Reconnect,
    /// No: the same would happen again.
    Stay,
}

/// Why the server closes a connection: the one list every protocol words in its own way.
///
/// Codes follow RFC 6455, 7.4.1 where one fits, else 3000–3499 for "come back" and 3500–3999 for "do not".
#[derive(Debug, PartialEq, Eq)]
pub struct CloseReason {
    /// WebSocket close code, also used where other protocols have room for a number.
    pub code: u16,
    /// A short sentence for people.
    pub sentence: &'static str,
    /// Whether the client should come back.
    pub then: Return,
    /// When it happens and what to do about it, for the documentation.
    pub meaning: &'static str,
}

macro_rules! reasons {
    ($($name:ident = $code:literal, $sentence:literal, $then:ident, $meaning:literal;)*) => {
        impl CloseReason {
            $(
                #[doc = $meaning]
                pub const $name: Self =
                    Self { code: $code, sentence: $sentence, then: Return::$then, meaning: $meaning };
            )*

            /// Every reason there is, by code.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
        }
    };
}

reasons! {
    GOING_AWAY = 1001, "going away", Reconnect,
        "The client closed, and the server answers.";
    PROTOCOL_ERROR = 1002, "protocol error", Stay,
        "A frame breaks RFC 6455. Mend the client.";
    INVALID_DATA = 1007, "invalid data", Stay,
        "Text that is not UTF-8, or broken compression. Mend the client.";
    POLICY = 1008, "policy violation", Reconnect,
        "Too many control frames or fragments, too much to inflate, or a message that stayed unfinished. Send less of it.";
    TOO_BIG = 1009, "message too big", Stay,
        "A message over `websocket.message_bytes_max`, or, from a client that is not connected yet, over `client.first_message_bytes_max`. Send smaller messages.";
    RESTART = 1012, "server restart: come back", Reconnect,
        "The server shuts down or restarts. Come back, spread in time, and recover.";
    TRY_LATER = 1013, "try again later", Reconnect,
        "The server cannot take this client now: what its token is checked with cannot be reached, or too many are connecting. Come back later.";
    EXPIRED = 3005, "token expired: come back with a new one", Reconnect,
        "The token is no longer valid, and no newer one was shown in time with `refresh`. Get a new token and come back.";
    SLOW = 3008, "slow: reads more slowly than it is sent to", Reconnect,
        "The client's outbox is full, or all outboxes of the node together are, or its network has taken nothing for `client.stall_timeout`. Come back and recover; if it happens again, subscribe to less, or give the namespace another overload policy.";
    INSUFFICIENT_STATE = 3010, "insufficient state: reconnect and recover", Reconnect,
        "The server could not keep this client's channels complete. Come back and recover.";
    NO_PONG = 3012, "no pong", Reconnect,
        "Nothing came back after a ping. Come back.";
    TOO_MANY_MESSAGES = 3013, "too many messages", Reconnect,
        "More messages per second than allowed (`client.messages_per_second`). Send less, or several commands in one message.";
    GONE = 3014, "no such session: open another", Reconnect,
        "A WebSocket asked for a session (`/ws?session=…`) that has ended, or for frames of it that are no longer kept; or a Socket.IO client that comes back may not have all of what it had. Open another and recover.";
    ABSENT = 3015, "away too long", Reconnect,
        "Nothing carried the session for `session.linger`. Open another and recover.";
    INVALID_TOKEN = 3500, "invalid token", Stay,
        "The token is malformed, forged, of another issuer or user, or not valid yet; or there is none and anonymous clients are not let in. The text behind the sentence says which.";
    BAD_REQUEST = 3501, "bad request", Stay,
        "What came is not a command at all, or a command before `connect`. Mend the client.";
    STALE = 3502, "stale: no connect command in time", Stay,
        "The client did not say `connect` within `client.connect_timeout`.";
    TOO_MANY_CONNECTIONS = 3504, "too many connections", Stay,
        "The user has as many connections as allowed (`client.connections_per_user_max`). Close one.";
    REVOKED = 3507, "revoked", Stay,
        "The token, or all tokens of the user, were revoked. Sign in again.";
}
