//! The works: what is done to a server, and what it cost.

use std::time::{Duration, Instant};

use clap::ValueEnum;
use hdrhistogram::Histogram;

use crate::deadline::{Deadline, Interrupt};
use crate::failure::Failure;
use crate::hold::{self, Among, Figure};
use crate::limits;
use crate::load::Load;
use crate::load::client::Client;
use crate::load::dialect::Role;
use crate::load::wire::Transport;
use crate::measure::{self, Cores};
use crate::nodes;
use crate::race::{self, Publishing, Runner, Task};
use crate::subjects::{Server, Starter, Subject};

/// One kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Work {
    /// One publication at a time to all subscribers.
    Fanout,
    /// Publications in bursts of 8 to all subscribers.
    Burst,
    /// One publication at a time to all subscribers, who poll.
    Polling,
    /// The same in bursts of 8.
    PollingBurst,
    /// Every client gets back what it sends.
    Echo,
    /// Memory of idle clients.
    Memory,
    /// Connecting.
    Connect,
    /// From the start of the process to readiness.
    Start,
    /// Publications at a fixed rate.
    Latency,
    /// Memory of idle clients that have a token and can recover.
    Idle,
    /// As many stalled subscribers as healthy ones.
    Stalled,
    /// A ticker that is too fast for its reader.
    Ticker,
    /// All clients come back at once.
    Storm,
    /// Memory of idle clients with Server-Sent Events, and of long polls.
    Sse,
    /// One publication at a time to all subscribers, who have Server-Sent Events.
    SseFanout,
    /// Memory of idle clients that speak Socket.IO.
    Socketio,
    /// One publication at a time to all subscribers, who speak Socket.IO.
    SocketioFanout,
    /// The same in bursts of 8.
    SocketioBurst,
    /// Memory of idle clients that speak SignalR.
    Signalr,
    /// One publication at a time to all subscribers, who speak SignalR.
    SignalrFanout,
    /// The same in bursts of 8.
    SignalrBurst,
    /// More clients than a process may have open files, on several nodes; only if it is asked for.
    Hold,
    /// The same subscribers on one node and on several; only if it is asked for.
    Nodes,
}

/// What comes out of a work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// Server CPU per delivery, µs.
    Fanout,
    /// The same in bursts, µs.
    Burst,
    /// Server CPU per delivery by long polling, µs.
    Polling,
    /// The same in bursts, µs.
    PollingBurst,
    /// Server CPU per echo, µs.
    Echo,
    /// Server memory per client with one subscription, bytes.
    Memory,
    /// Server memory per client without a subscription, bytes.
    MemoryUnsubscribed,
    /// Server CPU per connect, µs.
    Connect,
    /// Start to ready, ms.
    Start,
    /// Latency, µs.
    LatencyP50,
    LatencyP99,
    LatencyP999,
    LatencyMax,
    /// Server memory per client with a token and a subscription, bytes.
    MemoryToken,
    /// 99th percentile of those that read, beside stalled ones ÷ without them.
    StalledLatency,
    /// The same while the kernel still takes what the stalled ones do not read.
    FillingLatency,
    /// Until the last stalled client was gone, s.
    StalledGone,
    /// Growth of server memory per stalled client, KiB.
    StalledMemory,
    /// The oldest value a slow reader held, in its reading intervals.
    TickerAge,
    /// Growth of server memory meanwhile, KiB.
    TickerMemory,
    /// Until all were back and had what they missed, s.
    StormTime,
    /// Connections that the kernel refused meanwhile.
    StormOverflows,
    /// Server memory per client of a bare `EventSource`, bytes.
    EventSourceMemory,
    /// Server memory per session that Server-Sent Events carry, bytes.
    EventsMemory,
    /// Server memory per session with a poll that waits, bytes.
    PollMemory,
    /// Server CPU per delivery to a session that Server-Sent Events carry ÷ over a WebSocket.
    EventsFanout,
    /// Server memory per client of Socket.IO, or beside it of the native protocol, bytes.
    SocketioMemory,
    /// The same with one subscription.
    SocketioMemorySubscribed,
    /// Server CPU per delivery to clients of Socket.IO, or beside them of the native protocol, µs.
    SocketioFanout,
    /// The same in bursts, µs.
    SocketioBurst,
    /// Server memory per client of SignalR, or beside it of the native protocol, bytes.
    SignalrMemory,
    /// The same with one subscription.
    SignalrMemorySubscribed,
    /// Server CPU per delivery to clients of SignalR, or beside them of the native protocol, µs.
    SignalrFanout,
    /// The same in bursts, µs.
    SignalrBurst,
    /// Of a crowd on several nodes.
    Hold(Among, Figure),
    /// Of one node and several.
    Nodes(nodes::Point),
}

