//! What the client must live through. A name is a promise.

use std::pin::pin;

use serde_json::{Value, json};

use super::player::{ASKED, Encoding, Player, item};
use crate::stage::{Failure, Place, Server, api, equal, fresh};

type Play = fn(&Scene<'_>) -> Result<(), Failure>;
/// What it is, for which encodings, and how it is shown.
type Promise = (&'static str, &'static [Encoding], Play);

const BOTH: &[Encoding] = &[Encoding::Json, Encoding::MessagePack];
/// It completes invocations of the server in JSON, whatever was agreed, and writes the keys of objects in MessagePack large.
const JSON: &[Encoding] = &[Encoding::Json];
const MESSAGE_PACK: &[Encoding] = &[Encoding::MessagePack];

pub const ALL: [Promise; 9] = [
    ("a completion says what was done, or why not", BOTH, completions),
    ("what others and the backend publish comes in order and once", BOTH, publications),
    ("any text comes as it was sent", BOTH, texts),
    ("bytes come from others, and are Base64 for clients of JSON", MESSAGE_PACK, bytes),
    ("a channel comes as a stream until it is unsubscribed", BOTH, streams),
    ("who wants no answer is told by an event what was wrong", BOTH, errors),
    ("what the backend asks is answered", JSON, results),
    ("what was missed since a position comes first", JSON, recovery),
    ("a good token is let in and a bad one is not", BOTH, tokens),
];

/// Where a story is played.
pub struct Scene<'a> {
    pub place: &'a Place,
    pub encoding: Encoding,
}

impl Scene<'_> {
    fn client(&self) -> Result<Player, Failure> {
        Player::enter(&self.place.url, self.encoding, None)
    }

    fn publish(&self, channel: &str, event: &str, data: &Value) -> Result<Value, Failure> {
        api(&self.place.url, "publish", &json!({ "channel": channel, "event": event, "data": data }))
    }
}

fn completions(scene: &Scene<'_>) -> Result<(), Failure> {
    let mut ada = scene.client()?;
    let channel = fresh();
    let subscribed = ada.call("$subscribe", &json!([channel]))??;
    equal((&subscribed["channel"], &subscribed["offset"]), (&json!(channel), &json!(0)))?;
    let published = ada.call("$publish", &json!([channel, "said", "hello"]))??;
    equal(&published, &json!({ "channel": channel, "epoch": subscribed["epoch"], "offset": 1 }))?;
    ada.hears(&[("said", json!(["hello"]))])?;
    equal(ada.call("$shuffle", &json!([]))?, Err("Unknown hub method '$shuffle'".into()))?;
    for (target, args, code) in [
        ("deal", json!(["cards"]), 108),
        ("$publish", json!([channel, "connect", 1]), 107),
        ("$subscribe", json!([""]), 107),
    ] {
        let error = ada.call(target, &args)?.expect_err("an error");
        let before =
            format!("An unexpected error occurred invoking '{target}' on the server. HubException: ");
        equal((error.starts_with(&before), error.ends_with(&format!(" (code {code})"))), (true, true))
            .map_err(|_| error)?;
    }
    ada.leave();
    Ok(())
}

fn publications(scene: &Scene<'_>) -> Result<(), Failure> {
    let (mut ada, mut ben) = (scene.client()?, scene.client()?);
    let channel = fresh();
    for player in [&mut ada, &mut ben] {
        player.call("$subscribe", &json!([channel]))??;
    }
    for number in 0..20 {
        if number % 2 == 0 {
            ben.call("$publish", &json!([channel, "count", number, "by ben"]))??;
        } else {
            let args = json!([number, "by the backend"]);
            api(&scene.place.url, "publish", &json!({ "channel": channel, "event": "count", "args": args }))?;
        }
    }
    ada.call("$broadcast", &json!([channel, "said", "to the others"]))??;
    ada.call("$publish", &json!([channel, "message", "the end"]))??;
    for (player, is_ada) in [(ada, true), (ben, false)] {
        for number in 0..20 {
            let by = if number % 2 == 0 { "by ben" } else { "by the backend" };
            player.hears(&[("count", json!([number, by]))])?;
        }
        if !is_ada {
            player.hears(&[("said", json!(["to the others"]))])?;
        }
        player.hears(&[("message", json!(["the end"]))])?;
        player.leave();
    }
    Ok(())
}

