use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use duplex_core::{ErrorCode, Refusal};
use http::header::{ACCEPT, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use jsonwebtoken::Algorithm;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tracing::{info, warn};

use super::key::Key;
use super::key_set::{KeySet, KeySetError};
use super::outbound::{Endpoint, Limits, Outbound, OutboundError, Request};
use super::token::unauthorized;

/// Longest key set, bytes.
const KEY_SET_BYTES_MAX: usize = 256 * 1024;
/// From one fetch to the next, milliseconds: the most load that tokens with unknown keys can cause.
const FETCH_PAUSE_MS: u64 = 30_000;
/// From when keys are fetched anew, milliseconds.
const FRESH_MS: u64 = 10 * 60_000;
/// Until when keys are used if no new ones can be fetched, milliseconds.
const KEPT_MS: u64 = 24 * 60 * 60_000;
/// How often a verification looks again because what it waited for was given up.
const LOOKS: usize = 3;

/// The keys of one issuer, fetched when they are needed and shared by all threads.
///
/// At most one fetch is under way. It runs on the runtime of whoever needs it first, as a task of its own: whether that one
/// goes on waiting does not matter to the others.
pub(super) struct IssuerKeys {
    issuer: String,
    endpoint: Endpoint,
    outbound: Arc<Outbound>,
    time_max: Duration,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    keys: KeySet,
    /// When these keys were asked for; `None` if there are none.
    fetched_ms: Option<u64>,
    /// When keys were last asked for.
    attempted_ms: Option<u64>,
    failed: bool,
    /// Closed when the fetch that is under way has ended.
    landing: Option<watch::Receiver<()>>,
}

/// What the cache says about a key.
enum Look {
    Found(Arc<Key>, Option<Fetch>),
    Unknown,
    Unavailable,
    Wait(watch::Receiver<()>, Option<Fetch>),
}

/// A fetch that is under way. If it is dropped before its end, as happens when its runtime stops, another may start at once.
struct Fetch {
    keys: Arc<IssuerKeys>,
    now_ms: u64,
    landed: bool,
    /// Dropped last: whoever waits for it finds the cache as it is to be.
    landing: watch::Sender<()>,
}

/// Why there are no new keys. The text completes "cannot fetch keys: …".
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error(transparent)]
    Outbound(#[from] OutboundError),
    #[error("the answer has status {0}; redirects are not followed")]
    Status(StatusCode),
    #[error("the key set {0}")]
    KeySet(#[from] KeySetError),
}

impl IssuerKeys {
    pub fn new(issuer: String, endpoint: Endpoint, outbound: Arc<Outbound>, time_max: Duration) -> Self {
        Self { issuer, endpoint, outbound, time_max, cache: Mutex::default() }
    }

    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The key of that id. Ready at once if it is known, or if it may not be fetched now.
    pub async fn key(
        self: &Arc<Self>,
        id: Option<&str>,
        algorithm: Algorithm,
        now_ms: u64,
    ) -> Result<Arc<Key>, Refusal> {
        for _ in 0..LOOKS {
            match self.look(id, algorithm, now_ms) {
                Look::Found(key, refresh) => {
                    Fetch::start(refresh);
                    return Ok(key);
                }
                Look::Unknown => return Err(unknown(id)),
                Look::Unavailable => break,
                Look::Wait(mut landing, fetch) => {
                    Fetch::start(fetch);
                    // The sender says nothing; that it is dropped is the message.
                    let _ = landing.changed().await;
                }
            }
        }
        Err(Refusal::new(
            ErrorCode::NotAvailable,
            "the keys of the token's issuer cannot be fetched now; try again later",
        ))
    }

    fn look(self: &Arc<Self>, id: Option<&str>, algorithm: Algorithm, now_ms: u64) -> Look {
        let mut cache = self.lock();
        cache.forget_old(now_ms);
        let found = cache.keys.find(id, algorithm);
        match (found, &cache.landing) {
            (Some(key), None) if cache.is_stale(now_ms) => Look::Found(key, cache.fetch(self, now_ms)),
            (Some(key), _) => Look::Found(key, None),
            (None, Some(landing)) => Look::Wait(landing.clone(), None),
            (None, None) => match cache.fetch(self, now_ms) {
                Some(fetch) => Look::Wait(fetch.landing.subscribe(), Some(fetch)),
                // Whether a key is unknown, only a fresh key set can say.
                None if cache.failed => Look::Unavailable,
                None => Look::Unknown,
            },
        }
    }

    fn lock(&self) -> MutexGuard<'_, Cache> {
        // What is in the cache is whole at any moment, so a panic elsewhere leaves nothing half done.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn fetch(&self) -> Result<KeySet, FetchError> {
        let accept = HeaderValue::from_static("application/jwk-set+json, application/json");
        let answer = self.outbound.send(Request {
            method: Method::GET,
            endpoint: self.endpoint.clone(),
            headers: HeaderMap::from_iter([(ACCEPT, accept)]),
            body: Bytes::new(),
            limits: Limits { body_bytes_max: KEY_SET_BYTES_MAX, time_max: self.time_max },
        });
        let answer = answer.await?;
        if answer.status != StatusCode::OK {
            return Err(FetchError::Status(answer.status));
        }
        Ok(KeySet::parse(&answer.body, &self.issuer)?)
    }
}

