use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, VerificationAlgorithm,
};
use jsonwebtoken::{Algorithm, DecodingKey, crypto};

use super::{KeyError, Secret};

/// Sizes of an RSA modulus that are neither weak nor slow, bytes.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;
/// First byte of a point on a curve that is written whole (SEC 1, 2.3.3).
const UNCOMPRESSED: u8 = 4;

/// What a key is, and thereby which algorithms it may be used with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Hmac,
    Rsa,
    P256,
    P384,
    Ed25519,
}

/// A key that verifies signatures.
///
/// The algorithm follows from the key (RFC 8725, 3.1): whoever writes a token must not choose how it is checked.
#[derive(Debug, Clone)]
pub(super) struct Key {
    kind: Kind,
    /// The one algorithm that the key's owner wants it used with.
    only: Option<Algorithm>,
    decoding: DecodingKey,
}

impl Key {
    pub fn hmac(secret: &Secret) -> Self {
        Self::new(Kind::Hmac, DecodingKey::from_secret(secret.bytes()))
    }

    /// An RSA key from `RSAPublicKey` or `SubjectPublicKeyInfo` in DER.
    pub fn rsa_der(der: &[u8]) -> Result<Self, KeyError> {
        let public = rsa::PublicKey::from_der(der).map_err(|_| KeyError::Invalid)?;
        let bytes = public.modulus_len();
        if !RSA_BYTES.contains(&bytes) {
            return Err(KeyError::RsaSize { bits: bytes * 8 });
        }
        Ok(Self::new(Kind::Rsa, DecodingKey::from_rsa_der(public.as_ref())))
    }

    /// An EC key from its point.
    pub fn ec(kind: Kind, point: &[u8]) -> Result<Self, KeyError> {
        let algorithm: &'static dyn VerificationAlgorithm = match kind {
            Kind::P256 => &ECDSA_P256_SHA256_FIXED,
            Kind::P384 => &ECDSA_P384_SHA384_FIXED,
            Kind::Hmac | Kind::Rsa | Kind::Ed25519 => return Err(KeyError::Unsupported),
        };
        if point.first() != Some(&UNCOMPRESSED) {
            return Err(KeyError::Unsupported);
        }
        // A point that is not on the curve is refused here; otherwise it would be a key of another curve.
        ParsedPublicKey::new(algorithm, point).map_err(|_| KeyError::Invalid)?;
        Ok(Self::new(kind, DecodingKey::from_ec_der(point)))
    }

    /// An Ed25519 key from its 32 bytes.
    pub fn ed25519(bytes: &[u8]) -> Result<Self, KeyError> {
        ParsedPublicKey::new(&ED25519, bytes).map_err(|_| KeyError::Invalid)?;
        Ok(Self::new(Kind::Ed25519, DecodingKey::from_ed_der(bytes)))
    }

    /// A key from the text that begins with `-----BEGIN PUBLIC KEY-----` or `-----BEGIN RSA PUBLIC KEY-----`.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let label = pem.split_once("-----BEGIN ").and_then(|(_, rest)| rest.split_once("-----"));
        match label.map(|(label, _)| label) {
            Some("PUBLIC KEY" | "RSA PUBLIC KEY") => Self::from_public_pem(pem.trim().as_bytes()),
            Some("CERTIFICATE") => Err(KeyError::Certificate),
            Some(label) if label.ends_with("PRIVATE KEY") => Err(KeyError::Private),
            Some(_) => Err(KeyError::Unsupported),
            None => Err(KeyError::NotPem),
        }
    }

    fn from_public_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let inside = |key: &DecodingKey| key.try_get_as_bytes().map(<[u8]>::to_vec);
        let read =
            |result: jsonwebtoken::errors::Result<DecodingKey>| result.and_then(|key| inside(&key)).ok();
        if let Some(point) = read(DecodingKey::from_ec_pem(pem)) {
            return Self::ec(curve_of(&point)?, &point);
        }
        if let Some(bytes) = read(DecodingKey::from_ed_pem(pem)) {
            return Self::ed25519(&bytes);
        }
        let der = read(DecodingKey::from_rsa_pem(pem)).ok_or(KeyError::Unsupported)?;
        Self::rsa_der(&der)
    }

    /// The same key, for one algorithm only.
    pub fn only(self, algorithm: Algorithm) -> Self {
        Self { only: Some(algorithm), ..self }
    }

    fn new(kind: Kind, decoding: DecodingKey) -> Self {
        Self { kind, only: None, decoding }
    }

    /// Whether the key may be used with `algorithm`.
    pub fn fits(&self, algorithm: Algorithm) -> bool {
        self.kind.fits(algorithm) && self.only.is_none_or(|only| only == algorithm)
    }

    /// Whether `signature`, in base64url, is one of this key over `signed`.
    pub fn verifies(&self, algorithm: Algorithm, signed: &str, signature: &str) -> bool {
        self.fits(algorithm)
            && crypto::verify(signature, signed.as_bytes(), &self.decoding, algorithm).unwrap_or(false)
    }
}

