//! Publications that would throw off every Socket.IO client of a channel: they are refused wherever they come in, and no
//! subscriber hears of them.

use serde_json::{Value, json};

use crate::client::{IO_WS, Io, Polled, text};
use crate::options;
use crate::support::frames::Incoming;
use crate::support::http::{request, say};
use crate::support::native::Client;
use crate::support::wire::Wire;
use crate::support::{Running, start};
use duplex_websocket::Opcode;

/// Names that official clients take for a breach of the protocol, and those that are kept for us.
const NAMES: [&str; 9] = [
    "connect",
    "connect_error",
    "disconnect",
    "disconnecting",
    "newListener",
    "removeListener",
    "$error",
    "$joined",
    "",
];

/// Those who would suffer.
struct Hearers {
    io: Io,
    polled: Polled,
    native: Client,
    said: usize,
    /// Dropped when those above have gone.
    server: Running,
}

impl Hearers {
    fn gather() -> Self {
        let server = start(options());
        let io = Io::subscribe(server.address, "news");
        let mut polled = Polled::connect(server.address);
        polled.say(r#"421["$subscribe","news"]"#);
        polled.packets(1);
        let (native, _) = Client::subscribe(server.address, "news");
        Self { server, io, polled, native, said: 0 }
    }

    /// Panics if one of them heard something.
    fn heard_nothing(&mut self, of: &str) {
        self.said += 1;
        let marker = self.said.to_string();
        say(self.server.address, "news", &marker);
        let event = format!(r#"42["message","{marker}"]"#);
        assert_eq!(self.io.next(), text(&event), "{of}");
        assert_eq!(self.polled.packets(1), [event], "{of}");
        assert_eq!(self.native.publication()["data"], marker, "{of}");
    }
}

#[test]
fn the_http_api_refuses_them_with_a_sentence() {
    let mut hearers = Hearers::gather();
    let mut bodies: Vec<String> =
        NAMES.iter().map(|name| json!({ "channel": "news", "event": name, "data": 1 }).to_string()).collect();
    let nested = format!("{}{}", "[".repeat(65), "]".repeat(65));
    bodies.extend(
        [
            r#"{"channel":"news","event":"a\u0000b","data":1}"#,
            r#"{"channel":"news","event":"a\nb","data":1}"#,
            r#"{"channel":"news","args":{}}"#,
            r#"{"channel":"news"}"#,
            r#"{"channel":"news","data":"\ud800"}"#,
            r#"{"channel":"news","args":["\udc00\ud800"]}"#,
            r#"{"channel":"news","data":1e999}"#,
            &*format!(r#"{{"channel":"news","data":{nested}}}"#),
            &*format!(r#"{{"channel":"news","event":"{}","data":1}}"#, "e".repeat(129)),
        ]
        .map(str::to_owned),
    );
    for body in bodies {
        let response = request(hearers.server.address, "POST /api/v1/publish HTTP/1.1", &body);
        assert!(matches!(response.status, 400 | 422), "{body}: {response:?}");
        let refused: Value = serde_json::from_str(&response.body).expect("JSON");
        let message = refused["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains(' ') && refused["error"]["code"] == 107, "{body}: {refused}");
        hearers.heard_nothing(&body);
    }
}

#[test]
fn clients_of_the_native_protocol_are_refused_and_stay() {
    let mut hearers = Hearers::gather();
    let mut publisher = Client::connect(hearers.server.address);
    for name in NAMES {
        let answer =
            publisher.ask(&json!({ "id": 9, "publish": { "channel": "news", "event": name, "data": 1 } }));
        assert_eq!(answer["error"]["code"], 107, "{name}: {answer}");
        hearers.heard_nothing(name);
    }
}

/// What a client of Socket.IO publishes: a packet, its attachments, and the ack.
fn refused(io: &mut Io, packet: &str, attachments: &[&[u8]]) -> Value {
    io.send(packet);
    attachments.iter().for_each(|attachment| io.send_binary(attachment));
    let answer = io.text();
    let body = answer.strip_prefix("437").unwrap_or_else(|| panic!("{packet}: {answer}"));
    let mut body: Value = serde_json::from_str(body).expect("JSON");
    body[0]["error"].take()
}

#[test]
fn clients_of_socket_io_are_refused_and_stay() {
    let mut hearers = Hearers::gather();
    let mut publisher = Io::connect(hearers.server.address);
    let mut rows: Vec<(String, &[&[u8]])> =
        NAMES.iter().map(|name| (format!(r#"427["$publish","news","{name}",1]"#), &[][..])).collect();
    let one: &[&[u8]] = &[b"x"];
    let rest = [
        (r#"427["$publish","news","a","\ud800"]"#, &[][..]),
        (r#"427["$publish","news","a",1e999]"#, &[]),
        (r#"427["$publish","news","a\u0000"]"#, &[]),
        (r#"427["$publish","news",["a"]]"#, &[]),
        (r#"427["$publish","news"]"#, &[]),
        (r#"451-7["$publish","news","a",{"_placeholder":true,"num":0},{"_placeholder":false}]"#, one),
        (r#"451-7["$publish","news","a",{"_placeholder":true,"num":0},{"_placeholder":"x","num":0}]"#, one),
        (
            r#"451-7["$publish","news","a",{"_placeholder":true,"num":0},[{"a":{"_placeholder":true,"num":0,"x":1}}]]"#,
            one,
        ),
        (r#"451-7["$publish","news","connect",{"_placeholder":true,"num":0}]"#, one),
        (r#"451-7["$publish",{"_placeholder":true,"num":0},"a"]"#, &[b""]),
    ];
    rows.extend(rest.map(|(packet, attachments)| (packet.to_owned(), attachments)));
    for (packet, attachments) in rows {
        let error = refused(&mut publisher, &packet, attachments);
        assert_eq!(error["code"], 107, "{packet}: {error}");
        assert!(error["message"].as_str().is_some_and(|message| message.contains(' ')), "{packet}: {error}");
        hearers.heard_nothing(&packet);
    }
    publisher.is_well("");
}

#[test]
fn more_binary_data_than_clients_take_is_refused_however_it_is_written() {
    let mut hearers = Hearers::gather();
    let mut wire = Wire::websocket(hearers.server.address, IO_WS, "");
    wire.text();
    wire.send_frame(Opcode::Binary, b"\x82\xa4type\x00\xa3nsp\xa1/");
    wire.next();
    let publish = |arguments: &[u8]| {
        let head = b"\x84\xa4type\x02\xa3nsp\xa1/\xa2id\x07\xa4data\x94\xa8$publish\xa4news\xa1a";
        [&head[..], arguments].concat()
    };
    let eleven = [&b"\x9b"[..], &b"\xc4\x01x".repeat(11)].concat();
    let placeholder = b"\x92\xc4\x01x\x81\xac_placeholder\xc3";
    for arguments in [&eleven[..], placeholder] {
        wire.send_frame(Opcode::Binary, &publish(arguments));
        let answer = wire.next();
        let begins =
            b"\x84\xa4type\x03\xa3nsp\xa1/\xa2id\x07\xa4data\x91\x81\xa5error\x82\xa4code\x6b\xa7message";
        assert!(matches!(&answer, Incoming::Binary(bytes) if bytes.starts_with(begins)), "{answer:?}");
        hearers.heard_nothing("binary data");
    }
    let ten = [&b"\x9a"[..], &b"\xc4\x01x".repeat(10)].concat();
    wire.send_frame(Opcode::Binary, &publish(&ten));
    assert!(hearers.io.text().starts_with("4510-["));
}
