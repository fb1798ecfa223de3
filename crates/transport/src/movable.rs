//! A session that any transport may carry, one at a time: its frames are counted, and kept until it is known that they
//! have arrived, so that another transport can go on where the one before broke off.

use std::any::Any;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use duplex_core::{CloseReason, FrameQueue, Heartbeat, Link, Message, Written};

/// What a frame is, whatever carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    Text,
    Binary,
}

impl Kind {
    fn message(self, bytes: Bytes) -> Message {
        match self {
            Self::Text => Message::Text(bytes),
            Self::Binary => Message::Binary(bytes),
        }
    }
}

/// What becomes of a frame that may not have arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Care {
    /// It is counted, and kept until it has.
    Kept,
    /// It is sent once.
    Once,
}

/// Tells what a frame is.
pub type Describe = fn(&[u8]) -> (Kind, Care);

/// The link of such a session. Bytes in its queue are bare frames, one in each piece.
pub struct MovableLink {
    describe: Describe,
    /// Bytes of frames that are kept, beyond one.
    kept_bytes_max: usize,
    state: RefCell<State>,
    /// Dropped when the session is over.
    _guard: Box<dyn Any>,
}

#[derive(Default)]
struct State {
    carrier: Option<Carrier>,
    /// Tells carriers apart.
    serial: u32,
    /// Frames that were taken out of the outbox and may not have arrived.
    kept: VecDeque<Bytes>,
    kept_bytes: usize,
    /// How many frames there were before the first that is kept.
    before: u64,
    /// How many the client has said that it has got.
    acknowledged: u64,
    /// How many of `kept` this carrier has been given.
    given: usize,
    /// Messages that have arrived.
    received: u64,
    ending: Option<Ending>,
    client: Client,
    visit: Visit,
}

/// How long a carrier means to stay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Visit {
    /// Until it is replaced or breaks.
    #[default]
    Lasting,
    /// Until it has carried something.
    Once,
}

struct Carrier {
    link: Rc<dyn Link>,
    /// Frames as it carries them, and bytes of its own, that it has not taken.
    wire: FrameQueue,
}

struct Ending {
    reason: &'static CloseReason,
    detail: Box<str>,
    said: Said,
}

#[derive(PartialEq)]
enum Said {
    No,
    Yes,
}

#[derive(Default, PartialEq)]
enum Client {
    #[default]
    Stranger,
    Admitted,
}

/// A carrier's time with the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn(u32);

/// Why a client's count of frames cannot be right. The texts complete "after: …".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CountError {
    /// It names frames that were not sent.
    Ahead {
        /// How many there were.
        sent: u64,
    },
    /// It misses frames that are no longer kept.
    Lost,
}

/// What a message's number says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// It is the next one.
    Next,
    /// It has arrived before.
    Again,
    /// Others before it have not.
    Early {
        /// How many have.
        received: u64,
    },
}

impl MovableLink {
    /// A link without a carrier, whose frames are as `describe` says. Those that may not have arrived are kept up to
    /// `kept_bytes_max`, and one at least. `guard` is dropped with it, when the session is over.
    pub fn new(describe: Describe, kept_bytes_max: usize, guard: Box<dyn Any>) -> Rc<Self> {
        Rc::new(Self { describe, kept_bytes_max, state: RefCell::default(), _guard: guard })
    }

    /// From now on `link` carries the session, for a client that has got `after` frames; whatever carried it is ended. `hello`
    /// is on its wire before all frames.
    ///
    /// # Errors
    /// The count cannot be right; nothing has changed.
    pub fn attach(
        &self,
        link: Rc<dyn Link>,
        visit: Visit,
        after: u64,
        hello: Option<Bytes>,
    ) -> Result<Turn, CountError> {
        let state = &mut *self.state.borrow_mut();
        let after = state.check(after, state.kept.len())?;
        state.forget(after);
        state.given = 0;
        state.visit = visit;
        if let Some(ending) = &mut state.ending {
            ending.said = Said::No;
        }
        state.serial = state.serial.wrapping_add(1);
        if state.client == Client::Admitted {
            link.admitted();
        }
        let mut wire = FrameQueue::default();
        if let Some(hello) = hello {
            wire.push(hello);
        }
        if let Some(former) = state.carrier.replace(Carrier { link, wire }) {
            former.link.abort();
        }
        Ok(Turn(state.serial))
    }

