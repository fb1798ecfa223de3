use super::payload::PACKETS_MAX;
use super::*;

fn body(version: Version, packets: &[Written<'_>]) -> String {
    let mut body = Vec::new();
    packets.iter().for_each(|packet| Bodies(version).write(*packet, &mut body));
    String::from_utf8(body).unwrap()
}

/// What was read of a body, as `kind:payload` separated by spaces.
fn read(version: Version, body: &[u8]) -> Result<String, Malformed> {
    let mut seen = Vec::new();
    let take = |packet: Packet<'_>| {
        seen.push(match packet {
            Packet::Binary(bytes) => format!("binary:{bytes:?}"),
            Packet::Text(text) => format!("text:{text}"),
            other => format!("{other:?}"),
        });
        if packet == Packet::Close { More::No } else { More::Yes }
    };
    match std::str::from_utf8(body) {
        Ok(text) if !body.starts_with(&[0]) && !body.starts_with(&[1]) => Bodies(version).read(text, take)?,
        _ => Bodies(version).read_bytes(body, take)?,
    }
    Ok(seen.join(" "))
}

#[test]
fn the_opening_packet_has_exactly_five_keys() {
    let handshake = Handshake {
        sid: "abc",
        upgrades: &["websocket"],
        ping_interval: 300,
        ping_timeout: 200,
        max_payload: 1_000_000,
    };
    let packet = r#"0{"sid":"abc","upgrades":["websocket"],"pingInterval":300,"pingTimeout":200,"maxPayload":1000000}"#;
    assert_eq!(handshake.packet(), packet);
}

#[test]
fn packets_are_joined_as_each_version_does() {
    let packets = [Written::Text("4a€"), Written::Binary(&[4, 1, 2, 3]), Written::Text("2")];
    assert_eq!(body(Version::V4, &packets), "4a€\u{1e}bBAECAw==\u{1e}2");
    assert_eq!(body(Version::V3, &packets), "3:4a€6:b4AQID1:2");
    assert_eq!(body(Version::V3, &[Written::Text("4😀")]), "3:4😀", "lengths count UTF-16");
}

#[test]
fn bodies_are_taken_apart_and_what_is_broken_is_told() {
    use Version::{V3, V4};
    let many = vec!["4"; PACKETS_MAX + 1].join("\u{1e}");
    for (version, body, expected) in [
        (V4, &b"4hello"[..], Ok("text:hello")),
        (V4, b"4a\x1e4b\x1e3", Ok("text:a text:b Pong")),
        (V4, b"4hello\x1ebAQIDBA==", Ok("text:hello binary:[1, 2, 3, 4]")),
        (V4, b"1\x1e4never", Ok("Close")),
        (V4, b"4\x1e\x1e4", Err(Malformed::Empty)),
        (V4, b"", Err(Malformed::Empty)),
        (V4, b"abc", Err(Malformed::Type)),
        (V4, b"7", Err(Malformed::Type)),
        (V4, "\u{20ac}".as_bytes(), Err(Malformed::Type)),
        (V4, b"bA", Err(Malformed::Base64)),
        (V4, many.as_bytes(), Err(Malformed::TooMany { max: PACKETS_MAX })),
        (V4, &many.as_bytes()[2..], Ok(&*vec!["text:"; PACKETS_MAX].join(" "))),
        (V3, "6:4hello2:4€".as_bytes(), Ok("text:hello text:€")),
        (V3, "3:4😀1:2".as_bytes(), Ok("text:😀 Ping(\"\")")),
        (V3, b"10:b4AQIDBA==", Ok("binary:[1, 2, 3, 4]")),
        (V3, b"9:4hello", Err(Malformed::Length)),
        (V3, b"x:4hello", Err(Malformed::Length)),
        (V3, b"2:4\xf0\x9f\x98\x80", Err(Malformed::Length)),
        (V3, b"\x00\x06\xff4hello\x01\x03\xff\x04\x01\x02", Ok("text:hello binary:[1, 2]")),
        (V3, b"\x01\x02\xff\x05\x01", Err(Malformed::Type)),
        (V3, b"\x01\x01\x00\xff\x04", Err(Malformed::Length)),
        (V3, b"\x01\x0a\xff\x04", Err(Malformed::Length)),
        (V3, b"\x01\x09\x09\x09\x09\x09\x09\x09\x09\x09\x09\x09\xff\x04", Err(Malformed::Length)),
    ] {
        let shown = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
        assert_eq!(read(version, body), expected.map(str::to_owned), "{shown:?}");
    }
}

