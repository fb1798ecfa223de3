//! The native protocol from end to end, spoken by an independent implementation of WebSocket.

mod support;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use duplex::{Options, Settings};
use duplex_transport::SocketOptions;
use duplex_websocket::handshake::{ClientHandshake, ClientRequest};
use duplex_websocket::{Compression, Decoder, Event, Inflater, Limits, Opcode, Role};
use serde_json::{Value, json};

use support::frames::Incoming;
use support::http::{self, Events, say};
use support::native::{Client, Ending, offset, since};
use support::neighbour::Neighbour;
use support::wire::{Fill, Wire};
use support::{Levels, eventually, keeping, options, start};

fn publish(channel: &str, data: &str) -> Value {
    json!({ "id": 3, "publish": { "channel": channel, "data": data } })
}

#[test]
fn two_clients_chat_and_both_see_the_same_order() {
    let server = start(options());
    let (mut alice, _) = Client::subscribe(server.address, "chat");
    let (mut bob, _) = Client::subscribe(server.address, "chat");
    for n in 0..20 {
        let speaker = if n % 2 == 0 { &mut alice } else { &mut bob };
        speaker.send(&publish("chat", &format!("line {n}")));
        // The speaker sees its own publication and the answer, in either order.
        let mut frames = [speaker.next(), speaker.next()];
        frames.sort_by_key(|frame| frame["id"].is_null());
        assert_eq!(offset(&frames[0]["published"]), n + 1, "{frames:?}");
        assert_eq!(frames[1]["publication"]["data"], format!("line {n}"));
        let listener = if n % 2 == 0 { &mut bob } else { &mut alice };
        assert_eq!(listener.publication(), frames[1]["publication"], "both see the same");
    }
    alice.leave();
    bob.leave();
    server.settle(Levels::of(0, 0));
}

#[test]
fn a_publisher_may_leave_itself_out_and_nobody_else() {
    let server = start(options());
    let (mut listener, _) = Client::subscribe(server.address, "news");
    let mut speaker = Client::open(server.address, "/ws");
    let me = speaker.ask(&json!({ "id": 1, "connect": {} }))["connected"]["client"].clone();
    speaker.ask(&json!({ "id": 2, "subscribe": { "channel": "news" } }));
    let publish = |data: u8, exclude: &[&Value]| json!({ "id": 3, "publish": { "channel": "news", "data": data, "exclude": exclude } });
    assert_eq!(offset(&speaker.ask(&publish(1, &[&me]))["published"]), 1);
    let other = json!("0123456789abcdef0123456789abcdef");
    assert_eq!(speaker.ask(&publish(2, &[&other]))["error"]["code"], 103);
    assert_eq!(speaker.ask(&publish(2, &[&json!("me")]))["error"]["code"], 107);
    let backend = json!({ "channel": "news", "data": 3, "exclude": [me] }).to_string();
    assert_eq!(offset(&http::publish(server.address, &backend)), 2);
    speaker.send(&publish(4, &[]));
    let heard: Vec<Value> = (0..2).map(|_| listener.publication()["data"].clone()).collect();
    assert_eq!(heard, [json!(1), json!(3)]);
    // It sees the answer and its publication, in either order, and nothing it was left out of.
    let mut frames = [speaker.next(), speaker.next()];
    frames.sort_by_key(|frame| frame["id"].is_null());
    assert_eq!(frames[1]["publication"]["data"], 4, "{frames:?}");
}