impl Kind {
    fn fits(self, algorithm: Algorithm) -> bool {
        use Algorithm::*;
        match self {
            Self::Hmac => matches!(algorithm, HS256 | HS384 | HS512),
            Self::Rsa => matches!(algorithm, RS256 | RS384 | RS512 | PS256 | PS384 | PS512),
            Self::P256 => algorithm == ES256,
            Self::P384 => algorithm == ES384,
            Self::Ed25519 => algorithm == EdDSA,
        }
    }
}

/// The curve that a point of this length may be on; whether it is, is checked later.
fn curve_of(point: &[u8]) -> Result<Kind, KeyError> {
    match point.len() {
        65 => Ok(Kind::P256),
        97 => Ok(Kind::P384),
        _ => Err(KeyError::Unsupported),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::tests::keys::{self, CERTIFICATE_PEM, ED448_PEM, P521_PEM, RSA_1024_PEM, SECP256K1_PEM};

    #[test]
    fn a_public_key_is_read_from_pem() {
        for (signer, kind) in [
            (keys::rsa(), Kind::Rsa),
            (keys::p256(), Kind::P256),
            (keys::p384(), Kind::P384),
            (keys::ed25519(), Kind::Ed25519),
        ] {
            let key = Key::from_pem(&signer.pem()).unwrap();
            assert_eq!(key.kind, kind);
        }
    }

    #[test]
    fn a_key_that_cannot_be_used_is_refused_with_the_way_out() {
        for (pem, error) in [
            ("", KeyError::NotPem),
            ("MIIBIjANBgkq", KeyError::NotPem),
            ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", KeyError::Private),
            ("-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n", KeyError::Private),
            (CERTIFICATE_PEM, KeyError::Certificate),
            ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", KeyError::Unsupported),
            ("-----BEGIN PUBLIC KEY-----\n*\n-----END PUBLIC KEY-----\n", KeyError::Unsupported),
            (RSA_1024_PEM, KeyError::RsaSize { bits: 1024 }),
            (P521_PEM, KeyError::Unsupported),
            (SECP256K1_PEM, KeyError::Invalid),
            (ED448_PEM, KeyError::Unsupported),
        ] {
            assert_eq!(Key::from_pem(pem).err(), Some(error), "{pem}");
        }
    }

    #[test]
    fn the_key_decides_the_algorithm() {
        use Algorithm::*;
        let all = [HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA];
        let fitting = |kind: Kind| all.into_iter().filter(|a| kind.fits(*a)).collect::<Vec<_>>();
        assert_eq!(fitting(Kind::Hmac), [HS256, HS384, HS512]);
        assert_eq!(fitting(Kind::Rsa), [RS256, RS384, RS512, PS256, PS384, PS512]);
        assert_eq!(fitting(Kind::P256), [ES256]);
        assert_eq!(fitting(Kind::P384), [ES384]);
        assert_eq!(fitting(Kind::Ed25519), [EdDSA]);
    }
}
