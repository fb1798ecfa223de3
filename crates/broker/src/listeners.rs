//! What this node listens to, for brokers that are other processes: what comes from them is put in order here, and what did
//! not come is noticed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use duplex_core::{
    BrokerError, Change, ChannelName, Deliver, Event, History, Past, Pending, Position, PresenceChange,
    Publication, ShardId, ShardSet,
};
use tokio::sync::oneshot;

use crate::envelope::read_member;

/// Channels that some shard listens to.
pub(crate) struct Listeners {
    node: Arc<dyn Deliver>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    channels: HashMap<ChannelName, Channel>,
    /// Channels of which something may be missing. As long as there are any, what comes of others has no place in the order
    /// of all channels: what is missing may stand before it there, and comes after it here.
    doubtful: usize,
    /// The last in that order of what was delivered.
    newest: u64,
}

/// Whether what is delivered keeps its place in the order of all channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Orderly {
    Yes,
    No,
}

struct Channel {
    shards: ShardSet,
    line: Line,
    /// What was delivered last. Whatever follows is delivered in order, without a gap.
    seen: Option<Position>,
    mending: Mending,
    /// Who waits until a publication was delivered.
    waiting: Vec<(u64, oneshot::Sender<()>)>,
}

/// Whether the broker sends us the channel.
enum Line {
    Open,
    /// It has been asked to; these wait for it.
    Asked(Vec<oneshot::Sender<()>>),
}

/// Whether something is missing, which is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mending {
    No,
    /// What comes meanwhile is passed over, since it will be read; the newest of it.
    Until(Option<Position>),
}

/// Whether a channel comes that a shard begins to listen to.
pub(crate) enum Begun {
    Open,
    /// The broker was asked for it.
    Asked(oneshot::Receiver<()>),
}

impl Begun {
    /// Waits until it comes, but not for longer than that. If it does not, the shard listens all the same: others may have
    /// done so before.
    pub fn opened(self, patience: Duration) -> Pending<Result<(), BrokerError>> {
        match self {
            Self::Open => Box::pin(std::future::ready(Ok(()))),
            Self::Asked(waiting) => Box::pin(async move {
                match tokio::time::timeout(patience, waiting).await {
                    Ok(Ok(())) => Ok(()),
                    _ => Err(BrokerError::Unreachable),
                }
            }),
        }
    }
}

/// Where publications go.
struct Outlet<'a> {
    node: &'a dyn Deliver,
    orderly: Orderly,
    newest: &'a mut u64,
}

/// Whether a channel is still wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Still,
    NoMore,
}

/// What follows from something that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Nothing,
    /// Read what was published after this position, and hand it to [`Listeners::mended`].
    Mend(Position),
}

impl Listeners {
    pub fn new(node: Arc<dyn Deliver>) -> Self {
        Self { node, state: Mutex::default() }
    }

    /// A shard begins to listen. `ask` is called if nobody does, under the lock, so that asking and taking back keep their
    /// order.
    pub fn add(&self, name: &ChannelName, shard: ShardId, ask: impl FnOnce()) -> Begun {
        let channels = &mut self.lock().channels;
        if let Some(channel) = channels.get_mut(name) {
            channel.shards.insert(shard);
            return match &mut channel.line {
                Line::Open => Begun::Open,
                Line::Asked(waiting) => Begun::Asked(wait(waiting)),
            };
        }
        let mut waiting = Vec::new();
        let receiver = wait(&mut waiting);
        let mut shards = ShardSet::default();
        shards.insert(shard);
        let channel = Channel {
            shards,
            line: Line::Asked(waiting),
            seen: None,
            mending: Mending::No,
            waiting: Vec::new(),
        };
        channels.insert(name.clone(), channel);
        ask();
        Begun::Asked(receiver)
    }

    /// A shard listens no more. `stop` is called under the lock if nobody does.
    pub fn remove(&self, name: &ChannelName, shard: ShardId, stop: impl FnOnce()) {
        let state = &mut *self.lock();
        let Some(channel) = state.channels.get_mut(name) else { return };
        channel.shards.remove(shard);
        if channel.shards.is_empty() {
            state.doubtful -= usize::from(channel.is_doubtful());
            state.channels.remove(name);
            stop();
        }
    }

    /// All channels that are wanted; each must be asked for again.
    pub fn ask_again(&self) -> Vec<ChannelName> {
        let state = &mut *self.lock();
        for channel in state.channels.values_mut() {
            if matches!(channel.line, Line::Open) {
                channel.line = Line::Asked(Vec::new());
            }
        }
        state.doubtful = state.channels.values().filter(|channel| channel.is_doubtful()).count();
        state.channels.keys().cloned().collect()
    }

