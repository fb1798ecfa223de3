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
        let link = MovableLink::new(|_| (Kind::Text, Care::Kept), kept_bytes_max, Box::new(()));
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
    let link = MovableLink::new(|_| (Kind::Text, Care::Kept), 64, Box::new(()));
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
    let link = MovableLink::new(|_| (Kind::Text, Care::Kept), 64, Box::new(()));
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

#[test]
fn a_farewell_that_no_transport_took_is_owed_to_whoever_comes_next() {
    for reason in [&CloseReason::RESTART, &CloseReason::GOING_AWAY] {
        let link = MovableLink::new(|_| (Kind::Text, Care::Kept), 64, Box::new(()));
        let mut outbox = FrameQueue::default();
        let attach = || {
            let wire = Rc::new(Wire::default());
            let turn = link.attach(wire.clone(), Visit::Once, 0, None).expect("nothing is lost");
            (wire, turn)
        };
        // It has brought something and is about to end when the session is closed, or it breaks off.
        let (wire, turn) = attach();
        outbox.push(Bytes::from_static(b"closing"));
        link.farewell(reason, "");
        let owed = if *reason == CloseReason::GOING_AWAY { Released::Last } else { Released::Owing };
        assert_eq!(link.release(turn), owed);
        let (broken, turn) = attach();
        broken.abort();
        assert_eq!((link.write(&mut outbox), link.release(turn)), (Written::Away, owed));
        let (next, turn) = attach();
        next.room.set(9);
        assert_eq!((link.write(&mut outbox), link.release(turn)), (Written::All, Released::Last));
        assert_eq!(*next.taken.borrow(), [&b"closing"[..], b"bye"]);
        assert_eq!(wire.taken.borrow().len(), 0);
    }
}
