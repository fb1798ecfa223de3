//! WebSocket on a bare socket: the link the engine writes to, and the task that reads.
//!
//! An idle connection holds no buffer. When the socket is readable the task reads into the shard's one buffer and
//! parses in place; only what belongs to an unfinished message is kept.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::Stream;
use bytes::Bytes;
use duplex_core::{Budget, CloseReason, Frame, FrameQueue, Heartbeat, Link, Message, Rate, Spent, Written};
use duplex_websocket::handshake::Accept;
use duplex_websocket::{
    CloseCode, Compression, Decoder, Deflater, Event, Inflater, Kind, Limits, Role, Violation, encode,
};
use tokio::time::{Instant, Sleep, sleep};

use crate::Handler;
use crate::socket;

/// The shard's read buffer, bytes: what one read can bring.
const READ_BYTES: usize = 64 << 10;
/// Reads of one connection before other tasks get a turn.
const READS_MAX: usize = 4;
/// The codec's budget of control frames is for this long.
const CONTROL_PERIOD: Duration = Duration::from_secs(1);

/// What a WebSocket connection may do.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Limits of the codec.
    pub limits: Limits,
    /// Longest message of a client of which it is not known yet who it is, bytes.
    pub first_message_bytes: usize,
    /// How long a message may stay unfinished.
    pub unfinished_max: Duration,
    /// Payload bytes of messages on a connection with compression, after inflating: small input can mean much work.
    pub inflated: Rate,
}

/// What the WebSocket connections of a shard share.
pub struct Shared {
    settings: Cell<Settings>,
    buffer: RefCell<Box<[u8]>>,
    inflater: RefCell<Inflater>,
    deflater: RefCell<Deflater>,
}

impl Shared {
    /// For connections with these settings.
    pub fn new(settings: Settings) -> Rc<Self> {
        Rc::new(Self {
            settings: Cell::new(settings),
            buffer: RefCell::new(vec![0; READ_BYTES].into()),
            inflater: RefCell::new(Inflater::new()),
            deflater: RefCell::new(Deflater::new()),
        })
    }

    /// From now on these settings hold, for open connections too.
    pub fn set(&self, settings: Settings) {
        self.settings.set(settings);
    }
}