fn texts(scene: &Scene<'_>) -> Result<(), Failure> {
    let mut ada = scene.client()?;
    let channel = fresh();
    ada.call("$subscribe", &json!([channel]))??;
    for text in [
        json!("plain"),
        json!(""),
        json!("naïve Ω 漢字 🙂 \u{2028} \u{1e} \\ \"quoted\"\n"),
        json!("x".repeat(50_000)),
        json!([null, -1.5, [[]], true]),
    ] {
        ada.call("$publish", &json!([channel, "text", text]))??;
        ada.hears(&[("text", json!([text]))])?;
        scene.publish(&channel, "text", &text)?;
        ada.hears(&[("text", json!([text]))])?;
    }
    scene.publish(&channel, "text", &json!({ "deep": { "empty": [{}] } }))?;
    ada.hears(&[("text", json!([{ "deep": { "empty": [{}] } }]))])?;
    ada.leave();
    Ok(())
}

/// Its arguments are JSON, so it sends no bytes of its own here; those of a Socket.IO client it turns into Base64.
fn bytes(scene: &Scene<'_>) -> Result<(), Failure> {
    let mut ada = scene.client()?;
    let channel = fresh();
    ada.call("$subscribe", &json!([channel]))??;
    crate::stage::publish_bytes(&scene.place.url, &channel, "file", "NAD/gA==")?;
    ada.hears(&[("file", json!(["NAD/gA=="]))])?;
    ada.leave();
    Ok(())
}

fn streams(scene: &Scene<'_>) -> Result<(), Failure> {
    let mut ada = scene.client()?;
    let channel = fresh();
    let mut stream = pin!(ada.stream("$subscribe", &json!([channel])));
    let first = item(&mut stream)?.ok_or("no item")?;
    equal(&first["subscribed"]["channel"], &json!(channel))?;
    for number in 1..4 {
        scene.publish(&channel, "said", &json!(number))?;
        let publication = item(&mut stream)?.ok_or("no item")?;
        equal(
            (&publication["publication"]["offset"], &publication["publication"]["data"]),
            (&json!(number), &json!(number)),
        )?;
    }
    ada.call("$unsubscribe", &json!([channel]))??;
    equal(item(&mut stream)?, None)?;
    ada.leave();
    Ok(())
}

fn errors(scene: &Scene<'_>) -> Result<(), Failure> {
    let mut ada = scene.client()?;
    ada.send("$subscribe", &json!([""]))?;
    let note = ada.next()?;
    equal(
        (note.0.as_str(), &note.1[0]["code"], &note.1[0]["event"]),
        ("$error", &json!(107), &json!("$subscribe")),
    )?;
    ada.leave();
    Ok(())
}

fn results(scene: &Scene<'_>) -> Result<(), Failure> {
    let mut ada = scene.client()?;
    let channel = fresh();
    ada.call("$subscribe", &json!([channel]))??;
    let question = json!({ "channel": channel, "event": ASKED, "args": [{ "go": 1 }], "timeout_ms": 9000 });
    let told = api(&scene.place.url, "request", &question)?;
    equal((&told["received"], &told["replies"][0]["args"]), (&json!(1), &json!([{ "go": 1 }])))?;
    ada.leave();
    Ok(())
}

fn recovery(scene: &Scene<'_>) -> Result<(), Failure> {
    let channel = fresh();
    let position = scene.publish(&channel, "said", &json!("seen"))?;
    scene.publish(&channel, "said", &json!("missed"))?;
    let mut ada = scene.client()?;
    let since = json!({ "epoch": position["epoch"], "offset": position["offset"] });
    let subscribed = ada.call("$subscribe", &json!([channel, { "since": since }]))??;
    equal(&subscribed["recovered"], &json!(true))?;
    scene.publish(&channel, "said", &json!("live"))?;
    ada.hears(&[("said", json!(["missed"])), ("said", json!(["live"]))])?;
    ada.leave();
    Ok(())
}

fn tokens(scene: &Scene<'_>) -> Result<(), Failure> {
    let server = Server::start(&scene.place.program, &["--config", "../scenarios/server.toml"])?;
    let Err(refusal) = Player::enter(&server.url, scene.encoding, Some("nonsense".into())) else {
        return Err("a bad token was let in".into());
    };
    equal(refusal.to_string().contains("negotiate"), true).map_err(|_| refusal)?;
    let mut ada = Player::enter(&server.url, scene.encoding, Some(server.token("ada")?))?;
    equal(&ada.call("$subscribe", &json!(["room"]))??["channel"], &json!("room"))?;
    ada.leave();
    Ok(())
}
