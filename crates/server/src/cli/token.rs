//! `duplex token`: makes a token to try things out with.

use clap::{Arg, ArgAction, ArgMatches, Command};
use duplex_engine::unix_ms;
use serde_json::{Map, Value, json};

use crate::auth::{self, Secret};

const ABOUT: &str = "Make a token to try things out with, signed with the secret in DUPLEX_AUTH__HMAC_SECRET";

pub(super) fn command() -> Command {
    let many = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name("CHANNEL").action(ArgAction::Append).help(help)
    };
    Command::new("token")
        .about(ABOUT)
        .arg(
            Arg::new("secret")
                .long("secret")
                .env("DUPLEX_AUTH__HMAC_SECRET")
                .value_name("SECRET")
                .hide_env_values(true)
                .required(true)
                .help(
                    "The secret, at least 32 bytes. Prefer the variable: command lines can be read by others",
                ),
        )
        .arg(Arg::new("user").long("user").value_name("ID").required(true).help("Whose token it is: `sub`"))
        .arg(
            Arg::new("expires")
                .long("expires")
                .value_name("TIME")
                .default_value("1h")
                .help("How long it is good for"),
        )
        .arg(many("channel", "Subscribe to this channel when connected; may be given several times"))
        .arg(many("allow-subscribe", "Allow subscribing to these channels; `*` stands for any characters"))
        .arg(many("allow-publish", "Allow publishing in these channels"))
        .arg(many("allow-presence", "Allow reading who is subscribed to these channels"))
        .arg(many("allow-history", "Allow reading the history of these channels"))
        .arg(
            Arg::new("info")
                .long("info")
                .value_name("JSON")
                .help("What others see of the client in presence"),
        )
        .arg(Arg::new("id").long("id").value_name("ID").help("The token's id, to revoke it by: `jti`"))
        .arg(
            Arg::new("subscription")
                .long("subscription")
                .value_name("CHANNEL")
                .help("Make a token for subscribing to this channel instead of one for connecting"),
        )
}

/// Prints a token.
pub(super) fn mint(given: &ArgMatches) -> Result<(), Vec<String>> {
    let text = |name: &str| given.get_one::<String>(name).cloned();
    let secret = Secret::new(text("secret").unwrap_or_default()).map_err(|error| vec![error.to_string()])?;
    println!("{}", auth::mint(&secret, &claims(given).map_err(|problem| vec![problem])?));
    Ok(())
}

fn claims(given: &ArgMatches) -> Result<Map<String, Value>, String> {
    let text = |name: &str| given.get_one::<String>(name).cloned();
    let list = |name: &str| -> Vec<String> {
        given.get_many::<String>(name).into_iter().flatten().cloned().collect()
    };
    let expires = text("expires").unwrap_or_default();
    let seconds =
        crate::config::seconds(&expires).map_err(|problem| format!("--expires: {expires:?} {problem}"))?;
    let now_s = unix_ms() / 1_000;
    let mut claims = Map::new();
    claims.insert("sub".into(), json!(text("user")));
    claims.insert("iat".into(), json!(now_s));
    claims.insert("exp".into(), json!(now_s + seconds));
    if let Some(id) = text("id") {
        claims.insert("jti".into(), json!(id));
    }
    if let Some(channel) = text("subscription") {
        claims.insert("channel".into(), json!(channel));
        return Ok(claims);
    }
    if let Some(info) = text("info") {
        let info: Value =
            serde_json::from_str(&info).map_err(|error| format!("--info: not JSON: {error}"))?;
        claims.insert("info".into(), info);
    }
    claims.insert("channels".into(), json!(list("channel")));
    let allow = ["subscribe", "publish", "presence", "history"]
        .map(|action| (action.to_owned(), json!(list(&format!("allow-{action}")))));
    claims.insert("allow".into(), Value::Object(allow.into_iter().collect()));
    Ok(claims)
}
