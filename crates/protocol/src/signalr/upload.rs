//! Streams that a client sends with an invocation: items to be published, or arguments of a call that are not all there yet.

use std::collections::VecDeque;

use duplex_core::{Answer, ChannelName, Command, ErrorCode, Payload, Position, Recovered, Refusal};

use super::hub::Reply;
use crate::arguments::{Arguments, Growing};
use crate::publication::{Standing, write_json, write_text};

/// Items that wait until those before them are published, at most.
const WAITING_MAX: usize = 64;

/// An invocation whose streams are not complete.
#[derive(Debug)]
pub(super) struct Upload {
    /// Tells it from others of its connection.
    pub number: u64,
    pub target: Box<str>,
    pub reply: Reply,
    work: Work,
    /// Those that have not ended.
    open: Vec<Box<str>>,
    /// Of items that are kept.
    bytes: usize,
    bytes_max: usize,
}

#[derive(Debug)]
enum Work {
    /// Each item is a publication like this one.
    Publish { like: Command, waiting: VecDeque<Payload>, asking: Asking, published: Published },
    /// Each stream is one argument more.
    Call { arguments: Arguments, streams: Vec<(Box<str>, Growing)> },
}

/// Whether a publication is under way: they go one after the other, so that their order stays.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Asking {
    No,
    Yes,
}

#[derive(Debug)]
struct Published {
    channel: ChannelName,
    count: u64,
    last: Option<Position>,
}

/// What follows from something that came.
#[derive(Debug)]
pub(super) enum Progress {
    /// Nothing yet.
    Wait,
    /// This is to be published.
    Publish(Command),
    /// All was published; the answer, as JSON.
    Published(String),
    /// All arguments are there.
    Call(Arguments),
    /// It cannot go on.
    Failed(Refusal),
}

impl Upload {
    /// An invocation that comes with `streams`; `command` is what it asks for without them.
    pub fn new(
        number: u64,
        (target, reply): (Box<str>, Reply),
        (command, arguments): (Command, Arguments),
        streams: Vec<Box<str>>,
        bytes_max: usize,
    ) -> Self {
        let work = match command {
            Command::Publish { ref channel, .. } => {
                let published = Published { channel: channel.clone(), count: 0, last: None };
                Work::Publish { like: command, waiting: VecDeque::new(), asking: Asking::No, published }
            }
            _ => Work::Call {
                arguments,
                streams: streams.iter().map(|stream| (stream.clone(), Growing::default())).collect(),
            },
        };
        Self { number, target, reply, work, open: streams, bytes: 0, bytes_max }
    }

    /// How many streams are open.
    pub fn streams(&self) -> usize {
        self.open.len()
    }

    /// Whether this stream belongs to it, and has not ended.
    pub fn has(&self, stream: &str) -> bool {
        self.open.iter().any(|open| **open == *stream)
    }

    /// An item has come.
    pub fn item(&mut self, stream: &str, item: &Arguments) -> Progress {
        let payload = match item.payload(0) {
            Ok(payload) => payload,
            Err(error) => return Progress::Failed(Refusal::bad_request(format_args!("item: {error}"))),
        };
        self.bytes += payload.json().as_str().len() + 1;
        if self.bytes > self.bytes_max {
            let message = format!("more than {} bytes of items wait; send fewer at once", self.bytes_max);
            return Progress::Failed(Refusal::new(ErrorCode::LimitExceeded, message));
        }
        match &mut self.work {
            Work::Publish { waiting, .. } if waiting.len() >= WAITING_MAX => {
                let message =
                    format!("more than {WAITING_MAX} items wait to be published; send fewer at once");
                Progress::Failed(Refusal::new(ErrorCode::TooManyRequests, message))
            }
            Work::Publish { waiting, .. } => {
                waiting.push_back(payload);
                self.go_on()
            }
            Work::Call { streams, .. } => {
                let stream = streams.iter_mut().find(|(known, _)| **known == *stream);
                stream.into_iter().for_each(|(_, items)| items.push(payload.json()));
                Progress::Wait
            }
        }
    }

    /// A stream has ended.
    pub fn ended(&mut self, stream: &str) -> Progress {
        self.open.retain(|open| **open != *stream);
        self.go_on()
    }

    /// What was to be published was, or was not.
    pub fn answered(&mut self, answer: Answer) -> Progress {
        if let Work::Publish { asking, published, .. } = &mut self.work {
            *asking = Asking::No;
            match answer {
                Answer::Published { position, .. } => {
                    published.count += 1;
                    published.last = Some(position);
                }
                Answer::Refused(refusal) => return Progress::Failed(refusal),
                _ => {}
            }
        }
        self.go_on()
    }

    fn go_on(&mut self) -> Progress {
        match &mut self.work {
            Work::Publish { asking: Asking::Yes, .. } => Progress::Wait,
            Work::Publish { like, waiting, asking, published } => match waiting.pop_front() {
                Some(item) => {
                    self.bytes -= item.json().as_str().len() + 1;
                    *asking = Asking::Yes;
                    let mut command = like.clone();
                    if let Command::Publish { payload, .. } = &mut command {
                        *payload = item;
                    }
                    Progress::Publish(command)
                }
                None if self.open.is_empty() => Progress::Published(published.json()),
                None => Progress::Wait,
            },
            Work::Call { arguments, streams } if self.open.is_empty() => {
                streams.drain(..).for_each(|(_, items)| arguments.append(items));
                Progress::Call(std::mem::take(arguments))
            }
            Work::Call { .. } => Progress::Wait,
        }
    }
}

impl Published {
    fn json(&self) -> String {
        let mut out = Vec::with_capacity(96);
        match self.last {
            Some(position) => {
                write_json(&Standing::new(&self.channel, position, Recovered::NotAsked), &mut out);
                out.pop();
            }
            None => {
                out.extend_from_slice(br#"{"channel":"#);
                write_json(&*self.channel, &mut out);
            }
        }
        write_text(format_args!(r#","count":{}}}"#, self.count), &mut out);
        String::from_utf8(out).expect("JSON of texts is text")
    }
}
