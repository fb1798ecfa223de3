//! Stories of a client that looks for a way to its server, with wires that are not there and a clock of their own.

use bytes::Bytes;

use super::*;
use crate::frame::Kind;
use crate::line::PostAnswer;
use crate::options::Token;

struct Play {
    connector: Connector,
    start: Instant,
    now: Instant,
}

impl Play {
    fn new(options: &Options) -> Self {
        let start = Instant::now();
        Self { connector: Connector::new(options), start, now: start }
    }

    /// Plays a story: what happens, and what the client does then.
    fn story(&mut self, lines: &[(&str, &str)]) {
        for (happens, expected) in lines {
            self.happen(happens);
            let at = self.now.duration_since(self.start);
            assert_eq!(self.steps(), *expected, "{happens} (at {at:?})");
        }
    }

    /// `begin`; `dial`, with a token; `open WIRE`; `WIRE: FRAME`; `end WIRE CODE`; `post STATUS BODY`, `post lost`; `wait MS`, in
    /// steps of what is due; `send ID`; `refuse CODE`; `close`.
    fn happen(&mut self, line: &str) {
        let (turn, now) = (self.connector.turn, self.now);
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let mut numbers = rest.split(' ').map_while(|word| word.parse::<u32>().ok());
        let mut number = || numbers.next().unwrap();
        let connector = &mut self.connector;
        match verb {
            "begin" => connector.begin(),
            "dial" => connector.dial(Outgoing { first_id: 1, bytes: Bytes::from_static(b"hi") }, now),
            "open" => connector.wire(turn, number(), WireEvent::Opened, now, u32::MAX),
            "heard" => connector.wire(turn, number(), WireEvent::Heard, now, u32::MAX),
            "end" => {
                let (wire, code) = (number(), number() as u16);
                let after = numbers.next().map(|ms| Duration::from_millis(ms.into()));
                let end = End { after, ..End::new(code, "x") };
                connector.wire(turn, wire, WireEvent::Ended(end), now, u32::MAX);
            }
            "post" => connector.posted(turn, posted(rest), now, u32::MAX),
            "send" => {
                let id = number();
                connector.send(Outgoing { first_id: id.into(), bytes: Bytes::from(id.to_string()) }, now);
            }
            "wait" => self.wait(number()),
            "refuse" => connector.abandon(End::new(number() as u16, "x"), now, u32::MAX),
            "close" => connector.close(now),
            wire => {
                let wire = wire.trim_end_matches(':').parse().unwrap();
                let frame = Frame::read(rest).unwrap();
                connector.wire(turn, wire, WireEvent::Frame(frame, rest.len()), now, u32::MAX);
            }
        }
    }

    fn wait(&mut self, ms: u32) {
        let until = self.now + Duration::from_millis(ms.into());
        while let Some(due) = self.connector.deadline().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.connector.timeout(self.now, u32::MAX);
        }
        self.now = until;
        self.connector.timeout(self.now, u32::MAX);
    }

    fn steps(&mut self) -> String {
        let mut shown = Vec::new();
        while let Some(step) = self.connector.poll() {
            if let Step::Frame(Frame { kind: Kind::Connected(connected), .. }) = step {
                self.connector.greet(connected, self.now);
            } else {
                shown.push(show(step));
            }
        }
        shown.join(", ")
    }
}

fn posted(answer: &str) -> Posted {
    let Some((status, body)) = answer.split_once(' ') else {
        let status = answer.parse().map_err(|_| answer.to_owned())?;
        return Ok(PostAnswer { status, after: None, body: Bytes::new() });
    };
    Ok(PostAnswer { status: status.parse().unwrap(), after: None, body: Bytes::from(body.to_owned()) })
}

