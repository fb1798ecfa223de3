//! Where backends come in: `POST /api/v1/…` with JSON, answered with JSON.

use std::time::Duration;

use duplex_core::{Broker, BrokerError, Draft, ErrorCode, Extent, Past, Position, Refusal};
use duplex_engine::{code, unix_ms, unrecoverable, within_page};
use duplex_protocol::{HistoryError, HistoryRequest, PublicationError, Publish, PublishRequest, history};
use duplex_transport::http::{Body, BodyError, content, read_body};
use http::{Response, StatusCode};
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};

/// What a backend can ask for: the last part of the path.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Endpoint {
    /// See `docs/protocol.md`, publishing over HTTP.
    Publish,
    /// See `docs/protocol.md`, reading history over HTTP.
    History,
}

/// What a request body may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyLimits {
    pub bytes_max: usize,
    pub timeout: Duration,
}

impl Endpoint {
    /// The endpoint at a path.
    pub fn at(path: &str) -> Option<Self> {
        match path.strip_prefix("/api/v1/")? {
            "publish" => Some(Self::Publish),
            "history" => Some(Self::History),
            _ => None,
        }
    }

    /// Answers a request.
    pub async fn answer(self, broker: &dyn Broker, body: Incoming, limits: BodyLimits) -> Response<Body> {
        let (status, mut json) = match self.carry_out(broker, body, limits).await {
            Ok(json) => (StatusCode::OK, json),
            Err(failure) => failure.answer(limits.bytes_max),
        };
        json.push(b'\n');
        content(status, "application/json", json)
    }

    async fn carry_out(
        self,
        broker: &dyn Broker,
        body: Incoming,
        limits: BodyLimits,
    ) -> Result<Vec<u8>, Failure> {
        let body = read_body(body, limits.bytes_max, limits.timeout).await.map_err(Failure::Body)?;
        match self {
            Self::Publish => publish(broker, parse(&body)?).await,
            Self::History => read_history(broker, parse(&body)?).await,
        }
    }
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(Failure::Json)
}

async fn publish(broker: &dyn Broker, request: PublishRequest<'_>) -> Result<Vec<u8>, Failure> {
    let Publish { channel, event, payload, tags, key } = request.check().map_err(Failure::Publication)?;
    let name = channel.clone();
    let draft = Draft { channel, event, payload, tags, client: None, time_ms: unix_ms(), key };
    let Position { epoch, offset } = broker.publish(draft).await.map_err(Failure::Broker)?;
    Ok(json(&Published { channel: &name, epoch: epoch.to_string(), offset }))
}

async fn read_history(broker: &dyn Broker, request: HistoryRequest<'_>) -> Result<Vec<u8>, Failure> {
    let (channel, page) = request.check().map_err(Failure::History)?;
    let read = broker.history(&channel, Extent::Page(page)).await.map_err(Failure::Broker)?;
    match read.past {
        Past::Kept(publications) => Ok(history(&channel, read.position, &within_page(publications))),
        Past::Lost => Err(Failure::Lost),
    }
}

/// Why nothing was done.
enum Failure {
    Body(BodyError),
    Json(serde_json::Error),
    Publication(PublicationError),
    History(HistoryError),
    Lost,
    Broker(BrokerError),
}

impl Failure {
    fn answer(&self, bytes_max: usize) -> (StatusCode, Vec<u8>) {
        let (status, refusal) = self.refusal(bytes_max);
        let error = Problem { code: refusal.code as u16, message: &refusal.message };
        (status, json(&Failed { error }))
    }

    fn refusal(&self, bytes_max: usize) -> (StatusCode, Refusal) {
        let bad = Refusal::bad_request;
        match self {
            Self::Body(BodyError::TooLong) => {
                let message = format_args!("the body is longer than {bytes_max} bytes");
                (StatusCode::PAYLOAD_TOO_LARGE, Refusal::new(ErrorCode::LimitExceeded, message))
            }
            Self::Body(BodyError::TooSlow) => {
                (StatusCode::REQUEST_TIMEOUT, Refusal::bad_request("the body did not arrive in time"))
            }
            Self::Body(BodyError::Broken) => {
                (StatusCode::BAD_REQUEST, Refusal::bad_request("the body is malformed"))
            }
            Self::Json(error) => (StatusCode::BAD_REQUEST, bad(format_args!("not a right request: {error}"))),
            // Right JSON that some subscriber could not parse.
            Self::Publication(error @ (PublicationError::Data(_) | PublicationError::Args(_))) => {
                (StatusCode::UNPROCESSABLE_ENTITY, Refusal::bad_request(error))
            }
            Self::Publication(error) => (StatusCode::BAD_REQUEST, Refusal::bad_request(error)),
            Self::History(error) => (StatusCode::BAD_REQUEST, Refusal::bad_request(error)),
            Self::Lost => (StatusCode::CONFLICT, unrecoverable()),
            Self::Broker(error) => {
                let status = match error {
                    BrokerError::KeyReused => StatusCode::CONFLICT,
                    BrokerError::Unreachable | BrokerError::TooManyChannels { .. } => {
                        StatusCode::SERVICE_UNAVAILABLE
                    }
                };
                (status, Refusal::new(code(error), error))
            }
        }
    }
}

#[derive(Serialize)]
struct Published<'a> {
    channel: &'a str,
    epoch: String,
    offset: u64,
}

#[derive(Serialize)]
struct Failed<'a> {
    error: Problem<'a>,
}

#[derive(Serialize)]
struct Problem<'a> {
    code: u16,
    message: &'a str,
}

fn json(body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(body).expect("strings and numbers always serialize")
}
