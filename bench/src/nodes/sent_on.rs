//! What a request costs that comes in at another node than that of its session, beside one that comes where it belongs.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::deadline::Deadline;
use crate::failure::Failure;
use crate::load::http::{self, Body};
use crate::load::link::strange;
use crate::subjects::Server;

use super::house::House;
use super::{Asked, Place, micros};

const JSON: &str = "application/json";
/// Answers come at once, or not at all.
const PATIENCE: Duration = Duration::from_secs(10);
/// A message that is carried out and not answered.
const UNANSWERED: &[u8] = br#"{"unsubscribe":{"channel":"nothing"}}"#;
/// One that is answered with a frame.
const ANSWERED: &[u8] = br#"{"ping":{}}"#;

/// CPU per request, µs, over so many of each kind.
pub fn measure(
    house: &House,
    count: u64,
    deadline: &Deadline,
) -> Result<impl Iterator<Item = (Asked, Place, f64)>, Failure> {
    let [owner, other] = &house.nodes[..] else {
        return Err(Failure::Unmeasurable("what is sent on, without two nodes,"));
    };
    let at_owner = costs([owner, other], owner.address, count, deadline)?;
    let at_other = costs([owner, other], other.address, count, deadline)?;
    let asked = [Asked::Message, Asked::Poll].into_iter().zip(at_owner.into_iter().zip(at_other));
    Ok(asked.flat_map(|(asked, (right, wrong))| {
        [(asked, Place::Right, right[0]), (asked, Place::Wrong, wrong[1]), (asked, Place::Behind, wrong[0])]
    }))
}

/// What messages cost, and polls, at each of the two nodes, for a session of the first whose requests go to `address`.
fn costs(
    nodes: [&Server; 2],
    address: SocketAddr,
    count: u64,
    deadline: &Deadline,
) -> Result<[[f64; 2]; 2], Failure> {
    let mut session = Session::open(nodes[0].address)?;
    session.go_to(address, deadline)?;
    for _ in 0..count / 5 {
        session.say(UNANSWERED)?;
        session.exchange()?;
    }
    let messages = costs_of(nodes, count, deadline, || session.say(UNANSWERED))?;
    let both = costs_of(nodes, count, deadline, || session.exchange())?;
    Ok([messages, [both[0] - messages[0], both[1] - messages[1]]])
}

fn costs_of(
    nodes: [&Server; 2],
    count: u64,
    deadline: &Deadline,
    mut act: impl FnMut() -> Result<(), Failure>,
) -> Result<[f64; 2], Failure> {
    let before = [nodes[0].cpu_time()?, nodes[1].cpu_time()?];
    for _ in 0..count {
        deadline.check()?;
        act()?;
    }
    let after = [nodes[0].cpu_time()?, nodes[1].cpu_time()?];
    let cost = |index: usize| micros(after[index].saturating_sub(before[index])) / count as f64;
    Ok([cost(0), cost(1)])
}

/// A session that is polled.
struct Session {
    stream: TcpStream,
    target: String,
    /// Frames that it has got.
    frames: usize,
}

impl Session {
    fn open(address: SocketAddr) -> Result<Self, Failure> {
        let mut session = Self { stream: connect(address)?, target: String::new(), frames: 0 };
        let (status, body) = session.ask(&http::post("/session", JSON, br#"{"id":1,"connect":{}}"#))?;
        let value: Value = serde_json::from_slice(&body).unwrap_or_default();
        match value["session"].as_str() {
            Some(id) if status == 200 => session.target = format!("/session/{id}"),
            _ => return Err(strange(&body)),
        }
        Ok(session)
    }

    /// From here on its requests go there, as soon as they are understood there.
    fn go_to(&mut self, address: SocketAddr, deadline: &Deadline) -> Result<(), Failure> {
        self.stream = connect(address)?;
        loop {
            deadline.check()?;
            match self.ask(&http::post(&self.target, JSON, UNANSWERED))?.0 {
                204 => return Ok(()),
                // The other node has not heard of this one yet.
                404 => thread::sleep(Duration::from_millis(50)),
                other => return Err(Failure::Misbehaved(format!("a message was answered {other}"))),
            }
        }
    }

    fn say(&mut self, message: &[u8]) -> Result<(), Failure> {
        match self.ask(&http::post(&self.target, JSON, message))? {
            (204, _) => Ok(()),
            (_, body) => Err(strange(&body)),
        }
    }

    /// A message up, and its answer down.
    fn exchange(&mut self) -> Result<(), Failure> {
        self.say(ANSWERED)?;
        let request = http::get(&format!("{}/poll?after={}", self.target, self.frames));
        let (status, body) = self.ask(request.as_bytes())?;
        let lines = body.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"{"));
        let frames = lines.filter(|line| !line.starts_with(br#"{"attached""#)).count();
        if status != 200 || frames == 0 {
            return Err(strange(&body));
        }
        self.frames += frames;
        Ok(())
    }

    fn ask(&mut self, request: &[u8]) -> Result<(u16, Vec<u8>), Failure> {
        self.stream.write_all(request).map_err(Failure::io("cannot send a request"))?;
        let mut bytes = Vec::new();
        loop {
            if let Some(head) = http::head(&bytes).map_err(|_| strange(&bytes))? {
                let Body::Bytes(length) = head.body else { return Err(strange(&bytes)) };
                if bytes.len() >= head.length + length {
                    return Ok((head.status, bytes.split_off(head.length)));
                }
            }
            let mut some = [0; 4096];
            match self.stream.read(&mut some).map_err(Failure::io("cannot read an answer"))? {
                0 => return Err(Failure::Disconnected { how: "end of stream".into() }),
                count => bytes.extend_from_slice(&some[..count]),
            }
        }
    }
}

fn connect(address: SocketAddr) -> Result<TcpStream, Failure> {
    let stream = TcpStream::connect(address).map_err(Failure::io("cannot connect"))?;
    stream.set_nodelay(true).map_err(Failure::io("cannot set TCP_NODELAY"))?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(Failure::io("cannot set a timeout"))?;
    Ok(stream)
}
