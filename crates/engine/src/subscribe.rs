//! Subscribing without a gap, and everything that keeps it so.

use std::rc::Rc;
use std::sync::Arc;

use duplex_core::{
    Action, Answer, BrokerError, ChannelName, CloseReason, EncodingId, ErrorCode, Event, Extent, History,
    Identity, Member, Order, Page, Pending, Position, Recovered, Refusal, Stream, Tell, Ticket,
};

use crate::command::refusal;
use crate::hub::{Attendance, Gap, Place, Subscription};
use crate::merge::{Asked, Start, merge};
use crate::policy::{Policy, Recovery, Visibility};
use crate::session::SessionKey;
use crate::shard::{Shard, State};
use crate::wheel::TICK_MS;

/// What a client wants to be told.
pub(crate) struct Wanted {
    pub channel: ChannelName,
    pub since: Option<Position>,
    pub stream: Option<Stream>,
}

/// Someone who has begun to subscribe.
#[derive(Clone)]
struct Joining {
    key: SessionKey,
    ticket: Ticket,
    channel: ChannelName,
    policy: Arc<Policy>,
    since: Option<Position>,
}

impl Shard {
    pub(crate) fn subscribe(
        self: &Rc<Self>,
        key: SessionKey,
        ticket: Ticket,
        identity: &Identity,
        wanted: Wanted,
        token: Option<&str>,
    ) -> Result<(), Refusal> {
        let Wanted { channel, since, stream } = wanted;
        let policy = Arc::clone(self.namespaces().of(&channel)?);
        let standing = self.standing(key, &channel);
        let allowed = policy.may(Action::Subscribe, &channel, identity, standing);
        // Begun before it is allowed, so that an unsubscribe that comes meanwhile ends it.
        let asking = match (allowed, token) {
            (Ok(()), _) => None,
            (Err(_), Some(token)) if policy.takes_tokens(&channel, identity) => {
                Some(self.backend.subscribe(identity, &channel, token))
            }
            (Err(refusal), _) => return Err(refusal),
        };
        self.begin_to_join(key, &channel, &policy, stream)?;
        let joining = Joining { key, ticket, channel, policy, since };
        match asking {
            None => self.listen(joining),
            Some(asking) => self.await_for(key, asking, move |shard, answered| match answered {
                Ok(()) => shard.listen(joining),
                Err(refusal) => shard.give_up(&joining, refusal),
            }),
        }
        Ok(())
    }

    fn begin_to_join(
        &self,
        key: SessionKey,
        name: &ChannelName,
        policy: &Arc<Policy>,
        stream: Option<Stream>,
    ) -> Result<(), Refusal> {
        let state = &mut *self.state.borrow_mut();
        let limit = self.settings.get().subscriptions;
        let Some(session) = state.sessions.live(key) else { return Ok(()) };
        if state.hub.find(name).is_some_and(|channel| session.subscription(channel).is_some()) {
            return Err(Refusal::new(
                ErrorCode::AlreadySubscribed,
                format_args!("already subscribed to {name:?}"),
            ));
        }
        if session.subscriptions.len() >= limit {
            let message =
                format_args!("at most {limit} subscriptions per client; unsubscribe from something first");
            return Err(Refusal::new(ErrorCode::LimitExceeded, message));
        }
        let channel = state.hub.join(name, policy, key.index);
        let attendance = Attendance::Unreported;
        session.subscriptions.push(Subscription { channel, place: Place::Joining, attendance });
        session.streams.extend(stream.map(|stream| (channel, stream)));
        if let Some(trail) = &session.trail {
            trail.joins(name);
        }
        self.node.gauges.subscriptions.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }

    fn listen(self: &Rc<Self>, joining: Joining) {
        match self.unsettle(joining.key) {
            None => self.listen_settled(joining),
            Some(unsettling) => self.await_for(joining.key, unsettling, move |shard, done| match done {
                Ok(()) => shard.listen_settled(joining),
                Err(error) => shard.give_up(&joining, refusal("subscribe", &error)),
            }),
        }
    }

    /// What must be awaited before anything changes of which others do not know.
    fn unsettle(&self, key: SessionKey) -> Option<Pending<Result<(), BrokerError>>> {
        let mut state = self.state.borrow_mut();
        state.sessions.live(key)?.trail.as_ref()?.unsettle()
    }

    /// Nobody relies on what its client was sent so far.
    fn listen_settled(self: &Rc<Self>, joining: Joining) {
        let listening = self.broker.listen(&joining.channel, self.id);
        self.await_for(joining.key, listening, move |shard, listening| match listening {
            Err(error) => shard.give_up(&joining, refusal("subscribe", &error)),
            Ok(()) => shard.read_history(joining),
        });
    }