impl Cache {
    fn forget_old(&mut self, now_ms: u64) {
        if self.fetched_ms.is_some_and(|fetched| now_ms.saturating_sub(fetched) >= KEPT_MS) {
            self.keys = KeySet::default();
            self.fetched_ms = None;
        }
    }

    fn is_stale(&self, now_ms: u64) -> bool {
        self.fetched_ms.is_none_or(|fetched| now_ms.abs_diff(fetched) >= FRESH_MS)
    }

    /// A fetch, if one may start now. A clock that was set back does not stop fetches for longer than the pause.
    fn fetch(&mut self, keys: &Arc<IssuerKeys>, now_ms: u64) -> Option<Fetch> {
        if self.attempted_ms.is_some_and(|attempted| now_ms.abs_diff(attempted) < FETCH_PAUSE_MS) {
            return None;
        }
        let (sender, receiver) = watch::channel(());
        self.attempted_ms = Some(now_ms);
        self.landing = Some(receiver);
        Some(Fetch { keys: Arc::clone(keys), now_ms, landed: false, landing: sender })
    }
}

impl Fetch {
    /// Starts it on the runtime of the caller, if there is one to start. The cache must not be locked: a runtime that stops
    /// drops it at once.
    fn start(fetch: Option<Self>) {
        if let (Some(fetch), Ok(runtime)) = (fetch, Handle::try_current()) {
            runtime.spawn(fetch.run());
        }
    }

    async fn run(mut self) {
        let result = self.keys.fetch().await;
        let issuer = self.keys.issuer();
        match &result {
            Ok(_) => info!(issuer, "fetched the keys of an issuer"),
            Err(error) => warn!(issuer, %error, "cannot fetch the keys of an issuer"),
        }
        self.land(result);
    }

    fn land(&mut self, result: Result<KeySet, FetchError>) {
        let mut cache = self.keys.lock();
        cache.failed = result.is_err();
        if let Ok(keys) = result {
            cache.keys = keys;
            cache.fetched_ms = Some(self.now_ms);
        }
        self.landed = true;
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        let mut cache = self.keys.lock();
        cache.landing = None;
        if self.landed {
            return;
        }
        cache.failed = true;
        // What makes us panic must not be fetched again at once.
        if !std::thread::panicking() {
            cache.attempted_ms = None;
        }
    }
}

fn unknown(id: Option<&str>) -> Refusal {
    match id {
        Some(_) => unauthorized("unknown key: the token's issuer has none with its `kid`; get a new token"),
        None => unauthorized(
            "unknown key: the token has no `kid`, and its issuer has several keys; mend what makes tokens",
        ),
    }
}
