//! A client, and the oracle that checks what it gets.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use bytes::Bytes;
use duplex_core::{
    Answer, Change, ChannelName, CloseReason, Command, Encode, Epoch, EventName, Frame, FrameQueue,
    Heartbeat, Json, Link, Message, Payload, Position, PresenceChange, Protocol, Publication, Recovered,
    Step, Steps, Tags, Ticket, Written,
};
use duplex_engine::SessionKey;

use crate::weather::Said;

/// How a channel is to be judged, by the first letter of its name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Each publication once and in order.
    Reliable,
    /// Newer and newer ones.
    Thinned,
}

pub fn kind(channel: &str) -> Kind {
    if channel.starts_with("thin") { Kind::Thinned } else { Kind::Reliable }
}

/// One user agent, over all its connections.
#[derive(Default)]
pub struct Client {
    pub connection: Option<Connection>,
    pub views: BTreeMap<String, View>,
    /// Who this client thinks is there: channel and client id, and what it heard of them last.
    attendance: HashMap<(String, String), char>,
}

pub struct Connection {
    pub shard: usize,
    pub key: SessionKey,
    pub link: Rc<Wire>,
}

/// What a client knows of a channel.
#[derive(Debug, Default, Clone)]
pub struct View {
    /// It is subscribed.
    pub live: bool,
    /// The last publication it has got.
    pub position: Option<(String, u64)>,
}

/// What a client was told since it was last looked at.
#[derive(Debug, Default)]
pub struct Heard {
    pub closed: Option<u16>,
    pub publications: usize,
    pub recovered: usize,
    pub unrecovered: usize,
}

impl Client {
    /// Reads and judges what came. `kept` is how many publications a channel keeps.
    pub fn listen(&mut self, truth: &[Said], kept: u64) -> Heard {
        let mut heard = Heard::default();
        let Some(connection) = &self.connection else { return heard };
        let text = connection.link.text.take();
        for frame in text.lines() {
            assert_eq!(heard.closed, None, "something came after the farewell: {frame}");
            let words: Vec<&str> = frame.split(' ').collect();
            match words[..] {
                ["hello"] | ["left", _] | ["ping"] | ["refused", _] => {}
                ["at", channel, epoch, offset, recovered] => {
                    let offset = offset.parse().unwrap();
                    match self.subscribed(channel, epoch, offset, recovered, truth, kept) {
                        Recovered::All => heard.recovered += 1,
                        Recovered::Nothing => heard.unrecovered += 1,
                        Recovered::NotAsked => {}
                    }
                }
                ["pub", channel, epoch, offset, said] => {
                    heard.publications += 1;
                    self.published(channel, epoch, offset.parse().unwrap(), said, truth);
                }
                [sign @ ("+" | "-"), channel, client] => self.attended(sign, channel, client),
                ["close", code] => heard.closed = code.parse().ok(),
                ["aborted"] => heard.closed = Some(0),
                _ => panic!("not understood: {frame}"),
            }
        }
        heard
    }

    fn subscribed(
        &mut self,
        channel: &str,
        epoch: &str,
        offset: u64,
        recovered: &str,
        truth: &[Said],
        kept: u64,
    ) -> Recovered {
        let view = self.views.get_mut(channel).expect("it asked for the channel");
        assert!(!view.live, "subscribed twice to {channel}");
        view.live = true;
        let since = view.position.take();
        let recovered = match recovered {
            "all" => Recovered::All,
            "nothing" => Recovered::Nothing,
            _ => Recovered::NotAsked,
        };
        let asked = since.is_some();
        assert_eq!(asked, recovered != Recovered::NotAsked, "{channel}: what was asked is answered");
        let reachable =
            since.as_ref().is_some_and(|(e, o)| e == epoch && *o <= offset && offset - *o <= kept);
        match recovered {
            Recovered::All => {
                assert!(reachable, "{channel}: {since:?} cannot be recovered at {epoch}/{offset}")
            }
            Recovered::Nothing => {
                assert!(!reachable, "{channel}: {since:?} could have been recovered at {epoch}/{offset}");
            }
            Recovered::NotAsked => {}
        }
        let known = truth.iter().filter(|p| &*p.channel == channel && p.position.epoch.to_string() == epoch);
        assert!(
            known.map(|p| p.position.offset).max().unwrap_or(0) >= offset,
            "{channel}: {offset} was never given out"
        );
        view.position = match recovered {
            Recovered::All => since,
            _ => Some((epoch.to_owned(), offset)),
        };
        recovered
    }

    fn published(&mut self, channel: &str, epoch: &str, offset: u64, said: &str, truth: &[Said]) {
        let view = self.views.get_mut(channel).expect("it asked for the channel");
        assert!(view.live, "{channel}/{offset} came to somebody who is not subscribed");
        let (at_epoch, at) = view.position.as_mut().expect("a subscription has a position");
        assert_eq!(at_epoch, epoch, "{channel}: another epoch without a word");
        match kind(channel) {
            Kind::Reliable => assert_eq!(offset, *at + 1, "{channel}: after {at} comes the next one"),
            Kind::Thinned => assert!(offset > *at, "{channel}: {offset} after {at}"),
        }
        *at = offset;
        let true_one = truth.iter().rev().find(|p| {
            &*p.channel == channel && p.position.offset == offset && p.position.epoch.to_string() == epoch
        });
        let true_one = true_one.expect("it was published");
        assert_eq!(true_one.text, said, "{channel}/{offset}");
    }

