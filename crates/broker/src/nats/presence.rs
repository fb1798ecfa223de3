//! Presence: each member is a message of its own in a stream, which its node deletes. A node says that it has members there,
//! and every few seconds that it is alive; what a dead one leaves behind is deleted by the others. Of all who delete a
//! message one hears that it did, and tells that the member left.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use duplex_core::{Attendance, BrokerError, ChannelName, ClientId, Member, Pending, Presence, Present, Tell};
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::Instant;

use super::connection::{ANSWER, Failure};
use super::jetstream::{Deleted, Kept, Stored};
use super::lanes::Driver;
use super::streams::Plan;
use super::subjects::Seat;
use super::{Answer, Nats, Shared, ready};
use crate::envelope::{read_member, write_member};

/// Members that are written, read or deleted at the same time.
pub(super) const AT_ONCE: usize = 128;

/// The members of this node.
pub(super) struct Roll {
    channels: Mutex<HashMap<ChannelName, HashMap<ClientId, Entry>>>,
    /// Where it is written that this node has members, and in which life of the stream.
    pub enlisted: watch::Sender<Option<Enlisted>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Enlisted {
    pub era: u64,
    pub sequence: u64,
}

pub(super) struct Entry {
    member: Member,
    tell: Tell,
    pub stay: Stay,
}

/// Whether a member is to be in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stay {
    Here,
    /// It has left, or was refused, and may still be there.
    Gone,
}

pub(super) enum Job {
    Join(Member, Tell, Answer<()>),
    Leave(ClientId),
    Present(usize, Answer<Present>),
    /// The members are written again; who is new there is told to those who are to hear of it.
    Again(Again),
}

/// Why members are written again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// Others took them for dead, and told it.
    Back,
    /// The stream was lost, and nobody has told anything.
    Lost,
}

impl Default for Roll {
    fn default() -> Self {
        Self { channels: Mutex::default(), enlisted: watch::Sender::new(None) }
    }
}

impl Roll {
    fn lock(&self) -> MutexGuard<'_, HashMap<ChannelName, HashMap<ClientId, Entry>>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub fn is_enlisted(&self) -> Option<()> {
        self.enlisted.borrow().map(drop)
    }

    fn put(&self, channel: &ChannelName, member: Member, tell: Tell, stay: Stay) {
        let mut channels = self.lock();
        let members = channels.entry(channel.clone()).or_default();
        members.insert(member.client, Entry { member, tell, stay });
    }

    fn is_here(&self, channel: &ChannelName, client: ClientId) -> bool {
        let channels = self.lock();
        let entry = channels.get(channel).and_then(|members| members.get(&client));
        entry.is_some_and(|entry| entry.stay == Stay::Here)
    }

    /// The member has left; it stays on the roll until it is known to be deleted.
    fn leaves(&self, channel: &ChannelName, client: ClientId) -> Option<(Member, Tell)> {
        let mut channels = self.lock();
        let entry = channels.get_mut(channel)?.get_mut(&client)?;
        entry.stay = Stay::Gone;
        Some((entry.member.clone(), entry.tell))
    }

    fn remove(&self, channel: &ChannelName, client: ClientId) {
        let mut channels = self.lock();
        let Some(members) = channels.get_mut(channel) else { return };
        members.remove(&client);
        if members.is_empty() {
            channels.remove(channel);
        }
    }

    pub fn of(&self, channel: &ChannelName, stay: Stay) -> Vec<(Member, Tell)> {
        let channels = self.lock();
        let members = channels.get(channel).into_iter().flat_map(HashMap::values);
        members.filter(|entry| entry.stay == stay).map(|entry| (entry.member.clone(), entry.tell)).collect()
    }

    pub fn channels(&self, wanted: impl Fn(&Entry) -> bool) -> Vec<ChannelName> {
        let channels = self.lock();
        let some = channels.iter().filter(|(_, members)| members.values().any(&wanted));
        some.map(|(channel, _)| channel.clone()).collect()
    }
}

impl Presence for Nats {
    fn join(&self, channel: &ChannelName, member: Member, tell: Tell) -> Pending<Result<(), BrokerError>> {
        match self.shared.call() {
            Ok((answer, answered)) => {
                self.shared.enter_members(channel, Job::Join(member, tell, answer));
                answered
            }
            Err(error) => ready(Err(error)),
        }
    }

    fn leave(&self, channel: &ChannelName, client: ClientId) {
        self.shared.enter_members(channel, Job::Leave(client));
    }

    fn present(&self, channel: &ChannelName, limit: usize) -> Pending<Result<Present, BrokerError>> {
        match self.shared.call() {
            Ok((answer, answered)) => {
                self.shared.enter_members(channel, Job::Present(limit, answer));
                answered
            }
            Err(error) => ready(Err(error)),
        }
    }
}

impl Shared {
    pub fn enter_members(self: &Arc<Self>, channel: &ChannelName, job: Job) {
        if self.members.push(channel, job) == Driver::Wanted {
            self.runtime.spawn(Arc::clone(self).drive_members(channel.clone()));
        }
    }

