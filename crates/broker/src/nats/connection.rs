//! One connection: requests and their answers.
//!
//! It is never made again by itself. When it breaks, all who wait for an answer hear of it at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::{Client, HeaderMap, Message, StatusCode, Subscriber};
use bytes::Bytes;
use duplex_core::BrokerError;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

/// How long an answer may take that nobody waits for in particular.
pub(super) const ANSWER: Duration = Duration::from_secs(4);

pub(super) struct Connection {
    pub client: Client,
    /// Where answers come.
    inbox: String,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    last: u64,
    answers: HashMap<u64, oneshot::Sender<Message>>,
    is_over: bool,
}

/// Why there is no answer that is of use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The connection broke: whether it was done is not known.
    Broken,
    /// There was none in time: whether it was done is not known.
    Late,
    /// No stream has such subjects, or JetStream is not there: nothing was done.
    Nobody,
    /// It is longer than the server takes: nothing was done.
    TooLong { bytes: usize, max: usize },
    /// JetStream says no: nothing was done.
    Refused { code: u32, text: String },
}

impl Connection {
    pub fn new(client: Client, inbox: String) -> Self {
        Self { client, inbox, waiting: Mutex::default() }
    }

    /// Where answers come.
    pub fn inbox(&self) -> String {
        format!("{}.*", self.inbox)
    }

    /// Hands out answers for as long as they come.
    pub async fn read_answers(self: Arc<Self>, mut answers: Subscriber) {
        while let Some(message) = futures_util::StreamExt::next(&mut answers).await {
            let number = message.subject.rsplit_once('.').and_then(|(_, number)| number.parse().ok());
            let waiting = number.and_then(|number: u64| self.lock().answers.remove(&number));
            if let Some(waiting) = waiting {
                drop(waiting.send(message));
            }
        }
    }

    /// It broke: nobody gets an answer any more.
    pub fn over(&self) {
        let mut waiting = self.lock();
        waiting.is_over = true;
        waiting.answers.clear();
    }

    pub fn is_over(&self) -> bool {
        self.lock().is_over
    }

    /// Asks, and waits for the answer until `deadline`. What is asked first is sent first.
    pub async fn ask(
        &self,
        subject: String,
        headers: Option<HeaderMap>,
        payload: Bytes,
        deadline: Instant,
    ) -> Result<Message, Failure> {
        let (bytes, max) = (payload.len() + HEADERS_BYTES, self.client.max_payload());
        if bytes > max {
            return Err(Failure::TooLong { bytes, max });
        }
        if Instant::now() >= deadline {
            return Err(Failure::Late);
        }
        let (answer, number) = self.expect().ok_or(Failure::Broken)?;
        let _forget = Forget { connection: self, number };
        let reply = format!("{}.{number}", self.inbox);
        let sent = async {
            match headers {
                Some(headers) => {
                    self.client.publish_with_reply_and_headers(subject, reply, headers, payload).await
                }
                None => self.client.publish_with_reply(subject, reply, payload).await,
            }
        };
        match timeout_at(deadline, sent).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(Failure::Broken),
            Err(_) => return Err(Failure::Late),
        }
        match timeout_at(deadline, answer).await {
            Ok(Ok(message)) if message.status == Some(StatusCode::NO_RESPONDERS) => Err(Failure::Nobody),
            Ok(Ok(message)) => Ok(message),
            Ok(Err(_)) => Err(Failure::Broken),
            Err(_) => Err(Failure::Late),
        }
    }

    /// Tells whoever listens. Whether it arrives is not known.
    pub async fn tell(&self, subject: String, payload: Bytes) {
        let telling = self.client.publish(subject, payload);
        if let Ok(Err(error)) = tokio::time::timeout(ANSWER, telling).await {
            tracing::debug!(%error, "something was not told over NATS");
        }
    }

    /// Waits until the server has taken everything that was sent before.
    pub async fn round_trip(&self, nowhere: String) -> Result<(), Failure> {
        match self.ask(nowhere, None, Bytes::new(), Instant::now() + ANSWER).await {
            Ok(_) | Err(Failure::Nobody) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    fn expect(&self) -> Option<(oneshot::Receiver<Message>, u64)> {
        let mut waiting = self.lock();
        if waiting.is_over {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        waiting.last += 1;
        let number = waiting.last;
        waiting.answers.insert(number, sender);
        Some((receiver, number))
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// More than our headers ever have, bytes.
const HEADERS_BYTES: usize = 128;

/// Who waits no longer is not kept.
struct Forget<'a> {
    connection: &'a Connection,
    number: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.connection.lock().answers.remove(&self.number);
    }
}

impl Failure {
    /// What is refused, and the reason is that there is no room.
    const FULL: [u32; 6] = [10_002, 10_023, 10_027, 10_028, 10_047, 10_077];
    /// JetStream is not there, or has no leader now.
    const AWAY: [u32; 5] = [10_008, 10_009, 10_039, 10_076, 10_118];

    /// What is answered to who only asked.
    pub fn of_reading(self) -> BrokerError {
        match self {
            Self::Broken => BrokerError::Unreachable,
            failure => failure.into(),
        }
    }
}

impl From<Failure> for BrokerError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Broken | Failure::Late => Self::NoAnswer,
            Failure::Nobody => Self::Unreachable,
            Failure::TooLong { bytes, max } => Self::Refused(format!(
                "it has {bytes} bytes, and the NATS server takes {max}; raise its max_payload or publish less at once"
            )),
            Failure::Refused { code, .. } if Failure::FULL.contains(&code) => Self::Full,
            Failure::Refused { code, .. } if Failure::AWAY.contains(&code) => Self::Unreachable,
            Failure::Refused { text, .. } => Self::Refused(text),
        }
    }
}
