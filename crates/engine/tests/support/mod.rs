//! A shard, its clients and its time, driven by sentences.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use duplex_broker::{Memory, Retention};
use duplex_core::{
    Answer, ChannelName, CloseReason, Command, Encode, EncodingId, Epoch, EventName, Frame, FrameQueue,
    Heartbeat, Json, Link, Message, Payload, Position, Protocol, Publication, Recovered, ShardId, Step,
    Steps, Tags, Ticket, Written,
};
use duplex_engine::{Node, Opening, SessionKey, Settings, Shard};

pub fn settings() -> Settings {
    Settings::default()
}

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
        let node = Arc::new(Node::new(1, vec![Box::new(Words)], settings.inbox_bytes));
        let broker = Arc::new(Memory::new(Retention::default(), node.clone()));
        let shard = Shard::new(ShardId::new(0).unwrap(), Arc::clone(&node), broker, settings);
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
            self.shard.receive(key, Frame::Text(command));
        }
        self.expect(expected);
    }

    pub fn open(&mut self, name: &str) {
        let link = Rc::new(Wire::default());
        let protocol = Box::new(Spoken { epochs: Rc::clone(&self.epochs) });
        let key = self.shard.open(Opening { link: link.clone(), protocol, encoding: EncodingId(0) });
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

    fn wait(&mut self, ms: u32) {
        for _ in 0..ms / 100 {
            self.now_ms += 100;
            self.shard.tick(self.now_ms);
            self.end_turn();
        }
    }

    #[track_caller]
    pub fn close_all(&mut self, expected: &str) {
        self.shard.close_all(&CloseReason::RESTART);
        self.expect(expected);
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

    pub fn dead(&self, name: &str) {
        self.clients[name].link.state.set(State::Dead);
    }

    /// The transport of this client has ended.
    pub fn gone(&mut self, name: &str) {
        let client = self.clients.remove(name).unwrap();
        self.shard.ended(client.key);
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
    fn expect(&self, expected: &str) {
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
}

#[derive(Default, Clone, Copy, PartialEq)]
enum State {
    #[default]
    Open,
    Stuck,
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
        match self.state.get() {
            State::Stuck => return Written::Blocked,
            State::Dead => return Written::Dead,
            State::Open => {}
        }
        while let Some(frame) = queue.pop() {
            self.text.borrow_mut().push_str(std::str::from_utf8(&frame).unwrap());
            self.frames.set(self.frames.get() + 1);
        }
        Written::All
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
            ["connect"] => Command::Connect,
            ["sub", name] => Command::Subscribe { channel: channel(name), since: None },
            ["sub", name, "since", offset] => {
                Command::Subscribe { channel: channel(name), since: since(name, offset) }
            }
            ["unsub", name] => Command::Unsubscribe { channel: channel(name) },
            ["pub", name, said] => Command::Publish {
                channel: channel(name),
                event: EventName::default(),
                payload: Payload::Data(Json::check(&serde_json::value::to_raw_value(said).unwrap()).unwrap()),
                tags: Tags::default(),
                key: None,
            },
            _ => panic!("unknown words {text:?}"),
        };
        steps.push_back(Step::Ask(Ticket(0), command));
    }

    fn answer(&mut self, _: Ticket, answer: Answer, steps: &mut Steps) {
        let text = match answer {
            Answer::Connected { .. } => "hello ".to_owned(),
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
            Answer::Published { .. } | Answer::History { .. } => return,
            Answer::Refused(refusal) => format!("refused{} ", refusal.code as u16),
        };
        steps.push_back(Step::Send(Message::Text(Bytes::from(text))));
    }
}

/// Publications in words.
struct Words;

impl Encode for Words {
    fn publication(&self, publication: &Publication) -> Bytes {
        let Publication { position, draft } = publication;
        let said: String = serde_json::from_str(draft.payload.json().as_str()).unwrap();
        Bytes::from(format!("{}/{}={said} ", &*draft.channel, position.offset))
    }
}
