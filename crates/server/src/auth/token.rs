use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use duplex_core::{ErrorCode, Refusal};
use jsonwebtoken::Algorithm;

use super::members::Members;

/// Longest token, bytes. It has to fit in a header of an HTTP request.
pub(super) const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Longest key id, bytes.
const KEY_ID_BYTES_MAX: usize = 256;

/// A token in its parts (RFC 7515, 7.1). Nothing in it is believed yet.
pub(super) struct Token<'a> {
    /// What the header names; whether the key allows it is the key's business.
    pub algorithm: Algorithm,
    pub key_id: Option<String>,
    /// What the signature is over.
    pub signed: &'a str,
    /// In base64url.
    pub signature: &'a str,
    /// The claims, as JSON.
    pub payload: Vec<u8>,
}

impl<'a> Token<'a> {
    /// Takes the token apart.
    ///
    /// Of the header only `alg`, `kid` and `crit` are read: keys that a token brings along or points to (`jwk`, `jku`,
    /// `x5c`, `x5u`) are nobody's.
    pub fn parse(token: &'a str) -> Result<Self, Refusal> {
        let (signed, signature) = token.rsplit_once('.').ok_or_else(malformed)?;
        let (header, payload) = signed.split_once('.').ok_or_else(malformed)?;
        let header = decode(header)?;
        let header = Members::parse(&header).ok_or_else(malformed)?;
        // RFC 7515, 4.1.11: an extension that must be understood, and we understand none.
        if header.raw("crit").is_some() {
            return Err(unauthorized("the token's header has `crit`, which is not supported; leave it out"));
        }
        let algorithm = algorithm(&header)?;
        let key_id = key_id(&header)?;
        Ok(Self { algorithm, key_id, signed, signature, payload: decode(payload)? })
    }

    /// What the token claims, not believed yet.
    pub fn claims(&self) -> Result<Members<'_>, Refusal> {
        Members::parse(&self.payload).ok_or_else(malformed)
    }
}

fn algorithm(header: &Members<'_>) -> Result<Algorithm, Refusal> {
    let name = header.text("alg")?.ok_or_else(malformed)?;
    name.parse().map_err(|_| {
        unauthorized("the token's `alg` is not supported; sign with HS, RS, PS, ES256, ES384 or EdDSA")
    })
}

fn key_id(header: &Members<'_>) -> Result<Option<String>, Refusal> {
    let key_id = header.text("kid")?;
    if key_id.as_ref().is_some_and(|id| id.len() > KEY_ID_BYTES_MAX) {
        return Err(unauthorized(format!("the token's `kid` has more than {KEY_ID_BYTES_MAX} bytes")));
    }
    Ok(key_id)
}

fn decode(part: &str) -> Result<Vec<u8>, Refusal> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed())
}

fn malformed() -> Refusal {
    unauthorized("the token is not a signed JSON Web Token; show one as its maker gave it")
}

/// The client is not believed.
pub(super) fn unauthorized(message: impl std::fmt::Display) -> Refusal {
    Refusal::new(ErrorCode::Unauthorized, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(token: &str) -> String {
        match Token::parse(token).and_then(|token| token.claims().map(|_| format!("{:?}", token.algorithm))) {
            Ok(algorithm) => algorithm,
            Err(refusal) => {
                assert_eq!(refusal.code, ErrorCode::Unauthorized);
                refusal.message
            }
        }
    }

    fn with_header(header: &str) -> String {
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        outcome(&format!("{}.{}.c2ln", encode(header), encode("{}")))
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for token in
            ["", ".", "..", "a.b", "a.b.c.d", "e30.e30", "e30.e30.c2ln", "%%.e30.c2ln", "e30=.e30.c2ln"]
        {
            assert!(outcome(token).starts_with("the token is not"), "{token}");
        }
        for header in ["[]", "null", "{", "{}", r#"{"ALG":"HS256"}"#] {
            assert!(with_header(header).starts_with("the token is not"), "{header}");
        }
    }

    #[test]
    fn of_a_header_only_three_members_are_read() {
        for (header, outcome) in [
            (r#"{"alg":"HS256"}"#, "HS256"),
            (r#"{"alg":"ES384","typ":7,"jku":"http://evil","x5u":1,"jwk":"?","x5c":{}}"#, "ES384"),
            (r#"{"alg":"none"}"#, "`alg` is not supported"),
            (r#"{"alg":"None"}"#, "`alg` is not supported"),
            (r#"{"alg":"hs256"}"#, "`alg` is not supported"),
            (r#"{"alg":"HS256 "}"#, "`alg` is not supported"),
            (r#"{"alg":""}"#, "`alg` is not supported"),
            (r#"{"alg":"A128KW"}"#, "`alg` is not supported"),
            (r#"{"alg":null}"#, "`alg` must be a string"),
            (r#"{"alg":["HS256"]}"#, "`alg` must be a string"),
            (r#"{"alg":"HS256","crit":["exp"]}"#, "`crit`"),
            (r#"{"alg":"HS256","crit":null}"#, "`crit`"),
            (r#"{"alg":"HS256","kid":7}"#, "`kid` must be a string"),
            (r#"{"alg":"HS256","kid":"../../etc/passwd"}"#, "HS256"),
        ] {
            let found = with_header(header);
            assert!(found.contains(outcome), "{header}: {found}");
        }
        let kid = |bytes| with_header(&format!(r#"{{"alg":"HS256","kid":"{}"}}"#, "k".repeat(bytes)));
        assert_eq!(kid(256), "HS256");
        for bytes in [257, 5_000] {
            assert_eq!(kid(bytes), "the token's `kid` has more than 256 bytes");
        }
    }
}
