use super::outbound::EndpointError;

/// Why tokens or API keys cannot be checked as configured. The text says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum AuthError {
    #[error(
        "the secret has {bytes} bytes; give it at least {min}, for example from `openssl rand -base64 {min}`"
    )]
    ShortSecret { bytes: usize, min: usize },
    #[error("the public key {0}")]
    PublicKey(#[from] KeyError),
    #[error("the key set of issuer {issuer:?}: {error}")]
    KeySet { issuer: String, error: EndpointError },
    #[error("issuer {issuer:?} has two key sets; remove one")]
    TwoKeySets { issuer: String },
    #[error("an issuer with a key set has no name; write what its tokens have as `iss`")]
    NamelessIssuer,
    #[error(
        "every token must be of issuer {wanted:?}, so no token of {issuer:?} could pass; remove its key set, or the demand"
    )]
    IssuerNeverWanted { issuer: String, wanted: String },
    #[error("API key number {number} is not `name:key`; write a name, `:` and the key")]
    ApiKeyForm { number: usize },
    #[error(
        "API key {name:?} has {bytes} bytes; give it at least {min}, for example from `openssl rand -base64 {min}`"
    )]
    ShortApiKey { name: String, bytes: usize, min: usize },
}

/// Why a key is not used. The text completes "the public key …".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum KeyError {
    #[error("is a private key; replace that one, as it is no longer private, and put its public key here")]
    Private,
    #[error("is a certificate; take its key with `openssl x509 -pubkey -noout -in FILE`")]
    Certificate,
    #[error("is not in PEM; write the text from `-----BEGIN PUBLIC KEY-----` to `-----END PUBLIC KEY-----`")]
    NotPem,
    #[error("is of a kind that is not supported; use RSA, EC on P-256 or P-384, or Ed25519")]
    Unsupported,
    #[error("is not a valid key; export it anew")]
    Invalid,
    #[error("is an RSA key of {bits} bits; use one of 2048 to 8192")]
    RsaSize { bits: usize },
    #[error("is not for signatures; use one that is")]
    NotForSignatures,
}