    /// All channels that are wanted.
    pub fn names(&self) -> Vec<ChannelName> {
        self.lock().channels.keys().cloned().collect()
    }

    /// From now on the broker sends us the channel. What was published before may not have come.
    pub fn opened(&self, name: &str) -> Then {
        self.change(name, |channel, _| {
            if let Line::Asked(waiting) = std::mem::replace(&mut channel.line, Line::Open) {
                waiting.into_iter().for_each(|waiting| _ = waiting.send(()));
            }
            channel.doubt()
        })
    }

    /// A publication came.
    pub fn publication(&self, publication: Publication) -> Then {
        let (name, at) = (publication.draft.channel.clone(), publication.position);
        self.change(&name, |channel, mut outlet| {
            if let Mending::Until(newest) = &mut channel.mending {
                *newest = Some(at);
                return Then::Nothing;
            }
            match channel.seen {
                Some(seen) if seen.epoch == at.epoch && at.offset <= seen.offset => Then::Nothing,
                Some(seen) if seen.epoch != at.epoch || at.offset > seen.offset + 1 => {
                    channel.mending = Mending::Until(Some(at));
                    Then::Mend(seen)
                }
                _ => {
                    channel.deliver(Arc::new(publication), &mut outlet);
                    Then::Nothing
                }
            }
        })
    }

    /// A member joined or left; if it is not understood, says why.
    pub fn presence(&self, name: &ChannelName, member: &[u8], change: Change) -> Result<(), String> {
        let member = Arc::new(read_member(member).map_err(|error| error.to_string())?);
        if let Some(channel) = self.lock().channels.get(name) {
            let change = PresenceChange { channel: name.clone(), member, change };
            self.node.deliver(channel.shards, Event::Presence(Arc::new(change)));
        }
        Ok(())
    }

    /// What was published after a position that [`Then::Mend`] gave.
    pub fn mended(&self, name: &ChannelName, history: History) -> Then {
        self.change(name, |channel, mut outlet| {
            let Mending::Until(newest) = channel.mending else { return Then::Nothing };
            match history.past {
                Past::Kept(publications) => {
                    for publication in publications {
                        channel.deliver(publication, &mut outlet);
                    }
                }
                Past::Lost => {
                    channel.seen = Some(history.position);
                    self.node.missed(channel.shards, name);
                    channel.waiting.drain(..).for_each(|(_, waiting)| _ = waiting.send(()));
                }
            }
            channel.mending = Mending::No;
            let seen = *channel.seen.get_or_insert(history.position);
            channel.wake(seen);
            match newest {
                Some(newest) if newest.epoch != seen.epoch || newest.offset > seen.offset => channel.doubt(),
                _ => Then::Nothing,
            }
        })
    }

