//! Namespaces: who gets in where, under which name, and how many.

use duplex::{Namespace, Options, Settings};
use duplex_websocket::Limits;

use crate::client::{IO, Io, Polled, SEPARATOR, is_closed, once};
use crate::options;
use crate::support::http::say;
use crate::support::native::Client;
use crate::support::{Levels, eventually, start, tokens};

/// Panics unless it is an id that says nothing about its session.
fn is_public(sid: &str) {
    assert!(sid.len() >= 20 && sid.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{sid}");
}

#[test]
fn each_namespace_has_its_own_sid_and_says_nothing_else() {
    let server = start(options());
    let mut io = Io::open(server.address);
    let sids = [io.join(""), io.join("/chat,"), io.join("/news,"), io.sid.clone()];
    for sid in &sids[..3] {
        is_public(sid);
        assert_eq!(sids.iter().filter(|other| *other == sid).count(), 1, "{sids:?}");
    }
    // Its own session, and one for each namespace.
    assert_eq!(server.gauges().sessions(), 4);
    io.is_well("");
    io.is_well("/news,");
}

#[test]
fn a_connect_may_be_spelled_in_several_ways_and_bring_what_it_likes() {
    let server = start(options());
    for (packet, namespace) in [
        ("40", ""),
        ("40{}", ""),
        ("40/", ""),
        ("40/,", ""),
        ("40/,{}", ""),
        (r#"40{"token":null}"#, ""),
        (r#"40{"a":[1,{"b":"\u20ac"}],"c":null}"#, ""),
        (r#"40 {"a":1}"#, ""),
        ("40/chat", "/chat,"),
        ("40/chat,", "/chat,"),
        ("40/chat,{}", "/chat,"),
        (r#"40/chat,{"a":"b"}"#, "/chat,"),
        ("40/Chat,", "/Chat,"),
        ("40/\u{e9}t\u{e9},", "/\u{e9}t\u{e9},"),
    ] {
        let mut io = Io::open(server.address);
        io.send(packet);
        let connected = io.text();
        let sid = connected
            .strip_prefix(&format!(r#"40{namespace}{{"sid":""#))
            .and_then(|rest| rest.strip_suffix("\"}"));
        is_public(sid.unwrap_or_else(|| panic!("{packet}: {connected}")));
        io.is_well(namespace);
    }
}

#[test]
fn a_namespace_that_cannot_be_is_refused_and_the_connection_stays() {
    let server = start(options());
    let mut io = Io::open(server.address);
    for namespace in ["/a:b", "//:", "/x\u{0}y", "/\n"] {
        io.send(&format!("40{namespace},"));
        assert_eq!(io.text(), format!(r#"44{namespace},{{"message":"Invalid namespace"}}"#));
    }
    let long = format!("/{}", "n".repeat(300));
    io.send(&format!("40{long},"));
    assert_eq!(io.text(), format!(r#"44{long},{{"message":"Invalid namespace"}}"#));
    io.join("");
    io.is_well("");
}

#[test]
fn names_that_mean_something_elsewhere_are_names_like_others() {
    let server = start(options());
    let mut io = Io::open(server.address);
    for namespace in ["/__proto__,", "/constructor,", "/hasOwnProperty,", "/..,", "/%2f,", "/ ,"] {
        io.join(namespace);
        io.hear(namespace, "__proto__");
        io.is_well(namespace);
    }
}

/// A server whose configuration names its namespaces.
fn configured() -> Options {
    let mut options = Options { settings: options().settings, ..tokens::closed() };
    options.namespaces.insert("chat".to_owned(), Namespace::default());
    options
}

#[test]
fn only_namespaces_that_are_configured_exist() {
    let server = start(configured());
    let mut io = Io::open(server.address);
    for namespace in ["/random", "/Chat", "/chat/", "/chatx", "/default2"] {
        io.send(&format!("40{namespace},"));
        assert_eq!(io.text(), format!(r#"44{namespace},{{"message":"Invalid namespace"}}"#));
    }
    io.join("/chat,");
    io.join("");
    let mut polled = Polled::open(server.address, IO);
    polled.say("40/random,\u{1e}40/chat,");
    let packets = polled.packets(2);
    assert_eq!(packets[0], r#"44/random,{"message":"Invalid namespace"}"#);
    assert!(packets[1].starts_with(r#"40/chat,{"sid":""#), "{packets:?}");
}

#[test]
fn a_namespace_is_that_of_channels_and_a_room_in_it_is_a_channel() {
    let server = start(options());
    let mut io = Io::connect(server.address);
    io.join("/chat,");
    io.join("/other,");
    let root = io.call("", 1, r#"["$subscribe","chat:lobby"]"#);
    let room = io.call("/chat,", 1, r#"["$subscribe","lobby"]"#);
    assert_eq!(root, room, "the same channel, and the ids of acks do not meet");
    assert_eq!(room[0]["channel"], "chat:lobby");
    io.hear("/other,", "lobby");
    say(server.address, "chat:lobby", "hi");
    let mut came = [io.text(), io.text()];
    came.sort();
    assert_eq!(came, [r#"42/chat,["message","hi"]"#, r#"42["message","hi"]"#]);

    let (mut native, _) = Client::subscribe(server.address, "chat:lobby");
    let published = io.call("/chat,", 2, r#"["$publish","lobby","said","by room"]"#);
    assert_eq!(published[0]["channel"], "chat:lobby");
    let publication = native.publication();
    assert_eq!((&publication["event"], &publication["data"]), (&"said".into(), &"by room".into()));
}

#[test]
fn a_publication_comes_in_every_namespace_where_it_was_asked_for_and_once_in_each() {
    let server = start(options());
    let mut both = Io::connect(server.address);
    both.join("/chat,");
    both.hear("", "chat:lobby");
    both.hear("/chat,", "lobby");
    let mut root = Io::subscribe(server.address, "chat:lobby");
    let mut room = Io::open(server.address);
    room.join("/chat,");
    room.hear("/chat,", "lobby");
    for number in 0..10 {
        say(server.address, "chat:lobby", &number.to_string());
        let in_root = format!(r#"42["message","{number}"]"#);
        let in_room = format!(r#"42/chat,["message","{number}"]"#);
        assert_eq!(root.text(), in_root);
        assert_eq!(room.text(), in_room);
        let came = [both.text(), both.text()];
        assert!(came.contains(&in_root) && came.contains(&in_room), "{came:?}");
    }
    let left = both.call("/chat,", 5, r#"["$unsubscribe","lobby"]"#);
    assert_eq!(left[0]["channel"], "chat:lobby");
    say(server.address, "chat:lobby", "last");
    assert_eq!(both.text(), r#"42["message","last"]"#);
    both.is_well("/chat,");
}

#[test]
fn leaving_a_namespace_leaves_the_others() {
    let server = start(options());
    let mut io = Io::subscribe(server.address, "news");
    io.join("/chat,");
    io.hear("/chat,", "lobby");
    io.send("41/chat,");
    eventually(|| "it has left".to_owned(), || server.gauges().subscriptions() == 1);
    say(server.address, "chat:lobby", "nobody hears");
    say(server.address, "news", "heard");
    assert_eq!(io.text(), r#"42["message","heard"]"#);
    io.send("41");
    eventually(|| "nobody is left".to_owned(), || server.gauges().sessions() == 1);
    io.join("/chat,");
    io.is_well("/chat,");
}

#[test]
fn who_comes_back_to_a_namespace_is_somebody_new() {
    let server = start(options());
    let mut io = Io::open(server.address);
    let mut seen = Vec::new();
    for round in 0..20 {
        seen.push(io.join("/chat,"));
        io.hear("/chat,", "lobby");
        // The next packet is on its way before the namespace has been left.
        io.send("41/chat,");
        assert_eq!(seen.iter().filter(|sid| **sid == seen[round]).count(), 1, "{seen:?}");
    }
    eventually(|| "only the connection is left".to_owned(), || server.gauges().sessions() == 1);
    assert_eq!(server.gauges().subscriptions(), 0);
}

#[test]
fn a_connection_has_sixteen_namespaces_at_most() {
    let server = start(options());
    let mut io = Io::open(server.address);
    let names: Vec<String> = (0..16).map(|number| format!("/n{number},")).collect();
    names.iter().for_each(|name| drop(io.join(name)));
    for name in ["/one-more,", ""] {
        io.send(&format!("40{name}"));
        let refused = io.text();
        assert!(refused.starts_with(&format!(r#"44{name}{{"message":"too many namespaces"#)), "{refused}");
    }
    names.iter().for_each(|name| io.is_well(name));
    io.send("41/n3,");
    io.join("/one-more,");
    io.is_well("/n4,");
}

#[test]
fn who_connects_to_no_namespace_in_time_is_closed() {
    let settings = Settings { connect_ms: 300, ..options().settings };
    let server = start(Options { settings, ..options() });
    let mut silent = Io::open(server.address);
    let mut refused = Io::open(server.address);
    refused.send("40/a:b,");
    assert!(refused.text().starts_with("44/a:b,"));
    let mut connected = Io::connect(server.address);
    let mut polled = Polled::open(server.address, IO);
    silent.is_closed();
    refused.is_closed();
    let last = polled.poll();
    assert!(matches!(last.split(SEPARATOR).next_back(), Some("1")), "{last}");
    polled.is_gone();
    connected.is_well("");
    drop((silent, refused, polled));
    server.settle(Levels { sessions: 2, subscriptions: 0, sockets: 1 });
}

#[test]
fn channels_in_the_query_are_subscribed_to_at_the_first_connect_to_the_root() {
    let server = start(options());
    let mut io = Io::open_at(server.address, "/socket.io/?EIO=4&transport=websocket&channels=a,b%3Ac");
    io.join("/chat,");
    io.join("");
    eventually(|| "both are there".to_owned(), || server.gauges().subscriptions() == 2);
    say(server.address, "b:c", "one");
    assert_eq!(io.text(), r#"42["message","one"]"#);
    say(server.address, "a", "two");
    assert_eq!(io.text(), r#"42["message","two"]"#);
}

#[test]
fn a_connection_that_is_not_known_yet_may_say_little() {
    let websocket = Limits { message_bytes: 60_000, ..Limits::default() };
    let server = start(Options { websocket, first_message_bytes: 1_000, ..options() });
    let auth = |bytes: usize| format!(r#"40{{"a":"{}"}}"#, "x".repeat(bytes));
    let mut io = Io::open(server.address);
    io.send(&auth(900));
    assert!(io.text().starts_with("40{"));
    io.send(&format!(r#"427["nobody","{}"]"#, "x".repeat(50_000)));
    assert!(io.text().starts_with("437["), "who is known may say more");
    let mut polled = Polled::open(server.address, IO);
    assert_eq!(polled.post(auth(1_100).as_bytes()).status, 413);
    let mut polled = Polled::resume(server.address, &polled.target, &polled.sid);
    polled.say("40");
    assert!(polled.poll().starts_with("40{"));
    let mut stranger = Io::open(server.address);
    stranger.send(&auth(1_100));
    let end = stranger.wire.until_end();
    assert!(format!("{end:?}").starts_with("[close Some(1009)"), "{end:?}");
}

#[test]
fn nothing_of_a_namespace_is_written_before_its_connect_is_answered() {
    let server = start(options());
    let mut polled = Polled::open(server.address, &format!("{IO}&channels=news"));
    let asked = once(server.address, "POST", &polled.target, b"40\x1e427[\"nobody\"]");
    assert_eq!(asked.body, "ok");
    let packets = polled.packets(2);
    assert!(packets[0].starts_with("40{") && packets[1].starts_with("437["), "{packets:?}");
    let mut io = Io::open(server.address);
    io.send("40/chat,");
    io.send(r#"42/chat,7["nobody"]"#);
    assert!(io.text().starts_with("40/chat,{"));
    assert!(io.text().starts_with("43/chat,7["));
    io.send("2");
    is_closed(&mut io.wire);
}
