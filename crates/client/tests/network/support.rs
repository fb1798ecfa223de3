//! A server that says what the test says, over plain sockets: what it is asked is read whole, what it answers is written as
//! it stands in the test.

use std::time::Duration;

use duplex_client::{Client, ClientEvent, ClientEvents, Event, Options, Subscription, Times, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Longer than anything takes that works.
const PATIENCE: Duration = Duration::from_secs(20);

pub const CONNECTED: &str =
    r#"{"id":1,"connected":{"client":"me","version":"0","heartbeat_ms":25000,"message_bytes_max":65536}}"#;
pub const OPENED: &str = r#"{"session":"S","linger_ms":30000,"retained_bytes_max":65536}"#;

pub struct Server {
    listener: TcpListener,
}

/// A request that was read, and the connection it came on.
pub struct Asked {
    pub stream: TcpStream,
    /// Method and target.
    pub line: String,
    pub head: String,
    pub body: String,
}

pub async fn within<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("it happens in time")
}

impl Server {
    pub async fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    pub fn url(&self) -> String {
        format!("http://{}/under", self.listener.local_addr().unwrap())
    }

    /// The first request of the next connection.
    pub async fn next(&self) -> Asked {
        let (stream, _) = within(self.listener.accept()).await.unwrap();
        Asked::read(stream).await.expect("a new connection brings a request")
    }

    /// The next request that begins so, on any new connection; others find that the server hangs up.
    pub async fn expect(&self, line: &str) -> Asked {
        let asked = self.next().await;
        assert!(asked.line.starts_with(line), "{} instead of {line}", asked.line);
        asked
    }
}

impl Asked {
    /// The next request on a connection; `None` if it ends.
    pub async fn read(mut stream: TcpStream) -> Option<Self> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(within(stream.read_u8()).await.ok()?);
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        within(stream.read_exact(&mut body)).await.ok()?;
        let line = head.split(" http/").next().unwrap_or_default().replacen("get /under", "GET ", 1);
        let line = line.replacen("post /under", "POST ", 1);
        Some(Self { stream, line, head, body: String::from_utf8(body).unwrap() })
    }

    pub async fn write(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// Answers, and reads the next request of the same connection.
    pub async fn answer(mut self, status: &str, body: &str) -> TcpStream {
        let length = body.len();
        self.write(&format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}")).await;
        self.stream
    }

    /// Begins a response that stays open.
    pub async fn stay(&mut self, content_type: &str) {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: ";
        self.write(&format!("{head}{content_type}\r\n\r\n")).await;
    }

    /// Bytes of such a response.
    pub async fn chunk(&mut self, text: &str) {
        self.write(&format!("{:x}\r\n{text}\r\n", text.len())).await;
    }

    /// A frame as a Server-Sent Event.
    pub async fn event(&mut self, frame: &str) {
        self.chunk(&format!("data: {frame}\n\n")).await;
    }
}

pub fn attached(after: u64, received: u64) -> String {
    format!(r#"{{"attached":{{"after":{after},"received":{received}}}}}"#)
}

pub fn subscribed(id: u64, offset: u64, recovered: &str) -> String {
    format!(r#"{{"id":{id},"subscribed":{{"channel":"news","epoch":"e","offset":{offset}{recovered}}}}}"#)
}

pub fn publication(offset: u64) -> String {
    format!(
        r#"{{"publication":{{"channel":"news","epoch":"e","offset":{offset},"event":"message","data":{offset},"time":1}}}}"#
    )
}

/// A client that does not wait long before it comes back.
pub fn client(server: &Server, transports: &[Transport]) -> Client {
    let times = Times { backoff: Duration::from_millis(1), ..Times::default() };
    let options = Options { transports: transports.to_vec(), times, ..Options::default() };
    Client::new(&server.url(), options).unwrap()
}

/// The next event of a subscription, in short.
pub async fn heard(subscription: &mut Subscription) -> String {
    match within(subscription.next()).await {
        Some(Event::Publication(publication)) => publication.payload().to_owned(),
        Some(Event::Subscribed { position, recovered }) => format!("at {position} {recovered:?}"),
        other => format!("{other:?}"),
    }
}

/// The next event of a client that says so: `connected sse`, `moved poll`, `disconnected 1006`, `closed 3500`.
pub async fn told(events: &mut ClientEvents) -> String {
    match within(events.next()).await {
        Some(ClientEvent::Connected { transport, .. }) => format!("connected {transport}"),
        Some(ClientEvent::Transport(transport)) => format!("moved {transport}"),
        Some(ClientEvent::Disconnected { end, .. }) => format!("disconnected {}", end.code),
        Some(ClientEvent::Closed(end)) => format!("closed {}", end.code),
        other => format!("{other:?}"),
    }
}
