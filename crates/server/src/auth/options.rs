use std::fmt;
use std::time::Duration;

use super::AuthError;
use super::key::Key;
use super::outbound::PrivateAddresses;

/// Shortest secret, bytes: what HS256 takes in at once (RFC 7518, 3.2).
const SECRET_BYTES_MIN: usize = 32;

/// Which tokens are believed. By default none.
#[derive(Debug, Clone)]
pub struct AuthOptions {
    /// Signs tokens with HS256, HS384 or HS512. Whoever knows it can be anybody.
    pub hmac_secret: Option<Secret>,
    /// Keys that tokens may be signed with; several, so that one can replace another. Each costs a verification.
    pub public_keys: Vec<PublicKey>,
    /// Whose key sets are fetched. A token with one of these as its `iss` is verified with that issuer's keys only.
    pub jwks: Vec<Issuer>,
    /// The `iss` that every token must have, if there is one.
    pub issuer: Option<String>,
    /// What the `aud` of every token must contain, if there is something.
    pub audience: Option<String>,
    /// Whether a token must end. Default yes: what never ends can only be revoked.
    pub expiry: Expiry,
    /// Whether no token is fine. Default no.
    pub anonymous: Anonymous,
    /// Whether key sets may come from this machine and private networks, and then also without TLS. Default no.
    pub allow_private_addresses: PrivateAddresses,
    /// How long one fetch of a key set may take. Default 5 s. Clients that need a new key wait for it.
    pub fetch_time_max: Duration,
}

impl Default for AuthOptions {
    fn default() -> Self {
        Self {
            hmac_secret: None,
            public_keys: Vec::new(),
            jwks: Vec::new(),
            issuer: None,
            audience: None,
            expiry: Expiry::default(),
            anonymous: Anonymous::default(),
            allow_private_addresses: PrivateAddresses::default(),
            fetch_time_max: Duration::from_secs(5),
        }
    }
}

/// Whether a client may come without a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub enum Anonymous {
    Allowed,
    #[default]
    Refused,
}

/// Whether a token must have the claim `exp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub enum Expiry {
    #[default]
    Required,
    Optional,
}

/// Someone who signs tokens and publishes the keys for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    /// The `iss` of its tokens, compared byte by byte.
    pub issuer: String,
    /// Where its key set is (RFC 7517, 5). `https`, and no redirects.
    pub url: String,
}

/// A secret for HMAC. It cannot be printed.
#[derive(Clone)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// The only way to get one.
    ///
    /// # Errors
    /// It has less than 32 bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, AuthError> {
        let bytes: Vec<u8> = bytes.into();
        if bytes.len() < SECRET_BYTES_MIN {
            return Err(AuthError::ShortSecret { bytes: bytes.len(), min: SECRET_BYTES_MIN });
        }
        Ok(Self(bytes.into()))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(not shown)")
    }
}

/// A public key that tokens may be signed with: RSA of 2,048 to 8,192 bits, EC on P-256 or P-384, or Ed25519.
#[derive(Debug, Clone)]
pub struct PublicKey(Key);

impl PublicKey {
    /// Reads a `PUBLIC KEY` or `RSA PUBLIC KEY`.
    ///
    /// # Errors
    /// It is none, or too weak, or of a kind that is not supported.
    pub fn from_pem(pem: &str) -> Result<Self, AuthError> {
        Ok(Self(Key::from_pem(pem)?))
    }

    pub(super) fn into_key(self) -> Key {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_long_and_not_shown() {
        let short = Secret::new("x".repeat(31)).unwrap_err();
        assert_eq!(
            short.to_string(),
            "the secret has 31 bytes; give it at least 32, for example from `openssl rand -base64 32`"
        );
        let secret = Secret::new("hunter2 ".repeat(4)).unwrap();
        let options = AuthOptions { hmac_secret: Some(secret), ..AuthOptions::default() };
        let shown = format!("{options:?} {options:#?}");
        assert!(!shown.contains("hunter2") && !shown.contains("104"), "{shown}");
    }
}
