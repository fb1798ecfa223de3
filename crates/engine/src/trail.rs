//! What a client was sent, in order: so one publication that it has seen names a point in all of its channels.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use duplex_core::{BrokerError, ChannelName, ClientId, Event, Pending, Position, UserId};

use crate::node::Delivery;

/// Publications remembered: as many may be on their way to the client when its connection breaks.
const STEPS_MAX: usize = 256;

/// The place of a channel in which the client is not back yet.
const NOT_YET: u32 = u32::MAX;

/// A client's way through its channels. It is written while the client is sent something, not when it leaves, and outlives
/// its session.
#[derive(Default)]
pub struct Trail {
    state: RefCell<State>,
    keeper: Option<Rc<dyn Keeper>>,
}

/// Keeps a trail where it outlives this process. What is sent after it was kept is not kept: it is known from the order of
/// all channels (`Publication::order`), to which a client that is settled is sent everything.
pub trait Keeper {
    /// The client is in other channels than before.
    fn changed(&self);

    /// The client will be sent what it missed in a channel, which does not keep that order: resolves when nobody goes by what
    /// was kept any more. `None` if there is nothing.
    fn unsettle(&self) -> Option<Pending<Result<(), BrokerError>>>;
}

/// A trail as it is kept.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct Record {
    pub client: ClientId,
    pub user: Option<UserId>,
    /// What the client had seen last when the trail began.
    pub before: Option<Position>,
    /// Channels, and what was sent last in each.
    pub channels: Vec<(ChannelName, Position, Membership)>,
    /// Publications sent, oldest first: the place of each one's channel, and its offset.
    pub steps: Vec<(u32, u64)>,
    pub memory: Memory,
}

#[derive(Debug, Default)]
struct State {
    channels: Vec<Channel>,
    /// Channels that the client joins for the first time, and is not in yet.
    pending: Vec<ChannelName>,
    /// The newest publications sent, oldest first.
    steps: VecDeque<Step>,
    /// Whether these are all there were.
    memory: Memory,
    /// What the client had seen last when the trail began.
    before: Option<Position>,
    /// Whose it is, once that is known.
    whose: Option<(ClientId, Option<UserId>)>,
}

/// A channel that the client is or was subscribed to.
#[derive(Debug)]
struct Channel {
    /// Its place in the hub, as long as the session is in it.
    key: u32,
    name: ChannelName,
    /// The newest publication sent, or the position from which on the client gets everything.
    sent: Position,
    membership: Membership,
}

/// Whether a client is in a channel still.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub enum Membership {
    Joined,
    Left,
}

/// Whether all that was sent is remembered.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[allow(missing_docs)]
pub enum Memory {
    #[default]
    Whole,
    Shortened,
}

/// A publication that was sent: its channel's place, and its offset.
#[derive(Debug, Clone, Copy)]
struct Step {
    channel: u32,
    offset: u64,
}

impl Trail {
    /// The trail of a client that had seen `before` last, and stood there in its channels, if it comes back.
    pub fn new(
        before: Option<Position>,
        stood: Vec<(ChannelName, Position)>,
        keeper: Option<Rc<dyn Keeper>>,
    ) -> Self {
        let expected = |(name, sent)| Channel { key: NOT_YET, name, sent, membership: Membership::Joined };
        let channels = stood.into_iter().map(expected).collect();
        Self { state: RefCell::new(State { before, channels, ..State::default() }), keeper }
    }

    /// The trail up to now, if it is known whose it is, and the client joins nothing just now.
    pub fn record(&self) -> Option<Record> {
        let state = self.state.borrow();
        if !state.pending.is_empty() {
            return None;
        }
        let (client, user) = state.whose.clone()?;
        let channels = state.channels.iter();
        Some(Record {
            client,
            user,
            before: state.before,
            channels: channels.map(|c| (c.name.clone(), c.sent, c.membership)).collect(),
            steps: state.steps.iter().map(|step| (step.channel, step.offset)).collect(),
            memory: state.memory,
        })
    }

