//! `/sse`: Server-Sent Events for a bare `EventSource`.

use std::rc::Rc;
use std::sync::Arc;

use duplex_core::Identity;
use duplex_engine::Opening;
use duplex_protocol::eventsource::EventSource;
use duplex_transport::http::{Body, Reply, text};
use duplex_transport::{Endless, EndlessLink, Framing};
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::body::{Body as _, Incoming};

use super::client::Client;
use super::{Admission, Caller, Counted, EVENTS, Site, admit, endless_headers, turned_away};
use crate::places::AddressPlace;
use crate::query;

pub(super) async fn open(site: &Rc<Site>, caller: Arc<Caller>, request: &Request<Incoming>) -> Reply {
    let (protocol, identity, place) = match prepare(site, &caller, request).await {
        Ok(prepared) => prepared,
        Err(response) => return Reply::Response(response),
    };
    let site = Rc::clone(site);
    Reply::TakeOver(
        HeaderMap::new(),
        Box::new(move |stream, _, headers| {
            let link = EndlessLink::new(stream, Framing::Ready, endless_headers(headers, Framing::Ready));
            let (protocol, identity) = (Box::new(protocol), Some(identity));
            let key = site.shard.open(Opening {
                link: link.clone(),
                protocol,
                encoding: EVENTS,
                identity,
                client: None,
                trail: None,
            });
            let client = Client { shard: Rc::clone(&site.shard), key, _caller: caller, _place: place };
            tokio::task::spawn_local(Endless::new(link, client));
        }),
    )
}

async fn prepare(
    site: &Site,
    caller: &Caller,
    request: &Request<Incoming>,
) -> Result<(EventSource, Identity, Option<AddressPlace>), Response<Body>> {
    let bad = |sentence: String| text(StatusCode::BAD_REQUEST, sentence);
    let channels =
        query::channels(request.uri().query()).map_err(|error| bad(format!("channels: {error}\n")))?;
    if !request.body().is_end_stream() {
        return Err(bad("a request for events has no body\n".to_owned()));
    }
    let Admission { place, identity } = admit(site, caller, request, Counted::Connection).await?;
    // An EventSource comes back for ever after a connection that ends, but not after an error.
    let identity = match identity {
        Some(identity) => identity,
        None => site.ground.backend.connect(None).await.map_err(|refusal| turned_away(&refusal))?,
    };
    if channels.is_none() && identity.channels.is_empty() {
        return Err(bad("channels: name some, as in /sse?channels=news,chat\n".to_owned()));
    }
    let last = request.headers().get("last-event-id").map(|id| id.to_str().unwrap_or_default());
    Ok((EventSource::new(channels.unwrap_or_default(), last), identity, place))
}
