//! What native clients say, and what they read out of what they hear.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::load::link::strange;

/// What the servers of this benchmark check tokens with.
pub const SECRET: &str = "the secret of a server that lives for a minute";

/// `connect`, as command 1.
pub fn connect(token: Option<&str>) -> String {
    json!({ "id": 1, "connect": token.map_or(json!({}), |token| json!({ "token": token })) }).to_string()
}

/// `subscribe`, as command 2.
pub fn subscribe(channel: &str, since: Option<&Value>) -> String {
    let mut command = json!({ "id": 2, "subscribe": { "channel": channel } });
    if let Some(since) = since {
        command["subscribe"]["since"] = since.clone();
    }
    command.to_string()
}

/// A token for `user` that is good for an hour.
pub fn token(user: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let claims = json!({ "sub": user, "exp": now + 3_600 }).to_string();
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let signature = hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// Whether it is a publication.
pub fn is_publication(text: &[u8]) -> bool {
    text.starts_with(br#"{"publication":"#)
}

/// The publication or answer in `text`: the value of its kind.
pub fn body(text: &[u8], kind: &str) -> Result<Value, Failure> {
    let mut frame: Value = serde_json::from_slice(text).map_err(|_| strange(text))?;
    match frame.get_mut(kind) {
        Some(body) => Ok(body.take()),
        None => Err(strange(text)),
    }
}
