use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::conversation::Outgoing;
use crate::frame::{Frame, Kind};
use crate::{End, Transport};

use super::watch::{Then, Verdict, Watch};
use super::{Act, Line, Output, Posted, WRITES_MAX, Way, WireEvent, WireId};

const WIRE: WireId = 0;

/// A WebSocket with a conversation of its own.
#[derive(Debug)]
pub(crate) struct Direct {
    way: Way,
    first: Option<Outgoing>,
    watch: Watch,
    heard: Heard,
    writes: usize,
    outputs: VecDeque<Output>,
}

#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Nothing,
    Frames,
    /// Nothing matters any more.
    Over,
}

impl Direct {
    /// Opens a WebSocket, on which `first` is said first.
    pub fn new(way: Way, first: Outgoing, now: Instant) -> Self {
        let watch = Watch::new(way.open, Then::GiveUp, way.times.answer, now);
        let open = Act::OpenSocket { wire: WIRE, target: format!("/ws{}", way.query()) };
        let outputs = VecDeque::from([Output::Act(open)]);
        Self { way, first: Some(first), watch, heard: Heard::Nothing, writes: 0, outputs }
    }

    fn take(&mut self, frame: Frame, now: Instant) {
        self.heard = Heard::Frames;
        match frame.kind {
            Kind::Closing(end) => self.lose(end, Act::Close { wire: WIRE }),
            Kind::Connected(ref connected) => {
                let heartbeat = Duration::from_millis(connected.heartbeat_ms);
                self.watch.expect(heartbeat, Then::Ask, now);
                self.outputs.extend([Output::Carried(Transport::WebSocket), Output::Frame(frame)]);
            }
            _ => self.outputs.push_back(Output::Frame(frame)),
        }
    }

    fn lose(&mut self, end: End, farewell: Act) {
        self.outputs.push_back(Output::Act(farewell));
        // A server that says when to come back, or why it closes, was reached.
        let reached = self.heard == Heard::Frames || end.after.is_some() || (1007..5000).contains(&end.code);
        self.outputs.push_back(if reached { Output::Lost(end) } else { Output::Unreachable(end) });
        self.heard = Heard::Over;
    }
}

impl Line for Direct {
    fn writable(&self) -> bool {
        self.writes < WRITES_MAX
    }

    fn send(&mut self, message: Outgoing, _: Instant) {
        self.writes += 1;
        self.outputs.push_back(Output::Act(Act::Write { wire: WIRE, message: message.bytes }));
    }

    fn wire(&mut self, _: WireId, event: WireEvent, now: Instant, _: u32) {
        if self.heard == Heard::Over {
            return;
        }
        match event {
            WireEvent::Opened => {
                self.watch.expect(self.way.times.answer, Then::GiveUp, now);
                if let Some(first) = self.first.take() {
                    self.send(first, now);
                }
            }
            WireEvent::Heard => self.watch.heard(now),
            WireEvent::Written => self.writes = self.writes.saturating_sub(1),
            WireEvent::Frame(frame, _) => {
                self.watch.heard(now);
                self.take(frame, now);
            }
            WireEvent::Ended(end) => self.lose(end, Act::Drop { wire: WIRE }),
        }
    }

    fn posted(&mut self, _: Posted, _: Instant, _: u32) {}

    fn deadline(&self) -> Option<Instant> {
        (self.heard != Heard::Over).then(|| self.watch.deadline())
    }

    fn timeout(&mut self, now: Instant, _: u32) {
        if self.heard == Heard::Over {
            return;
        }
        match self.watch.timeout(now) {
            Verdict::Fine => {}
            Verdict::Ask => self.outputs.push_back(Output::Quiet),
            Verdict::Dead => self.lose(End::broken("the server was silent"), Act::Drop { wire: WIRE }),
        }
    }

    fn close(&mut self) {
        self.heard = Heard::Over;
        self.outputs.push_back(Output::Act(Act::Close { wire: WIRE }));
    }

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
}
