//! Server-Sent Events for a bare `EventSource` (HTML Standard, 9.2): the channels are in the address, publications come
//! as events, nothing goes up.

use bytes::Bytes;
use duplex_core::{
    Answer, Change, ChannelName, Closing, Command, Encode, Epoch, Frame, Message, Position, PresenceChange,
    Protocol, Publication, Return, Step, Steps, Ticket,
};

use crate::publication::{Standing, write_json, write_publication, write_text};

/// How long an `EventSource` waits before it reconnects, ms.
const RETRY_MS: u32 = 2_000;

/// The same after it was told to stay away, ms.
const RETRY_LATER_MS: u32 = 300_000;

/// One `EventSource`.
#[derive(Debug)]
pub struct EventSource {
    channels: Vec<ChannelName>,
    /// What it has seen last. `Some(None)` is an id that this server did not give out.
    seen: Option<Option<(ChannelName, Position)>>,
}

impl EventSource {
    /// Subscribes to `channels`, and to those in its token. `last_event_id` is what the `EventSource` saw last, if it comes
    /// back: the channel named in it is recovered; for the others the client is told that they start fresh.
    pub fn new(channels: Vec<ChannelName>, last_event_id: Option<&str>) -> Self {
        Self { channels, seen: last_event_id.map(parse_id) }
    }

    fn since(&self, channel: &ChannelName) -> Option<Position> {
        // A cursor that says nothing about a channel asks for more than any history has, and so is told "not recovered".
        const NOWHERE: Position = Position { epoch: Epoch::NONE, offset: u64::MAX };
        match &self.seen {
            None => None,
            Some(Some((name, position))) if name == channel => Some(*position),
            Some(_) => Some(NOWHERE),
        }
    }

    fn subscribe(&mut self, join: Vec<ChannelName>, steps: &mut Steps) {
        let mut channels = std::mem::take(&mut self.channels);
        for channel in join {
            if !channels.contains(&channel) {
                channels.push(channel);
            }
        }
        for channel in channels {
            let since = self.since(&channel);
            steps.push_back(Step::Ask(Ticket::OWN, Command::subscribe(channel, since)));
        }
        self.seen = None;
    }
}

impl Protocol for EventSource {
    fn open(&mut self, steps: &mut Steps) {
        let retry = Bytes::from(format!("retry: {RETRY_MS}\n\n"));
        steps.push_back(Step::Send(Message::Text(retry)));
        steps.push_back(Step::Ask(Ticket::OWN, Command::Connect { token: None, hello: None }));
    }

