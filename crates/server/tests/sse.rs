//! Server-Sent Events as an `EventSource` sees them, and HTTP for pages of other origins.

mod support;

use duplex::{Options, Settings};
use duplex_transport::SocketOptions;
use serde_json::{Value, json};

use support::http::{Events, Response, publish, request, say};
use support::native::{Client, offset};
use support::wire::Wire;
use support::{Levels, PATIENCE, Running, options, start};

const GONE: Levels = Levels::of(0, 0);

#[test]
fn the_stream_is_what_the_documentation_says_to_the_byte() {
    let server = start(options());
    let mut events = Events::open(server.address, "/sse?channels=news", "");
    assert_eq!(events.next().as_deref(), Some("retry: 2000\n\n"));
    let subscribed = events.next().expect("an event");
    let epoch = subscribed.split('"').nth(7).expect("an epoch").to_owned();
    assert_eq!(
        subscribed,
        format!("event: $subscribed\ndata: {{\"channel\":\"news\",\"epoch\":\"{epoch}\",\"offset\":0}}\n\n")
    );
    let mut expect = |body: &str, expected: &str| {
        publish(server.address, body);
        let event = events.next().expect("an event");
        let (before, rest) = event.split_once("\"time\":").expect("a time");
        let time = rest.trim_end_matches("}\n\n");
        assert!(time.parse::<u64>().is_ok() && rest.ends_with("}\n\n"), "{event}");
        assert_eq!(before, expected.replace("EPOCH", &epoch));
    };
    expect(
        r#"{"channel":"news","data":"hello"}"#,
        "id: EPOCH:1:news\ndata: {\"channel\":\"news\",\"epoch\":\"EPOCH\",\"offset\":1,\"event\":\"message\",\"data\":\"hello\",",
    );
    expect(
        r#"{"channel":"news","event":"headline","args":[1,2],"tags":{"a":"b"}}"#,
        "id: EPOCH:2:news\nevent: headline\ndata: {\"channel\":\"news\",\"epoch\":\"EPOCH\",\"offset\":2,\
         \"event\":\"headline\",\"args\":[1,2],\"tags\":{\"a\":\"b\"},",
    );
    // A payload is passed on as it was written; a line break in it must not end the event.
    expect(
        "{\"channel\":\"news\",\"data\":{\"a\":\r\n\n1}}",
        "id: EPOCH:3:news\ndata: {\"channel\":\"news\",\"epoch\":\"EPOCH\",\"offset\":3,\"event\":\"message\",\
         \"data\":{\"a\":\ndata: \ndata: \ndata: 1},",
    );
}

#[test]
fn proxies_are_told_to_pass_everything_on_at_once() {
    let server = start(options());
    let events = Events::open(server.address, "/sse?channels=news", "");
    assert_eq!(events.head.status, 200);
    for (name, value) in [
        ("content-type", Some("text/event-stream")),
        ("cache-control", Some("no-store, no-transform")),
        ("x-accel-buffering", Some("no")),
        ("x-content-type-options", Some("nosniff")),
        ("transfer-encoding", None),
        ("content-length", None),
        ("connection", Some("close")),
        ("content-encoding", None),
        ("access-control-allow-origin", None),
    ] {
        assert_eq!(events.head.header(name), value, "{name}");
    }
}

#[test]
fn several_channels_come_in_one_stream() {
    let server = start(options());
    let mut events = Events::open(server.address, "/sse?channels=a,b%2Cc", "");
    assert_eq!(events.subscribed()["channel"], "a");
    assert_eq!(events.data("$subscribed")["channel"], "b,c");
    for channel in ["b,c", "a"] {
        say(server.address, channel, "hello");
        assert_eq!(events.data("message")["channel"], channel);
    }
}