#[test]
fn a_publication_tells_who_made_it_and_all_that_was_attached() {
    let server = start(options());
    let (mut listener, _) = Client::subscribe(server.address, "news");
    let mut speaker = Client::open(server.address, "/ws");
    let client = speaker.ask(&json!({ "id": 1, "connect": {} }))["connected"]["client"].clone();
    speaker.ask(&json!({ "id": 2, "publish": {
        "channel": "news", "event": "headline", "args": [1, "two"], "tags": { "lang": "en" } } }));
    let mut publication = listener.publication();
    assert!(publication["time"].as_u64() > Some(1_600_000_000_000), "{publication}");
    let fields = publication.as_object_mut().expect("an object");
    fields.remove("time");
    let epoch = fields.remove("epoch").expect("an epoch");
    assert!(epoch.is_string());
    let expected = json!({ "channel": "news", "offset": 1, "event": "headline", "args": [1, "two"],
        "tags": { "lang": "en" }, "client": client });
    assert_eq!(publication, expected);
    http::publish(server.address, r#"{"channel":"news","data":null}"#);
    let publication = listener.publication();
    assert_eq!(
        [&publication["event"], &publication["data"], &publication["client"]],
        ["message".into(), Value::Null, Value::Null].each_ref()
    );
}

#[test]
fn an_address_with_channels_connects_and_subscribes() {
    let server = start(options());
    let mut client = Client::open(server.address, "/ws?channels=a,b%2Cc");
    assert_eq!(client.next()["connected"]["message_bytes_max"], 65_536);
    assert_eq!(client.next()["subscribed"]["channel"], "a");
    assert_eq!(client.next()["subscribed"]["channel"], "b,c");
    for channel in ["a", "b,c"] {
        say(server.address, channel, channel);
        assert_eq!(client.publication()["data"], channel);
    }
    let published = client.ask(&publish("elsewhere", "x"));
    assert_eq!(offset(&published["published"]), 1, "it may publish too");
}

#[test]
fn what_is_published_over_http_reaches_every_transport_at_the_same_position() {
    let server = start(options());
    let (mut client, start_at) = Client::subscribe(server.address, "news");
    let mut events = Events::open(server.address, "/sse?channels=news", "");
    assert_eq!(since(&events.subscribed()), since(&start_at));
    for n in 1..=10 {
        let published = say(server.address, "news", &n.to_string());
        assert_eq!(offset(&published), n);
        let publication = client.publication();
        assert_eq!(since(&publication), since(&published));
        assert_eq!(events.data("message"), publication);
    }
}

#[test]
fn nothing_follows_an_unsubscription() {
    let server = start(options());
    let (mut client, _) = Client::subscribe(server.address, "news");
    say(server.address, "news", "before");
    assert_eq!(client.publication()["data"], "before");
    let answer = client.ask(&json!({ "id": 3, "unsubscribe": { "channel": "news" } }));
    assert_eq!(answer, json!({ "id": 3, "unsubscribed": { "channel": "news" } }));
    say(server.address, "news", "after");
    assert_eq!(client.ask(&json!({ "id": 4, "ping": {} })), json!({ "id": 4, "pong": {} }));
    server.settle(Levels::of(1, 0));
}

#[test]
fn a_returning_client_gets_all_it_missed_or_is_told_that_it_does_not() {
    let server = start(options());
    let (mut client, _) = Client::subscribe(server.address, "news");
    say(server.address, "news", "seen");
    let seen = client.publication();
    client.leave();
    (0..50).for_each(|n| drop(say(server.address, "news", &n.to_string())));
    let back = |since: &Value| {
        let mut client = Client::connect(server.address);
        let command = json!({ "id": 2, "subscribe": { "channel": "news", "since": since } });
        let answer = client.ask(&command)["subscribed"].clone();
        (client, answer)
    };
    let (mut client, answer) = back(&since(&seen));
    assert_eq!(answer["recovered"], true, "{answer}");
    for n in 0..50 {
        let publication = client.publication();
        assert_eq!(
            (offset(&publication), &publication["data"]),
            (offset(&seen) + 1 + n, &json!(n.to_string()))
        );
    }
    let (mut other, answer) = back(&json!({ "epoch": "abc", "offset": 1 }));
    assert_eq!((&answer["recovered"], offset(&answer)), (&json!(false), 51));
    say(server.address, "news", "live");
    assert_eq!(client.publication()["data"], "live");
    assert_eq!(other.publication()["data"], "live", "nothing of what was lost comes before");
}

#[test]
fn publishers_who_race_a_resubscription_leave_no_gap_and_no_double() {
    const ROUNDS: usize = 20;
    let server = start(keeping(100_000));
    let mut at = say(server.address, "race", "first");
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for publisher in 0..4 {
            let (over, address) = (&over, server.address);
            scope.spawn(move || {
                let mut client = Client::connect(address);
                while !over.load(Relaxed) {
                    client.ask(&publish("race", &publisher.to_string()));
                }
            });
        }
        // Publishers stop even when an assertion fails below.
        let _stop = Stop(&over);
        for round in 0..ROUNDS {
            let mut client = Client::connect(server.address);
            let command = json!({ "id": 2, "subscribe": { "channel": "race", "since": since(&at) } });
            let answer = client.ask(&command)["subscribed"].clone();
            assert_eq!(answer["recovered"], true, "round {round}: {answer}");
            for _ in 0..50 {
                let publication = client.publication();
                assert_eq!(offset(&publication), offset(&at) + 1, "round {round}");
                at = publication;
            }
        }
    });
}

