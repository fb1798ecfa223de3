//! What tests and benchmarks of several nodes stand on: real brokers, each in a folder and on a port of its own, and a load
//! balancer that knows nothing of sessions.
//!
//! Everything here ends when it is dropped, also when a test panics. What cannot be started fails with its log. Whether a
//! broker is there at all is asked with [`is_installed`]: tests that need one are in modules called `redis` and `nats`, so
//! that `cargo test -- --skip redis` leaves them out.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod balancer;
mod folder;
mod http;
mod nats;
mod nodes;
mod program;
mod redis;

pub use balancer::{Balancer, Mode};
pub use folder::Folder;
pub use nats::{Nats, NatsCluster, NatsOptions};
pub use nodes::{Node, Nodes};
pub use program::{Program, tether};
pub use redis::{Persistence, Redis, RedisCluster, RedisOptions, RedisSentinel};

use std::env;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long something that must happen may take: far longer than it does, since machines that run tests are busy.
pub const PATIENCE: Duration = Duration::from_secs(30);

const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Whether there is a program of this name on the `PATH`, or where Debian puts servers.
pub fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.into_iter().any(|folder| folder.join(program).is_file())
}

/// Below the ports that systems give to outgoing connections: what is stopped finds its port free when it comes back.
const PORTS: Range<u32> = 12_000..32_000;

static PORTS_GIVEN: AtomicU32 = AtomicU32::new(0);

/// A loopback port that nobody listens on, another one each time.
///
/// # Panics
/// Without a free port.
pub fn free_port() -> u16 {
    let count = PORTS.end - PORTS.start;
    // Processes that test at the same time begin far from each other.
    let first = std::process::id().wrapping_mul(7_919) % count;
    let candidates = (0..count).map(|_| PORTS_GIVEN.fetch_add(1, Ordering::Relaxed));
    let mut ports = candidates.map(|number| PORTS.start + first.wrapping_add(number) % count);
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let port = ports.find_map(|port| u16::try_from(port).ok().filter(is_free));
    port.expect("some port is free")
}

/// Looks again and again until `holds`.
///
/// # Panics
/// If that takes longer than [`PATIENCE`].
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        thread::sleep(LOOK_AGAIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_is_free_and_given_once() {
        let (one, other) = (free_port(), free_port());
        assert_ne!(one, other);
        TcpListener::bind((Ipv4Addr::LOCALHOST, one)).unwrap();
    }

    #[test]
    fn what_is_not_there_is_not_installed() {
        assert!(is_installed("sh"));
        assert!(!is_installed("a-program-that-nobody-wrote"));
    }
}
