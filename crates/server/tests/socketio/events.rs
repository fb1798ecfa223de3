//! Events and acknowledgements: how publications reach clients of Socket.IO, with binary data and without, whatever their
//! packets are written in.

use std::thread;

use duplex_websocket::Opcode;
use serde_json::{Value, json};

use crate::client::{IO_WS, Io, Polled, binary, is_closed, text};
use crate::options;
use crate::support::frames::Incoming;
use crate::support::house::House;
use crate::support::http::{publish, say};
use crate::support::native::Client;
use crate::support::start;
use crate::support::wire::Wire;

#[test]
fn each_way_to_publish_reads_as_an_event_with_its_arguments() {
    let server = start(options());
    let mut io = Io::subscribe(server.address, "news");
    for (publication, event) in [
        (r#"{"data":"hello"}"#, r#"["message","hello"]"#),
        (r#"{"event":"hi","data":{"a": [1, 2]}}"#, r#"["hi",{"a": [1, 2]}]"#),
        (r#"{"event":"hi","data":null}"#, r#"["hi",null]"#),
        (r#"{"event":"hi","args":[]}"#, r#"["hi"]"#),
        (r#"{"event":"hi","args":[1,"two",[3],{"four":4}]}"#, r#"["hi",1,"two",[3],{"four":4}]"#),
        (r#"{"event":"h\"i\\","args":[[]]}"#, r#"["h\"i\\",[]]"#),
        (
            r#"{"event":"\u20ac \ud83d\ude00","data":"\u2028\u0000"}"#,
            "[\"\u{20ac} \u{1f600}\",\"\\u2028\\u0000\"]",
        ),
        (r#"{"event":"hi","data":{"_placeholder":true,"num":0}}"#, r#"["hi",{"_placeholder":true,"num":0}]"#),
    ] {
        let body = format!(r#"{{"channel":"news",{}"#, &publication[1..]);
        publish(server.address, &body);
        assert_eq!(io.text(), format!("42{event}"), "{publication}");
    }
}

#[test]
fn what_a_client_publishes_is_acknowledged_and_heard_by_everybody_once() {
    let server = start(options());
    let mut hearer = Io::subscribe(server.address, "news");
    let (mut native, _) = Client::subscribe(server.address, "news");
    let mut io = Io::subscribe(server.address, "news");
    for (id, arguments, data) in [
        (0, r#""hi""#, json!({ "args": [] })),
        (1, r#""hi",1"#, json!({ "data": 1 })),
        (7, r#""hi",{"a":1},[2]"#, json!({ "args": [{ "a": 1 }, [2]] })),
    ] {
        io.send(&format!(r#"42{id}["$publish","news",{arguments}]"#));
        let event = format!("42[{arguments}]");
        let came = [io.text(), io.text()];
        assert!(came.contains(&event), "the publisher is a subscriber, too: {came:?}");
        let ack = came.iter().find_map(|frame| frame.strip_prefix(&format!("43{id}"))).expect("an ack");
        let ack: Value = serde_json::from_str(ack).expect("JSON");
        let publication = native.publication();
        assert_eq!(
            ack,
            json!([{ "channel": "news", "epoch": publication["epoch"], "offset": publication["offset"] }])
        );
        for part in ["data", "args"] {
            assert_eq!(publication[part], data[part]);
        }
        assert_eq!(hearer.text(), event);
    }
    io.send(r#"42["$publish","news","quiet"]"#);
    assert_eq!(io.text(), r#"42["quiet"]"#, "without an id there is no ack");
    io.is_well("");
}

#[test]
fn an_ack_has_one_argument_and_the_id_that_was_given() {
    let server = start(options());
    let mut io = Io::connect(server.address);
    io.join("/chat,");
    for (namespace, id, event, key) in [
        ("", 0, r#"["$subscribe","news"]"#, "offset"),
        ("/chat,", 0, r#"["$subscribe","lobby"]"#, "offset"),
        ("", 9_007_199_254_740_991, r#"["$unsubscribe","news"]"#, "channel"),
        ("", 5, r#"["$history","news",{"limit":1}]"#, "publications"),
        ("", 6, r#"["$history","news"]"#, "publications"),
        ("", 6, r#"["$nothing"]"#, "error"),
        ("", 6, r#"["$subscribe"]"#, "error"),
        ("", 6, r#"["$subscribe",7]"#, "error"),
        ("", 6, r#"["$subscribe",""]"#, "error"),
        ("", 6, r#"["$subscribe",":x"]"#, "error"),
        ("", 6, r#"["$subscribe","news",{"sinse":1}]"#, "error"),
        ("", 6, r#"["$subscribe","news",{},1]"#, "error"),
        ("", 6, r#"["$unsubscribe","never heard of"]"#, "channel"),
        ("/chat,", 6, r#"["anything",1,2]"#, "error"),
    ] {
        let answer = io.call(namespace, id, event);
        let [body] = answer.as_array().map(Vec::as_slice).unwrap_or_default() else {
            panic!("one argument: {answer}")
        };
        assert!(!body[key].is_null(), "{event}: no {key} in {answer}");
        if key == "error" {
            assert!(body["error"]["code"].is_u64() && body["error"]["message"].is_string(), "{answer}");
        }
        if key != "error" {
            continue;
        }
        // The same without an id: what goes wrong is told nevertheless.
        io.send(&format!("42{namespace}{event}"));
        let told = io.text();
        assert!(told.starts_with(&format!(r#"42{namespace}["$error",{{"code":"#)), "{told}");
    }
    io.is_well("");
}

/// Attachments.
type Parts = &'static [&'static [u8]];

/// What a publisher sends, with its attachments, and what subscribers get.
const BINARY: [(&str, Parts, &str, Parts); 7] = [
    (
        r#"1-["$publish","chat:a","pic",{"_placeholder":true,"num":0}]"#,
        &[&[1, 2, 3]],
        r#"1-,["pic",{"_placeholder":true,"num":0}]"#,
        &[&[1, 2, 3]],
    ),
    (
        r#"1-["$publish","chat:a","pic",{"num":0,"_placeholder":true}]"#,
        &[&[]],
        r#"1-,["pic",{"_placeholder":true,"num":0}]"#,
        &[&[]],
    ),
    (
        r#"1-8["$publish","chat:a","pic","before",{"a":[{"_placeholder":true,"num":0}]},"behind"]"#,
        &[&[255, 0]],
        r#"1-,["pic","before",{"a":[{"_placeholder":true,"num":0}]},"behind"]"#,
        &[&[255, 0]],
    ),
    (
        r#"2-["$publish","chat:a","pic",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#,
        &[&[1], &[2]],
        r#"2-,["pic",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#,
        &[&[1], &[2]],
    ),
    (
        r#"2-["$publish","chat:a","pic",{"x":{"_placeholder":true,"num":1},"y":[{"_placeholder":true,"num":0}]}]"#,
        &[&[1], &[2]],
        r#"2-,["pic",{"x":{"_placeholder":true,"num":0},"y":[{"_placeholder":true,"num":1}]}]"#,
        &[&[2], &[1]],
    ),
    (
        r#"2-["$publish","chat:a","p{\"","{\"_placeholder\":true,\"num\":0}",{"_placeholder":true,"num":1},[{"_placeholder":true,"num":0}]]"#,
        &[b"first", b"second"],
        r#"2-,["p{\"","{\"_placeholder\":true,\"num\":0}",{"_placeholder":true,"num":0},[{"_placeholder":true,"num":1}]]"#,
        &[b"second", b"first"],
    ),
    (
        r#"10-["$publish","chat:a","ten",[{"_placeholder":true,"num":0},{"_placeholder":true,"num":1},{"_placeholder":true,"num":2},{"_placeholder":true,"num":3},{"_placeholder":true,"num":4},{"_placeholder":true,"num":5},{"_placeholder":true,"num":6},{"_placeholder":true,"num":7},{"_placeholder":true,"num":8},{"_placeholder":true,"num":9}]]"#,
        &[b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"8", b"9"],
        r#"10-,["ten",[{"_placeholder":true,"num":0},{"_placeholder":true,"num":1},{"_placeholder":true,"num":2},{"_placeholder":true,"num":3},{"_placeholder":true,"num":4},{"_placeholder":true,"num":5},{"_placeholder":true,"num":6},{"_placeholder":true,"num":7},{"_placeholder":true,"num":8},{"_placeholder":true,"num":9}]]"#,
        &[b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"8", b"9"],
    ),
];

#[test]
fn binary_data_comes_behind_its_event_and_nothing_between() {
    use base64::Engine;
    let server = start(options());
    let mut root = Io::subscribe(server.address, "chat:a");
    let mut room = Io::open(server.address);
    room.join("/chat,");
    room.hear("/chat,", "a");
    let mut polled = Polled::connect(server.address);
    polled.say(r#"421["$subscribe","chat:a"]"#);
    polled.packets(1);
    let mut publisher = Io::connect(server.address);
    for (packet, attachments, event, parts) in BINARY {
        publisher.send(&format!("45{packet}"));
        attachments.iter().for_each(|attachment| publisher.send_binary(attachment));
        if packet.starts_with("1-8") {
            assert!(publisher.text().starts_with(r#"438[{"channel":"chat:a","#));
        }
        let heads = [event.replacen("-,", "-", 1), event.replacen("-,", "-/chat,", 1)];
        for (hearer, head) in [(&mut root, &heads[0]), (&mut room, &heads[1])] {
            assert_eq!(hearer.next(), text(&format!("45{head}")));
            for part in parts {
                assert_eq!(hearer.next(), binary(part), "{head}");
            }
        }
        let encoded =
            parts.iter().map(|part| format!("\u{1e}b{}", base64::prelude::BASE64_STANDARD.encode(part)));
        assert_eq!(polled.poll(), format!("45{}{}", heads[0], encoded.collect::<String>()));
    }
    publisher.is_well("");
}

#[test]
fn binary_data_is_base64_to_whoever_knows_only_json() {
    let server = start(options());
    let (mut native, _) = Client::subscribe(server.address, "news");
    let mut publisher = Io::connect(server.address);
    publisher.send(
        r#"452-["$publish","news","pic",{"_placeholder":true,"num":0},{"a":{"_placeholder":true,"num":1}}]"#,
    );
    publisher.send_binary(&[1, 2, 3]);
    publisher.send_binary(&[4]);
    assert_eq!(native.publication()["args"], json!(["AQID", { "a": "BA==" }]));
}

#[test]
fn groups_of_binary_data_stay_together_however_much_is_said_at_once() {
    const EACH: u8 = 60;
    let server = start(options());
    let mut hearer = Io::connect(server.address);
    hearer.join("/chat,");
    hearer.hear("", "chat:a");
    hearer.hear("/chat,", "a");
    let address = server.address;
    thread::scope(|scope| {
        for publisher in 0..2u8 {
            scope.spawn(move || {
                let mut io = Io::connect(address);
                for number in 0..EACH {
                    io.send(r#"452-["$publish","chat:a","pic",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#);
                    io.send_binary(&[publisher, number, 0]);
                    io.send_binary(&[publisher, number, 1]);
                }
                io.is_well("");
            });
        }
        scope.spawn(move || (0..EACH).for_each(|number| drop(say(address, "chat:a", &number.to_string()))));
        let (mut groups, mut texts) = (0, 0);
        // Three publications of each round, in two namespaces, and what the client is answered meanwhile.
        while groups < 4 * usize::from(EACH) || texts < 2 * usize::from(EACH) {
            let head = hearer.text();
            match &head[..3] {
                "452" => {
                    let (first, second) = (hearer.next(), hearer.next());
                    let Incoming::Binary(first) = first else { panic!("between: {first:?}") };
                    assert_eq!(first[2], 0, "{first:?}");
                    assert_eq!(second, binary(&[first[0], first[1], 1]));
                    groups += 1;
                    if groups % 10 == 0 {
                        hearer.send(r#"427["nobody"]"#);
                    }
                }
                "42[" | "42/" => texts += 1,
                "437" => {}
                _ => panic!("{head}"),
            }
        }
    });
}

/// Packets as `socket.io-msgpack-parser` writes them.
mod packed {
    pub const CONNECT: &[u8] = b"\x83\xa4type\x00\xa4data\xd4\x00\x00\xa3nsp\xa1/";
    pub const CONNECT_CHAT: &[u8] = b"\x83\xa4type\x00\xa4data\x81\xa1a\xa1b\xa3nsp\xa5/chat";
    pub const DISCONNECT: &[u8] = b"\x82\xa4type\x01\xa3nsp\xa1/";
    pub const SUBSCRIBE: &[u8] =
        b"\x85\xa4type\x02\xa4data\x92\xaa$subscribe\xa4news\xa7options\x81\xa8compress\xc3\
                                   \xa2id\x07\xa3nsp\xa1/";
    pub const PUBLISH: &[u8] = b"\x85\xa4type\x02\xa4data\x95\xa8$publish\xa4news\xa3pic\xc4\x03\x01\x02\x03\
                                 \x81\xa1a\x91\xc4\x01\x04\xa7options\x81\xa8compress\xc3\xa2id\x08\xa3nsp\xa1/";
    /// What becomes of it.
    pub const PUBLISHED: &[u8] =
        b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x93\xa3pic\xc4\x03\x01\x02\x03\x81\xa1a\x91\xc4\x01\x04";
    pub const SAID: &[u8] = b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x92\xa7message\xa2hi";
    pub const CALL: &[u8] = b"\x84\xa4type\x02\xa4data\x91\xa6nobody\xa2id\x09\xa3nsp\xa1/";
}

/// A client whose packets are MessagePack, on a WebSocket.
struct Packed(Wire);

impl Packed {
    fn connect(address: std::net::SocketAddr) -> Self {
        let mut client = Self(Wire::websocket(address, IO_WS, ""));
        client.0.text();
        let sid = client.ask(packed::CONNECT, b"\x83\xa4type\x00\xa3nsp\xa1/\xa4data\x81\xa3sid\xd9\x20");
        assert_eq!(sid.len(), 32, "and nothing else: {sid:?}");
        client
    }

    fn send(&mut self, packet: &[u8]) {
        self.0.send_frame(Opcode::Binary, packet);
    }

    /// Sends a packet; what comes must begin so. The rest is given back.
    fn ask(&mut self, packet: &[u8], begins: &[u8]) -> Vec<u8> {
        self.send(packet);
        let came = self.0.next();
        let Incoming::Binary(answer) = came else { panic!("expected a binary message, got {came:?}") };
        answer
            .strip_prefix(begins)
            .unwrap_or_else(|| panic!("{:?}", String::from_utf8_lossy(&answer)))
            .to_vec()
    }

    fn is_well(&mut self) {
        self.ask(
            packed::CALL,
            b"\x84\xa4type\x03\xa3nsp\xa1/\xa2id\x09\xa4data\x91\x81\xa5error\x82\xa4code\x6c",
        );
    }
}

#[test]
fn clients_with_messagepack_get_and_give_the_same_with_binary_data_in_place() {
    let server = start(options());
    let mut hearer = Io::subscribe(server.address, "news");
    let mut client = Packed::connect(server.address);
    client.ask(
        packed::SUBSCRIBE,
        b"\x84\xa4type\x03\xa3nsp\xa1/\xa2id\x07\xa4data\x91\x83\xa7channel\xa4news\xa5epoch",
    );
    say(server.address, "news", "hi");
    assert_eq!(client.0.next(), binary(packed::SAID));
    assert_eq!(hearer.text(), r#"42["message","hi"]"#);
    client.send(packed::PUBLISH);
    let came = [client.0.next(), client.0.next()];
    assert!(came.contains(&binary(packed::PUBLISHED)), "{came:?}");
    let ack = b"\x84\xa4type\x03\xa3nsp\xa1/\xa2id\x08\xa4data\x91\x83\xa7channel\xa4news";
    let is_ack = |frame: &Incoming| matches!(frame, Incoming::Binary(bytes) if bytes.starts_with(ack));
    assert!(came.iter().any(is_ack), "{came:?}");
    let came = [hearer.next(), hearer.next(), hearer.next()];
    let head = r#"452-["pic",{"_placeholder":true,"num":0},{"a":[{"_placeholder":true,"num":1}]}]"#;
    assert_eq!(came, [text(head), binary(&[1, 2, 3]), binary(&[4])]);
    hearer.send(r#"451-["$publish","news","pic",{"_placeholder":true,"num":0}]"#);
    hearer.send_binary(&[9]);
    assert_eq!(client.0.next(), binary(b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x92\xa3pic\xc4\x01\x09"));
    client.is_well();
}

#[test]
fn clients_with_messagepack_have_namespaces_and_polls_like_others() {
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD as BASE64;
    let server = start(options());
    let mut client = Packed::connect(server.address);
    client.ask(packed::CONNECT_CHAT, b"\x83\xa4type\x00\xa3nsp\xa5/chat\xa4data\x81\xa3sid\xd9\x20");
    client.ask(
        b"\x83\xa4type\x00\xa4data\x80\xa3nsp\xa4/a:b",
        b"\x83\xa4type\x04\xa3nsp\xa4/a:b\xa4data\x81\xa7message\xb1Invalid namespace",
    );
    client.send(packed::DISCONNECT);
    client.ask(packed::CONNECT, b"\x83\xa4type\x00\xa3nsp\xa1/\xa4data\x81\xa3sid\xd9\x20");
    client.is_well();

    let mut polled = Polled::open(server.address, crate::client::IO);
    polled.say(&format!("b{}", BASE64.encode(packed::CONNECT)));
    let connected = polled.packets(1);
    let connected = BASE64.decode(&connected[0][1..]).expect("Base64");
    assert!(connected.starts_with(b"\x83\xa4type\x00\xa3nsp\xa1/\xa4data\x81\xa3sid\xd9\x20"));
    polled.say(&format!("b{}", BASE64.encode(packed::SUBSCRIBE)));
    polled.packets(1);
    say(server.address, "news", "hi");
    assert_eq!(polled.packets(1), [format!("b{}", BASE64.encode(packed::SAID))]);
}

#[test]
fn messagepack_that_is_no_packet_closes_the_connection() {
    let mut house = House::open(options());
    let bad: [&[u8]; 22] = [
        b"",
        b"\xc1",
        b"\x80",
        b"\xc0",
        b"\x91\x00",
        b"\x83\xa4type",
        b"\x82\xa4type\x02\xa3nsp\xa1/",
        b"\x83\xa4type\x05\xa3nsp\xa1/\xa4data\x91\xa1a",
        b"\x83\xa4type\x09\xa3nsp\xa1/\xa4data\x91\xa1a",
        b"\x83\xa4type\xff\xa3nsp\xa1/\xa4data\x91\xa1a",
        b"\x83\xa4type\xa12\xa3nsp\xa1/\xa4data\x91\xa1a",
        b"\x83\xa4type\x02\xa3nsp\x01\xa4data\x91\xa1a",
        b"\x82\xa4type\x02\xa4data\x91\xa1a",
        b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x90",
        b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x80",
        b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x91\x80",
        b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x91\xa7connect",
        b"\x83\xa4type\x02\xa3nsp\xa5/chat\xa4data\x91\xa1a",
        b"\x83\xa4type\x00\xa3nsp\xa1/\xa4data\x80",
        b"\x83\xa4type\x04\xa3nsp\xa1/\xa4data\x80",
        b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\xdd\xff\xff\xff\xff",
        b"\x82\xa4type\x01\xa3nsp\xa1/\x00",
    ];
    for packet in bad {
        house.try_row(format!("{:?}", String::from_utf8_lossy(packet)), |address| {
            let mut client = Packed::connect(address);
            client.send(packet);
            is_closed(&mut client.0);
        });
    }
    house.try_row("text among MessagePack", |address| {
        let mut client = Packed::connect(address);
        client.0.send_text("42[\"a\"]");
        is_closed(&mut client.0);
    });
    house.try_row("an unknown ack", |address| {
        let mut client = Packed::connect(address);
        client.send(b"\x84\xa4type\x03\xa3nsp\xa1/\xa2id\x63\xa4data\x91\x01");
        client.is_well();
    });
    house.judge();
}
