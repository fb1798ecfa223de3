use std::ops::Range;

use crate::head::{HEAD_BYTES_MAX, Head, Opcode, Part};
use crate::{CloseCode, Inflater, Limits, Violation, mask};

/// Which side of the connection we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// We serve: every frame we get must be masked (RFC 6455, 5.1).
    Server,
    /// We called: no frame we get may be masked (RFC 6455, 5.1).
    Client,
}

/// What the opening handshake agreed on about compression (RFC 7692).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Nothing: RSV1 is a violation.
    Off,
    /// `permessage-deflate`, without context takeover in the direction we receive.
    PerMessage,
}

/// One thing the peer said, whole and checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A text message (RFC 6455, 5.6).
    Text(&'a str),
    /// A binary message (RFC 6455, 5.6).
    Binary(&'a [u8]),
    /// Answer it with a pong of the same payload, at most 125 bytes (RFC 6455, 5.5.2).
    Ping(&'a [u8]),
    /// An answer to our ping, or unasked for and then meaningless (RFC 6455, 5.5.3).
    Pong(&'a [u8]),
    /// The peer sends nothing more (RFC 6455, 5.5.1); what still arrives is ignored.
    Close(Option<CloseCode>, &'a str),
}

/// Turns received bytes into [`Event`]s; one per connection.
///
/// Small on purpose, and without heap between messages: an idle connection costs 48 bytes here.
///
/// Invariant: `pending` exists only while a frame or a message is unfinished.
#[derive(Debug)]
pub struct Decoder {
    pending: Option<Box<Pending>>,
    ended: Ended,
    control_spent: u16,
    role: Role,
    compression: Compression,
    head_bytes: u8,
    head: [u8; HEAD_BYTES_MAX],
}

impl Decoder {
    /// A decoder for a connection whose handshake is done.
    pub fn new(role: Role, compression: Compression) -> Self {
        Self {
            pending: None,
            ended: Ended::No,
            control_spent: 0,
            role,
            compression,
            head_bytes: 0,
            head: [0; HEAD_BYTES_MAX],
        }
    }

    /// Consumes a prefix of `input`, unmasking in place; returns how many bytes it took and the event they completed.
    ///
    /// Call again with the rest until all is consumed: without an event, all of it was. A message that lies whole
    /// and uncompressed in `input` is borrowed from it; otherwise it is assembled, and `inflater` keeps it until the
    /// next call. After a close frame everything is consumed and ignored (RFC 6455, 5.5.1).
    ///
    /// # Errors
    /// The peer broke a rule. The connection is over: every further call returns the same violation.
    pub fn decode<'a>(
        &mut self,
        input: &'a mut [u8],
        limits: &Limits,
        inflater: &'a mut Inflater,
    ) -> Result<(usize, Option<Event<'a>>), Violation> {
        match self.ended {
            Ended::No => {}
            Ended::Closed => return Ok((input.len(), None)),
            Ended::Violated(violation) => return Err(violation),
        }
        let outcome = self.next(input, limits, inflater);
        match outcome {
            Ok((_, Some(Event::Close(..)))) => self.end(Ended::Closed),
            Ok(_) => {}
            Err(violation) => self.end(Ended::Violated(violation)),
        }
        outcome
    }

    /// Gives the peer its budget of control frames back. Call it once a second.
    pub fn replenish(&mut self) {
        self.control_spent = 0;
    }

    /// Whether a frame or a message has begun and is not complete. The caller bounds how long that may last.
    pub fn mid_message(&self) -> bool {
        self.pending.is_some() || self.head_bytes > 0
    }

    /// Payload bytes held for what is unfinished. At most twice as much is allocated.
    pub fn held_bytes(&self) -> usize {
        self.pending.as_ref().map_or(0, |pending| pending.held_bytes())
    }

    fn end(&mut self, ended: Ended) {
        self.ended = ended;
        self.pending = None;
        self.head_bytes = 0;
    }

    fn next<'a>(
        &mut self,
        input: &'a mut [u8],
        limits: &Limits,
        inflater: &'a mut Inflater,
    ) -> Result<(usize, Option<Event<'a>>), Violation> {
        inflater.release();
        let (used, complete) = self.advance(input, limits)?;
        let Some(complete) = complete else { return Ok((used, None)) };
        Ok((used, Some(complete.into_event(input, limits, inflater)?)))
    }

    /// Reads frames until one completes an event or `input` is used up.
    fn advance(&mut self, input: &mut [u8], limits: &Limits) -> Result<(usize, Option<Complete>), Violation> {
        let mut at = 0;
        loop {
            if !self.inside_frame() {
                let Some(head) = self.read_head(input, &mut at)? else { return Ok((at, None)) };
                let frame = self.admit(&head, limits)?;
                let end = at.saturating_add(frame.left);
                if let Part::Start(opcode) = frame.part
                    && frame.fin
                    && end <= input.len()
                {
                    // The whole event lies here: nothing needs to be kept.
                    mask::apply(&mut input[at..end], frame.key, 0);
                    let payload = Place::Input(at..end);
                    return Ok((end, Some(Complete { opcode, compressed: frame.compressed, payload })));
                }
                self.begin(frame);
            }
            let (used, progress) = self.receive(&mut input[at..])?;
            at += used;
            match progress {
                Progress::FrameUnfinished => return Ok((at, None)),
                Progress::MessageUnfinished => {}
                Progress::Complete(complete) => return Ok((at, Some(complete))),
            }
        }
    }

    fn inside_frame(&self) -> bool {
        self.pending.as_ref().is_some_and(|pending| pending.frame.is_some())
    }

    fn message(&self) -> Option<&Message> {
        self.pending.as_ref()?.message.as_ref()
    }

    /// Reads a head from what an earlier call left over and from `input`, moving `at` past it.
    fn read_head(&mut self, input: &[u8], at: &mut usize) -> Result<Option<Head>, Violation> {
        let kept = usize::from(self.head_bytes);
        let fresh = &input[*at..];
        let taken = fresh.len().min(HEAD_BYTES_MAX - kept);
        self.head[kept..kept + taken].copy_from_slice(&fresh[..taken]);
        let known = &self.head[..kept + taken];
        let Some((head, length)) = Head::read(known, self.role, self.compression)? else {
            // An incomplete head is shorter than the longest one, so all of the input was taken.
            self.head_bytes = (kept + taken) as u8;
            *at += taken;
            return Ok(None);
        };
        self.head_bytes = 0;
        *at += length - kept;
        Ok(Some(head))
    }

    /// Judges a frame by its head, before any of its payload is looked at.
    fn admit(&mut self, head: &Head, limits: &Limits) -> Result<Frame, Violation> {
        match (head.part, self.message()) {
            (Part::Start(Opcode::Close), _) => {}
            (Part::Start(Opcode::Ping | Opcode::Pong), _) => self.spend_control(limits)?,
            (Part::Continuation, None) => return Err(Violation::UnexpectedContinuation),
            (Part::Start(_), Some(_)) => return Err(Violation::ExpectedContinuation),
            (Part::Continuation, Some(message)) => message.admit(head, limits)?,
            (Part::Start(opcode), None) => Message::new(opcode, head.compressed).admit(head, limits)?,
        }
        // Admitted lengths are within a limit of type usize.
        let left = usize::try_from(head.length).unwrap_or(usize::MAX);
        let Head { part, fin, compressed, key, .. } = *head;
        Ok(Frame { part, fin, compressed, key, phase: 0, left })
    }

    fn spend_control(&mut self, limits: &Limits) -> Result<(), Violation> {
        if self.control_spent >= limits.control_frames {
            return Err(Violation::TooManyControlFrames { limit: limits.control_frames });
        }
        self.control_spent += 1;
        Ok(())
    }

    fn begin(&mut self, frame: Frame) {
        let pending = self.pending.get_or_insert_default();
        match frame.part {
            Part::Start(opcode) if !frame.part.is_control() => {
                pending.message.get_or_insert(Message::new(opcode, frame.compressed)).fragments = 1;
            }
            Part::Continuation => {
                if let Some(message) = &mut pending.message {
                    message.fragments += 1;
                }
            }
            Part::Start(_) => {}
        }
        pending.frame = Some(frame);
    }

    fn receive(&mut self, input: &mut [u8]) -> Result<(usize, Progress), Violation> {
        let Some(pending) = &mut self.pending else { return Ok((0, Progress::MessageUnfinished)) };
        let used = pending.take_payload(input)?;
        let progress = pending.progress()?;
        if pending.is_done() {
            self.pending = None;
        }
        Ok((used, progress))
    }
}

#[derive(Clone, Copy, Debug)]
enum Ended {
    No,
    Closed,
    Violated(Violation),
}

#[derive(Debug)]
enum Progress {
    FrameUnfinished,
    MessageUnfinished,
    Complete(Complete),
}

/// What is unfinished: at most one frame, inside or between the frames of at most one message.
#[derive(Debug, Default)]
struct Pending {
    frame: Option<Frame>,
    message: Option<Message>,
    control: Vec<u8>,
}

impl Pending {
    fn held_bytes(&self) -> usize {
        self.control.len() + self.message.as_ref().map_or(0, |message| message.payload.len())
    }

    fn is_done(&self) -> bool {
        self.frame.is_none() && self.message.is_none()
    }

    /// Takes what `input` has of the current frame.
    fn take_payload(&mut self, input: &mut [u8]) -> Result<usize, Violation> {
        let Some(frame) = &mut self.frame else { return Ok(0) };
        let taken = frame.left.min(input.len());
        let chunk = &mut input[..taken];
        mask::apply(chunk, frame.key, frame.phase);
        frame.phase = (frame.phase + taken) % 4;
        frame.left -= taken;
        match &mut self.message {
            Some(message) if !frame.part.is_control() => message.append(chunk)?,
            _ => self.control.extend_from_slice(chunk),
        }
        Ok(taken)
    }

    fn progress(&mut self) -> Result<Progress, Violation> {
        let Some(frame) = self.frame.take_if(|frame| frame.left == 0) else {
            return Ok(Progress::FrameUnfinished);
        };
        if let Part::Start(opcode @ (Opcode::Close | Opcode::Ping | Opcode::Pong)) = frame.part {
            let payload = Place::Held(std::mem::take(&mut self.control));
            return Ok(Progress::Complete(Complete { opcode, compressed: false, payload }));
        }
        match self.message.take_if(|_| frame.fin) {
            Some(message) => message.finish().map(Progress::Complete),
            None => Ok(Progress::MessageUnfinished),
        }
    }
}

/// The frame whose payload is arriving.
#[derive(Debug)]
struct Frame {
    part: Part,
    fin: bool,
    compressed: bool,
    key: [u8; 4],
    phase: usize,
    left: usize,
}

/// The message whose frames are arriving.
#[derive(Debug)]
struct Message {
    opcode: Opcode,
    compressed: bool,
    fragments: u32,
    payload: Vec<u8>,
    /// How much of the payload is known to be UTF-8; what follows is the start of one character, at most 3 bytes.
    checked: usize,
}

impl Message {
    fn new(opcode: Opcode, compressed: bool) -> Self {
        Self { opcode, compressed, fragments: 0, payload: Vec::new(), checked: 0 }
    }

    /// Whether one more frame of the declared length is within the limits.
    fn admit(&self, head: &Head, limits: &Limits) -> Result<(), Violation> {
        if self.fragments >= limits.fragments.max(1) {
            return Err(Violation::TooManyFragments { limit: limits.fragments });
        }
        let room = limits.wire_bytes(self.compressed).saturating_sub(self.payload.len());
        match usize::try_from(head.length) {
            Ok(length) if length <= room => Ok(()),
            _ => Err(Violation::MessageTooLarge { limit: limits.message_bytes }),
        }
    }

    fn append(&mut self, chunk: &[u8]) -> Result<(), Violation> {
        self.payload.extend_from_slice(chunk);
        if self.opcode == Opcode::Text && !self.compressed {
            self.check_text()?;
        }
        Ok(())
    }

    /// RFC 6455, 8.1: fail as soon as the bytes cannot become UTF-8 any more.
    fn check_text(&mut self) -> Result<(), Violation> {
        match simdutf8::compat::from_utf8(&self.payload[self.checked..]) {
            Ok(_) => self.checked = self.payload.len(),
            Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
            Err(_) => return Err(Violation::InvalidUtf8),
        }
        Ok(())
    }

    fn finish(self) -> Result<Complete, Violation> {
        let Self { opcode, compressed, payload, checked, .. } = self;
        if opcode == Opcode::Text && !compressed && checked < payload.len() {
            return Err(Violation::InvalidUtf8);
        }
        Ok(Complete { opcode, compressed, payload: Place::Held(payload) })
    }
}

/// A message or a control frame all of whose bytes have arrived.
#[derive(Debug)]
struct Complete {
    opcode: Opcode,
    compressed: bool,
    payload: Place,
}

#[derive(Debug)]
enum Place {
    Input(Range<usize>),
    Held(Vec<u8>),
}

impl Complete {
    fn into_event<'a>(
        self,
        input: &'a [u8],
        limits: &Limits,
        inflater: &'a mut Inflater,
    ) -> Result<Event<'a>, Violation> {
        let payload = match (self.payload, self.compressed) {
            (Place::Input(range), false) => &input[range],
            (Place::Held(payload), false) => inflater.hold(payload),
            (Place::Input(range), true) => inflater.inflate(&input[range], limits.message_bytes)?,
            (Place::Held(payload), true) => inflater.inflate(&payload, limits.message_bytes)?,
        };
        match self.opcode {
            Opcode::Text => text(payload).map(Event::Text),
            Opcode::Binary => Ok(Event::Binary(payload)),
            Opcode::Ping => Ok(Event::Ping(payload)),
            Opcode::Pong => Ok(Event::Pong(payload)),
            Opcode::Close => close(payload),
        }
    }
}

fn text(payload: &[u8]) -> Result<&str, Violation> {
    simdutf8::basic::from_utf8(payload).map_err(|_| Violation::InvalidUtf8)
}

/// RFC 6455, 5.5.1 and 7.4.
fn close(payload: &[u8]) -> Result<Event<'_>, Violation> {
    match payload {
        [] => Ok(Event::Close(None, "")),
        [_] => Err(Violation::CloseTooShort),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            let code = CloseCode::parse(code).ok_or(Violation::InvalidCloseCode { code })?;
            Ok(Event::Close(Some(code), text(reason)?))
        }
    }
}
