//! The smallest protocol: every message comes back. For connectivity checks, conformance suites and benchmarks.

use bytes::Bytes;
use duplex_core::{Answer, Command, Frame, Message, Protocol, Step, Steps, Ticket};

/// Sends back what it receives.
#[derive(Debug, Default)]
pub struct Echo;

impl Protocol for Echo {
    fn open(&mut self, steps: &mut Steps) {
        steps.push_back(Step::Ask(Ticket::OWN, Command::Connect { token: None, hello: None }));
    }

    fn receive(&mut self, frame: Frame<'_>, steps: &mut Steps) {
        steps.push_back(Step::Send(match frame {
            Frame::Text(text) => Message::Text(Bytes::copy_from_slice(text.as_bytes())),
            Frame::Binary(bytes) => Message::Binary(Bytes::copy_from_slice(bytes)),
        }));
    }

    fn answer(&mut self, _: Ticket, _: Answer, _: &mut Steps) {}
}
