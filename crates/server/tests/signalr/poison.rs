//! What must not be published, over whatever protocol, and that what may be breaks off no client of SignalR (C9).

use serde_json::{Value, json};

use crate::client::{Hub, MANNERS};
use crate::options;
use crate::support::http::{publish, request};
use crate::support::native::Client;
use crate::support::{Running, start};

/// Everybody who listens to `news`.
struct Hearers {
    hubs: Vec<Hub>,
    rounds: u32,
    server: Running,
}

impl Hearers {
    fn gather() -> Self {
        let server = start(options());
        let mut hubs: Vec<Hub> = MANNERS.map(|manner| Hub::open_by(server.address, manner)).into();
        for hub in &mut hubs {
            hub.hear("news");
        }
        Self { hubs, rounds: 0, server }
    }

    /// Panics unless all of them are there, and heard nothing but this.
    fn heard(&mut self, what: &[(&str, Value)]) {
        self.rounds += 1;
        publish(
            self.server.address,
            &json!({ "channel": "news", "event": "marker", "data": self.rounds }).to_string(),
        );
        for hub in &mut self.hubs {
            for (event, arguments) in what {
                assert_eq!(&hub.event(event), arguments);
            }
            assert_eq!(hub.event("marker"), json!([self.rounds]), "{:?} {:?}", hub.way, hub.form);
        }
    }
}

#[test]
fn what_nobody_could_bear_is_refused_and_nobody_hears_of_it() {
    let mut hearers = Hearers::gather();
    let nested = format!("{}{}", "[".repeat(65), "]".repeat(65));
    for body in [
        r#"{"channel":"news","event":"","data":1}"#,
        r#"{"channel":"news","event":"$close","data":1}"#,
        r#"{"channel":"news","event":"a\u0000b","data":1}"#,
        r#"{"channel":"news","event":"a\u001eb","data":1}"#,
        r#"{"channel":"news","data":"\ud800"}"#,
        r#"{"channel":"news","data":1e999}"#,
        r#"{"channel":"news","args":{}}"#,
        &format!(r#"{{"channel":"news","data":{nested}}}"#),
    ] {
        let response = request(hearers.server.address, "POST /api/v1/publish HTTP/1.1", body);
        assert!(matches!(response.status, 400 | 422), "{body}: {response:?}");
        hearers.heard(&[]);
    }
    let mut native = Client::connect(hearers.server.address);
    for name in ["", "$x", "a\u{1e}b"] {
        let answer =
            native.ask(&json!({ "id": 9, "publish": { "channel": "news", "event": name, "data": 1 } }));
        assert_eq!(answer["error"]["code"], 107, "{name}: {answer}");
        hearers.heard(&[]);
    }
    let mut publisher = Hub::open(hearers.server.address);
    for arguments in
        [json!(["news", ""]), json!(["news", "$x"]), json!(["news", "a\u{1e}b"]), json!(["news", null])]
    {
        publisher.fails("$publish", arguments);
        hearers.heard(&[]);
    }
    publisher.is_well();
}

#[test]
fn what_looks_like_a_message_is_only_data() {
    let mut hearers = Hearers::gather();
    for data in [
        json!({ "type": 7, "error": "go away", "allowReconnect": false }),
        json!("{\"type\":7}\u{1e}{\"type\":7}\u{1e}"),
        json!("\u{1e}\u{1e}\u{1e}"),
        json!("data: x\r\n\r\ndata: y\r\n\r\n"),
        json!({ "invocationId": "1", "target": "", "arguments": null }),
        json!([[], [[]], {}, "", null]),
        json!({ "$type": "System.Object", "__proto__": null }),
        json!("\u{2028}\u{2029}\u{feff}\u{fffe}"),
        json!([0, -0.0, 1e-320, 1.797e308, 18_446_744_073_709_551_615_u64, -9_223_372_036_854_775_808_i64]),
    ] {
        let body = json!({ "channel": "news", "event": "data", "data": data });
        publish(hearers.server.address, &body.to_string());
        hearers.heard(&[("data", json!([data]))]);
    }
    for event in ["message", "close", "__proto__", "constructor", "a b", "\u{20ac}", &"e".repeat(128), "type"]
    {
        let body = json!({ "channel": "news", "event": event, "args": [1, 2] });
        publish(hearers.server.address, &body.to_string());
        hearers.heard(&[(event, json!([1, 2]))]);
    }
}

#[test]
fn how_a_publisher_writes_json_breaks_no_client() {
    let mut hearers = Hearers::gather();
    for (data, value) in [
        ("{ \"a\" :\r\n\t[ 1 , 2 ] }", json!({ "a": [1, 2] })),
        ("\"\\u001e\\/\\u0041\"", json!("\u{1e}/A")),
        ("\"\\ud83d\\ude00\"", json!("\u{1f600}")),
        ("1E2", json!(100.0)),
        ("{\"a\":{},\"b\":[]}", json!({ "a": {}, "b": [] })),
    ] {
        publish(
            hearers.server.address,
            &format!("{{\"channel\":\"news\",\"event\":\"data\",\"data\":{data}}}"),
        );
        hearers.heard(&[("data", json!([value]))]);
    }
}

#[test]
fn a_burst_comes_whole_and_in_order_to_each_of_them() {
    let mut hearers = Hearers::gather();
    const COUNT: u64 = 300;
    let mut publisher = Client::connect(hearers.server.address);
    for number in 0..COUNT {
        let data = json!({ "number": number, "padding": "x".repeat(usize::try_from(number).expect("it is small") % 97) });
        publisher.send(&json!({ "publish": { "channel": "news", "event": "burst", "data": data } }));
    }
    for hub in &mut hearers.hubs {
        for number in 0..COUNT {
            assert_eq!(hub.event("burst")[0]["number"], number, "{:?} {:?}", hub.way, hub.form);
        }
    }
    hearers.heard(&[]);
}
