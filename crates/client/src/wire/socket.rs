//! A WebSocket.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use duplex_websocket::handshake::{ClientHandshake, ClientRequest, HEAD_BYTES_MAX, Rejected};
use duplex_websocket::{CloseCode, Compression, Decoder, Event, Inflater, Limits, Opcode, Role, encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::line::WireEvent;
use crate::{End, Form};

use super::dial::{Dialer, Stream};
use super::{Teller, retry_after};

/// Bytes that are read at once.
const READ_BYTES: usize = 16 * 1024;
/// Answers to pings that may wait behind a message that is being written.
const REPLIES_MAX: usize = 16;
/// How long a close may take.
const CLOSE_MAX: Duration = Duration::from_secs(1);

/// What is written to a socket.
#[derive(Debug)]
pub(crate) enum Write {
    Message(Bytes),
    Close,
}

/// What is written because something was read.
enum Reply {
    Pong(Vec<u8>),
    Close(CloseCode),
}

/// Opens a WebSocket, and carries messages until one side ends it.
pub(crate) async fn carry(dialer: &Dialer, target: String, writes: mpsc::Receiver<Write>, teller: Teller) {
    let end = match open(dialer, &target, &teller).await {
        Ok((stream, early)) => converse(stream, early, writes, &teller).await,
        Err(end) => end,
    };
    // Nobody hears it if the client's task is gone.
    let _ = teller.tell(WireEvent::Ended(end)).await;
}

async fn open(dialer: &Dialer, target: &str, teller: &Teller) -> Result<(Box<dyn Stream>, Vec<u8>), End> {
    let broken = |error: std::io::Error| End::broken(format!("no connection: {error}"));
    let mut stream = dialer.connect().await.map_err(broken)?;
    let target = dialer.address.target(target);
    let mut key = [0; 16];
    getrandom::fill(&mut key).expect("the operating system gives random bytes");
    let request = ClientRequest {
        host: dialer.address.authority.to_str().unwrap_or_default(),
        target: &target,
        key,
        protocols: &[teller.form.subprotocol()],
        compression: Compression::Off,
        headers: &[],
    };
    let head = request.head().map_err(|error| End::broken(error.to_string()))?;
    stream.write_all(&head).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    let early = answer(&mut stream, ClientHandshake::new(&request)).await?;
    // A client's task that is gone has stopped this one too.
    let _ = teller.tell(WireEvent::Opened).await;
    Ok((stream, early))
}

/// Reads the answer to the handshake; what came behind it are frames.
async fn answer(stream: &mut Box<dyn Stream>, mut handshake: ClientHandshake) -> Result<Vec<u8>, End> {
    let mut received = Vec::with_capacity(1024);
    loop {
        let count = stream.read_buf(&mut received).await;
        if count.map_err(|error| End::broken(format!("no answer: {error}")))? == 0 {
            return Err(End::broken("the server closed the connection without an answer"));
        }
        match handshake.read(&received) {
            Ok(Some((_, length))) => return Ok(received.split_off(length)),
            Ok(None) => {}
            Err(Rejected::Status { status }) => {
                let end = End::new(status, format!("no WebSocket: the server answered with status {status}"));
                return Err(End { after: head_retry_after(&received), ..end });
            }
            Err(rejected) => return Err(End::broken(format!("no WebSocket: {rejected}"))),
        }
    }
}

/// The `Retry-After` of a head that was refused.
fn head_retry_after(head: &[u8]) -> Option<Duration> {
    let head = &head[..head.len().min(HEAD_BYTES_MAX)];
    let mut lines = head.split(|byte| *byte == b'\n').take_while(|line| !line.trim_ascii().is_empty());
    lines.find_map(|line| {
        let at = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = line.split_at(at);
        name.eq_ignore_ascii_case(b"retry-after").then(|| retry_after(&value[1..])).flatten()
    })
}

async fn converse(
    stream: Box<dyn Stream>,
    early: Vec<u8>,
    writes: mpsc::Receiver<Write>,
    teller: &Teller,
) -> End {
    let (read, write) = tokio::io::split(stream);
    let (reply, replies) = mpsc::channel(REPLIES_MAX);
    let mut reading = pin!(Reader::new(read, reply, teller).run(early));
    let mut writing = pin!(write_all(write, writes, replies, teller));
    tokio::select! {
        end = &mut reading => {
            // The close that was read is answered, if the network takes it.
            let _ = timeout(CLOSE_MAX, writing).await;
            end
        }
        written = &mut writing => match written {
            Ok(()) => timeout(CLOSE_MAX, reading).await.unwrap_or_else(|_| End::broken("no answer to a close")),
            Err(error) => End::broken(format!("the connection broke: {error}")),
        }
    }
}

struct Reader<'a> {
    stream: ReadHalf<Box<dyn Stream>>,
    decoder: Decoder,
    inflater: Inflater,
    limits: Limits,
    replies: mpsc::Sender<Reply>,
    teller: &'a Teller,
}

/// What came, out of the decoder's hands.
enum Heard {
    Frame(Vec<u8>),
    Other,
    End(End),
}

impl<'a> Reader<'a> {
    fn new(stream: ReadHalf<Box<dyn Stream>>, replies: mpsc::Sender<Reply>, teller: &'a Teller) -> Self {
        let limits = Limits { message_bytes: teller.message_bytes_max, ..Limits::default() };
        let decoder = Decoder::new(Role::Client, Compression::Off);
        Self { stream, decoder, inflater: Inflater::new(), limits, replies, teller }
    }