#[test]
fn a_query_says_what_is_wanted_or_what_is_wrong() {
    let parse = |query: &str| {
        Wanted::parse(|name| {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
        })
    };
    let wanted =
        |version, transport, sid: Option<&str>| Ok(Wanted { version, transport, sid: sid.map(Into::into) });
    for (query, expected) in [
        ("EIO=4&transport=polling", wanted(Version::V4, Transport::Polling, None)),
        ("EIO=4&transport=websocket&sid=x", wanted(Version::V4, Transport::WebSocket, Some("x"))),
        ("EIO=3&transport=polling&b64=1", wanted(Version::V3, Transport::Polling, None)),
        ("transport=polling", wanted(Version::V3, Transport::Polling, None)),
        ("EIO=4", Err(Refused::UnknownTransport)),
        ("EIO=4&transport=abc", Err(Refused::UnknownTransport)),
        ("EIO=4&transport=__proto__", Err(Refused::UnknownTransport)),
        ("EIO=4&transport=webtransport", Err(Refused::UnknownTransport)),
        ("EIO=3&transport=polling&j=0", Err(Refused::BadRequest)),
    ] {
        assert_eq!(parse(query), expected, "{query}");
    }
}

#[test]
fn a_refusal_reads_as_the_official_server_writes_it() {
    for (refused, status, json) in [
        (Refused::UnknownTransport, 400, r#"{"code":0,"message":"Transport unknown"}"#),
        (Refused::UnknownSession, 400, r#"{"code":1,"message":"Session ID unknown"}"#),
        (Refused::Method, 400, r#"{"code":2,"message":"Bad handshake method"}"#),
        (Refused::BadRequest, 400, r#"{"code":3,"message":"Bad request"}"#),
        (Refused::Forbidden("no \"you\"".into()), 403, r#"{"code":4,"message":"no \"you\""}"#),
        (Refused::UnsupportedVersion, 400, r#"{"code":5,"message":"Unsupported protocol version"}"#),
    ] {
        assert_eq!((refused.status(), &*refused.json()), (status, json));
    }
}

#[test]
fn one_poll_and_one_post_are_under_way_at_most() {
    let mut conversation = Conversation::new(Version::V4, Transport::Polling);
    assert_eq!((conversation.poll(), conversation.post()), (Ok(()), Ok(())));
    assert_eq!((conversation.poll(), conversation.post()), (Err(Overlap), Err(Overlap)));
    conversation.polled();
    conversation.posted();
    assert_eq!((conversation.poll(), conversation.post()), (Ok(()), Ok(())));
}

#[test]
fn a_websocket_is_tried_before_it_carries_the_session() {
    let mut conversation = Conversation::new(Version::V4, Transport::Polling);
    assert_eq!(conversation.probe(), Ok(()));
    assert_eq!(conversation.probe(), Err(Refused::BadRequest), "one at a time");
    assert_eq!(conversation.probed(Packet::Ping("probe")), Probed::Answer);
    assert_eq!(conversation.probed(Packet::Text("early")), Probed::End);
    conversation.probe_ended();
    assert!(conversation.is_polled(), "the session survives");
    assert_eq!(conversation.probe(), Ok(()));
    assert_eq!(
        conversation.probed(Packet::Upgrade),
        Probed::Switch,
        "the official server wants no probe either"
    );
    conversation.probe_ended();
    assert!(!conversation.is_polled());
    assert_eq!(conversation.probe(), Err(Refused::BadRequest));
}

#[test]
fn a_heartbeat_goes_one_way_in_each_version() {
    for (version, packet, received) in [
        (Version::V4, "3", Received::Alive),
        (Version::V4, "2", Received::Violation),
        (Version::V3, "2", Received::Beat("3")),
        (Version::V3, "3", Received::Ignored),
        (Version::V4, "1", Received::Closed),
        (Version::V4, "5", Received::Ignored),
        (Version::V4, "6", Received::Ignored),
        (Version::V4, "0", Received::Ignored),
        (Version::V4, "4x", Received::Text("x")),
    ] {
        let conversation = Conversation::new(version, Transport::WebSocket);
        assert_eq!(conversation.receive(Packet::text(packet).unwrap()), received, "{packet}");
    }
    assert_eq!(Packet::binary(&[4, 1], Version::V3), Ok(Packet::Binary(&[1])));
    assert_eq!(Packet::binary(&[4, 1], Version::V4), Ok(Packet::Binary(&[4, 1])));
}
