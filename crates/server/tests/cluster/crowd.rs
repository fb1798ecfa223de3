//! Clients by the hundred, each of which comes back as `docs/protocol.md` asks of it, and what each of them went through.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, timeout};

use crate::support::frames::{Incoming, client_frame, close, take_frame};
use crate::support::http::Response;
use crate::support::wire::UPGRADE;

/// How long all may take to get somewhere: far longer than they do.
const PATIENCE: Duration = Duration::from_secs(90);
/// Before a client tries again that nobody has told when.
const SOON: Duration = Duration::from_millis(100);
/// How long a request may take that is answered at once.
const ANSWER: Duration = Duration::from_secs(10);
/// Polls in a row that break before a client opens another session.
const BROKEN_MAX: usize = 3;

/// Where clients and publishers go, in turn.
#[derive(Debug, Clone)]
pub struct Doors(Arc<Mutex<(Vec<SocketAddr>, usize)>>);

impl Doors {
    pub fn to(addresses: &[SocketAddr]) -> Self {
        Self(Arc::new(Mutex::new((addresses.to_vec(), 0))))
    }

    /// From now on they go here.
    pub fn lead_to(&self, addresses: &[SocketAddr]) {
        lock(&self.0).0 = addresses.to_vec();
    }

    pub fn next(&self) -> SocketAddr {
        let (addresses, turn) = &mut *lock(&self.0);
        *turn += 1;
        addresses[*turn % addresses.len()]
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The native protocol over a WebSocket.
    Native,
    /// As an `EventSource`.
    Events,
    /// The native protocol in a session that is polled, each time at the next door.
    Poll,
}

/// What a client went through.
#[derive(Default)]
pub struct Life {
    /// The numbers it got.
    pub got: Vec<u64>,
    /// How often it was subscribed: at first, and whenever it came back.
    pub comings: usize,
    /// What it was told at the ends of its connections, of those that it was told about.
    pub told: Vec<u64>,
    /// Whether it is subscribed now, as far as it has been told.
    pub is_there: bool,
    way: Option<Way>,
    /// What must not be.
    pub wrong: Vec<String>,
    position: Option<(String, u64)>,
}

impl fmt::Debug for Life {
    /// Short, so that it can be read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { got, comings, told, wrong, is_there, way, position } = self;
        let (count, first, last) = (got.len(), got.first(), got.last());
        write!(
            f,
            "{way:?} got {count} from {first:?} to {last:?}, stands at {position:?}, came {comings} times, "
        )?;
        write!(f, "is there: {is_there}, was told {told:?}; wrong: {wrong:?}")
    }
}

/// What a client does next.
enum Then {
    Reads,
    Waits(Duration),
    Leaves,
}

impl Life {
    /// Where it stands.
    pub fn offset(&self) -> Option<u64> {
        self.position.as_ref().map(|(_, offset)| *offset)
    }

    fn take(&mut self, frame: &Value) -> Then {
        if frame["publication"].is_object() {
            self.publication(&frame["publication"]);
        } else if frame["subscribed"].is_object() {
            self.subscribed(&frame["subscribed"]);
        } else if let Some(after_ms) = frame["closing"]["after_ms"].as_u64() {
            return Then::Waits(Duration::from_millis(after_ms));
        } else if frame["error"].is_object() {
            // The broker may be away, or slow.
            if frame["error"]["code"] != 108 && frame["error"]["code"] != 114 {
                self.wrong.push(frame.to_string());
            }
            return Then::Leaves;
        }
        Then::Reads
    }

    fn subscribed(&mut self, subscribed: &Value) {
        let position = position(subscribed);
        if self.position.is_none() {
            self.position = Some(position);
        } else if subscribed["recovered"] != true {
            self.wrong.push(format!("behind {:?} it came back to {subscribed}", self.position));
            self.position = Some(position);
        }
        self.comings += 1;
        self.is_there = true;
    }

    fn publication(&mut self, publication: &Value) {
        let (epoch, offset) = position(publication);
        let last = self.position.replace((epoch.clone(), offset));
        if last != Some((epoch, offset - 1)) {
            self.wrong.push(format!("behind {last:?} came {publication}"));
        }
        self.got.extend(publication["data"].as_u64());
    }

    /// What it says first: who it is, and where it stands.
    fn commands(&self, channel: &str) -> String {
        let mut subscribe = json!({ "channel": channel });
        if let Some((epoch, offset)) = &self.position {
            subscribe["since"] = json!({ "epoch": epoch, "offset": offset });
        }
        json!([{ "id": 1, "connect": {} }, { "id": 2, "subscribe": subscribe }]).to_string()
    }
}

