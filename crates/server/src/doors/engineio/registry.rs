//! The Engine.IO sessions of a shard that requests may ask for.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};

use super::Connection;
use crate::doors::session::{Secret, SessionToken};

/// Names a session to its client and to nobody else, and says on which shard it is.
pub(super) type Sid = SessionToken;

/// Sessions by their secret.
#[derive(Default)]
pub(crate) struct Registry(RefCell<HashMap<Secret, Weak<Connection>>>);

impl Registry {
    /// From now on the session is found.
    pub fn add(&self, secret: Secret, connection: &Rc<Connection>) {
        self.0.borrow_mut().insert(secret, Rc::downgrade(connection));
    }

    /// The session with this secret, unless it has ended.
    pub fn find(&self, secret: &Secret) -> Option<Rc<Connection>> {
        self.0.borrow().get(secret)?.upgrade()
    }

    /// From now on it is not found.
    pub fn remove(&self, secret: &Secret) {
        self.0.borrow_mut().remove(secret);
    }
}
