//! Has a line to the server whenever it can: decides how to get there, and when to try again.
//!
//! Without I/O and without a clock. Invariant: after each call that may change something, the caller drains
//! [`Connector::poll`].

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::backoff::Backoff;
use crate::conversation::Outgoing;
use crate::event::ClientEvent;
use crate::frame::{Connected, Frame};
use crate::line::{Act, Direct, Line, Output, Posted, Session, Way, WireEvent, WireId};
use crate::options::TokenReason;
use crate::{End, Form, Options, Times, Transport};

const TOKEN_EXPIRED: u16 = 3005;
const UNAUTHORIZED: u16 = 401;
const FORBIDDEN: u16 = 403;

/// What a connector wants or tells.
#[derive(Debug)]
pub(crate) enum Step {
    /// Get a token for a connection; the answer goes to [`Connector::token`].
    Token {
        turn: u64,
        reason: TokenReason,
    },
    /// A wire of the line of this turn is to do something.
    Act(u64, Act),
    Frame(Frame),
    /// A ping would tell whether someone is there.
    Quiet,
    /// The line is gone, and nothing that was sent on it is answered any more.
    Lost(End),
    Tell(ClientEvent),
    /// There will be no line any more. It is the last step.
    Closed(End),
}

enum State {
    /// A token is being got.
    Asking,
    OnLine(Box<dyn Line>),
    Waiting(Instant),
    Closed,
}

pub(crate) struct Connector {
    transports: Vec<Transport>,
    form: Form,
    times: Times,
    renewable: Renewable,
    state: State,
    /// Counts lines: what belongs to an earlier one is of no interest any more.
    turn: u64,
    /// Counts tries since the client was connected last.
    attempt: u32,
    backoff: Backoff,
    /// Where to go on if the server cannot be reached by the transport that is tried first.
    fallback: Option<(Vec<Transport>, Outgoing)>,
    carried: Option<Transport>,
    /// What worked last.
    remembered: Option<Transport>,
    met: Met,
    /// How many tokens in a row were refused by a status.
    refusals: u32,
    reason: TokenReason,
    steps: VecDeque<Step>,
}

/// Whether another token than the last can be got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Renewable {
    Yes,
    No,
}

/// What the server has said to this client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Met {
    Never,
    /// It is or was let in.
    Before,
    /// On this line.
    Now,
}

impl Connector {
    pub fn new(options: &Options) -> Self {
        let renewable = if options.token.is_renewable() { Renewable::Yes } else { Renewable::No };
        let usable = |transport: &&Transport| options.form == Form::Json || **transport != Transport::Sse;
        Self {
            transports: options.transports.iter().filter(usable).copied().collect(),
            form: options.form,
            times: options.times,
            renewable,
            state: State::Closed,
            turn: 0,
            attempt: 0,
            backoff: Backoff::default(),
            fallback: None,
            carried: None,
            remembered: None,
            met: Met::Never,
            refusals: 0,
            reason: TokenReason::Connect,
            steps: VecDeque::new(),
        }
    }

