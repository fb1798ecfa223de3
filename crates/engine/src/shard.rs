use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use duplex_core::{
    Backend, Broker, Budget, ClientId, CloseReason, Closing, EncodingId, Frame, FrameQueue, Heartbeat,
    Identity, Link, Presence, Protocol, RequestId, ShardId, Spent, Step, Steps,
};
use slab::Slab;

use crate::hub::Hub;
use crate::inquiry::Inquiry;
use crate::node::Node;
use crate::outboxes::Outboxes;
use crate::policy::Namespaces;
use crate::session::{Due, Introduction, Phase, Queued, Sending, Session, SessionKey};
use crate::settings::Settings;
use crate::trail::Trail;
use crate::wheel::{TICK_MS, Tick, Wheel};

/// The least time to take leave, however long a client has taken nothing, ms.
const LEAVE_MIN_MS: u64 = 1_000;

/// A thread's clients and all that happens to them.
///
/// Everything here is for one thread. A method that takes a [`SessionKey`] does nothing if that session has ended.
pub struct Shard {
    pub(crate) id: ShardId,
    pub(crate) node: Arc<Node>,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) presence: Arc<dyn Presence>,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) settings: Cell<Settings>,
    pub(crate) namespaces: RefCell<Arc<Namespaces>>,
    /// Anonymous clients share who they are.
    pub(crate) anonymous: Arc<Identity>,
    /// Never borrowed across an await or a call that leads back into the shard.
    pub(crate) state: RefCell<State>,
}

#[derive(Default)]
pub(crate) struct Sessions(Slab<Session>);

pub(crate) struct State {
    pub sessions: Sessions,
    pub hub: Hub,
    pub outboxes: Outboxes,
    /// What clients were asked, for as long as somebody waits for the answers.
    pub inquiries: HashMap<RequestId, Weak<Inquiry>>,
    /// Sessions that wait for their rate to allow another delivery.
    pub paced: Vec<SessionKey>,
    /// Sessions whose transport is full.
    pub stalled: Vec<SessionKey>,
    /// How far the check of positions has come.
    pub checked: usize,
    /// What is left of looks at positions, in shares of a tick.
    pub owed_looks: u64,
    /// What the outboxes held when the node was last told.
    told_bytes: usize,
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
    /// Who it is, if that is known before it says `connect`.
    pub identity: Option<Identity>,
    /// The public id it had, if it goes on where another session of its ended; else it gets a new one.
    pub client: Option<ClientId>,
    /// Where what it is sent is to be noted, if it may come back by naming one publication.
    pub trail: Option<Rc<Trail>>,
}

/// What a shard stands on.
#[derive(Clone)]
#[allow(missing_docs)]
pub struct Ground {
    pub node: Arc<Node>,
    pub broker: Arc<dyn Broker>,
    pub presence: Arc<dyn Presence>,
    pub backend: Arc<dyn Backend>,
}

impl Shard {
    /// A shard without clients. Its clock stands at 0 ms until the first [`tick`](Self::tick).
    pub fn new(id: ShardId, ground: Ground, settings: Settings, namespaces: Arc<Namespaces>) -> Rc<Self> {
        let Ground { node, broker, presence, backend } = ground;
        let state = State {
            sessions: Sessions::default(),
            hub: Hub::default(),
            outboxes: Outboxes::new(&settings, node.shards().count()),
            inquiries: HashMap::new(),
            paced: Vec::new(),
            stalled: Vec::new(),
            checked: 0,
            owed_looks: 0,
            told_bytes: 0,
            dirty: VecDeque::new(),
            wheel: Wheel::new(),
            now_ms: 0,
            serial: 0,
            spare: Steps::new(),
        };
        let (settings, namespaces) = (Cell::new(settings), RefCell::new(namespaces));
        Rc::new(Self {
            id,
            node,
            broker,
            presence,
            backend,
            settings,
            namespaces,
            anonymous: Arc::default(),
            state: RefCell::new(state),
        })
    }

    /// Makes room for so many sessions. The memory for it is taken when they come; without room they would be moved, all at
    /// once, and where they were would be kept for a while.
    pub fn reserve(&self, sessions: usize) {
        self.state.borrow_mut().sessions.0.reserve(sessions);
    }