fn show(step: Step) -> String {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    match step {
        Step::Token { reason, .. } => format!("token {reason:?}"),
        Step::Act(_, Act::OpenSocket { wire, target }) => format!("{wire} socket {target}"),
        Step::Act(_, Act::OpenResponse { wire, target, .. }) => format!("{wire} get {target}"),
        Step::Act(_, Act::Write { wire, message }) => format!("{wire} write {}", text(&message)),
        Step::Act(_, Act::Close { wire }) => format!("{wire} close"),
        Step::Act(_, Act::Drop { wire }) => format!("{wire} drop"),
        Step::Act(_, Act::Post { target, body }) => format!("post {target} {}", text(&body)),
        Step::Act(_, Act::Farewell { target }) => format!("farewell {target}"),
        Step::Frame(frame) => format!("frame {}", frame.id.unwrap_or_default()),
        Step::Quiet => "quiet".to_owned(),
        Step::Lost(end) => format!("lost {}", end.code),
        Step::Tell(ClientEvent::Connected { transport, .. }) => format!("connected {transport}"),
        Step::Tell(ClientEvent::Transport(transport)) => format!("moved {transport}"),
        Step::Tell(ClientEvent::Disconnected { after, .. }) => format!("again in {}", after.as_millis()),
        Step::Tell(event) => format!("{event:?}"),
        Step::Closed(end) => format!("closed {}", end.code),
    }
}

const CONNECTED: &str =
    r#"{"id":1,"connected":{"client":"c","heartbeat_ms":25000,"message_bytes_max":65536}}"#;
const OPENED: &str = r#"post 200 {"session":"S","linger_ms":30000}"#;

