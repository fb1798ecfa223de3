//! A cluster that looks like one server: `duplex-cluster serve --listen ADDRESS …` starts a broker, three nodes with these
//! options, and a balancer without stickiness at the address. Any suite that starts `duplex` can thus be played against a
//! cluster. Everything else is done by `duplex` itself, which lies beside this program.
//!
//! SIGTERM and SIGHUP go to all nodes; whatever ends this program ends them, too. With `RIGS_CONTROL=1` it reads orders, one a
//! line, and answers each with a line when it is done: `kill 0`, `stop 1`, `start 1`, `pause 2`, `resume 2`, and for the
//! broker `broker kill`, `broker restart`, `broker pause`, `broker resume`. When there can be no more, it kills all. `RIGS_NODES` says how many nodes there are; `RIGS_BROKER` is
//! `redis`, unless it is said, `nats` or `none`.

#![forbid(unsafe_code)]

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use duplex_rigs::{Balancer, Folder, Mode, Nats, Nodes, Redis};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use tokio::io::{AsyncBufReadExt, BufReader, Lines, Stdin};
use tokio::signal::unix::{SignalKind, signal};

/// How long connections may last when no node is there any more.
const LAST_WORDS: Duration = Duration::from_secs(2);
const TETHERED: &str = "--tethered";

fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    match arguments.split_first() {
        Some((first, command)) if first == TETHERED => tethered(command),
        Some((first, options)) if first == "serve" => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime starts").block_on(Cluster::start(options).serve())
        }
        _ => failed(&Command::new(server()).args(arguments).exec()),
    }
}

/// Becomes the program, which ends with whoever started us.
fn tethered(command: &[OsString]) -> ExitCode {
    let (program, arguments) = command.split_first().expect("a program is named");
    match set_parent_process_death_signal(Some(Signal::KILL)) {
        Ok(()) => failed(&Command::new(program).args(arguments).exec()),
        Err(error) => failed(&error.into()),
    }
}

fn failed(error: &std::io::Error) -> ExitCode {
    eprintln!("duplex-cluster: {error}");
    ExitCode::FAILURE
}

fn own_path() -> PathBuf {
    env::current_exe().expect("the system knows what it runs")
}

/// The program that is tested.
fn server() -> PathBuf {
    own_path().with_file_name("duplex")
}

struct Cluster {
    // Dropped in this order: first whoever depends on the others.
    balancer: Balancer,
    nodes: Nodes,
    broker: Broker,
}

/// What the nodes meet through.
enum Broker {
    None,
    Redis(Redis),
    Nats(Nats),
}

impl Broker {
    fn start() -> Self {
        match env::var("RIGS_BROKER").as_deref() {
            Ok("none") => Self::None,
            Ok("nats") => Self::Nats(Nats::start()),
            _ => Self::Redis(Redis::start()),
        }
    }

    fn url(&self) -> String {
        match self {
            Self::None => "memory".to_owned(),
            Self::Redis(redis) => redis.url(),
            Self::Nats(nats) => nats.url(),
        }
    }

    /// Whether there is such an order for it.
    fn carry_out(&mut self, verb: &str) -> bool {
        match (verb, self) {
            ("kill", Self::Redis(redis)) => redis.kill9(),
            ("kill", Self::Nats(nats)) => nats.kill9(),
            ("restart", Self::Redis(redis)) => redis.restart(),
            ("restart", Self::Nats(nats)) => nats.restart(),
            ("pause", Self::Redis(redis)) => redis.pause(),
            ("pause", Self::Nats(nats)) => nats.pause(),
            ("resume", Self::Redis(redis)) => redis.resume(),
            ("resume", Self::Nats(nats)) => nats.resume(),
            _ => return false,
        }
        true
    }
}

impl Cluster {
    fn start(options: &[OsString]) -> Self {
        Folder::clear_left_behind();
        duplex_rigs::tether(vec![own_path().into(), TETHERED.into()]);
        let (listen, options) = listen(options);
        let broker = Broker::start();
        let count = env::var("RIGS_NODES").ok().and_then(|count| count.parse().ok()).unwrap_or(3);
        let mut nodes = Nodes::start(&server(), count, &options, &[("DUPLEX_BROKER__URL", &broker.url())]);
        if !matches!(broker, Broker::None) {
            until_acquainted(&nodes, count);
        }
        let balancer = Balancer::start_at(listen, Mode::Requests, &nodes.addresses());
        // As the server says it, from where the cluster is reached.
        let first = nodes.addresses()[0].to_string();
        let said = nodes.node(0).said().replace(&first, &balancer.address().to_string());
        println!("{}", said.trim_end());
        for (number, log) in nodes.logs().into_iter().enumerate() {
            thread::spawn(move || pass_on(number, &log));
        }
        Self { balancer, nodes, broker }
    }

