//! Server CPU for the same work, slice by slice: every server does a part, then every server the next part, so that
//! whatever else the machine does in the meantime hits all of them alike.

use std::time::Duration;

use crate::deadline::Deadline;
use crate::failure::Failure;
use crate::load::client::Client;
use crate::load::dialect::Role;
use crate::load::{self, Load};
use crate::subjects::{Server, Subject};

/// Slices that count, and before them those that warm up code, pools and JIT compilers.
pub const SLICES: usize = 4;
const WARM_SLICES: usize = 1;

/// Messages to each client before a slice: more than the 16 that TCP acknowledges at once.
const WARM_MESSAGES: u64 = 20;

/// `count` things a slice, in all slices.
pub const fn slices_in_all(count: usize) -> usize {
    count * (WARM_SLICES + SLICES)
}

/// Long enough for a server to have gone to sleep: its CPU time is exact then.
pub const SETTLE: Duration = Duration::from_millis(5);

/// A server that used more in that time is still busy with what its clients last sent. It is waited for so often.
const ASLEEP_MAX: Duration = Duration::from_micros(250);
const SETTLES_MAX: usize = 20;

/// What a server is given to do, one slice at a time.
pub enum Task {
    /// `count` bursts of `burst` publications, each burst when all of the one before has arrived.
    Publish { publishing: Publishing, burst: u64, count: u64 },
    /// Each of the first `clients` has `count` messages echoed, one in flight.
    Echo { clients: usize, next: u64, count: u64 },
    /// `count` more clients connect, and subscribe where there is something to subscribe to.
    Connect { count: usize },
}

/// One server in the race.
pub struct Runner {
    server: Server,
    load: Load,
    task: Task,
    used: Duration,
    units: u64,
}

impl Runner {
    /// At the start, with its clients connected.
    pub fn new(server: Server, load: Load, task: Task) -> Self {
        Self { server, load, task, used: Duration::ZERO, units: 0 }
    }

    /// Who it is.
    pub fn subject(&self) -> Subject {
        self.server.subject
    }

    /// Server CPU per unit so far, µs.
    pub fn cost(&self) -> f64 {
        self.used.as_secs_f64() * 1e6 / self.units as f64
    }

    fn slice(&mut self, deadline: &Deadline) -> Result<(), Failure> {
        self.task.warm_up(&mut self.load, deadline)?;
        let before = self.settle(deadline)?;
        self.units += self.task.slice(&mut self.load, deadline)?;
        let after = self.settle(deadline)?;
        self.used += after.saturating_sub(before);
        Ok(())
    }

    /// Rests until the server sleeps: clients that poll have asked again, and it is not done with that when the last
    /// delivery is there. Returns its CPU time.
    fn settle(&mut self, deadline: &Deadline) -> Result<Duration, Failure> {
        let mut now = self.server.cpu_time()?;
        for _ in 0..SETTLES_MAX {
            self.load.rest(SETTLE, deadline)?;
            let before = std::mem::replace(&mut now, self.server.cpu_time()?);
            if now.saturating_sub(before) <= ASLEEP_MAX {
                break;
            }
        }
        Ok(now)
    }

    /// Its clients are not to look dead because the others had their turn.
    fn answer_heartbeats(&mut self, deadline: &Deadline) -> Result<(), Failure> {
        self.load.rest(Duration::from_millis(1), deadline)
    }

    fn forget(&mut self) {
        (self.used, self.units) = (Duration::ZERO, 0);
    }
}

/// Lets all do all their slices.
pub fn run(runners: &mut [Runner], deadline: &Deadline) -> Result<(), Failure> {
    for slice in 0..WARM_SLICES + SLICES {
        for turn in 0..runners.len() {
            if slice == WARM_SLICES {
                runners[turn].forget();
            }
            let subject = runners[turn].subject();
            runners[turn].slice(deadline).map_err(Failure::of(subject))?;
            for runner in &mut *runners {
                runner.answer_heartbeats(deadline).map_err(Failure::of(runner.subject()))?;
            }
        }
    }
    Ok(())
}

impl Task {
    /// Before each slice, something that does not count. The clients were idle while the other servers had their turn,
    /// and the caches are cold; above all, TCP that was idle for longer than its retransmission timeout (200 ms)
    /// acknowledges the next 16 segments at once instead of by and by, which costs the sender half as much again.
    fn warm_up(&mut self, load: &mut Load, deadline: &Deadline) -> Result<(), Failure> {
        match self {
            Self::Publish { publishing, .. } => publishing.bursts(load, WARM_MESSAGES, 1, deadline).map(drop),
            Self::Echo { clients, next, .. } => {
                converse(load, *clients, next, WARM_MESSAGES, deadline).map(drop)
            }
            // Each connection is new.
            Self::Connect { .. } => Ok(()),
        }
    }