/// How much of everything. A race has [`race::SLICES`] slices.
#[derive(Clone, Debug)]
pub struct Sizes {
    pub subscribers: usize,
    pub publications_per_slice: u64,
    pub bursts_per_slice: u64,
    pub pollers: usize,
    pub echo_clients: usize,
    pub echoes_per_client_and_slice: u64,
    pub connects_per_slice: usize,
    pub idle_clients: usize,
    pub latency_subscribers: usize,
    pub latency_publications: u64,
    pub latency_per_second: u32,
    /// As many read, and as many stall.
    pub stalled_clients: usize,
    pub ticker_length: Duration,
    pub storm_clients: usize,
    pub held_clients: usize,
    pub held_publications: u64,
    pub nodes_subscribers: usize,
    /// Channels that they share.
    pub nodes_channels: usize,
    /// Of each kind of traffic.
    pub nodes_length: Duration,
    /// Requests of each kind that are sent on.
    pub nodes_requests: u64,
}

/// Publications in one burst.
pub const BURST: u64 = 8;

/// Clients that are connected before memory is measured: what is allocated once is there then.
pub const WARM_CLIENTS: usize = 100;

/// Longer than any work may take.
pub const LATENCY_MAX_NANOS: u64 = 200_000_000_000;

/// The latest end of a work that one server does alone, and of one that several do in turns.
const ALONE_MAX: Duration = Duration::from_secs(120);
const RACE_MAX: Duration = Duration::from_secs(300);

impl Sizes {
    /// What the published figures are measured with.
    pub const FULL: Self = Self {
        subscribers: 2_000,
        publications_per_slice: 25,
        bursts_per_slice: 8,
        pollers: 500,
        echo_clients: 200,
        echoes_per_client_and_slice: 80,
        connects_per_slice: 500,
        idle_clients: 10_000,
        latency_subscribers: 500,
        latency_publications: 250,
        latency_per_second: 50,
        stalled_clients: 1_000,
        ticker_length: Duration::from_secs(10),
        storm_clients: 15_000,
        held_clients: 100_000,
        held_publications: 20,
        nodes_subscribers: 1_000,
        nodes_channels: 10,
        nodes_length: Duration::from_secs(2),
        nodes_requests: 2_000,
    };

    /// For a first impression. Memory per client has a fixed part: fewer idle clients would tell another story.
    pub const QUICK: Self = Self {
        subscribers: 500,
        publications_per_slice: 25,
        bursts_per_slice: 8,
        pollers: 200,
        echo_clients: 50,
        echoes_per_client_and_slice: 80,
        connects_per_slice: 125,
        idle_clients: 10_000,
        latency_subscribers: 200,
        latency_publications: 50,
        latency_per_second: 50,
        stalled_clients: 1_000,
        ticker_length: Duration::from_secs(5),
        storm_clients: 5_000,
        held_clients: 10_000,
        held_publications: 10,
        nodes_subscribers: 400,
        nodes_channels: 10,
        nodes_length: Duration::from_millis(500),
        nodes_requests: 500,
    };

    /// Connects that are measured in one round.
    pub fn connects(&self) -> usize {
        self.connects_per_slice * race::SLICES
    }

    /// Subscribers of a channel that is shared among nodes.
    pub fn nodes_listeners(&self) -> usize {
        self.nodes_subscribers / self.nodes_channels
    }

    /// Open files that the load, or one server, needs at most: four servers race, one at a time has idle clients.
    pub fn open_files(&self) -> u64 {
        let racing = self.subscribers.max(race::slices_in_all(self.connects_per_slice)) * 4;
        self.idle_clients.max(racing).max(self.storm_clients) as u64 + 200
    }
}

impl Work {
    /// Whether the work says anything about this subject: the floor has no subscriptions and one client's handshake;
    /// limits are ours, and other people's protocols over our server have works of their own.
    pub fn suits(self, subject: Subject) -> bool {
        match self {
            Self::Socketio | Self::SocketioFanout | Self::SocketioBurst => {
                matches!(subject, Subject::Duplex | Subject::DuplexSocketio | Subject::Socketio)
            }
            Self::Signalr | Self::SignalrFanout | Self::SignalrBurst => matches!(
                subject,
                Subject::Duplex | Subject::DuplexSignalr | Subject::DuplexSignalrMessagepack
            ),
            _ if subject.is_foreign() => false,
            Self::Memory | Self::Connect | Self::Start => subject != Subject::Floor,
            Self::Idle
            | Self::Stalled
            | Self::Ticker
            | Self::Storm
            | Self::Sse
            | Self::SseFanout
            | Self::Hold
            | Self::Nodes => subject == Subject::Duplex,
            Self::Polling | Self::PollingBurst => subject.polling().is_some(),
            Self::Fanout | Self::Burst | Self::Echo | Self::Latency => true,
        }
    }

