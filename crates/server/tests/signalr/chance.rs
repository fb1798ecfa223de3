//! Bytes by chance, and messages that chance has changed: whatever comes, it is answered or the connection ends, and the server
//! goes on. The seeds are fixed, so that what fails once fails again.

use duplex::{Options, Settings};
use duplex_core::Rate;
use duplex_websocket::Opcode;
use serde_json::json;

use crate::client::{Form, Hub, MANNERS, Manner, Way};
use crate::messages::{framed, record, write};
use crate::options;
use crate::support::frames::{Incoming, client_frame};
use crate::support::neighbour::Neighbour;
use crate::support::{Levels, start};

/// Numbers by chance (xorshift64*).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// One below `end`.
    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 33) as usize % end.max(1)
    }

    fn byte(&mut self) -> u8 {
        (self.next() >> 40) as u8
    }
}

fn generous() -> Options {
    let messages = Rate { per_second: 1_000_000, burst: 1_000_000 };
    Options { settings: Settings { messages, close_ms: 300, ..options().settings }, ..options() }
}

/// Messages of every kind.
fn valid(form: Form) -> Vec<Vec<u8>> {
    let messages = [
        json!({ "type": 1, "invocationId": "1", "target": "$subscribe", "arguments": ["a", { "since": { "epoch": "a", "offset": 1 } }] }),
        json!({ "type": 1, "invocationId": "2", "target": "$publish", "arguments": ["a", "b", { "c": [1, null, 0.5] }] }),
        json!({ "type": 1, "invocationId": "3", "target": "nobody", "arguments": ["\u{20ac}"], "streamIds": ["s", "t"] }),
        json!({ "type": 4, "invocationId": "4", "target": "$subscribe", "arguments": ["b"] }),
        json!({ "type": 2, "invocationId": "s", "item": { "a": "b" } }),
        json!({ "type": 3, "invocationId": "s", "error": "no" }),
        json!({ "type": 3, "invocationId": "t", "result": [1] }),
        json!({ "type": 5, "invocationId": "4" }),
        json!({ "type": 6 }),
        json!({ "type": 8, "sequenceId": 3 }),
        json!({ "type": 9, "sequenceId": 1 }),
    ];
    messages.iter().map(|message| write(form, message)).collect()
}

/// Changes something.
fn mutate(bytes: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..=dice.below(3) {
        let at = dice.below(bytes.len());
        match dice.below(6) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << dice.below(8),
            1 if !bytes.is_empty() => bytes[at] = dice.byte(),
            2 => bytes.insert(at, dice.byte()),
            3 if !bytes.is_empty() => drop(bytes.remove(at)),
            4 => bytes.truncate(at),
            _ => {
                let from = dice.below(bytes.len());
                let copied = bytes[from..].iter().take(dice.below(20)).copied().collect::<Vec<u8>>();
                bytes.splice(at..at, copied);
            }
        }
    }
}

/// What comes behind it: the client says goodbye, and if it was understood, that is the end; if not, its WebSocket is closed.
fn ends(hub: &mut Hub) {
    let form = hub.form;
    let goodbye = write(form, &json!({ "type": 7 }));
    match hub.way {
        Way::Ws => {
            hub.down.send_frame(Opcode::Binary, &goodbye);
            hub.down.send_frame(Opcode::Close, &1000u16.to_be_bytes());
            hub.down.renew_deadline();
            while !matches!(hub.down.next(), Incoming::Close(..) | Incoming::End) {}
        }
        Way::Sse => hub.down.finish_sending(),
        Way::Poll => drop(crate::client::once(hub.address, "DELETE", &hub.target, "")),
    }
}

#[test]
fn messages_that_chance_has_changed_are_answered_or_end_the_connection() {
    let server = start(generous());
    let mut neighbour = Neighbour::join(server.address);
    let mut dice = Dice(0x5eed_0001);
    for round in 0..600 {
        let manner = MANNERS[round % MANNERS.len()];
        let mut hub = Hub::open_by(server.address, manner);
        let messages = valid(manner.1);
        let mut bytes = Vec::new();
        for _ in 0..=dice.below(6) {
            let mut message = messages[dice.below(messages.len())].clone();
            if dice.below(3) > 0 {
                mutate(&mut message, &mut dice);
            }
            bytes.extend(message);
        }
        // In pieces, now and then.
        let piece = if dice.below(2) == 0 { bytes.len().max(1) } else { 1 + dice.below(40) };
        for part in bytes.chunks(piece) {
            match manner.0 {
                Way::Ws => hub.down.send_frame(Opcode::Binary, part),
                _ => {
                    let status = hub.post_anew(part).status;
                    assert!(matches!(status, 200 | 404), "{round}: {status}");
                }
            }
        }
        ends(&mut hub);
        if round % 50 == 0 {
            neighbour.check();
        }
    }
    neighbour.check();
    server.settle(Levels::of(1, 1));
}

