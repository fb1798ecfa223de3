//! What ends a stateful connection (C8), and what is done about clients that come back without end.

use std::thread;
use std::time::Duration;

use duplex::auth::Anonymous;
use duplex::{Options, Settings};
use duplex_websocket::Opcode;
use serde_json::{Value, json};

use crate::client::{Form, Hub, Manner, UNKNOWN, Way, told};
use crate::messages::write;
use crate::options;
use crate::resuming::{Lasting, Loss, lasting};
use crate::support::http::{request, say};
use crate::support::tokens::{API_KEY, closed, token};
use crate::support::{Levels, eventually, start};

#[test]
fn a_number_that_skips_messages_is_the_end() {
    let server = start(options());
    for form in [Form::Json, Form::Packed] {
        for number in [2, 1_000_000, 9_007_199_254_740_991_u64] {
            let mut client = Lasting::open(server.address, form, 0);
            client.lose(Loss::Abrupt);
            assert_eq!(client.try_back(), 101);
            client.hub.send(&json!({ "type": 9, "sequenceId": number }));
            while client.hub.message().is_some() {}
            client.hub.leave();
            client.is_refused();
        }
    }
    server.settle(Levels::of(0, 0));
}

#[test]
fn a_socket_that_says_anything_but_its_number_is_not_listened_to() {
    lasting(&options(), |client| {
        client.hear("news");
        client.lose(Loss::Abrupt);
        assert_eq!(client.try_back(), 101);
        let form = client.hub.form;
        let opcode = if form == Form::Json { Opcode::Text } else { Opcode::Binary };
        for message in [
            json!({ "type": 6 }),
            json!({ "type": 8, "sequenceId": 1 }),
            json!({ "type": 1, "target": "$publish", "arguments": ["news", "too early"] }),
        ] {
            client.hub.down.send_frame(opcode, &write(form, &message));
        }
        client.say_again(client.acked + 1);
        client.resumed();
        say(client.hub.address, "news", "right");
        assert_eq!(client.hub.event("message"), json!(["right"]));
    });
}

#[test]
fn nothing_comes_before_the_number_on_a_new_socket() {
    let settings = Settings { heartbeat_ms: 50, pong_ms: 300_000, ..options().settings };
    lasting(&Options { settings, ..options() }, |client| {
        client.hear("news");
        for round in 0..3 {
            client.lose(Loss::Abrupt);
            say(client.hub.address, "news", &format!("{round} away"));
            assert_eq!(client.try_back(), 101);
            say(client.hub.address, "news", &format!("{round} back"));
            thread::sleep(Duration::from_millis(150));
            client.say_again(client.acked + 1);
            client.resumed();
            for expected in ["away", "back"] {
                assert_eq!(client.hub.event("message"), json!([format!("{round} {expected}")]));
            }
        }
    });
}

#[test]
fn whoever_takes_its_leave_does_not_come_back() {
    let server = start(options());
    for form in [Form::Json, Form::Packed] {
        for manner in 0..4 {
            let mut client = Lasting::open(server.address, form, 0);
            client.hear("news");
            match manner {
                0 => client.hub.leave(),
                1 => {
                    client.hub.send(&json!({ "type": 7 }));
                    client.hub.is_over();
                }
                2 => {
                    client.hub.say(if form == Form::Json { b"nonsense\x1e" } else { b"\x01\xc1" });
                    while client.hub.message().is_some() {}
                    client.hub.leave();
                }
                _ => {
                    client.hub.down.send_frame(Opcode::Close, b"");
                    client.hub.down.wait_for_end();
                }
            }
            client.is_refused();
        }
    }
    server.settle(Levels::of(0, 0));
}

#[test]
fn a_server_that_stops_lets_nobody_come_back() {
    let server = start(Options { settings: Settings { close_ms: 3_000, ..options().settings }, ..options() });
    let mut client = Lasting::open(server.address, Form::Json, 0);
    let mut away = Lasting::open(server.address, Form::Packed, 1);
    away.lose(Loss::Abrupt);
    thread::scope(|scope| {
        let stopping = scope.spawn(|| server.stop());
        let message = client.hub.close_message();
        assert_eq!(message, json!({ "type": 7, "allowReconnect": true }));
        stopping.join().expect("it does not wait for who is away");
    });
}

#[test]
fn what_is_kept_for_who_is_away_has_a_limit_and_nobody_waits_for_it() {
    let settings = Settings { linger_ms: 60_000, ..options().settings };
    let server = start(Options { settings, retained_bytes: 20_000, ..options() });
    for form in [Form::Json, Form::Packed] {
        let mut neighbour = Hub::open(server.address);
        neighbour.hear("news");
        let long = "x".repeat(1_000);
        // One that is away, and one that is there and never says what it has got.
        let mut away = Lasting::open(server.address, form, 0);
        let mut here = Lasting::open(server.address, form, 1);
        for client in [&mut away, &mut here] {
            client.hear("news");
        }
        away.lose(Loss::Abrupt);
        for _ in 0..60 {
            say(server.address, "news", &long);
            assert_eq!(neighbour.event("message"), json!([long]), "the neighbour does not wait");
            assert_eq!(here.hub.event("message"), json!([long]), "nor does who is there");
        }
        here.lose(Loss::Abrupt);
        here.is_refused();
        neighbour.leave();
    }
}

