//! A conversation that goes on while transports come and go (`docs/protocol.md`, without a WebSocket).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::backoff::jitter;
use crate::conversation::Outgoing;
use crate::frame::{Attached, Frame, Kind};
use crate::{End, Transport};

use super::cursor::{Counted, Cursor};
use super::upward::{Up, Upward};
use super::watch::{Then, Verdict, Watch};
use super::{Act, HEARTBEAT, Line, Output, Posted, Way, WireEvent, WireId};

/// A poll that another request has replaced is answered so.
const GAVE_WAY: u16 = 409;
/// There is no such session any more, or frames that were asked for are not kept.
const GONE: [u16; 2] = [404, 410];
/// Whatever carried something for so long was not cut off at once.
const SHORT: Duration = Duration::from_secs(1);
/// A response that is complete ends so.
const RESPONSE_COMPLETE: u16 = 1000;

/// A request that carries frames down, or may soon.
#[derive(Debug)]
struct Carrier {
    wire: WireId,
    transport: Transport,
    watch: Watch,
    /// What it asked for: the frames behind this number.
    after: u64,
    /// The number of its last frame; `None` until it is attached.
    at: Option<u64>,
    use_: Use,
    purpose: Purpose,
    since: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    None,
    /// It brought a frame.
    Frames,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Nothing else carries the session.
    Needed,
    /// It may be better than what carries the session now.
    Upgrade,
}

/// Whether a transport is to blame for its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blame {
    Transport,
    /// It was of use, and may be again.
    Nobody,
}

#[derive(Debug)]
enum Stage {
    /// The POST that opens the session is under way.
    Opening {
        began: Instant,
    },
    Open {
        path: String,
        linger: Duration,
    },
    Over,
}

#[derive(Deserialize)]
struct Opened {
    session: String,
    linger_ms: u64,
}

#[derive(Debug)]
pub(crate) struct Session {
    way: Way,
    /// The order in which transports are tried.
    order: Vec<Transport>,
    stage: Stage,
    up: Upward,
    cursor: Cursor,
    heartbeat: Duration,
    /// How long a response may take to begin.
    patience: Duration,
    last_wire: WireId,
    /// By age.
    carriers: Vec<Carrier>,
    /// The one that brings frames, and the one that may become it.
    current: Option<WireId>,
    trial: Option<WireId>,
    /// What carried the session last.
    proven: Option<Transport>,
    tried: usize,
    alive: Instant,
    next: Option<(Instant, Transport)>,
    upgrade_wait: Duration,
    upgrades: usize,
    upgrade: Option<Instant>,
    outputs: VecDeque<Output>,
}

impl Session {
    /// Opens a session with the message `first`. `order` is that in which transports are tried.
    pub fn new(way: Way, order: Vec<Transport>, first: &Outgoing, now: Instant) -> Self {
        let target = format!("/session{}", way.query());
        let post = Act::Post { target, body: first.bytes.clone() };
        Self {
            order,
            stage: Stage::Opening { began: now },
            up: Upward::new(),
            cursor: Cursor::default(),
            heartbeat: HEARTBEAT,
            patience: way.times.attach,
            last_wire: 0,
            carriers: Vec::new(),
            current: None,
            trial: None,
            proven: None,
            tried: 0,
            alive: now,
            next: None,
            upgrade_wait: way.times.upgrade,
            upgrades: 0,
            upgrade: None,
            outputs: VecDeque::from([Output::Act(post)]),
            way,
        }
    }

    fn opened(&mut self, posted: Posted, began: Instant, now: Instant) {
        let answer = match posted {
            Ok(answer) if answer.is_success() => answer,
            Ok(answer) => return self.lose(answer.end()),
            Err(problem) => return self.lose(End::broken(problem)),
        };
        let opened = self.way.form.read(&answer.body);
        let opened = opened.and_then(|json| serde_json::from_str(&json).ok());
        let Some(Opened { session, linger_ms }) = opened.filter(|opened: &Opened| is_plain(&opened.session))
        else {
            return self.lose(End::broken("something else than Duplex answers here"));
        };
        self.patience = self.patience.max(3 * now.duration_since(began));
        let linger = Duration::from_millis(linger_ms);
        self.stage = Stage::Open { path: format!("/session/{session}"), linger };
        self.try_next(Blame::Transport, None, now, 0);
    }

    fn carrier(&mut self, wire: WireId) -> Option<&mut Carrier> {
        self.carriers.iter_mut().find(|carrier| carrier.wire == wire)
    }

    /// Frames that are known to have arrived, of those that whatever carries the session has been given: the server counts by
    /// the newest request it knows.
    fn acknowledged(&self) -> u64 {
        let known = self.carriers.iter().map(|carrier| carrier.at.unwrap_or(carrier.after));
        known.min().map_or(self.cursor.seen(), |known| known.min(self.cursor.seen()))
    }

