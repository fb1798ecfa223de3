use super::*;
use duplex_core::{ClientId, Epoch, Message, Position, Recovered};

fn native() -> Native {
    let welcome = Welcome { version: "0", heartbeat_ms: 25_000, message_bytes_max: 9, subscriptions_max: 2 };
    Native::new(Arc::new(welcome))
}

fn connected() -> Native {
    let mut native = native();
    let mut steps = Steps::new();
    native.open(&mut steps);
    native.receive(Frame::Text(r#"{"connect":{}}"#), &mut steps);
    native
}

/// What the protocol does with `text`, in short.
fn say(native: &mut Native, text: &str) -> String {
    let mut steps = Steps::new();
    native.receive(Frame::Text(text), &mut steps);
    steps.into_iter().map(shown).collect::<Vec<_>>().join(" ")
}

fn shown(step: Step) -> String {
    match step {
        Step::Send(Message::Text(text)) => String::from_utf8(text.to_vec()).unwrap(),
        Step::Send(Message::Binary(_)) => panic!("JSON goes in text messages"),
        Step::Ask(ticket, Command::Connect) => format!("connect#{}", ticket.0),
        Step::Ask(ticket, Command::Subscribe { channel, since }) => {
            let since = since.map_or(String::new(), |since| format!("@{}:{}", since.epoch, since.offset));
            format!("subscribe#{} {}{since}", ticket.0, &*channel)
        }
        Step::Ask(ticket, Command::Unsubscribe { channel }) => {
            format!("unsubscribe#{} {}", ticket.0, &*channel)
        }
        Step::Ask(ticket, Command::History { channel, page }) => {
            let since =
                page.since.map_or(String::new(), |since| format!("@{}:{}", since.epoch, since.offset));
            format!("history#{} {}{since} {} {:?}", ticket.0, &*channel, page.limit, page.order)
        }
        Step::Ask(ticket, Command::Publish { channel, event, payload, tags, .. }) => {
            let tags = tags.pairs();
            format!("publish#{} {} {} {payload:?} {tags:?}", ticket.0, &*channel, &*event)
        }
        Step::Close(reason, _) => format!("close {}", reason.code),
    }
}

#[test]
fn commands_become_what_the_engine_does() {
    let mut native = connected();
    for (text, done) in [
        (r#"{"id":2,"subscribe":{"channel":"news"}}"#, "subscribe#2 news"),
        (r#"{"subscribe":{"channel":"n\u0065ws","since":null},"id":2}"#, "subscribe#2 news"),
        (r#"{"id":2,"subscribe":{"channel":"a","since":{"epoch":"ff","offset":7}}}"#, "subscribe#2 a@ff:7"),
        (r#"{"unsubscribe":{"channel":"news"}}"#, "unsubscribe#0 news"),
        (
            r#"{"id":9,"publish":{"channel":"a","data": {"x": 1.0} }}"#,
            r#"publish#9 a message Data(Json(b"{\"x\": 1.0}")) {}"#,
        ),
        (
            r#"{"publish":{"channel":"a","event":"e","args":[1,2],"tags":{"k":"v"},"new":true}}"#,
            r#"publish#0 a e Args(Json(b"[1,2]")) {"k": "v"}"#,
        ),
        (r#"{"publish":{"channel":"a","data":null}}"#, "publish#0 a message Data(Json(b\"null\")) {}"),
        (r#"{"id":6,"history":{"channel":"a"}}"#, "history#6 a 100 OldestFirst"),
        (
            r#"{"id":6,"history":{"channel":"a","since":{"epoch":"ff","offset":7},"limit":5,"reverse":true}}"#,
            "history#6 a@ff:7 5 NewestFirst",
        ),
        (r#"{"ping":{}}"#, r#"{"pong":{}}"#),
        (r#"{"id":5,"ping":{}}"#, r#"{"id":5,"pong":{}}"#),
        (r#"[{"ping":{}},{"id":1,"unsubscribe":{"channel":"a"}}]"#, r#"{"pong":{}} unsubscribe#1 a"#),
    ] {
        assert_eq!(say(&mut native, text), done, "{text}");
    }
}

#[test]
fn what_is_not_a_right_command_is_answered_with_the_reason_and_not_carried_out() {
    let mut native = connected();
    for (text, code, part) in [
        ("null", 107, "expected a command"),
        ("[]", 107, "array of 0"),
        ("[null]", 107, "expected a command"),
        ("7", 107, "expected a command"),
        ("{}", 107, "no command"),
        (r#"{"id":1}"#, 107, "no command"),
        (r#"{"id":0,"ping":{}}"#, 107, "id: must be an integer"),
        (r#"{"id":-1,"ping":{}}"#, 107, "id: must be"),
        (r#"{"id":1.5,"ping":{}}"#, 107, "id: must be"),
        (r#"{"id":"1","ping":{}}"#, 107, "id: must be"),
        (r#"{"id":9007199254740992,"ping":{}}"#, 107, "id: must be"),
        (r#"{"id":1,"id":2,"ping":{}}"#, 107, "twice"),
        (r#"{"subscribe":{"channel":"a"},"publish":{"channel":"a","data":1}}"#, 107, "more than one"),
        (r#"{"id":3,"connect":{}}"#, 107, "already connected"),
        (r#"{"id":3,"presence":{}}"#, 104, "unknown command"),
        (r#"{"id":3,"history":{"channel":"a","limit":0}}"#, 107, "limit: is 0"),
        (r#"{"id":3,"history":{"channel":"a","limit":1001}}"#, 107, "limit: is 1001"),
        (r#"{"id":3,"history":{"channel":"a","limit":-1}}"#, 107, "history: invalid value"),
        (r#"{"id":3,"__proto__":{}}"#, 104, "unknown command"),
        (r#"{"id":3,"subscribe":null}"#, 107, "subscribe: must be an object"),
        (r#"{"id":3,"subscribe":{}}"#, 107, "missing field `channel`"),
        (r#"{"id":3,"subscribe":{"channel":7}}"#, 107, "subscribe: invalid type"),
        (r#"{"id":3,"subscribe":{"channel":"a","channel":"b"}}"#, 107, "duplicate field"),
        (r#"{"id":3,"subscribe":{"channel":""}}"#, 107, "channel: is empty"),
        (r#"{"id":3,"subscribe":{"channel":"a","since":{"epoch":"zz","offset":1}}}"#, 107, "since.epoch"),
        (r#"{"id":3,"subscribe":{"channel":"a","since":{"epoch":"aa","offset":-1}}}"#, 107, "invalid value"),
        (r#"{"id":3,"publish":{"channel":"a"}}"#, 107, "neither data nor args"),
        (r#"{"id":3,"publish":{"channel":"a","data":1,"args":[]}}"#, 107, "both data and args"),
        (r#"{"id":3,"publish":{"channel":"a","args":{}}}"#, 107, "not an array"),
        (r#"{"id":3,"publish":{"channel":"a","event":"$x","data":1}}"#, 107, "event: begins with '$'"),
        (
            r#"{"id":3,"publish":{"channel":"a","data":1,"idempotency_key":""}}"#,
            107,
            "idempotency_key: is empty",
        ),
        (r#"{"id":3,"publish":{"channel":"a","data":1e400}}"#, 107, "data: has a number"),
        (r#"{"id":3,"publish":{"channel":"a","data":"\ud800"}}"#, 107, "data: has an unpaired"),
    ] {
        let answer = say(&mut native, text);
        assert!(
            answer.contains(&format!(r#""error":{{"code":{code}"#)) && answer.contains(part),
            "{text}: {answer}"
        );
        assert_eq!(answer.contains(r#""id":3"#), text.contains(r#""id":3"#), "{text}: {answer}");
    }
}

#[test]
fn an_array_with_one_bad_command_does_the_others() {
    let good = |id| format!(r#"{{"id":{id},"unsubscribe":{{"channel":"a"}}}}"#);
    let mut commands: Vec<String> = (1..=100).map(good).collect();
    commands[50] = "null".to_owned();
    let done = say(&mut connected(), &format!("[{}]", commands.join(",")));
    assert_eq!((done.matches("unsubscribe#").count(), done.matches(r#""code":107"#).count()), (99, 1));
}

#[test]
fn what_is_not_json_closes_the_connection() {
    let deep = "[".repeat(10_000);
    for text in ["", " ", "{", "hello", r#"{"ping":{}} x"#, "{'ping':{}}", &deep] {
        assert_eq!(say(&mut connected(), text), "close 3501", "{text:.20}");
    }
    let mut steps = Steps::new();
    connected().receive(Frame::Binary(b"{}"), &mut steps);
    assert_eq!(steps.into_iter().map(shown).collect::<String>(), "close 3501");
}

#[test]
fn before_connect_nothing_but_ping_is_carried_out() {
    for text in
        [r#"{"subscribe":{"channel":"a"}}"#, r#"{"nonsense":{}}"#, r#"[{"publish":{}},{"connect":{}}]"#]
    {
        assert_eq!(say(&mut native(), text), "close 3501", "{text}");
    }
    assert_eq!(
        say(&mut native(), r#"[{"ping":{}},{"id":1,"connect":{}},{"ping":{}}]"#),
        r#"{"pong":{}} connect#1 {"pong":{}}"#
    );
}

#[test]
fn an_address_with_channels_connects_and_subscribes() {
    let welcome = native().welcome;
    let channels = ["a", "b"].map(|name| ChannelName::parse(name).unwrap()).to_vec();
    let mut native = Native::subscribed(welcome, channels);
    let mut steps = Steps::new();
    native.open(&mut steps);
    let opening = u64::MAX;
    assert_eq!(
        steps.drain(..).map(shown).collect::<Vec<_>>(),
        [format!("connect#{opening}"), format!("subscribe#{opening} a"), format!("subscribe#{opening} b")]
    );
    native.answer(Ticket(opening), Answer::Connected { client: ClientId::from_random([0; 16]) }, &mut steps);
    assert!(
        shown(steps.pop_front().unwrap())
            .starts_with(r#"{"connected":{"client":"00000000000000000000000000000000","#)
    );
}

#[test]
fn answers_read_as_documented() {
    let position = Position { epoch: Epoch::parse("f3a91c07").unwrap(), offset: 41 };
    let channel = ChannelName::parse("news").unwrap();
    let subscribed = |recovered| Answer::Subscribed { channel: channel.clone(), position, recovered };
    let mut native = connected();
    for (ticket, answer, text) in [
        (
            2,
            subscribed(Recovered::NotAsked),
            r#"{"id":2,"subscribed":{"channel":"news","epoch":"f3a91c07","offset":41}}"#,
        ),
        (
            2,
            subscribed(Recovered::Nothing),
            r#"{"id":2,"subscribed":{"channel":"news","epoch":"f3a91c07","offset":41,"recovered":false}}"#,
        ),
        (0, subscribed(Recovered::All), ""),
        (
            4,
            Answer::Published { channel: channel.clone(), position },
            r#"{"id":4,"published":{"channel":"news","epoch":"f3a91c07","offset":41}}"#,
        ),
        (
            3,
            Answer::Unsubscribed { channel: channel.clone() },
            r#"{"id":3,"unsubscribed":{"channel":"news"}}"#,
        ),
        (0, Answer::Refused(Refusal::bad_request("no")), r#"{"error":{"code":107,"message":"no"}}"#),
    ] {
        let mut steps = Steps::new();
        native.answer(Ticket(ticket), answer, &mut steps);
        assert_eq!(steps.into_iter().map(shown).collect::<String>(), text);
    }
}
