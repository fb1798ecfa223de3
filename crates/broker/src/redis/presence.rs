//! Presence: members are kept in Redis under the lease of their node. A node says every few seconds that it is alive; what
//! a dead one leaves behind is taken away by the others, once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use duplex_core::{Attendance, BrokerError, ChannelName, ClientId, Member, Pending, Presence, Present, Tell};
use redis::ScriptInvocation;

use super::{BEAT, JOIN, LEAVE, PRESENT, Redis, Shared, not_ours, read};
use crate::envelope::{read_member, write_member};

/// How often a node says that it is alive.
const BEAT_EVERY: Duration = Duration::from_secs(3);
/// Without that for so long it is dead, ms.
const LEASE_MS: u64 = 15_000;
/// How long members are kept after the last node that has any in the channel is gone, ms.
const KEPT_MS: u64 = 120_000;
/// How often they are kept for longer.
const RENEW_EVERY: Duration = Duration::from_secs(30);
/// Channels of a dead node that are looked at with one command.
const REAPED_AT_ONCE: usize = 128;

/// The members of this node.
#[derive(Default)]
pub(super) struct Roll(Mutex<HashMap<ChannelName, Members>>);

type Members = HashMap<ClientId, (Member, Tell)>;

impl Roll {
    fn lock(&self) -> MutexGuard<'_, HashMap<ChannelName, Members>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Presence for Redis {
    fn join(&self, channel: &ChannelName, member: Member, tell: Tell) -> Pending<Result<(), BrokerError>> {
        let shared = &self.shared;
        let mut roll = shared.roll.lock();
        let members = roll.entry(channel.clone()).or_default();
        if members.is_empty() {
            let mut here = redis::cmd("SADD");
            here.arg(shared.keys.presence_of(&shared.id.to_string())).arg(&**channel);
            drop(shared.command(here));
        }
        members.insert(member.client, (member.clone(), tell));
        // Still under the lock, so that joining and leaving keep their order.
        let joining = shared.script(channel, shared.joining(channel, &member, tell));
        Box::pin(async move { joining.await.map(drop) })
    }

    fn leave(&self, channel: &ChannelName, client: ClientId) {
        let shared = &self.shared;
        let mut roll = shared.roll.lock();
        let Some(members) = roll.get_mut(channel) else { return };
        if members.remove(&client).is_none() {
            return;
        }
        drop(shared.script(channel, shared.leaving(channel, &client.to_string(), &shared.id.to_string())));
        if members.is_empty() {
            roll.remove(channel);
            let mut gone = redis::cmd("SREM");
            gone.arg(shared.keys.presence_of(&shared.id.to_string())).arg(&**channel);
            drop(shared.command(gone));
        }
    }

    fn present(&self, channel: &ChannelName, limit: usize) -> Pending<Result<Present, BrokerError>> {
        let shared = &self.shared;
        let mut script = PRESENT.prepare_invoke();
        script.key(shared.keys.members(channel)).key(shared.keys.users(channel)).arg(limit);
        let called = shared.script(channel, script);
        Box::pin(async move {
            let (clients, users, entries): (usize, usize, Vec<Vec<u8>>) = read(called.await?)?;
            let members = entries.iter().map(|entry| Ok(Arc::new(member(entry)?)));
            let mut members = members.collect::<Result<Vec<_>, BrokerError>>()?;
            members.sort_by_key(|member| member.client);
            Ok(Present { attendance: Attendance { clients, users }, members })
        })
    }
}

/// Reads `NODE TELL LENGTH USER MEMBER`, of which only the length ends with a space.
fn member(entry: &[u8]) -> Result<Member, BrokerError> {
    let written = entry.get(17..).and_then(|rest| {
        let space = rest.iter().position(|byte| *byte == b' ')?;
        let length: usize = std::str::from_utf8(&rest[..space]).ok()?.parse().ok()?;
        rest.get(space + 1 + length..)
    });
    written.and_then(|written| read_member(written).ok()).ok_or_else(|| not_ours("a member"))
}

