//! The load: thousands of clients of one server on one thread and one epoll.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::deadline::Deadline;
use crate::failure::Failure;

pub mod client;
pub mod dialect;
pub mod frames;
pub mod http;
pub mod link;
pub mod manner;
pub mod message;
pub mod pipe;
pub mod requests;
pub mod signalr;
pub mod wire;

use client::{Client, Listener};
use dialect::{Dialect, Role};
use link::Link;
use manner::Manner;
use pipe::Scratch;
use requests::Requests;
use wire::{Transport, Wire};

/// How many handshakes may be under way at a time.
pub const IN_FLIGHT_MAX: usize = 100;

/// No wait is longer, so that an interrupt is noticed soon.
pub const WAIT_MAX: Duration = Duration::from_millis(100);

/// All clients of one server.
pub struct Load {
    address: SocketAddr,
    transport: Transport,
    poll: Poll,
    events: Events,
    scratch: Scratch,
    clients: Vec<Client>,
    ready: usize,
}

impl Load {
    /// No clients yet.
    pub fn new(address: SocketAddr, transport: Transport) -> Result<Self, Failure> {
        Ok(Self {
            address,
            transport,
            poll: Poll::new().map_err(Failure::io("cannot open an epoll"))?,
            events: Events::with_capacity(1024),
            scratch: Scratch::new(256 * 1024),
            clients: Vec::new(),
            ready: 0,
        })
    }

    /// Opens `count` more clients and waits until all are ready. Returns their indices.
    pub fn open(&mut self, count: usize, role: Role, deadline: &Deadline) -> Result<Range<usize>, Failure> {
        let first = self.clients.len();
        let end = first + count;
        while self.ready < end {
            while self.clients.len() < end && self.clients.len() - self.ready < IN_FLIGHT_MAX {
                self.start(role)?;
            }
            self.turn(WAIT_MAX, deadline, unasked)?;
        }
        Ok(first..end)
    }

    /// Opens one publisher.
    pub fn open_publisher(&mut self, deadline: &Deadline) -> Result<usize, Failure> {
        Ok(self.open(1, Role::Publisher, deadline)?.start)
    }

    /// Lets all clients say what they have got, as real ones do within seconds, over one connection for all.
    pub fn acknowledge(&self) -> Result<(), Failure> {
        let failure = |what| Failure::io(what);
        let stream = std::net::TcpStream::connect(self.address).map_err(failure("cannot connect"))?;
        stream.set_nodelay(true).map_err(failure("cannot set TCP_NODELAY"))?;
        let mut answers = BufReader::new(&stream);
        for request in self.clients.iter().filter_map(Client::acknowledgement) {
            (&stream).write_all(&request).map_err(failure("cannot acknowledge"))?;
            let mut line = String::new();
            answers.read_line(&mut line).map_err(failure("cannot read an answer"))?;
            if !line.contains(" 204 ") {
                return Err(Failure::Misbehaved(format!("an acknowledgement was answered {line:?}")));
            }
            while line != "\r\n" {
                line.clear();
                answers.read_line(&mut line).map_err(failure("cannot read an answer"))?;
            }
        }
        Ok(())
    }

    /// The client with this index.
    pub fn client(&mut self, index: usize) -> &mut Client {
        &mut self.clients[index]
    }

    /// Waits up to `wait` for the sockets and does what has become possible.
    pub fn turn(
        &mut self,
        wait: Duration,
        deadline: &Deadline,
        mut listener: impl Listener,
    ) -> Result<(), Failure> {
        deadline.check()?;
        await_sockets(&mut self.poll, &mut self.events, wait)?;
        for event in &self.events {
            let client = &mut self.clients[event.token().0];
            let was_ready = client.is_ready();
            client.advance(&mut self.scratch, &mut listener)?;
            if client.is_ready() && !was_ready {
                self.ready += 1;
            }
        }
        Ok(())
    }

    /// Takes turns until `done` deliveries have been made.
    pub fn await_deliveries(&mut self, done: u64, deadline: &Deadline) -> Result<(), Failure> {
        let mut count = 0;
        while count < done {
            self.turn(WAIT_MAX, deadline, |_: &mut Client, _| {
                count += 1;
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Answers heartbeats for a while in which nothing else is due.
    pub fn rest(&mut self, pause: Duration, deadline: &Deadline) -> Result<(), Failure> {
        let end = Instant::now() + pause;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.turn(left, deadline, unasked)?;
        }
    }

    fn start(&mut self, role: Role) -> Result<(), Failure> {
        let token = Token(self.clients.len());
        let transport = match (self.transport, role) {
            // The publisher is no part of what its subscribers cost, and goes the usual way.
            (
                Transport::Requests(Manner::Events | Manner::EventSource)
                | Transport::WebSocket(Dialect::SocketIoVerbs | Dialect::SignalR(_)),
                Role::Publisher,
            ) => Transport::WebSocket(Dialect::Native),
            (transport, _) => transport,
        };
        let wire = match transport {
            Transport::WebSocket(dialect) => {
                Wire::WebSocket(Link::of(dialect.frames(), self.connect(token)?, dialect.path(role)))
            }
            Transport::Requests(manner) => {
                let down = self.connect(token)?;
                let up = if role == Role::Publisher { Some(self.connect(token)?) } else { None };
                Wire::Requests(Requests::new(down, up, manner, role))
            }
        };
        self.clients.push(Client::new(wire, transport.dialect(), role));
        Ok(())
    }

    /// A socket that is connecting; `token` is told of it.
    fn connect(&mut self, token: Token) -> Result<TcpStream, Failure> {
        let mut socket = TcpStream::connect(self.address).map_err(Failure::io("cannot connect"))?;
        // Else a publication would wait for the server to acknowledge the one before.
        socket.set_nodelay(true).map_err(Failure::io("cannot set TCP_NODELAY"))?;
        self.poll
            .registry()
            .register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)
            .map_err(Failure::io("cannot watch a socket"))?;
        Ok(socket)
    }
}

/// Waits up to `wait`, and not longer than [`WAIT_MAX`].
pub fn await_sockets(poll: &mut Poll, events: &mut Events, wait: Duration) -> Result<(), Failure> {
    match poll.poll(events, Some(wait.min(WAIT_MAX))) {
        Err(error) if error.kind() != std::io::ErrorKind::Interrupted => {
            Err(Failure::io("cannot wait for the sockets")(error))
        }
        _ => Ok(()),
    }
}

fn unasked(_: &mut Client, sequence: u64) -> Result<(), Failure> {
    Err(Failure::Misbehaved(format!("message {sequence} came although none was due")))
}
