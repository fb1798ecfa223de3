//! The Engine.IO sessions of a shard: those that requests may ask for, and those that must soon say who they are.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::Connection;
use crate::doors::session::{Secret, SessionToken};

/// Names a session to its client and to nobody else, and says on which shard of which node it is.
pub(super) type Sid = SessionToken;

/// Sessions by their secret, and in the order in which they came.
#[derive(Default)]
pub(crate) struct Registry {
    sessions: RefCell<HashMap<Secret, Weak<Connection>>>,
    expected: RefCell<VecDeque<(Instant, Weak<Connection>)>>,
}

impl Registry {
    /// From now on the session is found.
    pub fn add(&self, secret: Secret, connection: &Rc<Connection>) {
        self.sessions.borrow_mut().insert(secret, Rc::downgrade(connection));
    }

    /// The session with this secret, unless it has ended.
    pub fn find(&self, secret: &Secret) -> Option<Rc<Connection>> {
        self.sessions.borrow().get(secret)?.upgrade()
    }

    /// From now on it is not found.
    pub fn remove(&self, secret: &Secret) {
        self.sessions.borrow_mut().remove(secret);
    }

    /// The client has so long to say who it is.
    pub fn expect(&self, connection: &Rc<Connection>, within: Duration) {
        let mut expected = self.expected.borrow_mut();
        let due =
            expected.back().map_or(Instant::now() + within, |(last, _)| (Instant::now() + within).max(*last));
        expected.push_back((due, Rc::downgrade(connection)));
    }

    /// Closes those whose time for that is over.
    pub fn sweep(&self, now: Instant) {
        let next = || self.expected.borrow_mut().pop_front_if(|(due, _)| *due <= now);
        while let Some((_, connection)) = next() {
            connection.upgrade().inspect(|connection| connection.be_someone());
        }
    }
}
