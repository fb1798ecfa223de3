//! Many native clients, each with words of its own.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::deadline::Deadline;
use crate::failure::Failure;
use crate::load::link::{Link, Message};
use crate::load::pipe::{Scratch, Socket};
use crate::load::{WAIT_MAX, await_sockets};

/// What a member hears.
#[derive(Clone, Copy, Debug)]
pub enum Heard<'a> {
    Text(&'a [u8]),
    /// It does not listen, and the server has ended its connection.
    Gone,
}

/// Native clients on one epoll.
pub struct Crowd {
    address: SocketAddr,
    poll: Poll,
    events: Events,
    scratch: Scratch,
    members: Vec<Member>,
    ready: usize,
}

struct Member {
    link: Link,
    /// Said once the connection is open; each is answered.
    opening: Vec<String>,
    unanswered: usize,
    ears: Ears,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ears {
    Open,
    Shut,
    Gone,
}

/// With this interest epoll tells of nothing but the end of a connection.
#[cfg(target_os = "linux")]
const END_ONLY: Interest = Interest::PRIORITY;
#[cfg(not(target_os = "linux"))]
const END_ONLY: Interest = Interest::WRITABLE;

impl Crowd {
    /// Nobody yet.
    pub fn new(address: SocketAddr) -> Result<Self, Failure> {
        Ok(Self {
            address,
            poll: Poll::new().map_err(Failure::io("cannot open an epoll"))?,
            events: Events::with_capacity(1024),
            scratch: Scratch::new(256 * 1024),
            members: Vec::new(),
            ready: 0,
        })
    }

    /// Lets `count` more connect, at most `at_once` at a time, and say what `opening` gives each of them. `hear` gets
    /// the answers. Returns their indices when all are answered.
    pub fn join(
        &mut self,
        count: usize,
        at_once: usize,
        deadline: &Deadline,
        opening: impl FnMut(usize) -> Vec<String>,
        hear: impl FnMut(usize, Heard<'_>) -> Result<(), Failure>,
    ) -> Result<Range<usize>, Failure> {
        self.join_in_turn(&[self.address], count, at_once, deadline, opening, hear)
    }

    /// The same with servers at several addresses, to which they go in turn.
    pub fn join_in_turn(
        &mut self,
        addresses: &[SocketAddr],
        count: usize,
        at_once: usize,
        deadline: &Deadline,
        mut opening: impl FnMut(usize) -> Vec<String>,
        mut hear: impl FnMut(usize, Heard<'_>) -> Result<(), Failure>,
    ) -> Result<Range<usize>, Failure> {
        let first = self.members.len();
        let end = first + count;
        while self.ready < end {
            while self.members.len() < end && self.members.len() - self.ready < at_once {
                let index = self.members.len();
                self.start(addresses[(index - first) % addresses.len()], opening(index))?;
            }
            self.turn(WAIT_MAX, deadline, &mut hear)?;
        }
        Ok(first..end)
    }

    /// Waits up to `wait` for the sockets; `hear` gets what they say.
    pub fn turn(
        &mut self,
        wait: Duration,
        deadline: &Deadline,
        mut hear: impl FnMut(usize, Heard<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        deadline.check()?;
        await_sockets(&mut self.poll, &mut self.events, wait)?;
        for event in &self.events {
            let index = event.token().0;
            let member = &mut self.members[index];
            match member.ears {
                Ears::Open => {
                    let was_ready = member.is_ready();
                    member.advance(&mut self.scratch, |text| hear(index, Heard::Text(text)))?;
                    if member.is_ready() && !was_ready {
                        self.ready += 1;
                    }
                }
                Ears::Shut if event.is_error() || event.is_write_closed() => {
                    member.ears = Ears::Gone;
                    hear(index, Heard::Gone)?;
                }
                Ears::Shut | Ears::Gone => {}
            }
        }
        Ok(())
    }

    /// A member says something, in one write.
    pub fn say(&mut self, index: usize, texts: impl IntoIterator<Item = Vec<u8>>) -> Result<(), Failure> {
        self.members[index].link.say_all(texts)
    }

    /// A member stops reading.
    pub fn shut_ears(&mut self, index: usize) -> Result<(), Failure> {
        let member = &mut self.members[index];
        member.ears = Ears::Shut;
        self.poll
            .registry()
            .reregister(&mut member.link.pipe.socket, Token(index), END_ONLY)
            .map_err(Failure::io("cannot watch a socket"))
    }

    /// Pings that all together have answered.
    pub fn pings(&self) -> u64 {
        self.members.iter().map(|member| member.link.pings).sum()
    }

    fn start(&mut self, address: SocketAddr, opening: Vec<String>) -> Result<(), Failure> {
        let mut socket = TcpStream::connect(address).map_err(Failure::io("cannot connect"))?;
        socket.set_nodelay(true).map_err(Failure::io("cannot set TCP_NODELAY"))?;
        self.poll
            .registry()
            .register(&mut socket, Token(self.members.len()), Interest::READABLE | Interest::WRITABLE)
            .map_err(Failure::io("cannot watch a socket"))?;
        let unanswered = opening.len();
        self.members.push(Member { link: Link::new(socket, "/ws"), opening, unanswered, ears: Ears::Open });
        Ok(())
    }
}

impl Member {
    fn is_ready(&self) -> bool {
        self.unanswered == 0
    }

    fn advance(
        &mut self,
        scratch: &mut Scratch,
        mut hear: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        loop {
            let socket = self.link.advance(scratch)?;
            while let Some(message) = self.link.next(scratch)? {
                match message {
                    Message::Open => {
                        let lines = std::mem::take(&mut self.opening);
                        self.link.say_all(lines.into_iter().map(String::into_bytes))?;
                    }
                    Message::Said(text) => {
                        let is_answer = text.starts_with(br#"{"id":"#);
                        self.unanswered = self.unanswered.saturating_sub(usize::from(is_answer));
                        hear(text)?;
                    }
                }
            }
            if socket == Socket::Empty {
                return Ok(());
            }
        }
    }
}

/// For [`Crowd::join`] and [`Crowd::turn`] where only answers are due; an error is not a good one.
pub fn answers(_: usize, heard: Heard<'_>) -> Result<(), Failure> {
    match heard {
        Heard::Text(text)
            if text.starts_with(br#"{"id":"#) && !text.windows(8).any(|w| w == br#""error":"#) =>
        {
            Ok(())
        }
        Heard::Text(text) => Err(crate::load::link::strange(text)),
        Heard::Gone => Ok(()),
    }
}
