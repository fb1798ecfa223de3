//! `duplex pub`: publishes from the command line.

use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use duplex_client::{Client, CommandError, Message, Payload};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::remote::{self, Failure};

const ABOUT: &str = "Publish in a channel";
const LONG_ABOUT: &str = "Publish in a channel. DATA is sent as JSON if it is JSON, else as text. Without DATA, or with `-`, \
    each line of the standard input is published, one after the other.";

pub(super) fn command() -> Command {
    let channel = Arg::new("channel").value_name("CHANNEL").required(true).help("Where to publish");
    let data = Arg::new("data").value_name("DATA").allow_hyphen_values(true);
    let event = Arg::new("event").long("event").value_name("NAME");
    let tag = Arg::new("tag").long("tag").value_name("NAME=TEXT").action(ArgAction::Append);
    let key = Arg::new("idempotency-key").long("idempotency-key").value_name("KEY");
    Command::new("pub")
        .about(ABOUT)
        .long_about(LONG_ABOUT)
        .arg(channel)
        .arg(data.help("What to publish: JSON, or text. `-` or nothing: lines of the standard input"))
        .arg(event.help("What kind of message it is [default: message]"))
        .arg(tag.help("What travels with it; may be given several times"))
        .arg(key.help(
            "Names this message, so that publishing it again does nothing, as long as history keeps it",
        ))
        .args(remote::arguments())
}

/// Publishes what is given.
pub(super) fn run(given: &ArgMatches) -> ExitCode {
    remote::run(publish(given))
}

async fn publish(given: &ArgMatches) -> Result<(), Failure> {
    let text = |name: &str| given.get_one::<String>(name);
    let channel = text("channel").map_or("", String::as_str);
    let outline = outline(given)?;
    let client = remote::connect(given).await?;
    let published = match text("data").map(String::as_str).filter(|data| *data != "-") {
        Some(data) => say(&client, channel, &outline, data).await,
        None => say_lines(&client, channel, &outline).await,
    };
    client.close().await;
    published
}

/// The message without what it says.
fn outline(given: &ArgMatches) -> Result<Message, Failure> {
    let mut message = Message::data(Value::Null);
    message.event = given.get_one::<String>("event").cloned();
    message.idempotency_key = given.get_one::<String>("idempotency-key").cloned();
    for tag in given.get_many::<String>("tag").into_iter().flatten() {
        let (name, value) = tag
            .split_once('=')
            .ok_or_else(|| Failure::new(format!("--tag: {tag:?} has no `=`; write it as NAME=TEXT")))?;
        message.tags.insert(name.to_owned(), value.to_owned());
    }
    Ok(message)
}

async fn say(client: &Client, channel: &str, outline: &Message, data: &str) -> Result<(), Failure> {
    let message = Message { payload: payload(data), ..outline.clone() };
    client.publish(channel, message).await.map(drop).map_err(refused)
}

async fn say_lines(client: &Client, channel: &str, outline: &Message) -> Result<(), Failure> {
    if outline.idempotency_key.is_some() {
        return Err(Failure::new("--idempotency-key names one message; give DATA, not lines"));
    }
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut number: u64 = 0;
    while let Some(line) =
        lines.next_line().await.map_err(|error| Failure::new(format!("cannot read: {error}")))?
    {
        number += 1;
        say(client, channel, outline, &line).await.map_err(|failure| failure.at_line(number))?;
    }
    Ok(())
}

/// JSON if it is, else text.
fn payload(data: &str) -> Payload {
    match serde_json::from_str::<Box<RawValue>>(data) {
        Ok(json) => Payload::Data(json),
        Err(_) => Payload::data(data),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
fn refused(error: CommandError) -> Failure {
    Failure::new(format!("not published: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_json_if_it_is_and_text_if_not() {
        for (data, json) in [
            (r#"{"a" : 1.50}"#, r#"{"a" : 1.50}"#),
            ("12", "12"),
            ("null", "null"),
            ("hello", r#""hello""#),
            ("{oops", r#""{oops""#),
            ("", r#""""#),
            (r#""quoted""#, r#""quoted""#),
        ] {
            let (Payload::Data(sent) | Payload::Args(sent)) = payload(data);
            assert_eq!(sent.get(), json, "{data}");
        }
    }
}