    fn read_history(self: &Rc<Self>, joining: Joining) {
        let (asked, extent) = match (joining.policy.recovery, joining.since) {
            (Recovery::Stream, Some(since)) => (Asked::Missed, Extent::After(since)),
            (Recovery::Off, Some(_)) => (Asked::InVain, Extent::Nothing),
            (Recovery::Off | Recovery::Stream, None) => (Asked::No, Extent::Nothing),
            (Recovery::Cache, since) => {
                let newest = Page { since: None, limit: 1, order: Order::NewestFirst };
                (Asked::Newest(since), Extent::Page(newest))
            }
        };
        let reading = self.broker.history(&joining.channel, extent);
        self.await_for(joining.key, reading, move |shard, read| match read {
            Err(error) => shard.give_up(&joining, refusal("subscribe", &error)),
            Ok(history) => shard.go_live(joining, asked, history),
        });
    }

    /// History is here: whatever was published before it has reached the inbox, so hold that back too, then answer,
    /// send what was missed, and be live.
    fn go_live(self: &Rc<Self>, joining: Joining, asked: Asked, history: History) {
        self.drain();
        let Joining { key, ticket, channel: name, policy, .. } = joining;
        let (channel, start) = match self.end_joining(key, &name, asked, history) {
            Some(Ok(live)) => live,
            Some(Err(Gap)) => return self.close(key, &CloseReason::INSUFFICIENT_STATE, ""),
            None => {
                let message = "unsubscribed before the subscription was there";
                return self.refuse(key, ticket, Refusal::new(ErrorCode::NotAvailable, message));
            }
        };
        let Start { position, recovered, replay, .. } = start;
        self.answer(key, ticket, Answer::Subscribed { channel: name.clone(), position, recovered });
        self.replay(key, channel, &policy, replay);
        if recovered == Recovered::All {
            self.answer(key, ticket, Answer::Recovered { channel: name.clone() });
        }
        self.report(key, &name, &policy);
    }

    /// Takes someone who was joining among the live subscribers; `None` if it is not joining any more.
    fn end_joining(
        &self,
        key: SessionKey,
        name: &ChannelName,
        asked: Asked,
        history: History,
    ) -> Option<Result<(u32, Start), Gap>> {
        let state = &mut *self.state.borrow_mut();
        let (encoding, channel) = state.joining(key, name)?;
        let delivery = |publication| self.node.delivery(Event::Publication(publication));
        Some((|| {
            let held = state.hub.end_joining(channel, key.index)?;
            let start = merge(asked, history, held, delivery)?;
            let place = state.hub.go_live(channel, key.index, encoding, start.end)?;
            let session = state.sessions.member(key.index);
            session.set_place(channel, place);
            if let Some(trail) = &session.trail {
                trail.joined(channel, name, start.begin());
            }
            Ok((channel, start))
        })())
    }

    /// Others may know that the client is subscribed.
    fn report(self: &Rc<Self>, key: SessionKey, name: &ChannelName, policy: &Policy) {
        let tell = match policy.attendance {
            Visibility::Hidden => return,
            Visibility::Asked => Tell::Nobody,
            Visibility::Announced => Tell::Everyone,
        };
        let member = {
            let state = &mut *self.state.borrow_mut();
            let (Some(channel), Some(session)) = (state.hub.find(name), state.sessions.live(key)) else {
                return;
            };
            let Some(identity) = session.identity().map(Arc::clone) else { return };
            let Some(subscription) = session.subscription_mut(channel) else { return };
            subscription.attendance = Attendance::Reported;
            Member { client: session.client, user: identity.user.clone(), info: identity.info.clone() }
        };
        let name = name.clone();
        self.when(self.presence.join(&name, member, tell), move |_, joined| {
            if let Err(error) = joined {
                tracing::warn!(channel = ?name, %error, "a subscriber is missing in presence");
            }
        });
    }

    /// It may not subscribe, or the broker failed while it was joining.
    fn give_up(self: &Rc<Self>, joining: &Joining, refusal: Refusal) {
        self.leave(joining.key, &joining.channel);
        self.refuse(joining.key, joining.ticket, refusal);
    }

    pub(crate) fn unsubscribe(self: &Rc<Self>, key: SessionKey, ticket: Ticket, channel: ChannelName) {
        self.leave(key, &channel);
        match self.unsettle(key) {
            None => self.answer(key, ticket, Answer::Unsubscribed { channel }),
            // If that fails, it is in the channel again if it comes back now: no harm that it could be told of.
            Some(unsettling) => self.await_for(key, unsettling, move |shard, _| {
                shard.answer(key, ticket, Answer::Unsubscribed { channel });
            }),
        }
    }

