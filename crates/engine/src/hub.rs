use std::collections::HashMap;
use std::sync::Arc;

use duplex_core::{ChannelName, EncodingId};
use slab::Slab;

use crate::node::Delivery;

/// Who on this shard is subscribed to what: each channel's subscribers, grouped by the encoding they want.
///
/// A subscriber is the index of its session. The session keeps the other half, a [`Subscription`] per channel.
#[derive(Default)]
pub(crate) struct Hub {
    names: HashMap<ChannelName, u32>,
    channels: Slab<Channel>,
}

pub(crate) struct Channel {
    pub name: ChannelName,
    groups: Vec<Group>,
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
}

/// Where a session stands in a channel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subscription {
    pub channel: u32,
    pub place: Place,
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
    pub fn join(&mut self, name: &ChannelName, member: u32) -> u32 {
        let channel = self.find(name).unwrap_or_else(|| {
            let channel = Channel { name: name.clone(), groups: Vec::new(), joiners: Vec::new() };
            let key = self.channels.insert(channel) as u32;
            self.names.insert(name.clone(), key);
            key
        });
        self.channels[channel as usize].joiners.push(Joiner { member, held: Vec::new() });
        channel
    }

    /// Ends the joining of `member` and gives what was held back for it.
    pub fn go_live(
        &mut self,
        channel: u32,
        member: u32,
        encoding: EncodingId,
    ) -> (Place, Vec<Arc<Delivery>>) {
        let channel = &mut self.channels[channel as usize];
        let held = channel.take_joiner(member).map(|joiner| joiner.held).unwrap_or_default();
        let group = channel.groups.iter().position(|group| group.encoding == encoding).unwrap_or_else(|| {
            channel.groups.push(Group { encoding, members: Vec::new() });
            channel.groups.len() - 1
        });
        let members = &mut channel.groups[group].members;
        members.push(member);
        (Place::Live(members.len() as u32 - 1), held)
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

    /// The live groups of a channel, after `run` was held back for those that are joining.
    pub fn deliver(&mut self, name: &ChannelName, run: &[Arc<Delivery>]) -> &[Group] {
        let Some(channel) = self.find(name) else { return &[] };
        let channel = &mut self.channels[channel as usize];
        for joiner in &mut channel.joiners {
            joiner.held.extend_from_slice(run);
        }
        &channel.groups
    }

    /// Everyone subscribed to or joining a channel.
    pub fn members(&self, name: &ChannelName) -> Vec<u32> {
        let Some(channel) = self.find(name).map(|channel| self.channel(channel)) else { return Vec::new() };
        let live = channel.groups.iter().flat_map(|group| group.members.iter().copied());
        live.chain(channel.joiners.iter().map(|joiner| joiner.member)).collect()
    }
}

impl Channel {
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
        moved
    }
}
