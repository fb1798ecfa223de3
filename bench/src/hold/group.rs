//! A process that is the clients of one node: asked on its standard input how many more shall join, it says on its standard
//! output when they have, and how long each publication took to each of them. It ends with its input.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::Duration;

use crate::deadline::{Deadline, Interrupt};
use crate::failure::Failure;
use crate::limits::crowd::{Crowd, Heard, answers};
use crate::limits::words::{connect, is_publication, subscribe};
use crate::load::link::strange;
use crate::load::{IN_FLIGHT_MAX, WAIT_MAX};
use crate::measure;

use super::{GROUP_MAX, OTHER_FILES, now_us};

const JOINED: &str = "joined";
/// No group lives longer, whatever became of who started it.
const LENGTH_MAX: Duration = Duration::from_secs(900);
const ENDS_WITHIN: Duration = Duration::from_secs(20);

/// The process, as who started it sees it. It is ended when dropped.
pub struct Group {
    child: Child,
    orders: Option<ChildStdin>,
    lines: Receiver<String>,
    pub members: usize,
}

impl Group {
    /// Nobody yet.
    pub fn start(address: SocketAddr) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(Failure::io("cannot find our own binary"))?;
        let mut command = Command::new(program);
        command.arg("group").arg(address.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(Failure::io("cannot start a group of clients"))?;
        let orders = child.stdin.take();
        let output = child.stdout.take().expect("its output is piped");
        let (said, lines) = sync_channel(4);
        thread::spawn(move || pass_on(BufReader::new(output), &said));
        Ok(Self { child, orders, lines, members: 0 })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// So many more shall join.
    pub fn ask_to_join(&mut self, count: usize) -> Result<(), Failure> {
        self.members += count;
        let orders = self.orders.as_mut().expect("it is open until the group ends");
        writeln!(orders, "{count}").map_err(Failure::io("a group of clients has ended"))
    }

    /// Waits until they have.
    pub fn await_joined(&mut self, deadline: &Deadline) -> Result<(), Failure> {
        match self.line(deadline)?.as_str() {
            JOINED => Ok(()),
            other => Err(strange(other.as_bytes())),
        }
    }

    /// How long the next publication took to each member, µs.
    pub fn await_delays(&mut self, deadline: &Deadline) -> Result<Vec<u64>, Failure> {
        let line = self.line(deadline)?;
        serde_json::from_str(&line).map_err(|_| strange(line.as_bytes()))
    }

    /// Nobody must have got anything that was not asked for.
    pub fn end(mut self) -> Result<(), Failure> {
        drop(self.orders.take());
        let deadline = Interrupt::default().deadline("the end of a group of clients", ENDS_WITHIN);
        loop {
            deadline.check()?;
            match self.child.try_wait().map_err(Failure::io("cannot watch a group of clients"))? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(ended(&status.to_string())),
                None => thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    fn line(&mut self, deadline: &Deadline) -> Result<String, Failure> {
        loop {
            deadline.check()?;
            match self.lines.recv_timeout(WAIT_MAX) {
                Ok(line) => return Ok(line),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(ended("its output is closed")),
            }
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Fails only if it is dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ended(how: &str) -> Failure {
    Failure::Disconnected { how: format!("a group of clients has ended, {how}; it says above why") }
}

fn pass_on(output: impl BufRead, said: &SyncSender<String>) {
    for line in output.lines().map_while(Result::ok) {
        if said.send(line).is_err() {
            return;
        }
    }
}

/// Is the process.
pub fn run(address: SocketAddr) -> Result<(), Failure> {
    measure::allow_open_files(GROUP_MAX as u64 + OTHER_FILES)?;
    let deadline = Interrupt::default().deadline("a group of clients", LENGTH_MAX);
    let orders = orders();
    let mut crowd = Crowd::new(address)?;
    let mut reception = Reception::default();
    loop {
        match orders.try_recv() {
            Ok(count) => {
                let opening = |_| vec![connect(None), subscribe("bench", None)];
                crowd.join(count, IN_FLIGHT_MAX, &deadline, opening, answers)?;
                reception.members += count;
                println!("{JOINED}");
            }
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => return reception.end(),
        }
        crowd.turn(WAIT_MAX, &deadline, |index, heard| reception.hear(index, heard))?;
    }
}

/// Numbers, one a line.
fn orders() -> Receiver<usize> {
    let (asked, orders) = sync_channel(4);
    thread::spawn(move || {
        let lines = std::io::stdin().lines().map_while(Result::ok);
        for count in lines.map_while(|line| line.trim().parse().ok()) {
            if asked.send(count).is_err() {
                return;
            }
        }
    });
    orders
}

/// What the members have got.
#[derive(Default)]
struct Reception {
    members: usize,
    /// Number of the publication that all get next.
    due: u64,
    /// Which members have it, by index.
    have: Vec<bool>,
    /// How long it took to each of them, µs.
    delays: Vec<u64>,
}

impl Reception {
    fn hear(&mut self, index: usize, heard: Heard<'_>) -> Result<(), Failure> {
        let Heard::Text(text) = heard else { return answers(index, heard) };
        if !is_publication(text) {
            return answers(index, heard);
        }
        let now = now_us();
        let got = number_after(text, br#""number":"#).ok_or_else(|| strange(text))?;
        let at = number_after(text, br#""at":"#).ok_or_else(|| strange(text))?;
        self.have.resize(self.members, false);
        if got != self.due || std::mem::replace(&mut self.have[index], true) {
            return Err(Failure::OutOfOrder { expected: self.due, got });
        }
        self.delays.push(now.saturating_sub(at));
        if self.delays.len() == self.members {
            let delays: Vec<String> = self.delays.drain(..).map(|us| us.to_string()).collect();
            println!("[{}]", delays.join(","));
            self.have.fill(false);
            self.due += 1;
        }
        Ok(())
    }

    /// A publication that only some have got is an error.
    fn end(&self) -> Result<(), Failure> {
        match self.delays.len() {
            0 => Ok(()),
            got => Err(Failure::OutOfOrder { expected: self.members as u64, got: got as u64 }),
        }
    }
}

fn number_after(text: &[u8], name: &[u8]) -> Option<u64> {
    let start = text.windows(name.len()).position(|window| window == name)? + name.len();
    let digits = text[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&text[start..start + digits]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication(number: u64) -> Vec<u8> {
        format!(r#"{{"publication":{{"data":{{"number":{number},"at":5}}}}}}"#).into_bytes()
    }

    fn hear(reception: &mut Reception, index: usize, number: u64) -> bool {
        reception.hear(index, Heard::Text(&publication(number))).is_ok()
    }

    #[test]
    fn each_member_gets_each_publication_once() {
        let mut reception = Reception { members: 2, ..Reception::default() };
        assert!(hear(&mut reception, 0, 0) && hear(&mut reception, 1, 0));
        assert!(hear(&mut reception, 1, 1));
        assert!(!hear(&mut reception, 1, 1), "twice");
        assert!(!hear(&mut reception, 0, 2), "one is missing");
        assert!(reception.end().is_err(), "one has not got all");
    }
}
