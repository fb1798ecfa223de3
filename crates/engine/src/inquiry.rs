//! What the application asks clients, and what they answer.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use duplex_core::{Able, ChannelName, ClientId, EventName, Json, Payload, RequestId, UserId};
use tokio::sync::Notify;

use crate::NoRoom;
use crate::inbox::{Note, Whom};
use crate::node::Node;
use crate::session::SessionKey;
use crate::shard::Shard;

/// Memory of the answers to one question, bytes: further ones are only counted.
const REPLIES_BYTES_MAX: usize = 1 << 20;

/// Whom the application asks.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum Addressee {
    /// The subscribers of a channel.
    Channel(ChannelName),
    Client(ClientId),
    User(UserId),
}

/// A question that is under way.
#[derive(Debug)]
pub(crate) struct Inquiry {
    id: RequestId,
    whom: Addressee,
    event: EventName,
    payload: Payload,
    state: Mutex<State>,
    answered: Notify,
}

#[derive(Debug)]
struct State {
    /// Shards that have not asked yet.
    shards: usize,
    outcome: Outcome,
    /// Clients that were asked, and have gone.
    gone: usize,
    bytes: usize,
}

/// What came of a question.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Clients that were asked.
    pub expected: usize,
    /// Clients that answered.
    pub received: usize,
    /// Their answers, as they came; not all of them, if that were too much.
    pub replies: Vec<Reply>,
}

/// What a client answered.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Which.
    pub client: ClientId,
    /// Whose client it is.
    pub user: Option<UserId>,
    /// An array of arguments, or why it has none.
    pub answer: Result<Json, String>,
}

impl Inquiry {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A shard has asked so many of its clients.
    fn asked(&self, clients: usize) {
        let mut state = self.lock();
        state.shards -= 1;
        state.outcome.expected += clients;
        drop(state);
        self.answered.notify_one();
    }

    fn reply(&self, reply: Reply) {
        let mut state = self.lock();
        state.outcome.received += 1;
        state.bytes += reply.answer.as_ref().map_or_else(String::len, |args| args.as_str().len());
        if state.bytes <= REPLIES_BYTES_MAX {
            state.outcome.replies.push(reply);
        }
        drop(state);
        self.answered.notify_one();
    }

    fn is_answered(&self) -> bool {
        let state = self.lock();
        state.shards == 0 && state.outcome.received + state.gone >= state.outcome.expected
    }

    /// A client that was asked will not answer any more.
    fn lost(&self) {
        self.lock().gone += 1;
        self.answered.notify_one();
    }
}

/// Gives each question its id.
#[derive(Debug, Default)]
pub(crate) struct Inquiries(AtomicU64);

impl Node {
    /// Asks clients for something, on whatever shards they are, and waits until all have answered, or for so long.
    ///
    /// # Errors
    /// Too much of this is under way; some may be asked.
    pub async fn ask(
        &self,
        whom: Addressee,
        (event, payload): (EventName, Payload),
        within: Duration,
    ) -> Result<Outcome, NoRoom> {
        let shards = self.shards().count();
        let inquiry = Arc::new(Inquiry {
            id: RequestId(self.inquiries.0.fetch_add(1, Relaxed)),
            whom,
            event,
            payload,
            state: Mutex::new(State { shards, outcome: Outcome::default(), gone: 0, bytes: 0 }),
            answered: Notify::new(),
        });
        for shard in self.shards() {
            self.inbox(shard).note(Note::Ask(Arc::clone(&inquiry)))?;
        }
        let all = async {
            while !inquiry.is_answered() {
                inquiry.answered.notified().await;
            }
        };
        // What has come until then is what there is.
        drop(tokio::time::timeout(within, all).await);
        let outcome = std::mem::take(&mut inquiry.lock().outcome);
        Ok(outcome)
    }
}

impl Shard {
    /// Asks the clients of this shard that are meant and are able to answer.
    pub(crate) fn put(self: &std::rc::Rc<Self>, inquiry: &Arc<Inquiry>) {
        let keys = match &inquiry.whom {
            Addressee::Channel(channel) => self.keys(channel),
            Addressee::Client(client) => self.those(&Whom::Client(*client)),
            Addressee::User(user) => self.those(&Whom::User(user.clone())),
        };
        {
            let asked = &mut self.state.borrow_mut().inquiries;
            // Nobody waits for the answers to earlier ones any more.
            asked.retain(|_, inquiry| inquiry.strong_count() > 0);
            asked.insert(inquiry.id, Arc::downgrade(inquiry));
        }
        let mut count = 0;
        for key in keys {
            self.converse(key, |protocol, steps| {
                let able = protocol.request(inquiry.id, &inquiry.event, &inquiry.payload, steps);
                count += usize::from(able == Able::Yes);
            });
        }
        inquiry.asked(count);
    }

    /// A client goes: nobody need wait for its answers.
    pub(crate) fn give_up_answers(&self, key: SessionKey) {
        let crate::shard::State { sessions, inquiries, .. } = &mut *self.state.borrow_mut();
        let Some(session) = sessions.live(key) else { return };
        for request in session.protocol.unanswered() {
            let inquiry = inquiries.get(&request).and_then(std::sync::Weak::upgrade);
            inquiry.inspect(|inquiry| inquiry.lost());
        }
    }

    /// A client has answered.
    pub(crate) fn reply(&self, key: SessionKey, id: RequestId, answer: Result<Json, String>) {
        let answered = {
            let state = &mut *self.state.borrow_mut();
            let inquiry = state.inquiries.get(&id).and_then(std::sync::Weak::upgrade);
            let session = state.sessions.live(key);
            inquiry.zip(session).map(|(inquiry, session)| {
                let user = session.identity().and_then(|identity| identity.user.clone());
                (inquiry, Reply { client: session.client, user, answer })
            })
        };
        if let Some((inquiry, reply)) = answered {
            inquiry.reply(reply);
        }
    }
}
