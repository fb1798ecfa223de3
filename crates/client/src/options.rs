use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::Form;

/// How a client connects. Every field has a default that suits most.
#[derive(Debug, Clone)]
pub struct Options {
    /// Says who the client is. Default [`Token::None`]: it is anonymous.
    pub token: Token,
    /// What may carry the conversation, the best first. Default all there are, in the order of [`Transport::ALL`].
    pub transports: Vec<Transport>,
    /// How messages are written. Default JSON. MessagePack does not go over Server-Sent Events, which are left out then.
    pub form: Form,
    /// How long things may take.
    pub times: Times,
    /// Longest message taken from the server, bytes. Default 16 MiB; a longer one breaks the connection.
    pub message_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            token: Token::None,
            transports: Transport::ALL.to_vec(),
            form: Form::Json,
            times: Times::default(),
            message_bytes_max: 16 * 1024 * 1024,
        }
    }
}

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// Until [`Client::connect`](crate::Client::connect) gives up on the first connection. Default 10 s.
    pub connect: Duration,
    /// How long a command may wait to be sent while there is no connection. Default 10 s.
    pub command: Duration,
    /// Until a WebSocket is open: the first try. Each later one has twice as long, up to `open_max`. Default 2 s.
    pub open: Duration,
    /// Default 10 s.
    pub open_max: Duration,
    /// Until a response begins, or three round trips if that is longer; then the next transport is tried. Default 1 s.
    pub attach: Duration,
    /// Until an answer comes to a ping, a request or a connection that should be there, and a token from its callback.
    /// Default 10 s.
    pub answer: Duration,
    /// Until frames that have arrived over a response are acknowledged. Default 5 s.
    pub acknowledge: Duration,
    /// Until the first reconnect, at most; each later one has twice as long, up to `backoff_max`. Default 0.5 s.
    pub backoff: Duration,
    /// Default 30 s.
    pub backoff_max: Duration,
    /// Until a connection counts as good, so that the next loss is the first again. Default 10 s.
    pub stable: Duration,
    /// Until a better transport is tried; each later try waits twice as long, up to `upgrade_max`. Default 1 min.
    pub upgrade: Duration,
    /// Default 30 min.
    pub upgrade_max: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            command: Duration::from_secs(10),
            open: Duration::from_secs(2),
            open_max: Duration::from_secs(10),
            attach: Duration::from_secs(1),
            answer: Duration::from_secs(10),
            acknowledge: Duration::from_secs(5),
            backoff: Duration::from_millis(500),
            backoff_max: Duration::from_secs(30),
            stable: Duration::from_secs(10),
            upgrade: Duration::from_secs(60),
            upgrade_max: Duration::from_secs(30 * 60),
        }
    }
}

/// What carries the conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// A WebSocket, both ways.
    WebSocket,
    /// Server-Sent Events down, POST up.
    Sse,
    /// One response that stays open down, POST up.
    Stream,
    /// A request for each portion down, POST up: gets through wherever HTTP does.
    Poll,
}

impl Transport {
    /// All there are, the best first.
    pub const ALL: [Self; 4] = [Self::WebSocket, Self::Sse, Self::Stream, Self::Poll];

    /// Its name: `websocket`, `sse`, `stream` or `poll`.
    pub fn name(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::Sse => "sse",
            Self::Stream => "stream",
            Self::Poll => "poll",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Transport {
    type Err = UnknownTransport;

    fn from_str(name: &str) -> Result<Self, UnknownTransport> {
        Self::ALL.into_iter().find(|transport| transport.name() == name).ok_or(UnknownTransport)
    }
}

/// There is no such transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no such transport; there are websocket, sse, stream and poll")]
pub struct UnknownTransport;

/// Why a token is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenReason {
    /// The client connects, or subscribes.
    Connect,
    /// The client is connected, and its token is soon over.
    Refresh,
    /// The server refused the last one.
    Expired,
}

/// What a token is asked for.
#[derive(Debug, Clone)]
pub struct TokenRequest {
    /// Why.
    pub reason: TokenReason,
    /// The channel, for a subscription token.
    pub channel: Option<Box<str>>,
}

/// What went wrong when a token was asked for.
pub type TokenError = Box<dyn std::error::Error + Send + Sync>;

/// The answer to a [`TokenRequest`].
pub(crate) type TokenAnswer = Pin<Box<dyn Future<Output = Result<String, TokenError>> + Send>>;

type Asked = dyn Fn(TokenRequest) -> TokenAnswer + Send + Sync;

/// A token, or where to get one.
#[derive(Clone, Default)]
pub enum Token {
    /// There is none.
    #[default]
    None,
    /// Always the same: when it has expired, the client ends.
    Fixed(String),
    /// A callback that is asked for each connection, and again before a token has expired. Made by [`Token::ask`].
    Ask(TokenSource),
}

/// A callback that gives tokens.
#[derive(Clone)]
pub struct TokenSource(Arc<Asked>);

impl Token {
    /// Asks `source` whenever a token is needed. An answer has [`Times::answer`]; an error is tried again later.
    pub fn ask<F, A>(source: F) -> Self
    where
        F: Fn(TokenRequest) -> A + Send + Sync + 'static,
        A: Future<Output = Result<String, TokenError>> + Send + 'static,
    {
        Self::Ask(TokenSource(Arc::new(move |request| Box::pin(source(request)))))
    }

    pub(crate) fn is_renewable(&self) -> bool {
        matches!(self, Self::Ask(_))
    }
}

impl TokenSource {
    pub(crate) fn ask(&self, request: TokenRequest) -> TokenAnswer {
        (self.0)(request)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A token is a secret.
        f.write_str(match self {
            Self::None => "None",
            Self::Fixed(_) => "Fixed",
            Self::Ask(_) => "Ask",
        })
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSource")
    }
}

impl From<String> for Token {
    fn from(token: String) -> Self {
        Self::Fixed(token)
    }
}

impl From<&str> for Token {
    fn from(token: &str) -> Self {
        Self::Fixed(token.to_owned())
    }
}