    /// Serves until it is told to end and all nodes have.
    async fn serve(mut self) -> ExitCode {
        let mut signals = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()]
            .map(|kind| signal(kind).expect("signals can be listened for"));
        let [terminate, interrupt, hangup] = &mut signals;
        let mut orders = env::var_os("RIGS_CONTROL").map(|_| BufReader::new(tokio::io::stdin()).lines());
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => self.tell_all(Signal::HUP),
                order = next(&mut orders) => match order {
                    Some(order) => println!("{}", self.carry_out(&order)),
                    None => {
                        self.nodes.all().iter_mut().for_each(|node| node.program().kill9());
                        break;
                    }
                },
            }
        }
        self.end();
        ExitCode::SUCCESS
    }

    fn tell_all(&mut self, signal: Signal) {
        for node in self.nodes.all() {
            let pid = Pid::from_raw(node.program().pid().cast_signed()).expect("a child is not process 0");
            // One that has ended hears nothing.
            let _ = kill_process(pid, signal);
        }
    }

    /// Lets one after the other drain, and nobody else come behind the last.
    fn end(mut self) {
        let Some((last, others)) = self.nodes.all().split_last_mut() else { return };
        others.iter_mut().for_each(|node| node.program().stop());
        self.balancer.close();
        last.program().stop();
        // Their last words are still on their way.
        let deadline = Instant::now() + LAST_WORDS;
        while self.balancer.connections() > 0 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// What is answered.
    fn carry_out(&mut self, order: &str) -> String {
        let words: Vec<&str> = order.split_whitespace().collect();
        match &words[..] {
            ["broker", verb] if self.broker.carry_out(verb) => {}
            [verb, number] => {
                let Ok(number) = number.parse() else { return format!("no such node: {order}") };
                let node = self.nodes.node(number);
                match *verb {
                    "kill" => node.program().kill9(),
                    "stop" => node.program().stop(),
                    "start" => node.start_again(),
                    "pause" => node.program().pause(),
                    "resume" => node.program().resume(),
                    _ => return format!("no such order: {order}"),
                }
            }
            _ => return format!("no such order: {order}"),
        }
        format!("done: {order}")
    }
}

/// Nodes of a cluster seldom start at the same moment: waits until each has heard of all others, as their logs tell.
fn until_acquainted(nodes: &Nodes, count: usize) {
    let knows_all = |log: &PathBuf| {
        let said = fs::read_to_string(log).unwrap_or_default();
        said.matches("another node is there").count() >= count - 1
    };
    duplex_rigs::eventually("nodes know each other", || nodes.logs().iter().all(knows_all));
}

/// Says what a node says from here on.
fn pass_on(number: usize, log: &Path) {
    let mut passed = fs::metadata(log).map_or(0, |metadata| metadata.len());
    loop {
        thread::sleep(Duration::from_millis(50));
        let Ok(mut file) = File::open(log) else { return };
        let mut news = Vec::new();
        let read = file.seek(SeekFrom::Start(passed)).and_then(|_| file.read_to_end(&mut news));
        passed += read.unwrap_or(0) as u64;
        let news = String::from_utf8_lossy(&news);
        news.lines().for_each(|line| eprintln!("node {number}: {line}"));
    }
}

/// The address after `--listen`, and everything else.
fn listen(options: &[OsString]) -> (SocketAddr, Vec<OsString>) {
    let at = options.iter().position(|option| option == "--listen").expect("it is told where to listen");
    let address = options.get(at + 1).and_then(|address| address.to_str()?.parse().ok());
    let rest = options.iter().enumerate().filter(|(index, _)| *index != at && *index != at + 1);
    (address.expect("an address follows --listen"), rest.map(|(_, option)| option.clone()).collect())
}

/// The next order, if there ever is one.
async fn next(orders: &mut Option<Lines<BufReader<Stdin>>>) -> Option<String> {
    match orders {
        Some(orders) => orders.next_line().await.ok().flatten(),
        None => std::future::pending().await,
    }
}