fn position(value: &Value) -> (String, u64) {
    (value["epoch"].as_str().unwrap_or_default().to_owned(), value["offset"].as_u64().unwrap_or_default())
}

/// Clients of one channel. They go when it is dropped.
pub struct Crowd {
    lives: Vec<Arc<Mutex<Life>>>,
    _runtime: Runtime,
}

impl Crowd {
    /// So many clients of each of these ways. When it returns, all are subscribed.
    pub fn gather(channel: &str, doors: &Doors, kinds: &[(Way, usize)]) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime starts");
        let mut lives = Vec::new();
        for (way, count) in kinds {
            for _ in 0..*count {
                let life = Arc::new(Mutex::new(Life { way: Some(*way), ..Life::default() }));
                lives.push(Arc::clone(&life));
                runtime.spawn(
                    Client { way: *way, channel: channel.to_owned(), doors: doors.clone(), life }.live(),
                );
            }
        }
        let crowd = Self { lives, _runtime: runtime };
        crowd.until("all are subscribed", |life| life.comings > 0);
        crowd
    }

    /// Waits until that is so for each of them.
    pub fn until(&self, what: &str, is_so: impl Fn(&Life) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while let Some(life) = self.lives.iter().find(|life| !is_so(&lock(life))) {
            assert!(
                Instant::now() < deadline,
                "{what} not within {PATIENCE:?}, but {} of {}: {:?}",
                self.lives.iter().filter(|life| is_so(&lock(life))).count(),
                self.lives.len(),
                lock(life)
            );
            std::thread::sleep(SOON);
        }
    }

    /// Waits until each has got the last number, and looks whether each has got all of them once, in order, from where it began.
    pub fn goes_on_to(&self, last: u64) {
        self.until("all have got the last one", |life| life.got.last() == Some(&last));
        self.each(|life| {
            assert!(life.wrong.is_empty(), "{life:?}");
            assert!(life.got.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{life:?}");
        });
    }

    /// The same from 1.
    pub fn has_got_all(&self, last: u64) {
        self.goes_on_to(last);
        self.each(|life| assert_eq!(life.got.first(), Some(&1), "{life:?}"));
    }

    pub fn each(&self, mut look: impl FnMut(&Life)) {
        self.lives.iter().for_each(|life| look(&lock(life)));
    }
}

struct Client {
    way: Way,
    channel: String,
    doors: Doors,
    life: Arc<Mutex<Life>>,
}

impl Client {
    /// Is there for ever.
    async fn live(self) {
        loop {
            let (address, mut pause) = (self.doors.next(), SOON);
            // However it breaks, it comes back.
            let _: io::Result<()> = match self.way {
                Way::Native => self.native(address, &mut pause).await,
                Way::Events => self.events(address, &mut pause).await,
                Way::Poll => self.poll(address, &mut pause).await,
            };
            lock(&self.life).is_there = false;
            sleep(pause).await;
        }
    }

    fn take(&self, frame: &str) -> Then {
        let frame = serde_json::from_str(frame).unwrap_or_else(|_| panic!("frames are JSON: {frame}"));
        lock(&self.life).take(&frame)
    }

    fn told(&self, code: impl Into<u64>) {
        lock(&self.life).told.push(code.into());
    }

    async fn native(&self, address: SocketAddr, pause: &mut Duration) -> io::Result<()> {
        let mut line = Line::connect(address).await?;
        line.send(format!("GET /ws?returning=true HTTP/1.1\r\n{UPGRADE}\r\n").as_bytes()).await?;
        if line.head().await?.status != 101 {
            return Ok(());
        }
        let commands = lock(&self.life).commands(&self.channel);
        line.send(&client_frame(0x81, commands.as_bytes())).await?;
        loop {
            match line.frame().await? {
                Incoming::Text(text) => match self.take(&text) {
                    Then::Reads => {}
                    Then::Waits(after) => *pause = after,
                    Then::Leaves => return Ok(()),
                },
                Incoming::Ping(payload) => line.send(&client_frame(0x8a, &payload)).await?,
                Incoming::Close(code, _) => {
                    self.told(code.unwrap_or(1005));
                    return line.send(&close(1000, b"")).await;
                }
                other => panic!("the native protocol is text: {other:?}"),
            }
        }
    }

