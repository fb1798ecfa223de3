//! What clients ask for, carried out.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use duplex_core::{
    Action, Answer, Audience, BrokerError, Budget, Call, ChannelName, ClientId, Command, Detail, Draft,
    Emission, ErrorCode, Extent, Identity, Page, Past, Publication, Refusal, Said, Spent, Ticket,
};

use crate::connect::Stage;
use crate::policy::{Policy, Standing, Visibility};
use crate::session::SessionKey;
use crate::shard::{Shard, State};
use crate::subscribe::Wanted;

/// Memory of the publications in one page of history, bytes: what one answer may cost.
const PAGE_BYTES_MAX: usize = 256 << 10;

impl Shard {
    pub(crate) fn execute(self: &Rc<Self>, key: SessionKey, ticket: Ticket, command: Command) {
        if let Command::Connect { token, hello } = command {
            return self.connect(key, ticket, token.as_deref(), hello);
        }
        match self.stage(key, ticket, &command) {
            Stage::Done(client, identity) => {
                let carried_out = self
                    .room_for(key, ticket, &command)
                    .and_then(|()| self.carry_out(key, ticket, client, identity, command));
                if let Err(refusal) = carried_out {
                    self.refuse(key, ticket, refusal);
                }
            }
            Stage::Early => {
                self.refuse(key, ticket, Refusal::new(ErrorCode::Unauthorized, "send connect first"));
            }
            Stage::Full => {
                let message =
                    "too many commands came while the token is checked; wait for the answer to connect";
                self.refuse(key, ticket, Refusal::new(ErrorCode::TooManyRequests, message));
            }
            Stage::Held | Stage::Gone => {}
        }
    }

    /// Whether the client has not too much under way already. To take something back is always possible.
    fn room_for(&self, key: SessionKey, ticket: Ticket, command: &Command) -> Result<(), Refusal> {
        let limit = self.settings.get().in_flight;
        let mut state = self.state.borrow_mut();
        let in_flight = state.sessions.live(key).map_or(0, |session| session.in_flight as usize);
        if in_flight < limit || ticket == Ticket::OWN || matches!(command, Command::Unsubscribe { .. }) {
            return Ok(());
        }
        let message = format_args!("{limit} commands are under way; wait for answers");
        Err(Refusal::new(ErrorCode::TooManyRequests, message))
    }

    fn carry_out(
        self: &Rc<Self>,
        key: SessionKey,
        ticket: Ticket,
        client: ClientId,
        identity: Arc<Identity>,
        command: Command,
    ) -> Result<(), Refusal> {
        match command {
            Command::Connect { .. } => Ok(()),
            Command::Refresh { token } => {
                self.refresh(key, ticket, &token);
                Ok(())
            }
            Command::Subscribe { channel, since, token, stream } => {
                let asked = Wanted { channel, since, stream };
                self.subscribe(key, ticket, &identity, asked, token.as_deref())
            }
            Command::Unsubscribe { channel } => {
                self.unsubscribe(key, ticket, channel);
                Ok(())
            }
            Command::History { channel, page } => self.history(key, ticket, &identity, channel, page),
            Command::Presence { channel, detail } => self.present(key, ticket, &identity, channel, detail),
            Command::Call { method, payload } => {
                self.call(key, ticket, Call { client, identity, method, payload });
                Ok(())
            }
            Command::Publish { channel, event, payload, tags, key: idempotency, audience } => {
                may_leave_out(&audience, client)?;
                let time_ms = unix_ms();
                let client = Some(client);
                let draft =
                    Draft { channel, event, payload, tags, client, time_ms, key: idempotency, audience };
                self.publish(key, ticket, &identity, draft)
            }
        }
    }

    pub(crate) fn answer(self: &Rc<Self>, key: SessionKey, ticket: Ticket, answer: Answer) {
        self.converse(key, |protocol, steps| protocol.answer(ticket, answer, steps));
    }

    pub(crate) fn refuse(self: &Rc<Self>, key: SessionKey, ticket: Ticket, refusal: Refusal) {
        self.answer(key, ticket, Answer::Refused(refusal));
    }