    async fn drive_members(self: Arc<Self>, channel: ChannelName) {
        while let Some(mut jobs) = self.members.take(&channel) {
            while let Some(job) = jobs.pop_front() {
                match job {
                    Job::Join(member, tell, answer) => {
                        let all = joins((member, tell, answer), &mut jobs);
                        self.join_all(&channel, all).await;
                    }
                    Job::Leave(client) => {
                        let all = leaves(client, &mut jobs);
                        self.leave_all(&channel, all).await;
                    }
                    Job::Present(limit, answer) => {
                        let present = self.present_in(&channel, limit, answer.deadline).await;
                        answer.give(present.map_err(Failure::of_reading));
                    }
                    Job::Again(why) => self.join_again(&channel, why).await,
                }
            }
        }
    }

    /// Writes them at the same time, then tells of each in order.
    async fn join_all(&self, channel: &ChannelName, all: Vec<(Member, Tell, Answer<()>)>) {
        let joining =
            all.iter().map(|(member, tell, answer)| self.join_one(channel, member, *tell, answer.deadline));
        let joined = join_all(joining).await;
        for ((member, tell, answer), joined) in all.into_iter().zip(joined) {
            if joined == Ok(Joined::Now) {
                self.tell_change(channel, b'J', &member, tell).await;
            }
            answer.give(joined.map(drop).map_err(BrokerError::from));
        }
    }

    async fn join_one(
        &self,
        channel: &ChannelName,
        member: &Member,
        tell: Tell,
        deadline: Instant,
    ) -> Result<Joined, Failure> {
        if self.roll.is_here(channel, member.client) {
            return Ok(Joined::Before);
        }
        // Members of a node that nobody would look for would never be taken away.
        let mut enlisted = self.roll.enlisted.subscribe();
        let enlisting = tokio::time::timeout_at(deadline, enlisted.wait_for(Option::is_some)).await;
        enlisting.map_err(|_| Failure::Nobody)?.map_err(|_| Failure::Nobody)?;
        let joined = self.write_seat(channel, member, tell, deadline).await;
        match &joined {
            Ok(_) => self.roll.put(channel, member.clone(), tell, Stay::Here),
            Err(Failure::Broken | Failure::Late) => {
                self.roll.put(channel, member.clone(), Tell::Nobody, Stay::Gone);
            }
            Err(_) => {}
        }
        joined
    }

    async fn write_seat(
        &self,
        channel: &ChannelName,
        member: &Member,
        tell: Tell,
        deadline: Instant,
    ) -> Result<Joined, Failure> {
        let connection = self.connection().ok_or(Failure::Nobody)?;
        let plan = Plan::presence(&self.subjects, self.storage);
        let subject = self.subjects.seat(&self.seat(channel, member));
        let written: Bytes =
            [&[b'1', u8::from(tell == Tell::Everyone) + b'0'], &write_member(member)[..]].concat().into();
        let mut expected = 0;
        loop {
            self.streams.ensure(&connection, &plan, deadline).await?;
            let stored = connection.store(subject.clone(), Some(expected), written.clone(), deadline).await;
            match stored {
                Ok(Stored::At(_)) if expected == 0 => return Ok(Joined::Now),
                Ok(Stored::At(_)) => return Ok(Joined::Before),
                // Written anew, it is newer than whatever made others think that this node is dead.
                Ok(Stored::Conflict) => {
                    let last = connection.last(&plan.name, &subject, deadline).await?;
                    expected = last.map_or(0, |last| last.sequence);
                }
                Err(Failure::Nobody) => self.streams.forget(&plan.name),
                Err(failure) => return Err(failure),
            }
            if Instant::now() >= deadline {
                return Err(Failure::Nobody);
            }
        }
    }

    /// Deletes them at the same time, then tells of each in order.
    async fn leave_all(&self, channel: &ChannelName, clients: Vec<ClientId>) {
        let mut all: Vec<(Member, Tell)> = Vec::new();
        for client in clients {
            all.extend(self.roll.leaves(channel, client));
        }
        let deadline = Instant::now() + ANSWER;
        let leaving = all.iter().map(|(member, _)| self.delete_seat(self.seat(channel, member), deadline));
        for ((member, tell), left) in all.iter().zip(join_all(leaving).await) {
            match left {
                Ok(deleted) => {
                    self.roll.remove(channel, member.client);
                    if deleted == Deleted::Now {
                        self.tell_change(channel, b'L', member, *tell).await;
                    }
                }
                Err(failure) => tracing::debug!(?channel, ?failure, "who left is taken away later"),
            }
        }
    }

