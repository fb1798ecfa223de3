//! What the client must live through. A name is a promise.

use rust_socketio::TransportType;
use serde_json::{Value, json};

use super::player::{Note, Player, Ticket};
use crate::stage::{Failure, Server, api, equal, fresh, publish_bytes};

type Story = fn(&Scene<'_>) -> Result<(), Failure>;

pub const ALL: [(&str, Story); 8] = [
    ("an acknowledgement says what was done, or why not", acknowledgements),
    ("what others and the backend publish comes in order and once", publications),
    ("any text comes as it was sent", texts),
    ("bytes come as bytes", bytes),
    ("bytes that it sends arrive", own_bytes),
    ("a namespace of Socket.IO is a namespace of channels", namespace),
    ("a client with a bad token hears why", bad_token),
    ("a client comes back when its server was killed and is there again", comes_back),
];

/// Where a story is played.
pub struct Scene<'a> {
    pub url: &'a str,
    pub program: &'a str,
    pub transport: TransportType,
}

impl Scene<'_> {
    fn enter(&self, ticket: Ticket) -> Result<Player, Failure> {
        Player::enter(ticket, self.transport.clone())
    }

    fn client(&self) -> Result<Player, Failure> {
        self.enter(Ticket::to(self.url))
    }
}

fn event(name: &str, args: Value) -> Note {
    Note::Event(name.into(), args.as_array().cloned().unwrap_or_default())
}

fn acknowledgements(scene: &Scene<'_>) -> Result<(), Failure> {
    let ada = scene.client()?;
    let channel = fresh();
    let subscribed = ada.call("$subscribe", json!([channel]))?;
    equal(&subscribed["channel"], &json!(channel))?;
    equal(&subscribed["offset"], &json!(0))?;
    let published = ada.call("$publish", json!([channel, "said", "hello"]))?;
    equal(&published, &json!({ "channel": channel, "epoch": subscribed["epoch"], "offset": 1 }))?;
    ada.hears(&event("said", json!(["hello"])))?;
    for (name, args, code) in [
        ("deal", json!(["cards"]), 108),
        ("$publish", json!([channel, "connect", 1]), 107),
        ("$subscribe", json!([""]), 107),
    ] {
        let problem = ada.call(name, args)?;
        equal(&problem["error"]["code"], &json!(code))?;
        equal(problem["error"]["message"].is_string(), true)?;
    }
    ada.leave()
}

fn publications(scene: &Scene<'_>) -> Result<(), Failure> {
    let (ada, ben) = (scene.client()?, scene.client()?);
    let channel = fresh();
    ada.call("$subscribe", json!([channel]))?;
    ben.call("$subscribe", json!([channel]))?;
    for number in 0..20 {
        if number % 2 == 0 {
            ben.call("$publish", json!([channel, "count", number, { "by": "ben" }]))?;
        } else {
            api(
                scene.url,
                "publish",
                &json!({ "channel": channel, "event": "count", "args": [number, { "by": "api" }] }),
            )?;
        }
    }
    ben.call("$publish", json!([channel, "message", "the end"]))?;
    for player in [ada, ben] {
        for number in 0..20 {
            let by = if number % 2 == 0 { "ben" } else { "api" };
            player.hears(&event("count", json!([number, { "by": by }])))?;
        }
        player.hears(&event("message", json!(["the end"])))?;
        player.leave()?;
    }
    Ok(())
}

fn texts(scene: &Scene<'_>) -> Result<(), Failure> {
    let ada = scene.client()?;
    let channel = fresh();
    ada.call("$subscribe", json!([channel]))?;
    for text in [
        json!("plain"),
        json!(""),
        json!("naïve Ω 漢字 🙂 \u{2028} \u{1e} \\ \"quoted\"\n"),
        json!("x".repeat(50_000)),
        json!({ "deep": [null, -1.5, { "empty": [{}] }] }),
    ] {
        ada.call("$publish", json!([channel, "text", text]))?;
        ada.hears(&event("text", json!([text])))?;
        api(scene.url, "publish", &json!({ "channel": channel, "event": "text", "data": text }))?;
        ada.hears(&event("text", json!([text])))?;
    }
    ada.leave()
}

