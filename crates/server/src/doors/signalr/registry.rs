//! The SignalR connections of a shard that requests may ask for, by the id of their client.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::{Rc, Weak};

use aws_lc_rs::digest;
use duplex_core::{Budget, ClientId, Rate, Spent, UserId};
use duplex_engine::{SessionKey, unix_ms};
use duplex_protocol::signalr::{Format, Splitter, Transport};
use duplex_transport::movable::MovableLink;
use duplex_transport::poll::PollLink;

use super::Resume;
use super::token::ConnectionToken;
use crate::places::AddressPlace;

/// How long a client that has negotiated may take to connect, ms.
const UNUSED_MS: u64 = 15_000;
/// How often a client may come back to its connection: some try again at once, for as long as they are let in.
const RESUMES: Rate = Rate { per_second: 1, burst: 20 };

/// A connection that was negotiated.
pub(super) struct Known {
    pub key: SessionKey,
    pub transport: Transport,
    pub resume: Resume,
    /// `None` if its WebSocket is its link, and nothing else can be.
    pub link: Option<Weak<MovableLink>>,
    /// What its client writes, once it has said so.
    pub format: Cell<Option<Format>>,
    /// What its requests bring.
    pub posted: RefCell<Splitter>,
    /// Whether its client has begun to poll, if that is what carries it.
    pub polls: Cell<Polls>,
    /// The request that polls for it.
    pub poll: RefCell<Weak<PollLink>>,
    pub owner: Owner,
    resumes: Cell<Budget>,
}

/// Whether a client has begun to poll.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Polls {
    #[default]
    NotYet,
    Begun,
}

impl Known {
    pub fn new(
        key: SessionKey,
        (transport, resume): (Transport, Resume),
        link: Option<&Rc<MovableLink>>,
        owner: Owner,
    ) -> Self {
        let link = link.map(Rc::downgrade);
        let (format, polls, poll, resumes) = Default::default();
        let posted = RefCell::new(Splitter::new(None));
        Self { key, transport, resume, link, format, posted, polls, poll, owner, resumes }
    }

    /// Its link, if other transports than its first may carry it.
    pub fn link(&self) -> Option<Rc<MovableLink>> {
        self.link.as_ref()?.upgrade()
    }

    /// Counts another return of its client.
    pub fn returns(&self) -> Spent {
        let mut resumes = self.resumes.get();
        let spent = resumes.spend(1, RESUMES, unix_ms());
        self.resumes.set(resumes);
        spent
    }
}

/// Whose a connection is, by the token that was shown when it was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Owner {
    pub token: Option<TokenDigest>,
    pub user: Option<UserId>,
}

/// Tells tokens apart without keeping them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TokenDigest([u8; 32]);

impl TokenDigest {
    pub fn of(token: &str) -> Self {
        let digest = digest::digest(&digest::SHA256, token.as_bytes());
        Self(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }
}

/// What is at a token's name.
pub(super) enum Found {
    /// Nothing, and nothing may be.
    Nothing,
    /// Nothing yet: the client may connect.
    Room,
    Connection(Rc<Known>),
}

/// Whether a connection may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    Granted,
    /// Another request was faster.
    Late,
}

enum Entry {
    Open(Rc<Known>),
    /// Was there: its token is good for nothing more.
    Over,
}

/// The connections of a shard.
#[derive(Default)]
pub(crate) struct Registry {
    entries: RefCell<HashMap<ClientId, Entry>>,
    /// When those that are over need not be remembered any more: their tokens are too old by then.
    over: RefCell<VecDeque<(u64, ClientId)>>,
}

impl Registry {
    /// What is at a token's name.
    pub(super) fn find(&self, token: &ConnectionToken) -> Found {
        match self.entries.borrow().get(&token.client) {
            Some(Entry::Open(known)) => Found::Connection(Rc::clone(known)),
            Some(Entry::Over) => Found::Nothing,
            None if unix_ms().saturating_sub(token.issued_ms) > UNUSED_MS => Found::Nothing,
            None => Found::Room,
        }
    }

    /// Takes a token's place for a connection that is about to begin.
    pub(super) fn claim(&self, token: &ConnectionToken) -> Claim {
        match self.find(token) {
            Found::Room => {
                self.remove(token.client, token.issued_ms + UNUSED_MS + 1);
                Claim::Granted
            }
            Found::Nothing | Found::Connection(_) => Claim::Late,
        }
    }

    /// From now on the connection is found, until its guard is dropped.
    pub(super) fn add(&self, client: ClientId, known: Known) -> Rc<Known> {
        let known = Rc::new(known);
        self.entries.borrow_mut().insert(client, Entry::Open(Rc::clone(&known)));
        known
    }

    /// A token is good for nothing more.
    fn remove(&self, client: ClientId, good_until_ms: u64) {
        let (entries, over) = (&mut *self.entries.borrow_mut(), &mut *self.over.borrow_mut());
        let now_ms = unix_ms();
        while let Some((_, forgotten)) = over.pop_front_if(|(until_ms, _)| *until_ms <= now_ms) {
            if matches!(entries.get(&forgotten), Some(Entry::Over)) {
                entries.remove(&forgotten);
            }
        }
        if good_until_ms <= now_ms {
            entries.remove(&client);
        } else {
            entries.insert(client, Entry::Over);
            // Not quite in order, but none is forgotten early.
            over.push_back((now_ms + UNUSED_MS + 1, client));
        }
    }
}

/// What a connection holds for as long as it lasts.
pub(super) struct Guard {
    registry: Rc<Registry>,
    client: ClientId,
    good_until_ms: u64,
    _place: Option<AddressPlace>,
}

impl Guard {
    pub fn new(registry: &Rc<Registry>, token: &ConnectionToken, place: Option<AddressPlace>) -> Self {
        let good_until_ms = token.issued_ms + UNUSED_MS + 1;
        Self { registry: Rc::clone(registry), client: token.client, good_until_ms, _place: place }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.registry.remove(self.client, self.good_until_ms);
    }
}
