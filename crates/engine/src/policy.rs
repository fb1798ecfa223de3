//! What is allowed and kept in a channel: the policy of its namespace.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use duplex_core::{Action, ChannelName, Draft, ErrorCode, Identity, Payload, Rate, Refusal, Retention};

/// What is allowed and kept in the channels of one namespace.
#[derive(Debug, Clone)]
pub struct Policy {
    /// What is kept of what was published. Default 100 publications, 5 minutes.
    pub retention: Retention,
    /// What a client that comes back gets. Default everything it missed.
    pub recovery: Recovery,
    /// Whether it is known who is subscribed. Default not.
    pub attendance: Visibility,
    /// Who may do what. Default nobody without a token that says so.
    pub allow: Allow,
    /// Whether the part of a name behind `#` lists the only users who may do anything there. Default yes.
    pub user_limited: UserLimited,
    /// Longest payload, bytes of JSON. Default 64 KiB.
    pub payload_bytes: usize,
    /// How names and payloads must look.
    pub rules: Option<Arc<dyn Rules>>,
    /// What happens to a subscriber that reads more slowly than is published. Default it is disconnected and recovers.
    pub overload: Overload,
    /// Publications a subscriber gets per second, if that is limited; the others are thinned out as by `overload`.
    pub deliveries: Option<Rate>,
    /// Publications one client may publish in this namespace, if that is limited further than its messages.
    pub publications: Option<Rate>,
    /// Whether publications are compressed for clients that take it. Default yes.
    pub deflate: Deflate,
}

/// What a client that comes back gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// Nothing of what it missed.
    Off,
    /// All that it missed, or nothing and the news of it.
    Stream,
    /// The newest publication, also when it comes for the first time.
    Cache,
}

/// Whether it is known who is subscribed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    /// No.
    Hidden,
    /// To those who ask.
    Asked,
    /// And each subscriber is told who joins and leaves.
    Announced,
}

/// Who may do something. Each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// Only the backend, through the API.
    Backend,
    /// Clients whose token allows it.
    Token,
    /// Subscribers of the channel.
    Subscriber,
    /// Clients that have shown who they are.
    User,
    /// Every client.
    Anyone,
}

/// Who may do what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Allow {
    pub subscribe: Who,
    pub publish: Who,
    pub presence: Who,
    pub history: Who,
}

impl Allow {
    /// The same for everything.
    pub const fn all(who: Who) -> Self {
        Self { subscribe: who, publish: who, presence: who, history: who }
    }

    fn who(&self, action: Action) -> Who {
        match action {
            Action::Subscribe => self.subscribe,
            Action::Publish => self.publish,
            Action::Presence => self.presence,
            Action::History => self.history,
        }
    }
}

/// Whether `dm:#alice,bob` is for alice and bob alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum UserLimited {
    Yes,
    No,
}

/// What happens to a subscriber that reads more slowly than is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Overload {
    /// It is disconnected, comes back and recovers.
    Disconnect,
    /// It misses the oldest of what waits for it.
    DropOldest,
    /// Of what waits for it only the newest publication is kept, or the newest for each value of the tag `key`.
    Latest {
        /// The name of a tag.
        key: Option<Box<str>>,
    },
}

/// Whether publications are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Deflate {
    On,
    Off,
}

/// How the names and payloads of a namespace must look. The texts complete "channel: …" and "data: …".
pub trait Rules: fmt::Debug + Send + Sync {
    /// Whether a channel may have this name.
    fn name(&self, channel: &ChannelName) -> Result<(), String>;
    /// Whether this may be published.
    fn payload(&self, payload: &Payload) -> Result<(), String>;
}

/// Whether a client is subscribed to the channel it wants to do something in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Standing {
    Subscribed,
    Outside,
}

/// The policies of all namespaces.
#[derive(Debug, Clone)]
pub struct Namespaces {
    /// Of channels whose name has no `:`.
    pub default: Arc<Policy>,
    /// Of the others, by the part before the first `:`.
    pub named: HashMap<Box<str>, Arc<Policy>>,
    /// Of those that are not named.
    pub others: Others,
}