    /// The channel's position was read. Whoever is given history up to it must have been delivered everything before it, so
    /// this waits for what is still on its way.
    pub fn read(&self, name: &ChannelName, position: Position) -> Option<oneshot::Receiver<()>> {
        let state = &mut *self.lock();
        let channel = state.channels.get_mut(name)?;
        let before = channel.is_doubtful();
        let seen = *channel.seen.get_or_insert(position);
        state.doubtful += usize::from(channel.is_doubtful()) - usize::from(before);
        if seen.epoch == position.epoch && seen.offset >= position.offset {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        channel.waiting.push((position.offset, sender));
        Some(receiver)
    }

    /// Something that should have come has not: it must be read.
    pub fn doubt(&self, name: &ChannelName) -> Then {
        self.change(name, |channel, _| channel.doubt())
    }

    /// Whether anybody listens.
    pub fn wants(&self, name: &ChannelName) -> Wanted {
        if self.lock().channels.contains_key(name) { Wanted::Still } else { Wanted::NoMore }
    }

    /// Does something with a channel, if it is wanted.
    fn change(&self, name: &str, act: impl FnOnce(&mut Channel, Outlet<'_>) -> Then) -> Then {
        let state = &mut *self.lock();
        let Some(channel) = state.channels.get_mut(name) else { return Then::Nothing };
        let before = channel.is_doubtful();
        let orderly = if state.doubtful == 0 { Orderly::Yes } else { Orderly::No };
        let then = act(channel, Outlet { node: &*self.node, orderly, newest: &mut state.newest });
        state.doubtful = state.doubtful + usize::from(channel.is_doubtful()) - usize::from(before);
        then
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Channel {
    fn deliver(&mut self, mut publication: Arc<Publication>, outlet: &mut Outlet<'_>) {
        let (at, order) = (publication.position, publication.order);
        // Behind what was mended, others may come that were published before it.
        if outlet.orderly == Orderly::No || order <= *outlet.newest {
            Arc::make_mut(&mut publication).order = 0;
        }
        *outlet.newest = order.max(*outlet.newest);
        self.seen = Some(at);
        outlet.node.deliver(self.shards, Event::Publication(publication));
        self.wake(at);
    }

    /// Whether something may be missing of what others have come behind.
    fn is_doubtful(&self) -> bool {
        self.mending != Mending::No || self.seen.is_some() && matches!(self.line, Line::Asked(_))
    }

    /// Those who waited for this.
    fn wake(&mut self, at: Position) {
        if !self.waiting.is_empty() {
            let reached = self.waiting.extract_if(.., |(offset, _)| *offset <= at.offset);
            reached.for_each(|(_, waiting)| _ = waiting.send(()));
        }
    }

    fn doubt(&mut self) -> Then {
        match (self.seen, self.mending) {
            (Some(seen), Mending::No) => {
                self.mending = Mending::Until(None);
                Then::Mend(seen)
            }
            _ => Then::Nothing,
        }
    }
}

fn wait(waiting: &mut Vec<oneshot::Sender<()>>) -> oneshot::Receiver<()> {
    let (sender, receiver) = oneshot::channel();
    waiting.push(sender);
    receiver
}

#[cfg(test)]
mod tests {
    use duplex_core::{Draft, Epoch, Json, Payload};

    use super::*;

    /// What shards would get: offsets, those without a place in the order of all channels with `?`, and `!` for something that cannot be had any more.
    #[derive(Default)]
    struct Said(Mutex<Vec<String>>);

    impl Deliver for Said {
        fn deliver(&self, _: ShardSet, event: Event) {
            let Event::Publication(publication) = event else { return };
            let unordered = if publication.order == 0 { "?" } else { "" };
            self.0.lock().unwrap().push(format!("{}{unordered}", publication.position.offset));
        }

        fn missed(&self, _: ShardSet, _: &ChannelName) {
            self.0.lock().unwrap().push("!".to_owned());
        }
    }

    fn name() -> ChannelName {
        ChannelName::parse("news").unwrap()
    }

    fn at(epoch: u8, offset: u64) -> Position {
        Position { epoch: Epoch::from_random([epoch; 6]), offset }
    }

    fn publication(epoch: u8, offset: u64) -> Publication {
        let draft = Draft {
            channel: name(),
            event: Default::default(),
            payload: Payload::Data(Json::check(serde_json::from_str("1").unwrap()).unwrap()),
            tags: Default::default(),
            client: None,
            time_ms: 0,
            key: None,
            audience: Default::default(),
        };
        Publication { position: at(epoch, offset), order: 10 * offset, draft }
    }

    fn kept(epoch: u8, offsets: std::ops::RangeInclusive<u64>) -> History {
        let publications = offsets.clone().map(|offset| Arc::new(publication(epoch, offset))).collect();
        History { position: at(epoch, *offsets.end()), past: Past::Kept(publications) }
    }

    /// Listeners of whom one listens to the channel, which has come up to offset 3.
    fn listeners() -> (Arc<Said>, Listeners) {
        let said = Arc::new(Said::default());
        let listeners = Listeners::new(Arc::clone(&said) as Arc<dyn Deliver>);
        let begun = listeners.add(&name(), ShardId::new(0).unwrap(), || {});
        assert!(matches!(begun, Begun::Asked(_)));
        assert_eq!(listeners.opened("news"), Then::Nothing, "nothing was seen that could be missing");
        for offset in 2..=3 {
            assert_eq!(listeners.publication(publication(1, offset)), Then::Nothing);
        }
        (said, listeners)
    }

    fn said(said: &Said) -> String {
        said.0.lock().unwrap().join(" ")
    }

    #[test]
    fn what_does_not_follow_is_mended_and_nothing_comes_twice() {
        let (heard, listeners) = listeners();
        assert_eq!(listeners.publication(publication(1, 3)), Then::Nothing, "known");
        assert_eq!(listeners.publication(publication(1, 6)), Then::Mend(at(1, 3)));
        assert_eq!(listeners.publication(publication(1, 7)), Then::Nothing, "it will be read");
        assert_eq!(
            listeners.mended(&name(), kept(1, 4..=6)),
            Then::Mend(at(1, 6)),
            "7 came and was passed over"
        );
        assert_eq!(listeners.publication(publication(1, 8)), Then::Nothing);
        assert_eq!(listeners.mended(&name(), kept(1, 7..=8)), Then::Nothing);
        assert_eq!(listeners.publication(publication(1, 9)), Then::Nothing);
        assert_eq!(said(&heard), "2 3 4? 5? 6? 7? 8? 9");
    }

    #[test]
    fn what_cannot_be_had_any_more_is_told_once_and_the_rest_goes_on() {
        let (heard, listeners) = listeners();
        assert_eq!(listeners.publication(publication(2, 1)), Then::Mend(at(1, 3)), "another epoch");
        let lost = History { position: at(2, 1), past: Past::Lost };
        assert_eq!(listeners.mended(&name(), lost), Then::Nothing);
        assert_eq!(listeners.publication(publication(2, 2)), Then::Nothing);
        assert_eq!(said(&heard), "2 3 ! 2?");
    }

    #[test]
    fn a_new_connection_is_doubted_until_what_was_missed_is_read() {
        let (heard, listeners) = listeners();
        assert_eq!(listeners.ask_again(), [name()]);
        assert_eq!(listeners.opened("news"), Then::Mend(at(1, 3)));
        assert_eq!(listeners.opened("news"), Then::Nothing, "it is being read");
        let nothing = History { position: at(1, 3), past: Past::Kept(Vec::new()) };
        assert_eq!(listeners.mended(&name(), nothing), Then::Nothing);
        assert_eq!(listeners.publication(publication(1, 4)), Then::Nothing);
        assert_eq!(said(&heard), "2 3 4");
    }

    #[test]
    fn who_reads_a_position_waits_until_it_was_delivered() {
        let (_, listeners) = listeners();
        assert!(listeners.read(&name(), at(1, 3)).is_none());
        let mut waiting = listeners.read(&name(), at(1, 5)).expect("4 and 5 have not come");
        listeners.publication(publication(1, 4));
        assert!(waiting.try_recv().is_err());
        listeners.publication(publication(1, 5));
        assert_eq!(waiting.try_recv(), Ok(()));
        let mut other_epoch = listeners.read(&name(), at(2, 1)).expect("it has not come");
        assert_eq!(listeners.doubt(&name()), Then::Mend(at(1, 5)));
        listeners.mended(&name(), History { position: at(2, 1), past: Past::Lost });
        assert_eq!(other_epoch.try_recv(), Ok(()));
    }

    #[test]
    fn while_something_may_be_missing_nothing_has_a_place_among_all() {
        let (heard, listeners) = listeners();
        let other = ChannelName::parse("other").unwrap();
        let at_other = |offset| {
            let mut publication = publication(1, offset);
            publication.draft.channel = other.clone();
            listeners.publication(publication)
        };
        listeners.add(&other, ShardId::new(0).unwrap(), || {});
        at_other(21);
        listeners.opened("other");
        listeners.mended(&other, History { position: at(1, 21), past: Past::Kept(Vec::new()) });
        at_other(22);
        listeners.ask_again();
        at_other(23);
        assert_eq!(listeners.opened("other"), Then::Mend(at(1, 23)));
        listeners.mended(&other, kept(1, 24..=24));
        at_other(25);
        assert_eq!(listeners.opened("news"), Then::Mend(at(1, 3)));
        at_other(26);
        listeners.mended(&name(), kept(1, 4..=4));
        at_other(27);
        assert_eq!(listeners.doubt(&name()), Then::Mend(at(1, 4)));
        at_other(28);
        listeners.remove(&name(), ShardId::new(0).unwrap(), || {});
        at_other(29);
        listeners.add(&name(), ShardId::new(0).unwrap(), || {});
        listeners.opened("news");
        listeners.publication(publication(1, 31));
        at_other(30);
        at_other(31);
        at_other(32);
        assert_eq!(said(&heard), "2 3 21 22 23? 24? 25? 26? 4? 27 28? 29 31 30? 31? 32");
    }

    #[test]
    fn nobody_is_delivered_what_nobody_wants() {
        let (heard, listeners) = listeners();
        let mut stopped = 0;
        listeners.remove(&name(), ShardId::new(1).unwrap(), || stopped += 1);
        assert_eq!((listeners.wants(&name()), stopped), (Wanted::Still, 0));
        listeners.remove(&name(), ShardId::new(0).unwrap(), || stopped += 1);
        assert_eq!((listeners.wants(&name()), stopped), (Wanted::NoMore, 1));
        assert_eq!(listeners.publication(publication(1, 9)), Then::Nothing);
        assert_eq!(said(&heard), "2 3");
    }
}