    /// Does one slice; returns the deliveries, echoes or connects it was.
    fn slice(&mut self, load: &mut Load, deadline: &Deadline) -> Result<u64, Failure> {
        match self {
            Self::Publish { publishing, burst, count } => publishing.bursts(load, *count, *burst, deadline),
            Self::Echo { clients, next, count } => converse(load, *clients, next, *count, deadline),
            Self::Connect { count } => {
                load.open(*count, Role::Subscriber, deadline)?;
                Ok(*count as u64)
            }
        }
    }
}

/// One publisher and what it has said.
pub struct Publishing {
    pub publisher: usize,
    subscribers: u64,
    /// Number of the next publication.
    pub next: u64,
}

impl Publishing {
    /// Opens a publisher for the subscribers that are there.
    pub fn open(load: &mut Load, subscribers: usize, deadline: &Deadline) -> Result<Self, Failure> {
        let publisher = load.open_publisher(deadline)?;
        Ok(Self { publisher, subscribers: subscribers as u64, next: 0 })
    }

    /// Publishes `count` bursts, each when all of the one before has arrived. Returns the deliveries.
    pub fn bursts(
        &mut self,
        load: &mut Load,
        count: u64,
        burst: u64,
        deadline: &Deadline,
    ) -> Result<u64, Failure> {
        for _ in 0..count {
            load.client(self.publisher).say_all(self.next..self.next + burst)?;
            self.next += burst;
            load.await_deliveries(burst * self.subscribers, deadline)?;
        }
        Ok(count * burst * self.subscribers)
    }
}

/// Each of the first `clients` says `count` messages from `next` on, each when it hears the one before. Returns the
/// echoes.
fn converse(
    load: &mut Load,
    clients: usize,
    next: &mut u64,
    count: u64,
    deadline: &Deadline,
) -> Result<u64, Failure> {
    let end = *next + count;
    for index in 0..clients {
        load.client(index).say(*next)?;
    }
    let mut talking = clients;
    while talking > 0 {
        load.turn(load::WAIT_MAX, deadline, |client: &mut Client, sequence| {
            if sequence + 1 < end {
                return client.say(sequence + 1);
            }
            talking -= 1;
            Ok(())
        })?;
    }
    *next = end;
    Ok(count * clients as u64)
}

/// The task of publishing, with subscribers and publisher connected.
pub fn publish(
    load: &mut Load,
    subscribers: usize,
    count: u64,
    burst: u64,
    deadline: &Deadline,
) -> Result<Task, Failure> {
    load.open(subscribers, Role::Subscriber, deadline)?;
    Ok(Task::Publish { publishing: Publishing::open(load, subscribers, deadline)?, burst, count })
}

/// The task of echoing, with the clients connected.
pub fn echo(load: &mut Load, clients: usize, count: u64, deadline: &Deadline) -> Result<Task, Failure> {
    load.open(clients, Role::Echo, deadline)?;
    Ok(Task::Echo { clients, next: 0, count })
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use mio::net::TcpListener;

    use super::*;
    use crate::deadline::Interrupt;
    use crate::load::dialect::Dialect;
    use crate::load::wire::Transport;

    /// A load on the floor, which runs on a thread of this process and ends with it.
    fn load() -> Load {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        std::thread::spawn(move || crate::floor::serve(listener));
        Load::new(address, Transport::WebSocket(Dialect::Bare)).expect("an epoll")
    }

    #[test]
    fn the_floor_delivers_each_publication_once_and_in_order() {
        let deadline = Interrupt::default().deadline("test", Duration::from_secs(20));
        for burst in [1, 8] {
            let mut load = load();
            let mut task = publish(&mut load, 50, 20, burst, &deadline).expect("clients");
            assert_eq!(task.slice(&mut load, &deadline).expect("a slice"), 20 * burst * 50);
            assert_eq!(task.slice(&mut load, &deadline).expect("another"), 20 * burst * 50);
            load.rest(SETTLE, &deadline).expect("nothing came twice");
        }
    }

    #[test]
    fn the_floor_gives_back_what_each_client_says() {
        let deadline = Interrupt::default().deadline("test", Duration::from_secs(20));
        let mut load = load();
        let mut task = echo(&mut load, 20, 50, &deadline).expect("clients");
        assert_eq!(task.slice(&mut load, &deadline).expect("a slice"), 20 * 50);
        assert_eq!(task.slice(&mut load, &deadline).expect("another"), 20 * 50);
    }
}