/// What becomes of a channel whose namespace nobody has configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Others {
    /// It is treated like a channel without namespace.
    LikeDefault,
    /// There is no such channel.
    Refused,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            retention: Retention { publications: 100, ttl_ms: 300_000 },
            recovery: Recovery::Stream,
            attendance: Visibility::Hidden,
            allow: Allow::all(Who::Token),
            user_limited: UserLimited::Yes,
            payload_bytes: 64 << 10,
            rules: None,
            overload: Overload::Disconnect,
            deliveries: None,
            publications: None,
            deflate: Deflate::On,
        }
    }
}

impl Namespaces {
    /// One policy for all channels.
    pub fn one(policy: Policy) -> Self {
        Self { default: Arc::new(policy), named: HashMap::new(), others: Others::LikeDefault }
    }

    /// The policy of a channel.
    ///
    /// # Errors
    /// There can be no such channel.
    pub fn of(&self, channel: &ChannelName) -> Result<&Arc<Policy>, Refusal> {
        let policy = match channel.namespace().map(|name| (name, self.named.get(name))) {
            None => &self.default,
            Some((_, Some(policy))) => policy,
            Some((_, None)) if self.others == Others::LikeDefault => &self.default,
            Some((name, None)) => {
                let message =
                    format_args!("channel: there is no namespace {name:?}; configure [namespace.{name}]");
                return Err(Refusal::new(ErrorCode::UnknownNamespace, message));
            }
        };
        if let Some(Err(problem)) = policy.rules.as_ref().map(|rules| rules.name(channel)) {
            return Err(Refusal::bad_request(format_args!("channel: {problem}")));
        }
        Ok(policy)
    }

    /// What the channel keeps of `draft`, if it may be published there at all.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn admit(&self, draft: &Draft) -> Result<Retention, Refusal> {
        let policy = self.of(&draft.channel)?;
        policy.check(draft)?;
        Ok(policy.retention)
    }
}

impl Policy {
    /// Whether a client may do this in a channel of this namespace.
    ///
    /// # Errors
    /// It may not, and what would have to change.
    pub fn may(
        &self,
        action: Action,
        channel: &ChannelName,
        identity: &Identity,
        standing: Standing,
    ) -> Result<(), Refusal> {
        let who = self.allow.who(action);
        let listed = self.listed(channel, identity)?;
        let allowed = match who {
            Who::Backend => false,
            Who::Token => listed || identity.allows(action, channel),
            Who::Subscriber => standing == Standing::Subscribed || listed || identity.allows(action, channel),
            Who::User => identity.user.is_some() || identity.allows(action, channel),
            Who::Anyone => true,
        };
        if allowed {
            return Ok(());
        }
        Err(denied(match who {
            Who::Backend => "only the backend may do this here",
            Who::Token => "the token does not allow it",
            Who::Subscriber => "subscribe to the channel first",
            Who::User | Who::Anyone => "only clients with a token that names a user may do this here",
        }))
    }

    /// Whether the name of a user-limited channel lists this user.
    fn listed(&self, channel: &ChannelName, identity: &Identity) -> Result<bool, Refusal> {
        let (UserLimited::Yes, Some(mut users)) = (self.user_limited, channel.users()) else {
            return Ok(false);
        };
        match users.any(|user| identity.user.as_deref() == Some(user)) {
            true => Ok(true),
            false => Err(denied("the part of its name behind '#' lists the only users who may use it")),
        }
    }

    /// Whether a subscription token may let a client in here that nothing else lets in.
    pub(crate) fn takes_tokens(&self, channel: &ChannelName, identity: &Identity) -> bool {
        self.allow.subscribe > Who::Backend && self.listed(channel, identity).is_ok()
    }

