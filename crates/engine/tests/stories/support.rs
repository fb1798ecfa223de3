//! A shard, its clients and its time, driven by sentences.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use duplex_broker::{Capacity, Memory};
use duplex_core::{
    Answer, Audience, Backend, Broker, Call, Change, ChannelName, CloseReason, Command, Detail, Effort,
    Encode, EncodingId, Epoch, ErrorCode, EventName, Frame, FrameQueue, Heartbeat, Identity, Json, Link,
    Message, Payload, Pending, Position, PresenceChange, Protocol, Publication, Recovered, Refusal, Said,
    ShardId, Step, Steps, Stream, Tags, Ticket, UserId, Written,
};
use duplex_engine::{
    Allow, Encoding, Ground, Namespaces, Node, Opening, Pieces, Policy, SessionKey, Settings, Shard, Who,
    Whom, unix_ms,
};

pub fn settings() -> Settings {
    Settings::default()
}

/// Everyone may do everything.
pub fn open() -> Policy {
    Policy { allow: Allow::all(Who::Anyone), ..Policy::default() }
}

/// The encoding of what is told as streams.
const STREAMED: EncodingId = EncodingId(1);

/// One shard with clients that are named by a word.
pub struct Story {
    shard: Rc<Shard>,
    node: Arc<Node>,
    clients: BTreeMap<String, Client>,
    epochs: Rc<RefCell<HashMap<ChannelName, Epoch>>>,
    now_ms: u64,
}

struct Client {
    key: SessionKey,
    link: Rc<Wire>,
}

impl Story {
    pub fn new() -> Self {
        Self::with(settings())
    }

    pub fn with(settings: Settings) -> Self {
        Self::ruled(settings, Namespaces::one(open()))
    }

    pub fn ruled(settings: Settings, namespaces: Namespaces) -> Self {
        Self::over(settings, namespaces, |memory| memory)
    }