/// Opens a stream of `news` and `other` that comes back with `id`.
fn come_back(server: &Running, id: &str) -> (Events, [Value; 2]) {
    let headers = format!("Last-Event-ID: {id}\r\n");
    let mut events = Events::open(server.address, "/sse?channels=other,news", &headers);
    assert_eq!(events.next().as_deref(), Some("retry: 2000\n\n"));
    let other = events.data("$subscribed");
    let news = events.data("$subscribed");
    assert_eq!([&other["channel"], &news["channel"]], ["other", "news"]);
    let recovered = [other["recovered"].clone(), news["recovered"].clone()];
    (events, recovered)
}

#[test]
fn an_event_source_that_comes_back_gets_what_it_missed() {
    let server = start(options());
    let mut events = Events::open(server.address, "/sse?channels=news", "");
    events.subscribed();
    say(server.address, "news", "seen");
    let seen = events.next().expect("an event");
    let id = seen.lines().find_map(|line| line.strip_prefix("id: ")).expect("an id").to_owned();
    drop(events);
    (0..10).for_each(|n| drop(say(server.address, "news", &n.to_string())));
    say(server.address, "other", "not seen");
    let (mut events, recovered) = come_back(&server, &id);
    assert_eq!(
        recovered,
        [json!(false), json!(true)],
        "the channel of the id is recovered, the other starts fresh"
    );
    for n in 0..10 {
        let publication = events.data("message");
        assert_eq!((offset(&publication), &publication["data"]), (n + 2, &json!(n.to_string())));
    }
    say(server.address, "other", "live");
    assert_eq!(events.data("message")["data"], "live");
}

#[test]
fn a_forged_id_recovers_nothing_and_harms_nobody() {
    let server = start(options());
    let position = say(server.address, "news", "1");
    let epoch = position["epoch"].as_str().expect("an epoch");
    let forged = [
        String::new(),
        "nonsense".to_owned(),
        "abc:1:news".to_owned(),
        format!("{epoch}:2:news"),
        format!("{epoch}:18446744073709551616:news"),
        format!("{epoch}:-1:news"),
        format!("{epoch}:0:"),
        format!("{epoch}:0:elsewhere"),
        format!("{epoch}:0:{}", "x".repeat(8_000)),
        format!("{epoch}:0:news\u{e9}"),
    ];
    for id in forged {
        let (mut events, recovered) = come_back(&server, &id);
        assert_eq!(recovered, [json!(false), json!(false)], "{id:.40}");
        let said = say(server.address, "other", "live");
        assert_eq!(offset(&events.data("message")), offset(&said), "{id:.40}");
    }
    let long = format!("GET /sse?channels=a HTTP/1.1\r\nLast-Event-ID: {}", "1".repeat(1 << 20));
    let mut wire = Wire::connect(server.address);
    wire.send(long.as_bytes());
    assert!(wire.response().is_none_or(|response| response.status == 431));
    drop(wire);
    server.settle(GONE);
}

#[test]
fn a_reader_that_leaves_leaves_nothing() {
    let server = start(options());
    for _ in 0..20 {
        let mut events = Events::open(server.address, "/sse?channels=a,b", "");
        events.subscribed();
    }
    server.settle(GONE);
}

#[test]
fn a_silent_stream_is_kept_alive_by_comments() {
    let settings = Settings { heartbeat_ms: 200, pong_ms: 200, connect_ms: 200, ..options().settings };
    let server = start(Options { settings, ..options() });
    let mut events = Events::open(server.address, "/sse?channels=news", "");
    events.subscribed();
    (0..5).for_each(|_| assert_eq!(events.next().as_deref(), Some(":\n\n")));
    say(server.address, "news", "still here");
    let block = std::iter::from_fn(|| events.next()).find(|block| block != ":\n\n").expect("an event");
    assert!(block.contains("still here"), "{block}");
}