    fn receive(&mut self, _: Frame<'_>, _: &mut Steps) {}

    fn answer(&mut self, _: Ticket, answer: Answer, steps: &mut Steps) {
        let mut out = Vec::new();
        match answer {
            Answer::Subscribed { channel, position, recovered } => {
                out.extend_from_slice(b"event: $subscribed\ndata: ");
                write_json(&Standing::new(&channel, position, recovered), &mut out);
            }
            Answer::Refused(refusal) => {
                out.extend_from_slice(b"event: $refused\ndata: ");
                write_text(format_args!(r#"{{"code":{},"message":"#, refusal.code as u16), &mut out);
                write_json(&refusal.message, &mut out);
                out.push(b'}');
            }
            Answer::Connected { join, .. } => return self.subscribe(join, steps),
            // It never asks for the others.
            Answer::Recovered { .. }
            | Answer::Refreshed { .. }
            | Answer::Unsubscribed { .. }
            | Answer::Published { .. }
            | Answer::Present { .. }
            | Answer::Counted { .. }
            | Answer::Called { .. }
            | Answer::Told { .. }
            | Answer::History { .. } => return,
        }
        out.extend_from_slice(b"\n\n");
        steps.push_back(Step::Send(Message::Text(Bytes::from(out))));
    }

    fn closing(&mut self, closing: &Closing<'_>, steps: &mut Steps) {
        let Closing { reason, after_ms, .. } = *closing;
        // An EventSource comes back whatever happens; all that can be said is when.
        let after_ms = after_ms.or((reason.then == Return::Stay).then_some(RETRY_LATER_MS));
        let Some(after_ms) = after_ms else { return };
        let code = reason.code;
        let mut out = Vec::new();
        write_text(
            format_args!("retry: {after_ms}\nevent: $closing\ndata: {{\"code\":{code},\"message\":"),
            &mut out,
        );
        write_json(reason.sentence, &mut out);
        out.extend_from_slice(b"}\n\n");
        steps.push_back(Step::Send(Message::Text(Bytes::from(out))));
    }
}

/// Publications as events. Names hold no control characters, so only the payload can bring line breaks.
#[derive(Debug)]
pub struct Events;

impl Encode for Events {
    fn publication(&self, publication: &Publication) -> Bytes {
        let Publication { position, draft, .. } = publication;
        let mut object = Vec::new();
        write_publication(publication, &mut object);
        let mut out = Vec::with_capacity(object.len() + 96);
        write_text(
            format_args!("id: {}:{}:{}\n", position.epoch, position.offset, &*draft.channel),
            &mut out,
        );
        if !draft.event.is_default() {
            write_text(format_args!("event: {}\n", &*draft.event), &mut out);
        }
        // A line of data ends at CR, LF or CRLF; in JSON they can only be white space between tokens.
        for line in object.split(|byte| matches!(byte, b'\r' | b'\n')) {
            out.extend_from_slice(b"data: ");
            out.extend_from_slice(line);
            out.push(b'\n');
        }
        out.push(b'\n');
        Bytes::from(out)
    }

    fn presence(&self, change: &PresenceChange) -> Bytes {
        let event: &[u8] = match change.change {
            Change::Joined => b"event: $joined\ndata: ",
            Change::Left => b"event: $left\ndata: ",
        };
        // Info passes through as the token had it, and may have line breaks between its tokens.
        let body = crate::presence_change(change).into_iter().map(|byte| match byte {
            b'\r' | b'\n' => b' ',
            byte => byte,
        });
        Bytes::from_iter(event.iter().copied().chain(body).chain(*b"\n\n"))
    }
}

/// Reads an `id:` as [`Events`] writes it. It comes from outside, so anything may be in it.
fn parse_id(id: &str) -> Option<(ChannelName, Position)> {
    let (epoch, rest) = id.split_once(':')?;
    let (offset, channel) = rest.split_once(':')?;
    let position = Position { epoch: Epoch::parse(epoch)?, offset: offset.parse().ok()? };
    Some((ChannelName::parse(channel).ok()?, position))
}

#[cfg(test)]
mod tests {
    use super::*;
    use duplex_core::{Draft, EventName, Json, Payload, Tags};

    fn name(channel: &str) -> ChannelName {
        ChannelName::parse(channel).unwrap()
    }

    fn event(channel: &str, event: &str, data: &str) -> String {
        let publication = Publication {
            position: Position { epoch: Epoch::parse("ab").unwrap(), offset: 7 },
            order: 0,
            draft: Draft {
                channel: name(channel),
                event: EventName::parse(event).unwrap(),
                payload: Payload::Data(Json::check(serde_json::from_str(data).unwrap()).unwrap()),
                tags: Tags::default(),
                client: None,
                time_ms: 9,
                key: None,
                audience: Default::default(),
            },
        };
        String::from_utf8(Events.publication(&publication).to_vec()).unwrap()
    }

    #[test]
    fn a_publication_is_one_event_with_its_position_as_id() {
        assert_eq!(
            event("news", "message", r#""hi""#),
            "id: ab:7:news\ndata: {\"channel\":\"news\",\"epoch\":\"ab\",\"offset\":7,\"event\":\"message\",\"data\":\"hi\",\"time\":9}\n\n"
        );
        assert!(event("a:b", "headline", "1").starts_with("id: ab:7:a:b\nevent: headline\ndata: "));
    }

    #[test]
    fn line_breaks_in_a_payload_never_forge_a_field() {
        let text = event("news", "message", "{\"a\":\r\n1,\n\"b\"\r:2}");
        assert!(text.lines().all(|line| ["", "id: ", "data: "].iter().any(|start| line.starts_with(start))));
        assert_eq!(text.matches("\n\n").count(), 1);
        assert!(!text.contains('\r'));
    }

    #[test]
    fn a_cursor_counts_for_its_own_channel_and_the_others_start_fresh() {
        let since = |id| {
            let source = EventSource::new(Vec::new(), id);
            ["a:b", "c"].map(|channel| source.since(&name(channel)).map(|since| since.offset))
        };
        assert_eq!(since(None), [None, None]);
        assert_eq!(since(Some("ab:7:a:b")), [Some(7), Some(u64::MAX)]);
        for forged in ["", "x", "ab:7", "ab:-1:c", "zz:1:c", "ab:1:\n"] {
            assert_eq!(since(Some(forged)), [Some(u64::MAX), Some(u64::MAX)], "{forged:?}");
        }
    }

    #[test]
    fn channels_of_the_address_and_of_the_token_are_subscribed_to_once() {
        let mut source = EventSource::new(vec![name("a"), name("b")], None);
        let join = vec![name("b"), name("c")];
        let client = duplex_core::ClientId::from_random([0; 16]);
        let mut steps = Steps::new();
        let connected = Answer::Connected { client, user: None, expires_in_ms: None, join };
        source.answer(Ticket::OWN, connected, &mut steps);
        let asked = steps.iter().map(|step| match step {
            Step::Ask(_, Command::Subscribe { channel, .. }) => &**channel,
            other => panic!("{other:?}"),
        });
        assert_eq!(asked.collect::<Vec<_>>(), ["a", "b", "c"]);
    }
}