    /// The broker may be wrapped in one that fails.
    pub fn over<B: Broker + 'static>(
        settings: Settings,
        namespaces: Namespaces,
        wrap: impl FnOnce(Arc<Memory>) -> Arc<B>,
    ) -> Self {
        let words = |plain, pieces| Encoding { encode: Box::new(Words), plain, pieces };
        let encodings = vec![words(EncodingId(0), Pieces::Joined), words(STREAMED, Pieces::Single)];
        let node = Arc::new(Node::new(1, encodings, settings.inbox_bytes));
        let memory = Arc::new(Memory::new(Capacity::default(), node.clone()));
        let broker = wrap(Arc::clone(&memory));
        let ground = Ground { node: Arc::clone(&node), broker, presence: memory, backend: Arc::new(Gate) };
        let shard = Shard::new(ShardId::new(0).unwrap(), ground, settings, Arc::new(namespaces));
        Self { shard, node, clients: BTreeMap::new(), epochs: Rc::default(), now_ms: 0 }
    }

    /// `client: command; command` and what all clients get, `client: words | client: words`.
    #[track_caller]
    pub fn run(&mut self, told: &str, expected: &str) {
        let (name, commands) = told.split_once(": ").unwrap();
        if !self.clients.contains_key(name) {
            self.open(name);
        }
        let key = self.clients[name].key;
        for command in commands.split("; ") {
            self.shard.heard(key);
            self.shard.receive(key, Frame::Text(command));
        }
        self.expect(expected);
    }

    pub fn open(&mut self, name: &str) {
        let link = Rc::new(Wire::default());
        let protocol = Box::new(Spoken { epochs: Rc::clone(&self.epochs) });
        let key = self.shard.open(Opening {
            link: link.clone(),
            protocol,
            encoding: EncodingId(0),
            identity: None,
            client: None,
            trail: None,
        });
        self.clients.insert(name.to_owned(), Client { key, link });
    }

    /// Time goes by, in steps as the shard takes them.
    #[track_caller]
    pub fn pass(&mut self, ms: u32, expected: &str) {
        self.wait(ms);
        self.expect(expected);
    }

    /// How many clients were pinged while time went by.
    pub fn pings_in(&mut self, ms: u32) -> usize {
        self.wait(ms);
        self.clients.values().filter(|client| client.link.text.take().contains("ping")).count()
    }

    /// Time goes by, and all clients are heard of.
    #[track_caller]
    pub fn keep_alive(&mut self, ms: u32, expected: &str) {
        for client in self.clients.values() {
            self.shard.heard(client.key);
        }
        self.pass(ms, expected);
    }

    /// Tasks that wait for the backend or the broker get their turns.
    pub async fn let_run(&self) {
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
    }

    /// Time goes by; what is said is kept for later.
    pub fn quiet(&mut self, ms: u32) {
        self.wait(ms);
    }

    fn wait(&mut self, ms: u32) {
        for _ in 0..ms / 100 {
            self.now_ms += 100;
            self.shard.tick(self.now_ms);
            self.end_turn();
        }
    }

    pub fn heard(&self, name: &str) {
        self.shard.heard(self.clients[name].key);
    }

    pub fn stuck(&self, name: &str) {
        self.clients[name].link.state.set(State::Stuck);
    }

    pub fn unstuck(&self, name: &str) {
        self.clients[name].link.state.set(State::Open);
        self.shard.writable(self.clients[name].key);
    }

    /// Its transport takes a frame each time it is asked to write; what is behind it has left the outbox nevertheless.
    pub fn trickle(&self, name: &str) {
        self.clients[name].link.state.set(State::Trickling);
        self.shard.writable(self.clients[name].key);
        self.end_turn();
    }

    /// Its transport has ended, and another may come.
    pub fn away(&self, name: &str) {
        self.clients[name].link.state.set(State::Away);
        self.shard.left(self.clients[name].key);
        self.end_turn();
    }

    /// Another transport has come.
    pub fn back(&self, name: &str) {
        self.heard(name);
        self.unstuck(name);
    }

    /// From now on its link keeps what it has sent, until [`Self::got_all`].
    pub fn keep_sent(&self, name: &str) {
        self.clients[name].link.kept.set(Some(0));
    }

    /// The client has said that it got everything.
    pub fn got_all(&self, name: &str) {
        self.keep_sent(name);
        self.shard.writable(self.clients[name].key);
        self.end_turn();
    }

    pub fn dead(&self, name: &str) {
        self.clients[name].link.state.set(State::Dead);
    }

    /// The transport of this client has ended.
    pub fn gone(&mut self, name: &str) {
        let client = self.clients.remove(name).unwrap();
        self.shard.ended(client.key);
    }

    /// Sessions are closed from elsewhere.
    #[track_caller]
    pub fn close(&self, whom: &Whom, reason: &'static CloseReason, expected: &str) {
        self.node.close(whom, reason).unwrap();
        self.expect(expected);
    }

    #[track_caller]
    pub fn send_away(&self, count: usize, expected: &str) -> usize {
        let left = self.shard.send_away(count, 1);
        self.expect(expected);
        left
    }

    pub fn reconfigure(&self, settings: Settings, namespaces: Namespaces) {
        self.shard.reconfigure(settings, Arc::new(namespaces));
    }

    pub fn node(&self) -> &Node {
        &self.node
    }

    pub fn gauges(&self) -> (usize, usize) {
        (self.node.gauges().sessions(), self.node.gauges().subscriptions())
    }

    /// Frames the link of a client was given.
    pub fn writes(&self, name: &str) -> usize {
        self.clients[name].link.frames.get()
    }

    fn end_turn(&self) {
        self.shard.drain();
        while self.shard.flush() != duplex_engine::Flushed::All {}
    }

    #[track_caller]
    pub fn expect(&self, expected: &str) {
        self.end_turn();
        let got = self.clients.iter().filter_map(|(name, client)| {
            let words = client.link.text.take();
            (!words.is_empty()).then(|| format!("{name}: {}", words.trim_end()))
        });
        assert_eq!(got.collect::<Vec<_>>().join(" | "), expected);
    }
}

/// What a client gets, in words.
#[derive(Default)]
struct Wire {
    text: RefCell<String>,
    frames: Cell<usize>,
    state: Cell<State>,
    /// What it took out of the outbox and has not sent.
    held: RefCell<FrameQueue>,
    /// Bytes of what it has sent, if it keeps that.
    kept: Cell<Option<usize>>,
}

#[derive(Default, Clone, Copy, PartialEq)]
enum State {
    #[default]
    Open,
    Trickling,
    Stuck,
    Away,
    Dead,
}

impl Link for Wire {
    fn frame(&self, message: Message) -> Bytes {
        match message {
            Message::Text(text) | Message::Binary(text) => text,
        }
    }

    fn heartbeat(&self) -> Heartbeat {
        Heartbeat::Ping(Bytes::from_static(b"ping "))
    }