    /// The backend has something to say to this client.
    pub(crate) fn tell(self: &Rc<Self>, key: SessionKey, ticket: Ticket, events: Vec<Emission>) {
        if !events.is_empty() {
            self.answer(key, ticket, Answer::Told { events });
        }
    }

    fn publish(
        self: &Rc<Self>,
        key: SessionKey,
        ticket: Ticket,
        identity: &Identity,
        draft: Draft,
    ) -> Result<(), Refusal> {
        let namespaces = self.namespaces();
        let policy = namespaces.of(&draft.channel)?;
        policy.may(Action::Publish, &draft.channel, identity, self.standing(key, &draft.channel))?;
        policy.check(&draft)?;
        self.spend_publication(key, policy)?;
        let channel = draft.channel.clone();
        let publishing = self.broker.publish(draft, policy.retention);
        self.await_for(key, publishing, move |shard, published| {
            let answer = match published {
                Ok(position) => Answer::Published { channel, position },
                Err(error) => Answer::Refused(refusal("publish", &error)),
            };
            shard.answer(key, ticket, answer);
        });
        Ok(())
    }

    /// Counts a publication where the namespace limits how many a client may publish.
    fn spend_publication(&self, key: SessionKey, policy: &Arc<Policy>) -> Result<(), Refusal> {
        let Some(rate) = policy.publications else { return Ok(()) };
        let State { sessions, now_ms, .. } = &mut *self.state.borrow_mut();
        let Some(session) = sessions.live(key) else { return Ok(()) };
        let namespace = Arc::as_ptr(policy) as usize;
        let publications = session.publications.get_or_insert_default();
        let known = publications.iter().position(|(known, _)| *known == namespace);
        let known = known.unwrap_or_else(|| {
            let another = std::mem::take(publications).into_iter().chain([(namespace, Budget::default())]);
            *publications = another.collect();
            publications.len() - 1
        });
        match publications[known].1.spend(1, rate, *now_ms) {
            Spent::Within => Ok(()),
            Spent::Over => {
                let message =
                    format_args!("more than {} publications per second in this namespace", rate.per_second);
                Err(Refusal::new(ErrorCode::TooManyRequests, message))
            }
        }
    }

    fn history(
        self: &Rc<Self>,
        key: SessionKey,
        ticket: Ticket,
        identity: &Identity,
        channel: ChannelName,
        page: Page,
    ) -> Result<(), Refusal> {
        let namespaces = self.namespaces();
        let policy = namespaces.of(&channel)?;
        policy.may(Action::History, &channel, identity, self.standing(key, &channel))?;
        let reading = self.broker.history(&channel, Extent::Page(page));
        self.await_for(key, reading, move |shard, read| {
            let answer = match read.map(|history| (history.position, history.past)) {
                Ok((position, Past::Kept(publications))) => {
                    Answer::History { channel, position, publications: within_page(publications) }
                }
                Ok((_, Past::Lost)) => Answer::Refused(unrecoverable()),
                Err(error) => Answer::Refused(refusal("read history", &error)),
            };
            shard.answer(key, ticket, answer);
        });
        Ok(())
    }

    fn present(
        self: &Rc<Self>,
        key: SessionKey,
        ticket: Ticket,
        identity: &Identity,
        channel: ChannelName,
        detail: Detail,
    ) -> Result<(), Refusal> {
        let namespaces = self.namespaces();
        let policy = namespaces.of(&channel)?;
        policy.may(Action::Presence, &channel, identity, self.standing(key, &channel))?;
        attended(policy)?;
        let limit = match detail {
            Detail::Members => self.settings.get().members_listed,
            Detail::Count => 0,
        };
        let reading = self.presence.present(&channel, limit);
        self.await_for(key, reading, move |shard, read| {
            let answer = match (read, detail) {
                (Ok(present), Detail::Members) => Answer::Present { channel, present },
                (Ok(present), Detail::Count) => Answer::Counted { channel, attendance: present.attendance },
                (Err(error), _) => Answer::Refused(refusal("read presence", &error)),
            };
            shard.answer(key, ticket, answer);
        });
        Ok(())
    }

