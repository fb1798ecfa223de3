use std::collections::HashMap;
use std::sync::Arc;

use duplex_core::{ChannelName, EncodingId, Event, Position};
use slab::Slab;

use crate::node::Delivery;
use crate::policy::Policy;

/// Deliveries held back for one joining subscriber, at most: beyond it history takes too long to be read.
const HELD_MAX: usize = 16_384;

/// Who on this shard is subscribed to what: each channel's subscribers, grouped by the encoding they want.
///
/// A subscriber is the index of its session. The session keeps the other half, a [`Subscription`] per channel.
#[derive(Default)]
pub(crate) struct Hub {
    names: HashMap<ChannelName, u32>,
    channels: Slab<Channel>,
}

pub(crate) struct Channel {
    /// Its place in the hub.
    pub key: u32,
    pub name: ChannelName,
    pub policy: Arc<Policy>,
    /// The publication that all live subscribers have got last; `None` without any.
    seen: Option<Position>,
    pub groups: Vec<Group>,
    joiners: Vec<Joiner>,
}

/// Subscribers that get the same bytes.
pub(crate) struct Group {
    pub encoding: EncodingId,
    pub members: Vec<u32>,
}

/// A subscriber whose history is being read; what is published meanwhile is held back for it.
pub(crate) struct Joiner {
    pub member: u32,
    pub held: Vec<Arc<Delivery>>,
    /// How many more there would have been.
    overrun: usize,
}

/// Where a session stands in a channel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subscription {
    pub channel: u32,
    pub place: Place,
    pub attendance: Attendance,
}

/// Whether a subscriber was reported as present.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Attendance {
    Unreported,
    Reported,
}

/// What a run of deliveries means for the live subscribers of a channel.
pub(crate) enum Run<'a> {
    /// Nobody here wants it, or all of it is known.
    Nothing,
    /// They all get this part of it.
    Next(&'a Channel, &'a [Arc<Delivery>]),
    /// Something before it is missing.
    Gap,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Place {
    Joining,
    /// At this index of its group.
    Live(u32),
}

/// What leaving did to the others.
pub(crate) struct Left {
    /// This member now stands where the one that left stood.
    pub moved: Option<u32>,
    /// The channel has no subscriber on this shard any more.
    pub emptied: Option<ChannelName>,
}

impl Hub {
    pub fn find(&self, name: &str) -> Option<u32> {
        self.names.get(name).copied()
    }

    pub fn channel(&self, channel: u32) -> &Channel {
        &self.channels[channel as usize]
    }

    /// Begins to subscribe `member`; until [`go_live`](Self::go_live) deliveries are held back for it.
    pub fn join(&mut self, name: &ChannelName, policy: &Arc<Policy>, member: u32) -> u32 {
        let channel = self.find(name).unwrap_or_else(|| {
            let key = self.channels.vacant_key() as u32;
            self.channels.insert(Channel {
                key,
                name: name.clone(),
                policy: Arc::clone(policy),
                seen: None,
                groups: Vec::new(),
                joiners: Vec::new(),
            });
            self.names.insert(name.clone(), key);
            key
        });
        self.channels[channel as usize].joiners.push(Joiner { member, held: Vec::new(), overrun: 0 });
        channel
    }

    /// Ends the joining of `member` and gives what was held back for it, if that is all there was.
    pub fn end_joining(&mut self, channel: u32, member: u32) -> Result<Vec<Arc<Delivery>>, Gap> {
        match self.channels[channel as usize].take_joiner(member) {
            Some(Joiner { overrun: 1.., .. }) => Err(Gap),
            joiner => Ok(joiner.map(|joiner| joiner.held).unwrap_or_default()),
        }
    }

    /// From now on `member`, which has got everything up to `position`, is live. It cannot be if the other subscribers
    /// have got more, or less.
    pub fn go_live(
        &mut self,
        channel: u32,
        member: u32,
        encoding: EncodingId,
        position: Position,
    ) -> Result<Place, Gap> {
        let channel = &mut self.channels[channel as usize];
        if *channel.seen.get_or_insert(position) != position {
            return Err(Gap);
        }
        let group = channel.groups.iter().position(|group| group.encoding == encoding).unwrap_or_else(|| {
            channel.groups.push(Group { encoding, members: Vec::new() });
            channel.groups.len() - 1
        });
        let members = &mut channel.groups[group].members;
        members.push(member);
        Ok(Place::Live(members.len() as u32 - 1))
    }