    fn leave(&self, key: SessionKey, name: &ChannelName) {
        let state = &mut *self.state.borrow_mut();
        let Some(channel) = state.hub.find(name) else { return };
        let Some(session) = state.sessions.get(key) else { return };
        let Some(index) = session.subscriptions.iter().position(|s| s.channel == channel) else { return };
        let subscription = session.subscriptions.swap_remove(index);
        if let Some(trail) = &session.trail {
            trail.left(channel, name);
        }
        self.leave_channel(state, key, subscription);
    }

    /// Takes a session, which no longer lists the subscription, out of the hub.
    pub(crate) fn leave_channel(&self, state: &mut State, key: SessionKey, subscription: Subscription) {
        let State { sessions, hub, outboxes, .. } = state;
        let session = sessions.member(key.index);
        if let Some(lag) = &mut session.lag {
            let before = lag.bytes();
            lag.forget(subscription.channel);
            outboxes.remove(before - lag.bytes());
        }
        if subscription.attendance == Attendance::Reported {
            self.presence.leave(&hub.channel(subscription.channel).name, session.client);
        }
        let left = hub.leave(key.index, session.encoding_in(subscription.channel), subscription);
        session.streams.retain(|(channel, _)| *channel != subscription.channel);
        if let Some(moved) = left.moved {
            sessions.member(moved).set_place(subscription.channel, subscription.place);
        }
        if let Some(name) = left.emptied {
            self.broker.ignore(&name, self.id);
        }
        self.node.gauges.subscriptions.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
    }

    /// Whether what a session is sent from here on has the order of all channels.
    pub fn settled(&self, key: SessionKey) -> Settled {
        let State { sessions, hub, .. } = &mut *self.state.borrow_mut();
        let Some(session) = sessions.live(key) else { return Settled::Never };
        let mut channels = session.subscriptions.iter();
        if channels.any(|subscription| hub.channel(subscription.channel).policy.thins_out()) {
            return Settled::Never;
        }
        let is_joining =
            session.subscriptions.iter().any(|subscription| subscription.place == Place::Joining);
        if is_joining || session.lag.is_some() { Settled::NotYet } else { Settled::Yes }
    }

    /// Compares, for some channels at a time, what their subscribers have seen with what was published: a broker that
    /// silently stopped delivering is found out.
    pub(crate) fn check_positions(self: &Rc<Self>) {
        let some = {
            let state = &mut *self.state.borrow_mut();
            let ticks = (u64::from(self.settings.get().position_check_ms) / TICK_MS).max(1);
            state.owed_looks += state.hub.places() as u64;
            let count = state.owed_looks / ticks;
            state.owed_looks %= ticks;
            state.hub.some_channels(&mut state.checked, usize::try_from(count).unwrap_or(usize::MAX))
        };
        for channel in some {
            let reading = self.broker.history(&channel, Extent::Nothing);
            self.when(reading, move |shard, read| shard.compare(&channel, read));
        }
    }

    fn compare(self: &Rc<Self>, channel: &ChannelName, read: Result<History, BrokerError>) {
        // What was published before the position was read may still wait in the inbox.
        self.drain();
        let Ok(History { position, .. }) = read else { return };
        let Some(seen) = self.state.borrow().hub.seen(channel) else { return };
        if seen.epoch != position.epoch || seen.offset < position.offset {
            tracing::warn!(
                ?channel,
                ?seen,
                ?position,
                "publications did not arrive here; subscribers must recover"
            );
            self.give_up_channel(channel);
        }
    }

    /// Subscribers of this channel have missed something: they come back and recover, or are told that they cannot.
    pub(crate) fn give_up_channel(&self, channel: &ChannelName) {
        for key in self.keys(channel) {
            self.close(key, &CloseReason::INSUFFICIENT_STATE, "");
        }
    }
}

/// Whether a session is sent everything in the order of all channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// From here on.
    Yes,
    /// It is being sent what it missed somewhere.
    NotYet,
    /// It has ended, or is in a channel that thins out.
    Never,
}

impl State {
    /// How a session that is still joining the channel will be told of it, and the channel.
    fn joining(&mut self, key: SessionKey, name: &ChannelName) -> Option<(EncodingId, u32)> {
        let channel = self.hub.find(name)?;
        let session = self.sessions.live(key)?;
        let place = session.subscription(channel)?.place;
        (place == Place::Joining).then_some((session.encoding_in(channel), channel))
    }
}