    fn call(self: &Rc<Self>, key: SessionKey, ticket: Ticket, call: Call) {
        let within = Duration::from_millis(u64::from(self.settings.get().call_ms));
        let method = call.method.clone();
        let calling = Box::pin(tokio::time::timeout(within, self.backend.call(call)));
        self.await_for(key, calling, move |shard, answered| {
            let answer = match answered {
                Ok(Ok(Said { payload, events })) => {
                    shard.tell(key, ticket, events);
                    Answer::Called { payload }
                }
                Ok(Err(refusal)) => Answer::Refused(refusal),
                Err(_elapsed) => Answer::Refused(Refusal::new(
                    ErrorCode::Timeout,
                    format_args!(
                        "{:?} was not answered within {within:?}; whether it was done is not known",
                        &*method
                    ),
                )),
            };
            shard.answer(key, ticket, answer);
        });
    }

    /// Whether the client is subscribed to the channel.
    pub(crate) fn standing(&self, key: SessionKey, channel: &ChannelName) -> Standing {
        let state = &mut *self.state.borrow_mut();
        let subscribed = state.hub.find(channel).is_some_and(|channel| {
            state.sessions.live(key).is_some_and(|session| session.subscription(channel).is_some())
        });
        if subscribed { Standing::Subscribed } else { Standing::Outside }
    }

    /// Goes on with `then` when what a client has asked for is there; until then it counts as under way.
    pub(crate) fn await_for<F: Future + ?Sized + 'static>(
        self: &Rc<Self>,
        key: SessionKey,
        mut pending: Pin<Box<F>>,
        then: impl FnOnce(&Rc<Self>, F::Output) + 'static,
    ) {
        if let Poll::Ready(answer) = poll_once(&mut pending) {
            return then(self, answer);
        }
        let under_way = move |shard: &Self, change: fn(&mut u32)| {
            if let Some(session) = shard.state.borrow_mut().sessions.get(key) {
                change(&mut session.in_flight);
            }
        };
        under_way(self, |count| *count += 1);
        let shard = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let answer = pending.await;
            under_way(&shard, |count| *count -= 1);
            then(&shard, answer);
        });
    }

    /// Goes on with `then` when `pending` is there: at once, if it is there at once.
    pub(crate) fn when<T: 'static>(
        self: &Rc<Self>,
        mut pending: Pin<Box<dyn Future<Output = T> + Send>>,
        then: impl FnOnce(&Rc<Self>, T) + 'static,
    ) {
        match poll_once(&mut pending) {
            Poll::Ready(answer) => then(self, answer),
            Poll::Pending => {
                let shard = Rc::clone(self);
                tokio::task::spawn_local(async move { then(&shard, pending.await) });
            }
        }
    }
}

/// A client must not keep publications from others.
fn may_leave_out(audience: &Audience, client: ClientId) -> Result<(), Refusal> {
    match audience.except.iter().all(|except| *except == client) {
        true => Ok(()),
        false => {
            let message = "exclude: a client may leave out itself and nobody else";
            Err(Refusal::new(ErrorCode::PermissionDenied, message))
        }
    }
}

fn poll_once<F: Future + ?Sized>(pending: &mut Pin<Box<F>>) -> Poll<F::Output> {
    pending.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// Whether a channel knows who is subscribed.
pub(crate) fn attended(policy: &Policy) -> Result<(), Refusal> {
    match policy.attendance {
        Visibility::Hidden => {
            let message = "presence is off in this namespace; set its presence to \"on\"";
            Err(Refusal::new(ErrorCode::NotAvailable, message))
        }
        Visibility::Asked | Visibility::Announced => Ok(()),
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

pub(crate) fn refusal(what: &str, error: &BrokerError) -> Refusal {
    Refusal::new(code(error), format_args!("cannot {what}: {error}"))
}

/// What a broker's error is to the one who asked.
pub fn code(error: &BrokerError) -> ErrorCode {
    match error {
        BrokerError::KeyReused => ErrorCode::Conflict,
        BrokerError::NoAnswer => ErrorCode::Timeout,
        BrokerError::Unreachable
        | BrokerError::TooManyChannels { .. }
        | BrokerError::Full
        | BrokerError::Busy
        | BrokerError::Refused(_) => ErrorCode::NotAvailable,
    }
}

/// Milliseconds since 1970 UTC, as publications are stamped.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
