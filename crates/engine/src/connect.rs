//! From a connection to a client: who it is, and for how long.

use std::rc::Rc;
use std::sync::Arc;

use duplex_core::{
    Answer, Arrival, ClientId, CloseReason, Command, ErrorCode, Identity, Json, Refusal, Ticket,
};

use crate::command::unix_ms;
use crate::session::{Introduction, SessionKey};
use crate::shard::{Shard, State};

/// Commands a client may send while its token is being checked.
const HELD_COMMANDS_MAX: usize = 128;

/// What a client may do at this point of its introduction.
pub(crate) enum Stage {
    /// Everything: this is who it is.
    Done(ClientId, Arc<Identity>),
    /// Only `connect`.
    Early,
    /// The command is kept until it is known who the client is.
    Held,
    /// Too many commands are kept already.
    Full,
    /// Nothing: it is gone.
    Gone,
}

impl Shard {
    /// Finds out who the client is. Nothing else is carried out before.
    pub(crate) fn connect(
        self: &Rc<Self>,
        key: SessionKey,
        ticket: Ticket,
        token: Option<&str>,
        hello: Option<Json>,
    ) {
        let Some(awaited) = self.begin_to_check(key) else {
            return self.refuse(key, ticket, Refusal::bad_request("already connected; send connect once"));
        };
        match awaited.filter(|_| token.is_none()) {
            Some(identity) => self.introduced(key, ticket, Ok(identity), hello),
            None => {
                let checking = self.backend.connect(token);
                self.when(checking, move |shard, checked| {
                    let checked = checked.map(|identity| shard.share(identity));
                    shard.introduced(key, ticket, checked, hello);
                });
            }
        }
    }

    pub(crate) fn share(&self, identity: Identity) -> Arc<Identity> {
        if identity == *self.anonymous { Arc::clone(&self.anonymous) } else { Arc::new(identity) }
    }

    /// `None` if the client has said `connect` before; else who a door says it is.
    fn begin_to_check(&self, key: SessionKey) -> Option<Option<Arc<Identity>>> {
        let state = &mut *self.state.borrow_mut();
        let session = state.sessions.live(key)?;
        let Introduction::Awaited(known) = &mut session.introduction else { return None };
        let known = known.take();
        session.introduction = Introduction::Checking(Vec::new());
        Some(known)
    }

    /// It is known who the client is, or that it is nobody who is let in.
    fn introduced(
        self: &Rc<Self>,
        key: SessionKey,
        ticket: Ticket,
        checked: Result<Arc<Identity>, Refusal>,
        hello: Option<Json>,
    ) {
        let admitted = checked.map_err(|refusal| turned_away(&refusal)).and_then(|identity| {
            let limit = self.settings.get().connections_per_user;
            match identity.user.as_ref().map(|user| self.node.take_place(user, limit)) {
                Some(Err(_)) => {
                    Err((&CloseReason::TOO_MANY_CONNECTIONS, format!("at most {limit} are allowed")))
                }
                Some(Ok(())) | None => Ok(identity),
            }
        });
        match admitted {
            Err((reason, detail)) => self.close(key, reason, &detail),
            Ok(identity) => self.admit(key, ticket, identity, hello),
        }
    }

