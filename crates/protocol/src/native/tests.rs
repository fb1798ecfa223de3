use super::*;
use duplex_core::{
    Attendance, Change, ClientId, Epoch, Json, Member, Message, Position, Present, Recovered, UserId,
};

fn native() -> Native {
    let welcome = Welcome { version: "0", heartbeat_ms: 25_000, message_bytes_max: 9, subscriptions_max: 2 };
    Native::new(Arc::new(welcome), Form::Json)
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
        Step::Reply(..) | Step::SendTogether(_) | Step::Encode(_) => {
            panic!("the native protocol has no need of it")
        }
        Step::Ask(ticket, Command::Connect { token, .. }) => {
            format!("connect#{}{}", ticket.0, token.map_or(String::new(), |token| format!(" {token}")))
        }
        Step::Ask(ticket, Command::Refresh { token }) => format!("refresh#{} {token}", ticket.0),
        Step::Ask(ticket, Command::Presence { channel, detail }) => {
            format!("presence#{} {} {detail:?}", ticket.0, &*channel)
        }
        Step::Ask(ticket, Command::Call { method, payload }) => {
            format!("call#{} {} {payload:?}", ticket.0, &*method)
        }
        Step::Ask(ticket, Command::Subscribe { channel, since, token, .. }) => {
            let since = since.map_or(String::new(), |since| format!("@{}:{}", since.epoch, since.offset));
            let token = token.map_or(String::new(), |token| format!(" with {token}"));
            format!("subscribe#{} {}{since}{token}", ticket.0, &*channel)
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
        (r#"{"id":2,"subscribe":{"channel":"a","token":"t"}}"#, "subscribe#2 a with t"),
        (r#"{"id":3,"refresh":{"token":"t"}}"#, "refresh#3 t"),
        (r#"{"id":4,"presence":{"channel":"a"}}"#, "presence#4 a Members"),
        (r#"{"id":4,"presence_stats":{"channel":"a"}}"#, "presence#4 a Count"),
        (r#"{"id":5,"call":{"method":"add","args":[1,2]}}"#, r#"call#5 add Args(Json("[1,2]"))"#),
        (r#"{"unsubscribe":{"channel":"news"}}"#, "unsubscribe#0 news"),
        (
            r#"{"id":9,"publish":{"channel":"a","data": {"x": 1.0} }}"#,
            r#"publish#9 a message Data(Json("{\"x\": 1.0}")) {}"#,
        ),
        (
            r#"{"publish":{"channel":"a","event":"e","args":[1,2],"tags":{"k":"v"},"new":true}}"#,
            r#"publish#0 a e Args(Json("[1,2]")) {"k": "v"}"#,
        ),
        (r#"{"publish":{"channel":"a","data":null}}"#, "publish#0 a message Data(Json(\"null\")) {}"),
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
        (r#"{"id":3,"presences":{}}"#, 104, "unknown command"),
        (r#"{"id":3,"presence":{}}"#, 107, "missing field `channel`"),
        (r#"{"id":3,"call":{"method":"","data":1}}"#, 107, "method: is empty"),
        (r#"{"id":3,"call":{"method":"m"}}"#, 107, "neither data nor args"),
        (r#"{"id":3,"refresh":{}}"#, 107, "missing field `token`"),
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
    let mut native = Native::subscribed(welcome, Form::Json, channels);
    let mut steps = Steps::new();
    native.open(&mut steps);
    let opening = u64::MAX;
    assert_eq!(
        steps.drain(..).map(shown).collect::<Vec<_>>(),
        [format!("connect#{opening}"), format!("subscribe#{opening} a"), format!("subscribe#{opening} b")]
    );
    native.answer(Ticket(opening), welcomed(Vec::new()), &mut steps);
    assert!(
        shown(steps.pop_front().unwrap())
            .starts_with(r#"{"connected":{"client":"00000000000000000000000000000000","#)
    );
}

fn welcomed(join: Vec<ChannelName>) -> Answer {
    Answer::Connected { client: ClientId::from_random([0; 16]), user: None, expires_in_ms: None, join }
}

#[test]
fn channels_in_the_token_are_recovered_from_where_the_client_stood() {
    let mut native = native();
    let connect = r#"{"id":1,"connect":{"token":"t","since":{"b":{"epoch":"ff","offset":7}}}}"#;
    assert_eq!(say(&mut native, connect), "connect#1 t");
    let mut steps = Steps::new();
    let join = ["a", "b"].map(|name| ChannelName::parse(name).unwrap()).to_vec();
    native.answer(Ticket(1), welcomed(join), &mut steps);
    let done: Vec<String> = steps.drain(..).skip(1).map(shown).collect();
    let opening = u64::MAX;
    assert_eq!(done, [format!("subscribe#{opening} a"), format!("subscribe#{opening} b@ff:7")]);
}

#[test]
fn a_client_is_told_when_to_come_back_if_it_matters_and_everything_if_nothing_else_tells_it() {
    let last_words = |mut native: Native, reason, detail, after_ms| {
        let mut steps = Steps::new();
        native.closing(&Closing { reason, detail, after_ms }, &mut steps);
        steps.into_iter().map(shown).collect::<String>()
    };
    assert_eq!(last_words(connected(), &CloseReason::SLOW, "", None), "");
    assert_eq!(
        last_words(connected(), &CloseReason::RESTART, "", Some(250)),
        r#"{"closing":{"code":1012,"message":"server restart: come back","reconnect":true,"after_ms":250}}"#
    );
    assert_eq!(
        last_words(connected().movable(), &CloseReason::STALE, "why", None),
        r#"{"closing":{"code":3502,"message":"stale: no connect command in time: why","reconnect":false}}"#
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
        (
            3,
            Answer::Counted { channel: channel.clone(), attendance: Attendance { clients: 3, users: 2 } },
            r#"{"id":3,"presence_stats":{"channel":"news","clients":3,"users":2}}"#,
        ),
        (
            3,
            Answer::Present { channel: channel.clone(), present: alice() },
            r#"{"id":3,"presence":{"channel":"news","clients":1,"users":1,"members":[{"client":"00000000000000000000000000000000","user":"alice","info":{"name": "A"}}]}}"#,
        ),
        (
            9,
            Answer::Called { payload: duplex_core::Payload::Data(json("[1]")) },
            r#"{"id":9,"called":{"data":[1]}}"#,
        ),
        (
            8,
            Answer::Refreshed { expires_in_ms: Some(60_000) },
            r#"{"id":8,"refreshed":{"expires_in_ms":60000}}"#,
        ),
        (0, Answer::Refused(Refusal::bad_request("no")), r#"{"error":{"code":107,"message":"no"}}"#),
    ] {
        let mut steps = Steps::new();
        native.answer(Ticket(ticket), answer, &mut steps);
        assert_eq!(steps.into_iter().map(shown).collect::<String>(), text);
    }
}

fn json(text: &str) -> Json {
    Json::check(serde_json::from_str(text).unwrap()).unwrap()
}

fn member() -> Arc<Member> {
    let (client, user) = (ClientId::from_random([0; 16]), UserId::parse("alice").ok());
    Arc::new(Member { client, user, info: Some(json(r#"{"name": "A"}"#)) })
}

fn alice() -> Present {
    Present { attendance: Attendance { clients: 1, users: 1 }, members: vec![member()] }
}

#[test]
fn who_joined_or_left_reads_as_documented() {
    let change = |change| {
        let channel = ChannelName::parse("news").unwrap();
        let change = PresenceChange { channel, member: member(), change };
        String::from_utf8(presence(&change, Form::Json)).unwrap()
    };
    let body = r#"{"channel":"news","client":"00000000000000000000000000000000","user":"alice","info":{"name": "A"}}"#;
    assert_eq!(change(Change::Joined), format!(r#"{{"joined":{body}}}"#));
    assert_eq!(change(Change::Left), format!(r#"{{"left":{body}}}"#));
}