#[test]
fn who_says_what_it_has_got_may_go_on_for_ever() {
    let server = start(Options { retained_bytes: 20_000, ..options() });
    for form in [Form::Json, Form::Packed] {
        let mut client = Lasting::open(server.address, form, 0);
        client.hear("news");
        let long = "x".repeat(1_000);
        for number in 0..100 {
            say(server.address, "news", &long);
            assert_eq!(client.hub.event("message"), json!([long]));
            client.ack();
            if number % 25 == 24 {
                client.lose(Loss::Quiet);
                client.back();
            }
        }
    }
}

#[test]
fn whoever_comes_back_without_end_is_ended() {
    let server = start(options());
    let mut neighbour = Hub::open(server.address);
    for form in [Form::Json, Form::Packed] {
        let mut client = Lasting::open(server.address, form, 0);
        let mut let_in = 0;
        loop {
            client.lose(Loss::Quiet);
            match client.try_back() {
                101 => let_in += 1,
                404 => break,
                other => panic!("after {let_in}: {other}"),
            }
            assert!(let_in < 200, "it comes back for ever");
            client.say_again(1);
        }
        assert!(let_in >= 10, "a bad network is no attack: ended after {let_in}");
        client.is_refused();
        neighbour.is_well();
    }
    eventually(|| "only the neighbour is there".to_owned(), || server.gauges().sessions() == 1);
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

#[test]
fn only_its_own_user_comes_back() {
    let mut options = Options { settings: options().settings, ..closed() };
    options.auth.anonymous = Anonymous::Refused;
    let server = start(options);
    for form in [Form::Json, Form::Packed] {
        let headers = bearer(&token("ann", 60.0));
        let mut client =
            Lasting::open_as(server.address, Manner { form, headers: &headers, ..Manner::default() });
        for is_away in [false, true] {
            if is_away {
                client.lose(Loss::Quiet);
            }
            for (stranger, status) in [
                (String::new(), 401),
                (bearer("nonsense"), 401),
                (bearer(&token("ann", -60.0)), 401),
                (bearer(&token("bob", 60.0)), 403),
            ] {
                assert_eq!(client.hub.upgrade(&stranger).1.status, status, "{stranger}");
            }
        }
        client.hub.headers = bearer(&token("ann", 120.0));
        client.back();
        client.send(json!({ "type": 1, "invocationId": "x", "target": "nobody", "arguments": [] }));
        client.hub.completion("x");
        // A browser shows it in the address.
        client.lose(Loss::Quiet);
        client.hub.headers = String::new();
        client.hub.target = format!("{}&access_token={}", client.hub.target, token("ann", 60.0));
        client.back();
        client.hub.leave();
    }
}

#[test]
fn who_was_revoked_meanwhile_does_not_come_back() {
    let server = start(Options { settings: options().settings, ..closed() });
    let headers = bearer(&token("ann", 60.0));
    let mut client = Lasting::open_as(server.address, Manner { headers: &headers, ..Manner::default() });
    client.lose(Loss::Quiet);
    let head = format!("POST /api/v1/revoke HTTP/1.1\r\nAuthorization: Bearer {API_KEY}");
    assert_eq!(request(server.address, &head, "{\"user\":\"ann\"}").status, 200);
    let status = client.hub.upgrade(&headers).1.status;
    assert!(matches!(status, 403 | 404), "{status}");
}

#[test]
fn only_a_websocket_carries_it() {
    let server = start(options());
    let mut client = Lasting::open(server.address, Form::Json, 0);
    let target = client.hub.target.clone();
    for is_away in [false, true] {
        if is_away {
            client.lose(Loss::Quiet);
        }
        for (method, headers) in [("GET", ""), ("GET", crate::client::EVENTS), ("POST", ""), ("DELETE", "")] {
            let response = crate::client::once(server.address, method, &target, headers);
            assert!(matches!(response.status, 400 | 405), "{method}: {response:?}");
        }
    }
    client.back();
    client.hear("news");
    // Over other transports it means nothing.
    for (way, form) in [(Way::Sse, Form::Json), (Way::Poll, Form::Packed)] {
        let mut other = Lasting::open_as(server.address, Manner { way, form, ..Manner::default() });
        other.hub.is_well();
        assert!(other.hub.early.iter().all(|message: &Value| message["type"] != 8));
        other.hub.leave();
    }
}

#[test]
fn sockets_that_come_to_nothing_harm_no_connection() {
    lasting(&options(), |client| {
        client.hear("news");
        client.lose(Loss::Quiet);
        for round in 0..8 {
            assert_eq!(client.try_back(), 101);
            match round % 4 {
                0 => client.lose(Loss::Abrupt),
                1 => {
                    client.hub.down.send_frame(Opcode::Ping, b"x");
                    client.lose(Loss::Quiet);
                }
                2 => {
                    client.hub.down.send(b"\x81");
                    client.lose(Loss::Abrupt);
                }
                _ => client.lose(Loss::Quiet),
            }
        }
        say(client.hub.address, "news", "still there");
        client.back();
        assert_eq!(client.hub.event("message"), json!(["still there"]));
    });
}

#[test]
fn a_token_of_a_connection_that_is_over_is_unknown() {
    let server = start(options());
    let mut client = Lasting::open(server.address, Form::Json, 0);
    client.hub.leave();
    for headers in ["", "Authorization: Bearer x\r\n"] {
        let (_, response) = client.hub.upgrade(headers);
        assert!(told(&response) == (404, UNKNOWN) || response.status == 401, "{response:?}");
    }
}
