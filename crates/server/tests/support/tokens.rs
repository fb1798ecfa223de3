//! Servers that are open to nobody without a token or key, and tokens and keys for them.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use duplex::auth::{self, Anonymous, Secret};
use duplex::{Mode, Options};
use serde_json::{Map, Value, json};

use super::native::Client;
use super::options;

pub const SECRET: &str = "a secret that is long enough for everybody";
pub const API_KEY: &str = "a key that is long enough";

/// Options of a server that lets in who has a token, and anonymous clients, who may do nothing by themselves.
pub fn closed() -> Options {
    let mut options = Options { mode: Mode::Closed, ..options() };
    options.auth.hmac_secret = Some(secret(SECRET));
    options.auth.anonymous = Anonymous::Allowed;
    options.auth.api_keys = vec![format!("test:{API_KEY}")];
    options
}

pub fn secret(text: &str) -> Secret {
    Secret::new(text).expect("it is long enough")
}

/// Seconds since 1970 UTC.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs_f64()
}

/// A token for `user` that is good for so many seconds.
pub fn token(user: &str, seconds: f64) -> String {
    token_with(user, &json!({ "exp": now() + seconds }))
}

/// A token with these claims.
pub fn token_with(user: &str, claims: &Value) -> String {
    signed(SECRET, user, claims)
}

/// The same, with this secret.
pub fn signed(with: &str, user: &str, claims: &Value) -> String {
    let mut all: Map<String, Value> = Map::new();
    all.insert("sub".to_owned(), user.into());
    all.insert("iat".to_owned(), (now() as u64).into());
    all.insert("exp".to_owned(), (now() as u64 + 60).into());
    all.extend(claims.as_object().expect("claims are an object").clone());
    auth::mint(&secret(with), &all)
}

/// A client that has said who it is.
pub fn signed_in(address: SocketAddr, user: &str, seconds: f64) -> Client {
    let mut client = Client::open(address, "/ws");
    let connected = client.ask(&json!({ "id": 1, "connect": { "token": token(user, seconds) } }));
    assert_eq!(connected["connected"]["user"], user, "{connected}");
    client
}
