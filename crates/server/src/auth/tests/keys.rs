//! Keys that sign tokens in tests, made anew in each run, and key material that nobody may use.

use std::sync::OnceLock;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair, RsaKeyPair, RsaPublicKeyComponents,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// A private key.
pub enum Signer {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Signer {
    pub fn new_rsa() -> Self {
        Self::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
    }

    pub fn new_p256() -> Self {
        Self::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    pub fn new_p384() -> Self {
        Self::P384(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap())
    }

    pub fn new_ed25519() -> Self {
        Self::Ed25519(Ed25519KeyPair::generate().unwrap())
    }

    /// The public key in PEM.
    pub fn pem(&self) -> String {
        let der: PublicKeyX509Der<'_> = match self {
            Self::Rsa(key) => key.public_key().as_der(),
            Self::P256(key) | Self::P384(key) => key.public_key().as_der(),
            Self::Ed25519(key) => key.public_key().as_der(),
        }
        .unwrap();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der.as_ref()))
    }

    /// The public key as a JSON Web Key.
    pub fn jwk(&self, id: &str) -> String {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let ec = |key: &EcdsaKeyPair, curve| {
            let (x, y) = key.public_key().as_ref()[1..].split_at(key.public_key().as_ref().len() / 2);
            format!(r#"{{"kty":"EC","kid":"{id}","crv":"{curve}","x":"{}","y":"{}"}}"#, text(x), text(y))
        };
        match self {
            Self::Rsa(key) => {
                let RsaPublicKeyComponents { n, e } =
                    RsaPublicKeyComponents::<Vec<u8>>::from(key.public_key());
                format!(r#"{{"kty":"RSA","kid":"{id}","n":"{}","e":"{}"}}"#, text(&n), text(&e))
            }
            Self::P256(key) => ec(key, "P-256"),
            Self::P384(key) => ec(key, "P-384"),
            Self::Ed25519(key) => {
                let x = text(key.public_key().as_ref());
                format!(r#"{{"kty":"OKP","kid":"{id}","crv":"Ed25519","x":"{x}"}}"#)
            }
        }
    }

    /// A token with these claims.
    pub fn token(&self, algorithm: &str, id: &str, claims: &str) -> String {
        self.token_with(&format!(r#"{{"alg":"{algorithm}","kid":"{id}"}}"#), algorithm, claims)
    }

    /// A token with this header, whatever it says.
    pub fn token_with(&self, header: &str, algorithm: &str, claims: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = self.sign(algorithm, signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(rsa_padding(algorithm), &random, message, &mut signature).unwrap();
                signature
            }
            Self::P256(key) | Self::P384(key) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Ed25519(key) => key.sign(message).as_ref().to_vec(),
        }
    }
}

fn rsa_padding(algorithm: &str) -> &'static dyn signature::RsaEncoding {
    match algorithm {
        "RS256" => &signature::RSA_PKCS1_SHA256,
        "RS384" => &signature::RSA_PKCS1_SHA384,
        "RS512" => &signature::RSA_PKCS1_SHA512,
        "PS256" => &signature::RSA_PSS_SHA256,
        "PS384" => &signature::RSA_PSS_SHA384,
        "PS512" => &signature::RSA_PSS_SHA512,
        _ => panic!("{algorithm} is not of RSA"),
    }
}

macro_rules! shared {
    ($($name:ident = $new:ident;)*) => {
        $(pub fn $name() -> &'static Signer {
            static KEY: OnceLock<Signer> = OnceLock::new();
            KEY.get_or_init(Signer::$new)
        })*
    };
}

shared! {
    rsa = new_rsa;
    p256 = new_p256;
    p384 = new_p384;
    ed25519 = new_ed25519;
}

/// `openssl genrsa 1024`, only the public key.
pub const RSA_1024_PEM: &str = "\
-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQC60y2jAzPBncdRF2ISQFJtVU1C
e4p3HE9A2Yoo621NtzrHTJ723zqBRbVnV9rC/BhE3BF6UtnrcaZouWa9/sBtWHyw
m62lk3tE9i9wZuazglMascKN5S433wrR5JQ02cVUVVYSjEuz3eobQvEj97KYX5Uu
C93ogK7E6rERwI3+yQIDAQAB
-----END PUBLIC KEY-----
";

/// On P-521, only the public key.
pub const P521_PEM: &str = "\
-----BEGIN PUBLIC KEY-----
MIGbMBAGByqGSM49AgEGBSuBBAAjA4GGAAQA0kG3NNm/JOQDTnr69izCCmyfcLMY
1yZ89ZPxhR1tfKKVBDB6sOa8b8NDfTB9RXjEwMBfb+4CVygt/mQ7uNCTEG8AP1A6
fUf9NM3tvN3w0YcWhwmVNKcyJmsYS8dzM4R7pnjCdanfdvprl8C4RfqL5qgEpys1
oV0xsAiwpVpEExveYTU=
-----END PUBLIC KEY-----
";

/// On a curve with points as long as those of P-256, only the public key.
pub const SECP256K1_PEM: &str = "\
-----BEGIN PUBLIC KEY-----
MFYwEAYHKoZIzj0CAQYFK4EEAAoDQgAEXoq1gzWHSqllHb0u4KDieFGqD5QqtD+n
bt8eeW54gjLpBlZMCrWfp0D94PAcczbL+iuAO2CZpZajoOM1eBDTYw==
-----END PUBLIC KEY-----
";

/// Ed448, only the public key.
pub const ED448_PEM: &str = "\
-----BEGIN PUBLIC KEY-----
MEMwBQYDK2VxAzoAeqoHBNuZ1i0nJB+PGNRCLePCdG2mWCs9VskqGWamOT8HVY8M
imhnEmHXhmjLN0wJ2RssMaigs4MA
-----END PUBLIC KEY-----
";

/// The certificate of [`AUTHORITY_DER`].
pub const CERTIFICATE_PEM: &str = "\
-----BEGIN CERTIFICATE-----
MIIBVjCB/aADAgECAgEBMAoGCCqGSM49BAMCMBIxEDAOBgNVBAMMB1Rlc3QgQ0Ew
IBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMBIxEDAOBgNVBAMMB1Rl
c3QgQ0EwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQ/ZogIAUKXpH8WIoOakRJa
39iXbRnSEJeqVty97kuoWLMR9rVTQGbzcSyupXbM7eXDrVYgYLc5EYoBalepgnW8
o0IwQDAPBgNVHRMBAf8EBTADAQH/MA4GA1UdDwEB/wQEAwICBDAdBgNVHQ4EFgQU
VJdo9G26sQzqTyQwV5bRdHKcIvgwCgYIKoZIzj0EAwIDSAAwRQIgALADcrI1VXfr
uFCoZSd0sOHwpth2ntMOaKqaLjTME9kCIQD6I1ws0ue3QK4Rb6AmrT/Jbogejrkt
Dqpi/AJZkj4u3g==
-----END CERTIFICATE-----
";

/// A certificate authority, in base64. Its private key is thrown away.
pub const AUTHORITY_DER: &str = "\
    MIIBVjCB/aADAgECAgEBMAoGCCqGSM49BAMCMBIxEDAOBgNVBAMMB1Rlc3QgQ0EwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEw\
    MDAwMDBaMBIxEDAOBgNVBAMMB1Rlc3QgQ0EwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQ/ZogIAUKXpH8WIoOakRJa39iXbRnS\
    EJeqVty97kuoWLMR9rVTQGbzcSyupXbM7eXDrVYgYLc5EYoBalepgnW8o0IwQDAPBgNVHRMBAf8EBTADAQH/MA4GA1UdDwEB/wQE\
    AwICBDAdBgNVHQ4EFgQUVJdo9G26sQzqTyQwV5bRdHKcIvgwCgYIKoZIzj0EAwIDSAAwRQIgALADcrI1VXfruFCoZSd0sOHwpth2\
    ntMOaKqaLjTME9kCIQD6I1ws0ue3QK4Rb6AmrT/JbogejrktDqpi/AJZkj4u3g==";

/// Its certificate for `localhost`, valid until 2120.
pub const LOCALHOST_DER: &str = "\
    MIIBizCCATKgAwIBAgIBAjAKBggqhkjOPQQDAjASMRAwDgYDVQQDDAdUZXN0IENBMCAXDTIwMDEwMTAwMDAwMFoYDzIxMjAwMTAx\
    MDAwMDAwWjARMQ8wDQYDVQQDDAZzZXJ2ZXIwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAARpx6Yhl3zHlWocoawc6Bxq/jy1FBNK\
    eSyEiEUmPSb89kSzdkVK5vI3cl1Nx+CuVfwB9RWrChV+u3lWCn1g+C45o3gwdjAUBgNVHREEDTALgglsb2NhbGhvc3QwCQYDVR0T\
    BAIwADATBgNVHSUEDDAKBggrBgEFBQcDATAdBgNVHQ4EFgQUs+27eF6C0KrPxlwLtkpZ9TAVEPQwHwYDVR0jBBgwFoAUVJdo9G26\
    sQzqTyQwV5bRdHKcIvgwCgYIKoZIzj0EAwIDRwAwRAIgQgN+9bXUcDwEoZy8Yxdj2w+uk6xaXtFAqOe1oFSNZbkCICypQgQ3jq1/\
    DVu6WGmiRItNTo6KyMjzRGcrsy5mpME8";

/// The private key of [`LOCALHOST_DER`], PKCS #8. It protects nothing.
pub const LOCALHOST_KEY_DER: &str = "\
    MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgVhebrnozhemaYuS8xW8rPChzJw/Q9k8xxFRSUU98S26hRANCAARp\
    x6Yhl3zHlWocoawc6Bxq/jy1FBNKeSyEiEUmPSb89kSzdkVK5vI3cl1Nx+CuVfwB9RWrChV+u3lWCn1g+C45";
