//! Decides who a client is and what its tokens allow.

use std::sync::{Arc, PoisonError, RwLock};

use duplex_core::{Backend, Call, ChannelName, ErrorCode, Identity, Pending, Refusal, Said, UserId};
use duplex_engine::unix_ms;

use crate::Options;
use crate::auth::{
    Anonymous, ApiKeys, AuthOptions, PublicKey, Revocations, RevocationsFull, Revoked, Verifier,
};
use crate::options::{Auth, Mode};

/// What is believed now, and what no longer is. All shards share it.
pub(crate) struct Authority {
    /// Replaced as a whole, so that a check goes by the old configuration or the new one.
    current: RwLock<Arc<Credentials>>,
    revocations: Revocations,
}

/// Which tokens and keys are believed.
pub(crate) struct Credentials {
    mode: Mode,
    verifier: Arc<Verifier>,
    api_keys: ApiKeys,
}

impl Credentials {
    /// Reads the keys that `options` name.
    ///
    /// # Errors
    /// What is wrong, with the path of the option.
    pub fn load(options: &Options) -> Result<Self, String> {
        let Auth { api_keys, .. } = &options.auth;
        let verifier = Verifier::new(auth_options(options)?).map_err(|error| format!("auth: {error}"))?;
        let api_keys = ApiKeys::new(api_keys).map_err(|error| format!("api.keys: {error}"))?;
        let nobody = !options.auth.can_let_in() && options.mode == Mode::Closed;
        if nobody {
            return Err("auth: with this configuration no client could connect; set auth.hmac_secret, \
                        auth.public_keys or auth.jwks, or auth.anonymous = true, or, to try things out, \
                        server.dev = true"
                .to_owned());
        }
        Ok(Self { mode: options.mode, verifier, api_keys })
    }
}

impl Auth {
    fn can_let_in(&self) -> bool {
        self.hmac_secret.is_some()
            || !self.public_keys.is_empty()
            || !self.jwks.is_empty()
            || self.anonymous == Anonymous::Allowed
    }
}

fn auth_options(options: &Options) -> Result<AuthOptions, String> {
    let Auth {
        hmac_secret, public_keys, jwks, issuer, audience, expiry, anonymous, private_addresses, ..
    } = options.auth.clone();
    let public_keys = public_keys.iter().map(|path| {
        let shown = path.display();
        let pem = std::fs::read_to_string(path)
            .map_err(|error| format!("auth.public_keys: cannot read {shown}: {error}"))?;
        PublicKey::from_pem(&pem).map_err(|error| format!("auth.public_keys: {shown}: {error}"))
    });
    let public_keys = public_keys.collect::<Result<_, String>>()?;
    let anonymous = match options.mode {
        Mode::Dev => Anonymous::Allowed,
        Mode::Closed => anonymous,
    };
    Ok(AuthOptions {
        hmac_secret,
        public_keys,
        jwks,
        issuer,
        audience,
        expiry,
        anonymous,
        allow_private_addresses: private_addresses,
        ..AuthOptions::default()
    })
}

impl Authority {
    pub fn new(credentials: Credentials, options: &Options) -> Self {
        let revocations = Revocations::new(options.auth.revocation_ttl);
        Self { current: RwLock::new(Arc::new(credentials)), revocations }
    }

    /// From now on these are believed. Who is connected stays so.
    pub fn replace(&self, credentials: Credentials) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(credentials);
    }

    fn current(&self) -> Arc<Credentials> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a backend may use the HTTP API.
    pub fn admit_backend(&self, authorization: Option<&str>) -> Result<(), Refusal> {
        let credentials = self.current();
        match credentials.mode {
            Mode::Dev => Ok(()),
            Mode::Closed => credentials.api_keys.check(authorization).map(|_| ()),
        }
    }

    /// No token of this user that was issued until now is believed any more.
    pub fn revoke_user(&self, user: &UserId, now_ms: u64) -> Result<(), RevocationsFull> {
        self.revocations.revoke_user(user, now_ms)
    }

    /// The token with this `jti` is not believed any more, for as long as any token may be good.
    pub fn revoke_token(&self, token: &str, now_ms: u64) -> Result<(), RevocationsFull> {
        self.revocations.revoke_token(token, u64::MAX, now_ms)
    }

    /// All that is revoked.
    pub fn revoked(&self) -> Revoked {
        self.revocations.all()
    }

    /// What another node has revoked is not believed here, either.
    pub fn revoke_all(&self, revoked: &Revoked, now_ms: u64) {
        if let Err(error) = self.revocations.add(revoked, now_ms) {
            tracing::error!(%error, "what another node has revoked is still believed here");
        }
    }

    /// Who a client is, if it is not revoked.
    fn unless_revoked(&self, identity: Identity) -> Result<Identity, Refusal> {
        match self.revocations.is_revoked(&identity, unix_ms()) {
            false => Ok(identity),
            true => Err(Refusal::new(ErrorCode::PermissionDenied, "the token was revoked; sign in again")),
        }
    }
}

/// A handle that outlives the call it is used in.
pub(crate) struct Gate(pub Arc<Authority>);

impl Backend for Gate {
    fn connect(&self, token: Option<&str>) -> Pending<Result<Identity, Refusal>> {
        let authority = Arc::clone(&self.0);
        let verifier = Arc::clone(&authority.current().verifier);
        let Some(token) = token else { return Box::pin(std::future::ready(verifier.anonymous())) };
        let verifying = verifier.verify(token, unix_ms());
        Box::pin(async move { authority.unless_revoked(verifying.await?.identity) })
    }

    fn subscribe(
        &self,
        identity: &Identity,
        channel: &ChannelName,
        token: &str,
    ) -> Pending<Result<(), Refusal>> {
        let authority = Arc::clone(&self.0);
        let verifying = authority.current().verifier.verify_subscription(token, identity, channel, unix_ms());
        Box::pin(async move { authority.unless_revoked(verifying.await?.identity).map(|_| ()) })
    }

    fn call(&self, call: Call) -> Pending<Result<Said, Refusal>> {
        let message = format_args!(
            "there is no backend to answer {:?}; a server with one is needed for calls",
            &*call.method
        );
        Box::pin(std::future::ready(Err(Refusal::new(ErrorCode::NotAvailable, message))))
    }
}
