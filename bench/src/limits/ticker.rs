//! A ticker far faster than one who reads it, in a namespace that keeps the newest value of each key.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;
use socket2::{Domain, Socket, Type};

use crate::deadline::Deadline;
use crate::failure::Failure;
use crate::load::link::{Link, Message, strange};
use crate::load::pipe::Scratch;
use crate::subjects::Subject;
use crate::work::{Bench, Measured, Metric};

use super::crowd::{Crowd, answers};
use super::words::{body, connect, is_publication, subscribe};

pub const KEYS: usize = 100;
/// Each key so often.
pub const UPDATES_PER_SECOND: u32 = 100;
/// Publications that the reader takes.
pub const READS_PER_SECOND: u32 = 100;
/// As long as the reader needs for a value of every key.
const READING: Duration = Duration::from_millis(KEYS as u64 * 1_000 / READS_PER_SECOND as u64);
/// Until all that lies between server and reader is full.
const WARM_UP: Duration = Duration::from_secs(5);
/// Receive buffer of the reader's socket: what lies in it is old, and no server can change that.
pub const RECEIVE_BUFFER_BYTES: usize = 4_096;

/// The oldest value that the reader ever held, in its reading intervals, and the growth of the server's memory.
pub fn ticker(bench: &Bench, deadline: &Deadline) -> Result<Measured, Failure> {
    let settings =
        [("NAMESPACE__DEFAULT__OVERLOAD__POLICY", "latest"), ("NAMESPACE__DEFAULT__OVERLOAD__KEY", "symbol")];
    let server = bench.starter.start_with(Subject::Duplex, &settings, deadline)?;
    let mut publisher = Crowd::new(server.address)?;
    publisher.join(1, 1, deadline, |_| vec![connect(None)], answers)?;
    let mut reader = Reader::connect(server.address)?;
    let begin = Instant::now();
    let mut rounds = 0;
    let mut before = 0;
    let (warm, end) = (begin + WARM_UP, begin + WARM_UP + bench.sizes.ticker_length);
    while Instant::now() < end {
        // Each key has one update per round.
        while begin + Duration::from_secs(rounds) / UPDATES_PER_SECOND <= Instant::now() {
            publisher.say(0, (0..KEYS).map(|key| update(key, rounds)))?;
            rounds += 1;
        }
        publisher.turn(Duration::from_millis(1), deadline, answers)?;
        reader.read(begin)?;
        if before == 0 && Instant::now() > warm {
            before = server.resident_bytes()?;
            reader.oldest = Duration::ZERO;
        }
    }
    let growth = server.resident_bytes()?.saturating_sub(before);
    Ok(vec![
        (Metric::TickerAge, reader.oldest.as_secs_f64() / READING.as_secs_f64()),
        (Metric::TickerMemory, growth as f64 / 1024.0),
    ])
}

/// One who reads slowly, and little at a time.
struct Reader {
    link: Link,
    scratch: Scratch,
    /// Publications taken.
    taken: u32,
    /// The round of the value it holds of each key.
    held: Vec<Option<u64>>,
    /// The age that the value of a key had when a newer one came in its place, at most.
    oldest: Duration,
}

impl Reader {
    fn connect(address: SocketAddr) -> Result<Self, Failure> {
        let failed = "cannot connect a socket with a small buffer";
        let socket =
            Socket::new(Domain::for_address(address), Type::STREAM, None).map_err(Failure::io(failed))?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES).map_err(Failure::io(failed))?;
        socket.connect(&address.into()).map_err(Failure::io(failed))?;
        socket.set_nonblocking(true).map_err(Failure::io(failed))?;
        let link = Link::new(mio::net::TcpStream::from_std(socket.into()), "/ws");
        Ok(Self {
            link,
            scratch: Scratch::new(1_024),
            taken: 0,
            held: vec![None; KEYS],
            oldest: Duration::ZERO,
        })
    }

    /// Reads as much as it may by now.
    fn read(&mut self, begin: Instant) -> Result<(), Failure> {
        if begin + Duration::from_secs(self.taken.into()) / READS_PER_SECOND > Instant::now() {
            return Ok(());
        }
        self.link.advance(&mut self.scratch)?;
        while let Some(message) = self.link.next(&mut self.scratch)? {
            match message {
                Message::Open => {
                    self.link.say_all([connect(None), subscribe("bench", None)].map(String::into_bytes))?;
                }
                Message::Said(text) if is_publication(text) => {
                    let (key, round) = value(text)?;
                    let last = self.held[key].replace(round);
                    self.taken += 1;
                    if let Some(last) = last {
                        if round <= last {
                            return Err(Failure::OutOfOrder { expected: last + 1, got: round });
                        }
                        let published = begin + Duration::from_secs(last) / UPDATES_PER_SECOND;
                        self.oldest = self.oldest.max(published.elapsed());
                    }
                }
                Message::Said(_) => {}
            }
        }
        Ok(())
    }
}

fn update(key: usize, round: u64) -> Vec<u8> {
    let publish =
        json!({ "channel": "bench", "data": [key, round], "tags": { "symbol": format!("S{key:03}") } });
    json!({ "publish": publish }).to_string().into_bytes()
}

/// Key and round of an update.
fn value(text: &[u8]) -> Result<(usize, u64), Failure> {
    let data = &body(text, "publication")?["data"];
    match (data[0].as_u64(), data[1].as_u64()) {
        (Some(key), Some(round)) if key < KEYS as u64 => Ok((key as usize, round)),
        _ => Err(strange(text)),
    }
}
