//! HTTP/1.1 requests, with a limit on everything.

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use crate::line::{PostAnswer, Posted};

use super::dial::{Dialer, Kept};
use super::{AbortOnDrop, Upload, retry_after};

/// Longest head of an answer, bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most headers of an answer.
const HEADERS_MAX: usize = 100;
/// Longest body of an answer that brings no frames, bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// What stands in a request beside its target.
pub(super) struct Outline {
    pub method: Method,
    pub target: String,
    pub content_type: Option<&'static str>,
    pub accept: &'static str,
    pub body: Bytes,
}

/// Sends a message up. Its connection is kept for the next.
pub(crate) async fn post(dialer: &Dialer, upload: Upload) -> Posted {
    let Upload { target, body, form, time_max } = upload;
    let content_type = (!body.is_empty()).then(|| form.content_type());
    let outline = Outline { method: Method::POST, target, content_type, accept: "*/*", body };
    let exchange = async {
        let (kept, response) = request(dialer, &outline).await?;
        let (head, body) = response.into_parts();
        let body = whole(body).await?;
        dialer.keep(kept);
        Ok(PostAnswer { status: head.status.as_u16(), after: wait(&head.headers), body })
    };
    let late = Err(format!("the server did not answer within {time_max:?}"));
    timeout(time_max, exchange).await.unwrap_or(late)
}

/// Sends a request, on a connection that was kept if there is one. All our requests may be repeated.
pub(super) async fn request(
    dialer: &Dialer,
    outline: &Outline,
) -> Result<(Kept, Response<Incoming>), String> {
    while let Some(mut kept) = dialer.take_idle() {
        // The server may have closed it meanwhile, or just now.
        if kept.sender.ready().await.is_ok()
            && let Ok(response) = kept.sender.send_request(on_the_wire(dialer, outline)?).await
        {
            return Ok((kept, response));
        }
    }
    let mut kept = open(dialer).await?;
    let response = kept.sender.send_request(on_the_wire(dialer, outline)?).await;
    Ok((kept, response.map_err(|error| format!("no answer: {error}"))?))
}

async fn open(dialer: &Dialer) -> Result<Kept, String> {
    let stream = dialer.connect().await.map_err(|error| format!("no connection: {error}"))?;
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| format!("no connection: {error}"))?;
    let driver = tokio::spawn(async move {
        // What goes wrong with the connection, the answer says as well.
        let _ = connection.await;
    });
    Ok(Kept { sender, _driver: AbortOnDrop(driver) })
}

fn on_the_wire(dialer: &Dialer, outline: &Outline) -> Result<Request<Full<Bytes>>, String> {
    let Outline { method, target, content_type, accept, body } = outline;
    let target: Uri = dialer.address.target(target).parse().map_err(|_| "the path cannot be asked for")?;
    let mut request = Request::new(Full::new(body.clone()));
    (*request.method_mut(), *request.uri_mut()) = (method.clone(), target);
    let headers = request.headers_mut();
    headers.insert(HOST, dialer.address.authority.clone());
    headers.insert(ACCEPT, HeaderValue::from_static(accept));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(content_type) = content_type {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    Ok(request)
}

/// The whole body of an answer.
pub(super) async fn whole(body: Incoming) -> Result<Bytes, String> {
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
    body.map(|body| body.to_bytes()).map_err(|error| format!("the answer is broken off: {error}"))
}

/// What an answer says about coming back.
pub(super) fn wait(headers: &HeaderMap) -> Option<std::time::Duration> {
    retry_after(headers.get(RETRY_AFTER)?.as_bytes())
}
