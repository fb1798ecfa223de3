//! How messages may be written (C4): members in any order, more than is known, lengths of every size, cut anywhere.

use duplex_websocket::Opcode;
use serde_json::{Value, json};

use crate::client::{Form, Hub, Way, everywhere, text};
use crate::messages::{binary, framed, framed_in, pack, plain, record, write};
use crate::options;
use crate::support::frames::fragments;
use crate::support::house::House;
use crate::support::http::say;
use crate::support::start;

fn invocation(id: &str) -> Value {
    json!({ "type": 1, "invocationId": id, "target": "nobody", "arguments": [] })
}

#[test]
fn members_stand_in_any_order_among_others_that_are_not_known() {
    let server = start(options());
    let mut hub = Hub::open(server.address);
    for message in [
        r#"{"type":1,"invocationId":"x","target":"nobody","arguments":[]}"#,
        r#"{"arguments":[],"target":"nobody","invocationId":"x","type":1}"#,
        r#"{"arguments":[{"type":7,"error":"]}"}],"invocationId":"x","type":1,"target":"nobody"}"#,
        r#"{"a":1,"type":1,"b":{"type":7},"invocationId":"x","c":[[]],"target":"nobody","arguments":[],"d":null}"#,
        r#"{"type":1,"headers":{"a":"b"},"invocationId":"x","target":"nobody","arguments":[],"streamIds":[]}"#,
        r#"{"Type":7,"type":1,"invocationId":"x","Target":"b","target":"nobody","arguments":[]}"#,
        r#"{"type":1,"invocationId":"x","target":"nobody"}"#,
        r#"{"type":1,"invocationId":"x","target":"nob\u006fdy","arguments":["\ud83d\ude00"]}"#,
        " {\r\n\t\"type\" : 1 , \"invocationId\" : \"x\" , \"target\" : \"nobody\" , \"arguments\" : [ ] } ",
    ] {
        hub.say(&record(message));
        let completion = hub.completion("x");
        let error = text(&completion, "error");
        assert!(
            error.starts_with("An unexpected error occurred invoking 'nobody' on the server."),
            "{message}"
        );
    }
    hub.is_well();
}

