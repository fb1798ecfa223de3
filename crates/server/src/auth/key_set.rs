use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::signature::RsaPublicKeyComponents;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde_json::value::RawValue;
use tracing::warn;

use super::KeyError;
use super::key::{Key, Kind};

/// Most keys of one issuer.
const KEYS_MAX: usize = 100;

/// The keys of one issuer (RFC 7517, 5).
#[derive(Debug, Default)]
pub(super) struct KeySet(Vec<NamedKey>);

#[derive(Debug)]
struct NamedKey {
    id: Option<String>,
    key: Arc<Key>,
}

/// Why a key set is not used. The text completes "the key set …".
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeySetError {
    #[error("is not a JSON object with an array `keys`")]
    Malformed,
    #[error("has {count} keys; at most {KEYS_MAX} are read")]
    TooMany { count: usize },
    #[error("has no key that could be used")]
    Useless,
}

impl KeySet {
    /// Reads a key set. Keys that cannot be used are left out with a warning (RFC 7517, 5).
    pub fn parse(json: &[u8], issuer: &str) -> Result<Self, KeySetError> {
        #[derive(Deserialize)]
        struct Document<'a> {
            #[serde(borrow)]
            keys: Vec<&'a RawValue>,
        }
        let Document { keys } = serde_json::from_slice(json).map_err(|_| KeySetError::Malformed)?;
        if keys.len() > KEYS_MAX {
            return Err(KeySetError::TooMany { count: keys.len() });
        }
        let usable: Vec<_> = keys.iter().filter_map(|raw| named_key(raw, issuer)).collect();
        if usable.is_empty() { Err(KeySetError::Useless) } else { Ok(Self(usable)) }
    }

    /// The key of that id, rather one that fits the algorithm. Without an id, the key must be the only one.
    pub fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<Arc<Key>> {
        let named = |id| self.0.iter().filter(move |named| named.id.as_deref() == Some(id));
        let found = match id {
            Some(id) => named(id).find(|named| named.key.fits(algorithm)).or(named(id).next()),
            None => self.0.first().filter(|_| self.0.len() == 1),
        };
        found.map(|named| Arc::clone(&named.key))
    }
}

fn named_key(raw: &RawValue, issuer: &str) -> Option<NamedKey> {
    let jwk = serde_json::from_str::<Jwk>(raw.get()).map_err(|_| KeyError::Invalid);
    match jwk.and_then(|jwk| Ok(NamedKey { key: Arc::new(jwk.key()?), id: jwk.kid })) {
        Ok(named) => Some(named),
        Err(error) => {
            warn!(issuer, %error, "a key of this issuer is not used");
            None
        }
    }
}

/// A key as it is published (RFC 7517, 4; RFC 7518, 6; RFC 8037, 2).
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    r#use: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Jwk {
    fn key(&self) -> Result<Key, KeyError> {
        if !self.is_for_verifying() {
            return Err(KeyError::NotForSignatures);
        }
        // A symmetric key (`oct`) that is published is no secret, so it proves nothing.
        let key = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => self.rsa()?,
            ("EC", Some("P-256")) => self.ec(Kind::P256, 32)?,
            ("EC", Some("P-384")) => self.ec(Kind::P384, 48)?,
            ("OKP", Some("Ed25519")) => Key::ed25519(&number(&self.x)?)?,
            _ => return Err(KeyError::Unsupported),
        };
        match &self.alg {
            None => Ok(key),
            Some(alg) => Ok(key.only(alg.parse().map_err(|_| KeyError::Unsupported)?)),
        }
    }

    fn is_for_verifying(&self) -> bool {
        self.r#use.as_ref().is_none_or(|r#use| r#use == "sig")
            && self.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"))
    }

    fn rsa(&self) -> Result<Key, KeyError> {
        let (n, e) = (number(&self.n)?, number(&self.e)?);
        // Some issuers write the sign byte of the modulus, which RFC 7518, 6.3.1.1 forbids.
        let stripped =
            |number: &[u8]| number.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<_>>();
        let components = RsaPublicKeyComponents { n: stripped(&n), e: stripped(&e) };
        let der: PublicKeyX509Der<'_> = components.as_der().map_err(|_| KeyError::Invalid)?;
        Key::rsa_der(der.as_ref())
    }

    fn ec(&self, kind: Kind, bytes: usize) -> Result<Key, KeyError> {
        let (x, y) = (number(&self.x)?, number(&self.y)?);
        if x.len() != bytes || y.len() != bytes {
            return Err(KeyError::Invalid);
        }
        Key::ec(kind, &[&[4], &x[..], &y[..]].concat())
    }
}

