//! A client without a WebSocket: requests that bring messages down, and requests that take them up.

use mio::net::TcpStream;

use super::dialect::Role;
use super::http::{self, Body, Head};
use super::link::{Message, strange};
use super::manner::{Manner, Rest};
use super::pipe::{Pipe, Scratch, Socket};
use crate::failure::Failure;

/// One client's conversation.
pub struct Requests {
    manner: Manner,
    down: Pipe,
    stage: Stage,
    /// Where all requests after the first go.
    target: String,
    /// Messages that have come down.
    count: u64,
    /// What is to go up.
    outbox: Vec<Vec<u8>>,
    up: Up,
}

/// How far the connection is that brings messages down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// An answer is due to the request that opens a session, to one for messages, or to one that took messages up.
    Opening,
    Asked,
    Told,
    /// So many bytes of an answer are left. All of them are there.
    Answer(usize),
    /// The answer goes on.
    Stream,
}

/// What takes messages up.
enum Up {
    /// The same connection, between two requests for messages.
    Between,
    /// A connection of its own: who speaks unasked cannot wait for an answer.
    Apart(Pipe, Apart),
}

/// Engine.IO ends a session whose client sends two of these requests at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Apart {
    Free,
    Told,
}

impl Requests {
    /// On a socket that is connecting, and another one for a client that speaks unasked.
    pub fn new(down: TcpStream, up: Option<TcpStream>, manner: Manner, role: Role) -> Self {
        let stage = if manner == Manner::EventSource { Stage::Asked } else { Stage::Opening };
        Self {
            manner,
            down: Pipe::new(down, manner.opening(role)),
            stage,
            target: String::new(),
            count: 0,
            outbox: Vec::new(),
            up: up.map_or(Up::Between, |socket| Up::Apart(Pipe::new(socket, ""), Apart::Free)),
        }
    }

    /// The sockets may have become readable or writable: sends what waits and reads once. Then [`Requests::next`] has what
    /// was read, to the end, before the scratch is another's.
    pub fn advance(&mut self, scratch: &mut Scratch) -> Result<Socket, Failure> {
        self.advance_up(scratch)?;
        self.down.advance(scratch)
    }

    /// The next whole message of what was read. When there is none, the next request is on its way.
    pub fn next<'s>(&mut self, scratch: &'s mut Scratch) -> Result<Option<Message<'s>>, Failure> {
        loop {
            let (bytes, rest) = match self.stage {
                Stage::Opening | Stage::Asked | Stage::Told => {
                    let Some(head) = answer(scratch)? else { break };
                    if self.begin(&head, scratch)? == Begun::Session {
                        return Ok(Some(Message::Open));
                    }
                    continue;
                }
                Stage::Answer(0) => {
                    self.ask()?;
                    continue;
                }
                Stage::Answer(left) => (&scratch.unread()[..left], Rest::Whole),
                Stage::Stream => (scratch.unread(), Rest::Open),
            };
            let Some(piece) = self.manner.piece(bytes, rest) else { break };
            if let Stage::Answer(left) = &mut self.stage {
                *left -= piece.length;
            }
            let start = scratch.take(piece.length).start;
            if let Some(message) = piece.message {
                self.count += 1;
                return Ok(Some(Message::Said(scratch.at(start + message.start..start + message.end))));
            }
        }
        self.down.keep(scratch);
        Ok(None)
    }

    /// Sends messages: at once, or when the answer to the request before is there.
    pub fn say_all(&mut self, texts: impl IntoIterator<Item = Vec<u8>>) -> Result<(), Failure> {
        self.outbox.extend(texts);
        self.send_up()
    }

    /// Says how many messages it has, where that needs a request of its own.
    pub fn acknowledgement(&self) -> Option<Vec<u8>> {
        self.manner.acknowledgement(&self.target, self.count)
    }

    /// An answer is there, its body not taken.
    fn begin(&mut self, head: &Head, scratch: &mut Scratch) -> Result<Begun, Failure> {
        scratch.take(head.length);
        let body = match head.body {
            Body::Bytes(length) => length,
            Body::Endless if self.stage == Stage::Asked => {
                self.stage = Stage::Stream;
                return Ok(Begun::Answer);
            }
            Body::Endless => return Err(Failure::Misbehaved("an answer without an end".into())),
        };
        if self.stage == Stage::Opening {
            let first = &scratch.unread()[..body];
            self.target = self.manner.target(first).ok_or_else(|| strange(first))?;
        }
        // Engine.IO's first answer is a packet as any other; ours tells of the session, and those to messages say no more
        // than that they have arrived.
        let is_read =
            self.stage == Stage::Asked || (self.stage, self.manner) == (Stage::Opening, Manner::EngineIo);
        let begun = if self.stage == Stage::Opening && !is_read { Begun::Session } else { Begun::Answer };
        self.stage = Stage::Answer(if is_read { body } else { 0 });
        if !is_read {
            scratch.take(body);
        }
        Ok(begun)
    }

    /// The next request: takes messages up if there are any, or asks for some.
    fn ask(&mut self) -> Result<(), Failure> {
        if self.outbox.is_empty() || matches!(self.up, Up::Apart(..)) {
            let request = self.manner.request(&self.target, self.count);
            self.stage = Stage::Asked;
            return self.down.send(|out| out.extend_from_slice(request.as_bytes()));
        }
        let request = self.manner.delivery(&self.target, &std::mem::take(&mut self.outbox));
        self.stage = Stage::Told;
        self.down.send(|out| out.extend_from_slice(&request))
    }

    fn send_up(&mut self) -> Result<(), Failure> {
        let Up::Apart(pipe, apart @ Apart::Free) = &mut self.up else { return Ok(()) };
        if self.outbox.is_empty() {
            return Ok(());
        }
        let request = self.manner.delivery(&self.target, &std::mem::take(&mut self.outbox));
        *apart = Apart::Told;
        pipe.send(|out| out.extend_from_slice(&request))
    }

    fn advance_up(&mut self, scratch: &mut Scratch) -> Result<(), Failure> {
        let Up::Apart(pipe, apart) = &mut self.up else { return Ok(()) };
        loop {
            let socket = pipe.advance(scratch)?;
            if let Some(Head { length, body: Body::Bytes(body), .. }) = answer(scratch)? {
                scratch.take(length + body);
                *apart = Apart::Free;
            }
            pipe.keep(scratch);
            if socket == Socket::Empty {
                return self.send_up();
            }
        }
    }
}

