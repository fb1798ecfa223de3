//! The decoder against tungstenite, on streams that are right, slightly wrong and damaged.
//!
//! Known differences, and how the comparison treats them:
//! * tungstenite judges a frame when it is whole and text when the message is; we fail as soon as it is certain. So a
//!   stream that both refuse counts as agreement, and where a stream stops early we may have failed already.
//! * tungstenite takes lengths that are not in shortest form, in control frames too; RFC 6455, 5.2 forbids them. Damage
//!   can make such lengths, and we must agree up to there.
//! * tungstenite hands out a forbidden close code as 1002 "Protocol violation"; we refuse the frame. It does not know
//!   code 1014, which the registry has.
//! * We also cap fragments and control frames; the caps are out of reach here.

mod support;

use std::io::{Cursor, Read, Write};

use duplex_websocket::{Compression, Limits, Role};
use proptest::prelude::*;
use support::{BINARY, CLOSE, CONT, Ear, FIN, PING, PONG, TEXT, brief, client, server};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Error, Message, WebSocket, error::ProtocolError, protocol};

const MESSAGE_BYTES: usize = 1 << 20;
const LIMITS: Limits = Limits { message_bytes: MESSAGE_BYTES, fragments: u32::MAX, control_frames: u16::MAX };

/// What one implementation made of a stream.
#[derive(Debug, PartialEq)]
struct Story {
    events: Vec<String>,
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Closed,
    Refused,
    /// Refused for a length, whose form tungstenite does not judge.
    RefusedStrictly,
    Unfinished,
}

fn ours(role: Role, wire: &[u8], cuts: &[usize]) -> Story {
    let ear = Ear { role, compression: Compression::Off, limits: LIMITS };
    let mut events = ear.events(wire, cuts);
    let end = match events.last().map_or("", String::as_str) {
        last if last.starts_with("! Length") || last.starts_with("! ControlTooLong") => End::RefusedStrictly,
        last if last.starts_with("! ") => End::Refused,
        last if last.starts_with("...") => End::Unfinished,
        last if last.starts_with("close") => return Story { events, end: End::Closed },
        _ => return Story { events, end: End::Unfinished },
    };
    events.pop();
    Story { events, end }
}

/// Gives what is to be read and forgets what is written.
struct Wire<'a>(Cursor<&'a [u8]>);

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn theirs(role: Role, wire: &[u8]) -> Story {
    let config = protocol::WebSocketConfig::default()
        .read_buffer_size(4096)
        .max_message_size(Some(MESSAGE_BYTES))
        .max_frame_size(Some(MESSAGE_BYTES));
    let role = match role {
        Role::Server => protocol::Role::Server,
        Role::Client => protocol::Role::Client,
    };
    let mut socket = WebSocket::from_raw_socket(Wire(Cursor::new(wire)), role, Some(config));
    let mut events = Vec::new();
    loop {
        match socket.read() {
            Ok(Message::Close(Some(frame)))
                if frame.code == CloseCode::Protocol && frame.reason.as_str() == "Protocol violation" =>
            {
                return Story { events, end: End::Refused };
            }
            Ok(message) => events.push(tell(&message)),
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => {
                return Story { events, end: End::Unfinished };
            }
            Err(_) => return Story { events, end: End::Refused },
        }
        if events.last().is_some_and(|event| event.starts_with("close")) {
            return Story { events, end: End::Closed };
        }
    }
}

fn tell(message: &Message) -> String {
    match message {
        Message::Text(text) => format!("text {}", brief(text.as_bytes())),
        Message::Binary(payload) => format!("binary {}", brief(payload)),
        Message::Ping(payload) => format!("ping {}", brief(payload)),
        Message::Pong(payload) => format!("pong {}", brief(payload)),
        Message::Close(None) => "close".to_owned(),
        Message::Close(Some(frame)) => {
            format!("close {} {}", u16::from(frame.code), brief(frame.reason.as_bytes()))
        }
        Message::Frame(_) => "frame".to_owned(),
    }
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "[a-z ]{0,20}".prop_map(String::into_bytes),
        3 => "\\PC{0,12}".prop_map(String::into_bytes),
        2 => prop::collection::vec(any::<u8>(), 0..8),
        1 => (100..400_usize).prop_map(|bytes| vec![b'x'; bytes]),
        1 => Just("κόσμε\u{10ffff}".as_bytes()[..7].to_vec()),
    ]
}

