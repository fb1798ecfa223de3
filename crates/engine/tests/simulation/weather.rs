//! A broker far away: it answers late, and what it delivers comes late, or not at all.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use duplex_broker::Memory;
use duplex_core::{
    Broker, BrokerError, ChannelName, ClientId, Deliver, Draft, Event, Extent, History, Member, Pending,
    Position, Presence, Present, Retention, ShardId, ShardSet, Tell,
};
use duplex_engine::Node;

use crate::dice::Dice;

/// The way from the broker to the shards.
pub struct Way {
    node: Arc<Node>,
    state: Mutex<Travelling>,
    /// Whether publications get lost.
    pub loses: AtomicBool,
    pub lost: AtomicU64,
}

struct Travelling {
    dice: Dice,
    events: VecDeque<(ShardSet, Event)>,
}

impl Way {
    pub fn new(node: Arc<Node>, dice: Dice) -> Self {
        let state = Travelling { dice, events: VecDeque::new() };
        Self { node, state: Mutex::new(state), loses: AtomicBool::new(false), lost: AtomicU64::new(0) }
    }

    /// Up to `count` events arrive.
    pub fn arrive(&self, count: usize) {
        for _ in 0..count {
            let Some((shards, event)) = self.state.lock().unwrap().events.pop_front() else { return };
            self.node.deliver(shards, event);
        }
    }
}

impl Deliver for Way {
    fn deliver(&self, shards: ShardSet, event: Event) {
        let mut state = self.state.lock().unwrap();
        let may_be_lost = matches!(event, Event::Publication(_)) && self.loses.load(Relaxed);
        if may_be_lost && state.dice.once_in(20) {
            self.lost.fetch_add(1, Relaxed);
            return;
        }
        state.events.push_back((shards, event));
    }

    fn missed(&self, _: ShardSet, _: &ChannelName) {
        unreachable!("the broker behind the way loses nothing");
    }
}

/// The broker behind the way. Calls take effect in the order in which they are made; answers come late.
pub struct Far {
    pub memory: Arc<Memory>,
    pub dice: Mutex<Dice>,
    /// Everything that was ever published, in order.
    pub truth: Mutex<Vec<Said>>,
}

/// What was published, as the broker knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    pub channel: ChannelName,
    pub position: Position,
    pub text: String,
}

impl Far {
    fn late<T: Send + Unpin + 'static>(&self, pending: Pending<T>) -> Pending<T> {
        let dice = self.dice.lock().unwrap();
        let polls = if dice.once_in(2) { 0 } else { dice.below(6) };
        // Memory answers at once; what it says is kept until the answer arrives.
        Box::pin(Late { polls, pending, answer: None })
    }
}

struct Late<T> {
    polls: usize,
    pending: Pending<T>,
    answer: Option<T>,
}

impl<T: Unpin> Future for Late<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let this = &mut *self;
        if this.answer.is_none()
            && let Poll::Ready(answer) = this.pending.as_mut().poll(cx)
        {
            this.answer = Some(answer);
        }
        if this.polls == 0 {
            return this.answer.take().map_or(Poll::Pending, Poll::Ready);
        }
        this.polls -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Broker for Far {
    fn publish(&self, draft: Draft, retention: Retention) -> Pending<Result<Position, BrokerError>> {
        let (channel, text) = (draft.channel.clone(), draft.payload.json().as_str().to_owned());
        let mut publishing = self.memory.publish(draft, retention);
        let Poll::Ready(published) = publishing.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("memory answers at once")
        };
        if let Ok(position) = published {
            self.truth.lock().unwrap().push(Said { channel, position, text });
        }
        self.late(Box::pin(std::future::ready(published)))
    }

    fn listen(&self, channel: &ChannelName, shard: ShardId) -> Pending<Result<(), BrokerError>> {
        self.late(self.memory.listen(channel, shard))
    }

    fn ignore(&self, channel: &ChannelName, shard: ShardId) {
        self.memory.ignore(channel, shard);
    }

    fn history(&self, channel: &ChannelName, extent: Extent) -> Pending<Result<History, BrokerError>> {
        self.late(self.memory.history(channel, extent))
    }
}

impl Presence for Far {
    fn join(&self, channel: &ChannelName, member: Member, tell: Tell) -> Pending<Result<(), BrokerError>> {
        self.late(self.memory.join(channel, member, tell))
    }

    fn leave(&self, channel: &ChannelName, client: ClientId) {
        self.memory.leave(channel, client);
    }

    fn present(&self, channel: &ChannelName, limit: usize) -> Pending<Result<Present, BrokerError>> {
        self.late(self.memory.present(channel, limit))
    }
}