    fn write(&self, queue: &mut FrameQueue) -> Written {
        let frames_max = match self.state.get() {
            State::Stuck => return Written::Blocked,
            State::Away => return Written::Away,
            State::Dead => return Written::Dead,
            State::Trickling => 1,
            State::Open => usize::MAX,
        };
        let held = &mut *self.held.borrow_mut();
        while let Some(frame) = queue.pop() {
            held.push(frame);
        }
        for _ in 0..frames_max {
            let Some(frame) = held.pop() else { break };
            self.text.borrow_mut().push_str(std::str::from_utf8(&frame).unwrap());
            self.frames.set(self.frames.get() + 1);
            self.kept.set(self.kept.get().map(|kept| kept + frame.len()));
        }
        if held.is_empty() { Written::All } else { Written::Blocked }
    }

    fn unsent_bytes(&self) -> usize {
        self.held.borrow().bytes()
    }

    fn kept_bytes(&self) -> usize {
        self.held.borrow().bytes() + self.kept.get().unwrap_or(0)
    }

    fn farewell(&self, reason: &'static CloseReason, _: &str) -> Option<Bytes> {
        Some(Bytes::from(format!("close{} ", reason.code)))
    }

    fn abort(&self) {
        self.text.borrow_mut().push_str("aborted ");
    }
}

/// Commands in words. Positions are told by offset alone; the epoch is the one last heard of.
struct Spoken {
    epochs: Rc<RefCell<HashMap<ChannelName, Epoch>>>,
}

impl Protocol for Spoken {
    fn open(&mut self, _: &mut Steps) {}

    fn receive(&mut self, frame: Frame<'_>, steps: &mut Steps) {
        let Frame::Text(text) = frame else { panic!("words are text") };
        let words: Vec<&str> = text.split(' ').collect();
        let channel = |name: &str| ChannelName::parse(name).unwrap();
        let since = |name: &str, offset: &str| {
            let epoch = self.epochs.borrow()[&channel(name)];
            Some(Position { epoch, offset: offset.parse().unwrap() })
        };
        let command = match words[..] {
            ["connect"] => Command::Connect { token: None, hello: None },
            ["connect", token] => Command::Connect { token: Some(token.into()), hello: None },
            ["refresh", token] => Command::Refresh { token: token.into() },
            ["sub", name] => Command::subscribe(channel(name), None),
            ["sub", name, "since", offset] => Command::subscribe(channel(name), since(name, offset)),
            ["sub", name, "with", token] => Command::Subscribe {
                channel: channel(name),
                since: None,
                token: Some(token.into()),
                stream: None,
            },
            // `stream news as 7`, and perhaps `since 3`.
            ["stream", name, "as", stream, ref rest @ ..] => Command::Subscribe {
                channel: channel(name),
                since: rest.get(1).and_then(|offset| since(name, offset)),
                token: None,
                stream: Some(Stream { name: stream.into(), encoding: STREAMED }),
            },
            ["who", name] => Command::Presence { channel: channel(name), detail: Detail::Members },
            ["count", name] => Command::Presence { channel: channel(name), detail: Detail::Count },
            ["history", name] => {
                let page =
                    duplex_core::Page { since: None, limit: 100, order: duplex_core::Order::OldestFirst };
                Command::History { channel: channel(name), page }
            }
            ["call", method, said] => {
                Command::Call { method: EventName::parse(method).unwrap(), payload: payload(said) }
            }
            ["vol", name, said] => Command::Publish {
                channel: channel(name),
                event: EventName::default(),
                payload: payload(said),
                tags: Tags::default(),
                key: None,
                audience: Audience { effort: Effort::Volatile, ..Audience::default() },
            },
            ["unsub", name] => Command::Unsubscribe { channel: channel(name) },
            ["pub", name, ref said @ ..] => {
                // `pub ticker 5 A`: the last word is the tag `key`.
                let tags = said.get(1).map(|key| ("key".to_owned(), (*key).to_owned())).into_iter().collect();
                Command::Publish {
                    channel: channel(name),
                    event: EventName::default(),
                    payload: payload(said[0]),
                    tags: Tags::parse(tags).unwrap(),
                    key: None,
                    audience: Default::default(),
                }
            }
            _ => panic!("unknown words {text:?}"),
        };
        steps.push_back(Step::Ask(Ticket(0), command));
    }

    fn item(&self, stream: &str, event: &[u8]) -> Message {
        let event = std::str::from_utf8(event).unwrap();
        Message::Text(Bytes::from(format!("{stream}<{event}")))
    }

