//! What a packet means, and which packets end the connection: the table of the official server, row by row.

use crate::client::{IO, Io, Polled, UNKNOWN_SESSION, binary, text};
use crate::options;
use crate::support::frames::Incoming;
use crate::support::house::House;
use duplex_websocket::Opcode;

/// A frame of a client: text, or bytes of an attachment.
#[derive(Debug, Clone, Copy)]
enum Said<'a> {
    Text(&'a str),
    Bytes(&'a [u8]),
}

use Said::{Bytes, Text};

impl Said<'_> {
    fn send(self, io: &mut Io) {
        match self {
            Text(text) => io.send(text),
            Bytes(bytes) => io.send_binary(bytes),
        }
    }
}

/// Frames that end the connection of a client that is in no namespace yet.
const CLOSE_A_STRANGER: [&[Said<'static>]; 24] = [
    &[Text("40[]")],
    &[Text(r#"40"x""#)],
    &[Text("40null")],
    &[Text("40true")],
    &[Text("40{")],
    &[Text("40{}x")],
    &[Text("40/chat,[]")],
    &[Text("42[\"early\"]")],
    &[Text("427[\"early\"]")],
    &[Text("430[1]")],
    &[Text("41")],
    &[Text("41/chat,")],
    &[Text("44")],
    &[Text("4")],
    &[Text("4abc")],
    &[Text("47")],
    &[Text("49")],
    &[Text("4 0")],
    &[Text("40/chat,"), Text("42[\"elsewhere\"]")],
    &[Text("40/chat,"), Text("42/chatx,[\"elsewhere\"]")],
    &[Text("40/chat,"), Text("42/,[\"elsewhere\"]")],
    &[Text("40"), Text("42/chat,[\"elsewhere\"]")],
    &[Text("451-[\"early\",{\"_placeholder\":true,\"num\":0}]"), Bytes(b"x")],
    &[Text("2")],
];

/// Frames that end the connection of a client that is in `/`.
const CLOSE_A_CLIENT: [&[Said<'static>]; 57] = [
    &[Text("40")],
    &[Text("40{}")],
    &[Text("40/")],
    &[Text("41"), Text("42[\"after\"]")],
    &[Text("41"), Text("41")],
    &[Text("41x")],
    &[Text("41[]")],
    &[Text("42[]")],
    &[Text("42{}")],
    &[Text("42abc[\"a\"]")],
    &[Text("42\"a\"")],
    &[Text("42[\"a\"")],
    &[Text("42[\"a\"]]")],
    &[Text("42['a']")],
    &[Text("42[\"a\",]")],
    &[Text("42[\"a\",\u{0}]")],
    &[Text("42[{}]")],
    &[Text("42[null]")],
    &[Text("42[true]")],
    &[Text("42[[\"a\"]]")],
    &[Text("427{\"a\":1}")],
    &[Text("42-1[\"a\"]")],
    &[Text("42/,7,[\"a\"]")],
    &[Text("42[\"connect\"]")],
    &[Text("42[\"connect_error\",1]")],
    &[Text("42[\"disconnect\"]")],
    &[Text("42[\"disconnecting\"]")],
    &[Text("42[\"newListener\"]")],
    &[Text("427[\"removeListener\"]")],
    &[Text("42[\"\\u0063onnect\"]")],
    &[Text("43{}")],
    &[Text("437\"a\"")],
    &[Text("44")],
    &[Text("44{\"message\":\"x\"}")],
    &[Text("4")],
    &[Text("4abc")],
    &[Text("48")],
    &[Text("4\u{20ac}")],
    &[Bytes(b"unannounced")],
    &[Bytes(b"")],
    &[Text("450-[\"a\"]")],
    &[Text("45-[\"a\"]")],
    &[Text("45[\"a\"]")],
    &[Text("451[\"a\"]")],
    &[Text("45-1-[\"a\"]")],
    &[Text("45+1-[\"a\"]")],
    &[Text("451.0-[\"a\"]")],
    &[Text("4511-[\"a\"]")],
    &[Text("451000000000-[\"a\"]")],
    &[Text("451-1-[\"a\"]")],
    &[Text("460-7[]")],
    &[Text("451-[\"a\",{\"_placeholder\":true,\"num\":0}]"), Text("42[\"between\"]")],
    &[Text("452-[\"a\",{\"_placeholder\":true,\"num\":0}]"), Bytes(b"x"), Text("42[\"between\"]")],
    &[Text("451-[\"a\",{\"_placeholder\":true,\"num\":0}]"), Text("40/chat,")],
    &[Text("451-[\"a\",{\"_placeholder\":true,\"num\":1}]"), Bytes(b"x")],
    &[Text("451-[\"connect\",{\"_placeholder\":true,\"num\":0}]"), Bytes(b"x")],
    &[Text("429007199254740993[\"a\"]")],
];

/// What stands for an attachment and cannot.
const BAD_PLACEHOLDERS: [&str; 9] = [
    r#"{"_placeholder":true,"num":-1}"#,
    r#"{"_placeholder":true,"num":"0"}"#,
    r#"{"_placeholder":true,"num":2}"#,
    r#"{"_placeholder":true,"num":1e9}"#,
    r#"{"_placeholder":true,"num":4294967296}"#,
    r#"{"_placeholder":true,"num":18446744073709551616}"#,
    r#"{"_placeholder":true,"num":null}"#,
    r#"{"_placeholder":true}"#,
    r#"[{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]"#,
];

#[test]
fn packets_that_a_stranger_must_not_send_close_its_connection() {
    let mut house = House::open(options());
    for frames in CLOSE_A_STRANGER {
        house.try_row(format!("{frames:?}"), |address| {
            let mut io = Io::open(address);
            for frame in frames {
                frame.send(&mut io);
                // What is wrong comes when that has been answered.
                if let Text(connect @ ("40" | "40/chat,")) = frame {
                    assert!(io.text().starts_with(connect));
                }
            }
            io.is_closed();
        });
    }
    house.judge();
}

#[test]
fn packets_that_a_client_must_not_send_close_its_connection_with_all_namespaces() {
    let mut house = House::open(options());
    for frames in CLOSE_A_CLIENT {
        house.try_row(format!("{frames:?}"), |address| {
            let mut io = Io::connect(address);
            io.join("/other,");
            frames.iter().for_each(|frame| frame.send(&mut io));
            io.is_closed();
        });
    }
    for placeholder in BAD_PLACEHOLDERS {
        house.try_row(placeholder, |address| {
            let mut io = Io::connect(address);
            io.send(&format!(r#"451-["a",{placeholder}]"#));
            io.send_binary(b"x");
            io.is_closed();
        });
    }
    house.judge();
}

#[test]
fn the_same_packets_end_a_session_that_is_polled() {
    let mut house = House::open(options());
    for frames in CLOSE_A_CLIENT {
        house.try_row(format!("{frames:?}"), |address| {
            let mut client = Polled::connect(address);
            client.post(body(frames).as_bytes());
            // What was right before what is wrong may have been answered.
            let mut last = client.get();
            while last.body.starts_with("42") {
                last = client.get();
            }
            let is_told = last.status == 200 && last.body.split('\u{1e}').next_back() == Some("1");
            assert!(is_told || last.body == UNKNOWN_SESSION, "{last:?}");
            client.is_gone();
        });
    }
    house.judge();
}

/// The frames as one body.
fn body(frames: &[Said<'_>]) -> String {
    use base64::Engine;
    let packet = |frame: &Said<'_>| match frame {
        Text(text) => (*text).to_owned(),
        Bytes(bytes) => format!("b{}", base64::prelude::BASE64_STANDARD.encode(bytes)),
    };
    frames.iter().map(packet).collect::<Vec<_>>().join("\u{1e}")
}

#[test]
fn packets_that_are_strange_but_right_are_answered_or_passed_over() {
    const NOBODY: &str = r#"[{"error":{"code":108,"message":"#;
    let mut house = House::open(options());
    // What is said, and the beginning of what comes.
    let rows: [(&[Said<'_>], &[&str]); 19] = [
        (&[Text("42[1,2]")], &[r#"42["$error",{"code":108,"#]),
        (&[Text("427[1,2]")], &["437"]),
        (&[Text("427[-1.5]")], &["437"]),
        (&[Text("42[\"a\"]")], &[r#"42["$error",{"code":108,"#]),
        (&[Text("4399[1]")], &[]),
        (&[Text("439007199254740991[]")], &[]),
        (&[Text("461-7[{\"_placeholder\":true,\"num\":0}]"), Bytes(b"x")], &[]),
        (&[Text("427[\"a\"]"), Text("427[\"a\"]")], &["437", "437"]),
        (&[Text("429007199254740991[\"a\"]")], &["439007199254740991"]),
        (&[Text("420[\"a\"]")], &["430"]),
        (&[Text("42/,7[\"a\"]")], &["437"]),
        (&[Text("427 [\"a\"]")], &["437"]),
        (&[Text("427[\"__proto__\",{\"__proto__\":1}]")], &["437"]),
        (&[Text("427[\"a\",{\"_placeholder\":true,\"num\":0}]")], &["437"]),
        (&[Text("3"), Text("6"), Text("5"), Text("0")], &[]),
        (&[Text("451-7[\"a\",{\"_placeholder\":true,\"num\":0}]"), Bytes(b"")], &["437"]),
        (&[Text("451-7[\"a\",{\"_placeholder\":true,\"num\":0}]"), Text("3"), Bytes(b"x")], &["437"]),
        (&[Text("451-7[\"a\",{\"num\":0,\"_placeholder\":true}]"), Bytes(b"x")], &["437"]),
        (
            &[Text("451-[\"a\",{\"_placeholder\":true,\"num\":0}]"), Bytes(b"x")],
            &[r#"42["$error",{"code":108,"#],
        ),
    ];
    for (frames, answers) in rows {
        house.try_row(format!("{frames:?}"), |address| {
            let mut io = Io::connect(address);
            frames.iter().for_each(|frame| frame.send(&mut io));
            for answer in answers {
                let expected =
                    if answer.starts_with("43") { format!("{answer}{NOBODY}") } else { (*answer).to_owned() };
                let came = io.text();
                assert!(came.starts_with(&expected), "{came} does not begin with {expected}");
            }
            io.is_well("");
        });
    }
    house.judge();
}

#[test]
fn a_websocket_ping_may_come_between_a_packet_and_its_attachments() {
    let mut house = House::open(options());
    house.try_row("ping", |address| {
        let mut io = Io::connect(address);
        io.send(r#"452-7["a",{"_placeholder":true,"num":1},{"_placeholder":true,"num":0}]"#);
        io.wire.send_frame(Opcode::Ping, b"1");
        io.send_binary(b"x");
        io.wire.send_frame(Opcode::Ping, b"2");
        io.send_binary(b"y");
        let came = [io.next(), io.next(), io.next()];
        let pong = |payload: &[u8]| Incoming::Pong(payload.to_vec());
        assert_eq!(came[..2], [pong(b"1"), pong(b"2")], "{came:?}");
        assert!(format!("{:?}", came[2]).starts_with("text 437["), "{came:?}");
        io.is_well("");
    });
    house.judge();
}

#[test]
fn an_attachment_too_many_closes_the_connection() {
    let mut house = House::open(options());
    house.try_row("one announced, two sent", |address| {
        let mut io = Io::connect(address);
        io.send(r#"451-7["a",{"_placeholder":true,"num":0}]"#);
        io.send_binary(b"x");
        assert!(io.text().starts_with("437["));
        io.send_binary(b"y");
        io.is_closed();
    });
    house.judge();
}

#[test]
fn leaving_and_coming_back_is_no_breach() {
    let mut house = House::open(options());
    house.try_row("41, 40", |address| {
        let mut io = Io::open(address);
        let first = io.join("");
        io.send("41");
        assert_ne!(io.join(""), first);
        io.is_well("");
    });
    house.try_row("41, 40 in one body", |address| {
        let mut client = Polled::open(address, IO);
        client.say("40\u{1e}41\u{1e}40\u{1e}427[\"a\"]");
        let packets = client.packets(3);
        assert!(packets[0].starts_with("40{") && packets[1].starts_with("40{"), "{packets:?}");
        assert_ne!(packets[0], packets[1]);
        assert!(packets[2].starts_with("437["), "{packets:?}");
        client.say("1");
    });
    house.judge();
}

#[test]
fn attachments_are_brought_by_polls_too_and_split_over_several() {
    let mut house = House::open(options());
    house.try_row("one body and several", |address| {
        let mut hearer = Io::subscribe(address, "news");
        let mut client = Polled::connect(address);
        let publish =
            r#"452-7["$publish","news","pic",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#;
        let header = r#"452-["pic",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#;
        let bodies: [&[&str]; 3] = [
            &[publish, "bAQID", "bBA=="],
            &["3", publish, "3", "bAQID", "6", "bBA==", "3"],
            &[publish, "", "bAQID", "", "bBA=="],
        ];
        for packets in bodies {
            for body in packets.split(|packet| packet.is_empty()) {
                client.say(&body.join("\u{1e}"));
            }
            let came = [hearer.next(), hearer.next(), hearer.next()];
            assert_eq!(came, [text(header), binary(&[1, 2, 3]), binary(&[4])]);
            assert!(client.poll().starts_with(r#"437[{"channel":"news","#));
        }
        client.say("1");
    });
    house.judge();
}
