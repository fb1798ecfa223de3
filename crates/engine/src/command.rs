//! What clients ask for, carried out.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Waker};
use std::time::{SystemTime, UNIX_EPOCH};

use duplex_core::{
    Answer, BrokerError, ChannelName, Command, Draft, ErrorCode, Extent, History, Page, Past, Position,
    Publication, Refusal, Ticket,
};

use crate::hub::{Place, Subscription};
use crate::merge::{Asked, merge};
use crate::session::{Phase, SessionKey};
use crate::shard::{Shard, State};

/// Memory of the publications in one page of history, bytes: what one answer may cost.
const PAGE_BYTES_MAX: usize = 256 << 10;

impl Shard {
    pub(crate) fn execute(self: &Rc<Self>, key: SessionKey, ticket: Ticket, command: Command) {
        match command {
            Command::Connect => self.connect(key, ticket),
            Command::Subscribe { channel, since } => self.subscribe(key, ticket, channel, since),
            Command::Unsubscribe { channel } => self.unsubscribe(key, ticket, channel),
            Command::History { channel, page } => self.history(key, ticket, channel, page),
            Command::Publish { channel, event, payload, tags, key: idempotency } => {
                let Some(client) = self.state.borrow_mut().sessions.live(key).map(|session| session.client)
                else {
                    return;
                };
                let draft = Draft {
                    channel,
                    event,
                    payload,
                    tags,
                    client: Some(client),
                    time_ms: unix_ms(),
                    key: idempotency,
                };
                self.publish(key, ticket, draft);
            }
        }
    }

    fn answer(self: &Rc<Self>, key: SessionKey, ticket: Ticket, answer: Answer) {
        self.converse(key, |protocol, steps| protocol.answer(ticket, answer, steps));
    }

    fn refuse(self: &Rc<Self>, key: SessionKey, ticket: Ticket, refusal: Refusal) {
        self.answer(key, ticket, Answer::Refused(refusal));
    }

    /// From here on the client is looked after by heartbeats.
    fn connect(self: &Rc<Self>, key: SessionKey, ticket: Ticket) {
        let client = {
            let State { sessions, wheel, now_ms, .. } = &mut *self.state.borrow_mut();
            let Some(session) = sessions.live(key) else { return };
            session.phase = Phase::Live;
            session.wait_until(*now_ms + u64::from(session.beat_ms(&self.settings)), key, wheel);
            session.client
        };
        self.answer(key, ticket, Answer::Connected { client });
    }

    fn publish(self: &Rc<Self>, key: SessionKey, ticket: Ticket, draft: Draft) {
        let channel = draft.channel.clone();
        let publishing = self.broker.publish(draft);
        self.when(publishing, move |shard, published| {
            let answer = match published {
                Ok(position) => Answer::Published { channel, position },
                Err(error) => Answer::Refused(refusal("publish", &error)),
            };
            shard.answer(key, ticket, answer);
        });
    }

    fn history(self: &Rc<Self>, key: SessionKey, ticket: Ticket, channel: ChannelName, page: Page) {
        let reading = self.broker.history(&channel, Extent::Page(page));
        self.when(reading, move |shard, read| {
            let answer = match read.map(|history| (history.position, history.past)) {
                Ok((position, Past::Kept(publications))) => {
                    Answer::History { channel, position, publications: within_page(publications) }
                }
                Ok((_, Past::Lost)) => Answer::Refused(unrecoverable()),
                Err(error) => Answer::Refused(refusal("read history", &error)),
            };
            shard.answer(key, ticket, answer);
        });
    }

    fn subscribe(
        self: &Rc<Self>,
        key: SessionKey,
        ticket: Ticket,
        channel: ChannelName,
        since: Option<Position>,
    ) {
        if let Err(refusal) = self.begin_to_join(key, &channel) {
            return self.refuse(key, ticket, refusal);
        }
        let listening = self.broker.listen(&channel, self.id);
        self.when(listening, move |shard, listening| match listening {
            Err(error) => shard.give_up(key, ticket, &channel, &error),
            Ok(()) => {
                let asked = if since.is_some() { Asked::Yes } else { Asked::No };
                let extent = since.map_or(Extent::Nothing, Extent::After);
                let reading = shard.broker.history(&channel, extent);
                shard.when(reading, move |shard, read| match read {
                    Err(error) => shard.give_up(key, ticket, &channel, &error),
                    Ok(history) => shard.go_live(key, ticket, channel, asked, history),
                });
            }
        });
    }

    fn begin_to_join(&self, key: SessionKey, name: &ChannelName) -> Result<(), Refusal> {
        let state = &mut *self.state.borrow_mut();
        let limit = self.settings.subscriptions;
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
        let channel = state.hub.join(name, key.index);
        session.subscriptions.push(Subscription { channel, place: Place::Joining });
        self.node.gauges.subscriptions.fetch_add(1, Relaxed);
        Ok(())
    }

