//! A response that brings frames down, for as long as it stays open.

use http::{Method, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::line::WireEvent;
use crate::split::Splitter;
use crate::{End, Form, Transport};

use super::dial::Dialer;
use super::http::{Outline, request, wait, whole};
use super::{Over, Teller};

/// Asks for frames, and tells them as they come.
pub(crate) async fn bring(dialer: &Dialer, target: String, transport: Transport, teller: Teller) {
    let end = match run(dialer, target, transport, &teller).await {
        Ok(end) | Err(end) => end,
    };
    // Nobody hears it if the client's task is gone.
    let _ = teller.tell(WireEvent::Ended(end)).await;
}

async fn run(dialer: &Dialer, target: String, transport: Transport, teller: &Teller) -> Result<End, End> {
    let accept = accept(transport, teller.form);
    let outline =
        Outline { method: Method::GET, target, content_type: None, accept, body: bytes::Bytes::new() };
    let (kept, response) = request(dialer, &outline).await.map_err(End::broken)?;
    if !response.status().is_success() {
        return Ok(refusal(response).await);
    }
    let mut splitter = Splitter::of(transport, teller.form, teller.message_bytes_max);
    let mut body = response.into_body();
    while let Some(piece) = body.frame().await {
        let piece = piece.map_err(|error| End::broken(format!("the response is broken off: {error}")))?;
        if let Ok(bytes) = piece.into_data() {
            take(&bytes, &mut splitter, teller).await?;
        }
    }
    if transport == Transport::Poll {
        dialer.keep(kept);
    }
    Ok(End::new(1000, "the response is complete"))
}

async fn take(bytes: &[u8], splitter: &mut Splitter, teller: &Teller) -> Result<(), End> {
    let mut frames = Vec::new();
    let split = splitter.feed(bytes, &mut |frame| frames.push(frame.to_vec()));
    let gone = |_: Over| End::broken("the client is gone");
    teller.tell(WireEvent::Heard).await.map_err(gone)?;
    for frame in frames {
        teller.frame(&frame).await?;
    }
    split.map_err(|error| End::broken(error.to_string()))
}

async fn refusal(response: Response<Incoming>) -> End {
    let (head, body) = response.into_parts();
    let text = whole(body).await.unwrap_or_default();
    let text: String = String::from_utf8_lossy(&text).trim().chars().take(200).collect();
    let reason = if text.is_empty() { "the server refuses".to_owned() } else { text };
    End { after: wait(&head.headers), ..End::new(head.status.as_u16(), reason) }
}

fn accept(transport: Transport, form: Form) -> &'static str {
    match (transport, form) {
        (Transport::Sse, _) => "text/event-stream",
        (_, Form::Json) => "application/x-ndjson",
        (_, Form::MessagePack) => "application/vnd.msgpack",
    }
}