#[test]
fn messages_of_every_other_type_are_passed_over_or_do_nothing() {
    everywhere(&options(), |hub| {
        for message in [
            json!({ "type": 6 }),
            json!({ "type": 2, "invocationId": "nobodys", "item": 1 }),
            json!({ "type": 3, "invocationId": "nobodys", "result": 1 }),
            json!({ "type": 3, "invocationId": "nobodys", "error": "x" }),
            json!({ "type": 3, "invocationId": "nobodys" }),
            json!({ "type": 5, "invocationId": "nobodys" }),
            json!({ "type": 10 }),
            json!({ "type": 99 }),
        ] {
            hub.send(&message);
            hub.is_well();
        }
        if hub.form == Form::Json {
            hub.say(&record(r#"{"type":42,"target":"$publish","arguments":["news","a"]}"#));
        }
        hub.is_well();
    });
}

#[test]
fn a_message_in_messagepack_may_have_more_items_and_any_kind_of_id() {
    let server = start(options());
    let mut hub = Hub::open_by(server.address, (Way::Ws, Form::Packed));
    for message in [
        json!([1, {}, "x", "nobody", []]),
        json!([1, {}, "x", "nobody", [], []]),
        json!([1, { "a": "b" }, "x", "nobody", [], []]),
        json!([1, {}, "x", "nobody", [1, [2], { "three": null }], [], "more", { "a": [1] }]),
    ] {
        hub.say(&framed(&pack(&message)));
        hub.completion("x");
    }
    // Nothing is answered to what has no id.
    hub.say(&framed(&pack(&json!([1, {}, null, "$subscribe", ["news"], []]))));
    hub.is_well();
    say(server.address, "news", "heard");
    assert_eq!(hub.event("message"), json!(["heard"]));
    for message in
        [json!([6]), json!([6, 1, "more"]), json!([5, {}, "x", "more"]), json!([99, 1, 2]), json!([99])]
    {
        hub.say(&framed(&pack(&message)));
        hub.is_well();
    }
}

#[test]
fn texts_and_numbers_may_be_written_longer_than_they_must() {
    let server = start(options());
    let mut hub = Hub::open_by(server.address, (Way::Ws, Form::Packed));
    let bodies: [&[u8]; 3] = [
        b"\x95\x01\x80\xa1x\xa6nobody\x90",
        b"\xdc\x00\x05\xcc\x01\xde\x00\x00\xd9\x01x\xda\x00\x06nobody\xdc\x00\x00",
        b"\xdd\x00\x00\x00\x05\xcf\x00\x00\x00\x00\x00\x00\x00\x01\xdf\x00\x00\x00\x00\xdb\x00\x00\x00\x01x\
          \xdb\x00\x00\x00\x06nobody\xdd\x00\x00\x00\x00",
    ];
    for body in bodies {
        hub.say(&framed(body));
        hub.completion("x");
    }
}

#[test]
fn a_length_has_one_to_five_bytes() {
    let server = start(options());
    for way in [Way::Ws, Way::Poll] {
        let mut hub = Hub::open_by(server.address, (way, Form::Packed));
        let body = pack(&json!([1, {}, "x", "nobody", []]));
        for bytes in 1..=5 {
            hub.say(&framed_in(&body, bytes));
            hub.completion("x");
        }
        // As long as its own length wants it.
        for letters in [100, 20_000, 50_000] {
            let body = pack(&json!([1, {}, "x", "nobody", ["x".repeat(letters)]]));
            hub.say(&framed(&body));
            hub.completion("x");
        }
    }
}

#[test]
fn frames_are_bytes_that_may_be_cut_anywhere() {
    let server = start(options());
    for form in [Form::Json, Form::Packed] {
        let mut hub = Hub::open_by(server.address, (Way::Ws, form));
        let bytes = [
            write(form, &json!({ "type": 6 })),
            write(form, &invocation("a")),
            write(
                form,
                &json!({ "type": 1, "invocationId": "b", "target": "nobody", "arguments": ["\u{20ac}"] }),
            ),
        ]
        .concat();
        for at in 1..bytes.len() {
            // Text that is cut within a letter is none, so bytes it is (C3).
            hub.checker.loosen();
            hub.down.send_frame(Opcode::Binary, &bytes[..at]);
            hub.down.send_frame(Opcode::Binary, &bytes[at..]);
            hub.completion("a");
            hub.completion("b");
        }
        for byte in &bytes {
            hub.down.send_frame(Opcode::Binary, &[*byte]);
        }
        hub.completion("a");
        hub.completion("b");
        let parts: Vec<&[u8]> = bytes.chunks(3).collect();
        hub.down.send(&fragments(0x02, &parts));
        hub.completion("a");
        hub.completion("b");
        hub.down.send_frame(Opcode::Binary, b"");
        hub.is_well();
    }
}

#[test]
fn hundreds_may_come_in_one_piece_and_are_answered_in_order() {
    everywhere(&options(), |hub| {
        let messages: Vec<Value> = (0..60).map(|number| invocation(&format!("n{number}"))).collect();
        hub.send_all(&messages);
        for number in 0..60 {
            let completion = hub.next();
            assert_eq!(completion["invocationId"], format!("n{number}"), "{completion}");
        }
    });
}

#[test]
fn what_is_said_goes_over_as_it_is() {
    everywhere(&options(), |hub| {
        hub.hear("news");
        for arguments in [
            json!([]),
            json!([null]),
            json!([1, -1, 0.5, 1e300, true, false]),
            json!([9_007_199_254_740_991_i64, -9_007_199_254_740_991_i64, 4_294_967_296_u64]),
            json!(["", "\u{0}\u{1e}\u{7f}\u{2028}\"\\", "\u{20ac}\u{1f600}"]),
            json!([[[]], {}, { "": "", "a": { "type": 7, "error": "x" } }]),
            json!([{ "__proto__": { "a": 1 }, "$bi": 1 }]),
            json!(["x".repeat(40_000)]),
        ] {
            let mut published = vec![json!("news"), json!("hi")];
            published.extend(arguments.as_array().expect("a list").iter().cloned());
            hub.call("$publish", Value::Array(published));
            assert_eq!(hub.event("hi"), arguments);
        }
    });
}

#[test]
fn binary_data_is_bytes_in_messagepack_and_base64_in_json() {
    let server = start(options());
    let mut json = Hub::open(server.address);
    let mut packed = Hub::open_by(server.address, (Way::Ws, Form::Packed));
    let mut polled = Hub::open_by(server.address, (Way::Poll, Form::Packed));
    let bytes = [binary(&[1, 2, 3]), binary(&[]), binary(&[0xff; 300])];
    let arguments = json!([bytes[0], { "a": [bytes[1], bytes[2]] }, "AQID"]);
    for hub in [&mut json, &mut packed, &mut polled] {
        hub.hear("news");
    }
    packed.call("$publish", json!(["news", "pic", arguments[0], arguments[1], arguments[2]]));
    assert_eq!(packed.event("pic"), arguments);
    assert_eq!(polled.event("pic"), arguments);
    assert_eq!(json.event("pic"), plain(&arguments));
    json.is_well();
}

#[test]
fn times_are_texts_to_others() {
    let server = start(options());
    let mut json = Hub::open(server.address);
    let mut packed = Hub::open_by(server.address, (Way::Ws, Form::Packed));
    json.hear("news");
    packed.hear("news");
    // Extension -1 with 32, 64 and 96 bits (the specification of MessagePack, "Timestamp extension type").
    let times: [&[u8]; 3] = [
        b"\xd6\xff\x00\x00\x00\x00",
        b"\xd7\xff\x77\x35\x94\x00\x67\x74\x85\x80",
        b"\xc7\x0c\xff\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff",
    ];
    for (at, (time, expected)) in times
        .into_iter()
        .zip(["1970-01-01T00:00:00Z", "2025-01-01T00:00:00.5Z", "1969-12-31T23:59:59Z"])
        .enumerate()
    {
        let mut body = b"\x95\x01\x80\xc0\xa8$publish\x93\xa4news\xa2at".to_vec();
        body.extend(time);
        packed.say(&framed(&body));
        for hub in [&mut json, &mut packed] {
            let came = hub.event("at");
            let shown = came[0].as_str().unwrap_or_else(|| panic!("{at}: {came}"));
            let fits =
                |head: &str| shown.starts_with(head) && (shown.ends_with('Z') || shown.ends_with("+00:00"));
            assert!(fits(expected.trim_end_matches('Z')), "{at}: {shown} is not {expected}");
        }
    }
}

#[test]
fn what_is_no_message_is_told_so_and_ends_the_connection() {
    let mut house = House::open(options());
    let rows: [&[u8]; 23] = [
        b"nonsense",
        b"[]",
        b"null",
        b"7",
        b"{}",
        br#"{"type":"1"}"#,
        br#"{"type":null}"#,
        br#"{"type":-1}"#,
        br#"{"target":"a","arguments":[]}"#,
        br#"{"type":1,"arguments":[]}"#,
        br#"{"type":1,"target":7,"arguments":[]}"#,
        br#"{"type":1,"target":"a","arguments":{}}"#,
        br#"{"type":1,"target":"a","arguments":"a"}"#,
        br#"{"type":1,"invocationId":7,"target":"a","arguments":[]}"#,
        br#"{"type":4,"target":"a","arguments":[]}"#,
        br#"{"type":2,"item":1}"#,
        br#"{"type":3,"invocationId":"a","result":1,"error":"b"}"#,
        br#"{"type":5}"#,
        br#"{"type":1,"target":"a","arguments":[}"#,
        br#"{"type":1,"target":"a","arguments":[]}}"#,
        b"{\"type\":1,\"target\":\"\xff\",\"arguments\":[]}",
        br#"{"type":1,"target":"\ud800","arguments":[]}"#,
        br#"{"type":1,"target":"a","arguments":[],"streamIds":7}"#,
    ];
    for row in rows {
        house.try_row(String::from_utf8_lossy(row), |address| {
            let mut hub = Hub::open(address);
            hub.down.send_frame(Opcode::Binary, &[row, b"\x1e"].concat());
            closes(&mut hub);
        });
    }
    house.judge();
}

#[test]
fn what_is_no_message_in_messagepack_is_told_so_and_ends_the_connection() {
    let mut house = House::open(options());
    let rows: [&[u8]; 18] = [
        b"\x01\xc0",
        b"\x01\xc1",
        b"\x01\x90",
        b"\x01\x80",
        b"\x01\x01",
        b"\x02\x91\xc0",
        b"\x03\x91\xa16",
        b"\x02\x91\xff",
        b"\x03\x92\x06\xc1",
        b"\x02\x91\x01",
        b"\x02\x92\x06",
        b"\x03\x91\x06\x00",
        b"\x07\x95\x01\x80\xc0\x07\x90\xc0",
        b"\x07\x95\x01\x80\xc0\xa1a\x80",
        b"\x06\x94\x03\x80\xa1a\x04",
        b"\x05\x93\x05\x80\xc0\xc0",
        b"\x05\xdd\xff\xff\xff\xff",
        b"\x80\x80\x80\x80\x80\x01",
    ];
    for row in rows {
        house.try_row(format!("{row:02x?}"), |address| {
            let mut hub = Hub::open_by(address, (Way::Ws, Form::Packed));
            hub.down.send_frame(Opcode::Binary, row);
            closes(&mut hub);
        });
    }
    house.try_row("JSON among MessagePack", |address| {
        let mut hub = Hub::open_by(address, (Way::Ws, Form::Packed));
        hub.down.send_frame(Opcode::Text, b"{\"type\":6}\x1e");
        // Its first byte reads as a length of 123.
        hub.down.send_frame(Opcode::Binary, &[0xc1; 200]);
        closes(&mut hub);
    });
    house.judge();
}

/// Panics unless it is closed with the error, and not to come back by itself.
fn closes(hub: &mut Hub) {
    let message = hub.close_message();
    let error = text(&message, "error");
    assert!(error.starts_with("Connection closed with an error."), "{message}");
    assert_ne!(message["allowReconnect"], true, "{message}");
    assert!(matches!(hub.end, Some(crate::support::frames::Incoming::Close(..))), "{:?}", hub.end);
}