    /// Begins a request that may carry the session.
    fn start(&mut self, transport: Transport, purpose: Purpose, now: Instant) -> Option<WireId> {
        let Stage::Open { path, .. } = &self.stage else { return None };
        self.last_wire += 1;
        let (wire, after) = (self.last_wire, self.acknowledged());
        let act = match transport {
            Transport::WebSocket => {
                let session = path.trim_start_matches("/session/");
                Act::OpenSocket { wire, target: format!("/ws?session={session}&after={after}") }
            }
            _ => Act::OpenResponse { wire, transport, target: format!("{path}/{transport}?after={after}") },
        };
        self.outputs.push_back(Output::Act(act));
        let watch = Watch::new(self.patience(transport), Then::GiveUp, self.way.times.answer, now);
        let carrier =
            Carrier { wire, transport, watch, after, at: None, use_: Use::None, purpose, since: now };
        self.carriers.push(carrier);
        Some(wire)
    }

    /// How long a transport may take until it is attached. A poll is not answered before there is something to tell.
    fn patience(&self, transport: Transport) -> Duration {
        match transport {
            Transport::WebSocket => self.patience.max(self.way.open),
            Transport::Poll => self.heartbeat + self.way.times.answer,
            _ if self.proven == Some(transport) => self.way.times.answer,
            _ => self.patience,
        }
    }

    fn take(&mut self, wire: WireId, frame: Frame, bytes: usize, now: Instant) {
        if let Kind::Attached(attached) = frame.kind {
            return self.adopt(wire, attached, now);
        }
        let Some(carrier) = self.carrier(wire) else { return };
        let Some(at) = &mut carrier.at else { return };
        *at += 1;
        let (number, transport) = (*at, carrier.transport);
        carrier.use_ = Use::Frames;
        match self.cursor.count(number) {
            Counted::Again => {}
            Counted::Gap => self.lose(End::broken("frames are missing")),
            Counted::New => self.new_frame(wire, transport, frame, bytes, now),
        }
    }

    fn new_frame(&mut self, wire: WireId, transport: Transport, frame: Frame, bytes: usize, now: Instant) {
        if let Kind::Closing(end) = frame.kind {
            return self.lose(end);
        }
        if let Some(id) = frame.id {
            self.up.answered(id);
        }
        if matches!(transport, Transport::Sse | Transport::Stream) {
            self.up.owe(bytes, &self.way.times, now);
        }
        if let Kind::Connected(connected) = &frame.kind {
            self.heartbeat = Duration::from_millis(connected.heartbeat_ms);
            self.expect(wire, now);
        }
        self.outputs.push_back(Output::Frame(frame));
    }

    /// A request carries the session now. The server has ended those before; one behind it may take over yet.
    fn adopt(&mut self, wire: WireId, attached: Attached, now: Instant) {
        let Some(place) = self.carriers.iter().position(|carrier| carrier.wire == wire) else { return };
        for former in self.carriers.drain(..place) {
            self.outputs.push_back(Output::Act(Act::Drop { wire: former.wire }));
        }
        let Some(carrier) = self.carriers.first_mut() else { return };
        carrier.at = Some(attached.after);
        let transport = carrier.transport;
        if transport != Transport::Poll {
            carrier.since = now;
        }
        if self.trial.is_none_or(|trial| trial <= wire) {
            self.trial = None;
        }
        let socket = (transport == Transport::WebSocket).then_some(wire);
        self.up.attach(socket, attached.received);
        self.expect(wire, now);
        self.carried(wire, transport, now);
    }

    fn carried(&mut self, wire: WireId, transport: Transport, now: Instant) {
        (self.current, self.proven, self.alive, self.next) = (Some(wire), Some(transport), now, None);
        self.outputs.push_back(Output::Carried(transport));
        self.plan_upgrade(now);
    }

    /// A socket shows by a ping that it lives; of a response the server takes care.
    fn expect(&mut self, wire: WireId, now: Instant) {
        let (heartbeat, answer) = (self.heartbeat, self.way.times.answer);
        if let Some(carrier) = self.carrier(wire) {
            match carrier.transport {
                Transport::WebSocket => carrier.watch.expect(heartbeat, Then::Ask, now),
                _ => carrier.watch.expect(heartbeat + answer, Then::GiveUp, now),
            }
        }
    }

    fn remove(&mut self, wire: WireId) -> Option<Carrier> {
        let place = self.carriers.iter().position(|carrier| carrier.wire == wire)?;
        self.outputs.push_back(Output::Act(Act::Drop { wire }));
        Some(self.carriers.remove(place))
    }