impl Shared {
    fn joining(&self, channel: &ChannelName, member: &Member, tell: Tell) -> ScriptInvocation<'static> {
        let mut script = JOIN.prepare_invoke();
        script.key(self.keys.members(channel)).key(self.keys.users(channel));
        script.arg(member.client.to_string()).arg(self.id.to_string()).arg(write_member(member));
        script.arg(member.user.as_deref().unwrap_or("")).arg(KEPT_MS);
        script.arg(self.keys.live(channel)).arg(self.publish).arg(i32::from(tell == Tell::Everyone));
        script
    }

    /// A client of a node leaves; with an empty name, all of them.
    fn leaving(&self, channel: &ChannelName, client: &str, node: &str) -> ScriptInvocation<'static> {
        let mut script = LEAVE.prepare_invoke();
        script.key(self.keys.members(channel)).key(self.keys.users(channel));
        script.arg(client).arg(node).arg(self.keys.live(channel)).arg(self.publish);
        script
    }

    /// Says that this node is alive. If it was thought dead, or everything was forgotten, its members join again.
    async fn beat_once(&self, era: &mut Option<String>) -> Result<Vec<String>, BrokerError> {
        let mut script = BEAT.prepare_invoke();
        script.key(self.keys.nodes()).key(self.keys.era());
        script.arg(self.id.to_string()).arg(LEASE_MS).arg(super::fresh_epoch());
        let (known, current, dead): (u8, String, Vec<String>) = read(self.script("", script).await?)?;
        let before = era.replace(current);
        let is_same_life = before == *era;
        if before.is_some() && (known == 0 || !is_same_life) {
            tracing::warn!("this node's presence was forgotten, and is told again");
            // Who heard that they left hears that they are back.
            self.join_again(|tell| if is_same_life { tell } else { Tell::Nobody }).await?;
        }
        Ok(dead)
    }

    /// All members of this node join again.
    async fn join_again(&self, hears: impl Fn(Tell) -> Tell) -> Result<(), BrokerError> {
        let all: Vec<(ChannelName, Member, Tell)> = {
            let roll = self.roll.lock();
            let each = roll.iter().flat_map(|(channel, members)| {
                members.values().map(|(member, tell)| (channel.clone(), member.clone(), *tell))
            });
            each.collect()
        };
        for (channel, member, tell) in all {
            let mut here = redis::cmd("SADD");
            here.arg(self.keys.presence_of(&self.id.to_string())).arg(&*channel);
            drop(self.command(here));
            let joining = {
                let roll = self.roll.lock();
                // It may have left meanwhile. Still under the lock, so that joining and leaving keep their order.
                let is_here = roll.get(&channel).is_some_and(|members| members.contains_key(&member.client));
                is_here.then(|| self.script(&channel, self.joining(&channel, &member, hears(tell))))
            };
            if let Some(joining) = joining {
                joining.await?;
            }
        }
        Ok(())
    }

    /// Members are kept for as long as a node has any in their channel.
    async fn renew(&self) -> Result<(), BrokerError> {
        let channels: Vec<ChannelName> = self.roll.lock().keys().cloned().collect();
        for channel in channels {
            for key in [self.keys.members(&channel), self.keys.users(&channel)] {
                let mut expire = redis::cmd("PEXPIRE");
                expire.arg(key).arg(KEPT_MS);
                self.command(expire).await?;
            }
        }
        Ok(())
    }

    /// Takes away what a dead node has left behind.
    async fn reap(&self, dead: &str) -> Result<(), BrokerError> {
        let place = self.keys.presence_of(dead);
        loop {
            let mut some = redis::cmd("SRANDMEMBER");
            some.arg(&place).arg(REAPED_AT_ONCE);
            let channels: Vec<String> = read(self.command(some).await?)?;
            if channels.is_empty() {
                break;
            }
            for name in channels {
                if let Ok(channel) = ChannelName::parse(&name) {
                    self.script(&channel, self.leaving(&channel, "", dead)).await?;
                }
                let mut done = redis::cmd("SREM");
                done.arg(&place).arg(&name);
                self.command(done).await?;
            }
        }
        let mut gone = redis::cmd("ZREM");
        gone.arg(self.keys.nodes()).arg(dead);
        self.command(gone).await.map(drop)
    }
}

/// Says that this node is alive, and takes away what dead ones have left behind, for as long as the broker is there.
pub(super) async fn beat(shared: &Weak<Shared>) {
    let (mut era, mut renewed) = (None, Instant::now());
    loop {
        let Some(shared) = shared.upgrade() else { return };
        match shared.beat_once(&mut era).await {
            Ok(dead) => {
                for dead in dead.iter().filter(|dead| **dead != shared.id.to_string()) {
                    tracing::warn!(node = dead, "a node is dead; its clients are no longer present");
                    if let Err(error) = shared.reap(dead).await {
                        tracing::warn!(node = dead, %error, "its presence is taken away later");
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "cannot tell that this node is alive"),
        }
        if renewed.elapsed() > RENEW_EVERY {
            renewed = Instant::now();
            if let Err(error) = shared.renew().await {
                tracing::debug!(%error, "cannot keep presence for longer now");
            }
        }
        // At once where this node may not be known yet.
        drop(tokio::time::timeout(BEAT_EVERY, shared.connected.notified()).await);
    }
}
