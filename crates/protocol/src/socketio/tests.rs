use duplex_core::{
    Able, Answer, Audience, ClientId, CloseReason, Closing, Command, Draft, Epoch, EventName, Frame, Json,
    Message, Payload, Position, Protocol, Publication, Recovered, RequestId, Step, Steps, Ticket,
};

use super::*;

const CLIENT: &str = "000102030405060708090a0b0c0d0e0f";

fn json(text: &str) -> Json {
    Json::check(serde_json::from_str(text).unwrap()).unwrap()
}

fn socket(namespace: &str, form: Form) -> Socket {
    let introduction =
        Introduction { token: None, hello: None, channels: Vec::new(), pid: None, returning: None };
    Socket::new(Namespace::parse(namespace).unwrap(), (form, Dialect::V5), 1_000, introduction)
}

fn connected(namespace: &str) -> Socket {
    let mut socket = socket(namespace, Form::Text);
    answer(
        &mut socket,
        0,
        Answer::Connected { client: client(), user: None, expires_in_ms: None, join: vec![] },
    );
    socket
}

fn client() -> ClientId {
    ClientId::parse(CLIENT).unwrap()
}

fn shown(step: &Step) -> String {
    let message = |message: &Message| match message {
        Message::Text(text) => String::from_utf8(text.to_vec()).unwrap(),
        Message::Binary(bytes) => format!("{bytes:?}"),
    };
    match step {
        Step::Send(one) => message(one),
        Step::SendTogether(messages) => messages.iter().map(message).collect::<Vec<_>>().join("+"),
        Step::Ask(_, command) => match command {
            Command::Subscribe { channel, since, .. } => {
                format!("sub {} {:?}", &**channel, since.map(|at| at.offset))
            }
            Command::Publish { channel, event, payload, audience, .. } => {
                let others = if audience.except.is_empty() { "" } else { " to others" };
                format!("pub {} {} {}{others}", &**channel, &**event, payload.json().as_str())
            }
            Command::Call { method, payload } => format!("call {} {}", &**method, payload.json().as_str()),
            other => format!("{other:?}"),
        },
        Step::Reply(request, Ok(args)) => format!("reply {} {}", request.0, args.as_str()),
        Step::Reply(_, Err(_)) | Step::Encode(_) => panic!("Socket.IO has no need of it"),
        Step::Close(reason, _) => format!("close {}", reason.code),
    }
}

fn steps(act: impl FnOnce(&mut Steps)) -> String {
    let mut steps = Steps::new();
    act(&mut steps);
    steps.iter().map(shown).collect::<Vec<_>>().join(" | ")
}

fn answer(socket: &mut Socket, ticket: u64, answer: Answer) -> String {
    steps(|steps| socket.answer(Ticket(ticket), answer, steps))
}

fn say(socket: &mut Socket, text: &str) -> String {
    steps(|steps| socket.receive(Frame::Text(text), steps))
}

fn position(offset: u64) -> Position {
    Position { epoch: Epoch::from_random([0, 0, 0, 0, 0, 0xab]), offset }
}