/// Without the byte 0x1e, at which this client cuts what a WebSocket brings, as if it were the body of a poll.
fn bytes(scene: &Scene<'_>) -> Result<(), Failure> {
    let ada = scene.client()?;
    let channel = fresh();
    ada.call("$subscribe", json!([channel]))?;
    for (base64, bytes) in [("aGVsbG8=", b"hello".to_vec()), ("NAD/gA==", vec![b'4', 0, 255, 128])] {
        publish_bytes(scene.url, &channel, "file", base64)?;
        ada.hears(&Note::Bytes("file".into(), bytes))?;
    }
    ada.call("$publish", json!([channel, "message", "after the bytes"]))?;
    ada.hears(&event("message", json!(["after the bytes"])))?;
    ada.leave()
}

/// The client sends bytes only as the one argument of an event, and wants no acknowledgement with them: there is
/// nobody for such an event, and that is what it is told.
fn own_bytes(scene: &Scene<'_>) -> Result<(), Failure> {
    let ada = scene.client()?;
    ada.emit("upload", vec![0_u8, 255, 0x1e, b'4'])?;
    match ada.next()? {
        Note::Event(name, args) if name == "$error" => {
            equal((&args[0]["code"], &args[0]["event"]), (&json!(108), &json!("upload")))?;
        }
        other => return Err(format!("expected an error, heard {other:?}").into()),
    }
    let channel = fresh();
    equal(&ada.call("$subscribe", json!([channel]))?["channel"], &json!(channel))?;
    ada.leave()
}

fn namespace(scene: &Scene<'_>) -> Result<(), Failure> {
    let ada = scene.enter(Ticket { namespace: "/chat", ..Ticket::to(scene.url) })?;
    let ben = scene.client()?;
    let room = fresh();
    let channel = format!("chat:{room}");
    ada.call("$subscribe", json!([room]))?;
    ben.call("$subscribe", json!([channel]))?;
    ada.call("$publish", json!([room, "said", "by ada"]))?;
    ben.call("$publish", json!([channel, "said", "by ben"]))?;
    ben.call("$publish", json!([room, "said", "elsewhere"]))?;
    api(scene.url, "publish", &json!({ "channel": channel, "event": "said", "data": "by the backend" }))?;
    for player in [ada, ben] {
        for who in ["by ada", "by ben", "by the backend"] {
            player.hears(&event("said", json!([who])))?;
        }
        player.leave()?;
    }
    Ok(())
}

fn bad_token(scene: &Scene<'_>) -> Result<(), Failure> {
    let server = Server::start(scene.program, &["--config", "../scenarios/server.toml"])?;
    let ticket = Ticket { token: Some("nonsense"), ..Ticket::to(&server.url) };
    let ada = Player::try_entering(ticket, scene.transport.clone())?;
    match ada.next()? {
        Note::Failed(said) => {
            let reason = said.contains("invalid token: ") && said.contains("3500");
            equal((reason, said.as_str()), (true, said.as_str()))
        }
        other => Err(format!("expected a refusal, heard {other:?}").into()),
    }
}

fn comes_back(scene: &Scene<'_>) -> Result<(), Failure> {
    let mut server = Server::start(scene.program, &[])?;
    let channel = fresh();
    let ada = scene.enter(Ticket::to(&server.url))?;
    ada.call("$subscribe", json!([channel]))?;
    server.kill()?;
    server.again()?;
    ada.hears_at_last(&Note::Connected)?;
    ada.call("$subscribe", json!([channel]))?;
    api(&server.url, "publish", &json!({ "channel": channel, "data": "again" }))?;
    ada.hears(&event("message", json!(["again"])))?;
    ada.leave()
}
