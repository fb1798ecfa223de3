//! Rows 91 and 92 of the catalogue of hostile inputs, and the kinds of tokens.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use duplex_core::{ChannelName, ErrorCode, Identity, UserId};
use serde_json::{Map, Value};

use super::keys::{self, Signer};
use super::{CLAIMS, NOW_MS, SECRET, alice, at_once, secret, user, with_public_key};
use crate::auth::{Anonymous, AuthOptions, PublicKey, Verifier, mint};

fn hmac_token(algorithm: &str, key: &[u8], claims: &str) -> String {
    let hash = match algorithm {
        "HS384" => hmac::HMAC_SHA384,
        "HS512" => hmac::HMAC_SHA512,
        _ => hmac::HMAC_SHA256,
    };
    let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"{algorithm}"}}"#));
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
    let signature = hmac::sign(&hmac::Key::new(hash, key), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn verify(verifier: &std::sync::Arc<Verifier>, token: &str) -> Result<String, ErrorCode> {
    user(at_once(verifier.verify(token, NOW_MS)))
}

fn with_secret() -> std::sync::Arc<Verifier> {
    Verifier::new(AuthOptions { hmac_secret: Some(secret()), ..AuthOptions::default() }).unwrap()
}

/// The token with one bit of one part turned over.
fn tampered(token: &str) -> Vec<String> {
    let parts: Vec<&str> = token.split('.').collect();
    let turn = |at: usize| {
        let mut bytes = URL_SAFE_NO_PAD.decode(parts[at]).unwrap();
        let last = bytes.len() - 1;
        bytes[last / 2] ^= 1;
        let mut parts: Vec<String> = parts.iter().map(|part| (*part).to_owned()).collect();
        parts[at] = URL_SAFE_NO_PAD.encode(bytes);
        parts.join(".")
    };
    let cut = token[..token.len() - 4].to_owned();
    let empty = format!("{}.{}.", parts[0], parts[1]);
    vec![turn(0), turn(1), turn(2), cut, empty, format!("{token}AAAA")]
}

#[test]
fn each_algorithm_is_verified_and_a_change_noticed() {
    let signers: [(&Signer, &[&str]); 4] = [
        (keys::rsa(), &["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]),
        (keys::p256(), &["ES256"]),
        (keys::p384(), &["ES384"]),
        (keys::ed25519(), &["EdDSA"]),
    ];
    let mut cases = Vec::new();
    for algorithm in ["HS256", "HS384", "HS512"] {
        cases.push((with_secret(), hmac_token(algorithm, SECRET.as_bytes(), CLAIMS)));
    }
    for (signer, algorithms) in signers {
        for algorithm in algorithms {
            cases.push((with_public_key(&signer.pem()), signer.token(algorithm, "k", CLAIMS)));
        }
    }
    for (verifier, token) in cases {
        assert_eq!(verify(&verifier, &token), alice(), "{token}");
        for changed in tampered(&token) {
            assert_eq!(verify(&verifier, &changed), Err(ErrorCode::Unauthorized), "{changed}");
        }
    }
}

#[test]
fn a_signature_of_another_key_is_refused() {
    for (signer, other, algorithm) in [
        (keys::rsa(), Signer::new_rsa(), "RS256"),
        (keys::rsa(), Signer::new_rsa(), "PS256"),
        (keys::p256(), Signer::new_p256(), "ES256"),
        (keys::p384(), Signer::new_p384(), "ES384"),
        (keys::ed25519(), Signer::new_ed25519(), "EdDSA"),
    ] {
        let token = other.token(algorithm, "k", CLAIMS);
        assert_eq!(verify(&with_public_key(&signer.pem()), &token), Err(ErrorCode::Unauthorized));
    }
    let token = hmac_token("HS256", b"another secret of thirty-two bytes or more", CLAIMS);
    assert_eq!(verify(&with_secret(), &token), Err(ErrorCode::Unauthorized));
}

#[test]
fn the_header_does_not_choose_how_it_is_checked() {
    let rsa = keys::rsa();
    let verifier = with_public_key(&rsa.pem());
    let payload = URL_SAFE_NO_PAD.encode(CLAIMS);
    let unsigned =
        |alg: &str| format!("{}.{payload}.", URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"{alg}"}}"#)));
    let pem = rsa.pem();
    for token in [
        unsigned("none"),
        unsigned("None"),
        unsigned("RS256"),
        hmac_token("HS256", pem.as_bytes(), CLAIMS),
        hmac_token("HS256", pem.trim().as_bytes(), CLAIMS),
        hmac_token("HS256", b"", CLAIMS),
        rsa.token_with(r#"{"alg":"none"}"#, "RS256", CLAIMS),
        rsa.token_with(r#"{"alg":"HS256"}"#, "RS256", CLAIMS),
        rsa.token_with(r#"{"alg":"PS256"}"#, "RS256", CLAIMS),
        rsa.token_with(r#"{"alg":"RS384"}"#, "RS256", CLAIMS),
        rsa.token_with(r#"{"alg":"ES256"}"#, "RS256", CLAIMS),
        rsa.token_with(r#"{"alg":"XX256"}"#, "RS256", CLAIMS),
        rsa.token_with(r#"{"alg":"RS256","crit":["b64"],"b64":false}"#, "RS256", CLAIMS),
        rsa.token_with("{}", "RS256", CLAIMS),
    ] {
        assert_eq!(verify(&verifier, &token), Err(ErrorCode::Unauthorized), "{token}");
    }
    let p384 = keys::p384().token_with(r#"{"alg":"ES256"}"#, "ES384", CLAIMS);
    assert_eq!(verify(&with_public_key(&keys::p384().pem()), &p384), Err(ErrorCode::Unauthorized));
    assert_eq!(verify(&with_public_key(&keys::p256().pem()), &p384), Err(ErrorCode::Unauthorized));
}

#[test]
fn a_signature_of_zeros_is_refused() {
    for (signer, algorithm, bytes) in [
        (keys::p256(), "ES256", 64),
        (keys::p384(), "ES384", 96),
        (keys::ed25519(), "EdDSA", 64),
        (keys::rsa(), "RS256", 256),
        (keys::rsa(), "PS256", 256),
    ] {
        let token = signer.token(algorithm, "k", CLAIMS);
        let (signed, _) = token.rsplit_once('.').unwrap();
        let forged = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(vec![0; bytes]));
        let verifier = with_public_key(&signer.pem());
        assert_eq!(verify(&verifier, &token), alice());
        assert_eq!(verify(&verifier, &forged), Err(ErrorCode::Unauthorized), "{algorithm}");
    }
}

#[test]
fn a_key_in_the_header_is_nobodys() {
    let (ours, theirs) = (keys::rsa(), Signer::new_rsa());
    let header = format!(
        r#"{{"alg":"RS256","jku":"http://127.0.0.1:1/keys","x5u":"http://127.0.0.1:1/","x5c":["AA"],"jwk":{}}}"#,
        theirs.jwk("k")
    );
    let verifier = with_public_key(&ours.pem());
    assert_eq!(verify(&verifier, &theirs.token_with(&header, "RS256", CLAIMS)), Err(ErrorCode::Unauthorized));
    assert_eq!(verify(&verifier, &ours.token_with(&header, "RS256", CLAIMS)), alice());
}

#[test]
fn any_of_several_keys_may_have_signed() {
    let (old, new) = (keys::p256(), Signer::new_p256());
    let public_keys =
        [old, &new, keys::ed25519()].map(|key| PublicKey::from_pem(&key.pem()).unwrap()).to_vec();
    let options = AuthOptions { hmac_secret: Some(secret()), public_keys, ..AuthOptions::default() };
    let verifier = Verifier::new(options).unwrap();
    for token in [
        old.token("ES256", "k", CLAIMS),
        new.token("ES256", "k", CLAIMS),
        keys::ed25519().token("EdDSA", "k", CLAIMS),
        hmac_token("HS512", SECRET.as_bytes(), CLAIMS),
    ] {
        assert_eq!(verify(&verifier, &token), alice());
    }
}

#[test]
fn a_token_that_is_too_long_is_refused_before_any_work() {
    let with_filler = |bytes: usize| {
        let claims = format!(r#"{{"sub":"alice","exp":1700000060,"x":"{}"}}"#, "x".repeat(bytes));
        hmac_token("HS256", SECRET.as_bytes(), &claims)
    };
    let (fits, too_long) = (with_filler(6_000), with_filler(6_200));
    assert!(fits.len() <= 8_192 && too_long.len() > 8_192);
    assert_eq!(verify(&with_secret(), &fits), alice());
    let refusal = at_once(with_secret().verify(&too_long, NOW_MS)).unwrap_err();
    assert_eq!(refusal.message, "the token has more than 8192 bytes; get a shorter one");
}

#[test]
fn a_token_for_connecting_is_none_for_subscribing() {
    let verifier = with_secret();
    let news = ChannelName::parse("news").unwrap();
    let identity = Identity { user: Some(UserId::parse("alice").unwrap()), ..Identity::default() };
    let connecting = hmac_token("HS256", SECRET.as_bytes(), CLAIMS);
    let claims = r#"{"sub":"alice","channel":"news","exp":1700000060,"jti":"s1","allow":{"publish":["*"]}}"#;
    let subscribing = hmac_token("HS256", SECRET.as_bytes(), claims);
    let subscribe = |token: &str| at_once(verifier.verify_subscription(token, &identity, &news, NOW_MS));
    let claims = subscribe(&subscribing).unwrap();
    assert_eq!((claims.identity.token.as_deref(), claims.identity.grants.publish.len()), (Some("s1"), 0));
    assert_eq!(user(subscribe(&connecting)), Err(ErrorCode::Unauthorized));
    assert_eq!(verify(&verifier, &subscribing), Err(ErrorCode::Unauthorized));
    for changed in tampered(&subscribing) {
        assert_eq!(user(subscribe(&changed)), Err(ErrorCode::Unauthorized));
    }
}

#[test]
fn an_expired_token_says_so_and_a_forged_one_does_not() {
    let expired = r#"{"sub":"alice","exp":1699999940}"#;
    let genuine = hmac_token("HS256", SECRET.as_bytes(), expired);
    assert_eq!(verify(&with_secret(), &genuine), Err(ErrorCode::TokenExpired));
    let forged = hmac_token("HS256", b"another secret of thirty-two bytes or more", expired);
    assert_eq!(verify(&with_secret(), &forged), Err(ErrorCode::Unauthorized));
}

#[test]
fn no_refusal_repeats_the_token() {
    let claims = r#"{"sub":"alice","exp":1,"jti":"needle"}"#;
    let genuine = hmac_token("HS256", SECRET.as_bytes(), claims);
    let mut tokens = tampered(&genuine);
    tokens.extend([genuine, "needle".into(), keys::rsa().token_with(r#"{"alg":"needle"}"#, "RS256", claims)]);
    tokens.push(hmac_token("HS256", SECRET.as_bytes(), r#"{"sub":"alice","iss":["needle"],"exp":1}"#));
    for token in tokens {
        let message = at_once(with_secret().verify(&token, NOW_MS)).unwrap_err().message;
        let repeated = token.split('.').any(|part| part.len() > 4 && message.contains(part));
        assert!(!repeated && !message.contains("needle"), "{message}");
    }
}

#[test]
fn a_minted_token_is_verified() {
    let claims: Map<String, Value> = serde_json::from_str(CLAIMS).unwrap();
    let token = mint(&secret(), &claims);
    assert_eq!(verify(&with_secret(), &token), alice());
}

#[test]
fn who_has_no_token_is_anonymous_only_if_that_is_allowed() {
    let refusal = with_secret().anonymous().unwrap_err();
    assert_eq!(refusal.code, ErrorCode::Unauthorized);
    let options = AuthOptions { anonymous: Anonymous::Allowed, ..AuthOptions::default() };
    let verifier = Verifier::new(options).unwrap();
    assert_eq!(verifier.anonymous(), Ok(Identity::default()));
    let token = hmac_token("HS256", SECRET.as_bytes(), CLAIMS);
    assert_eq!(verify(&verifier, &token), Err(ErrorCode::Unauthorized));
    assert_eq!(verify(&verifier, ""), Err(ErrorCode::Unauthorized));
}