    /// Whether it is part of all of it: what takes long and tells of several nodes is not.
    pub fn is_usual(self) -> bool {
        !matches!(self, Self::Hold | Self::Nodes)
    }

    /// Whether it can be measured on this system.
    pub fn is_measurable(self) -> bool {
        measure::SEES_PROCESSES || matches!(self, Self::Start | Self::Latency)
    }

    /// For the progress bar.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fanout => "fan-out",
            Self::Burst => "fan-out in bursts",
            Self::Polling => "long polling",
            Self::PollingBurst => "long polling in bursts",
            Self::Echo => "echo",
            Self::Memory => "memory",
            Self::Connect => "connect",
            Self::Start => "start",
            Self::Latency => "latency",
            Self::Idle => "idle clients with tokens",
            Self::Stalled => "stalled subscribers",
            Self::Ticker => "ticker",
            Self::Storm => "storm",
            Self::Sse => "clients with Server-Sent Events",
            Self::SseFanout => "fan-out by Server-Sent Events",
            Self::Socketio => "clients of Socket.IO",
            Self::SocketioFanout => "fan-out by Socket.IO",
            Self::SocketioBurst => "fan-out by Socket.IO in bursts",
            Self::Signalr => "clients of SignalR",
            Self::SignalrFanout => "fan-out by SignalR",
            Self::SignalrBurst => "fan-out by SignalR in bursts",
            Self::Hold => "a crowd on several nodes",
            Self::Nodes => "one node and several",
        }
    }
}

/// Does works.
pub struct Bench {
    pub starter: Starter,
    pub sizes: Sizes,
    pub interrupt: Interrupt,
}

pub type Measured = Vec<(Metric, f64)>;

/// Of one round.
pub type Round = Vec<(Subject, Metric, f64)>;

/// A server that takes part in a race, and how its clients reach it.
pub type Contestant = (Subject, Transport);

fn over_websocket(subjects: &[Subject]) -> Vec<Contestant> {
    subjects.iter().map(|&subject| (subject, Transport::WebSocket(subject.dialect()))).collect()
}

fn polling(subjects: &[Subject]) -> Vec<Contestant> {
    subjects.iter().filter_map(|&subject| Some((subject, subject.polling()?))).collect()
}

impl Bench {
    /// One round of `work` for all of `subjects`, each of which gets a fresh server. `starting` is told of each.
    pub fn round(
        &self,
        work: Work,
        subjects: &[Subject],
        starting: &mut dyn FnMut(Subject),
    ) -> Result<Round, Failure> {
        let sizes = &self.sizes;
        let publish = |subscribers, count, burst| {
            move |load: &mut Load, deadline: &Deadline| {
                race::publish(load, subscribers, count, burst, deadline)
            }
        };
        let one_at_a_time = publish(sizes.subscribers, sizes.publications_per_slice, 1);
        let in_bursts = publish(sizes.subscribers, sizes.bursts_per_slice, BURST);
        let echo = |load: &mut Load, deadline: &Deadline| {
            race::echo(load, sizes.echo_clients, sizes.echoes_per_client_and_slice, deadline)
        };
        let connect = |_: &mut Load, _: &Deadline| Ok(Task::Connect { count: sizes.connects_per_slice });
        match work {
            Work::Fanout => self.race(Metric::Fanout, &over_websocket(subjects), starting, one_at_a_time),
            Work::Burst => self.race(Metric::Burst, &over_websocket(subjects), starting, in_bursts),
            Work::Polling => {
                let task = publish(sizes.pollers, sizes.publications_per_slice, 1);
                self.race(Metric::Polling, &polling(subjects), starting, task)
            }
            Work::PollingBurst => {
                let task = publish(sizes.pollers, sizes.bursts_per_slice, BURST);
                self.race(Metric::PollingBurst, &polling(subjects), starting, task)
            }
            Work::Echo => self.race(Metric::Echo, &over_websocket(subjects), starting, echo),
            Work::Connect => self.race(Metric::Connect, &over_websocket(subjects), starting, connect),
            Work::Memory => self.one_by_one(work, subjects, starting, Self::memory),
            Work::Start => self.one_by_one(work, subjects, starting, Self::start),
            Work::Latency => self.one_by_one(work, subjects, starting, Self::latency),
            Work::Idle => self.limit(work, subjects, starting, limits::idle::idle),
            Work::Stalled => self.limit(work, subjects, starting, limits::stalled::stalled),
            Work::Ticker => self.limit(work, subjects, starting, limits::ticker::ticker),
            Work::Storm => self.limit(work, subjects, starting, limits::storm::storm),
            Work::Sse => self.limit(work, subjects, starting, limits::events::memory),
            Work::SseFanout => self.limit(work, subjects, starting, limits::events::fanout),
            Work::Socketio => {
                let metrics = [Metric::SocketioMemory, Metric::SocketioMemorySubscribed];
                self.memory_with_and_without(metrics, work, subjects, starting)
            }
            Work::SocketioFanout => {
                self.race(Metric::SocketioFanout, &over_websocket(subjects), starting, one_at_a_time)
            }
            Work::SocketioBurst => {
                self.race(Metric::SocketioBurst, &over_websocket(subjects), starting, in_bursts)
            }
            Work::Signalr => {
                let metrics = [Metric::SignalrMemory, Metric::SignalrMemorySubscribed];
                self.memory_with_and_without(metrics, work, subjects, starting)
            }
            Work::SignalrFanout => {
                self.race(Metric::SignalrFanout, &over_websocket(subjects), starting, one_at_a_time)
            }
            Work::SignalrBurst => {
                self.race(Metric::SignalrBurst, &over_websocket(subjects), starting, in_bursts)
            }
            Work::Hold => self.limit(work, subjects, starting, |bench, _| hold::all(bench)),
            Work::Nodes => self.limit(work, subjects, starting, |bench, _| nodes::all(bench)),
        }
    }