/// Tells publishers to stop when it is dropped.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn a_client_that_does_not_read_is_closed_and_harms_nobody() {
    let settings = Settings { outbox_bytes: 64 << 10, close_ms: 10_000, ..options().settings };
    let sockets = SocketOptions { send_buffer_bytes: 16 << 10, ..SocketOptions::default() };
    let server = start(Options { settings, sockets, ..options() });
    let mut neighbour = Neighbour::join(server.address);
    let (mut healthy, _) = Client::subscribe(server.address, "flood");
    let mut slow = Wire::connect_narrow(server.address);
    slow.upgrade("/ws?channels=flood", "");
    eventually(|| "three subscriptions".to_owned(), || server.gauges().subscriptions() == 3);
    let long = "x".repeat(8_000);
    let mut said = 0;
    eventually(
        || "the slow client is closed".to_owned(),
        || {
            said += 1;
            say(server.address, "flood", &long);
            assert_eq!(offset(&healthy.publication()), said);
            server.gauges().subscriptions() == 2
        },
    );
    neighbour.check();
    slow.renew_deadline();
    let frames = slow.until_end();
    // The close frame arrives if the kernel could still take it.
    if let Some(Incoming::Close(code, _)) = frames.last() {
        assert_eq!(*code, Some(3008), "{frames:?}");
    }
    drop(slow);
    neighbour.check();
    server.settle(Levels::of(2, 2));
}

#[test]
fn a_client_that_answers_pings_stays() {
    let settings = Settings { heartbeat_ms: 200, pong_ms: 5_000, ..options().settings };
    let server = start(Options { settings, ..options() });
    let (mut client, _) = Client::subscribe(server.address, "news");
    client.ping();
    client.ping();
    say(server.address, "news", "still here");
    assert_eq!(client.publication()["data"], "still here");
}

#[test]
fn a_server_that_stops_asks_everybody_to_come_back() {
    let server = start(options());
    let mut clients: Vec<Client> = (0..20).map(|_| Client::subscribe(server.address, "news").0).collect();
    let mut strangers: Vec<Client> = (0..5).map(|_| Client::open(server.address, "/ws")).collect();
    let mut events = Events::open(server.address, "/sse?channels=news", "");
    events.subscribed();
    let address = server.address;
    thread::scope(|scope| {
        scope.spawn(move || server.stop());
        for client in clients.iter_mut().chain(&mut strangers) {
            assert_eq!(client.ending(), Ending::Closed(1012));
        }
        let goodbye = events.next().expect("an EventSource is told when to come back");
        assert!(goodbye.starts_with("retry: ") && goodbye.contains("event: $closing"), "{goodbye}");
        assert_eq!(events.next(), None, "and comes back by itself");
    });
    assert!(std::net::TcpStream::connect(address).is_err(), "nobody listens any more");
}

#[test]
fn a_server_stops_although_clients_do_not_take_their_leave() {
    let server = start(options());
    let _stubborn: Vec<Wire> =
        (0..5).map(|_| Wire::websocket(server.address, "/ws?channels=a", "")).collect();
    let _unfinished = Wire::connect(server.address);
    let (done, stopped) = std::sync::mpsc::sync_channel(1);
    thread::spawn(move || {
        server.stop();
        done.send(()).expect("the test waits");
    });
    stopped.recv_timeout(support::PATIENCE).expect("stop returns");
}

#[test]
fn a_compressing_client_gets_what_every_client_gets() {
    let server = start(options());
    let (mut plain, _) = Client::subscribe(server.address, "news");
    let mut compressing = Compressing::open(server.address, "/ws?channels=news");
    compressing.text();
    assert!(compressing.text().contains("subscribed"));
    let varied = (0..3_000).map(|n| n.to_string()).collect::<String>();
    for data in ["short", &"long ".repeat(1_000), "ä😀\0\"\\", &varied, ""] {
        say(server.address, "news", data);
        let publication: Value = serde_json::from_str(&compressing.text()).expect("frames are JSON");
        assert_eq!(publication["publication"], plain.publication());
    }
    assert!(compressing.deflated > 0, "long publications come compressed");
}