    /// Ends a subscription, live or joining.
    pub fn leave(&mut self, member: u32, encoding: EncodingId, subscription: Subscription) -> Left {
        let key = subscription.channel as usize;
        let channel = &mut self.channels[key];
        let moved = match subscription.place {
            Place::Joining => channel.take_joiner(member).and(None),
            Place::Live(index) => channel.take_member(encoding, index as usize),
        };
        let empty = channel.groups.is_empty() && channel.joiners.is_empty();
        let emptied = empty.then(|| self.channels.remove(key).name);
        if let Some(name) = &emptied {
            self.names.remove(name);
        }
        Left { moved, emptied }
    }

    /// What a run of deliveries of one channel means for its live subscribers, after it was held back for those that are
    /// joining.
    pub fn deliver<'a>(&'a mut self, name: &ChannelName, run: &'a [Arc<Delivery>]) -> Run<'a> {
        let Some(channel) = self.find(name) else { return Run::Nothing };
        let channel = &mut self.channels[channel as usize];
        for joiner in &mut channel.joiners {
            match joiner.held.len() < HELD_MAX {
                true => joiner.held.extend_from_slice(run),
                false => joiner.overrun += run.len(),
            }
        }
        match channel.follow(run) {
            Err(Gap) => Run::Gap,
            Ok([]) => Run::Nothing,
            Ok(next) => Run::Next(channel, next),
        }
    }

    /// Channels with live subscribers in the next `count` places from `cursor` on, which moves behind them.
    pub fn some_channels(&self, cursor: &mut usize, count: usize) -> Vec<ChannelName> {
        let end = cursor.saturating_add(count).min(self.channels.capacity());
        let some = (*cursor..end).filter_map(|key| {
            let channel = self.channels.get(key)?;
            channel.seen.map(|_| channel.name.clone())
        });
        let some = some.collect();
        *cursor = if end == self.channels.capacity() { 0 } else { end };
        some
    }

    /// Places for channels, used or not: how far a cursor of [`some_channels`](Self::some_channels) goes.
    pub fn places(&self) -> usize {
        self.channels.capacity()
    }

    /// What the live subscribers of a channel have seen.
    pub fn seen(&self, name: &str) -> Option<Position> {
        self.channel(self.find(name)?).seen
    }

    /// The policies have changed.
    pub fn set_policies(&mut self, policy: impl Fn(&ChannelName) -> Option<Arc<Policy>>) {
        for (_, channel) in &mut self.channels {
            if let Some(policy) = policy(&channel.name) {
                channel.policy = policy;
            }
        }
    }

    /// Everyone subscribed to or joining a channel.
    pub fn members(&self, name: &ChannelName) -> Vec<u32> {
        let Some(channel) = self.find(name).map(|channel| self.channel(channel)) else { return Vec::new() };
        let live = channel.groups.iter().flat_map(|group| group.members.iter().copied());
        live.chain(channel.joiners.iter().map(|joiner| joiner.member)).collect()
    }
}

/// A publication is missing.
#[derive(Debug, PartialEq)]
pub(crate) struct Gap;

impl Channel {
    /// The part of a run that is new, if it follows on what was seen.
    fn follow<'r>(&mut self, run: &'r [Arc<Delivery>]) -> Result<&'r [Arc<Delivery>], Gap> {
        let Some(seen) = &mut self.seen else { return Ok(if self.groups.is_empty() { &[] } else { run }) };
        let mut known = 0;
        for (index, delivery) in run.iter().enumerate() {
            let Event::Publication(publication) = &delivery.event else { continue };
            let at = publication.position;
            if at.epoch != seen.epoch || at.offset > seen.offset + 1 {
                return Err(Gap);
            }
            if at.offset <= seen.offset {
                known = index + 1;
            } else {
                *seen = at;
            }
        }
        Ok(&run[known..])
    }

    fn take_joiner(&mut self, member: u32) -> Option<Joiner> {
        let index = self.joiners.iter().position(|joiner| joiner.member == member)?;
        Some(self.joiners.swap_remove(index))
    }

    /// Removes the member at `index`; returns the one that took its place.
    fn take_member(&mut self, encoding: EncodingId, index: usize) -> Option<u32> {
        let position = self.groups.iter().position(|group| group.encoding == encoding);
        let position = position.expect("a live subscription has a group until it leaves");
        let members = &mut self.groups[position].members;
        members.swap_remove(index);
        let moved = members.get(index).copied();
        if members.is_empty() {
            self.groups.swap_remove(position);
        }
        if self.groups.is_empty() {
            self.seen = None;
        }
        moved
    }
}