    /// From now on these settings and policies hold, also for those who are connected.
    pub fn reconfigure(&self, settings: Settings, namespaces: Arc<Namespaces>) {
        let state = &mut *self.state.borrow_mut();
        state.outboxes.set(&settings, self.node.shards().count());
        state.hub.set_policies(|name| namespaces.of(name).ok().cloned());
        // What was spent was counted against the policies before.
        state.sessions.0.iter_mut().for_each(|(_, session)| session.publications = None);
        self.settings.set(settings);
        *self.namespaces.borrow_mut() = namespaces;
    }

    /// The policies that hold now.
    pub fn namespaces(&self) -> Arc<Namespaces> {
        Arc::clone(&self.namespaces.borrow())
    }

    /// Begins a session.
    pub fn open(self: &Rc<Self>, mut opening: Opening) -> SessionKey {
        let known = opening.identity.take().map(|identity| self.share(identity));
        let key = self.state.borrow_mut().insert(opening, known, self.settings.get().connect_ms);
        self.node.gauges.sessions.fetch_add(1, Relaxed);
        self.converse(key, |protocol, steps| protocol.open(steps));
        key
    }

    /// The client sent `frame`. Whether that is a sign of life of its transport, the transport says by [`heard`](Self::heard):
    /// messages may come another way.
    pub fn receive(self: &Rc<Self>, key: SessionKey, frame: Frame<'_>) {
        let rate = self.settings.get().messages;
        let spent = {
            let State { sessions, now_ms, .. } = &mut *self.state.borrow_mut();
            let Some(session) = sessions.live(key) else { return };
            session.messages.spend(1, rate, *now_ms)
        };
        match spent {
            Spent::Within => self.converse(key, |protocol, steps| protocol.receive(frame, steps)),
            Spent::Over => {
                let detail = format!("more than {} messages per second", rate.per_second);
                self.close(key, &CloseReason::TOO_MANY_MESSAGES, &detail);
            }
        }
    }

    /// Something came from the client over its transport, if only a sign of life.
    pub fn heard(&self, key: SessionKey) {
        let State { sessions, wheel, now_ms, .. } = &mut *self.state.borrow_mut();
        if let Some(session) = sessions.get(key) {
            session.heard(&self.settings.get(), key, *now_ms, wheel);
        }
    }

