//! Rows 93 to 95 of the catalogue of hostile inputs: keys that are fetched.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use duplex_core::ErrorCode;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use super::key_server::{KeyServer, Reply};
use super::keys::{self, Signer};
use super::{NOW_MS, SECRET, alice, at_once, secret, user};
use crate::auth::outbound::EndpointError;
use crate::auth::{AuthError, AuthOptions, Issuer, PrivateAddresses, PublicKey, Verifier};

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
/// Valid in all tests, some of which last for days.
const CLAIMS: &str = r#"{"sub":"alice","exp":1800000000,"iss":"one"}"#;

fn issuer(name: &str, server: &KeyServer) -> Issuer {
    Issuer { issuer: name.into(), url: server.url() }
}

fn options(jwks: Vec<Issuer>) -> AuthOptions {
    AuthOptions { jwks, allow_private_addresses: PrivateAddresses::Allowed, ..AuthOptions::default() }
}

fn verifier(server: &KeyServer) -> Arc<Verifier> {
    Verifier::new(options(vec![issuer("one", server)])).unwrap()
}

fn ed25519_keys() -> Reply {
    Reply::Keys(vec![keys::ed25519().jwk("k")])
}

fn token(id: &str) -> String {
    keys::ed25519().token("EdDSA", id, CLAIMS)
}

async fn verify(verifier: &Arc<Verifier>, token: &str, now_ms: u64) -> Result<String, ErrorCode> {
    user(verifier.verify(token, now_ms).await)
}

#[tokio::test]
async fn a_key_is_fetched_once_and_known_from_then_on() {
    let server = KeyServer::start(ed25519_keys());
    let verifier = verifier(&server);
    assert_eq!(verify(&verifier, &token("k"), NOW_MS).await, alice());
    assert_eq!(user(at_once(verifier.verify(&token("k"), NOW_MS + 9 * MINUTE_MS))), alice());
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn a_hundred_who_need_a_key_at_once_cause_one_request() {
    let server = KeyServer::start(ed25519_keys());
    let verifier = verifier(&server);
    let mut verifications = JoinSet::new();
    for _ in 0..100 {
        verifications.spawn(verifier.verify(&token("k"), NOW_MS));
    }
    for result in verifications.join_all().await {
        assert_eq!(user(result), alice());
    }
    assert_eq!(server.requests(), 1);
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn threads_with_runtimes_of_their_own_share_a_request() {
    let server = KeyServer::start(ed25519_keys());
    let verifier = verifier(&server);
    let ask = || runtime().block_on(verify(&verifier, &token("k"), NOW_MS));
    // The thread that fetches waits for its own fetch, so its runtime does not end before that.
    thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), alice());
        }
    });
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn a_fetch_goes_on_without_the_one_that_began_it() {
    let server = KeyServer::start(ed25519_keys());
    let verifier = verifier(&server);
    tokio::select! {
        biased;
        _ = verifier.verify(&token("k"), NOW_MS) => panic!("there is no key yet"),
        () = std::future::ready(()) => {}
    }
    assert_eq!(verify(&verifier, &token("k"), NOW_MS).await, alice());
    assert_eq!(server.requests(), 1);
}

#[test]
fn a_fetch_that_ends_with_its_runtime_may_be_repeated_at_once() {
    let server = KeyServer::start(ed25519_keys());
    let verifier = verifier(&server);
    let first = runtime();
    first.block_on(async {
        tokio::select! {
            biased;
            _ = verifier.verify(&token("k"), NOW_MS) => panic!("there is no key yet"),
            () = std::future::ready(()) => {}
        }
    });
    drop(first);
    assert_eq!(runtime().block_on(verify(&verifier, &token("k"), NOW_MS)), alice());
}

#[tokio::test]
async fn a_flood_of_unknown_keys_causes_one_request_in_thirty_seconds() {
    let server = KeyServer::start(ed25519_keys());
    let verifier = verifier(&server);
    for round in 0..3_u64 {
        for number in 0..200 {
            let id = if number % 2 == 0 { format!("../../{number}") } else { format!("k{number}") };
            let now_ms = NOW_MS + round * 30_000 + number * 149;
            let refusal = verifier.verify(&token(&id), now_ms).await.unwrap_err();
            assert_eq!(refusal.code, ErrorCode::Unauthorized);
            assert!(refusal.message.starts_with("unknown key"), "{}", refusal.message);
        }
        assert_eq!(server.requests(), round as usize + 1);
    }
    assert_eq!(user(at_once(verifier.verify(&token("k"), NOW_MS + 90_000))), alice());
}

