//! Reading history, as the native protocol and the HTTP API share it.

use std::borrow::Cow;
use std::sync::Arc;

use duplex_core::{ChannelName, Epoch, NameError, Order, Page, Position, Publication, Recovered};
use serde::Deserialize;

use crate::publication::{Standing, write_json, write_publication};

/// Publications in a page, if the request does not say.
const LIMIT: usize = 100;
/// Publications in a page, at most.
const LIMIT_MAX: usize = 1_000;

/// What a reader writes: `{"channel":…,"since":…,"limit":…,"reverse":…}`.
#[derive(Debug, Deserialize)]
pub struct HistoryRequest<'a> {
    #[serde(borrow)]
    channel: Cow<'a, str>,
    #[serde(borrow, flatten)]
    wanted: Wanted<'a>,
}

/// How much of a channel's history: `{"since":…,"limit":…,"reverse":…}`.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Wanted<'a> {
    #[serde(borrow, default)]
    since: Option<Since<'a>>,
    #[serde(default)]
    limit: Option<usize>,
    #[serde(default)]
    reverse: bool,
}

/// A position, as clients write it.
#[derive(Debug, Deserialize)]
pub(crate) struct Since<'a> {
    #[serde(borrow)]
    epoch: Cow<'a, str>,
    offset: u64,
}

/// What is wrong with a request. The text names the field and says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum HistoryError {
    #[error("channel: {0}")]
    Channel(NameError),
    #[error("since.epoch: is not one this server gave out")]
    Epoch,
    #[error("limit: is {0}; give 1 to {LIMIT_MAX}")]
    Limit(usize),
}

impl Since<'_> {
    /// Checks it.
    pub fn position(&self) -> Result<Position, HistoryError> {
        let epoch = Epoch::parse(&self.epoch).ok_or(HistoryError::Epoch)?;
        Ok(Position { epoch, offset: self.offset })
    }
}

impl HistoryRequest<'_> {
    /// Checks every part.
    pub fn check(self) -> Result<(ChannelName, Page), HistoryError> {
        let channel = ChannelName::parse(&self.channel).map_err(HistoryError::Channel)?;
        Ok((channel, self.wanted.check()?))
    }
}

impl Wanted<'_> {
    /// Checks every part.
    pub fn check(self) -> Result<Page, HistoryError> {
        let since = self.since.map(|since| since.position()).transpose()?;
        let limit = self.limit.unwrap_or(LIMIT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(HistoryError::Limit(limit));
        }
        let order = if self.reverse { Order::NewestFirst } else { Order::OldestFirst };
        Ok(Page { since, limit, order })
    }
}

/// The answer: `{"channel":…,"epoch":…,"offset":…,"publications":[…]}`.
pub fn history(channel: &ChannelName, position: Position, publications: &[Arc<Publication>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(128 + publications.len() * 256);
    write_json(&Standing::new(channel, position, Recovered::NotAsked), &mut out);
    out.pop();
    out.extend_from_slice(b",\"publications\":[");
    for (index, publication) in publications.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_publication(publication, &mut out);
    }
    out.extend_from_slice(b"]}");
    out
}
