//! 3.8: the native protocol, spoken wrongly or too much. Codes are those of `docs/protocol.md`.

use serde_json::{Value, json};

use crate::support::frames::client_frame;
use crate::support::http::say;
use crate::support::native::{offset, since};
use crate::support::wire::Wire;
use crate::support::{keeping, options};
use crate::table::{Door, Expect, House, Row, check, frames, play, row, shown};

fn text(command: &str) -> Vec<u8> {
    client_frame(0x81, command.as_bytes())
}

fn native(name: impl Into<String>, command: &str, expect: impl Into<Expect>) -> Row {
    row(name, Door::Native, text(command), expect)
}

fn publish(data: &str) -> String {
    format!(r#"{{"id":2,"publish":{{"channel":"a","data":{data}}}}}"#)
}

#[test]
fn nothing_is_carried_out_before_connect() {
    let mut house = House::open(options());
    let address = house.server.address;
    let first = say(address, "a", "first");
    let stranger = |command: &str, expect: Expect| {
        row(format!("3.8/80 {command} first"), Door::Stranger, text(command), expect)
    };
    house.try_rows([
        stranger(r#"{"id":2,"subscribe":{"channel":"a"}}"#, Expect::Close(3501)),
        stranger(&publish("1"), Expect::Close(3501)),
        stranger(r#"[{"publish":{"channel":"a","data":1}},{"connect":{}}]"#, Expect::Close(3501)),
        stranger(r#"{"id":2,"nonsense":{}}"#, Expect::Close(3501)),
        stranger(r#"{"id":2,"ping":{}}"#, frames(["pong#2"])),
        stranger(r#"[{"ping":{}},{"id":2,"connect":{}}]"#, frames(["pong", "connected#2"])),
        native("3.8/80 a second connect", r#"{"id":2,"connect":{}}"#, frames(["error#2 107"])),
        native("3.8/80 an unknown command", r#"{"id":2,"explode":{}}"#, frames(["error#2 104"])),
        native("3.8/80 an unknown command without an id", r#"{"explode":{}}"#, frames(["error 104"])),
        native("3.8/80 a reserved command", r#"{"id":2,"batch":{}}"#, frames(["error#2 104"])),
        native("3.8/80 __proto__", r#"{"id":2,"__proto__":{}}"#, frames(["error#2 104"])),
    ]);
    assert_eq!(offset(&say(address, "a", "second")), offset(&first) + 1, "something was published meanwhile");
    house.judge();
}

#[test]
fn what_is_not_a_command_is_answered_or_ends_the_connection() {
    let mut batch: Vec<String> = (2..102).map(|id| format!(r#"{{"id":{id},"ping":{{}}}}"#)).collect();
    batch[50] = "null".to_owned();
    let mut answers: Vec<String> = (2..102).map(|id| format!("pong#{id}")).collect();
    answers[50] = "error 107".to_owned();
    let too_many = format!("[{}]", vec![r#"{"ping":{}}"#; 129].join(","));
    let most = format!("[{}]", vec![r#"{"ping":{}}"#; 128].join(","));
    let mut rows = vec![
        native(
            "3.8/81 100 commands with one bad",
            &format!("[{}]", batch.join(",")),
            Expect::Frames(answers),
        ),
        native("3.8/81 128 commands", &most, Expect::Frames(vec!["pong".to_owned(); 128])),
        native("3.8/81 129 commands", &too_many, frames(["error 107"])),
        row("3.8/81 an empty frame", Door::Native, client_frame(0x81, b""), 3501),
        row("3.8/81 a binary message", Door::Native, client_frame(0x82, br#"{"ping":{}}"#), 3501),
        row("3.8/81 an empty binary message", Door::Native, client_frame(0x82, b""), 3501),
    ];
    for not_json in
        [" ", "{", "hello", r#"{"ping":{}} x"#, r#"{"ping":{}}{"ping":{}}"#, "{'ping':{}}", "\u{feff}{}"]
    {
        rows.push(native(format!("3.8/81 {not_json:?}"), not_json, 3501));
    }
    for bad in ["null", "[]", "[null]", "[[]]", "1", "\"ping\"", "{}", r#"{"id":2}"#, "[{}]"] {
        rows.push(native(format!("3.8/81 {bad}"), bad, frames(["error 107"])));
    }
    for id in ["0", "-1", "1.5", "9007199254740992", "\"2\"", "null", "1e2"] {
        let command = format!(r#"{{"id":{id},"ping":{{}}}}"#);
        rows.push(native(format!("3.8/81 id {id}"), &command, frames(["error 107"])));
    }
    check(options(), rows);
}

#[test]
fn json_that_some_parsers_refuse_is_refused() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let objects = |depth: usize| format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
    let refused =
        |name: &str, data: &str| native(format!("3.8/82 {name}"), &publish(data), frames(["error#2 107"]));
    let taken =
        |name: &str, data: &str| native(format!("3.8/82 {name}"), &publish(data), frames(["published#2"]));
    check(
        options(),
        [
            refused("65 arrays", &nested(65)),
            refused("65 objects", &objects(65)),
            refused("10,000 arrays", &nested(10_000)),
            refused("1e400", "1e400"),
            refused("-1e400 in an array", "[-1e400]"),
            refused("a number of 60,000 digits", &"9".repeat(60_000)),
            refused("half a surrogate pair", r#""\ud800""#),
            refused("the other half", r#""\udc00\ud800""#),
            taken("64 arrays", &nested(64)),
            taken("a surrogate pair", r#""\ud83d\ude00""#),
            taken("duplicate keys in a payload", r#"{"a":1,"a":2}"#),
            taken("__proto__ in a payload", r#"{"__proto__":{"x":1}}"#),
            native("3.8/82 a number of 1 MB", &publish(&"9".repeat(1 << 20)), 1009),
            native("3.8/82 10,000 open arrays", &"[".repeat(10_000), 3501),
            native("3.8/82 10,000 arrays for a command", &nested(10_000), frames(["error 107"])),
            native("3.8/82 9,000 objects for a command", &objects(9_000), frames(["error 104"])),
            native("3.8/82 a command twice", r#"{"id":2,"ping":{},"ping":{}}"#, frames(["error 107"])),
            native("3.8/82 an id twice", r#"{"id":2,"id":3,"ping":{}}"#, frames(["error 107"])),
            native(
                "3.8/82 a channel twice",
                r#"{"id":2,"subscribe":{"channel":"a","channel":"b"}}"#,
                frames(["error#2 107"]),
            ),
            native("3.8/82 a control character in a string", &publish("\"\u{1}\""), 3501),
            native("3.8/82 NaN", &publish("NaN"), 3501),
        ],
    );
}

#[test]
fn a_client_has_only_so_many_subscriptions() {
    let mut house = House::open(options());
    let greedy = play(|wire: &mut Wire| {
        let mut answers = Vec::new();
        for batch in (0..10_000).collect::<Vec<_>>().chunks(100) {
            let subscribe = |n: &i32| format!(r#"{{"id":2,"subscribe":{{"channel":"c{n}"}}}}"#);
            wire.send_text(&format!("[{}]", batch.iter().map(subscribe).collect::<Vec<_>>().join(",")));
            answers.extend(batch.iter().map(|_| shown(&wire.next())));
        }
        assert!(answers[..128].iter().all(|answer| answer == "subscribed#2"));
        assert!(answers[128..].iter().all(|answer| answer == "error#2 106"));
        wire.send_text(r#"{"id":2,"unsubscribe":{"channel":"c0"}}"#);
        wire.send_text(r#"{"id":3,"subscribe":{"channel":"d"}}"#);
        assert_eq!([wire.next(), wire.next()].map(|frame| shown(&frame)), ["unsubscribed#2", "subscribed#3"]);
    });
    let names = [
        ("256 bytes", "a".repeat(256), "error#2 107"),
        ("128 characters of two bytes", "ä".repeat(128), "error#2 107"),
        ("255 bytes", "a".repeat(255), "subscribed#2"),
        ("no bytes", String::new(), "error#2 107"),
        ("a line break", r"a\nb".to_owned(), "error#2 107"),
        ("a NUL", r"a\u0000".to_owned(), "error#2 107"),
        ("a C1 control", r"a\u0085".to_owned(), "error#2 107"),
        ("no namespace", ":a".to_owned(), "error#2 107"),
        ("separators", "a:b:c,d/e?g*h".to_owned(), "subscribed#2"),
        ("users, of whom this client is none", "dm:#alice,bob".to_owned(), "error#2 103"),
        ("__proto__", "__proto__".to_owned(), "subscribed#2"),
    ];
    let rows = names.map(|(name, channel, answer)| {
        let command = format!(r#"{{"id":2,"subscribe":{{"channel":"{channel}"}}}}"#);
        native(format!("3.8/84 a channel of {name}"), &command, frames([answer]))
    });
    let twice = r#"[{"id":2,"subscribe":{"channel":"a"}},{"id":3,"subscribe":{"channel":"a"}}]"#;
    house.try_rows([row("3.8/84 10,000 subscriptions", Door::Native, greedy, frames([]))]);
    house.try_rows(rows);
    house.try_rows([native("3.8/84 the same twice", twice, frames(["subscribed#2", "error#3 105"]))]);
    house.judge();
}

#[test]
fn a_subscription_is_there_or_not_however_fast_it_changes() {
    let mut house = House::open(options());
    let address = house.server.address;
    let flicker = |last: &'static str| {
        play(move |wire: &mut Wire| {
            let on = r#"{"subscribe":{"channel":"flicker"}}"#;
            let off = r#"{"unsubscribe":{"channel":"flicker"}}"#;
            let batch = format!("[{}]", [on, off].repeat(50).join(","));
            for n in 0..20 {
                wire.send_text(&batch);
                say(address, "flicker", &n.to_string());
            }
            wire.send_text(&format!(r#"{{"id":9,"{last}":{{"channel":"flicker"}}}}"#));
            while !shown(&wire.next()).ends_with("ed#9") {}
            say(address, "flicker", "end");
        })
    };
    let end = || Expect::Frames(vec![r#"publication 21 "end""#.to_owned()]);
    let gone = play(move |wire: &mut Wire| {
        wire.send_text(r#"[{"subscribe":{"channel":"a"}},{"subscribe":{"channel":"b"}}]"#);
        wire.finish_sending();
    });
    house.try_rows([
        row("3.8/85 on and off, at last on", Door::Native, flicker("subscribe"), end()),
        row("3.8/85 on and off, at last off", Door::Native, flicker("unsubscribe"), frames([])),
        row("3.8/85 gone while subscribing", Door::Native, gone, Expect::End),
        native(
            "3.8/85 off without on",
            r#"{"id":2,"unsubscribe":{"channel":"a"}}"#,
            frames(["unsubscribed#2"]),
        ),
    ]);
    house.judge();
}

#[test]
fn recovery_is_all_or_nothing() {
    let mut house = House::open(keeping(5));
    let address = house.server.address;
    let positions: Vec<Value> = (1..=10).map(|n| say(address, "news", &n.to_string())).collect();
    let top = &positions[9];
    let recover = |name: &str, since: Value, expect: Expect| {
        let command = json!({ "id": 2, "subscribe": { "channel": "news", "since": since } });
        native(format!("3.8/86 since {name}"), &command.to_string(), expect)
    };
    let at = |offset: Value| json!({ "epoch": top["epoch"], "offset": offset });
    let lost = || frames(["subscribed#2 not recovered"]);
    let bad = || frames(["error#2 107"]);
    let all = [
        "subscribed#2 recovered",
        r#"publication 6 "6""#,
        r#"publication 7 "7""#,
        r#"publication 8 "8""#,
        r#"publication 9 "9""#,
        r#"publication 10 "10""#,
    ];
    house.try_rows([
        recover("the top", since(top), frames(["subscribed#2 recovered"])),
        recover("the oldest that is kept", since(&positions[4]), frames(all)),
        recover("one before it", since(&positions[3]), lost()),
        recover("the beginning", at(json!(0)), lost()),
        recover("the future", at(json!(11)), lost()),
        recover("the far future", at(json!(u64::MAX)), lost()),
        recover("another epoch", json!({ "epoch": "abc", "offset": 9 }), lost()),
        recover("no epoch of ours", json!({ "epoch": "none of ours", "offset": 9 }), bad()),
        recover("an empty epoch", json!({ "epoch": "", "offset": 9 }), bad()),
        recover("a number for an epoch", json!({ "epoch": 7, "offset": 9 }), bad()),
        recover("a negative offset", at(json!(-1)), bad()),
        recover("half an offset", at(json!(0.5)), bad()),
        recover("2^64", json!({ "epoch": top["epoch"], "offset": 18_446_744_073_709_551_616.0 }), bad()),
        recover("null", Value::Null, frames(["subscribed#2"])),
        recover("a list", json!([]), bad()),
    ]);
    house.judge();
}
