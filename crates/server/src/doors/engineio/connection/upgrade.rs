//! From polls to a WebSocket, which is tried while polling goes on.

use std::rc::{Rc, Weak};
use std::time::Duration;

use duplex_core::{Frame, FrameQueue, Link, Written};
use duplex_protocol::engineio::{Malformed, Packet, Probed, Refused};
use duplex_transport::websocket::WebSocketLink;

use super::{Carrier, Connection, packet_frame, queue_of};

/// How long a WebSocket may be tried.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often polls are answered while one is tried, so that the client can let go of polling.
const NOOP_INTERVAL: Duration = Duration::from_millis(100);

impl Connection {
    /// A WebSocket has come for a connection that is polled.
    pub fn begin_probe(self: &Rc<Self>, link: Rc<WebSocketLink>) -> Result<(), Refused> {
        self.conversation.borrow_mut().probe()?;
        let (connection, tried) = (Rc::clone(self), Rc::downgrade(&link));
        *self.probe.borrow_mut() = Some(link);
        tokio::task::spawn_local(async move { connection.release_polls(tried).await });
        Ok(())
    }

    /// While a WebSocket is tried, polls are answered, and it may not take for ever. One that has ended is not kept open by that.
    async fn release_polls(&self, tried: Weak<WebSocketLink>) {
        let mut passed = Duration::ZERO;
        loop {
            tokio::time::sleep(NOOP_INTERVAL).await;
            passed += NOOP_INTERVAL;
            match tried.upgrade().filter(|link| self.is_tried(link)) {
                None => return,
                Some(link) if passed >= PROBE_TIMEOUT => return link.abort(),
                Some(_) => self.release_poll(),
            }
        }
    }

    fn is_tried(&self, link: &Rc<WebSocketLink>) -> bool {
        self.probe.borrow().as_ref().is_some_and(|probe| Rc::ptr_eq(probe, link))
    }

    fn release_poll(&self) {
        let waiting = match &*self.carrier.borrow() {
            Carrier::Poll(link) => Some(Rc::clone(link)),
            Carrier::Nothing | Carrier::WebSocket(_) => None,
        };
        if let Some(link) = waiting {
            self.answer_poll(&link, &mut queue_of("6"));
        }
    }

    /// A message came on the WebSocket that is tried.
    pub fn probed(&self, link: &Rc<WebSocketLink>, frame: Frame<'_>) {
        let packet = match frame {
            Frame::Text(text) if self.is_tried(link) => Packet::text(text),
            _ => Err(Malformed::Type),
        };
        let probed = packet.map_or(Probed::End, |packet| self.conversation.borrow_mut().probed(packet));
        match probed {
            Probed::Answer => {
                say(link, "3probe");
                self.release_poll();
            }
            Probed::Switch => {
                self.probe.take();
                self.release_poll();
                self.carry(Carrier::WebSocket(Rc::clone(link)));
            }
            Probed::End => link.abort(),
        }
    }

    /// The WebSocket that was tried is gone.
    pub fn probe_ended(&self, link: &Rc<WebSocketLink>) {
        if self.is_tried(link) {
            self.probe.take();
            self.conversation.borrow_mut().probe_ended();
        }
    }
}

/// A packet that goes out at once, on a WebSocket that is only tried.
fn say(link: &WebSocketLink, packet: &str) {
    let mut queue = FrameQueue::default();
    queue.push(packet_frame(packet));
    if link.write(&mut queue) != Written::All {
        link.abort();
    }
}
