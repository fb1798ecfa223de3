use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use duplex_core::{
    Broker, Budget, ClientId, CloseReason, EncodingId, Frame, FrameQueue, Heartbeat, Link, Protocol, ShardId,
    Spent, Step, Steps,
};
use slab::Slab;

use crate::hub::Hub;
use crate::node::Node;
use crate::session::{Due, Phase, Queued, Sending, Session, SessionKey};
use crate::settings::Settings;
use crate::wheel::{Tick, Wheel};

/// A thread's clients and all that happens to them.
///
/// Everything here is for one thread. A method that takes a [`SessionKey`] does nothing if that session has ended.
pub struct Shard {
    pub(crate) id: ShardId,
    pub(crate) node: Arc<Node>,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) settings: Settings,
    /// Never borrowed across an await or a call that leads back into the shard.
    pub(crate) state: RefCell<State>,
}

#[derive(Default)]
pub(crate) struct Sessions(Slab<Session>);

pub(crate) struct State {
    pub sessions: Sessions,
    pub hub: Hub,
    /// Outboxes to be flushed at the end of the turn.
    pub dirty: VecDeque<SessionKey>,
    pub wheel: Wheel,
    pub now_ms: u64,
    serial: u32,
    /// An empty list of steps with room in it, so that a message costs no allocation.
    spare: Steps,
}

/// A client that has just connected.
pub struct Opening {
    /// How bytes reach it.
    pub link: Rc<dyn Link>,
    /// What it speaks.
    pub protocol: Box<dyn Protocol>,
    /// The wire form in which it wants publications.
    pub encoding: EncodingId,
}

impl Shard {
    /// A shard without clients. Its clock stands at 0 ms until the first [`tick`](Self::tick).
    pub fn new(id: ShardId, node: Arc<Node>, broker: Arc<dyn Broker>, settings: Settings) -> Rc<Self> {
        let state = State {
            sessions: Sessions::default(),
            hub: Hub::default(),
            dirty: VecDeque::new(),
            wheel: Wheel::new(),
            now_ms: 0,
            serial: 0,
            spare: Steps::new(),
        };
        Rc::new(Self { id, node, broker, settings, state: RefCell::new(state) })
    }

    /// Begins a session.
    pub fn open(self: &Rc<Self>, opening: Opening) -> SessionKey {
        let key = self.state.borrow_mut().insert(opening, self.settings.connect_ms);
        self.node.gauges.sessions.fetch_add(1, Relaxed);
        self.converse(key, |protocol, steps| protocol.open(steps));
        key
    }

    /// The client sent `frame`.
    pub fn receive(self: &Rc<Self>, key: SessionKey, frame: Frame<'_>) {
        let spent = {
            let State { sessions, wheel, now_ms, .. } = &mut *self.state.borrow_mut();
            let Some(session) = sessions.live(key) else { return };
            session.heard(&self.settings, key, *now_ms, wheel);
            session.messages.spend(1, self.settings.messages, *now_ms)
        };
        match spent {
            Spent::Within => self.converse(key, |protocol, steps| protocol.receive(frame, steps)),
            Spent::Over => {
                let rate = self.settings.messages;
                let detail = format!("more than {} messages per second", rate.per_second);
                self.close(key, &CloseReason::TOO_MANY_MESSAGES, &detail);
            }
        }
    }

    /// Something came from the client, if only a sign of life.
    pub fn heard(&self, key: SessionKey) {
        let State { sessions, wheel, now_ms, .. } = &mut *self.state.borrow_mut();
        if let Some(session) = sessions.get(key) {
            session.heard(&self.settings, key, *now_ms, wheel);
        }
    }

    /// Queues bytes that belong to the transport, such as a pong.
    pub fn queue(&self, key: SessionKey, wire: Bytes) {
        self.push(key, |_| wire);
    }

    /// The transport has room again, or another reason to be asked to write.
    pub fn writable(&self, key: SessionKey) {
        let state = &mut *self.state.borrow_mut();
        if let Some(session) = state.sessions.get(key)
            && session.sending != Sending::Dirty
        {
            session.sending = Sending::Dirty;
            self.dirty(state, key);
        }
    }

    /// Closes a session: it leaves its channels now, and its link when the farewell is out or the time for it is over.
    /// `detail` is for the client's developer and may be empty.
    pub fn close(&self, key: SessionKey, reason: &'static CloseReason, detail: &str) {
        let state = &mut *self.state.borrow_mut();
        let Some(session) = state.sessions.live(key) else { return };
        tracing::debug!(client = %session.client, code = reason.code, detail, "closing");
        if *reason == CloseReason::SLOW {
            session.outbox.clear();
        }
        if let Some(farewell) = session.link.farewell(reason, detail) {
            session.outbox.push(farewell);
        }
        session.phase = Phase::Closing;
        session.wait_until(state.now_ms + u64::from(self.settings.close_ms), key, &mut state.wheel);
        if session.mark_dirty() == Queued::First {
            self.dirty(state, key);
        }
        self.leave_channels(state, key);
    }

    /// The link has ended, and with it the session.
    pub fn ended(&self, key: SessionKey) {
        let mut state = self.state.borrow_mut();
        if state.sessions.get(key).is_none() {
            return;
        }
        self.leave_channels(&mut state, key);
        state.sessions.0.remove(key.index as usize);
        self.node.gauges.sessions.fetch_sub(1, Relaxed);
    }

    /// Closes all sessions.
    pub fn close_all(&self, reason: &'static CloseReason) {
        let keys = self.state.borrow().sessions.keys();
        keys.into_iter().for_each(|key| self.close(key, reason, ""));
    }