    /// What was kept of a trail. `None` if it contradicts itself.
    pub fn kept(record: Record) -> Option<Self> {
        let Record { client, user, before, channels, steps, memory } = record;
        if steps.iter().any(|(channel, _)| *channel as usize >= channels.len()) {
            return None;
        }
        let channel = |(name, sent, membership)| Channel { key: NOT_YET, name, sent, membership };
        let state = State {
            channels: channels.into_iter().map(channel).collect(),
            pending: Vec::new(),
            steps: steps.into_iter().map(|(channel, offset)| Step { channel, offset }).collect(),
            memory,
            before,
            whose: Some((client, user)),
        };
        Some(Self { state: RefCell::new(state), keeper: None })
    }

    /// Where a client stood in each of its channels at the end of this trail, that has seen `last`, which was sent later: in
    /// its channel the client stands there. `None` if it was not sent later.
    pub fn ahead(&self, last: Position) -> Option<Vec<(ChannelName, Position)>> {
        let state = self.state.borrow();
        let joined = state.channels.iter().filter(|channel| channel.membership == Membership::Joined);
        let mut stands: Vec<_> = joined.map(|channel| (channel.name.clone(), channel.sent)).collect();
        let is_ahead = |at: &Position| at.epoch == last.epoch && at.offset < last.offset;
        let (_, at) = stands.iter_mut().find(|(_, at)| is_ahead(at))?;
        *at = last;
        Some(stands)
    }

    /// Whose it is; `None` if the client was never let in.
    pub fn whose(&self) -> Option<(ClientId, Option<UserId>)> {
        self.state.borrow().whose.clone()
    }

    /// Where a client stands in each of its channels that has seen `last`, or nothing, of what it was sent. `None` if the
    /// trail does not reach back so far, or the client has asked for more channels than these.
    pub fn positions(&self, last: Option<Position>) -> Option<Vec<(ChannelName, Position)>> {
        let state = self.state.borrow();
        if !state.pending.is_empty() {
            return None;
        }
        let mut sent: Vec<Position> = state.channels.iter().map(|channel| channel.sent).collect();
        let seen = state.steps.iter().rev().find(|step| {
            let at = &mut sent[step.channel as usize];
            let is_seen = last == Some(Position { epoch: at.epoch, offset: step.offset });
            if !is_seen {
                at.offset = step.offset - 1;
            }
            is_seen
        });
        let is_from_the_start = || last == state.before && state.memory == Memory::Whole;
        if seen.is_none() && !is_from_the_start() {
            return None;
        }
        let channels = state.channels.iter().zip(sent);
        let joined = channels.filter(|(channel, _)| channel.membership == Membership::Joined);
        Some(joined.map(|(channel, position)| (channel.name.clone(), position)).collect())
    }

    /// It is known who the client is.
    pub(crate) fn begin(&self, client: ClientId, user: Option<UserId>) {
        self.keeper.iter().for_each(|keeper| keeper.changed());
        self.state.borrow_mut().whose = Some((client, user));
    }

    /// What must be awaited before the client is sent what it missed somewhere.
    pub(crate) fn unsettle(&self) -> Option<Pending<Result<(), BrokerError>>> {
        self.keeper.as_ref()?.unsettle()
    }

    /// The client will be subscribed to a channel.
    pub(crate) fn joins(&self, name: &ChannelName) {
        let state = &mut *self.state.borrow_mut();
        let comes_back = state.channels.iter().any(|channel| channel.key == NOT_YET && channel.name == *name);
        if !comes_back {
            state.pending.push(name.clone());
        }
    }

    /// The client is subscribed to a channel and gets everything behind `position`.
    pub(crate) fn joined(&self, key: u32, name: &ChannelName, position: Position) {
        self.keeper.iter().for_each(|keeper| keeper.changed());
        let state = &mut *self.state.borrow_mut();
        state.pending.retain(|pending| pending != name);
        // Whoever leaves and comes back often must not make it longer and longer.
        let again = state.channels.iter().position(|channel| {
            let is_same = channel.membership == Membership::Left && channel.sent == position;
            channel.name == *name && (channel.key == NOT_YET || is_same)
        });
        let joined = Channel { key, name: name.clone(), sent: position, membership: Membership::Joined };
        match again {
            Some(place) => state.channels[place] = joined,
            None if state.channels.len() < STEPS_MAX => state.channels.push(joined),
            None => state.forget_left(joined),
        }
    }

