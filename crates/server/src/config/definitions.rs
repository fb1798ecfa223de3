use std::fmt::Display;
use std::hash::BuildHasher;
use std::sync::LazyLock;

use duplex_core::ShardSet;

use super::fields::{Choice, list, optional, prefix, show_optional};
use super::units::{Number, Unit};
use crate::Options;
use crate::auth::{Issuer, Secret};
use crate::options::BrokerPlace;

/// One option of a `T`: all there is to say about it.
pub(crate) struct Definition<T: 'static> {
    /// `section.key`, as in the file.
    pub path: &'static str,
    /// When a new value counts that a reload brings.
    pub live: Live,
    /// What it means, and its price.
    pub doc: &'static str,
    /// Where it is kept, and what it may be.
    pub field: Field<T>,
}

/// When a new value counts that a reload brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub(crate) enum Live {
    AtOnce,
    AfterRestart,
}

/// Where an option is kept, and what it may be.
pub(crate) enum Field<T: 'static> {
    Number {
        unit: Unit,
        min: u64,
        max: u64,
        at: fn(&mut T) -> &mut dyn Number,
    },
    Text {
        /// What it may be, for people.
        form: &'static str,
        set: fn(&mut T, &str) -> Result<(), String>,
        show: fn(&T) -> String,
    },
    /// Never shown.
    Secret {
        form: &'static str,
        set: fn(&mut T, &str) -> Result<(), String>,
        bytes: fn(&T) -> Vec<u8>,
    },
}

impl<T: Clone> Definition<T> {
    /// The flag that sets it, without the dashes: the path, but for `server.`. A secret has none, since everybody on the
    /// machine can read command lines.
    pub fn flag(&self) -> Option<String> {
        let flag = || self.path.trim_start_matches("server.").replace(['.', '_'], "-");
        (!matches!(self.field, Field::Secret { .. })).then(flag)
    }

    /// Sets it from text, or says what is wrong. Lists are separated by commas.
    pub fn set(&self, options: &mut T, text: &str) -> Result<(), String> {
        match &self.field {
            Field::Number { unit, min, max, at } => {
                let value = unit.parse(text).map_err(|problem| format!("{text:?} {problem}"))?;
                let (shown, low, high) = (unit.show(value), unit.show(*min), unit.show(*max));
                match value {
                    _ if value < *min => return Err(format!("{shown} is below the minimum {low}")),
                    _ if value > *max => return Err(format!("{shown} is above the maximum {high}")),
                    _ => at(options).store(value),
                }
                Ok(())
            }
            Field::Text { set, .. } | Field::Secret { set, .. } => set(options, text),
        }
    }

    /// Its value as text that [`set`](Self::set) reads; of a secret only a sign that differs with the secret.
    pub fn show(&self, options: &T) -> String {
        match &self.field {
            Field::Number { unit, at, .. } => unit.show(at(&mut options.clone()).load()),
            Field::Text { show, .. } => show(options),
            Field::Secret { bytes, .. } => match &bytes(options)[..] {
                [] => String::new(),
                secret => hidden(secret),
            },
        }
    }
}

/// The environment variable that sets an option: `DUPLEX_SECTION__KEY`.
pub(crate) fn variable(path: &str) -> String {
    format!("DUPLEX_{}", path.replace('.', "__").to_ascii_uppercase())
}

/// Tells two secrets apart, in this process only: the key of the hash is random.
fn hidden(secret: &[u8]) -> String {
    static KEY: LazyLock<std::hash::RandomState> = LazyLock::new(Default::default);
    format!("(hidden {:04x})", KEY.hash_one(secret) & 0xffff)
}

macro_rules! number {
    ($live:ident $path:literal, $unit:ident $min:literal ..= $max:expr, $($field:ident).+, $doc:literal) => {
        Definition {
            path: $path,
            live: Live::$live,
            doc: $doc,
            field: Field::Number { unit: Unit::$unit, min: $min, max: $max, at: |options| &mut options.$($field).+ },
        }
    };
}