    fn race(
        &self,
        metric: Metric,
        contestants: &[Contestant],
        starting: &mut dyn FnMut(Subject),
        task: impl Fn(&mut Load, &Deadline) -> Result<Task, Failure>,
    ) -> Result<Round, Failure> {
        let deadline = self.interrupt.deadline("the work", RACE_MAX);
        let runners = self.run(contestants, starting, task, &deadline)?;
        Ok(runners.iter().map(|runner| (runner.subject(), metric, runner.cost())).collect())
    }

    /// Lets all do their slices of a task. Returns them in order.
    pub fn run(
        &self,
        contestants: &[Contestant],
        starting: &mut dyn FnMut(Subject),
        task: impl Fn(&mut Load, &Deadline) -> Result<Task, Failure>,
        deadline: &Deadline,
    ) -> Result<Vec<Runner>, Failure> {
        let mut runners = Vec::new();
        for &(subject, transport) in contestants {
            starting(subject);
            let runner = self.runner(subject, transport, &task, deadline).map_err(Failure::of(subject))?;
            runners.push(runner);
        }
        race::run(&mut runners, deadline)?;
        Ok(runners)
    }

    fn runner(
        &self,
        subject: Subject,
        transport: Transport,
        task: impl Fn(&mut Load, &Deadline) -> Result<Task, Failure>,
        deadline: &Deadline,
    ) -> Result<Runner, Failure> {
        let (server, mut load) = self.begin(subject, transport, deadline)?;
        let task = task(&mut load, deadline)?;
        Ok(Runner::new(server, load, task))
    }

    fn one_by_one(
        &self,
        work: Work,
        subjects: &[Subject],
        starting: &mut dyn FnMut(Subject),
        measure: impl Fn(&Self, Subject, &Deadline) -> Result<Measured, Failure>,
    ) -> Result<Round, Failure> {
        let mut round = Round::new();
        for &subject in subjects {
            starting(subject);
            let deadline = self.interrupt.deadline(work.name(), ALONE_MAX);
            let measured = measure(self, subject, &deadline).map_err(Failure::of(subject))?;
            round.extend(measured.into_iter().map(|(metric, figure)| (subject, metric, figure)));
        }
        Ok(round)
    }

    fn limit(
        &self,
        work: Work,
        subjects: &[Subject],
        starting: &mut dyn FnMut(Subject),
        measure: impl Fn(&Self, &Deadline) -> Result<Measured, Failure>,
    ) -> Result<Round, Failure> {
        self.one_by_one(work, subjects, starting, |bench, _, deadline| measure(bench, deadline))
    }

    fn begin(
        &self,
        subject: Subject,
        transport: Transport,
        deadline: &Deadline,
    ) -> Result<(Server, Load), Failure> {
        let server = self.starter.start_for(subject, transport, deadline)?;
        let load = Load::new(server.address, transport)?;
        Ok((server, load))
    }