#[test]
fn packets_go_where_they_belong_or_break_off() {
    use Breach as B;
    let connect = |namespace: &str| format!("connect {namespace}");
    for (messages, last) in [
        (&["0"][..], Ok(connect("/"))),
        (&["0{}"], Ok(connect("/"))),
        (&["0/"], Ok(connect("/"))),
        (&["0/chat"], Ok(connect("/chat"))),
        (&[r#"0/chat,{"token":"x"}"#], Ok(connect("/chat"))),
        (&["0[]"], Err(B::Payload)),
        (&[r#"0"x""#], Err(B::Payload)),
        (&["0", "0"], Err(B::ConnectedAlready)),
        (&["0", "1", "0"], Ok(connect("/"))),
        (&["0", "1", r#"2["e"]"#], Err(B::NotConnected)),
        (&[r#"2["e"]"#], Err(B::NotConnected)),
        (&["0", r#"2/chat,["e"]"#], Err(B::NotConnected)),
        (&["0", r#"2["e"]"#], Ok("message".into())),
        (&["0", "2{}"], Err(B::Payload)),
        (&["0", r#"2abc["e"]"#], Err(B::NotJson)),
        (&["0", "2"], Err(B::Payload)),
        (&["0", "abc"], Err(B::Type)),
        (&["0", ""], Err(B::Type)),
        (&["0", "4{}"], Err(B::Direction)),
        (&["0", "399[1]"], Ok("message".into())),
        (&["0", r#"29007199254740991["e"]"#], Ok("message".into())),
        (&["0", r#"29007199254740992["e"]"#], Err(B::Id)),
        (&["0", r#"50-["e"]"#], Err(B::Attachments)),
        (&["0", r#"511-["e"]"#], Err(B::Attachments)),
        (&["0", r#"51000000000-["e"]"#], Err(B::Attachments)),
        (&["0", r#"5-1-["e"]"#], Err(B::Attachments)),
        (&["0", r#"5["e"]"#], Err(B::Attachments)),
        (&["0", r#"51-["e",{"_placeholder":true,"num":0}]"#, r#"2["e"]"#], Err(B::Interrupted)),
        (&["0", r#"51-["e",{"_placeholder":true,"num":0}]"#, "binary"], Ok("message".into())),
        (&["0", r#"51-["e",{"_placeholder":true,"num":0}]"#, "binary", "binary"], Err(B::Unannounced)),
        (&["0", "binary"], Err(B::Unannounced)),
        (&["0", "1/chat"], Err(B::NotConnected)),
        (&["0/__proto__", "0/__proto__"], Err(B::ConnectedAlready)),
    ] {
        let mut sockets = Sockets::new(Dialect::V5);
        let mut outcome = Ok(String::new());
        for message in messages {
            let frame = if *message == "binary" { Frame::Binary(&[1]) } else { Frame::Text(message) };
            outcome = sockets.route(frame).map(|routed| match routed {
                Routed::Connect { namespace, .. } => format!("connect {namespace}"),
                Routed::Message(..) => "message".to_owned(),
                other => format!("{other:?}"),
            });
        }
        assert_eq!(outcome, last, "{messages:?}");
    }
}

#[test]
fn a_connection_has_so_many_namespaces_and_no_more() {
    let mut sockets = Sockets::new(Dialect::V5);
    for number in 0..16 {
        let packet = format!("0/{number}");
        assert!(matches!(sockets.route(Frame::Text(&packet)), Ok(Routed::Connect { .. })), "{packet}");
    }
    assert!(matches!(sockets.route(Frame::Text("0/more")), Ok(Routed::TooMany { .. })));
    assert!(matches!(sockets.route(Frame::Text("1/3")), Ok(Routed::Disconnect(_))));
    assert!(matches!(sockets.route(Frame::Text("0/more")), Ok(Routed::Connect { .. })));
}

#[test]
fn events_become_what_the_engine_does() {
    for (namespace, said, expected) in [
        ("/", r#"20["$subscribe","news"]"#, "sub news None"),
        ("/", r#"20["$subscribe","news",null]"#, "sub news None"),
        ("/", r#"20["$subscribe","news",{"since":{"epoch":"ab","offset":7}}]"#, "sub news Some(7)"),
        ("/chat", r#"2/chat,0["$subscribe","lobby"]"#, "sub chat:lobby None"),
        ("/", r#"20["$publish","news","e",1]"#, "pub news e 1"),
        ("/", r#"20["$publish","news","e", 1 , {"a":[]} ]"#, r#"pub news e [1 , {"a":[]}]"#),
        ("/", r#"20["$publish","news","e"]"#, "pub news e []"),
        ("/", r#"20["$broadcast","news","e",1]"#, "pub news e 1 to others"),
        ("/", r#"20["add",1,2]"#, "call add [1,2]"),
        ("/", r#"20[17,"x"]"#, r#"call 17 "x""#),
        ("/", r#"20["__proto__"]"#, "call __proto__ []"),
    ] {
        assert_eq!(say(&mut connected(namespace), said), expected, "{said}");
    }
}

#[test]
fn what_cannot_be_done_is_answered_and_what_breaks_the_protocol_ends_it() {
    let refused = |said: &str| {
        let error: serde_json::Value = serde_json::from_str(&said[said.find('[').unwrap()..]).unwrap();
        error[0]["error"]["code"].as_u64().or(error[1]["code"].as_u64())
    };
    for (said, code) in [
        (r#"20["$subscribe"]"#, 107),
        (r#"20["$subscribe",7]"#, 107),
        (r#"20["$subscribe",""]"#, 107),
        (r#"20["$subscribe","a",{"sinse":1}]"#, 107),
        (r#"20["$subscribe","a",{},1]"#, 107),
        (r#"20["$publish","a"]"#, 107),
        (r#"20["$publish","a","connect",1]"#, 107),
        (r#"20["$publish","a","$x",1]"#, 107),
        (r#"20["$publish","a","e",1e999]"#, 107),
        (r#"20["$fly"]"#, 104),
        (r#"2["$fly"]"#, 104),
        (r#"20["a\u0000b"]"#, 107),
    ] {
        let answer = say(&mut connected("/"), said);
        assert_eq!(refused(&answer), Some(code), "{said} {answer}");
        let begins = if said.starts_with("20") { r#"30[{"error":"# } else { r#"2["$error",{"# };
        assert!(answer.starts_with(begins), "{answer}");
    }
    for said in ["2[]", r#"2["connect"]"#, r#"2["newListener",1]"#, "2[null]", "2[{}]", "2[[1]]"] {
        assert_eq!(say(&mut connected("/"), said), "close 3501", "{said}");
    }
}

#[test]
fn answers_are_acks_and_errors_without_an_ack_are_events() {
    let mut socket = connected("/chat");
    let channel = duplex_core::ChannelName::parse("chat:a").unwrap();
    say(&mut socket, r#"2/chat,7["$subscribe","a",{"since":{"epoch":"ab","offset":1}}]"#);
    let subscribed =
        Answer::Subscribed { channel: channel.clone(), position: position(9), recovered: Recovered::All };
    let said = r#"3/chat,7[{"channel":"chat:a","epoch":"ab","offset":9,"recovered":true}]"#;
    assert_eq!(answer(&mut socket, 1, subscribed.clone()), said);
    assert_eq!(answer(&mut socket, 1, Answer::Recovered { channel }), "", "what follows speaks for itself");
    say(&mut socket, r#"2/chat,["$subscribe","a"]"#);
    assert_eq!(answer(&mut socket, 2, subscribed), "", "no ack was wanted");
    say(&mut socket, r#"2/chat,["add",1]"#);
    let refusal = duplex_core::Refusal::new(duplex_core::ErrorCode::NotAvailable, "no");
    let said = r#"2/chat,["$error",{"code":108,"message":"no","event":"add"}]"#;
    assert_eq!(answer(&mut socket, 3, Answer::Refused(refusal)), said);
    say(&mut socket, r#"2/chat,8["add",1]"#);
    let called = Answer::Called { payload: Payload::Args(json("[1,2]")) };
    assert_eq!(answer(&mut socket, 4, called), "3/chat,8[1,2]");
}

#[test]
fn attachments_become_binary_data_in_their_places() {
    let mut socket = connected("/");
    let packet =
        r#"52-0["$publish","a","e",{"_placeholder":true,"num":1},["{",{"x":{"num":0,"_placeholder":true}}]]"#;
    assert_eq!(say(&mut socket, packet), "");
    assert_eq!(steps(|steps| socket.receive(Frame::Binary(&[1, 2, 3]), steps)), "");
    let published = steps(|steps| socket.receive(Frame::Binary(&[9]), steps));
    assert_eq!(published, r#"pub a e ["CQ==",["{",{"x":"AQID"}]]"#);
    for broken in [
        r#"51-["e",{"_placeholder":true,"num":1}]"#,
        r#"51-["e",{"_placeholder":true,"num":-1}]"#,
        r#"51-["e",{"_placeholder":true,"num":"0"}]"#,
        r#"51-["e",{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]"#,
        r#"51-["e"]"#,
    ] {
        let mut socket = connected("/");
        say(&mut socket, broken);
        assert_eq!(steps(|steps| socket.receive(Frame::Binary(&[1]), steps)), "close 3501", "{broken}");
    }
    let mut socket = connected("/");
    say(&mut socket, r#"51-["e",{"_placeholder":true,"num":0}]"#);
    assert_eq!(steps(|steps| socket.receive(Frame::Binary(&[0; 2_000]), steps)), "close 1009");
}

fn published(channel: &str, payload: Payload) -> Publication {
    let draft = Draft {
        channel: duplex_core::ChannelName::parse(channel).unwrap(),
        event: EventName::parse("e").unwrap(),
        payload,
        tags: Default::default(),
        client: None,
        time_ms: 0,
        key: None,
        audience: Audience::default(),
    };
    Publication { position: position(7), order: 0, draft }
}

fn parts(parts: Vec<Part>) -> String {
    let shown = parts.into_iter().map(|part| match part {
        Part::Text(text) => text,
        Part::Binary(bytes) => format!("{bytes:?}"),
    });
    shown.collect::<Vec<_>>().join("+")
}

#[test]
fn a_publication_is_an_event_in_each_shape() {
    let binary = |text: &str, spans: &[(usize, usize)]| {
        let spans = spans.iter().map(|&(start, end)| duplex_core::Span { start, end }).collect();
        Json::check_with_binary(serde_json::from_str(text).unwrap(), spans).unwrap()
    };
    let two = || Payload::Args(binary(r#"["AQI=",{"x":"Aw=="}]"#, &[(1, 7), (13, 19)]));
    let placed = r#"["e",{"_placeholder":true,"num":0},{"x":{"_placeholder":true,"num":1}}"#;
    for (payload, within, stamp, expected) in [
        (Payload::Data(json("1")), Within::Root, Stamp::Off, r#"2["e",1]"#.to_owned()),
        (Payload::Data(json("1")), Within::OwnNamespace, Stamp::Off, r#"2/chat,["e",1]"#.to_owned()),
        (Payload::Data(json("1")), Within::Root, Stamp::Offset, r#"2["e",1,"ab.7"]"#.to_owned()),
        (Payload::Args(json("[ ]")), Within::Root, Stamp::Off, r#"2["e", ]"#.replace(", ", "")),
        (Payload::Args(json("[]")), Within::Root, Stamp::Offset, r#"2["e","ab.7"]"#.to_owned()),
        (Payload::Args(json("[1, [2]]")), Within::Root, Stamp::Off, r#"2["e",1, [2]]"#.to_owned()),
        (two(), Within::Root, Stamp::Off, format!("52-{placed}]+[1, 2]+[3]")),
        (two(), Within::OwnNamespace, Stamp::Offset, format!(r#"52-/chat,{placed},"ab.7"]+[1, 2]+[3]"#)),
        (
            Payload::Data(binary(r#""AQI=""#, &[(0, 6)])),
            Within::Root,
            Stamp::Off,
            r#"51-["e",{"_placeholder":true,"num":0}]+[1, 2]"#.to_owned(),
        ),
    ] {
        let shape = Shape { form: Form::Text, within, stamp };
        assert_eq!(parts(publication(&published("chat:a", payload), shape)), expected);
    }
    let shape = Shape { form: Form::MessagePack, within: Within::OwnNamespace, stamp: Stamp::Off };
    let packed = publication(&published("chat:a", two()), shape);
    let expected = b"\x83\xa4type\x02\xa3nsp\xa5/chat\xa4data\x93\xa1e\xc4\x02\x01\x02\x81\xa1x\xc4\x01\x03";
    assert_eq!(packed, [Part::Binary(expected.to_vec())]);
}

#[test]
fn what_the_application_asks_is_answered_once() {
    let mut socket = connected("/");
    let ask = |socket: &mut Socket, id| {
        steps(|steps| {
            let able = socket.request(
                RequestId(id),
                &EventName::parse("q").unwrap(),
                &Payload::Data(json("1")),
                steps,
            );
            assert_eq!(able, Able::Yes);
        })
    };
    assert_eq!(ask(&mut socket, 70), r#"20["q",1]"#);
    assert_eq!(ask(&mut socket, 71), r#"21["q",1]"#);
    assert_eq!(say(&mut socket, r#"31["a",2]"#), r#"reply 71 ["a",2]"#);
    assert_eq!(say(&mut socket, "31[]"), "", "a second answer");
    assert_eq!(say(&mut socket, "35[]"), "", "nobody asked");
    assert_eq!(say(&mut socket, "30[]"), "reply 70 []");
    (0..1_500).for_each(|id| drop(ask(&mut socket, id)));
    assert_eq!(say(&mut socket, "32[]"), "", "questions nobody answers do not pile up");
    assert_eq!(say(&mut socket, "31501[]"), "reply 1499 []");
}

#[test]
fn who_comes_back_is_greeted_when_it_has_everything() {
    let news = duplex_core::ChannelName::parse("news").unwrap();
    let returning = Returning { user: None, channels: vec![(news.clone(), Some(position(3)))] };
    let introduction = Introduction {
        token: None,
        hello: None,
        channels: Vec::new(),
        pid: Some("secret".into()),
        returning: Some(returning),
    };
    let mut socket =
        Socket::new(Namespace::parse("/").unwrap(), (Form::Text, Dialect::V5), 1_000, introduction);
    let hello = Answer::Connected { client: client(), user: None, expires_in_ms: None, join: vec![] };
    assert_eq!(answer(&mut socket, Ticket::OWN.0, hello), "sub news Some(3)");
    let subscribed =
        |recovered| Answer::Subscribed { channel: news.clone(), position: position(5), recovered };
    assert_eq!(answer(&mut socket, Ticket::OWN.0, subscribed(Recovered::All)), "");
    let greeting = format!(r#"0{{"sid":"{CLIENT}","pid":"secret"}}"#);
    assert_eq!(answer(&mut socket, Ticket::OWN.0, Answer::Recovered { channel: news.clone() }), greeting);
    let emission = duplex_core::Emission {
        event: EventName::parse("e").unwrap(),
        payload: Payload::Data(json(r#""x""#)),
    };
    let told = answer(&mut socket, Ticket::OWN.0, Answer::Told { events: vec![emission] });
    assert_eq!(told, r#"2["e","x",null]"#, "a text at the end would be taken for an offset");
}

#[test]
fn leave_is_taken_in_the_words_that_clients_act_on() {
    let closing = |socket: &mut Socket, reason| {
        steps(|steps| socket.closing(&Closing { reason, detail: "", after_ms: None }, steps))
    };
    for (reason, stranger, known) in [
        (&CloseReason::REVOKED, r#"4{"message":"revoked","data":{"code":3507}}"#, "1"),
        (&CloseReason::TRY_LATER, r#"4{"message":"try again later","data":{"code":1013}}"#, ""),
        (&CloseReason::RESTART, "", ""),
        (
            &CloseReason::SLOW,
            r#"4{"message":"slow: reads more slowly than it is sent to","data":{"code":3008}}"#,
            "",
        ),
        (&CloseReason::GOING_AWAY, "", ""),
    ] {
        assert_eq!(closing(&mut socket("/", Form::Text), reason), stranger, "{reason:?}");
        assert_eq!(closing(&mut connected("/"), reason), known, "{reason:?}");
    }
}

#[test]
fn a_namespace_is_the_channels_behind_its_name() {
    for (name, channel) in [
        ("/", Some("x")),
        ("/chat", Some("chat:x")),
        ("/a/b", Some("a/b:x")),
        ("/__proto__", Some("__proto__:x")),
        ("chat", None),
        ("", None),
        ("/a:b", None),
        ("/a\u{7}", None),
        ("//", Some("/:x")),
    ] {
        let namespace = Namespace::parse(name);
        let found = namespace.and_then(|namespace| namespace.channel("x").ok());
        assert_eq!(found.as_deref(), channel, "{name:?}");
    }
    assert_eq!(Namespace::parse(&format!("/{}", "x".repeat(200))), None);
    let chat = Namespace::parse("/chat").unwrap();
    assert!(chat.channel("").is_err());
}