/// What an answer has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begun {
    Session,
    Answer,
}

/// The head of the answer that has been read, once the answer is whole, or its head if it is endless.
fn answer(scratch: &Scratch) -> Result<Option<Head>, Failure> {
    let bytes = scratch.unread();
    let Some(head) = http::head(bytes).map_err(|_| strange(bytes))? else { return Ok(None) };
    let is_there = match head.body {
        Body::Bytes(length) => bytes.len() >= head.length + length,
        Body::Endless => true,
    };
    match head.status {
        _ if !is_there => Ok(None),
        200 | 204 => Ok(Some(head)),
        _ => Err(strange(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread::{self, JoinHandle};
    use std::time::{Duration, Instant};

    use super::*;

    /// A server that expects these requests on one connection, by their first lines and bodies, and gives these answers.
    fn server(script: Vec<(&'static str, String)>) -> (TcpStream, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let playing = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            for (expected, answer) in script {
                let mut bytes = [0; 1024];
                let length = stream.read(&mut bytes).expect("a request in one piece");
                let request = String::from_utf8_lossy(&bytes[..length]);
                let (head, body) = request.split_once("\r\n\r\n").expect("a head");
                let line = head.split(" HTTP/1.1").next().expect("a first line");
                assert_eq!(format!("{line} {body}").trim_end(), expected);
                stream.write_all(answer.as_bytes()).expect("a client that reads");
            }
        });
        (TcpStream::connect(address).expect("a server"), playing)
    }

    fn ok(body: &str) -> String {
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    /// Plays `script` with a client that says `opening` when it may. Returns the texts it hears until there are `count`.
    fn play(manner: Manner, script: Vec<(&'static str, String)>, opening: &str, count: usize) -> Vec<String> {
        let (socket, playing) = server(script);
        let mut client = Requests::new(socket, None, manner, Role::Bystander);
        let mut scratch = Scratch::new(4096);
        let mut heard = Vec::new();
        let end = Instant::now() + Duration::from_secs(10);
        while heard.len() < count || !playing.is_finished() {
            assert!(Instant::now() < end, "heard only {heard:?}");
            client.advance(&mut scratch).or_else(|failure| ended(failure, &playing)).expect("no failure");
            while let Some(message) = client.next(&mut scratch).expect("answers it understands") {
                match message {
                    Message::Said(text) => heard.push(String::from_utf8_lossy(text).into_owned()),
                    Message::Open => client.say_all([opening.into()]).expect("no failure"),
                }
                if heard.last().is_some_and(|text| text.starts_with("0{") || text == "2") {
                    client.say_all([opening.into()]).expect("no failure");
                }
            }
            thread::yield_now();
        }
        playing.join().expect("the requests that were expected");
        heard
    }

    /// A server that has played its script may close.
    fn ended(failure: Failure, playing: &JoinHandle<()>) -> Result<Socket, Failure> {
        thread::sleep(Duration::from_millis(1));
        if playing.is_finished() { Ok(Socket::Empty) } else { Err(failure) }
    }

    #[test]
    fn a_poll_asks_for_what_comes_behind_the_messages_it_has_got() {
        let attached = r#"{"attached":{"after":0,"received":1}}"#;
        let script = vec![
            ("POST /session", ok(r#"{"session":"S"}"#)),
            ("POST /session/S {}", "HTTP/1.1 204 No Content\r\n\r\n".into()),
            ("GET /session/S/poll?after=0", ok(&format!("{attached}\n[1]\n[2]\n"))),
            ("GET /session/S/poll?after=2", ok(&format!("{attached}\n"))),
            ("GET /session/S/poll?after=2", ok(&format!("{attached}\n[3]\n"))),
        ];
        assert_eq!(play(Manner::Poll, script, "{}", 3), ["[1]", "[2]", "[3]"]);
    }

    #[test]
    fn an_answer_to_the_server_goes_up_before_the_next_poll() {
        let polls = "GET /socket.io/?EIO=4&transport=polling";
        let script = vec![
            (polls, ok(r#"0{"sid":"S"}"#)),
            ("POST /socket.io/?EIO=4&transport=polling&sid=S 3", ok("ok")),
            ("GET /socket.io/?EIO=4&transport=polling&sid=S", ok("42[1]\u{1e}2")),
            ("POST /socket.io/?EIO=4&transport=polling&sid=S 3", ok("ok")),
        ];
        assert_eq!(play(Manner::EngineIo, script, "3", 3), [r#"0{"sid":"S"}"#, "42[1]", "2"]);
    }

    #[test]
    fn a_stream_is_asked_for_on_the_same_connection_and_goes_on() {
        let stream = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: {\"attached\":{}}\n\ndata: [1]\n\n";
        let script = vec![
            ("POST /session", ok(r#"{"session":"S"}"#)),
            ("POST /session/S {}", "HTTP/1.1 204 No Content\r\n\r\n".into()),
            ("GET /session/S/sse?after=0", stream.into()),
        ];
        assert_eq!(play(Manner::Events, script, "{}", 1), ["[1]"]);
    }
}