    /// Nothing was heard of a request for too long.
    fn silent(&mut self, wire: WireId, now: Instant, chance: u32) {
        let Some(carrier) = self.remove(wire) else { return };
        if carrier.at.is_some() {
            self.tried = self.place(carrier.transport) + 1;
        }
        self.gone(&carrier, Blame::Transport, None, now, chance);
    }

    fn place(&self, transport: Transport) -> usize {
        self.order.iter().position(|other| *other == transport).unwrap_or(0)
    }

    fn ended(&mut self, wire: WireId, end: End, now: Instant, chance: u32) {
        let Some(carrier) = self.remove(wire) else { return };
        if GONE.contains(&end.code) || (end.is_final() && end.code != RESPONSE_COMPLETE) {
            return self.lose(end);
        }
        let waiting = |other: &&Carrier| other.transport == Transport::Poll && other.at.is_none();
        if end.code == GAVE_WAY
            && let Some(other) = self.carriers.iter().find(waiting).map(|other| other.wire)
        {
            return self.confirm(other, now);
        }
        let stayed = now.duration_since(carrier.since) > SHORT;
        let useful = carrier.at.is_some() && (carrier.use_ == Use::Frames || stayed);
        if carrier.at.is_some() {
            self.alive = now;
        }
        if useful {
            self.tried = 0;
        }
        let blame = if useful { Blame::Nobody } else { Blame::Transport };
        self.gone(&carrier, blame, end.after, now, chance);
    }

    /// One of two polls was told to give way to the other, so both got through.
    fn confirm(&mut self, poll: WireId, now: Instant) {
        self.trial = None;
        self.up.reattach();
        self.carried(poll, Transport::Poll, now);
    }

    fn gone(&mut self, carrier: &Carrier, blame: Blame, after: Option<Duration>, now: Instant, chance: u32) {
        if self.current == Some(carrier.wire) {
            self.current = None;
            self.up.detach();
        } else if self.trial == Some(carrier.wire) {
            self.trial = None;
        } else {
            return;
        }
        if self.trial.is_none() && self.current.is_none() {
            let blame = if carrier.purpose == Purpose::Upgrade { Blame::Nobody } else { blame };
            self.try_next(blame, after, now, chance);
        }
    }

    /// What worked last is tried first; what fails is followed by the others in turn, until the server must have given up.
    fn try_next(&mut self, blame: Blame, after: Option<Duration>, now: Instant, chance: u32) {
        let Stage::Open { linger, .. } = self.stage else { return };
        let again = self.proven.filter(|_| blame == Blame::Nobody);
        let hopeless = match self.proven {
            Some(_) => now.duration_since(self.alive) > linger,
            None => self.tried == self.order.len(),
        };
        if again.is_none() && hopeless {
            return self.lose(End::broken("no transport gets through"));
        }
        let transport = again.unwrap_or_else(|| {
            let next = self.order[self.tried % self.order.len()];
            self.tried += 1;
            next
        });
        let rounds = self.tried.saturating_sub(self.order.len());
        let wait = u32::try_from(rounds).unwrap_or(u32::MAX);
        let wait = (wait > 0).then(|| jitter(&self.way.times, wait, chance));
        match after.or(wait) {
            Some(delay) => self.next = Some((now + delay, transport)),
            None => self.begin(transport, now),
        }
    }

    /// A poll is not answered before there is something to tell. After another poll it counts as soon as it is asked; in the
    /// middle of a session there are two at first, because the one that must give way shows at once that both got through.
    fn begin(&mut self, transport: Transport, now: Instant) {
        let is_poll = transport == Transport::Poll;
        let goes_on = is_poll && self.proven == Some(Transport::Poll);
        if is_poll && self.proven.is_some() && !goes_on {
            self.start(transport, Purpose::Needed, now);
        }
        let wire = self.start(transport, Purpose::Needed, now);
        match goes_on {
            true => self.current = wire,
            false => self.trial = wire,
        }
    }

    fn better(&self) -> &[Transport] {
        let wanted = &self.way.transports;
        let place = wanted.iter().position(|transport| Some(*transport) == self.proven);
        &wanted[..place.unwrap_or(0)]
    }

    fn plan_upgrade(&mut self, now: Instant) {
        if self.upgrade.is_none() && !self.better().is_empty() {
            self.upgrade = Some(now + self.upgrade_wait);
            self.upgrade_wait = (2 * self.upgrade_wait).min(self.way.times.upgrade_max);
        }
    }