    /// The same from a client that gets its heartbeats on time, whatever it sends: it answers one that is out, and puts off none.
    pub fn answered(&self, key: SessionKey) {
        let is_pinged =
            self.state.borrow_mut().sessions.get(key).is_some_and(|session| session.phase == Phase::Pinged);
        if is_pinged {
            self.heard(key);
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
        self.dismiss(key, reason, detail, None);
    }

    /// The same; `after_ms` is when the client should come back.
    fn dismiss(&self, key: SessionKey, reason: &'static CloseReason, detail: &str, after_ms: Option<u32>) {
        self.give_up_answers(key);
        let state = &mut *self.state.borrow_mut();
        let Some(session) = state.sessions.live(key) else { return };
        tracing::debug!(client = %session.client, code = reason.code, detail, "closing");
        self.node.gauges.count_closed(reason);
        let before = session.waiting();
        session.lag = None;
        if *reason == CloseReason::SLOW {
            session.outbox.clear();
        }
        let mut steps = std::mem::take(&mut state.spare);
        session.protocol.closing(&Closing { reason, detail, after_ms }, &mut steps);
        for step in steps.drain(..) {
            if let Step::Send(message) = step {
                session.outbox.push(session.link.frame(message));
            }
        }
        state.spare = steps;
        if let Some(farewell) = session.link.farewell(reason, detail) {
            session.outbox.push(farewell);
        }
        session.kept = session.link.kept_bytes();
        state.outboxes.remove(before);
        state.outboxes.add(session.waiting());
        session.phase = Phase::Closing;
        // Who has taken nothing for a while would not take its leave either.
        let close_ms = u64::from(self.settings.get().close_ms);
        let since_ms = session.stalled.unwrap_or(state.now_ms);
        let due_ms = (since_ms + close_ms).max(state.now_ms + close_ms.min(LEAVE_MIN_MS));
        session.wait_until(due_ms, key, &mut state.wheel);
        if session.mark_dirty() == Queued::First {
            self.dirty(state, key);
        }
        self.leave_channels(state, key);
    }

    /// Whether the session is there and not closed.
    pub fn is_live(&self, key: SessionKey) -> bool {
        self.state.borrow_mut().sessions.live(key).is_some()
    }

    /// The transport of a session is gone, and another may come, unless the session was closed.
    pub fn left(&self, key: SessionKey) {
        if self.is_live(key) { self.writable(key) } else { self.ended(key) }
    }

    /// The link has ended, and with it the session.
    pub fn ended(&self, key: SessionKey) {
        self.give_up_answers(key);
        let mut state = self.state.borrow_mut();
        if state.sessions.get(key).is_none() {
            return;
        }
        self.leave_channels(&mut state, key);
        let session = state.sessions.0.remove(key.index as usize);
        state.outboxes.remove(session.waiting());
        if let Some(user) = session.identity().and_then(|identity| identity.user.as_ref()) {
            self.node.free_place(user);
        }
        self.node.gauges.sessions.fetch_sub(1, Relaxed);
    }

    /// Closes up to `count` sessions because the server stops; they are asked to come back spread over `spread_ms`. Says
    /// how many are left to be closed.
    pub fn send_away(&self, count: usize, spread_ms: u32) -> usize {
        let live = self.state.borrow().sessions.live_keys();
        for key in live.iter().take(count) {
            self.dismiss(*key, &CloseReason::RESTART, "", Some(1 + key.spread(spread_ms)));
        }
        live.len().saturating_sub(count)
    }

    /// Closes the sessions that are meant.
    pub(crate) fn close_those(&self, whom: &crate::Whom, reason: &'static CloseReason) {
        self.those(whom).into_iter().for_each(|key| self.close(key, reason, ""));
    }

    /// The sessions that are meant.
    pub(crate) fn those(&self, whom: &crate::Whom) -> Vec<SessionKey> {
        self.state.borrow().sessions.those(whom)
    }

    /// Sessions on this shard.
    pub fn sessions(&self) -> usize {
        self.state.borrow().sessions.0.len()
    }

    /// Time has come to `now_ms` of the shard's clock; call it about every 100 ms.
    pub fn tick(self: &Rc<Self>, now_ms: u64) {
        self.state.borrow_mut().now_ms = now_ms;
        self.send_paced();
        self.close_stalled();
        self.check_positions();
        self.tell_bytes();
        while let Some((tick, keys)) = { self.state.borrow_mut().wheel.turn(now_ms) } {
            keys.into_iter().for_each(|key| self.look_at(key, tick));
        }
    }

    /// Tells the node what waits for clients here.
    fn tell_bytes(&self) {
        let State { outboxes, told_bytes, .. } = &mut *self.state.borrow_mut();
        let total = &self.node.gauges.outbox_bytes;
        total.fetch_add(outboxes.bytes(), Relaxed);
        total.fetch_sub(std::mem::replace(told_bytes, outboxes.bytes()), Relaxed);
    }

    /// A deadline of this session may be over.
    fn look_at(self: &Rc<Self>, key: SessionKey, tick: Tick) {
        let due = {
            let State { sessions, wheel, now_ms, .. } = &mut *self.state.borrow_mut();
            let Some(session) = sessions.get(key).filter(|session| session.entry == tick) else { return };
            session.due(&self.settings.get(), key, *now_ms, wheel)
        };
        match due {
            Due::Later => {}
            Due::Heartbeat => self.beat(key),
            Due::Close(reason) => self.close(key, reason, ""),
            Due::End => self.ended(key),
        }
    }

    /// Sends a heartbeat to a silent client.
    fn beat(self: &Rc<Self>, key: SessionKey) {
        let frame = {
            let settings = self.settings.get();
            let State { sessions, wheel, now_ms, .. } = &mut *self.state.borrow_mut();
            let Some(session) = sessions.live(key) else { return };
            match session.link.heartbeat() {
                Heartbeat::Ping(frame) => {
                    session.phase = Phase::Pinged;
                    // A tick early rather than late: that a client is gone is known when its time is over.
                    let pong_ms = u64::from(settings.pong_ms).saturating_sub(TICK_MS);
                    session.wait_until(*now_ms + pong_ms, key, wheel);
                    frame
                }
                Heartbeat::Comment(frame) => {
                    // Nothing will be heard of it, so its silence is counted from here.
                    session.heard_ms = *now_ms;
                    session.live(&settings, key, wheel);
                    frame
                }
            }
        };
        if frame.is_empty() {
            self.writable(key)
        } else {
            self.push(key, |_| frame)
        }
        self.converse(key, |protocol, steps| protocol.beat(steps));
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
                Step::SendTogether(messages) => self.push(key, |link| {
                    let frames = messages.into_iter().map(|message| link.frame(message));
                    frames.collect::<Vec<_>>().concat().into()
                }),
                Step::Ask(ticket, command) => self.execute(key, ticket, command),
                Step::Reply(request, answer) => self.reply(key, request, answer),
                Step::Encode(encoding) => {
                    if let Some(session) = self.state.borrow_mut().sessions.live(key) {
                        session.encoding = encoding;
                    }
                }
                Step::Close(reason, detail) => self.close(key, reason, &detail),
            }
        }
        self.state.borrow_mut().spare = steps;
    }

    /// Queues a frame for a session and sees to it that it is flushed.
    pub(crate) fn push(&self, key: SessionKey, frame: impl FnOnce(&dyn Link) -> Bytes) {
        let queued = {
            let state = &mut *self.state.borrow_mut();
            let Some(session) = state.sessions.live(key) else { return };
            let frame = frame(&*session.link);
            let queued = session.queue(frame, &mut state.outboxes);
            if queued == Queued::First {
                self.dirty(state, key);
            }
            queued
        };
        if queued == Queued::Full {
            self.close(key, &CloseReason::SLOW, "");
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
    fn insert(&mut self, opening: Opening, known: Option<Arc<Identity>>, connect_ms: u32) -> SessionKey {
        let Opening { link, protocol, encoding, client, trail, .. } = opening;
        self.serial = self.serial.wrapping_add(1);
        let due_ms = self.now_ms + u64::from(connect_ms);
        let key = SessionKey { index: self.sessions.0.vacant_key() as u32, serial: self.serial };
        self.sessions.0.insert(Session {
            outbox: FrameQueue::default(),
            link,
            sending: Sending::Idle,
            kept: 0,
            phase: Phase::Opening,
            encoding,
            serial: self.serial,
            due_ms,
            entry: self.wheel.insert(key, due_ms),
            heard_ms: self.now_ms,
            has_answered: false,
            stalled: None,
            messages: Budget::default(),
            protocol,
            subscriptions: Vec::new(),
            streams: Vec::new(),
            client: client.unwrap_or_else(new_client),
            introduction: Introduction::Awaited(known),
            expires_ms: u64::MAX,
            in_flight: 0,
            lag: None,
            trail,
            publications: None,
        });
        key
    }
}

fn new_client() -> ClientId {
    let mut random = [0; 16];
    getrandom::fill(&mut random).expect("the operating system gives random bytes");
    ClientId::from_random(random)
}

impl Sessions {
    /// Those for whom something waits, with how many bytes.
    pub fn waiting(&self) -> Vec<(usize, SessionKey)> {
        let live = self.0.iter().filter(|(_, session)| session.phase != Phase::Closing);
        let waiting = live.map(|(index, session)| {
            let index = u32::try_from(index).expect("a shard has fewer sessions");
            (session.waiting(), SessionKey { index, serial: session.serial })
        });
        waiting.filter(|(bytes, _)| *bytes > 0).collect()
    }

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

    /// Those that are not closing.
    fn live_keys(&self) -> Vec<SessionKey> {
        let live = self.0.iter().filter(|(_, session)| session.phase != Phase::Closing);
        live.map(|(index, session)| SessionKey { index: index as u32, serial: session.serial }).collect()
    }

    /// Those that are meant.
    fn those(&self, whom: &crate::Whom) -> Vec<SessionKey> {
        let is_meant =
            |session: &Session| session.identity().is_some_and(|identity| whom.is(session.client, identity));
        let meant = self.0.iter().filter(|(_, session)| is_meant(session));
        meant.map(|(index, session)| SessionKey { index: index as u32, serial: session.serial }).collect()
    }
}
