use std::net::SocketAddr;

use duplex_core::ShardSet;

use super::units::{Number, Unit};
use crate::{Options, Origin};

/// One option: all there is to say about it.
pub(crate) struct Definition {
    /// `section.key`, as in the file.
    pub path: &'static str,
    /// What it means, and its price.
    pub doc: &'static str,
    /// Where it is kept, and what it may be.
    pub field: Field,
}

/// Where an option is kept, and what it may be.
pub(crate) enum Field {
    Number { unit: Unit, min: u64, max: u64, at: fn(&mut Options) -> &mut dyn Number },
    Address(fn(&mut Options) -> &mut SocketAddr),
    Origins(fn(&mut Options) -> &mut Vec<Origin>),
}

impl Definition {
    /// The environment variable that sets it: `DUPLEX_SECTION__KEY`.
    pub fn variable(&self) -> String {
        format!("DUPLEX_{}", self.path.replace('.', "__").to_ascii_uppercase())
    }

    /// The flag that sets it, without the dashes: the path, but for `server.`.
    pub fn flag(&self) -> String {
        self.path.trim_start_matches("server.").replace(['.', '_'], "-")
    }

    /// Sets it from text, or says what is wrong. Lists are separated by commas.
    pub fn set(&self, options: &mut Options, text: &str) -> Result<(), String> {
        match &self.field {
            Field::Number { unit, min, max, at } => {
                let value = unit.parse(text).map_err(|problem| format!("{text:?} {problem}"))?;
                let (shown, low, high) = (unit.show(value), unit.show(*min), unit.show(*max));
                match value {
                    _ if value < *min => return Err(format!("{shown} is below the minimum {low}")),
                    _ if value > *max => return Err(format!("{shown} is above the maximum {high}")),
                    _ => at(options).store(value),
                }
            }
            Field::Address(at) => {
                let address = text.parse();
                *at(options) = address
                    .map_err(|_| format!("{text:?} is not an address; write it like 127.0.0.1:8000"))?;
            }
            Field::Origins(at) => {
                let origins =
                    text.split(',').map(str::trim).filter(|origin| !origin.is_empty()).map(str::parse);
                *at(options) = origins
                    .collect::<Result<_, _>>()
                    .map_err(|error: crate::OriginError| error.to_string())?;
            }
        }
        Ok(())
    }

    /// Its value as text that [`set`](Self::set) reads.
    pub fn show(&self, options: &Options) -> String {
        let options = &mut options.clone();
        match &self.field {
            Field::Number { unit, at, .. } => unit.show(at(options).load()),
            Field::Address(at) => at(options).to_string(),
            Field::Origins(at) => at(options).iter().map(Origin::to_string).collect::<Vec<_>>().join(","),
        }
    }
}

macro_rules! number {
    ($path:literal, $unit:ident $min:literal ..= $max:expr, $($field:ident).+, $doc:literal) => {
        Definition {
            path: $path,
            doc: $doc,
            field: Field::Number { unit: Unit::$unit, min: $min, max: $max, at: |options| &mut options.$($field).+ },
        }
    };
}

