use duplex_core::{EventName, Frame, Json, Message, Payload, Return};

use super::sequence::{Sequencing, Written};
use super::write::{self, Outcome};
use super::{Breach, Format, Splitter, ack, sequence};

const BOTH: [Format; 2] = [Format::Json, Format::MessagePack];

fn payload(json: &str) -> Payload {
    let raw = serde_json::from_str(json).expect("it is JSON");
    Payload::Args(Json::check(raw).expect("it may be passed on"))
}

/// Everything a server says after its handshake, and whether it counts.
fn everything(format: Format) -> Vec<(Vec<u8>, bool)> {
    let bytes = |message| match message {
        Message::Text(bytes) | Message::Binary(bytes) => bytes.to_vec(),
    };
    let event = EventName::parse("an event").expect("a name");
    vec![
        (write::event(format, None, &event, &payload(r#"[1,"\u001e",{}]"#)), true),
        (write::event(format, Some("s1"), &event, &payload("[]")), true),
        (write::own(format, "$error", b"{}".to_vec()), true),
        (write::item(format, "0", &format.value("[null]", &[])), true),
        (write::completion(format, "0", &Outcome::Void), true),
        (write::completion(format, "0", &Outcome::Error("no")), true),
        (write::completion(format, "0", &Outcome::Result("[1]", &[])), true),
        (write::ping(format), false),
        (write::close(format, Some("over"), Return::Reconnect), false),
        (bytes(ack(format, 300)), false),
        (bytes(sequence(format, 70_000)), false),
    ]
}

#[test]
fn what_the_server_says_is_one_message_each_and_counts_as_both_sides_count() {
    for format in BOTH {
        for (message, counts) in everything(format) {
            let mut splitter = Splitter::new(Some(format));
            let mut heard = Vec::new();
            let count = splitter.split(&message, 1_000, |frame| heard.push(Sequencing::of(frame)));
            assert_eq!((count, splitter.is_partial()), (Ok(1), false), "{message:?}");
            let written = Written::of(&message);
            assert_eq!(written.format, format, "{message:?}");
            assert_eq!(written.sequencing == Sequencing::Numbered, counts, "{message:?}");
            assert_eq!(heard[0] == Sequencing::Numbered, counts, "{message:?}");
        }
        let heard = |message: &Message| {
            let (Message::Text(bytes) | Message::Binary(bytes)) = message;
            let mut heard = Vec::new();
            let split =
                Splitter::new(Some(format)).split(bytes, 100, |frame| heard.push(Sequencing::of(frame)));
            assert_eq!(split, Ok(1));
            heard
        };
        assert_eq!(heard(&ack(format, 300)), [Sequencing::Ack(300)]);
        assert_eq!(heard(&sequence(format, 70_000)), [Sequencing::Sequence(70_000)]);
    }
    for handshake in [write::handshake(None), write::handshake(Some("no"))] {
        let Message::Text(bytes) = handshake else { panic!("a handshake is text") };
        let written = Written { format: Format::Json, sequencing: Sequencing::Unnumbered };
        assert_eq!(Written::of(&bytes), written);
    }
}

#[test]
fn messages_are_the_same_wherever_they_are_cut() {
    for (name, format) in [("json", Format::Json), ("messagepack", Format::MessagePack)] {
        let mut stream = format!("{{\"protocol\":\"{name}\",\"version\":1}}\u{1e}").into_bytes();
        everything(format).into_iter().for_each(|(message, _)| stream.extend(message));
        let collect = |pieces: &[&[u8]]| {
            let (mut splitter, mut messages) = (Splitter::new(None), Vec::new());
            for piece in pieces {
                let take = |frame: Frame<'_>| messages.push(format!("{frame:?}"));
                splitter.split(piece, 1_000, take).expect("all is well");
            }
            assert!(!splitter.is_partial());
            messages
        };
        let whole = collect(&[&stream]);
        assert_eq!(whole.len(), 1 + everything(format).len());
        for at in 0..=stream.len() {
            assert_eq!(collect(&[&stream[..at], &stream[at..]]), whole, "cut at {at}");
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(collect(&bytes), whole);
    }
}

#[test]
fn what_makes_no_message_is_refused_before_it_is_kept() {
    let split = |format, bytes: &[u8]| Splitter::new(Some(format)).split(bytes, 100, |_| {});
    let too_long = Err(Breach::TooLong { bytes_max: 100 });
    assert_eq!(split(Format::Json, &[b'x'; 200]), too_long);
    assert_eq!(split(Format::MessagePack, &[0xff, 0xff, 0xff, 0xff, 0x07]), too_long);
    assert_eq!(split(Format::MessagePack, &[0xff, 0xff, 0xff, 0xff, 0xff, 0x01]), Err(Breach::Length));
    assert_eq!(split(Format::MessagePack, &[0xe5, 0x00]), too_long);
    assert_eq!(split(Format::Json, b"\xff\x1e"), Err(Breach::NotText));
    assert_eq!(split(Format::MessagePack, &[0xe4, 0x80]), Ok(0));
}

#[test]
fn a_message_counts_however_long_its_head_is_written() {
    for body in [
        &[0x93, 5, 0x80, 0xa1, b'0'][..],
        &[0xdc, 0, 3, 5, 0x80, 0xa1, b'0'],
        &[0xdd, 0, 0, 0, 3, 0xcc, 5, 0x80, 0xa1, b'0'],
        &[0x93, 0xcd, 0, 5, 0x80, 0xa1, b'0'],
        &[0x93, 0xd3, 0, 0, 0, 0, 0, 0, 0, 5, 0x80, 0xa1, b'0'],
    ] {
        assert_eq!(Sequencing::of(Frame::Binary(body)), Sequencing::Numbered, "{body:02x?}");
    }
    for body in [&[0x91, 6][..], &[0x91, 0xff], &[0x91, 0xcd, 0], &[0x80], &[]] {
        assert_eq!(Sequencing::of(Frame::Binary(body)), Sequencing::Unnumbered, "{body:02x?}");
    }
}