    /// How many frames a client has got that says it has `after`: more, if another request of its was faster and said so.
    ///
    /// # Errors
    /// The count cannot be right.
    pub fn check(&self, after: u64) -> Result<u64, CountError> {
        let state = self.state.borrow();
        state.check(after, state.kept.len())
    }

    /// The client has got `after` frames.
    ///
    /// # Errors
    /// It cannot have.
    pub fn acknowledge(&self, after: u64) -> Result<(), CountError> {
        let state = &mut *self.state.borrow_mut();
        let after = match state.check(after, state.kept.len()) {
            // What it has not got of frames that are gone, another request may ask for.
            Err(CountError::Lost) => return Ok(()),
            checked => checked?,
        };
        // What it has from the carrier before, this one brings again: both ends count what comes.
        state.forget(after.min(state.before + state.given as u64));
        Ok(())
    }

    /// The carrier of this turn is gone. Says whether it was the one that carried the session.
    pub fn release(&self, turn: Turn) -> Released {
        let state = &mut *self.state.borrow_mut();
        match state.serial == turn.0 {
            false => Released::Former,
            true => {
                state.carrier = None;
                match &state.ending {
                    // A client that ended it waits for nothing.
                    Some(Ending { reason, said: Said::No, .. }) if **reason != CloseReason::GOING_AWAY => {
                        Released::Owing
                    }
                    _ => Released::Last,
                }
            }
        }
    }

    /// Bytes of the carrier's own, such as a pong, go out behind what it was given.
    pub fn reply(&self, turn: Turn, wire: Bytes) {
        let state = &mut *self.state.borrow_mut();
        if let Some(carrier) = &mut state.carrier
            && state.serial == turn.0
        {
            carrier.wire.push(wire);
        }
    }

    /// A message has come; its number, if it has one, tells whether it is to be carried out.
    pub fn arrive(&self, number: Option<u64>) -> Arrival {
        let received = &mut self.state.borrow_mut().received;
        match number {
            Some(number) if number <= *received => Arrival::Again,
            Some(number) if number > *received + 1 => Arrival::Early { received: *received },
            Some(_) | None => {
                *received += 1;
                Arrival::Next
            }
        }
    }

    /// How many frames the client has said that it has got.
    pub fn acknowledged(&self) -> u64 {
        self.state.borrow().acknowledged
    }

    /// How many frames its carriers were given, the last time each.
    pub fn given(&self) -> u64 {
        let state = self.state.borrow();
        state.before + state.given as u64
    }

    /// How many messages have arrived.
    pub fn received(&self) -> u64 {
        self.state.borrow().received
    }

    /// How long the last carrier meant to stay.
    pub fn visit(&self) -> Visit {
        self.state.borrow().visit
    }

    /// Whether something carries the session now.
    pub fn is_carried(&self) -> bool {
        self.state.borrow().carrier.is_some()
    }

    /// Whether it is known who the client is.
    pub fn is_admitted(&self) -> bool {
        self.state.borrow().client == Client::Admitted
    }

    /// Gives the carrier frames, as many as may be under way to it at once. Says whether that is all there are.
    fn give(&self, state: &mut State, queue: &mut FrameQueue) {
        let State { carrier: Some(carrier), kept, given, ending, .. } = state else { return };
        while carrier.wire.bytes() < self.kept_bytes_max {
            let frame = match kept.get(*given) {
                Some(frame) => frame.clone(),
                None => {
                    let Some(frame) = queue.pop() else { break };
                    let (kind, care) = (self.describe)(&frame);
                    if care == Care::Once {
                        carrier.wire.push(carrier.link.frame(kind.message(frame)));
                        continue;
                    }
                    kept.push_back(frame.clone());
                    state.kept_bytes += frame.len();
                    while state.kept_bytes > self.kept_bytes_max
                        && *given > 0
                        && let Some(oldest) = kept.pop_front()
                    {
                        state.kept_bytes -= oldest.len();
                        state.before += 1;
                        *given -= 1;
                    }
                    frame
                }
            };
            *given += 1;
            let (kind, _) = (self.describe)(&frame);
            carrier.wire.push(carrier.link.frame(kind.message(frame)));
        }
        if let Some(ending) = ending
            && ending.said == Said::No
            && queue.is_empty()
            && *given == kept.len()
        {
            ending.said = Said::Yes;
            if let Some(farewell) = carrier.link.farewell(ending.reason, &ending.detail) {
                carrier.wire.push(farewell);
            }
        }
    }
}

