//! Subprotocol `duplex.v1.msgpack`, spoken with an independent implementation of MessagePack.

mod support;

use serde_json::{Value, json};

use support::frames::{Incoming, client_frame};
use support::native::{Client, offset};
use support::wire::Wire;
use support::{options, start};

const SUBPROTOCOL: &str = "Sec-WebSocket-Protocol: chat, duplex.v1.msgpack\r\n";

struct Packed(Wire);

impl Packed {
    fn open(address: std::net::SocketAddr, target: &str) -> Self {
        let mut wire = Wire::connect(address);
        let response = wire.upgrade(target, SUBPROTOCOL);
        assert_eq!(response.header("sec-websocket-protocol"), Some("duplex.v1.msgpack"));
        Self(wire)
    }

    fn send(&mut self, command: &Value) {
        self.0.send(&client_frame(0x82, &rmp_serde::to_vec(command).expect("JSON is MessagePack")));
    }

    fn next(&mut self) -> Value {
        match self.0.next() {
            Incoming::Binary(message) => rmp_serde::from_slice(&message).expect("MessagePack"),
            other => panic!("MessagePack is binary: {other:?}"),
        }
    }

    fn ask(&mut self, command: &Value) -> Value {
        self.send(command);
        self.next()
    }
}

#[test]
fn every_command_has_its_answer() {
    let server = start(options());
    let mut packed = Packed::open(server.address, "/ws");
    let (mut watcher, _) = Client::subscribe(server.address, "news");
    assert_eq!(packed.ask(&json!({ "id": 1, "ping": {} })), json!({ "id": 1, "pong": {} }));
    let connected = packed.ask(&json!({ "id": 2, "connect": {} }));
    assert!(connected["connected"]["client"].is_string(), "{connected}");
    let subscribed = packed.ask(&json!({ "id": 3, "subscribe": { "channel": "news" } }));
    assert_eq!(subscribed["subscribed"]["offset"], 0, "{subscribed}");

    let data =
        json!({ "text": "grüße \u{1f600}", "numbers": [1, -1, 1.5, u64::MAX, i64::MIN], "nothing": null });
    packed.send(&json!({ "id": 4, "publish": { "channel": "news", "data": data, "tags": { "k": "v" } } }));
    let mut frames = [packed.next(), packed.next()];
    frames.sort_by_key(|frame| frame["id"].as_u64());
    let [publication, published] = frames;
    assert_eq!(published["published"]["offset"], 1, "{published}");
    assert_eq!(publication["publication"]["data"], data);
    assert_eq!(watcher.publication()["data"], data, "the same in JSON");

    let history = packed.ask(&json!({ "id": 5, "history": { "channel": "news", "limit": 1 } }));
    assert_eq!(offset(&history["history"]["publications"][0]), 1, "{history}");
    let stats = packed.ask(&json!({ "id": 6, "presence_stats": { "channel": "news" } }));
    assert_eq!(stats["presence_stats"]["clients"], 2, "{stats}");
    for (command, code) in [
        (json!({ "id": 7, "sing": {} }), 104),
        (json!({ "id": 7, "subscribe": { "channel": "news" } }), 105),
        (json!({ "id": 7, "publish": { "channel": "", "data": 1 } }), 107),
        (json!({ "id": 7, "call": { "method": "add", "args": [1, 2] } }), 108),
    ] {
        let answer = packed.ask(&command);
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(7), &json!(code)), "{answer}");
    }
    let pongs = packed.ask(&json!([{ "id": 8, "ping": {} }, { "id": 9, "ping": {} }]));
    assert_eq!((pongs, packed.next()), (json!({ "id": 8, "pong": {} }), json!({ "id": 9, "pong": {} })));
}

#[test]
fn what_is_not_messagepack_closes_the_connection_with_the_place() {
    let server = start(options());
    let good = rmp_serde::to_vec(&json!({ "ping": {} })).expect("JSON is MessagePack");
    for (opcode, message, part) in [
        (0x81, &b"{\"ping\":{}}"[..], "a text message"),
        (0x82, &good[..good.len() - 1], "ends within"),
        (0x82, &[&good[..], &[0xc0]].concat(), "behind the value"),
        (0x82, &[0x81, 0xa4, b'p', b'i', b'n', b'g', 0xc4, 1, 0], "binary data"),
        (0x82, &[0xd6, 0xff, 0, 0, 0, 0], "extension"),
        (0x82, &[0x91; 2_000], "nested"),
        (0x82, &[0xdd, 0xff, 0xff, 0xff, 0xff], "ends within"),
        (0x82, &[0xc1], "0xc1"),
    ] {
        let mut packed = Packed::open(server.address, "/ws?channels=a");
        packed.0.send(&client_frame(opcode, message));
        let frames = packed.0.until_end();
        let Some(Incoming::Close(Some(3501), reason)) = frames.last() else { panic!("{part}: {frames:?}") };
        assert!(reason.contains(part), "{part} in {reason}");
    }
}
