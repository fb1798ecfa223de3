use std::fmt;
use std::sync::Arc;

use duplex_core::{ChannelName, Identity, Pending, Refusal};

use super::claims::Demands;
use super::issuer_keys::IssuerKeys;
use super::key::Key;
use super::members::Members;
use super::options::PublicKey;
use super::outbound::Outbound;
use super::token::{TOKEN_BYTES_MAX, Token, unauthorized};
use super::{Anonymous, AuthError, AuthOptions, Claims, Issuer};

/// Verifies tokens: JSON Web Tokens (RFC 7519), checked as RFC 8725 advises.
pub struct Verifier {
    /// The secret and the public keys that are configured.
    keys: Vec<Key>,
    issuers: Vec<Arc<IssuerKeys>>,
    demands: Demands,
    anonymous: Anonymous,
}

impl Verifier {
    /// Checks the options and all key material in them. Nothing is fetched yet.
    ///
    /// # Errors
    /// The options contradict each other, or a key set could never be fetched.
    pub fn new(options: AuthOptions) -> Result<Arc<Self>, AuthError> {
        let demands = Demands::of(&options);
        let issuers = issuers(&options)?;
        let secret = options.hmac_secret.iter().map(Key::hmac);
        let public = options.public_keys.into_iter().map(PublicKey::into_key);
        let keys = secret.chain(public).collect();
        Ok(Arc::new(Self { keys, issuers, demands, anonymous: options.anonymous }))
    }

    /// Who a client is that shows no token.
    ///
    /// # Errors
    /// [`Unauthorized`](duplex_core::ErrorCode), unless anonymous clients are allowed.
    pub fn anonymous(&self) -> Result<Identity, Refusal> {
        match self.anonymous {
            Anonymous::Allowed => Ok(Identity::default()),
            Anonymous::Refused => Err(unauthorized("there is no token; connect with one")),
        }
    }

    /// Verifies a token for connecting, at `now_ms`, milliseconds since 1970 UTC. It is ready at the first poll if no key
    /// has to be fetched, and must be polled in a tokio runtime.
    ///
    /// # Errors
    /// [`TokenExpired`](duplex_core::ErrorCode), [`NotAvailable`](duplex_core::ErrorCode) if the keys of its issuer cannot be fetched now, and
    /// [`Unauthorized`](duplex_core::ErrorCode) for everything else.
    pub fn verify(self: &Arc<Self>, token: &str, now_ms: u64) -> Pending<Result<Claims, Refusal>> {
        let read = move |this: &Self, claims: &Members<'_>| this.demands.connection(claims, now_ms);
        self.pending(token, now_ms, read)
    }

    /// Verifies a token for subscribing to `channel`, shown by the client that is `identity`.
    ///
    /// # Errors
    /// As [`verify`](Self::verify), and [`PermissionDenied`](duplex_core::ErrorCode) if it is for another user or channel.
    pub fn verify_subscription(
        self: &Arc<Self>,
        token: &str,
        identity: &Identity,
        channel: &ChannelName,
        now_ms: u64,
    ) -> Pending<Result<Claims, Refusal>> {
        let (identity, channel) = (identity.clone(), channel.clone());
        let read = move |this: &Self, claims: &Members<'_>| {
            this.demands.subscription(claims, &identity, &channel, now_ms)
        };
        self.pending(token, now_ms, read)
    }

    /// Reads what a genuine token says with `read`.
    fn pending<R>(self: &Arc<Self>, token: &str, now_ms: u64, read: R) -> Pending<Result<Claims, Refusal>>
    where
        R: FnOnce(&Self, &Members<'_>) -> Result<Claims, Refusal> + Send + 'static,
    {
        if token.len() > TOKEN_BYTES_MAX {
            let refusal = unauthorized(format_args!(
                "the token has more than {TOKEN_BYTES_MAX} bytes; get a shorter one"
            ));
            return Box::pin(std::future::ready(Err(refusal)));
        }
        let (this, token) = (Arc::clone(self), token.to_owned());
        Box::pin(async move {
            let token = Token::parse(&token)?;
            this.authenticate(&token, now_ms).await?;
            read(&this, &token.claims()?)
        })
    }

    /// Whether a key that may sign such a token did sign it.
    async fn authenticate(&self, token: &Token<'_>, now_ms: u64) -> Result<(), Refusal> {
        let Some(issuer) = self.issuer_of(token)? else {
            return check_signature(&self.keys.iter().collect::<Vec<_>>(), token);
        };
        let key = issuer.key(token.key_id.as_deref(), token.algorithm, now_ms).await?;
        check_signature(&[&key], token)
    }

    /// The configured issuer that the token says it is from. That it says so is not believed, but used to choose the keys
    /// which must prove it.
    fn issuer_of(&self, token: &Token<'_>) -> Result<Option<&Arc<IssuerKeys>>, Refusal> {
        let Some(name) = token.claims()?.text("iss")? else { return Ok(None) };
        Ok(self.issuers.iter().find(|issuer| issuer.issuer() == name))
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").finish_non_exhaustive()
    }
}

fn check_signature(keys: &[&Key], token: &Token<'_>) -> Result<(), Refusal> {
    if !keys.iter().any(|key| key.fits(token.algorithm)) {
        return Err(unauthorized(
            "no key for the token: its `iss` and `alg` fit none that is configured; get it from an issuer that is",
        ));
    }
    let genuine = |key: &&Key| key.verifies(token.algorithm, token.signed, token.signature);
    if keys.iter().any(genuine) {
        Ok(())
    } else {
        Err(unauthorized("the token's signature is wrong; get a new token, or set the key of its maker here"))
    }
}

fn issuers(options: &AuthOptions) -> Result<Vec<Arc<IssuerKeys>>, AuthError> {
    let mut issuers: Vec<Arc<IssuerKeys>> = Vec::new();
    if options.jwks.is_empty() {
        return Ok(issuers);
    }
    let outbound = Arc::new(Outbound::new(options.allow_private_addresses));
    for Issuer { issuer, url } in &options.jwks {
        check_name(issuer, &issuers, options)?;
        let endpoint = outbound.endpoint(url);
        let endpoint = endpoint.map_err(|error| AuthError::KeySet { issuer: issuer.clone(), error })?;
        let keys = IssuerKeys::new(issuer.clone(), endpoint, Arc::clone(&outbound), options.fetch_time_max);
        issuers.push(Arc::new(keys));
    }
    Ok(issuers)
}

fn check_name(issuer: &str, others: &[Arc<IssuerKeys>], options: &AuthOptions) -> Result<(), AuthError> {
    let issuer = issuer.to_owned();
    if issuer.is_empty() {
        return Err(AuthError::NamelessIssuer);
    }
    if others.iter().any(|other| other.issuer() == issuer) {
        return Err(AuthError::TwoKeySets { issuer });
    }
    match &options.issuer {
        Some(wanted) if *wanted != issuer => {
            Err(AuthError::IssuerNeverWanted { issuer, wanted: wanted.clone() })
        }
        _ => Ok(()),
    }
}
