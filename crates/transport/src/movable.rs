//! A session that any transport may carry, one at a time: its frames are counted, and kept until it is known that they
//! have arrived, so that another transport can go on where the one before broke off.

use std::any::Any;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use duplex_core::{CloseReason, FrameQueue, Heartbeat, Link, Message, Written};

/// What a session's frames are, whatever carries them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    Text,
    Binary,
}

/// The link of such a session. Bytes in its queue are bare frames, one in each piece.
pub struct MovableLink {
    kind: Kind,
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
    /// A link without a carrier. Frames that may not have arrived are kept up to `kept_bytes_max`, and one at least. `guard`
    /// is dropped with it, when the session is over.
    pub fn new(kind: Kind, kept_bytes_max: usize, guard: Box<dyn Any>) -> Rc<Self> {
        Rc::new(Self { kind, kept_bytes_max, state: RefCell::default(), _guard: guard })
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
                Released::Last
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

    fn message(&self, bytes: Bytes) -> Message {
        match self.kind {
            Kind::Text => Message::Text(bytes),
            Kind::Binary => Message::Binary(bytes),
        }
    }

    /// Gives the carrier frames, as many as may be under way to it at once. Says whether that is all there are.
    fn give(&self, state: &mut State, queue: &mut FrameQueue) {
        let State { carrier: Some(carrier), kept, given, ending, .. } = state else { return };
        while carrier.wire.bytes() < self.kept_bytes_max {
            let frame = match kept.get(*given) {
                Some(frame) => frame.clone(),
                None => {
                    let Some(frame) = queue.pop() else { break };
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
            carrier.wire.push(carrier.link.frame(self.message(frame)));
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
mod tests {
    use std::cell::Cell;

    use super::*;

    /// A transport that takes as much as it is allowed, and then breaks off or goes on.
    #[derive(Default)]
    struct Wire {
        room: Cell<usize>,
        broken: Cell<bool>,
        taken: RefCell<Vec<Bytes>>,
    }

    impl Link for Wire {
        fn frame(&self, message: Message) -> Bytes {
            let (Message::Text(bytes) | Message::Binary(bytes)) = message;
            bytes
        }

        fn heartbeat(&self) -> Heartbeat {
            Heartbeat::Comment(Bytes::from_static(b"beat"))
        }

        fn write(&self, queue: &mut FrameQueue) -> Written {
            while !queue.is_empty() {
                if self.broken.get() {
                    return Written::Dead;
                }
                if self.room.get() == 0 {
                    return Written::Blocked;
                }
                self.room.set(self.room.get() - 1);
                self.taken.borrow_mut().extend(queue.pop());
            }
            Written::All
        }

        fn farewell(&self, _: &'static CloseReason, _: &str) -> Option<Bytes> {
            Some(Bytes::from_static(b"bye"))
        }

        fn abort(&self) {
            self.broken.set(true);
        }
    }

    /// What a server and a client do with a session in which the server sends 0, 1, 2, …
    struct Play {
        link: Rc<MovableLink>,
        outbox: FrameQueue,
        wire: Rc<Wire>,
        /// Frames the server has sent, and what the client has seen of them.
        sent: u64,
        seen: Vec<u64>,
        dice: u64,
    }

    impl Play {
        fn new(seed: u64, kept_bytes_max: usize) -> Self {
            let link = MovableLink::new(Kind::Text, kept_bytes_max, Box::new(()));
            let (outbox, wire) = (FrameQueue::default(), Rc::new(Wire::default()));
            Self { link, outbox, wire, sent: 0, seen: Vec::new(), dice: seed }
        }

        fn roll(&mut self, sides: u64) -> u64 {
            self.dice = self.dice.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
            (self.dice >> 33) % sides
        }

        fn send(&mut self) {
            self.outbox.push(Bytes::from(format!("{:04}", self.sent)));
            self.sent += 1;
            self.link.write(&mut self.outbox);
        }

        /// The client reads what has come through, unless it is lost on the way.
        fn read(&mut self, arrives: usize) {
            let frames =
                self.wire.taken.take().into_iter().filter(|frame| !matches!(&frame[..], b"hi" | b"beat"));
            let numbers = frames.map(|frame| std::str::from_utf8(&frame).unwrap().parse::<u64>().unwrap());
            self.seen.extend(numbers.take(arrives));
        }

        /// What has arrived counts; the rest is lost with the connection.
        fn move_over(&mut self) -> Result<(), CountError> {
            let arrives = self.roll(4) as usize;
            self.read(arrives);
            let wire = Rc::new(Wire::default());
            self.link.attach(
                wire.clone(),
                Visit::Lasting,
                self.seen.len() as u64,
                Some(Bytes::from_static(b"hi")),
            )?;
            self.wire = wire;
            Ok(())
        }

        fn turn(&mut self) -> Result<(), CountError> {
            match self.roll(8) {
                0 => self.move_over()?,
                1 => self.wire.broken.set(true),
                2 => {
                    self.read(usize::MAX);
                    self.link.acknowledge(self.seen.len() as u64)?;
                }
                3 => drop(self.link.heartbeat()),
                4 | 5 => self.wire.room.set(self.wire.room.get() + 3),
                _ => self.send(),
            }
            self.link.write(&mut self.outbox);
            Ok(())
        }

        /// The network is good again: all that was sent must be there.
        fn finish(&mut self) -> Result<(), CountError> {
            self.move_over()?;
            self.wire.room.set(usize::MAX);
            assert_eq!(self.link.write(&mut self.outbox), Written::All);
            self.read(usize::MAX);
            Ok(())
        }
    }

    #[test]
    fn each_frame_is_seen_once_and_in_order_however_often_the_transport_changes() {
        for seed in 0..2_000 {
            let mut play = Play::new(seed, 1 << 20);
            (0..60).try_for_each(|_| play.turn()).and_then(|()| play.finish()).expect("all is kept");
            assert_eq!(play.seen, (0..play.sent).collect::<Vec<_>>(), "seed {seed}");
            play.link.acknowledge(play.sent).expect("all was seen");
            assert_eq!(play.link.kept_bytes(), 0, "seed {seed}");
        }
    }

    #[test]
    fn frames_that_are_no_longer_kept_are_a_clear_no_and_never_a_gap() {
        let mut lost = 0;
        for seed in 0..2_000 {
            let mut play = Play::new(seed, 12);
            let outcome = (0..60).try_for_each(|_| play.turn()).and_then(|()| play.finish());
            let whole = match outcome {
                Ok(()) => play.sent,
                Err(CountError::Lost) => play.seen.len() as u64,
                Err(ahead) => panic!("seed {seed}: {ahead:?}"),
            };
            lost += usize::from(outcome.is_err());
            assert_eq!(play.seen, (0..whole).collect::<Vec<_>>(), "seed {seed}");
        }
        assert!((100..1_900).contains(&lost), "{lost} of 2,000 plays lost something");
    }

    #[test]
    fn a_request_that_was_overtaken_by_a_better_count_goes_on_from_there() {
        let mut play = Play::new(0, 1 << 20);
        play.move_over().expect("it begins");
        play.wire.room.set(9);
        (0..5).for_each(|_| play.send());
        play.link.acknowledge(3).expect("five were given");
        play.link.acknowledge(1).expect("it was only slower");
        assert_eq!(play.link.check(1), Ok(3));
        assert_eq!(play.link.check(4), Ok(4));
        assert_eq!(play.link.check(6), Err(CountError::Ahead { sent: 5 }));
        assert_eq!(play.link.acknowledge(6), Err(CountError::Ahead { sent: 5 }));
    }

    #[test]
    fn what_was_got_from_the_carrier_before_may_be_said_and_comes_again() {
        let mut play = Play::new(0, 1 << 20);
        play.move_over().expect("it begins");
        play.wire.room.set(9);
        (0..5).for_each(|_| play.send());
        play.wire.taken.take();
        play.move_over().expect("none of it had arrived then");
        assert_eq!(play.link.acknowledge(5), Ok(()));
        play.finish().expect("nothing was forgotten");
        assert_eq!(play.seen, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn messages_that_come_again_or_too_early_are_told_apart() {
        let link = MovableLink::new(Kind::Text, 64, Box::new(()));
        assert_eq!(link.arrive(Some(1)), Arrival::Next);
        assert_eq!(link.arrive(Some(1)), Arrival::Again);
        assert_eq!(link.arrive(Some(0)), Arrival::Again);
        assert_eq!(link.arrive(Some(3)), Arrival::Early { received: 1 });
        assert_eq!(link.arrive(Some(u64::MAX)), Arrival::Early { received: 1 });
        assert_eq!(link.arrive(None), Arrival::Next);
        assert_eq!((link.arrive(Some(2)), link.received()), (Arrival::Again, 2));
    }

    #[test]
    fn a_farewell_is_said_again_on_a_transport_that_comes_after_it() {
        let link = MovableLink::new(Kind::Text, 64, Box::new(()));
        let mut outbox = FrameQueue::default();
        outbox.push(Bytes::from_static(b"closing"));
        assert_eq!(link.farewell(&CloseReason::RESTART, ""), None);
        for _ in 0..2 {
            let wire = Rc::new(Wire::default());
            wire.room.set(9);
            link.attach(wire.clone(), Visit::Lasting, 0, None).expect("nothing is lost");
            assert_eq!(link.write(&mut outbox), Written::All);
            assert_eq!(*wire.taken.borrow(), [&b"closing"[..], b"bye"]);
        }
    }
}