/// Whether a carrier that is gone was the one that carried the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Released {
    /// It was: nothing carries it now.
    Last,
    /// The same, and the session was closed, but its last word has not gone out: whoever comes in time gets it.
    Owing,
    /// Another had taken its place.
    Former,
}

impl State {
    /// How many frames a client has got that says it has `after`, when `given` of those that are kept were given to it.
    fn check(&self, after: u64, given: usize) -> Result<u64, CountError> {
        let sent = self.before + given as u64;
        match after.max(self.acknowledged) {
            after if after < self.before => Err(CountError::Lost),
            after if after > sent => Err(CountError::Ahead { sent }),
            after => Ok(after),
        }
    }

    /// The client has got `after` frames: they need not be kept.
    fn forget(&mut self, after: u64) {
        self.acknowledged = after;
        while self.before < after
            && let Some(frame) = self.kept.pop_front()
        {
            self.kept_bytes -= frame.len();
            self.before += 1;
            self.given = self.given.saturating_sub(1);
        }
        if self.kept.is_empty() {
            // Nearly always nothing is kept, and then it takes no memory either.
            self.kept = VecDeque::new();
        }
    }
}

impl Link for MovableLink {
    fn frame(&self, message: Message) -> Bytes {
        let (Message::Text(bytes) | Message::Binary(bytes)) = message;
        bytes
    }

    fn heartbeat(&self) -> Heartbeat {
        let nothing = Bytes::new();
        let Some(carrier) = &mut self.state.borrow_mut().carrier else { return Heartbeat::Comment(nothing) };
        let mut push = |bytes: Bytes| {
            if !bytes.is_empty() {
                carrier.wire.push(bytes);
            }
        };
        match carrier.link.heartbeat() {
            Heartbeat::Ping(bytes) => {
                push(bytes);
                Heartbeat::Ping(nothing)
            }
            Heartbeat::Comment(bytes) => {
                push(bytes);
                Heartbeat::Comment(nothing)
            }
        }
    }

    fn write(&self, queue: &mut FrameQueue) -> Written {
        let state = &mut *self.state.borrow_mut();
        loop {
            self.give(state, queue);
            let Some(carrier) = &mut state.carrier else { return Written::Away };
            match carrier.link.write(&mut carrier.wire) {
                Written::All if queue.is_empty() && state.given == state.kept.len() => return Written::All,
                Written::All => {}
                Written::Blocked => return Written::Blocked,
                Written::Dead | Written::Away => {
                    if !carrier.wire.is_empty()
                        && let Some(ending) = &mut state.ending
                    {
                        ending.said = Said::No;
                    }
                    state.carrier = None;
                    return Written::Away;
                }
            }
        }
    }

    fn farewell(&self, reason: &'static CloseReason, detail: &str) -> Option<Bytes> {
        self.state.borrow_mut().ending = Some(Ending { reason, detail: detail.into(), said: Said::No });
        None
    }

    fn abort(&self) {
        if let Some(carrier) = &self.state.borrow().carrier {
            carrier.link.abort();
        }
    }

    fn admitted(&self) {
        let state = &mut *self.state.borrow_mut();
        state.client = Client::Admitted;
        if let Some(carrier) = &state.carrier {
            carrier.link.admitted();
        }
    }

    fn unsent_bytes(&self) -> usize {
        let state = self.state.borrow();
        let waiting = state.kept.range(state.given..).map(Bytes::len).sum::<usize>();
        waiting + state.carrier.as_ref().map_or(0, |carrier| carrier.wire.bytes())
    }

    fn kept_bytes(&self) -> usize {
        let state = self.state.borrow();
        state.kept_bytes + state.carrier.as_ref().map_or(0, |carrier| carrier.wire.bytes())
    }
}

#[cfg(test)]
mod tests;