/// One of a few words.
macro_rules! choice {
    ($live:ident $path:literal, $form:literal, $($field:ident).+, $doc:literal) => {
        Definition {
            path: $path,
            live: Live::$live,
            doc: $doc,
            field: Field::Text {
                form: $form,
                set: |options, text| Choice::read(text).map(|value| options.$($field).+ = value),
                show: |options| options.$($field).+.word(),
            },
        }
    };
}

/// One of a few words, or what is right for the mode.
macro_rules! mode_choice {
    ($path:literal, $form:literal, $($field:ident).+, $doc:literal) => {
        Definition {
            path: $path,
            live: Live::AtOnce,
            doc: $doc,
            field: Field::Text {
                form: $form,
                set: |options, text| Choice::read(text).map(|value| options.$($field).+ = Some(value)),
                show: |options| options.$($field).+.map_or_else(String::new, Choice::word),
            },
        }
    };
}

/// A text that may be missing.
macro_rules! text {
    ($live:ident $path:literal, $form:literal, $($field:ident).+, $doc:literal) => {
        Definition {
            path: $path,
            live: Live::$live,
            doc: $doc,
            field: Field::Text {
                form: $form,
                set: |options, text| {
                    options.$($field).+ = optional(text, |text| Ok(text.into()))?;
                    Ok(())
                },
                show: |options| show_optional(options.$($field).+.as_ref().map(shown).as_ref()),
            },
        }
    };
}

/// An address that may be missing.
macro_rules! address {
    ($live:ident $path:literal, $($field:ident).+, $doc:literal) => {
        Definition {
            path: $path,
            live: Live::$live,
            doc: $doc,
            field: Field::Text {
                form: "an address such as `10.0.0.1:8001`",
                set: |options, text| {
                    options.$($field).+ = optional(text, |text| {
                        text.parse().map_err(|_| format!("{text:?} is not an address; write it like 10.0.0.1:8001"))
                    })?;
                    Ok(())
                },
                show: |options| show_optional(options.$($field).+.as_ref()),
            },
        }
    };
}

/// A secret for HMAC that may be missing.
macro_rules! secret {
    ($live:ident $path:literal, $($field:ident).+, $doc:literal) => {
        Definition {
            path: $path,
            live: Live::$live,
            doc: $doc,
            field: Field::Secret {
                form: "at least 32 bytes",
                set: |options, text| {
                    options.$($field).+ =
                        optional(text, |text| Secret::new(text).map_err(|error| error.to_string()))?;
                    Ok(())
                },
                bytes: |options| {
                    options.$($field).+.as_ref().map_or_else(Vec::new, |secret| secret.bytes().to_vec())
                },
            },
        }
    };
}

/// A list of what can be parsed and displayed.
macro_rules! parsed_list {
    ($live:ident $path:literal, $form:literal, $($field:ident).+, $doc:literal) => {
        Definition {
            path: $path,
            live: Live::$live,
            doc: $doc,
            field: Field::Text {
                form: $form,
                set: |options, text| {
                    options.$($field).+ = list(text, |part| {
                        part.parse().map_err(|error| format!("{part:?}: {error}"))
                    })?;
                    Ok(())
                },
                show: |options| joined(options.$($field).+.iter()),
            },
        }
    };
}

/// A rate per second that may be missing; at once a tenth of it is allowed.
macro_rules! optional_rate {
    ($path:literal, $($field:ident).+, $doc:literal) => {
        Definition {
            path: $path,
            live: Live::AtOnce,
            doc: $doc,
            field: Field::Text {
                form: "a number from 1 to 1000000",
                set: |options, text| {
                    options.$($field).+ = optional(text, |text| match text.parse() {
                        Ok(per_second @ 1..=1_000_000) => Ok(Rate { per_second, burst: 1 + per_second / 10 }),
                        _ => Err(format!("{text:?} is not a number from 1 to 1000000")),
                    })?;
                    Ok(())
                },
                show: |options| show_optional(options.$($field).+.map(|rate| rate.per_second).as_ref()),
            },
        }
    };
}

