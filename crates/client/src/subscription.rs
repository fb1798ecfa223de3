use std::sync::Arc;

use tokio::sync::mpsc;

use crate::inbox::Inbox;
use crate::task::Control;
use crate::{End, Member, Position, Publication, Refusal, Token};

/// How a channel is followed.
#[derive(Debug, Clone)]
pub struct SubscribeOptions {
    /// Begins behind this position. Default `None`: with what is published next.
    pub since: Option<Position>,
    /// A subscription token, for a channel that nothing else lets this client subscribe to. Default [`Token::None`].
    pub token: Token,
    /// Events that may wait to be read, 1 at least. Default 1,024. Beyond it, see [`Event::Lagged`].
    pub buffer: usize,
}

impl Default for SubscribeOptions {
    fn default() -> Self {
        Self { since: None, token: Token::None, buffer: 1_024 }
    }
}

/// What happens in a channel.
#[derive(Debug, Clone)]
pub enum Event {
    /// The subscription begins, or goes on after the connection was lost.
    Subscribed {
        /// The channel's newest position.
        position: Position,
        /// Whether everything missed follows; `None` if there was no position to go on from.
        recovered: Option<bool>,
    },
    /// Something was published.
    Publication(Publication),
    /// Someone is subscribed now.
    Joined(Member),
    /// Someone is not subscribed any more.
    Left(Member),
    /// More events came than were read. What came since is left out here; as soon as this event is taken, the client subscribes
    /// again from the last publication before it, and an [`Event::Subscribed`] says whether everything follows. Other
    /// subscriptions do not notice.
    Lagged,
    /// The server does not subscribe the client now; it asks again later.
    Postponed(Refusal),
    /// The server does not subscribe the client. It is the last event.
    Refused(Refusal),
    /// The client does not want the channel any more. It is the last event.
    Unsubscribed,
    /// The client is closed. It is the last event.
    Closed(End),
}

/// A channel that a client follows: a series of events that goes on when the connection was lost. Dropping it unsubscribes.
#[derive(Debug)]
pub struct Subscription {
    channel: Box<str>,
    serial: u64,
    inbox: Arc<Inbox<Event>>,
    control: mpsc::Sender<Control>,
    position: Option<Position>,
    /// An [`Event::Lagged`] was taken, and the client has not been told yet.
    lagged: bool,
}

/// A subscription as its client's task knows it.
#[derive(Debug)]
pub(crate) struct Seat {
    /// Tells it from an earlier one to the same channel.
    pub serial: u64,
    pub inbox: Arc<Inbox<Event>>,
}

impl Subscription {
    pub(crate) fn new(
        channel: Box<str>,
        seat: Seat,
        position: Option<Position>,
        control: mpsc::Sender<Control>,
    ) -> Self {
        let Seat { serial, inbox } = seat;
        Self { channel, serial, inbox, control, position, lagged: false }
    }

    /// Its channel.
    pub fn channel(&self) -> &str {
        &self.channel
    }

    /// Where the last publication stands that was taken, or where the subscription began: going on behind it leaves nothing
    /// out.
    pub fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// The next event; `None` behind the last. Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<Event> {
        self.catch_up().await;
        let event = self.inbox.take().await?;
        match &event {
            Event::Publication(publication) => self.position = Some(publication.position.clone()),
            Event::Subscribed { position, recovered } if *recovered != Some(true) => {
                self.position = Some(position.clone());
            }
            Event::Lagged => {
                self.lagged = true;
                // Now if there is room, else before the next event.
                self.lagged = self.control.try_send(self.resume()).is_err();
            }
            _ => {}
        }
        Some(event)
    }

    /// Tells the client that there is room again.
    async fn catch_up(&mut self) {
        if self.lagged {
            // A client that has ended says so in the inbox.
            let _ = self.control.send(self.resume()).await;
            self.lagged = false;
        }
    }

    fn resume(&self) -> Control {
        Control::Resume { channel: self.channel.clone(), serial: self.serial }
    }

    /// Ends it. What has come already can still be read; resolved when nothing more can come.
    pub async fn unsubscribe(&mut self) {
        let (done, ended) = tokio::sync::oneshot::channel();
        let unsubscribe =
            Control::Unsubscribe { channel: self.channel.clone(), serial: self.serial, done: Some(done) };
        // Either fails only if the client is gone, and the subscription with it.
        if self.control.send(unsubscribe).await.is_ok() {
            let _ = ended.await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.inbox.abandon();
        let (channel, serial) = (std::mem::take(&mut self.channel), self.serial);
        // If the client is too busy to hear it now, it finds out when it has something for the inbox.
        let _ = self.control.try_send(Control::Unsubscribe { channel, serial, done: None });
    }
}