    /// Sessions on this shard.
    pub fn sessions(&self) -> usize {
        self.state.borrow().sessions.0.len()
    }

    /// Time has come to `now_ms` of the shard's clock; call it about every 100 ms.
    pub fn tick(&self, now_ms: u64) {
        self.state.borrow_mut().now_ms = now_ms;
        while let Some((tick, keys)) = { self.state.borrow_mut().wheel.turn(now_ms) } {
            keys.into_iter().for_each(|key| self.look_at(key, tick));
        }
    }

    /// A deadline of this session may be over.
    fn look_at(&self, key: SessionKey, tick: Tick) {
        let due = {
            let State { sessions, wheel, now_ms, .. } = &mut *self.state.borrow_mut();
            let Some(session) = sessions.get(key).filter(|session| session.entry == tick) else { return };
            session.due(&self.settings, key, *now_ms, wheel)
        };
        match due {
            Due::Later => {}
            Due::Heartbeat => self.beat(key),
            Due::Close(reason) => self.close(key, reason, ""),
        }
    }

    /// Sends a heartbeat to a silent client.
    fn beat(&self, key: SessionKey) {
        let frame = {
            let State { sessions, wheel, now_ms, .. } = &mut *self.state.borrow_mut();
            let Some(session) = sessions.live(key) else { return };
            let (frame, phase, wait_ms) = match session.link.heartbeat() {
                Heartbeat::Ping(frame) => (frame, Phase::Pinged, self.settings.pong_ms),
                Heartbeat::Comment(frame) => (frame, Phase::Live, session.beat_ms(&self.settings)),
            };
            session.phase = phase;
            session.wait_until(*now_ms + u64::from(wait_ms), key, wheel);
            frame
        };
        self.push(key, |_| frame);
    }

    /// Lets the protocol of a session act, and does what it wants done.
    pub(crate) fn converse(
        self: &Rc<Self>,
        key: SessionKey,
        act: impl FnOnce(&mut dyn Protocol, &mut Steps),
    ) {
        let mut steps = {
            let state = &mut *self.state.borrow_mut();
            let Some(session) = state.sessions.live(key) else { return };
            let mut steps = std::mem::take(&mut state.spare);
            act(&mut *session.protocol, &mut steps);
            steps
        };
        while let Some(step) = steps.pop_front() {
            match step {
                Step::Send(message) => self.push(key, |link| link.frame(message)),
                Step::Ask(ticket, command) => self.execute(key, ticket, command),
                Step::Close(reason, detail) => self.close(key, reason, &detail),
            }
        }
        self.state.borrow_mut().spare = steps;
    }

    /// Queues a frame for a session and sees to it that it is flushed.
    pub(crate) fn push(&self, key: SessionKey, frame: impl FnOnce(&dyn Link) -> Bytes) {
        let mut state = self.state.borrow_mut();
        let Some(session) = state.sessions.live(key) else { return };
        let frame = frame(&*session.link);
        match session.queue(frame, self.settings.outbox_bytes) {
            Queued::First => self.dirty(&mut state, key),
            Queued::Behind => {}
            Queued::Full => {
                drop(state);
                self.close(key, &CloseReason::SLOW, "");
            }
        }
    }

    /// Notes that an outbox is to be flushed at the end of the turn; the first one of a turn calls for its end.
    pub(crate) fn dirty(&self, state: &mut State, key: SessionKey) {
        if state.dirty.is_empty() {
            self.node.inbox(self.id).wake.notify_one();
        }
        state.dirty.push_back(key);
    }

    pub(crate) fn leave_channels(&self, state: &mut State, key: SessionKey) {
        let Some(session) = state.sessions.get(key) else { return };
        for subscription in std::mem::take(&mut session.subscriptions) {
            self.leave_channel(state, key, subscription);
        }
    }
}

impl State {
    fn insert(&mut self, opening: Opening, connect_ms: u32) -> SessionKey {
        let Opening { link, protocol, encoding } = opening;
        self.serial = self.serial.wrapping_add(1);
        let mut random = [0; 16];
        getrandom::fill(&mut random).expect("the operating system gives random bytes");
        let due_ms = self.now_ms + u64::from(connect_ms);
        let key = SessionKey { index: self.sessions.0.vacant_key() as u32, serial: self.serial };
        self.sessions.0.insert(Session {
            outbox: FrameQueue::default(),
            link,
            sending: Sending::Idle,
            phase: Phase::Opening,
            encoding,
            serial: self.serial,
            due_ms,
            entry: self.wheel.insert(key, due_ms),
            heard_ms: self.now_ms,
            messages: Budget::default(),
            protocol,
            subscriptions: Vec::new(),
            client: ClientId::from_random(random),
        });
        key
    }
}

impl Sessions {
    /// The session, unless it has ended.
    #[inline]
    pub fn get(&mut self, key: SessionKey) -> Option<&mut Session> {
        self.0.get_mut(key.index as usize).filter(|session| session.serial == key.serial)
    }

    /// The session, unless it has ended or is closing.
    #[inline]
    pub fn live(&mut self, key: SessionKey) -> Option<&mut Session> {
        self.get(key).filter(|session| session.phase != Phase::Closing)
    }

    /// The session of a hub's member. Members leave the hub before their session ends.
    #[inline]
    pub fn member(&mut self, index: u32) -> &mut Session {
        &mut self.0[index as usize]
    }

    /// All sessions.
    fn keys(&self) -> Vec<SessionKey> {
        self.0
            .iter()
            .map(|(index, session)| SessionKey { index: index as u32, serial: session.serial })
            .collect()
    }
}