    fn attended(&mut self, sign: &str, channel: &str, client: &str) {
        let sign = sign.chars().next().unwrap();
        let before = self.attendance.insert((channel.to_owned(), client.to_owned()), sign);
        assert_ne!(before, Some(sign), "{client} {sign} {channel} twice");
    }

    /// Its connection is gone; what it knows stays.
    pub fn disconnected(&mut self) {
        self.connection = None;
        self.attendance.clear();
        for view in self.views.values_mut() {
            view.live = false;
        }
    }

    /// It leaves a channel and forgets what it knew of it.
    pub fn forget(&mut self, channel: &str) {
        self.views.remove(channel);
        self.attendance.retain(|(known, _), _| known != channel);
    }
}

/// A link whose other end reads as it likes.
#[derive(Default)]
pub struct Wire {
    text: RefCell<String>,
    pub pace: Cell<Pace>,
}

#[derive(Default, Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    #[default]
    Reads,
    /// So many bytes, then no more until it is asked again.
    Takes(usize),
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
        Heartbeat::Ping(Bytes::from_static(b"ping\n"))
    }

    fn write(&self, queue: &mut FrameQueue) -> Written {
        let mut room = match self.pace.get() {
            Pace::Reads => usize::MAX,
            Pace::Takes(bytes) => bytes,
            Pace::Stuck => 0,
            Pace::Dead => return Written::Dead,
        };
        loop {
            let Some(frame) = queue.iter().next().cloned() else { return Written::All };
            let part = frame.len().min(room);
            if part == 0 {
                return Written::Blocked;
            }
            self.text.borrow_mut().push_str(std::str::from_utf8(&frame[..part]).unwrap());
            room -= part;
            queue.advance(part);
        }
    }

    fn farewell(&self, reason: &'static CloseReason, _: &str) -> Option<Bytes> {
        Some(Bytes::from(format!("close {}\n", reason.code)))
    }

    fn abort(&self) {
        // What was cut off in the middle is no frame.
        let mut text = self.text.borrow_mut();
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        text.truncate(whole);
        if !text.ends_with("aborted\n") && !text.lines().any(|line| line.starts_with("close")) {
            text.push_str("aborted\n");
        }
    }
}

impl Wire {
    /// Frames that are complete; the rest stays.
    pub fn settle(&self) -> bool {
        let text = self.text.borrow();
        text.is_empty() || text.ends_with('\n')
    }
}

/// Commands and answers in words.
pub struct Spoken;

impl Protocol for Spoken {
    fn open(&mut self, _: &mut Steps) {}

    fn receive(&mut self, frame: Frame<'_>, steps: &mut Steps) {
        let Frame::Text(text) = frame else { panic!("words are text") };
        let words: Vec<&str> = text.split(' ').collect();
        let channel = |name: &str| ChannelName::parse(name).unwrap();
        let command = match words[..] {
            ["connect"] => Command::Connect { token: None, hello: None },
            ["sub", name] => Command::subscribe(channel(name), None),
            ["sub", name, epoch, offset] => {
                let since = Position { epoch: Epoch::parse(epoch).unwrap(), offset: offset.parse().unwrap() };
                Command::subscribe(channel(name), Some(since))
            }
            ["unsub", name] => Command::Unsubscribe { channel: channel(name) },
            ["pub", name, said] => {
                let raw = serde_json::value::RawValue::from_string(said.to_owned()).unwrap();
                Command::Publish {
                    channel: channel(name),
                    event: EventName::default(),
                    payload: Payload::Data(Json::check(&raw).unwrap()),
                    tags: Tags::default(),
                    key: None,
                    audience: Default::default(),
                }
            }
            _ => panic!("unknown words {text:?}"),
        };
        steps.push_back(Step::Ask(Ticket(0), command));
    }

    fn answer(&mut self, _: Ticket, answer: Answer, steps: &mut Steps) {
        let text = match answer {
            Answer::Connected { .. } => "hello\n".to_owned(),
            Answer::Subscribed { channel, position, recovered } => {
                let recovered = match recovered {
                    Recovered::NotAsked => "-",
                    Recovered::All => "all",
                    Recovered::Nothing => "nothing",
                };
                format!("at {} {} {} {recovered}\n", &*channel, position.epoch, position.offset)
            }
            Answer::Unsubscribed { channel } => format!("left {}\n", &*channel),
            Answer::Published { .. } | Answer::Recovered { .. } => return,
            Answer::Refused(refusal) => format!("refused {}\n", refusal.code as u16),
            other => panic!("nobody asked for {other:?}"),
        };
        steps.push_back(Step::Send(Message::Text(Bytes::from(text))));
    }
}

/// Events in words.
pub struct Words;

impl Encode for Words {
    fn publication(&self, publication: &Publication) -> Bytes {
        let Publication { position, draft, .. } = publication;
        let said = draft.payload.json().as_str();
        Bytes::from(format!("pub {} {} {} {said}\n", &*draft.channel, position.epoch, position.offset))
    }

    fn presence(&self, change: &PresenceChange) -> Bytes {
        let sign = if change.change == Change::Joined { '+' } else { '-' };
        Bytes::from(format!("{sign} {} {}\n", &*change.channel, change.member.client))
    }
}