/// All options, in the order of the reference page.
pub(crate) const DEFINITIONS: &[Definition] = &[
    Definition {
        path: "server.listen",
        doc: "Where to listen. Without authentication only a loopback address is accepted. Port 0 lets the system choose.",
        field: Field::Address(|options| &mut options.listen),
    },
    number!("server.shards", Count 1..=ShardSet::MAX as u64, shards,
        "Threads that serve clients. The default is one per core."),
    Definition {
        path: "server.allow_origin",
        doc: "Origins of foreign pages that may connect, such as `https://app.example`. Pages of this server always may.",
        field: Field::Origins(|options| &mut options.allowed_origins),
    },
    number!("socket.backlog", Count 128..=65_535, sockets.backlog,
        "Connections the kernel holds until they are accepted. The kernel caps it (`net.core.somaxconn`)."),
    number!("socket.send_buffer_bytes", Bytes 4_096..=16_777_216, sockets.send_buffer_bytes,
        "Kernel send buffer of a connection. Less makes slow clients show sooner and cost less; more helps fast clients far away."),
    number!("socket.user_timeout", Time 1_000..=600_000, sockets.user_timeout,
        "How long sent data may stay unacknowledged until the connection counts as dead. Linux only."),
    number!("http.head_timeout", Time 100..=300_000, timeouts.head,
        "How long a client may take to send the head of a request, or the next request on an idle connection."),
    number!("http.body_timeout", Time 100..=300_000, timeouts.body,
        "How long a client may take to send the body of a request."),
    number!("websocket.message_bytes_max", Bytes 1_024..=67_108_864, websocket.message_bytes,
        "Longest message a client may send, and longest body of an HTTP request. A message that is still arriving holds as much memory."),
    number!("websocket.fragments_max", Count 1..=10_000_000, websocket.fragments,
        "Most fragments a message may come in."),
    number!("websocket.control_frames_max", Count 1..=10_000, websocket.control_frames,
        "Most pings and pongs a client may send per second."),
    number!("websocket.inflated_bytes_per_second", Bytes 1_048_576..=4_294_967_295, inflated_bytes_per_second,
        "Payload bytes per second that a client with compression may send, after inflating: small input can mean much work."),
    number!("websocket.message_timeout", Time 100..=600_000, timeouts.message,
        "How long a message may stay unfinished."),
    number!("client.subscriptions_max", Count 1..=100_000, settings.subscriptions,
        "Channels one client may be subscribed to."),
    number!("client.messages_per_second", Count 1..=10_000_000, settings.messages.per_second,
        "Messages one client may send per second in the long run."),
    number!("client.messages_burst", Count 1..=10_000_000, settings.messages.burst,
        "Messages one client may send at once."),
    number!("client.outbox_bytes_max", Bytes 65_536..=1_073_741_824, settings.outbox_bytes,
        "Bytes that may wait for one client before it is disconnected as slow."),
    number!("client.heartbeat", Time 100..=300_000, settings.heartbeat_ms,
        "Silence after which a client is pinged. NATs and proxies forget idle connections after 30 s or more."),
    number!("client.pong_timeout", Time 100..=300_000, settings.pong_ms,
        "How long a pinged client may stay silent."),
    number!("client.connect_timeout", Time 100..=300_000, settings.connect_ms,
        "How long a client may take to say `connect`."),
    number!("client.close_timeout", Time 100..=60_000, settings.close_ms,
        "How long a closed connection may take to take its leave."),
    number!("history.publications_max", Count 1..=1_000_000, retention.publications,
        "Publications kept per channel."),
    number!("history.ttl", Time 1_000..=31_536_000_000, retention.ttl_ms,
        "How long after its last publication a channel's history is kept."),
    number!("history.bytes_max", Bytes 1_048_576..=1_099_511_627_776, retention.bytes,
        "Memory of all histories together. Beyond it, what was published the longest ago goes first."),
    number!("history.channels_max", Count 1..=1_000_000_000, retention.channels,
        "Channels with subscribers or history. Beyond it, publishing and subscribing to a new one is refused."),
    number!("shard.inbox_bytes_max", Bytes 1_048_576..=1_099_511_627_776, settings.inbox_bytes,
        "Publications that may wait for one shard. Beyond it its subscribers are told to reconnect and recover."),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_option_is_called_by_one_name_everywhere() {
        let paths: HashSet<_> = DEFINITIONS.iter().map(|definition| definition.path).collect();
        let flags: HashSet<_> = DEFINITIONS.iter().map(Definition::flag).collect();
        assert_eq!((paths.len(), flags.len()), (DEFINITIONS.len(), DEFINITIONS.len()));
    }

    #[test]
    fn each_default_is_within_its_bounds_and_read_as_it_is_shown() {
        let mut options = Options::default();
        for definition in DEFINITIONS {
            let shown = definition.show(&options);
            assert_eq!(definition.set(&mut options, &shown), Ok(()), "{}", definition.path);
            assert_eq!(definition.show(&options), shown, "{}", definition.path);
        }
    }

    #[test]
    fn each_bound_can_be_set_and_nothing_beyond_it() {
        let mut options = Options::default();
        for definition in DEFINITIONS {
            let Field::Number { unit, min, max, .. } = definition.field else { continue };
            for (value, fits) in [(min, true), (max, true), (min - 1, false), (max + 1, false)] {
                let set = definition.set(&mut options, &unit.show(value));
                assert_eq!(set.is_ok(), fits, "{} {value}: {set:?}", definition.path);
            }
        }
    }
}