    pub fn poll(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    /// Whether [`close`](Self::close) was called, or the server said for good that it does not want this client.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Begins to connect.
    pub fn begin(&mut self) {
        self.turn += 1;
        self.attempt = self.attempt.saturating_add(1);
        self.state = State::Asking;
        self.steps.push_back(Step::Token { turn: self.turn, reason: self.reason });
    }

    /// Whether the token of this turn is still waited for.
    pub fn wants_token(&self, turn: u64) -> bool {
        turn == self.turn && matches!(self.state, State::Asking)
    }

    /// There is no token.
    pub fn no_token(&mut self, problem: String, now: Instant, chance: u32) {
        self.steps.push_back(Step::Tell(ClientEvent::Trouble(problem)));
        self.lost(End::broken("there is no token"), now, chance);
    }

    /// Goes to the server and says `first`.
    pub fn dial(&mut self, first: Outgoing, now: Instant) {
        self.go(self.order(), first, now);
        self.settle(now, 0);
    }

    /// What worked last is tried first, unless it just did not.
    fn order(&self) -> Vec<Transport> {
        let known = self.remembered.filter(|_| self.attempt <= 1);
        let others = self.transports.iter().copied().filter(|other| Some(*other) != known);
        known.into_iter().chain(others).collect()
    }

    fn go(&mut self, order: Vec<Transport>, first: Outgoing, now: Instant) {
        let way = self.way();
        self.state = State::OnLine(match order.split_first() {
            Some((Transport::WebSocket, others)) => {
                // A WebSocket that opened here before will do so again when the server is back.
                let go_on = self.attempt > 1 || self.remembered != Some(Transport::WebSocket);
                self.fallback = (go_on && !others.is_empty()).then(|| (others.to_vec(), first.clone()));
                Box::new(Direct::new(way, first, now))
            }
            _ => {
                self.fallback = None;
                Box::new(Session::new(way, order, &first, now))
            }
        });
    }

    fn way(&self) -> Way {
        let Times { open, open_max, .. } = self.times;
        let doublings = self.attempt.saturating_sub(1).min(16);
        Way {
            transports: self.transports.clone(),
            form: self.form,
            times: self.times,
            open: open.saturating_mul(1 << doublings).min(open_max),
            returning: self.met != Met::Never,
        }
    }

    pub fn writable(&self) -> bool {
        self.met == Met::Now && matches!(&self.state, State::OnLine(line) if line.writable())
    }

    pub fn send(&mut self, message: Outgoing, now: Instant) {
        self.with_line(now, 0, |line| line.send(message, now));
    }

    /// A wire of the line of this turn did something.
    pub fn wire(&mut self, turn: u64, wire: WireId, event: WireEvent, now: Instant, chance: u32) {
        if turn == self.turn {
            self.with_line(now, chance, |line| line.wire(wire, event, now, chance));
        }
    }

    pub fn posted(&mut self, turn: u64, posted: Posted, now: Instant, chance: u32) {
        if turn == self.turn {
            self.with_line(now, chance, |line| line.posted(posted, now, chance));
        }
    }

    pub fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::OnLine(line) => line.deadline(),
            State::Waiting(until) => Some(*until),
            State::Asking | State::Closed => None,
        }
    }

    pub fn timeout(&mut self, now: Instant, chance: u32) {
        match &self.state {
            State::Waiting(until) if *until <= now => self.begin(),
            State::OnLine(_) => self.with_line(now, chance, |line| line.timeout(now, chance)),
            _ => {}
        }
    }

    /// The server has let the client in.
    pub fn greet(&mut self, connected: Connected, now: Instant) {
        (self.met, self.refusals, self.attempt) = (Met::Now, 0, 0);
        self.reason = TokenReason::Connect;
        self.backoff.connected(now);
        let Some(transport) = self.carried else { return };
        let Connected { client, user, .. } = connected;
        self.steps.push_back(Step::Tell(ClientEvent::Connected { client, user, transport }));
    }

    /// The server does not let the client in.
    pub fn abandon(&mut self, end: End, now: Instant, chance: u32) {
        self.with_line(now, chance, |line| line.close());
        self.lost(end, now, chance);
    }

    /// The client does not want to be connected any more.
    pub fn close(&mut self, now: Instant) {
        if !self.is_closed() {
            self.with_line(now, 0, |line| line.close());
            self.steps.push_back(Step::Lost(End::closed()));
            self.finish(End::closed());
        }
    }

    fn with_line(&mut self, now: Instant, chance: u32, then: impl FnOnce(&mut dyn Line)) {
        if let State::OnLine(line) = &mut self.state {
            then(line.as_mut());
            self.settle(now, chance);
        }
    }

    /// Hears what the line has to say.
    fn settle(&mut self, now: Instant, chance: u32) {
        while let State::OnLine(line) = &mut self.state
            && let Some(output) = line.poll()
        {
            match output {
                Output::Act(act) => self.steps.push_back(Step::Act(self.turn, act)),
                Output::Frame(frame) => self.steps.push_back(Step::Frame(frame)),
                Output::Quiet => self.steps.push_back(Step::Quiet),
                Output::Carried(transport) => self.carry(transport),
                Output::Unreachable(end) => self.unreachable(end, now, chance),
                Output::Lost(end) => self.lost(end, now, chance),
            }
        }
    }

    fn carry(&mut self, transport: Transport) {
        self.remembered = Some(transport);
        if self.carried.replace(transport) != Some(transport) && self.met == Met::Now {
            self.steps.push_back(Step::Tell(ClientEvent::Transport(transport)));
        }
    }

    fn unreachable(&mut self, end: End, now: Instant, chance: u32) {
        match self.fallback.take() {
            // The line is another one, but the conversation has not begun.
            Some((others, first)) => {
                self.turn += 1;
                self.go(others, first, now);
            }
            None => self.lost(end, now, chance),
        }
    }

    fn lost(&mut self, end: End, now: Instant, chance: u32) {
        self.turn += 1;
        (self.carried, self.fallback) = (None, None);
        self.steps.push_back(Step::Lost(end.clone()));
        let is_final = self.is_final(&end);
        if self.met == Met::Now {
            self.met = Met::Before;
        }
        if is_final {
            return self.finish(end);
        }
        let after = self.backoff.delay(&end, &self.times, now, chance);
        self.state = State::Waiting(now.checked_add(after).unwrap_or(now + Duration::from_secs(86_400)));
        self.steps.push_back(Step::Tell(ClientEvent::Disconnected { end, after }));
    }

    /// Another token may help; who is refused with that too need not come a third time.
    fn is_final(&mut self, end: &End) -> bool {
        let refused = matches!(end.code, UNAUTHORIZED | FORBIDDEN);
        if !refused && end.code != TOKEN_EXPIRED {
            return end.is_final();
        }
        self.reason = TokenReason::Expired;
        self.refusals += u32::from(refused);
        self.renewable == Renewable::No || self.refusals > 1
    }

    fn finish(&mut self, end: End) {
        self.state = State::Closed;
        self.turn += 1;
        self.steps.push_back(Step::Closed(end));
    }
}

#[cfg(test)]
mod tests;
