//! Who publishes numbers while nodes come and go: each of them until it is known to be published, at whichever node.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::json;

use crate::crowd::Doors;

/// How long an answer may take: a call to the broker is over after 5 s.
const ANSWER: Duration = Duration::from_secs(8);
const SOON: Duration = Duration::from_millis(50);
/// How often a number is tried.
const TRIES_MAX: usize = 1_200;

/// A publisher at work.
pub struct Press {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Press {
    /// Publishes 1 and on, with a pause behind each.
    pub fn start(channel: &str, doors: &Doors, pause: Duration) -> Self {
        let (stop, channel, doors) = (Arc::new(AtomicBool::new(false)), channel.to_owned(), doors.clone());
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            for number in 1.. {
                publish_at_last(&doors, &channel, number);
                if stopped.load(Relaxed) {
                    return number;
                }
                thread::sleep(pause);
            }
            unreachable!("it counts for ever")
        });
        Self { stop, thread: Some(thread) }
    }

    /// Publishes no more: the last number.
    pub fn stop(mut self) -> u64 {
        self.stop.store(true, Relaxed);
        self.thread.take().expect("it is stopped once").join().expect("everything could be published")
    }
}

impl Drop for Press {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}

/// Publishes a number once: what was refused, or has no answer, is repeated elsewhere with the same key.
pub fn publish_at_last(doors: &Doors, channel: &str, number: u64) {
    for _ in 0..TRIES_MAX {
        match publish(doors.next(), channel, number) {
            Ok(200) => return,
            Ok(502 | 503) | Err(_) => thread::sleep(SOON),
            Ok(status) => panic!("{number} is answered {status}"),
        }
    }
    panic!("{number} is published nowhere");
}

/// The status of the answer.
pub fn publish(address: SocketAddr, channel: &str, number: u64) -> io::Result<u16> {
    let key = format!("{channel}-{number}");
    let body = json!({ "channel": channel, "data": number, "idempotency_key": key }).to_string();
    let length = body.len();
    let mut stream = TcpStream::connect_timeout(&address, ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    write!(
        stream,
        "POST /api/v1/publish HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}