fn joined<T: Display>(items: impl Iterator<Item = T>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(",")
}

fn shown(text: &impl AsRef<std::ffi::OsStr>) -> String {
    text.as_ref().to_string_lossy().into_owned()
}

fn read_issuer(text: &str) -> Result<Issuer, String> {
    let (issuer, url) = text
        .split_once(' ')
        .ok_or_else(|| format!("{text:?} is not an issuer, a space and the URL of its key set"))?;
    Ok(Issuer { issuer: issuer.to_owned(), url: url.trim().to_owned() })
}

mod namespace;

pub(crate) use namespace::NAMESPACE;

/// All options but those of namespaces, in the order of the reference page.
pub(crate) const DEFINITIONS: &[Definition<Options>] = &[
    Definition {
        path: "server.listen",
        live: Live::AfterRestart,
        doc: "Where to listen. In dev mode only a loopback address is accepted. Port 0 lets the system choose.",
        field: Field::Text {
            form: "an address such as `127.0.0.1:8000`",
            set: |options, text| {
                let address = text.parse();
                options.listen = address
                    .map_err(|_| format!("{text:?} is not an address; write it like 127.0.0.1:8000"))?;
                Ok(())
            },
            show: |options| options.listen.to_string(),
        },
    },
    choice!(AfterRestart "server.dev", "`true` or `false`", mode,
        "Dev mode: everything is open, to programs on this machine only. It is `true` without a configuration file and `auth` options, else `false`: then nothing is open to anybody without a token or API key."),
    number!(AfterRestart "server.shards", Count 1..=ShardSet::MAX as u64, shards,
        "Threads that serve clients. The default is one per core."),
    parsed_list!(AtOnce "server.allow_origin", "origins such as `https://app.example`", allowed_origins,
        "Origins of foreign pages that may connect. Pages of this server always may."),
    parsed_list!(AtOnce "server.trusted_proxies", "IP addresses", trusted_proxies,
        "Proxies in front of this server. They are not counted as clients; the client's address is the last one in `X-Forwarded-For` that is not one of them."),
    number!(AtOnce "server.connections_max", Count 1..=10_000_000, connections.node,
        "Connections at once, and never more than the process has file descriptors for. Others are answered 503."),
    number!(AtOnce "server.connections_per_address_max", Count 1..=10_000_000, connections.per_address,
        "Connections from one address at once; of IPv6 the first 64 bits count. Others are answered 429."),
    number!(AtOnce "server.connections_per_address_per_second", Count 1..=1_000_000, connections.per_address_rate.per_second,
        "New connections from one address per second in the long run."),
    number!(AtOnce "server.connections_per_address_burst", Count 1..=1_000_000, connections.per_address_rate.burst,
        "New connections from one address at once."),
    number!(AtOnce "server.clients_per_second", Count 1..=1_000_000, connections.clients.per_second,
        "Clients let in per second in the long run. Others are answered 503 and told when to come back; the last quarter of the burst is kept for those who say that they come back."),
    number!(AtOnce "server.clients_burst", Count 4..=10_000_000, connections.clients.burst,
        "Clients let in at once."),
    number!(AfterRestart "socket.backlog", Count 128..=65_535, sockets.backlog,
        "Connections the kernel holds until they are accepted. The kernel caps it (`net.core.somaxconn`)."),
    number!(AfterRestart "socket.send_buffer_bytes", Bytes 4_096..=16_777_216, sockets.send_buffer_bytes,
        "Kernel send buffer of a connection. Less makes slow clients show sooner and cost less; more helps fast clients far away."),
    number!(AfterRestart "socket.unsent_bytes_max", Bytes 1_024..=16_777_216, sockets.unsent_bytes,
        "Bytes the kernel takes of a connection before it has sent them. Less makes what slow clients get newer. Linux only."),
    number!(AfterRestart "socket.user_timeout", Time 1_000..=600_000, sockets.user_timeout,
        "How long sent data may stay unacknowledged until the connection counts as dead. Linux only."),
    number!(AtOnce "http.head_timeout", Time 100..=300_000, timeouts.head,
        "How long a client may take to send the head of a request, or the next request on an idle connection."),
    number!(AtOnce "http.body_timeout", Time 100..=300_000, timeouts.body,
        "How long a client may take to send the body of a request."),
    number!(AtOnce "websocket.message_bytes_max", Bytes 1_024..=67_108_864, websocket.message_bytes,
        "Longest message a client may send, and longest body of an HTTP request. A message that is still arriving holds as much memory."),
    number!(AtOnce "websocket.fragments_max", Count 1..=10_000_000, websocket.fragments,
        "Most fragments a message may come in."),
    number!(AtOnce "websocket.control_frames_max", Count 1..=10_000, websocket.control_frames,
        "Most pings and pongs a client may send per second."),
    number!(AtOnce "websocket.inflated_bytes_per_second", Bytes 1_048_576..=4_294_967_295, inflated_bytes_per_second,
        "Payload bytes per second that a client with compression may send, after inflating: small input can mean much work."),
    number!(AtOnce "websocket.message_timeout", Time 100..=600_000, timeouts.message,
        "How long a message may stay unfinished."),
    number!(AtOnce "client.first_message_bytes_max", Bytes 1_024..=67_108_864, first_message_bytes,
        "Longest message of a client that is not connected yet. It must hold a token."),
    number!(AtOnce "client.subscriptions_max", Count 1..=100_000, settings.subscriptions,
        "Channels one client may be subscribed to."),
    number!(AtOnce "client.connections_per_user_max", Count 1..=1_000_000, settings.connections_per_user,
        "Connections one user may have to this node."),
    number!(AtOnce "client.in_flight_max", Count 1..=100_000, settings.in_flight,
        "Commands of one client that may be under way at once."),
    number!(AtOnce "client.messages_per_second", Count 1..=10_000_000, settings.messages.per_second,
        "Messages one client may send per second in the long run."),
    number!(AtOnce "client.messages_burst", Count 1..=10_000_000, settings.messages.burst,
        "Messages one client may send at once."),
    number!(AtOnce "client.outbox_bytes_max", Bytes 65_536..=1_073_741_824, settings.outbox_bytes,
        "Bytes that may wait for one client before it is disconnected as slow."),
    number!(AtOnce "client.outboxes_bytes_max", Bytes 1_048_576..=1_099_511_627_776, settings.outboxes_bytes,
        "Bytes that may wait for all clients together. Beyond it, those with most waiting are disconnected, until half of it is left."),
    number!(AtOnce "client.heartbeat", Time 100..=300_000, settings.heartbeat_ms,
        "Silence after which a client is pinged. NATs and proxies forget idle connections after 30 s or more."),
    number!(AtOnce "client.pong_timeout", Time 100..=300_000, settings.pong_ms,
        "How long a pinged client may stay silent."),
    number!(AtOnce "client.stall_timeout", Time 500..=300_000, settings.stall_ms,
        "How long a client's network may take nothing of what waits for it, before it is disconnected as slow, however little that is."),
    number!(AtOnce "client.connect_timeout", Time 100..=300_000, settings.connect_ms,
        "How long a client may take to say `connect`."),
    number!(AtOnce "client.close_timeout", Time 100..=60_000, settings.close_ms,
        "How long a closed connection may take to take its leave."),
    number!(AtOnce "client.expiry_grace", Time 0..=3_600_000, settings.expiry_grace_ms,
        "How long a client whose token has expired may take to show a new one."),
    number!(AtOnce "client.call_timeout", Time 100..=60_000, settings.call_ms,
        "How long the backend may take to answer a call."),
    number!(AtOnce "client.position_check", Time 1_000..=40_000, settings.position_check_ms,
        "How often it is checked that the subscribers of each channel have got everything."),
    number!(AtOnce "session.linger", Time 1_000..=3_600_000, settings.linger_ms,
        "How long a session that any transport may carry waits for one, and what is published waits with it, see docs/protocol.md."),
    number!(AtOnce "session.retained_bytes_max", Bytes 4_096..=16_777_216, retained_bytes,
        "Frames of such a session that were sent and may not have arrived. Beyond it, older ones are forgotten, but for one; a client that asks for them must open another session."),
    choice!(AtOnce "socketio.version_2", "`true` or `false`", socketio.version_2,
        "Whether clients of Socket.IO 2 and 1 (Engine.IO 3) are let in, see docs/socketio.md. Others connect either way."),
    choice!(AtOnce "socketio.recovery", "`true` or `false`", socketio.recovery,
        "Whether clients of Socket.IO that lost their connection come back to their channels and get what they missed (connection state recovery). It shows: every event has one more argument, its offset."),
    number!(AtOnce "socketio.recovery_ttl", Time 1_000..=3_600_000, socketio.recovery_ttl,
        "How long such a client may stay away. Its channels must keep as much in `history.size` and `history.ttl`."),
    parsed_list!(AtOnce "signalr.hubs", "paths such as `/signalr`, or `/chathub=chat` for the channels of the namespace `chat`", hubs,
        "Where clients of SignalR connect. At a path with a namespace, channels have their names without it, see docs/signalr.md."),
    number!(AtOnce "presence.members_max", Count 1..=100_000, settings.members_listed,
        "Members listed in an answer about presence. The counts are always of all."),
    Definition {
        path: "broker.url",
        live: Live::AfterRestart,
        doc: "What carries publications between nodes and keeps history and presence. `memory` is for a single node and needs nothing. Nodes with the same Redis (6 or later, or Valkey) or NATS (2.9 or later, with JetStream) are one cluster, see docs/brokers.md.",
        field: Field::Secret {
            form: "`memory`, `redis://HOST:PORT/DB`, `redis+sentinel://HOST:PORT,HOST:PORT/MASTER` `redis+cluster://HOST:PORT,HOST:PORT` or `nats://HOST:PORT,HOST:PORT`; a user and password as `USER:PASSWORD@` before the first host",
            set: |options, text| {
                options.broker.place = BrokerPlace::parse(text)?;
                Ok(())
            },
            bytes: |options| options.broker.place.url().as_bytes().to_vec(),
        },
    },
    Definition {
        path: "broker.prefix",
        live: Live::AfterRestart,
        doc: "What everything begins with that is kept in the broker: another for each application that shares it.",
        field: Field::Text {
            form: "1 to 64 letters, digits, `-`, `_` or `.`",
            set: |options, text| {
                options.broker.prefix = prefix(text)?;
                Ok(())
            },
            show: |options| options.broker.prefix.clone(),
        },
    },
    choice!(AfterRestart "broker.nats_storage", "`file` or `memory`", broker.nats.medium,
        "What JetStream stores what is published on. With `memory` history ends with the NATS server."),
    number!(AfterRestart "broker.nats_replicas", Count 1..=5, broker.nats.replicas,
        "On how many servers of a NATS cluster what is published is stored."),
    choice!(AfterRestart "broker.at_start", "`wait` or `exit`", broker.at_start,
        "What happens when the broker cannot be reached at the start: with `wait` the server listens, `/readyz` says 503, and it goes on when the broker is there; with `exit` it does not start."),
    number!(AfterRestart "history.bytes_max", Bytes 1_048_576..=1_099_511_627_776, capacity.bytes,
        "Memory of all histories together. Beyond it, what would be the first to expire goes first."),
    number!(AfterRestart "history.channels_max", Count 1..=1_000_000_000, capacity.channels,
        "Channels with subscribers, history or presence. Beyond it, publishing and subscribing to a new one is refused."),
    number!(AfterRestart "shard.inbox_bytes_max", Bytes 1_048_576..=1_099_511_627_776, settings.inbox_bytes,
        "Publications that may wait for one shard. Beyond it its subscribers are told to reconnect and recover."),
    secret!(AtOnce "auth.hmac_secret", auth.hmac_secret,
        "Secret with which your backend signs tokens (HS256, HS384, HS512). Whoever knows it can be anybody. `duplex token` makes a token with it."),
    Definition {
        path: "auth.public_keys",
        live: Live::AtOnce,
        doc: "Files with the public keys that tokens may be signed with, in PEM: RSA (RS256 to PS512), EC P-256 and P-384 (ES256, ES384), Ed25519 (EdDSA).",
        field: Field::Text {
            form: "paths",
            set: |options, text| {
                options.auth.public_keys = list(text, |part| Ok(part.into()))?;
                Ok(())
            },
            show: |options| joined(options.auth.public_keys.iter().map(|path| path.display())),
        },
    },
    Definition {
        path: "auth.jwks",
        live: Live::AtOnce,
        doc: "Issuers whose key sets are fetched: the `iss` of their tokens, a space, and the `https` URL of the key set. Keys of one are never used for tokens of another.",
        field: Field::Text {
            form: "issuers such as `https://id.example https://id.example/jwks.json`",
            set: |options, text| {
                options.auth.jwks = list(text, read_issuer)?;
                Ok(())
            },
            show: |options| {
                joined(options.auth.jwks.iter().map(|issuer| format!("{} {}", issuer.issuer, issuer.url)))
            },
        },
    },
    text!(AtOnce "auth.issuer", "a text", auth.issuer, "The `iss` that every token must have."),
    text!(AtOnce "auth.audience", "a text", auth.audience, "What the `aud` of every token must contain."),
    choice!(AtOnce "auth.require_expiry", "`true` or `false`", auth.expiry,
        "Whether every token must have an `exp`. What never ends can only be revoked."),
    choice!(AtOnce "auth.anonymous", "`true` or `false`", auth.anonymous,
        "Whether clients may connect without a token. They can do what namespaces allow `anyone`. In dev mode they always may."),
    choice!(AtOnce "auth.allow_private_addresses", "`true` or `false`", auth.private_addresses,
        "Whether key sets may come from this machine and private networks, and then also without TLS."),
    number!(AfterRestart "auth.revocation_ttl", Time 60_000..=31_536_000_000, auth.revocation_ttl,
        "How long it is remembered that a user or token was revoked: at least as long as tokens are good for."),
    Definition {
        path: "api.keys",
        live: Live::AtOnce,
        doc: "Keys with which backends may use the HTTP API, each as `name:key`. In dev mode none is needed.",
        field: Field::Secret {
            form: "names and keys of at least 16 bytes",
            set: |options, text| {
                options.auth.api_keys = list(text, |part| Ok(part.to_owned()))?;
                Ok(())
            },
            bytes: |options| options.auth.api_keys.join(",").into_bytes(),
        },
    },
    address!(AfterRestart "tls.listen", tls.listen,
        "Where clients connect by TLS (`https`, `wss`), beside `server.listen`. In dev mode only a loopback address is accepted."),
    text!(AfterRestart "tls.certificate", "a file", tls.certificate,
        "The certificate that clients are shown, and behind it those that lead to its root, in PEM. The file is read again when it changes, and at a reload; connections that are there stay. Two weeks before the certificate ends, the log warns of it."),
    text!(AfterRestart "tls.key", "a file", tls.key,
        "The private key of `tls.certificate`, in PEM."),
    address!(AfterRestart "cluster.listen", cluster.listen,
        "Where to listen for other nodes, on a network that only they reach: what they send here is proven, not encrypted. A request that comes to another node than the one that has its session is sent on to that, so a load balancer may send each request where it likes."),
    address!(AfterRestart "cluster.advertise", cluster.advertise,
        "The address at which other nodes reach this one. By default the one it listens on, which must then be one of this machine, not `0.0.0.0`."),
    secret!(AfterRestart "cluster.secret", cluster.secret,
        "What nodes know each other by; the same on all of them, and needed with `cluster.listen`. Whoever knows it can be a node. Connection tokens of SignalR are signed with a key that is made of it."),
    number!(AtOnce "drain.notice", Time 0..=600_000, drain.notice,
        "How long `/readyz` says no before the server stops listening, so that load balancers notice."),
    number!(AtOnce "drain.clients_per_second", Count 1..=10_000_000, drain.clients_per_second,
        "Clients sent away per second when the server stops; more, if the timeout would not suffice."),
    number!(AtOnce "drain.spread", Time 0..=600_000, drain.spread,
        "Over how long clients that are sent away are asked to spread when they come back."),
    number!(AtOnce "drain.timeout", Time 1_000..=3_600_000, drain.timeout,
        "How long stopping may take in all."),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::Namespace;

    #[test]
    fn each_option_is_called_by_one_name_everywhere() {
        let paths: HashSet<_> = DEFINITIONS.iter().map(|definition| definition.path).collect();
        assert_eq!(paths.len(), DEFINITIONS.len());
        let flags: Vec<_> = DEFINITIONS.iter().filter_map(Definition::flag).collect();
        assert_eq!(flags.iter().collect::<HashSet<_>>().len(), flags.len());
    }

    #[test]
    fn each_default_is_within_its_bounds_and_read_as_it_is_shown() {
        let mut options = Options::default();
        for definition in DEFINITIONS {
            let shown = definition.show(&options);
            assert_eq!(definition.set(&mut options, &shown), Ok(()), "{}", definition.path);
            assert_eq!(definition.show(&options), shown, "{}", definition.path);
        }
        let mut namespace = Namespace::default();
        for definition in NAMESPACE {
            let shown = definition.show(&namespace);
            if !shown.is_empty() {
                assert_eq!(definition.set(&mut namespace, &shown), Ok(()), "{}", definition.path);
            }
            assert_eq!(definition.show(&namespace), shown, "{}", definition.path);
        }
    }

    #[test]
    fn a_secret_is_never_shown_and_has_no_flag() {
        let mut options = Options::default();
        let secrets =
            DEFINITIONS.iter().filter(|definition| matches!(definition.field, Field::Secret { .. }));
        for definition in secrets {
            let one = match definition.path {
                "broker.url" => "redis+sentinel://name:sesame@sesame:1/sesame",
                _ => "name:sesame sesame sesame sesame sesame",
            };
            definition.set(&mut options, one).unwrap();
            let shown = definition.show(&options);
            definition.set(&mut options, &one.replace("name", "other")).unwrap();
            assert!(!shown.contains("sesame") && shown != definition.show(&options), "{}", definition.path);
            assert_eq!(definition.flag(), None);
        }
    }

    #[test]
    fn each_bound_can_be_set_and_nothing_beyond_it() {
        let mut options = Options::default();
        for definition in DEFINITIONS {
            let Field::Number { unit, min, max, .. } = definition.field else { continue };
            for (value, fits) in [
                (Some(min), true),
                (Some(max), true),
                (min.checked_sub(1), false),
                (max.checked_add(1), false),
            ] {
                let Some(value) = value else { continue };
                let set = definition.set(&mut options, &unit.show(value));
                assert_eq!(set.is_ok(), fits, "{} {value}: {set:?}", definition.path);
            }
        }
    }
}