fn attached(wire: u32, after: u64, received: u64) -> String {
    format!(r#"{wire}: {{"attached":{{"after":{after},"received":{received}}}}}"#)
}

fn connected(wire: u32) -> String {
    format!("{wire}: {CONNECTED}")
}

fn renewable() -> Options {
    Options { token: Token::ask(|_| async { Ok(String::new()) }), ..Options::default() }
}

#[test]
fn a_websocket_is_tried_first_and_comes_back() {
    Play::new(&Options::default()).story(&[
        ("begin", "token Connect"),
        ("dial", "0 socket /ws"),
        ("open 0", "0 write hi"),
        (&connected(0), "connected websocket"),
        ("send 2", "0 write 2"),
        // A ping is asked for after the heartbeat, and whoever does not answer is dead.
        ("wait 24999", ""),
        ("heard 0", ""),
        ("wait 25000", "quiet"),
        ("wait 9999", ""),
        ("wait 1", "0 drop, lost 1006, again in 500"),
        ("wait 500", "token Connect"),
        ("dial", "0 socket /ws?returning=true"),
        // It opened here before: it is waited for a while longer.
        ("end 0 1006", "0 drop, lost 1006, again in 1000"),
        ("wait 1000", "token Connect"),
        ("dial", "0 socket /ws?returning=true"),
        ("end 0 1006", "0 drop, post /session?returning=true hi"),
        ("close", "lost 1000, closed 1000"),
    ]);
}

#[test]
fn behind_a_proxy_that_buffers_a_poll_works_within_three_seconds() {
    let refused = [
        ("begin", "token Connect"),
        ("dial", "0 socket /ws"),
        ("end 0 400", "0 drop, post /session hi"),
        (OPENED, "1 get /session/S/sse?after=0"),
        ("wait 999", ""),
        ("wait 1", "1 drop, 2 get /session/S/stream?after=0"),
        ("wait 1000", "2 drop, 3 get /session/S/poll?after=0"),
        (&attached(3, 0, 1), ""),
        (&connected(3), "connected poll"),
        ("end 3 1000", "3 drop, 4 get /session/S/poll?after=1"),
        ("send 2", "post /session/S?after=1&n=2 2"),
        ("post 204", ""),
        (&attached(4, 1, 2), ""),
        (r#"4: {"id":2,"pong":{}}"#, "frame 2"),
        ("end 4 1000", "4 drop, 5 get /session/S/poll?after=2"),
        // An empty one is as good.
        ("wait 25000", ""),
        (&attached(5, 2, 2), ""),
        ("end 5 1000", "5 drop, 6 get /session/S/poll?after=2"),
        ("close", "farewell /session/S/end, 6 drop, lost 1000, closed 1000"),
    ];
    Play::new(&Options::default()).story(&refused);
    // The same where a WebSocket neither opens nor fails.
    Play::new(&Options::default()).story(&[
        ("begin", "token Connect"),
        ("dial", "0 socket /ws"),
        ("wait 1999", ""),
        ("wait 1", "0 drop, post /session hi"),
    ]);
}

#[test]
fn a_slow_network_is_given_three_round_trips() {
    let only = Options { transports: vec![Transport::Sse, Transport::Stream], ..Options::default() };
    Play::new(&only).story(&[
        ("begin", "token Connect"),
        ("dial", "post /session hi"),
        ("wait 500", ""),
        (OPENED, "1 get /session/S/sse?after=0"),
        ("wait 1499", ""),
        ("wait 1", "1 drop, 2 get /session/S/stream?after=0"),
        ("wait 1500", "2 drop, farewell /session/S/end, lost 1006, again in 500"),
    ]);
}

#[test]
fn a_broken_response_is_asked_for_again_from_where_it_broke() {
    let only = Options { transports: vec![Transport::Sse, Transport::Poll], ..Options::default() };
    Play::new(&only).story(&[
        ("begin", "token Connect"),
        ("dial", "post /session hi"),
        (OPENED, "1 get /session/S/sse?after=0"),
        (&attached(1, 0, 1), ""),
        (&connected(1), "connected sse"),
        (r#"1: {"id":2,"pong":{}}"#, "frame 2"),
        ("send 3", "post /session/S?after=2&n=2 3"),
        ("post lost", ""),
        ("end 1 1006", "1 drop, 2 get /session/S/sse?after=2"),
        // Meanwhile the POST is repeated with its number.
        ("wait 500", "post /session/S?after=2&n=2 3"),
        (&attached(2, 2, 2), ""),
        ("post 204", ""),
        (r#"2: {"id":3,"pong":{}}"#, "frame 3"),
        // What was got over a response is acknowledged after a while.
        ("wait 5000", "post /session/S?after=3 "),
        ("post 204", ""),
        // One that breaks off at once is followed by another, of which there are two at first.
        ("end 2 1006", "2 drop, 3 get /session/S/sse?after=3"),
        (&attached(3, 3, 2), ""),
        ("end 3 1006", "3 drop, 4 get /session/S/sse?after=3"),
        ("end 4 502", "4 drop, 5 get /session/S/poll?after=3, 6 get /session/S/poll?after=3"),
        ("end 5 409", "5 drop, moved poll"),
        (&attached(6, 3, 2), ""),
        ("close", "farewell /session/S/end, 6 drop, lost 1000, closed 1000"),
    ]);
}

#[test]
fn a_session_that_is_gone_is_followed_by_another() {
    for status in ["404", "410"] {
        let only = Options { transports: vec![Transport::Stream], ..Options::default() };
        Play::new(&only).story(&[
            ("begin", "token Connect"),
            ("dial", "post /session hi"),
            (OPENED, "1 get /session/S/stream?after=0"),
            (&attached(1, 0, 1), ""),
            (&connected(1), "connected stream"),
            ("end 1 1006", "1 drop, 2 get /session/S/stream?after=1"),
            (&format!("end 2 {status}"), &format!("2 drop, lost {status}, again in 500")),
            ("wait 500", "token Connect"),
            ("dial", "post /session?returning=true hi"),
        ]);
    }
}

#[test]
fn a_session_moves_to_a_better_transport_and_back_without_losing_a_frame() {
    Play::new(&Options::default()).story(&[
        ("begin", "token Connect"),
        ("dial", "0 socket /ws"),
        ("end 0 400", "0 drop, post /session hi"),
        (OPENED, "1 get /session/S/sse?after=0"),
        (&attached(1, 0, 1), ""),
        (&connected(1), "connected sse"),
        ("wait 30000", "post /session/S?after=1 "),
        ("post 204", ""),
        ("heard 1", ""),
        ("wait 30000", "2 socket /ws?session=S&after=1"),
        ("open 2", ""),
        // A frame that comes over both counts once.
        (r#"1: {"id":2,"pong":{}}"#, "frame 2"),
        (&attached(2, 1, 1), "1 drop, moved websocket"),
        (r#"2: {"id":2,"pong":{}}"#, ""),
        (r#"2: {"id":3,"pong":{}}"#, "frame 3"),
        ("send 4", "2 write 4"),
        ("end 2 1006", "2 drop, 3 socket /ws?session=S&after=3"),
        ("end 3 1006", "3 drop, 4 get /session/S/sse?after=3"),
        (&attached(4, 3, 1), "moved sse, post /session/S?after=3&n=2 4"),
        // The server's last word.
        (
            r#"4: {"closing":{"code":1012,"message":"m","reconnect":true,"after_ms":2750}}"#,
            "4 drop, lost 1012, again in 2750",
        ),
    ]);
}

#[test]
fn codes_say_whether_to_come_back_and_when() {
    for (end, expected) in [
        ("end 0 3008", "0 drop, lost 3008, again in 500"),
        ("end 0 3013", "0 drop, lost 3013, again in 500"),
        ("end 0 3500", "0 drop, lost 3500, closed 3500"),
        ("end 0 1002", "0 drop, lost 1002, closed 1002"),
        ("end 0 1009", "0 drop, lost 1009, closed 1009"),
        ("end 0 3005", "0 drop, lost 3005, closed 3005"),
        (
            r#"0: {"closing":{"code":1012,"message":"m","reconnect":false}}"#,
            "0 close, lost 1012, closed 1012",
        ),
        ("refuse 109", "0 close, lost 109, again in 500"),
    ] {
        let mut play = Play::new(&Options::default());
        play.story(&[("begin", "token Connect"), ("dial", "0 socket /ws"), ("open 0", "0 write hi")]);
        play.story(&[(&connected(0), "connected websocket"), (end, expected)]);
    }
    // Before anything came: whoever says when to come back was reached, else another transport is tried.
    for (end, expected) in [
        ("end 0 503 4000", "0 drop, lost 503, again in 4000"),
        ("end 0 503", "0 drop, post /session hi"),
        ("end 0 403", "0 drop, post /session hi"),
        ("end 0 3500", "0 drop, lost 3500, closed 3500"),
    ] {
        Play::new(&Options::default()).story(&[
            ("begin", "token Connect"),
            ("dial", "0 socket /ws"),
            (end, expected),
        ]);
    }
    let mut play = Play::new(&Options::default());
    play.story(&[
        ("begin", "token Connect"),
        ("dial", "0 socket /ws"),
        ("end 0 403", "0 drop, post /session hi"),
    ]);
    play.story(&[("post 403 no", "lost 403, closed 403")]);
}

#[test]
fn another_token_is_asked_for_once_when_one_was_refused() {
    Play::new(&renewable()).story(&[
        ("begin", "token Connect"),
        ("dial", "0 socket /ws"),
        ("open 0", "0 write hi"),
        ("end 0 3005", "0 drop, lost 3005, again in 500"),
        ("wait 500", "token Expired"),
        ("dial", "0 socket /ws"),
        ("end 0 1006", "0 drop, post /session hi"),
        ("post 401 no", "lost 401, again in 1000"),
        ("wait 1000", "token Expired"),
        ("dial", "0 socket /ws"),
        ("end 0 1006", "0 drop, post /session hi"),
        ("post 401 no", "lost 401, closed 401"),
    ]);
}