    /// The client has unsubscribed from it, or could not subscribe.
    pub(crate) fn left(&self, key: u32, name: &ChannelName) {
        self.keeper.iter().for_each(|keeper| keeper.changed());
        let state = &mut *self.state.borrow_mut();
        state.pending.retain(|pending| pending != name);
        if let Some(place) = state.place(key) {
            state.channels[place].membership = Membership::Left;
        }
    }

    /// The client is sent publications of a channel.
    pub(crate) fn sent(&self, key: u32, run: &[Arc<Delivery>]) {
        let state = &mut *self.state.borrow_mut();
        let Some(place) = state.place(key) else { return };
        for delivery in run {
            let Event::Publication(publication) = &delivery.event else { continue };
            state.channels[place].sent = publication.position;
            if state.steps.len() == STEPS_MAX {
                state.steps.pop_front();
                state.memory = Memory::Shortened;
            }
            let channel = u32::try_from(place).expect("there are few");
            state.steps.push_back(Step { channel, offset: publication.position.offset });
        }
    }
}

impl State {
    fn place(&self, key: u32) -> Option<usize> {
        self.channels
            .iter()
            .position(|channel| channel.key == key && channel.membership == Membership::Joined)
    }

    /// Too many channels were joined and left: what was sent of those that were left is forgotten, and so the trail begins
    /// anew.
    fn forget_left(&mut self, joined: Channel) {
        self.channels.retain(|channel| channel.membership == Membership::Joined);
        self.channels.push(joined);
        self.steps.clear();
        self.memory = Memory::Shortened;
    }
}

#[cfg(test)]
mod tests {
    use duplex_core::{Draft, Epoch, Json, Payload, Publication};

    use super::*;

    fn position(channel: u8, offset: u64) -> Position {
        Position { epoch: Epoch::from_random([channel; 6]), offset }
    }

    fn delivery(channel: u8, offset: u64) -> Arc<Delivery> {
        let draft = Draft {
            channel: name(channel),
            event: Default::default(),
            payload: Payload::Data(Json::check(serde_json::from_str("1").unwrap()).unwrap()),
            tags: Default::default(),
            client: None,
            time_ms: 0,
            key: None,
            audience: Default::default(),
        };
        let publication = Publication { position: position(channel, offset), order: 0, draft };
        crate::Node::new(1, Vec::new(), 1).delivery(Event::Publication(Arc::new(publication)))
    }

    fn name(channel: u8) -> ChannelName {
        ChannelName::parse(&channel.to_string()).unwrap()
    }

    /// Where someone stands who has seen `last` as its last, as `channel@offset`.
    fn stands(trail: &Trail, last: Option<(u8, u64)>) -> Option<String> {
        let positions = trail.positions(last.map(|(channel, offset)| position(channel, offset)))?;
        let shown = positions.iter().map(|(name, at)| format!("{}@{}", &**name, at.offset));
        Some(shown.collect::<Vec<_>>().join(" "))
    }

    fn trail(joined: &[(u8, u64)], sent: &[(u8, u64)]) -> Trail {
        let trail = Trail::default();
        joined.iter().for_each(|&(channel, offset)| {
            trail.joined(channel.into(), &name(channel), position(channel, offset));
        });
        sent.iter().for_each(|&(channel, offset)| trail.sent(channel.into(), &[delivery(channel, offset)]));
        trail
    }

    #[test]
    fn one_publication_names_a_point_in_all_channels() {
        let trail = trail(&[(1, 5), (2, 0), (3, 9)], &[(1, 6), (2, 1), (1, 7), (2, 2)]);
        for (last, positions) in [
            (Some((2, 2)), Some("1@7 2@2 3@9")),
            (Some((1, 7)), Some("1@7 2@1 3@9")),
            (Some((2, 1)), Some("1@6 2@1 3@9")),
            (Some((1, 6)), Some("1@6 2@0 3@9")),
            (None, Some("1@5 2@0 3@9")),
            (Some((1, 5)), None),
            (Some((3, 9)), None),
            (Some((4, 1)), None),
        ] {
            assert_eq!(stands(&trail, last).as_deref(), positions, "{last:?}");
        }
    }