/// A client that has negotiated compression.
struct Compressing {
    wire: Wire,
    decoder: Decoder,
    inflater: Inflater,
    /// Frames that had RSV1.
    deflated: usize,
}

impl Compressing {
    fn open(address: std::net::SocketAddr, target: &str) -> Self {
        let request = ClientRequest {
            host: &address.to_string(),
            target,
            key: *b"the sample nonce",
            protocols: &["duplex.v1.json"],
            compression: Compression::PerMessage,
            headers: &[],
        };
        let mut wire = Wire::connect(address);
        wire.send(&request.head().expect("a request that can be written"));
        let mut handshake = ClientHandshake::new(&request);
        let (agreed, length) = loop {
            if let Some(agreed) = handshake.read(wire.unread()).expect("the server agrees") {
                break agreed;
            }
            assert_eq!(wire.fill(), Fill::More);
        };
        assert_eq!(agreed.protocol.as_deref(), Some("duplex.v1.json"));
        assert_eq!(agreed.compression, Compression::PerMessage);
        wire.unread().drain(..length);
        let decoder = Decoder::new(Role::Client, agreed.compression);
        Self { wire, decoder, inflater: Inflater::new(), deflated: 0 }
    }

    fn text(&mut self) -> String {
        self.wire.renew_deadline();
        loop {
            let unread = self.wire.unread();
            // Between messages the next byte is the first of a frame.
            let compressed = !self.decoder.mid_message() && unread.first().is_some_and(|b| b & 0x40 != 0);
            let outcome = self.decoder.decode(unread, &Limits::default(), &mut self.inflater);
            let (used, event) = outcome.expect("the server keeps to the protocol");
            let text = event.map(|event| match event {
                Event::Text(text) => text.to_owned(),
                other => panic!("expected a text message, got {other:?}"),
            });
            self.deflated += usize::from(compressed);
            unread.drain(..used);
            match text {
                Some(text) => return text,
                None => assert_eq!(self.wire.fill(), Fill::More, "a message"),
            }
        }
    }
}

#[test]
fn many_clients_on_many_shards_get_everything_once_and_in_order() {
    const CLIENTS: usize = 60;
    const PUBLISHERS: u64 = 4;
    const EACH: u64 = 50;
    let server = start(Options { shards: 4, ..options() });
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::subscribe(server.address, "all").0).collect();
    thread::scope(|scope| {
        for publisher in 0..PUBLISHERS {
            let address = server.address;
            scope.spawn(move || {
                (0..EACH).for_each(|n| drop(say(address, "all", &format!("{publisher} {n}"))));
            });
        }
        let first: Vec<Value> = (0..PUBLISHERS * EACH).map(|_| clients[0].publication()).collect();
        let offsets: Vec<u64> = first.iter().map(offset).collect();
        assert_eq!(offsets, (1..=PUBLISHERS * EACH).collect::<Vec<_>>());
        for publisher in 0..PUBLISHERS {
            let said = first.iter().filter_map(|publication| publication["data"].as_str());
            let said: Vec<&str> =
                said.filter_map(|data| data.strip_prefix(&format!("{publisher} "))).collect();
            let expected: Vec<String> = (0..EACH).map(|n| n.to_string()).collect();
            assert_eq!(said, expected, "publisher {publisher} in its own order");
        }
        for client in &mut clients[1..] {
            first.iter().for_each(|publication| assert_eq!(client.publication(), *publication));
        }
    });
    clients.into_iter().for_each(Client::leave);
    server.settle(Levels::of(0, 0));
}

#[test]
fn a_binary_echo_comes_back_as_it_was() {
    let server = start(options());
    let mut wire = Wire::websocket(server.address, "/echo", "");
    let bytes: Vec<u8> = (0..=255).collect();
    wire.send_frame(Opcode::Binary, &bytes);
    assert_eq!(wire.next(), Incoming::Binary(bytes));
}