#[tokio::test]
async fn a_key_id_of_ten_thousand_bytes_or_of_no_issuer_causes_no_request() {
    let server = KeyServer::start(ed25519_keys());
    let verifier = verifier(&server);
    let foreign = r#"{"sub":"alice","exp":1800000000,"iss":"http://127.0.0.1/"}"#;
    for token in [
        token(&"k".repeat(257)),
        token(&"k".repeat(10_000)),
        keys::ed25519().token("EdDSA", "k", foreign),
        keys::ed25519().token("EdDSA", "k", r#"{"sub":"alice","exp":1800000000}"#),
        keys::ed25519().token("EdDSA", "k", r#"{"sub":"alice","exp":1800000000,"iss":7}"#),
    ] {
        assert_eq!(user(at_once(verifier.verify(&token, NOW_MS))), Err(ErrorCode::Unauthorized));
    }
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn a_bad_key_server_is_not_believed_and_asked_again_after_thirty_seconds() {
    let elsewhere = KeyServer::start(ed25519_keys());
    let keys = || vec![keys::ed25519().jwk("k")];
    for reply in [
        Reply::Redirect(elsewhere.url()),
        Reply::Status(500, keys()),
        Reply::Status(201, keys()),
        Reply::Huge,
        Reply::Nothing,
        Reply::Text("<html>"),
        Reply::Keys(Vec::new()),
        Reply::Keys(vec![r#"{"kty":"oct","kid":"k","k":"AAAA"}"#.into()]),
        Reply::Keys(vec![keys::ed25519().jwk("k"); 101]),
    ] {
        let server = KeyServer::start(reply);
        let options = AuthOptions {
            fetch_time_max: Duration::from_millis(300),
            ..options(vec![issuer("one", &server)])
        };
        let verifier = Verifier::new(options).unwrap();
        for _ in 0..2 {
            assert_eq!(verify(&verifier, &token("k"), NOW_MS).await, Err(ErrorCode::NotAvailable));
        }
        assert_eq!(server.requests(), 1);
        server.answer(ed25519_keys());
        assert_eq!(verify(&verifier, &token("k"), NOW_MS + 29_999).await, Err(ErrorCode::NotAvailable));
        assert_eq!(server.requests(), 1);
    }
    assert_eq!(elsewhere.requests(), 0);
}

#[tokio::test]
async fn a_key_server_that_is_mended_is_believed_again() {
    let server = KeyServer::start(Reply::Status(500, Vec::new()));
    let verifier = verifier(&server);
    assert_eq!(verify(&verifier, &token("k"), NOW_MS).await, Err(ErrorCode::NotAvailable));
    server.answer(ed25519_keys());
    assert_eq!(verify(&verifier, &token("k"), NOW_MS + 30_000).await, alice());
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn a_symmetric_key_that_is_published_signs_nothing() {
    let k = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA";
    let oct = format!(r#"{{"kty":"oct","kid":"k","k":"{k}"}}"#);
    let server = KeyServer::start(Reply::Keys(vec![oct, keys::ed25519().jwk("e")]));
    let claims = serde_json::from_str(CLAIMS).unwrap();
    let key = crate::auth::Secret::new("secret-secret-secret-secret-secret").unwrap();
    let forged = crate::auth::mint(&key, &claims);
    assert_eq!(verify(&verifier(&server), &forged, NOW_MS).await, Err(ErrorCode::Unauthorized));
}

#[tokio::test]
async fn a_new_key_is_found_at_once_and_an_old_one_forgotten() {
    let server = KeyServer::start(ed25519_keys());
    let verifier = verifier(&server);
    let next = Signer::new_p256();
    let next_token = next.token("ES256", "next", CLAIMS);
    assert_eq!(verify(&verifier, &token("k"), NOW_MS).await, alice());
    server.answer(Reply::Keys(vec![next.jwk("next")]));
    assert_eq!(verify(&verifier, &next_token, NOW_MS + 29_999).await, Err(ErrorCode::Unauthorized));
    assert_eq!(verify(&verifier, &next_token, NOW_MS + 30_000).await, alice());
    assert_eq!(verify(&verifier, &token("k"), NOW_MS + 30_000).await, Err(ErrorCode::Unauthorized));
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn keys_are_refreshed_in_the_background_after_ten_minutes() {
    let server = KeyServer::start(ed25519_keys());
    let verifier = verifier(&server);
    assert_eq!(verify(&verifier, &token("k"), NOW_MS).await, alice());
    let next = Signer::new_p256();
    server.answer(Reply::Keys(vec![next.jwk("next")]));
    let later = NOW_MS + 10 * MINUTE_MS;
    assert_eq!(user(at_once(verifier.verify(&token("k"), later))), alice());
    // Who needs the new key waits for the fetch that has begun.
    assert_eq!(verify(&verifier, &next.token("ES256", "next", CLAIMS), later).await, alice());
    assert_eq!(verify(&verifier, &token("k"), later).await, Err(ErrorCode::Unauthorized));
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn old_keys_are_kept_for_a_day_while_there_are_no_new_ones() {
    let server = KeyServer::start(ed25519_keys());
    let verifier = verifier(&server);
    assert_eq!(verify(&verifier, &token("k"), NOW_MS).await, alice());
    server.answer(Reply::Status(500, Vec::new()));
    for hours in [1, 12, 23] {
        let now_ms = NOW_MS + hours * HOUR_MS;
        assert_eq!(user(at_once(verifier.verify(&token("k"), now_ms))), alice());
        // Whether this key exists nobody can say now.
        assert_eq!(verify(&verifier, &token("next"), now_ms).await, Err(ErrorCode::NotAvailable));
    }
    assert_eq!(server.requests(), 4);
    let a_day_later = NOW_MS + 24 * HOUR_MS;
    assert_eq!(verify(&verifier, &token("k"), a_day_later).await, Err(ErrorCode::NotAvailable));
}

#[tokio::test]
async fn a_clock_that_is_set_back_does_not_stop_fetches() {
    let server = KeyServer::start(ed25519_keys());
    let verifier = verifier(&server);
    assert_eq!(verify(&verifier, &token("k"), NOW_MS).await, alice());
    let next = Signer::new_p256();
    server.answer(Reply::Keys(vec![next.jwk("next")]));
    let token = next.token("ES256", "next", CLAIMS);
    assert_eq!(verify(&verifier, &token, NOW_MS - HOUR_MS).await, alice());
}

#[tokio::test]
async fn keys_of_two_issuers_are_never_mixed() {
    let (one, two) = (keys::ed25519(), Signer::new_ed25519());
    let (server_one, server_two) =
        (KeyServer::start(ed25519_keys()), KeyServer::start(Reply::Keys(vec![two.jwk("k"), two.jwk("k2")])));
    let options = AuthOptions {
        hmac_secret: Some(secret()),
        public_keys: vec![PublicKey::from_pem(&keys::p256().pem()).unwrap()],
        ..options(vec![issuer("one", &server_one), issuer("two", &server_two)])
    };
    let verifier = Verifier::new(options).unwrap();
    let of = |issuer: &str| format!(r#"{{"sub":"alice","exp":1800000000,"iss":"{issuer}"}}"#);
    let hmac = |issuer: &str| {
        let secret = crate::auth::Secret::new(SECRET).unwrap();
        crate::auth::mint(&secret, &serde_json::from_str(&of(issuer)).unwrap())
    };
    for (token, wanted) in [
        (one.token("EdDSA", "k", &of("one")), alice()),
        (two.token("EdDSA", "k", &of("two")), alice()),
        (two.token("EdDSA", "k", &of("one")), Err(ErrorCode::Unauthorized)),
        (one.token("EdDSA", "k", &of("two")), Err(ErrorCode::Unauthorized)),
        (two.token("EdDSA", "k2", &of("one")), Err(ErrorCode::Unauthorized)),
        (one.token("EdDSA", "k", &of("three")), Err(ErrorCode::Unauthorized)),
        (one.token("EdDSA", "k", &of("One")), Err(ErrorCode::Unauthorized)),
        (keys::p256().token("ES256", "k", &of("one")), Err(ErrorCode::Unauthorized)),
        (keys::p256().token("ES256", "k", &of("three")), alice()),
        (hmac("one"), Err(ErrorCode::Unauthorized)),
        (hmac("three"), alice()),
    ] {
        assert_eq!(verify(&verifier, &token, NOW_MS).await, wanted, "{token}");
    }
}

#[test]
fn key_sets_that_could_not_be_used_are_refused_at_start() {
    let refused = |jwks: &[(&str, &str)], options: AuthOptions| {
        let jwks = jwks.iter().map(|(issuer, url)| Issuer { issuer: (*issuer).into(), url: (*url).into() });
        Verifier::new(AuthOptions { jwks: jwks.collect(), ..options }).unwrap_err()
    };
    for (url, error) in [
        ("http://example.com/keys", EndpointError::NotSecure),
        ("http://127.0.0.1/keys", EndpointError::NotSecure),
        ("file:///etc/passwd", EndpointError::Malformed),
        ("ftp://example.com/keys", EndpointError::NotSecure),
        ("example.com", EndpointError::Malformed),
        ("/keys", EndpointError::Malformed),
        ("", EndpointError::Malformed),
        ("https://user:password@example.com/keys", EndpointError::HasUser),
    ] {
        let found = refused(&[("one", url)], AuthOptions::default());
        assert_eq!(found, AuthError::KeySet { issuer: "one".into(), error }, "{url}");
        assert!(!found.to_string().contains("password@"), "{found}");
    }
    let private = || options(Vec::new());
    let url = "http://127.0.0.1/keys";
    let two = refused(&[("one", url), ("one", url)], private());
    assert_eq!(two, AuthError::TwoKeySets { issuer: "one".into() });
    assert_eq!(refused(&[("", url)], private()), AuthError::NamelessIssuer);
    let wanted = AuthOptions { issuer: Some("two".into()), ..private() };
    let never = AuthError::IssuerNeverWanted { issuer: "one".into(), wanted: "two".into() };
    assert_eq!(refused(&[("one", url)], wanted), never);
}