fn close_body() -> impl Strategy<Value = Vec<u8>> {
    let codes = vec![
        0, 999, 1000, 1001, 1003, 1004, 1005, 1006, 1007, 1011, 1012, 1015, 1016, 2999, 3000, 4999, 5000,
    ];
    let code = prop::sample::select(codes).prop_map(|code: u16| code.to_be_bytes());
    prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 0..2),
        6 => (code, "[a-z;]{0,9}").prop_map(|(code, reason)| [&code[..], reason.replace(';', "é").as_bytes()].concat()),
        1 => Just(b"\x03\xe8\xff".to_vec()),
    ]
}

/// A first byte and a payload: mostly what a decent peer sends.
fn frame() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let first = prop_oneof![
        6 => prop::sample::select(&[FIN | TEXT, FIN | BINARY, FIN | PING, FIN | PONG][..]),
        2 => prop::sample::select(&[TEXT, BINARY, FIN | CONT, CONT][..]),
    ];
    prop_oneof![30 => (first, payload()), 1 => (Just(FIN | CLOSE), close_body()), 1 => (any::<u8>(), payload())]
}

/// A message in fragments with pings in between.
fn fragments() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    let parts = prop::collection::vec((payload(), any::<bool>()), 1..5);
    (prop::sample::select(&[TEXT, BINARY][..]), parts).prop_map(|(opcode, parts)| {
        let mut frames = Vec::new();
        for (at, (part, ping)) in parts.into_iter().enumerate() {
            frames.push((if at == 0 { opcode } else { CONT }, part));
            frames.extend(ping.then(|| (FIN | PING, vec![at as u8])));
        }
        frames.push((FIN | CONT, Vec::new()));
        frames
    })
}

/// Frames of a stream, each whole; a last empty continuation ends whatever message is open.
fn frames() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    let group = prop_oneof![3 => frame().prop_map(|frame| vec![frame]), 1 => fragments()];
    prop::collection::vec(group, 0..8).prop_map(|groups| {
        let mut frames = groups.concat();
        frames.push((FIN | CONT, Vec::new()));
        frames
    })
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![3 => Just(Role::Server), 1 => Just(Role::Client)]
}

fn wire(role: Role, frames: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let encode = match role {
        Role::Server => client,
        Role::Client => server,
    };
    frames.iter().flat_map(|(first, payload)| encode(*first, payload)).collect()
}

fn cuts(wire: &[u8], places: &[prop::sample::Index]) -> Vec<usize> {
    let mut cuts: Vec<usize> = places.iter().map(|place| place.index(wire.len() + 1)).collect();
    cuts.sort_unstable();
    cuts
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(2_000), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whole_frames_mean_the_same_to_both(
        role in role(),
        frames in frames(),
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let wire = wire(role, &frames);
        let mut ours = ours(role, &wire, &cuts(&wire, &places));
        if ours.end == End::RefusedStrictly {
            ours.end = End::Refused;
        }
        prop_assert_eq!(ours, theirs(role, &wire));
    }

    #[test]
    fn damaged_streams_mean_the_same_to_both(
        role in role(),
        frames in frames(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        kept in any::<prop::sample::Index>(),
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut wire = wire(role, &frames);
        for (place, byte) in damage {
            let at = place.index(wire.len());
            wire[at] = byte;
        }
        wire.truncate(kept.index(wire.len()) + 1);
        let (ours, theirs) = (ours(role, &wire, &cuts(&wire, &places)), theirs(role, &wire));
        let close_1014 = ours.events.last().is_some_and(|event| event.starts_with("close 1014"));
        prop_assume!(!close_1014);
        if ours.end == End::RefusedStrictly {
            prop_assert!(theirs.events.starts_with(&ours.events), "{:?} {:?}", ours, theirs);
            return Ok(());
        }
        prop_assert_eq!(&ours.events, &theirs.events);
        let we_were_earlier = ours.end == End::Refused && theirs.end == End::Unfinished;
        prop_assert!(ours.end == theirs.end || we_were_earlier, "{:?} {:?}", ours, theirs);
    }
}