    /// The client is let in: from here on it is looked after by heartbeats.
    fn admit(self: &Rc<Self>, key: SessionKey, ticket: Ticket, identity: Arc<Identity>, hello: Option<Json>) {
        let expires_in_ms = expires_in_ms(&identity);
        let admitted = {
            let settings = self.settings.get();
            let State { sessions, wheel, now_ms, .. } = &mut *self.state.borrow_mut();
            sessions.live(key).map(|session| {
                let done = Introduction::Done(Arc::clone(&identity));
                let held = match std::mem::replace(&mut session.introduction, done) {
                    Introduction::Checking(held) => held,
                    Introduction::Awaited(_) | Introduction::Done(_) => Vec::new(),
                };
                session.expires_ms = deadline(*now_ms, expires_in_ms, settings.expiry_grace_ms);
                session.heard_ms = *now_ms;
                session.live(&settings, key, wheel);
                session.link.admitted();
                if let Some(trail) = &session.trail {
                    trail.begin(session.client, identity.user.clone());
                }
                (session.client, held)
            })
        };
        let Some((client, held)) = admitted else {
            // It went away while its token was being checked.
            if let Some(user) = &identity.user {
                self.node.free_place(user);
            }
            return;
        };
        let Identity { user, channels, .. } = &*identity;
        let (user, join) = (user.clone(), channels.clone());
        self.answer(key, ticket, Answer::Connected { client, user, expires_in_ms, join });
        if let Some(telling) = self.backend.connected(Arrival { client, identity, hello }) {
            self.when(telling, move |shard, events| shard.tell(key, ticket, events));
        }
        for (ticket, command) in held {
            self.execute(key, ticket, command);
        }
    }

    /// A newer token of the same user takes the place of the old one.
    pub(crate) fn refresh(self: &Rc<Self>, key: SessionKey, ticket: Ticket, token: &str) {
        let checking = self.backend.connect(Some(token));
        self.await_for(key, checking, move |shard, checked| match checked {
            Err(refusal) if refusal.code == ErrorCode::Unauthorized => {
                shard.close(key, &CloseReason::INVALID_TOKEN, &refusal.message);
            }
            Err(refusal) => shard.refuse(key, ticket, refusal),
            Ok(identity) => shard.refreshed(key, ticket, identity),
        });
    }

    fn refreshed(self: &Rc<Self>, key: SessionKey, ticket: Ticket, identity: Identity) {
        let expires_in_ms = expires_in_ms(&identity);
        let same_user = {
            let settings = self.settings.get();
            let State { sessions, wheel, now_ms, .. } = &mut *self.state.borrow_mut();
            let Some(session) = sessions.live(key) else { return };
            let same_user = session.identity().is_some_and(|before| before.user == identity.user);
            if same_user {
                session.introduction = Introduction::Done(Arc::new(identity));
                session.expires_ms = deadline(*now_ms, expires_in_ms, settings.expiry_grace_ms);
                session.live(&settings, key, wheel);
            }
            same_user
        };
        match same_user {
            true => self.answer(key, ticket, Answer::Refreshed { expires_in_ms }),
            false => self.close(key, &CloseReason::INVALID_TOKEN, "the new token names another user"),
        }
    }

    /// What the client may do now. A command that comes while its token is being checked is kept.
    pub(crate) fn stage(&self, key: SessionKey, ticket: Ticket, command: &Command) -> Stage {
        let state = &mut *self.state.borrow_mut();
        let Some(session) = state.sessions.live(key) else { return Stage::Gone };
        match &mut session.introduction {
            Introduction::Done(identity) => Stage::Done(session.client, Arc::clone(identity)),
            Introduction::Awaited(_) => Stage::Early,
            Introduction::Checking(held) => {
                if held.len() >= HELD_COMMANDS_MAX {
                    return Stage::Full;
                }
                held.push((ticket, command.clone()));
                Stage::Held
            }
        }
    }
}

/// How a connection ends whose client is not let in.
fn turned_away(refusal: &Refusal) -> (&'static CloseReason, String) {
    let reason = match refusal.code {
        ErrorCode::TokenExpired => &CloseReason::EXPIRED,
        ErrorCode::NotAvailable | ErrorCode::Timeout => &CloseReason::TRY_LATER,
        ErrorCode::PermissionDenied => &CloseReason::REVOKED,
        _ => &CloseReason::INVALID_TOKEN,
    };
    (reason, refusal.message.clone())
}

fn expires_in_ms(identity: &Identity) -> Option<u64> {
    identity.expires_ms.map(|expires_ms| expires_ms.saturating_sub(unix_ms()))
}

fn deadline(now_ms: u64, expires_in_ms: Option<u64>, grace_ms: u32) -> u64 {
    expires_in_ms.map_or(u64::MAX, |ms| now_ms.saturating_add(ms).saturating_add(u64::from(grace_ms)))
}
