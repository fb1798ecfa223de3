use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::inbox::{Inbox, Put};
use crate::{End, Transport};

/// Events that may wait for a slow reader.
const EVENTS_MAX: usize = 64;

/// What happens to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientEvent {
    /// The server has let the client in.
    Connected {
        /// Public id of this client, for as long as it is connected.
        client: Box<str>,
        /// The user its token names.
        user: Option<Box<str>>,
        /// What carries the conversation.
        transport: Transport,
    },
    /// Another transport carries the conversation now; nothing was lost.
    Transport(Transport),
    /// The connection is lost, or there was none; the client tries again.
    Disconnected {
        /// Why.
        end: End,
        /// How long it waits before it does.
        after: Duration,
    },
    /// The client's token subscribes it to a channel that nobody asked for. What comes there waits for
    /// [`Client::subscribe`](crate::Client::subscribe).
    Given {
        /// Which.
        channel: Box<str>,
    },
    /// Something went wrong, and the client goes on: a token could not be got, or the server sent an error that belongs to no
    /// command.
    Trouble(String),
    /// The client is closed, by itself or by the server, and does not come back.
    Closed(End),
}

/// What happens to a client, as it happens. If nobody reads, the oldest of 64 is forgotten for the newest.
#[derive(Debug)]
pub struct ClientEvents {
    inbox: Arc<Inbox<ClientEvent>>,
}

impl ClientEvents {
    /// The next event; `None` behind [`ClientEvent::Closed`]. The first says how the client stands, if it has got anywhere
    /// yet. Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<ClientEvent> {
        self.inbox.take().await
    }
}

impl Drop for ClientEvents {
    fn drop(&mut self) {
        self.inbox.abandon();
    }
}

/// Those who listen to a client.
#[derive(Debug, Default)]
pub(crate) struct Listeners(Mutex<Standing>);

#[derive(Debug, Default)]
struct Standing {
    inboxes: Vec<Weak<Inbox<ClientEvent>>>,
    /// How the client stands, for those who come later.
    last: Option<ClientEvent>,
}

impl Listeners {
    pub fn listen(&self) -> ClientEvents {
        let inbox = Inbox::new(EVENTS_MAX);
        let mut standing = self.standing();
        if let Some(last) = standing.last.clone() {
            let over = matches!(last, ClientEvent::Closed(_));
            inbox.put_anyway(last);
            if over {
                inbox.end();
            }
        }
        standing.inboxes.push(Arc::downgrade(&inbox));
        ClientEvents { inbox }
    }

    /// Why the client is closed.
    pub fn end(&self) -> End {
        match &self.standing().last {
            Some(ClientEvent::Closed(end)) => end.clone(),
            _ => End::closed(),
        }
    }

    pub fn tell(&self, event: &ClientEvent) {
        let mut standing = self.standing();
        let told = |inbox: &Weak<Inbox<ClientEvent>>| {
            inbox.upgrade().is_some_and(|inbox| inbox.put_newest(event.clone()) != Put::Abandoned)
        };
        standing.inboxes.retain(told);
        standing.remember(event);
    }
}

impl Listeners {
    /// The state is whole after each statement that changes it, so a panic elsewhere does not spoil it.
    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Standing {
    fn remember(&mut self, event: &ClientEvent) {
        match (event, &mut self.last) {
            (ClientEvent::Transport(now), Some(ClientEvent::Connected { transport, .. })) => {
                *transport = *now
            }
            (ClientEvent::Connected { .. } | ClientEvent::Disconnected { .. }, last) => {
                *last = Some(event.clone());
            }
            (ClientEvent::Closed(_), last) => {
                *last = Some(event.clone());
                self.inboxes.drain(..).filter_map(|inbox| inbox.upgrade()).for_each(|inbox| inbox.end());
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_comes_late_hears_how_the_client_stands() {
        let listeners = Listeners::default();
        let mut early = listeners.listen();
        let connected = |transport| ClientEvent::Connected { client: "c".into(), user: None, transport };
        for event in [
            connected(Transport::Sse),
            ClientEvent::Transport(Transport::WebSocket),
            ClientEvent::Trouble("x".into()),
        ] {
            listeners.tell(&event);
        }
        let mut late = listeners.listen();
        let closed = ClientEvent::Closed(End::closed());
        listeners.tell(&closed);
        assert_eq!(late.next().await, Some(connected(Transport::WebSocket)));
        assert_eq!((late.next().await, late.next().await), (Some(closed.clone()), None));
        assert_eq!(early.next().await, Some(connected(Transport::Sse)));
        let mut last = listeners.listen();
        assert_eq!((last.next().await, last.next().await), (Some(closed), None));
    }
}