/// The writing side of a connection.
pub struct WebSocketLink {
    stream: Stream,
    shared: Rc<Shared>,
    /// Whether this client takes deflated frames.
    compression: Compression,
    state: Cell<State>,
    reader: RefCell<Option<Waker>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    write: WriteState,
    stage: Stage,
    client: ClientState,
    /// The code in the peer's close frame, to be echoed.
    peer_code: Option<CloseCode>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum WriteState {
    #[default]
    Free,
    /// The kernel's buffer is full: the reading task waits until there is room, and reads nothing until then.
    Blocked,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum ClientState {
    /// It is not known who it is.
    #[default]
    Stranger,
    Admitted,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum Stage {
    #[default]
    Open,
    /// The peer has closed; our answer is not queued yet.
    PeerClosed,
    /// Our close frame is queued; the peer has not closed.
    Farewell,
    /// What the peer sends makes no sense any more; our close frame is queued or will be.
    Broken,
    /// Both have closed, ours may still be queued.
    BothClosed,
    /// Nothing more is read or written.
    Over,
}

impl WebSocketLink {
    fn stage(&self) -> Stage {
        self.state.get().stage
    }

    fn set_stage(&self, stage: Stage) {
        self.state.set(State { stage, ..self.state.get() });
    }

    fn set_write(&self, write: WriteState) {
        self.state.set(State { write, ..self.state.get() });
    }

    /// What the client may send now.
    fn limits(&self, settings: &Settings) -> Limits {
        let message_bytes = match self.state.get().client {
            ClientState::Admitted => settings.limits.message_bytes,
            ClientState::Stranger => settings.limits.message_bytes.min(settings.first_message_bytes),
        };
        Limits { message_bytes, ..settings.limits }
    }

    fn wake_reader(&self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    /// All is written. What that means depends on how far closing has come.
    fn drained(&self) {
        match self.stage() {
            // RFC 6455, 7.1.1: the server closes the TCP connection first.
            Stage::BothClosed => self.abort(),
            // The peer may not have read our close frame yet, so only say that nothing follows it.
            Stage::Broken => drop(self.stream.shutdown_write()),
            Stage::Open | Stage::PeerClosed | Stage::Farewell | Stage::Over => {}
        }
    }
}

impl Link for WebSocketLink {
    fn frame(&self, message: Message) -> Bytes {
        let (kind, payload) = match &message {
            Message::Text(payload) => (Kind::Text, payload),
            Message::Binary(payload) => (Kind::Binary, payload),
        };
        let deflated = match self.compression {
            Compression::PerMessage => {
                encode::deflated(kind, payload, &mut self.shared.deflater.borrow_mut())
            }
            Compression::Off => None,
        };
        deflated.unwrap_or_else(|| encode::message(kind, payload))
    }

    fn heartbeat(&self) -> Heartbeat {
        // RFC 6455, 5.5.2: a ping without payload.
        Heartbeat::Ping(Bytes::from_static(&[0x89, 0]))
    }

    fn write(&self, queue: &mut FrameQueue) -> Written {
        if self.stage() == Stage::Over {
            return Written::Dead;
        }
        match socket::write_all(&self.stream, queue) {
            Ok(()) => {
                self.drained();
                Written::All
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.set_write(WriteState::Blocked);
                self.wake_reader();
                Written::Blocked
            }
            Err(_) => Written::Dead,
        }
    }

    fn farewell(&self, reason: &'static CloseReason, detail: &str) -> Option<Bytes> {
        let state = self.state.get();
        self.set_stage(match state.stage {
            Stage::Open => Stage::Farewell,
            Stage::PeerClosed => Stage::BothClosed,
            Stage::Broken => Stage::Broken,
            Stage::Farewell | Stage::BothClosed | Stage::Over => return None,
        });
        Some(match (state.stage, state.peer_code) {
            (Stage::PeerClosed, None) => encode::close_empty(),
            (Stage::PeerClosed, Some(code)) => encode::close(code, ""),
            _ => close_frame(reason, detail),
        })
    }

    fn abort(&self) {
        if self.stage() == Stage::Farewell {
            // Time is over. What it has not taken would stay in the kernel for as long as it takes nothing.
            let _ = self.stream.set_zero_linger();
        }
        self.set_stage(Stage::Over);
        self.wake_reader();
    }

    fn admitted(&self) {
        self.state.set(State { client: ClientState::Admitted, ..self.state.get() });
    }
}

fn close_frame(reason: &CloseReason, detail: &str) -> Bytes {
    let code = CloseCode::parse(reason.code).unwrap_or(CloseCode::INTERNAL_ERROR);
    match detail {
        "" => encode::close(code, reason.sentence),
        _ => encode::close(code, &format!("{}: {detail}", reason.sentence)),
    }
}

/// The reading side of a connection: a task that ends with it.
pub struct Connection<H: Handler> {
    link: Rc<WebSocketLink>,
    decoder: Decoder,
    handler: H,
    /// When the codec last got its budget of control frames; there only once a control frame has come.
    replenished: Option<Instant>,
    /// There only with compression.
    inflating: Option<Box<Inflating>>,
    /// Runs while a message is unfinished, which is rare: no reason to keep it otherwise.
    unfinished: Option<Pin<Box<Sleep>>>,
}

/// What a connection with compression may still cost.
struct Inflating {
    budget: Budget,
    /// From when time is counted.
    since: Instant,
}

impl Inflating {
    fn spend(&mut self, event: &Event<'_>, rate: Rate) -> Spent {
        let bytes = match event {
            Event::Text(text) => text.len(),
            Event::Binary(bytes) => bytes.len(),
            Event::Ping(_) | Event::Pong(_) | Event::Close(..) => return Spent::Within,
        };
        let now_ms = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.budget.spend(u32::try_from(bytes).unwrap_or(u32::MAX), rate, now_ms)
    }
}

/// The writing side for a socket that was upgraded by `accept`.
pub fn link(stream: Stream, accept: &Accept, shared: Rc<Shared>) -> Rc<WebSocketLink> {
    let compression = if accept.shared_frames() { Compression::PerMessage } else { Compression::Off };
    let state = Cell::new(State::default());
    Rc::new(WebSocketLink { stream, shared, compression, state, reader: RefCell::new(None) })
}

impl<H: Handler> Connection<H> {
    /// The reading side of `link`. `early` is what the client sent behind its request.
    pub fn new(link: Rc<WebSocketLink>, compression: Compression, handler: H, early: Bytes) -> Self {
        let decoder = Decoder::new(Role::Server, compression);
        let inflating = (compression == Compression::PerMessage)
            .then(|| Box::new(Inflating { budget: Budget::default(), since: Instant::now() }));
        let mut connection = Self { link, decoder, handler, replenished: None, inflating, unfinished: None };
        if !early.is_empty() {
            connection.decode(&mut Vec::from(early));
        }
        connection
    }

    /// Reads once. Says whether there may be more to read.
    fn read(&mut self) -> io::Result<More> {
        let shared = Rc::clone(&self.link.shared);
        let buffer = &mut **shared.buffer.borrow_mut();
        match self.link.stream.try_read(buffer)? {
            0 => Ok(More::End),
            length => {
                self.handler.heard();
                self.decode(&mut buffer[..length]);
                Ok(if length == buffer.len() { More::Likely } else { More::Later })
            }
        }
    }

    fn decode(&mut self, mut bytes: &mut [u8]) {
        let shared = Rc::clone(&self.link.shared);
        let inflater = &mut *shared.inflater.borrow_mut();
        let settings = shared.settings.get();
        while !bytes.is_empty()
            && !matches!(self.link.stage(), Stage::Broken | Stage::BothClosed | Stage::Over)
        {
            let Self { link, decoder, handler, replenished, inflating, unfinished } = self;
            let used = match decoder.decode(bytes, &link.limits(&settings), inflater) {
                Ok((used, None)) => used,
                Ok((used, Some(event))) => {
                    let control = matches!(event, Event::Ping(_) | Event::Pong(_));
                    let rate = settings.inflated;
                    match inflating.as_mut().map_or(Spent::Within, |inflating| inflating.spend(&event, rate))
                    {
                        Spent::Within => act(link, handler, event),
                        Spent::Over => {
                            let detail =
                                format!("more than {} bytes of messages per second", rate.per_second);
                            handler.close(&CloseReason::POLICY, &detail);
                        }
                    }
                    match control {
                        true => replenish(decoder, replenished),
                        // What is unfinished from here on is another message.
                        false => *unfinished = None,
                    }
                    used
                }
                Err(violation) => return self.fail(&violation),
            };
            bytes = &mut bytes[used..];
        }
    }

    fn fail(&self, violation: &Violation) {
        self.link.set_stage(match self.link.stage() {
            Stage::Farewell => Stage::BothClosed,
            _ => Stage::Broken,
        });
        let reason = match violation.close_code() {
            CloseCode::INVALID_PAYLOAD => &CloseReason::INVALID_DATA,
            CloseCode::POLICY => &CloseReason::POLICY,
            CloseCode::TOO_BIG => &CloseReason::TOO_BIG,
            _ => &CloseReason::PROTOCOL_ERROR,
        };
        self.handler.close(reason, &violation.to_string());
        // If our close frame was out already, nothing will be written that could notice the end.
        self.handler.writable();
    }

    /// Bounds the age of an unfinished message.
    fn poll_unfinished(&mut self, cx: &mut Context<'_>) {
        if !self.decoder.mid_message() {
            self.unfinished = None;
            return;
        }
        let unfinished_max = self.link.shared.settings.get().unfinished_max;
        let deadline = self.unfinished.get_or_insert_with(|| Box::pin(sleep(unfinished_max)));
        if deadline.as_mut().poll(cx).is_ready() {
            self.unfinished = None;
            let detail = format!("a message was unfinished for {unfinished_max:?}");
            self.handler.close(&CloseReason::POLICY, &detail);
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..READS_MAX {
            match self.link.stream.poll_read_ready(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) => {}
            }
            match self.read() {
                Ok(More::End) => return Poll::Ready(()),
                Ok(More::Likely | More::Later) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Poll::Ready(()),
            }
            if self.link.stage() == Stage::Over {
                return Poll::Ready(());
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Whether a read left something behind.
enum More {
    Likely,
    Later,
    End,
}

fn act(link: &WebSocketLink, handler: &impl Handler, event: Event<'_>) {
    match (event, link.stage()) {
        (Event::Close(..), Stage::Farewell) => {
            link.set_stage(Stage::BothClosed);
            handler.writable();
            link.wake_reader();
        }
        (Event::Close(code, _), Stage::Open) => {
            link.state.set(State { stage: Stage::PeerClosed, peer_code: code, ..link.state.get() });
            handler.close(&CloseReason::GOING_AWAY, "");
        }
        // RFC 6455, 5.5.1: nothing counts after a close frame, ours or theirs, but the peer's close frame.
        (_, stage) if stage != Stage::Open => {}
        (Event::Text(text), _) => handler.message(Frame::Text(text)),
        (Event::Binary(bytes), _) => handler.message(Frame::Binary(bytes)),
        (Event::Ping(payload), _) => handler.reply(encode::pong(payload)),
        // A pong needs no answer, asked for or not; that something came is noted for every read.
        (Event::Pong(_) | Event::Close(..), _) => {}
    }
}

/// Gives the codec its budget of control frames back if the time has come.
fn replenish(decoder: &mut Decoder, replenished: &mut Option<Instant>) {
    let now = Instant::now();
    if replenished.is_none_or(|at| now - at >= CONTROL_PERIOD) {
        decoder.replenish();
        *replenished = Some(now);
    }
}

impl<H: Handler + Unpin> Future for Connection<H> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if !this.link.reader.borrow().as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *this.link.reader.borrow_mut() = Some(cx.waker().clone());
        }
        if this.link.state.get().write == WriteState::Blocked && this.link.stage() != Stage::Over {
            match this.link.stream.poll_write_ready(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(_) => {
                    this.link.set_write(WriteState::Free);
                    this.handler.writable();
                }
            }
        }
        if this.link.stage() != Stage::Over && this.poll_read(cx).is_pending() {
            this.poll_unfinished(cx);
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

impl<H: Handler> Drop for Connection<H> {
    fn drop(&mut self) {
        self.link.set_stage(Stage::Over);
        self.handler.ended();
    }
}