#[test]
fn bytes_by_chance_are_answered_or_end_the_connection() {
    let server = start(generous());
    let mut neighbour = Neighbour::join(server.address);
    let mut dice = Dice(0x5eed_0002);
    for round in 0..400 {
        let manner = MANNERS[round % MANNERS.len()];
        let (way, form) = manner;
        // Half of them before the handshake.
        let mut hub = match round % 2 {
            0 => Hub::open_by(server.address, manner),
            _ => Hub::begin(server.address, Manner { way, form, ..Manner::default() }),
        };
        let length = dice.below(300);
        let mut bytes: Vec<u8> = (0..length).map(|_| dice.byte()).collect();
        match dice.below(4) {
            0 => bytes = framed(&bytes),
            1 => bytes.push(0x1e),
            2 => bytes = record(&String::from_utf8_lossy(&bytes)),
            _ => {}
        }
        match way {
            Way::Ws => hub.down.send_frame(Opcode::Binary, &bytes),
            _ => assert!(matches!(hub.post(&bytes).status, 200 | 404)),
        }
        ends(&mut hub);
        if round % 50 == 0 {
            neighbour.check();
        }
    }
    neighbour.check();
    server.settle(Levels::of(1, 1));
}

#[test]
fn a_json_value_in_every_place_is_answered_or_ends_the_connection() {
    let server = start(generous());
    let mut neighbour = Neighbour::join(server.address);
    let values = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1e300),
        json!(""),
        json!("x"),
        json!([]),
        json!([[]]),
        json!({}),
        json!({ "a": {} }),
        json!(18_446_744_073_709_551_615_u64),
    ];
    for name in
        ["type", "invocationId", "target", "arguments", "streamIds", "item", "error", "sequenceId", "headers"]
    {
        for value in &values {
            for kind in 1..=9 {
                let mut hub = Hub::open(server.address);
                let mut message = json!({
                    "type": kind, "invocationId": "1", "target": "nobody", "arguments": [], "item": 1, "sequenceId": 1,
                });
                message[name] = value.clone();
                hub.down.send(&client_frame(0x82, &record(&message.to_string())));
                ends(&mut hub);
            }
        }
        neighbour.check();
    }
    server.settle(Levels::of(1, 1));
}

#[test]
fn requests_by_chance_harm_nobody() {
    let server = start(generous());
    let mut neighbour = Neighbour::join(server.address);
    let mut dice = Dice(0x5eed_0003);
    let mut hub = Hub::open_by(server.address, (Way::Poll, Form::Json));
    let queries =
        ["id", "ID", "negotiateVersion", "useStatefulReconnect", "access_token", "channels", "%00", "a[]"];
    for round in 0..400 {
        let method = ["GET", "POST", "DELETE", "PUT", "OPTIONS", "PATCH"][dice.below(6)];
        let path = ["/signalr", "/signalr/", "/signalr/negotiate", "/signalr/negotiate/", "/signalr//"]
            [dice.below(5)];
        let mut query = String::new();
        for _ in 0..dice.below(5) {
            let value = match dice.below(3) {
                0 => hub.token[..dice.below(hub.token.len())].to_owned(),
                1 => format!("%{:02x}", dice.byte()),
                _ => dice.next().to_string(),
            };
            query += &format!("{}={value}&", queries[dice.below(queries.len())]);
        }
        let headers = ["", crate::client::EVENTS, "Accept: \r\n", "Authorization: x\r\n"][dice.below(4)];
        let response = crate::client::once(server.address, method, &format!("{path}?{query}"), headers);
        assert!((200..500).contains(&response.status), "{round}: {response:?}");
    }
    hub.is_well();
    hub.leave();
    neighbour.check();
}