    /// Whether this may be published here, whoever does it.
    pub(crate) fn check(&self, draft: &Draft) -> Result<(), Refusal> {
        let bytes = draft.payload.json().as_str().len();
        if bytes > self.payload_bytes {
            let max = self.payload_bytes;
            let message =
                format_args!("data: has {bytes} bytes; at most {max} are allowed in this namespace");
            return Err(Refusal::new(ErrorCode::LimitExceeded, message));
        }
        if draft.key.is_some() && self.retention.publications == 0 {
            let message =
                "idempotency_key: this namespace keeps no history, and so no keys; set its history.size";
            return Err(Refusal::new(ErrorCode::NotAvailable, message));
        }
        if let Some(Err(problem)) = self.rules.as_ref().map(|rules| rules.payload(&draft.payload)) {
            return Err(Refusal::bad_request(format_args!("data: {problem}")));
        }
        Ok(())
    }

    /// Whether what a subscriber gets may be thinned out.
    pub(crate) fn thins_out(&self) -> bool {
        self.overload != Overload::Disconnect || self.deliveries.is_some()
    }
}

fn denied(why: &str) -> Refusal {
    Refusal::new(ErrorCode::PermissionDenied, format_args!("permission denied: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use duplex_core::{Grants, Pattern, UserId};

    fn name(channel: &str) -> ChannelName {
        ChannelName::parse(channel).unwrap()
    }

    fn identity(user: &str, publish: &str) -> Identity {
        let user = (!user.is_empty()).then(|| UserId::parse(user).unwrap());
        let publish = Pattern::parse(publish).into_iter().collect();
        Identity { user, grants: Grants { publish, ..Grants::default() }, ..Identity::default() }
    }

    #[test]
    fn each_level_lets_in_those_before_it() {
        use Standing::{Outside, Subscribed};
        let levels = [Who::Backend, Who::Token, Who::Subscriber, Who::User, Who::Anyone];
        for (who, standing, allowed) in [
            (identity("", ""), Outside, [false, false, false, false, true]),
            (identity("", ""), Subscribed, [false, false, true, false, true]),
            (identity("alice", ""), Outside, [false, false, false, true, true]),
            (identity("", "news"), Outside, [false, true, true, true, true]),
            (identity("", "n*"), Outside, [false, true, true, true, true]),
            (identity("", "other"), Outside, [false, false, false, false, true]),
        ] {
            let may = levels.map(|level| {
                let policy = Policy { allow: Allow::all(level), ..Policy::default() };
                policy.may(Action::Publish, &name("news"), &who, standing).is_ok()
            });
            assert_eq!(may, allowed, "{who:?} {standing:?}");
        }
    }

    #[test]
    fn a_user_limited_channel_is_for_those_in_its_name_alone() {
        for (user, channel, may) in [
            ("alice", "dm:#alice,bob", true),
            ("bob", "dm:#alice,bob", true),
            ("bo", "dm:#alice,bob", false),
            ("Alice", "dm:#alice,bob", false),
            ("", "dm:#alice,bob", false),
            ("", "dm:#", false),
            ("alice,bob", "dm:#alice,bob", false),
            ("eve", "dm:#alice#eve", false),
            ("alice", "dm:%23alice", false),
        ] {
            let policy = Policy::default();
            let allowed =
                policy.may(Action::Subscribe, &name(channel), &identity(user, ""), Standing::Outside);
            assert_eq!(allowed.is_ok(), may, "{user} {channel}");
        }
        let open = Policy { allow: Allow::all(Who::Anyone), ..Policy::default() };
        let refused = open.may(Action::Subscribe, &name("dm:#bob"), &identity("eve", "*"), Standing::Outside);
        assert!(refused.is_err(), "even where everything is open");
    }

    #[test]
    fn a_namespace_that_is_not_configured_is_refused_or_like_the_default() {
        let mut namespaces = Namespaces::one(Policy::default());
        assert!(namespaces.of(&name("chat:1")).is_ok());
        namespaces.others = Others::Refused;
        assert_eq!(namespaces.of(&name("chat:1")).unwrap_err().code, ErrorCode::UnknownNamespace);
        assert!(namespaces.of(&name("chat")).is_ok());
        namespaces.named.insert("chat".into(), Arc::default());
        assert!(namespaces.of(&name("chat:1")).is_ok());
    }
}
