use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use duplex_core::{Attendance, ClientId, Member, Present, Tell, UserId};

/// Who is present in a channel.
#[derive(Default)]
pub(crate) struct Members {
    /// In the order of ids, so that the same members are listed each time.
    clients: BTreeMap<ClientId, (Arc<Member>, Tell)>,
    /// How many clients each user has here.
    users: HashMap<UserId, usize>,
}

impl Members {
    /// Adds a member; says who must be told, or `None` if it was here already.
    pub fn join(&mut self, member: Arc<Member>, tell: Tell) -> Option<Tell> {
        let client = member.client;
        if self.clients.contains_key(&client) {
            return None;
        }
        if let Some(user) = &member.user {
            *self.users.entry(user.clone()).or_default() += 1;
        }
        self.clients.insert(client, (member, tell));
        Some(tell)
    }

    /// Takes a member out; says who it was and who must be told.
    pub fn leave(&mut self, client: ClientId) -> Option<(Arc<Member>, Tell)> {
        let left = self.clients.remove(&client)?;
        if let Some(user) = &left.0.user
            && let Some(count) = self.users.get_mut(user)
        {
            *count -= 1;
            if *count == 0 {
                self.users.remove(user);
            }
        }
        Some(left)
    }

    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// What others see.
    pub fn present(&self, limit: usize) -> Present {
        let attendance = Attendance { clients: self.clients.len(), users: self.users.len() };
        let members = self.clients.values().take(limit).map(|(member, _)| Arc::clone(member)).collect();
        Present { attendance, members }
    }
}