    /// History is here: whatever was published before it has reached the inbox, so hold that back too, then answer,
    /// send what was missed, and be live.
    fn go_live(
        self: &Rc<Self>,
        key: SessionKey,
        ticket: Ticket,
        name: ChannelName,
        asked: Asked,
        history: History,
    ) {
        self.drain();
        let held = {
            let state = &mut *self.state.borrow_mut();
            let Some((session, channel)) = state.joining(key, &name) else { return };
            let (place, held) = state.hub.go_live(channel, key.index, session);
            state.sessions.member(key.index).set_place(channel, place);
            held
        };
        let start = merge(asked, history, held, |publication| self.node.delivery(publication));
        self.answer(
            key,
            ticket,
            Answer::Subscribed { channel: name, position: start.position, recovered: start.recovered },
        );
        for delivery in start.replay {
            let encoding = self.state.borrow_mut().sessions.live(key).map(|session| session.encoding);
            let Some(encoding) = encoding else { return };
            self.push(key, |_| self.node.encode(&[delivery], encoding));
        }
    }

    /// The broker failed while the client was joining.
    fn give_up(self: &Rc<Self>, key: SessionKey, ticket: Ticket, name: &ChannelName, error: &BrokerError) {
        self.leave(key, name);
        self.refuse(key, ticket, refusal("subscribe", error));
    }

    fn unsubscribe(self: &Rc<Self>, key: SessionKey, ticket: Ticket, channel: ChannelName) {
        self.leave(key, &channel);
        self.answer(key, ticket, Answer::Unsubscribed { channel });
    }

    fn leave(&self, key: SessionKey, name: &ChannelName) {
        let state = &mut *self.state.borrow_mut();
        let Some(channel) = state.hub.find(name) else { return };
        let Some(session) = state.sessions.get(key) else { return };
        let Some(index) = session.subscriptions.iter().position(|s| s.channel == channel) else { return };
        let subscription = session.subscriptions.swap_remove(index);
        self.leave_channel(state, key, subscription);
    }

    /// Takes a session, which no longer lists the subscription, out of the hub.
    pub(crate) fn leave_channel(&self, state: &mut State, key: SessionKey, subscription: Subscription) {
        let encoding = state.sessions.member(key.index).encoding;
        let left = state.hub.leave(key.index, encoding, subscription);
        if let Some(moved) = left.moved {
            state.sessions.member(moved).set_place(subscription.channel, subscription.place);
        }
        if let Some(name) = left.emptied {
            self.broker.ignore(&name, self.id);
        }
        self.node.gauges.subscriptions.fetch_sub(1, Relaxed);
    }

    /// Goes on with `then` when the broker has answered: at once, if it answers at once.
    fn when<T: 'static>(
        self: &Rc<Self>,
        mut pending: Pin<Box<dyn Future<Output = T> + Send>>,
        then: impl FnOnce(&Rc<Self>, T) + 'static,
    ) {
        match pending.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => then(self, answer),
            Poll::Pending => {
                let shard = Rc::clone(self);
                tokio::task::spawn_local(async move { then(&shard, pending.await) });
            }
        }
    }
}

impl State {
    /// The encoding of a session that is still joining the channel, and the channel.
    fn joining(&mut self, key: SessionKey, name: &ChannelName) -> Option<(duplex_core::EncodingId, u32)> {
        let channel = self.hub.find(name)?;
        let session = self.sessions.live(key)?;
        let place = session.subscription(channel)?.place;
        (place == Place::Joining).then_some((session.encoding, channel))
    }
}

/// As many as fit into an answer; one always does.
pub fn within_page(mut publications: Vec<Arc<Publication>>) -> Vec<Arc<Publication>> {
    let mut bytes = 0;
    let fits = |publication: &&Arc<Publication>| {
        bytes += publication.weight();
        bytes <= PAGE_BYTES_MAX
    };
    let count = publications.iter().take_while(fits).count();
    publications.truncate(count.max(1));
    publications
}

/// History does not reach back to where a client wants to read on.
pub fn unrecoverable() -> Refusal {
    let message = "since: history no longer reaches back to it; leave it out to read from the end";
    Refusal::new(ErrorCode::Unrecoverable, message)
}

fn refusal(what: &str, error: &BrokerError) -> Refusal {
    Refusal::new(code(error), format_args!("cannot {what}: {error}"))
}

/// What a broker's error is to the one who asked.
pub fn code(error: &BrokerError) -> ErrorCode {
    match error {
        BrokerError::KeyReused => ErrorCode::Conflict,
        BrokerError::Unreachable | BrokerError::TooManyChannels { .. } => ErrorCode::NotAvailable,
    }
}

/// Milliseconds since 1970 UTC, as publications are stamped.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
