//! Where backends come in: `/api/v1/…`.

use std::time::Duration;

use duplex_core::{Broker, BrokerError, Draft, ErrorCode, Position, Refusal};
use duplex_engine::unix_ms;
use duplex_protocol::{PublicationError, PublishRequest};
use duplex_transport::http::{Body, BodyError, content, read_body};
use http::{Response, StatusCode};
use hyper::body::Incoming;
use serde::Serialize;

/// What a request body may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyLimits {
    pub bytes_max: usize,
    pub timeout: Duration,
}

/// `POST /api/v1/publish`: see `docs/protocol.md`, publishing over HTTP.
pub(crate) async fn publish(broker: &dyn Broker, body: Incoming, limits: BodyLimits) -> Response<Body> {
    match carry_out(broker, body, limits).await {
        Ok((channel, position)) => {
            let Position { epoch, offset } = position;
            json(StatusCode::OK, &Published { channel, epoch: epoch.to_string(), offset })
        }
        Err(failure) => {
            let (status, refusal) = failure.answer(limits.bytes_max);
            json(status, &Failed { error: Problem { code: refusal.code as u16, message: &refusal.message } })
        }
    }
}

async fn carry_out(
    broker: &dyn Broker,
    body: Incoming,
    limits: BodyLimits,
) -> Result<(String, Position), Failure> {
    let body = read_body(body, limits.bytes_max, limits.timeout).await.map_err(Failure::Body)?;
    let request: PublishRequest<'_> = serde_json::from_slice(&body).map_err(Failure::Json)?;
    let (channel, event, payload, tags) = request.check().map_err(Failure::Publication)?;
    let name = channel.to_string();
    let draft = Draft { channel, event, payload, tags, client: None, time_ms: unix_ms() };
    let position = broker.publish(draft).await.map_err(Failure::Broker)?;
    Ok((name, position))
}

/// Why nothing was published.
enum Failure {
    Body(BodyError),
    Json(serde_json::Error),
    Publication(PublicationError),
    Broker(BrokerError),
}

impl Failure {
    fn answer(&self, bytes_max: usize) -> (StatusCode, Refusal) {
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
            Self::Json(error) => {
                (StatusCode::BAD_REQUEST, Refusal::bad_request(format_args!("not a publication: {error}")))
            }
            // Right JSON that some subscriber could not parse.
            Self::Publication(error @ (PublicationError::Data(_) | PublicationError::Args(_))) => {
                (StatusCode::UNPROCESSABLE_ENTITY, Refusal::bad_request(error))
            }
            Self::Publication(error) => (StatusCode::BAD_REQUEST, Refusal::bad_request(error)),
            Self::Broker(error) => {
                let message = format_args!("cannot publish: {error}");
                (StatusCode::SERVICE_UNAVAILABLE, Refusal::new(ErrorCode::NotAvailable, message))
            }
        }
    }
}

#[derive(Serialize)]
struct Published {
    channel: String,
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

fn json(status: StatusCode, body: &impl Serialize) -> Response<Body> {
    let mut text = serde_json::to_vec(body).expect("strings and numbers always serialize");
    text.push(b'\n');
    content(status, "application/json", text)
}