    async fn events(&self, address: SocketAddr, pause: &mut Duration) -> io::Result<()> {
        let mut line = Line::connect(address).await?;
        let channel = &self.channel;
        let last = lock(&self.life).position.clone();
        let last = last.map_or(String::new(), |(epoch, offset)| {
            format!("Last-Event-ID: {epoch}:{offset}:{channel}\r\n")
        });
        let request = format!("GET /sse?channels={channel} HTTP/1.1\r\nHost: localhost\r\n{last}\r\n");
        line.send(request.as_bytes()).await?;
        if line.head().await?.status != 200 {
            return Ok(());
        }
        loop {
            let block = line.block().await?;
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
            let Some(data) = field("data: ") else { continue };
            let frame = match field("event: ") {
                None => format!("{{\"publication\":{data}}}"),
                Some("$subscribed") => format!("{{\"subscribed\":{data}}}"),
                Some("$refused") => format!("{{\"error\":{data}}}"),
                Some("$closing") => {
                    let said: Value = serde_json::from_str(data).expect("data is JSON");
                    self.told(said["code"].as_u64().unwrap_or_default());
                    let after_ms = field("retry: ").and_then(|ms| ms.parse().ok()).expect("it is told when");
                    *pause = Duration::from_millis(after_ms);
                    return Ok(());
                }
                Some(_) => continue,
            };
            if let Then::Leaves = self.take(&frame) {
                return Ok(());
            }
        }
    }

    async fn poll(&self, address: SocketAddr, pause: &mut Duration) -> io::Result<()> {
        let commands = lock(&self.life).commands(&self.channel);
        let (opened, body) = ask(address, "POST /session?returning=true", &commands, ANSWER).await?;
        if opened.status != 200 {
            return Ok(());
        }
        let opened: Value = serde_json::from_slice(&body).expect("it is JSON");
        let token = opened["session"].as_str().expect("a session has a token");
        let (mut got, mut broken) = (0, 0);
        while broken < BROKEN_MAX {
            let head = format!("GET /session/{token}/poll?after={got}");
            // A poll is answered after 25 s, whatever happens.
            let answer = ask(self.doors.next(), &head, "", PATIENCE).await;
            let body = match answer {
                Ok((response, body)) if response.status == 200 => body,
                // It has ended, or its node has.
                Ok((response, _)) if response.status < 500 => return Ok(()),
                _ => {
                    broken += 1;
                    sleep(SOON).await;
                    continue;
                }
            };
            broken = 0;
            let body = String::from_utf8(body).expect("frames are UTF-8");
            for frame in body.lines().filter(|line| !line.is_empty() && !line.starts_with("{\"attached\"")) {
                got += 1;
                if frame.starts_with("{\"closing\"") {
                    let said: Value = serde_json::from_str(frame).expect("frames are JSON");
                    self.told(said["closing"]["code"].as_u64().unwrap_or_default());
                }
                match self.take(frame) {
                    Then::Reads => {}
                    Then::Waits(after) => {
                        *pause = after;
                        return Ok(());
                    }
                    Then::Leaves => {
                        let head = format!("DELETE /session/{token}");
                        return ask(self.doors.next(), &head, "", ANSWER).await.map(drop);
                    }
                }
            }
        }
        Ok(())
    }
}

/// A request on a connection of its own.
async fn ask(
    address: SocketAddr,
    head: &str,
    body: &str,
    within: Duration,
) -> io::Result<(Response, Vec<u8>)> {
    let mut line = Line::connect(address).await?;
    // Thousands of requests would leave as many closed connections in the system's tables.
    SockRef::from(&line.stream).set_linger(Some(Duration::ZERO))?;
    let length = body.len();
    let request = format!(
        "{head} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    line.send(request.as_bytes()).await?;
    let answer = line.until(|unread| {
        Response::take_whole(unread).map(|(response, body, length)| ((response, body), length))
    });
    in_time(within, answer).await
}

async fn in_time<T>(within: Duration, future: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(within, future).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// A connection, and what came on it and was not taken yet.
struct Line {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Line {
    async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = in_time(ANSWER, TcpStream::connect(address)).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, unread: Vec::new() })
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Reads until there is such a thing at the beginning of what came.
    async fn until<T>(&mut self, take: impl Fn(&[u8]) -> Option<(T, usize)>) -> io::Result<T> {
        loop {
            if let Some((taken, length)) = take(&self.unread) {
                self.unread.drain(..length);
                return Ok(taken);
            }
            if self.stream.read_buf(&mut self.unread).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn head(&mut self) -> io::Result<Response> {
        in_time(ANSWER, self.until(Response::take_head)).await
    }

    async fn frame(&mut self) -> io::Result<Incoming> {
        self.until(take_frame).await
    }

    /// The next event of a stream.
    async fn block(&mut self) -> io::Result<String> {
        let take = |unread: &[u8]| {
            let end = unread.windows(2).position(|window| window == b"\n\n")?;
            Some((String::from_utf8_lossy(&unread[..end]).into_owned(), end + 2))
        };
        self.until(take).await
    }
}