fn number(text: &Option<String>) -> Result<Vec<u8>, KeyError> {
    let text = text.as_ref().ok_or(KeyError::Invalid)?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyError::Invalid)
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::Algorithm::*;

    use super::*;
    use crate::auth::tests::keys;

    fn usable(jwk: &str) -> bool {
        match KeySet::parse(format!(r#"{{"keys":[{jwk}]}}"#).as_bytes(), "test") {
            Ok(set) => set.0.len() == 1,
            Err(error) => {
                assert_eq!(error, KeySetError::Useless);
                false
            }
        }
    }

    #[test]
    fn keys_for_signatures_are_used_and_others_left_out() {
        let with = |jwk: String, more: &str| jwk.replacen('{', &format!("{{{more},"), 1);
        for signer in [keys::rsa(), keys::p256(), keys::p384(), keys::ed25519()] {
            let jwk = signer.jwk("k");
            assert!(usable(&jwk), "{jwk}");
            assert!(usable(&with(jwk.clone(), r#""use":"sig","key_ops":["verify"],"x5c":7"#)), "{jwk}");
            for more in [
                r#""use":"enc""#,
                r#""use":7"#,
                r#""key_ops":["encrypt"]"#,
                r#""key_ops":[]"#,
                r#""alg":"RSA-OAEP""#,
            ] {
                assert!(!usable(&with(jwk.clone(), more)), "{more} {jwk}");
            }
        }
        let weak = URL_SAFE_NO_PAD.encode([0xC1; 128]);
        let modulus = URL_SAFE_NO_PAD.encode([0xC1; 256]);
        let x = URL_SAFE_NO_PAD.encode([7; 32]);
        for jwk in [
            r#"{"kty":"oct","kid":"k","k":"c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"}"#.to_owned(),
            format!(r#"{{"kty":"RSA","n":"{weak}","e":"AQAB"}}"#),
            format!(r#"{{"kty":"RSA","n":"{modulus}","e":"AQ"}}"#),
            format!(r#"{{"kty":"RSA","n":"{modulus}"}}"#),
            format!(r#"{{"kty":"EC","crv":"P-256","x":"{x}","y":"{x}"}}"#),
            format!(r#"{{"kty":"EC","crv":"P-521","x":"{x}","y":"{x}"}}"#),
            format!(r#"{{"kty":"OKP","crv":"X25519","x":"{x}"}}"#),
            r#"{"kty":"OKP","crv":"Ed25519","x":"AAAA"}"#.into(),
            r#"{"kty":"AKP"}"#.into(),
            "{}".into(),
            "7".into(),
        ] {
            assert!(!usable(&jwk), "{jwk}");
        }
    }

    #[test]
    fn a_modulus_may_have_a_sign_byte() {
        let jwk = keys::rsa().jwk("k");
        let start = jwk.find(r#""n":""#).unwrap() + 5;
        let end = start + jwk[start..].find('"').unwrap();
        let modulus = URL_SAFE_NO_PAD.decode(&jwk[start..end]).unwrap();
        let longer = URL_SAFE_NO_PAD.encode([&[0], &modulus[..]].concat());
        assert!(usable(&format!("{}{longer}{}", &jwk[..start], &jwk[end..])));
    }

    #[test]
    fn a_key_is_found_by_its_id_and_its_algorithm() {
        let (rsa, ec) = (keys::rsa(), keys::p256());
        let set = |jwks: &[String]| {
            KeySet::parse(format!(r#"{{"keys":[{}]}}"#, jwks.join(",")).as_bytes(), "test").unwrap()
        };
        let two = set(&[rsa.jwk("a"), ec.jwk("a"), ec.jwk("b")]);
        let fits = |set: &KeySet, id, algorithm| set.find(id, algorithm).map(|key| key.fits(algorithm));
        assert_eq!(fits(&two, Some("a"), RS256), Some(true));
        assert_eq!(fits(&two, Some("a"), ES256), Some(true));
        assert_eq!(fits(&two, Some("a"), EdDSA), Some(false));
        assert_eq!(fits(&two, Some("b"), RS256), Some(false));
        assert_eq!(fits(&two, Some("c"), RS256), None);
        assert_eq!(fits(&two, None, RS256), None);
        assert_eq!(fits(&set(&[rsa.jwk("a")]), None, PS512), Some(true));
        let narrow = set(&[rsa.jwk("a").replacen('{', r#"{"alg":"RS256","#, 1)]);
        assert_eq!(fits(&narrow, Some("a"), RS256), Some(true));
        assert_eq!(fits(&narrow, Some("a"), PS256), Some(false));
    }

    #[test]
    fn a_key_set_has_a_limit() {
        let keys =
            |count: usize| format!(r#"{{"keys":[{}]}}"#, vec![keys::ed25519().jwk("k"); count].join(","));
        assert!(KeySet::parse(keys(100).as_bytes(), "test").is_ok());
        let error = KeySet::parse(keys(101).as_bytes(), "test").err();
        assert_eq!(error, Some(KeySetError::TooMany { count: 101 }));
        for json in ["", "[]", "{}", r#"{"keys":{}}"#, "<html>", r#"{"keys":[]}x"#] {
            assert_eq!(KeySet::parse(json.as_bytes(), "test").err(), Some(KeySetError::Malformed), "{json}");
        }
    }
}
