use duplex_core::Rate;

use super::{Choice, Definition, Field, Live, Unit, optional, show_optional, shown};
use crate::Namespace;

/// The options of a namespace, in the order of the reference page.
pub(crate) const NAMESPACE: &[Definition<Namespace>] = &[
    number!(AtOnce "history.size", Count 0..=1_000_000, policy.retention.publications,
        "Publications kept per channel. With 0 none is kept, and only clients that missed nothing recover."),
    number!(AtOnce "history.ttl", Time 1_000..=31_536_000_000, policy.retention.ttl_ms,
        "How long after its last publication a channel's history is kept."),
    choice!(AtOnce "recovery", "`stream`, `cache` or `off`", policy.recovery,
        "What a client gets that comes back: with `stream` all that it missed or the news that it cannot have it; with `cache` the newest publication, also when it subscribes for the first time; with `off` nothing."),
    mode_choice!(
        "presence",
        "`off`, `on` or `announced`",
        attendance,
        "Whether it is known who is subscribed. With `announced` each subscriber is told who joins and leaves. In dev mode `on`, else `off`."
    ),
    mode_choice!(
        "allow.subscribe",
        "`backend`, `token`, `user` or `anyone`",
        subscribe,
        "Who may subscribe: `token`: clients whose token allows it; `user`: also every client with a token; `anyone`: also anonymous clients. In dev mode `anyone`, else `token`."
    ),
    mode_choice!(
        "allow.publish",
        "`backend`, `token`, `subscriber`, `user` or `anyone`",
        publish,
        "Who may publish. `backend`: only through the HTTP API; `subscriber`: also those who are subscribed. In dev mode `anyone`, else `token`."
    ),
    mode_choice!(
        "allow.presence",
        "`backend`, `token`, `subscriber`, `user` or `anyone`",
        presence,
        "Who may ask who is subscribed. In dev mode `anyone`, else `token`."
    ),
    mode_choice!(
        "allow.history",
        "`backend`, `token`, `subscriber`, `user` or `anyone`",
        history,
        "Who may read history. To recover, a client needs only to be allowed to subscribe. In dev mode `anyone`, else `token`."
    ),
    choice!(AtOnce "user_limited", "`true` or `false`", policy.user_limited,
        "Whether the part of a name behind `#` lists the only users who may do anything in the channel: `dm:#alice,bob` is for alice and bob, who then need no further permission."),
    text!(AtOnce "pattern", "a regular expression", pattern,
        "What the whole name of a channel must look like."),
    text!(AtOnce "schema", "a path", schema,
        "File with a JSON Schema that every payload must satisfy. It must not refer to other files or addresses."),
    number!(AtOnce "payload_bytes_max", Bytes 1..=67_108_864, policy.payload_bytes,
        "Longest payload."),
    choice!(AtOnce "overload.policy", "`disconnect`, `drop_oldest` or `latest`", slow,
        "What happens to a subscriber that reads more slowly than is published: `disconnect`: it comes back and recovers; `drop_oldest`: it misses the oldest of what waits for it; `latest`: it gets the newest publication, or the newest for each value of `overload.key`."),
    text!(AtOnce "overload.key", "the name of a tag", key,
        "With `latest`: the tag that tells publications apart, such as `symbol` in a ticker."),
    optional_rate!(
        "overload.deliveries_per_second",
        policy.deliveries,
        "Publications a subscriber gets per second; the others are thinned out as by `overload.policy`, which must not be `disconnect`."
    ),
    optional_rate!(
        "publications_per_second",
        policy.publications,
        "Publications one client may publish per second in this namespace."
    ),
    choice!(AtOnce "deflate", "`true` or `false`", policy.deflate,
        "Whether publications are compressed for clients that take it. Compressing costs the server once per publication; not compressing is right for what is random or compressed already."),
];