    fn memory(&self, subject: Subject, deadline: &Deadline) -> Result<Measured, Failure> {
        let transport = Transport::WebSocket(subject.dialect());
        let subscribed = self.memory_per_client(subject, transport, Role::Subscriber, deadline)?;
        let mut measured = vec![(Metric::Memory, subscribed)];
        if subject == Subject::Duplex {
            let connected = self.memory_per_client(subject, transport, Role::Bystander, deadline)?;
            measured.push((Metric::MemoryUnsubscribed, connected));
        }
        Ok(measured)
    }

    /// Of clients without a subscription, and with one where it is our server that has them.
    fn memory_with_and_without(
        &self,
        [without, with]: [Metric; 2],
        work: Work,
        subjects: &[Subject],
        starting: &mut dyn FnMut(Subject),
    ) -> Result<Round, Failure> {
        self.one_by_one(work, subjects, starting, |bench, subject, deadline| {
            let transport = Transport::WebSocket(subject.dialect());
            let per_client = |role| bench.memory_per_client(subject, transport, role, deadline);
            let mut measured = vec![(without, per_client(Role::Bystander)?)];
            if subject.is_ours() {
                measured.push((with, per_client(Role::Subscriber)?));
            }
            Ok(measured)
        })
    }

    /// Growth of the server's memory over so many idle clients, bytes.
    pub fn memory_per_client(
        &self,
        subject: Subject,
        transport: Transport,
        role: Role,
        deadline: &Deadline,
    ) -> Result<f64, Failure> {
        let (server, mut load) = self.begin(subject, transport, deadline)?;
        load.open(WARM_CLIENTS, role, deadline)?;
        load.acknowledge()?;
        let before = server.settled_bytes(|pause| load.rest(pause, deadline))?;
        load.open(self.sizes.idle_clients, role, deadline)?;
        load.acknowledge()?;
        let after = server.settled_bytes(|pause| load.rest(pause, deadline))?;
        Ok((after - before) / self.sizes.idle_clients as f64)
    }

    fn start(&self, subject: Subject, deadline: &Deadline) -> Result<Measured, Failure> {
        let server = self.starter.start(subject, deadline)?;
        Ok(vec![(Metric::Start, server.start.as_secs_f64() * 1e3)])
    }

    /// An open loop: publications are due at fixed times, whatever became of those before, and each delivery's latency
    /// counts from when its publication was due. So waiting in line counts too (no coordinated omission).
    fn latency(&self, subject: Subject, deadline: &Deadline) -> Result<Measured, Failure> {
        let transport = Transport::WebSocket(subject.dialect());
        let (_server, mut load) = self.begin(subject, transport, deadline)?;
        let subscribers = self.sizes.latency_subscribers;
        load.open(subscribers, Role::Subscriber, deadline)?;
        let mut publishing = Publishing::open(&mut load, subscribers, deadline)?;
        publishing.bursts(&mut load, self.sizes.latency_publications / 5, 1, deadline)?;
        load.rest(race::SETTLE, deadline)?;

        // Sleeping would add the time to wake up to every figure; on one core we must leave room for the server.
        let wait = match self.starter.cores {
            Cores::Separate { .. } => Duration::ZERO,
            Cores::Shared { .. } => Duration::from_millis(1),
        };
        let interval = Duration::from_secs(1) / self.sizes.latency_per_second;
        let mut histogram =
            Histogram::<u64>::new_with_max(LATENCY_MAX_NANOS, 3).expect("bounds and digits are allowed");
        let (first, publisher) = (publishing.next, publishing.publisher);
        let begin = Instant::now() + interval;
        let due = |sequence: u64| begin + interval * u32::try_from(sequence - first).unwrap_or(u32::MAX);
        let mut next = first;
        let end = first + self.sizes.latency_publications;
        let deliveries = self.sizes.latency_publications * subscribers as u64;
        while histogram.len() < deliveries {
            if next < end && Instant::now() >= due(next) {
                load.client(publisher).say(next)?;
                next += 1;
            }
            load.turn(wait, deadline, |_: &mut Client, sequence| {
                let latency = Instant::now().saturating_duration_since(due(sequence));
                histogram.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
                Ok(())
            })?;
        }
        load.rest(race::SETTLE, deadline)?;
        let micros = |nanos: u64| nanos as f64 / 1e3;
        Ok(vec![
            (Metric::LatencyP50, micros(histogram.value_at_quantile(0.5))),
            (Metric::LatencyP99, micros(histogram.value_at_quantile(0.99))),
            (Metric::LatencyP999, micros(histogram.value_at_quantile(0.999))),
            (Metric::LatencyMax, micros(histogram.max())),
        ])
    }
}