    /// Tries one of the transports that are better than what carries the session.
    fn try_better(&mut self, now: Instant) {
        self.upgrade = None;
        let better = self.better();
        if !better.is_empty() && self.current.is_some() && self.trial.is_none() {
            let transport = better[self.upgrades % better.len()];
            self.upgrades += 1;
            self.trial = self.start(transport, Purpose::Upgrade, now);
        }
        self.plan_upgrade(now);
    }

    /// Sends up what is ready to go.
    fn pump(&mut self, now: Instant) {
        while let Stage::Open { path, .. } = &self.stage
            && let Some(up) = self.up.next(now)
        {
            let act = match up {
                Up::Write { wire, message } => Act::Write { wire, message },
                Up::Post { number, message } => {
                    let number = number.map(|number| format!("&n={number}")).unwrap_or_default();
                    let target = format!("{path}?after={}{number}", self.acknowledged());
                    Act::Post { target, body: message }
                }
            };
            self.outputs.push_back(Output::Act(act));
        }
    }

    fn lose(&mut self, end: End) {
        if end.code == End::BROKEN {
            self.leave();
        }
        if !matches!(self.stage, Stage::Over) {
            self.stop();
            self.outputs.push_back(Output::Lost(end));
        }
    }

    /// Tells the server that nobody comes back.
    fn leave(&mut self) {
        if let Stage::Open { path, .. } = &self.stage {
            self.outputs.push_back(Output::Act(Act::Farewell { target: format!("{path}/end") }));
        }
    }

    fn stop(&mut self) {
        self.stage = Stage::Over;
        for carrier in self.carriers.drain(..) {
            self.outputs.push_back(Output::Act(Act::Drop { wire: carrier.wire }));
        }
        (self.current, self.trial, self.next, self.upgrade) = (None, None, None, None);
    }
}

/// Whether a session's name can stand in a path as it is. It comes from outside.
fn is_plain(session: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=256).contains(&session.len()) && session.bytes().all(plain)
}

impl Line for Session {
    fn writable(&self) -> bool {
        matches!(self.stage, Stage::Open { .. }) && self.up.writable()
    }

    fn send(&mut self, message: Outgoing, now: Instant) {
        self.up.send(message);
        self.pump(now);
    }

    fn wire(&mut self, wire: WireId, event: WireEvent, now: Instant, chance: u32) {
        match event {
            WireEvent::Opened => {}
            // Until a request is attached, only that counts.
            WireEvent::Heard => {
                if let Some(carrier) = self.carrier(wire).filter(|carrier| carrier.at.is_some()) {
                    carrier.watch.heard(now);
                }
            }
            WireEvent::Written if self.current == Some(wire) => self.up.written(),
            WireEvent::Written => {}
            WireEvent::Frame(frame, bytes) => self.take(wire, frame, bytes, now),
            WireEvent::Ended(end) => self.ended(wire, end, now, chance),
        }
        self.pump(now);
    }

    fn posted(&mut self, posted: Posted, now: Instant, chance: u32) {
        match self.stage {
            Stage::Opening { began } => self.opened(posted, began, now),
            Stage::Open { .. } => {
                if let Err(end) = self.up.concluded(posted, &self.way.times, now, chance) {
                    self.lose(end);
                }
            }
            Stage::Over => {}
        }
        self.pump(now);
    }

    fn deadline(&self) -> Option<Instant> {
        let watches = self.carriers.iter().map(|carrier| carrier.watch.deadline());
        let next = self.next.map(|(at, _)| at);
        watches.chain([next, self.upgrade, self.up.deadline()].into_iter().flatten()).min()
    }

    fn timeout(&mut self, now: Instant, chance: u32) {
        let due: Vec<WireId> = self.carriers.iter().map(|carrier| carrier.wire).collect();
        for wire in due {
            match self.carrier(wire).map(|carrier| carrier.watch.timeout(now)) {
                Some(Verdict::Ask) => self.outputs.push_back(Output::Quiet),
                Some(Verdict::Dead) => self.silent(wire, now, chance),
                Some(Verdict::Fine) | None => {}
            }
        }
        if let Some((_, transport)) = self.next.take_if(|(at, _)| *at <= now) {
            self.begin(transport, now);
        }
        if self.upgrade.is_some_and(|at| at <= now) {
            self.try_better(now);
        }
        self.pump(now);
    }

    fn close(&mut self) {
        let current = self.current.and_then(|wire| self.carrier(wire));
        match current.filter(|carrier| carrier.transport == Transport::WebSocket).map(|carrier| carrier.wire)
        {
            // A socket that is closed ends the session.
            Some(wire) => {
                self.carriers.retain(|carrier| carrier.wire != wire);
                self.outputs.push_back(Output::Act(Act::Close { wire }));
            }
            None => self.leave(),
        }
        self.stop();
    }

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
}

#[cfg(test)]
mod tests;
