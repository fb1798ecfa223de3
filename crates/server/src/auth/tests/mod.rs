//! What a verifier promises as a whole.

pub mod keys;
mod key_server;
mod signatures;
mod key_sets;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use duplex_core::{ErrorCode, Refusal};

use super::{AuthOptions, Claims, PublicKey, Secret, Verifier};

/// The time of all tests, seconds since 1970.
const NOW: u64 = 1_700_000_000;
const NOW_MS: u64 = NOW * 1_000;
const CLAIMS: &str = r#"{"sub":"alice","exp":1700000060}"#;

const SECRET: &str = "a secret of more than thirty-two bytes";

fn secret() -> Secret {
    Secret::new(SECRET).unwrap()
}

fn with_public_key(pem: &str) -> Arc<Verifier> {
    let public_keys = vec![PublicKey::from_pem(pem).unwrap()];
    Verifier::new(AuthOptions { public_keys, ..AuthOptions::default() }).unwrap()
}

/// What a future gives at its first poll.
fn at_once<T>(mut pending: Pin<Box<dyn Future<Output = T> + Send>>) -> T {
    match pending.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it is not ready at once"),
    }
}

/// The user, or the code of the refusal.
fn user(result: Result<Claims, Refusal>) -> Result<String, ErrorCode> {
    match result {
        Ok(claims) => Ok(claims.identity.user.map(|user| user.to_string()).unwrap_or_default()),
        Err(refusal) => Err(refusal.code),
    }
}

fn alice() -> Result<String, ErrorCode> {
    Ok("alice".into())
}