    #[test]
    fn what_was_sent_after_a_trail_was_kept_leads_on_from_its_end() {
        let trail = trail(&[(1, 5), (2, 0), (3, 9)], &[(1, 6), (2, 1), (1, 7)]);
        trail.begin(ClientId::from_random([1; 16]), None);
        trail.left(3, &name(3));
        let kept = Trail::kept(trail.record().unwrap()).unwrap();
        assert_eq!(kept.record(), trail.record());
        for last in [Some((1, 7)), Some((2, 1)), Some((1, 6)), None, Some((2, 2)), Some((3, 9))] {
            assert_eq!(stands(&kept, last), stands(&trail, last));
        }
        let ahead = |channel, offset| {
            let stands = kept.ahead(position(channel, offset))?;
            Some(
                stands
                    .iter()
                    .map(|(name, at)| format!("{}@{}", &**name, at.offset))
                    .collect::<Vec<_>>()
                    .join(" "),
            )
        };
        assert_eq!(ahead(2, 4).as_deref(), Some("1@7 2@4"));
        for (channel, offset) in [(2, 1), (1, 7), (1, 6), (3, 10), (4, 1)] {
            assert_eq!(ahead(channel, offset), None, "{channel}@{offset}");
        }
        let record = Record { steps: vec![(3, 1)], ..trail.record().unwrap() };
        assert!(Trail::kept(record).is_none());
    }

    #[test]
    fn what_the_trail_does_not_reach_back_to_is_a_clear_no() {
        let sent: Vec<_> = (1..=STEPS_MAX as u64 + 1).map(|offset| (1, offset)).collect();
        let trail = trail(&[(1, 0)], &sent);
        assert_eq!(stands(&trail, None), None);
        assert_eq!(stands(&trail, Some((1, 1))), None);
        assert_eq!(stands(&trail, Some((1, 2))).as_deref(), Some("1@2"));
    }

    #[test]
    fn who_was_sent_nothing_since_it_came_back_stands_where_it_came_back() {
        let trail = Trail::new(
            Some(position(1, 7)),
            vec![(name(1), position(1, 7)), (name(2), position(2, 3))],
            None,
        );
        assert_eq!(stands(&trail, Some((1, 7))).as_deref(), Some("1@7 2@3"), "before it is back anywhere");
        trail.joined(1, &name(1), position(1, 7));
        trail.joined(2, &name(2), position(2, 3));
        assert_eq!(stands(&trail, Some((1, 7))).as_deref(), Some("1@7 2@3"));
        trail.sent(1, &[delivery(1, 8)]);
        assert_eq!(stands(&trail, Some((1, 7))).as_deref(), Some("1@7 2@3"));
        assert_eq!(stands(&trail, None), None, "it forgot what it had seen");
    }

    #[test]
    fn who_joins_a_channel_just_now_stands_nowhere_until_it_is_in() {
        let trail = Trail::new(Some(position(1, 7)), vec![(name(1), position(1, 7))], None);
        trail.begin(ClientId::from_random([1; 16]), None);
        trail.joins(&name(1));
        assert_eq!(stands(&trail, Some((1, 7))).as_deref(), Some("1@7"), "it comes back");
        trail.joined(1, &name(1), position(1, 9));
        assert_eq!(stands(&trail, Some((1, 7))).as_deref(), Some("1@9"), "nothing is recovered there");
        trail.joins(&name(2));
        trail.joins(&name(3));
        trail.joined(2, &name(2), position(2, 5));
        assert_eq!((stands(&trail, Some((1, 7))), trail.record()), (None, None));
        trail.left(3, &name(3));
        assert_eq!(stands(&trail, Some((1, 7))).as_deref(), Some("1@9 2@5"));
        assert!(trail.record().is_some());
    }

    #[test]
    fn a_channel_that_was_left_is_not_come_back_to() {
        let trail = trail(&[(1, 0), (2, 0)], &[(1, 1), (2, 1)]);
        trail.left(2, &name(2));
        assert_eq!(stands(&trail, Some((2, 1))).as_deref(), Some("1@1"));
        trail.joined(2, &name(2), position(2, 5));
        trail.sent(2, &[delivery(2, 6)]);
        assert_eq!(stands(&trail, Some((1, 1))).as_deref(), Some("1@1 2@5"));
        for _ in 0..2 * STEPS_MAX {
            trail.left(2, &name(2));
            trail.joined(2, &name(2), position(2, 6));
        }
        assert_eq!(stands(&trail, Some((2, 6))).as_deref(), Some("1@1 2@6"));
    }
}