    async fn delete_seat(&self, seat: Seat, deadline: Instant) -> Result<Deleted, Failure> {
        let connection = self.connection().ok_or(Failure::Nobody)?;
        let stream = self.subjects.presence_stream();
        match connection.last(&stream, &self.subjects.seat(&seat), deadline).await {
            Ok(Some(kept)) => connection.delete(&stream, kept.sequence, deadline).await,
            Ok(None) => Ok(Deleted::Before),
            Err(failure) if failure.is_no_stream() => Ok(Deleted::Before),
            Err(failure) => Err(failure),
        }
    }

    async fn join_again(&self, channel: &ChannelName, why: Again) {
        let gone = self.roll.of(channel, Stay::Gone);
        self.leave_all(channel, gone.iter().map(|(member, _)| member.client).collect()).await;
        let here = self.roll.of(channel, Stay::Here);
        for some in here.chunks(AT_ONCE) {
            let deadline = Instant::now() + ANSWER;
            let writing = some.iter().map(|(member, tell)| self.write_seat(channel, member, *tell, deadline));
            for ((member, tell), written) in some.iter().zip(join_all(writing).await) {
                match written {
                    Ok(Joined::Now) if why == Again::Back => {
                        self.tell_change(channel, b'J', member, *tell).await
                    }
                    Ok(_) => {}
                    Err(failure) => tracing::warn!(?channel, ?failure, "a member could not be written again"),
                }
            }
        }
    }

    /// All who listen to the channel hear that a member joined or left.
    pub async fn tell_change(&self, channel: &ChannelName, change: u8, member: &Member, tell: Tell) {
        if let (Tell::Everyone, Some(connection)) = (tell, self.connection()) {
            let written = [&[change], &write_member(member)[..]].concat();
            connection.tell(self.subjects.live(channel), written.into()).await;
        }
    }

    async fn present_in(
        &self,
        channel: &ChannelName,
        limit: usize,
        deadline: Instant,
    ) -> Result<Present, Failure> {
        let connection = self.connection().ok_or(Failure::Nobody)?;
        let stream = self.subjects.presence_stream();
        let subjects = connection.subjects(&stream, &self.subjects.seats_in(channel), deadline).await;
        let subjects = match subjects {
            Err(failure) if failure.is_no_stream() => Vec::new(),
            subjects => subjects?,
        };
        let seats: Vec<Seat> = subjects.iter().filter_map(|subject| self.subjects.seat_of(subject)).collect();
        let users: HashSet<&str> =
            seats.iter().map(|seat| &*seat.user).filter(|user| *user != NOBODY).collect();
        let attendance = Attendance { clients: seats.len(), users: users.len() };
        let mut members = Vec::new();
        for some in subjects[..limit.min(subjects.len())].chunks(AT_ONCE) {
            let reading = some.iter().map(|subject| connection.last(&stream, subject, deadline));
            for read in join_all(reading).await {
                members.extend(read?.and_then(|kept| member(&kept)).map(|(member, _)| Arc::new(member)));
            }
        }
        members.sort_by_key(|member| member.client);
        Ok(Present { attendance, members })
    }

    fn seat(&self, channel: &ChannelName, member: &Member) -> Seat {
        let add = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        let hash = |user: &str| user.bytes().fold(0xcbf2_9ce4_8422_2325, add);
        let user = member.user.as_deref().map_or(NOBODY.to_owned(), |user| format!("{:016x}", hash(user)));
        Seat { channel: channel.clone(), client: member.client, user, node: self.id }
    }
}

/// In place of a user, of members that are nobody's.
const NOBODY: &str = "-";

/// Whether a member was present already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Joined {
    Now,
    Before,
}

/// Reads a member that is kept, and who heard of it.
pub(super) fn member(kept: &Kept) -> Option<(Member, Tell)> {
    let (head, written) = kept.payload.split_at_checked(2)?;
    let tell = if head == b"11" { Tell::Everyone } else { Tell::Nobody };
    let member = head.starts_with(b"1").then(|| read_member(written).ok()).flatten();
    if member.is_none() {
        tracing::warn!("a member that NATS keeps is not understood, and passed over");
    }
    member.map(|member| (member, tell))
}

/// Members that can be written together.
fn joins(first: (Member, Tell, Answer<()>), jobs: &mut VecDeque<Job>) -> Vec<(Member, Tell, Answer<()>)> {
    let mut clients = HashSet::from([first.0.client]);
    let mut all = vec![first];
    while all.len() < AT_ONCE {
        let fits = |job: &mut Job| matches!(job, Job::Join(member, ..) if clients.insert(member.client));
        match jobs.pop_front_if(fits) {
            Some(Job::Join(member, tell, answer)) => all.push((member, tell, answer)),
            _ => break,
        }
    }
    all
}

/// Members that can be deleted together.
fn leaves(first: ClientId, jobs: &mut VecDeque<Job>) -> Vec<ClientId> {
    let mut all = vec![first];
    while all.len() < AT_ONCE {
        let fits = |job: &mut Job| matches!(job, Job::Leave(client) if !all.contains(client));
        match jobs.pop_front_if(fits) {
            Some(Job::Leave(client)) => all.push(client),
            _ => break,
        }
    }
    all
}
