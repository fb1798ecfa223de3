use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Digest, SHA256, digest};
use duplex_core::Refusal;

use super::AuthError;
use super::token::unauthorized;

/// Shortest API key, bytes.
const KEY_BYTES_MIN: usize = 16;

/// The API keys of servers that publish. Only their digests are kept.
#[derive(Clone, Default)]
pub struct ApiKeys(Vec<NamedDigest>);

#[derive(Clone)]
struct NamedDigest {
    name: Box<str>,
    digest: Digest,
}

impl ApiKeys {
    /// Reads `name:key` pairs. A name may have several keys, so that one can replace another.
    ///
    /// # Errors
    /// One has no name, or its key has less than 16 bytes.
    pub fn new(pairs: &[impl AsRef<str>]) -> Result<Self, AuthError> {
        let pairs = pairs.iter().enumerate();
        let keys = pairs.map(|(at, pair)| NamedDigest::new(pair.as_ref(), at + 1)).collect::<Result<_, _>>();
        keys.map(Self)
    }

    /// The name of the key that a request shows with `Authorization: Bearer KEY` (RFC 6750, 2.1).
    ///
    /// It takes the same time whether a key is nearly right or quite wrong.
    ///
    /// # Errors
    /// [`ErrorCode::Unauthorized`](duplex_core::ErrorCode): there is no key, or it is unknown.
    pub fn check(&self, authorization_header: Option<&str>) -> Result<&str, Refusal> {
        let header = authorization_header
            .ok_or_else(|| unauthorized("there is no API key; send it as `Authorization: Bearer KEY`"))?;
        let key = bearer(header).ok_or_else(|| {
            unauthorized("the `Authorization` is of another kind; send it as `Authorization: Bearer KEY`")
        })?;
        let shown = digest(&SHA256, key.as_bytes());
        let same =
            |named: &NamedDigest| verify_slices_are_equal(named.digest.as_ref(), shown.as_ref()).is_ok();
        // All keys are compared, also after one was found.
        let found = self.0.iter().fold(None, |found, named| if same(named) { Some(named) } else { found });
        found
            .map(|named| &*named.name)
            .ok_or_else(|| unauthorized("the API key is unknown; send one that is configured"))
    }
}

impl NamedDigest {
    fn new(pair: &str, number: usize) -> Result<Self, AuthError> {
        let (name, key) = pair.split_once(':').ok_or(AuthError::ApiKeyForm { number })?;
        if name.is_empty() {
            return Err(AuthError::ApiKeyForm { number });
        }
        if key.len() < KEY_BYTES_MIN {
            return Err(AuthError::ShortApiKey { name: name.into(), bytes: key.len(), min: KEY_BYTES_MIN });
        }
        Ok(Self { name: name.into(), digest: digest(&SHA256, key.as_bytes()) })
    }
}

fn bearer(header: &str) -> Option<&str> {
    let (scheme, key) = header.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim_start())
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|named| &named.name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&str; 3] = ["web:0123456789abcdef", "job:fedcba9876543210:x", "web:another-key-of-web"];

    #[test]
    fn a_request_with_a_key_is_named() {
        let keys = ApiKeys::new(&KEYS).unwrap();
        for (header, name) in [
            (Some("Bearer 0123456789abcdef"), Some("web")),
            (Some("bearer 0123456789abcdef"), Some("web")),
            (Some("BEARER   another-key-of-web "), Some("web")),
            (Some("Bearer fedcba9876543210:x"), Some("job")),
            (Some("Bearer 0123456789abcdeF"), None),
            (Some("Bearer 0123456789abcde"), None),
            (Some("Bearer 0123456789abcdef0"), None),
            (Some("Bearer web:0123456789abcdef"), None),
            (Some("Bearer"), None),
            (Some("Bearer "), None),
            (Some("Basic 0123456789abcdef"), None),
            (Some("0123456789abcdef"), None),
            (Some(""), None),
            (None, None),
        ] {
            assert_eq!(keys.check(header).ok(), name, "{header:?}");
        }
        assert!(ApiKeys::default().check(Some("Bearer 0123456789abcdef")).is_err());
    }

    #[test]
    fn a_key_that_can_be_guessed_is_refused() {
        let error = |pair| ApiKeys::new(&["ok:0123456789abcdef", pair]).unwrap_err().to_string();
        let form = "API key number 2 is not `name:key`; write a name, `:` and the key";
        assert_eq!(error("0123456789abcdef"), form);
        assert_eq!(error(":0123456789abcdef"), form);
        assert_eq!(
            error("web:0123456789abcde"),
            "API key \"web\" has 15 bytes; give it at least 16, for example from `openssl rand -base64 16`"
        );
    }

    #[test]
    fn keys_are_not_shown() {
        let keys = ApiKeys::new(&KEYS).unwrap();
        assert_eq!(format!("{keys:?}"), r#"["web", "job", "web"]"#);
        let refusal = keys.check(Some("Bearer 0123456789abcdeX")).unwrap_err();
        assert!(!refusal.message.contains("0123456789"), "{}", refusal.message);
    }
}