#[test]
fn a_reader_that_stops_reading_is_dropped() {
    let settings = Settings { outbox_bytes: 64 << 10, close_ms: 500, ..options().settings };
    // The server's own patience must end it, not that of the system.
    let sockets =
        SocketOptions { send_buffer_bytes: 16 << 10, user_timeout: PATIENCE * 10, ..Default::default() };
    let server = start(Options { settings, sockets, ..options() });
    let mut wire = Wire::connect_narrow(server.address);
    wire.send(b"GET /sse?channels=flood HTTP/1.1\r\nHost: localhost\r\n\r\n");
    support::eventually(|| "a subscription".to_owned(), || server.gauges().subscriptions() == 1);
    let long = "x".repeat(8_000);
    support::eventually(
        || format!("the reader is dropped, {:?}", server.levels()),
        || {
            say(server.address, "flood", &long);
            server.gauges().subscriptions() == 0
        },
    );
    server.settle(GONE);
}

#[test]
fn a_stream_needs_channels_that_can_be() {
    let server = start(options());
    for target in ["/sse", "/sse?channel=a", "/sse?channels=", "/sse?channels=%0A", "/sse?channels=%ff"] {
        let response = request(server.address, &format!("GET {target} HTTP/1.1"), "");
        assert_eq!(response.status, 400, "{target}");
        assert!(response.body.starts_with("channels: "), "{target}: {}", response.body);
    }
    let response = request(server.address, "POST /sse?channels=a HTTP/1.1", "");
    assert_eq!((response.status, response.header("allow")), (405, Some("GET")));
}

#[test]
fn a_page_of_an_allowed_origin_may_read_and_publish_and_no_other_page_may() {
    let allowed_origins = vec!["https://ok.example".parse().expect("an origin")];
    let server = start(Options { allowed_origins, ..options() });
    let from = |method: &str, target: &str, origin: &str, body: &str| -> Response {
        request(server.address, &format!("{method} {target} HTTP/1.1\r\nOrigin: {origin}"), body)
    };
    let cors = |response: &Response| {
        let header = |name| response.header(name).map(str::to_owned);
        (response.status, header("access-control-allow-origin"), header("vary"))
    };
    let readable = |status: u16| (status, Some("https://ok.example".to_owned()), Some("origin".to_owned()));
    let events = Events::open(server.address, "/sse?channels=a", "Origin: https://ok.example\r\n");
    assert_eq!(cors(&events.head), readable(200));
    let good = r#"{"channel":"a","data":1}"#;
    let publishing = "/api/v1/publish";
    assert_eq!(cors(&from("POST", publishing, "https://ok.example", good)), readable(200));
    assert_eq!(
        cors(&from("POST", publishing, "https://ok.example", "{}")),
        readable(400),
        "errors can be read too"
    );
    assert_eq!(cors(&from("GET", "/nowhere", "https://ok.example", "")), readable(404));
    for (method, target, body) in
        [("GET", "/sse?channels=a", ""), ("POST", publishing, good), ("OPTIONS", publishing, "")]
    {
        for origin in ["https://evil.example", "null", "https://ok.example.evil"] {
            assert_eq!(
                cors(&from(method, target, origin, body)),
                (403, None, None),
                "{method} {target} {origin}"
            );
        }
    }
    let preflight = from("OPTIONS", publishing, "https://ok.example", "");
    assert_eq!(cors(&preflight), readable(204));
    assert_eq!(preflight.header("access-control-allow-methods"), Some("POST"));
    assert_eq!(preflight.header("access-control-allow-headers"), Some("content-type, authorization"));
    assert_eq!(preflight.header("access-control-allow-credentials"), None);
}

#[test]
fn an_event_source_hears_who_joins_and_leaves() {
    let mut options = options();
    for namespace in options.namespaces.values_mut() {
        namespace.attendance = Some(duplex::Visibility::Announced);
    }
    let server = start(options);
    let mut events = Events::open(server.address, "/sse?channels=room", "");
    events.subscribed();
    let itself = events.data("$joined");
    let (client, _) = Client::subscribe(server.address, "room");
    let joined = events.data("$joined");
    assert_ne!(joined["client"], itself["client"]);
    client.leave();
    assert_eq!(events.data("$left")["client"], joined["client"]);
}