    async fn run(mut self, early: Vec<u8>) -> End {
        let mut buffer = early;
        loop {
            if let Err(end) = self.take(&mut buffer).await {
                return end;
            }
            buffer.clear();
            buffer.reserve(READ_BYTES);
            match self.stream.read_buf(&mut buffer).await {
                Ok(0) => return End::broken("the server closed the connection"),
                Ok(_) => {}
                Err(error) => return End::broken(format!("the connection broke: {error}")),
            }
            // What a server sends without being asked is limited by its own budget, not by ours.
            self.decoder.replenish();
        }
    }

    async fn take(&mut self, mut bytes: &mut [u8]) -> Result<(), End> {
        // A client's task that is gone has stopped this one too.
        let _ = self.teller.tell(WireEvent::Heard).await;
        while !bytes.is_empty() {
            let (used, heard) = self.decode(bytes)?;
            bytes = &mut bytes[used..];
            match heard {
                Heard::Frame(message) => self.teller.frame(&message).await?,
                Heard::Other => {}
                Heard::End(end) => return Err(end),
            }
        }
        Ok(())
    }

    fn decode(&mut self, bytes: &mut [u8]) -> Result<(usize, Heard), End> {
        let Self { decoder, inflater, limits, replies, teller, .. } = self;
        let (used, event) = decoder.decode(bytes, limits, inflater).map_err(|violation| {
            // Whoever is behind on answers to pings is not told.
            let _ = replies.try_send(Reply::Close(violation.close_code()));
            End::broken(format!("the server breaks the WebSocket protocol: {violation}"))
        })?;
        let heard = match (event, teller.form) {
            (Some(Event::Text(text)), Form::Json) => Heard::Frame(text.as_bytes().to_vec()),
            (Some(Event::Binary(bytes)), Form::MessagePack) => Heard::Frame(bytes.to_vec()),
            (Some(Event::Text(_) | Event::Binary(_)), _) => Heard::End(super::stranger()),
            (Some(Event::Ping(payload)), _) => {
                let _ = replies.try_send(Reply::Pong(payload.to_vec()));
                Heard::Other
            }
            (Some(Event::Close(code, reason)), _) => {
                let _ = replies.try_send(Reply::Close(code.unwrap_or(CloseCode::NORMAL)));
                Heard::End(farewell(code, reason))
            }
            (Some(Event::Pong(_)) | None, _) => Heard::Other,
        };
        Ok((used, heard))
    }
}

fn farewell(code: Option<CloseCode>, reason: &str) -> End {
    // A server of ours never says good-bye without a reason.
    match code {
        Some(code) if code != CloseCode::NORMAL => End::new(code.value(), reason),
        _ => End::broken("the server closed the connection without a reason"),
    }
}

/// Writes what is asked for until a close is written.
async fn write_all(
    mut stream: WriteHalf<Box<dyn Stream>>,
    mut writes: mpsc::Receiver<Write>,
    mut replies: mpsc::Receiver<Reply>,
    teller: &Teller,
) -> std::io::Result<()> {
    let mut wire = Vec::new();
    loop {
        let written = tokio::select! {
            Some(reply) = replies.recv() => reply_to_wire(reply, &mut wire),
            Some(write) = writes.recv() => write_to_wire(write, teller.form, &mut wire),
            else => return Ok(()),
        };
        stream.write_all(&wire).await?;
        stream.flush().await?;
        wire.clear();
        wire.shrink_to(READ_BYTES);
        match written {
            // A client's task that is gone has stopped this one too.
            Written::Message => drop(teller.tell(WireEvent::Written).await),
            Written::Pong => {}
            Written::Close => return Ok(()),
        }
    }
}

enum Written {
    Message,
    Pong,
    Close,
}

fn reply_to_wire(reply: Reply, wire: &mut Vec<u8>) -> Written {
    match reply {
        Reply::Pong(payload) => {
            put(Opcode::Pong, &payload, wire);
            Written::Pong
        }
        Reply::Close(code) => close_to_wire(code, wire),
    }
}

fn write_to_wire(write: Write, form: Form, wire: &mut Vec<u8>) -> Written {
    match (write, form) {
        (Write::Message(message), Form::Json) => put(Opcode::Text, &message, wire),
        (Write::Message(message), Form::MessagePack) => put(Opcode::Binary, &message, wire),
        (Write::Close, _) => return close_to_wire(CloseCode::NORMAL, wire),
    }
    Written::Message
}

fn close_to_wire(code: CloseCode, wire: &mut Vec<u8>) -> Written {
    put(Opcode::Close, &encode::close_payload(code, ""), wire);
    Written::Close
}

fn put(opcode: Opcode, payload: &[u8], wire: &mut Vec<u8>) {
    encode::masked(opcode, payload, super::chance().to_ne_bytes(), wire);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_handshake_may_say_when_to_come_back() {
        for (head, seconds) in [
            ("HTTP/1.1 503 X\r\nRetry-After: 4\r\n\r\n", Some(4)),
            ("HTTP/1.1 503 X\r\nA: b\r\nretry-after:2 \r\n\r\n", Some(2)),
            ("HTTP/1.1 503 X\r\nRetry-After: Wed, 21 Oct 2015\r\n\r\n", None),
            ("HTTP/1.1 503 X\r\n\r\nRetry-After: 4\r\n\r\n", None),
            ("HTTP/1.1 503 X\r\nRetry-After: 0\r\n\r\n", None),
        ] {
            let after = head_retry_after(head.as_bytes());
            let within = |after: Duration, seconds: u64| {
                (seconds * 1_000..=seconds * 1_250).contains(&(after.as_millis() as u64))
            };
            match (after, seconds) {
                (Some(after), Some(seconds)) => assert!(within(after, seconds), "{head} {after:?}"),
                (after, seconds) => assert_eq!(after.is_some(), seconds.is_some(), "{head}"),
            }
        }
    }
}