    fn answer(&mut self, _: Ticket, answer: Answer, steps: &mut Steps) {
        let text = match answer {
            Answer::Connected { join, .. } => {
                steps.push_back(Step::Send(Message::Text(Bytes::from_static(b"hello "))));
                let subscribe = |channel| Command::subscribe(channel, None);
                steps.extend(join.into_iter().map(|channel| Step::Ask(Ticket(0), subscribe(channel))));
                return;
            }
            Answer::Refreshed { .. } => "refreshed ".to_owned(),
            Answer::Present { channel, present } => {
                let users = present.members.iter().map(|member| member.user.as_deref().unwrap_or("?"));
                let mut users: Vec<_> = users.collect();
                users.sort_unstable();
                format!("{}:{} ", &*channel, users.join(","))
            }
            Answer::Counted { channel, attendance } => {
                format!("{}:{}/{} ", &*channel, attendance.clients, attendance.users)
            }
            Answer::Called { payload } => format!("called{} ", payload.json().as_str()),
            Answer::Told { .. } => return,
            Answer::Subscribed { channel, position, recovered } => {
                self.epochs.borrow_mut().insert(channel.clone(), position.epoch);
                let recovered = match recovered {
                    Recovered::NotAsked => "",
                    Recovered::All => "+all",
                    Recovered::Nothing => "+nothing",
                };
                format!("{}@{}{recovered} ", &*channel, position.offset)
            }
            Answer::Unsubscribed { .. } => "left ".to_owned(),
            Answer::History { channel, publications, .. } => format!("{}*{} ", &*channel, publications.len()),
            Answer::Published { .. } | Answer::Recovered { .. } => return,
            Answer::Refused(refusal) => format!("refused{} ", refusal.code as u16),
        };
        steps.push_back(Step::Send(Message::Text(Bytes::from(text))));
    }
}

fn payload(said: &str) -> Payload {
    Payload::Data(json(said))
}

fn json(said: &str) -> Json {
    Json::check(&serde_json::value::to_raw_value(said).unwrap()).unwrap()
}

/// A backend that believes everyone: the token is the user's name. `alice+60` is good for so many seconds.
struct Gate;

impl Backend for Gate {
    fn connect(&self, token: Option<&str>) -> Pending<Result<Identity, Refusal>> {
        let identity = match token {
            None => Ok(Identity::default()),
            Some("forged") => Err(Refusal::new(ErrorCode::Unauthorized, "forged")),
            Some("expired") => Err(Refusal::new(ErrorCode::TokenExpired, "expired")),
            Some(token) => {
                let (user, seconds) = token.split_once('+').unwrap_or((token, ""));
                let expires_ms = seconds.parse::<u64>().ok().map(|seconds| unix_ms() + seconds * 1_000);
                let channels =
                    if user == "joiner" { vec![ChannelName::parse("lobby").unwrap()] } else { vec![] };
                let user = Some(UserId::parse(user).unwrap());
                Ok(Identity { user, expires_ms, channels, ..Identity::default() })
            }
        };
        // `slow` is known only after a while.
        let slow = token == Some("slow");
        Box::pin(async move {
            if slow {
                tokio::task::yield_now().await;
            }
            identity
        })
    }

    fn subscribe(
        &self,
        identity: &Identity,
        channel: &ChannelName,
        token: &str,
    ) -> Pending<Result<(), Refusal>> {
        let right = identity.user.as_deref().is_some_and(|user| token == format!("{user}@{}", &**channel));
        let refusal = Refusal::new(ErrorCode::Unauthorized, "not for this");
        Box::pin(std::future::ready(if right { Ok(()) } else { Err(refusal) }))
    }

    fn call(&self, call: Call) -> Pending<Result<Said, Refusal>> {
        Box::pin(async move {
            match &*call.method {
                "echo" => Ok(Said { payload: call.payload, events: Vec::new() }),
                _ => std::future::pending().await,
            }
        })
    }
}

/// What happens in channels, in words.
struct Words;

impl Encode for Words {
    fn publication(&self, publication: &Publication) -> Bytes {
        let Publication { position, draft, .. } = publication;
        let said: String = serde_json::from_str(draft.payload.json().as_str()).unwrap();
        Bytes::from(format!("{}/{}={said} ", &*draft.channel, position.offset))
    }

    fn presence(&self, change: &PresenceChange) -> Bytes {
        let sign = if change.change == Change::Joined { '+' } else { '-' };
        let user = change.member.user.as_deref().unwrap_or("?");
        Bytes::from(format!("{sign}{user}/{} ", &*change.channel))
    }
}
