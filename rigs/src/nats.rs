//! NATS servers with JetStream.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use crate::{Folder, Program, eventually, free_port, http};

const SERVER: &str = "nats-server";

/// How a server is set up.
#[derive(Debug, Clone, Default)]
pub struct NatsOptions {
    /// Where it listens; a free port unless it is said.
    pub port: Option<u16>,
    /// The largest message that it takes, bytes.
    pub payload_bytes_max: Option<usize>,
    /// More lines of its configuration file.
    pub more: String,
}

/// A running `nats-server` with JetStream on disk.
#[derive(Debug)]
pub struct Nats {
    program: Program,
    port: u16,
    monitoring: u16,
    // Dropped last: the process uses it.
    folder: Folder,
}

impl Nats {
    /// Starts one with nothing special.
    pub fn start() -> Self {
        Self::start_with(&NatsOptions::default())
    }

    /// Starts one.
    ///
    /// # Panics
    /// If it is not ready in time.
    pub fn start_with(options: &NatsOptions) -> Self {
        let mut nats = Self::launch(options);
        nats.until_ready();
        nats
    }

    /// The same, but one that belongs to a cluster is ready only when the others are there.
    fn launch(options: &NatsOptions) -> Self {
        let folder = Folder::new("nats");
        let port = options.port.unwrap_or_else(free_port);
        let monitoring = free_port();
        let file = folder.path().join("nats.conf");
        fs::write(&file, configuration(options, port, monitoring, folder.path()))
            .expect("the folder can be written to");
        let mut command = Command::new(SERVER);
        command.arg("-c").arg(&file).current_dir(folder.path());
        let program = Program::start(command, &folder.path().join("log"));
        Self { program, port, monitoring, folder }
    }

    /// Where it listens, on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where its monitoring pages are.
    pub fn monitoring_port(&self) -> u16 {
        self.monitoring
    }

    /// As clients want it.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Asks it to end, and waits until it has.
    pub fn stop(&mut self) {
        self.program.stop();
    }

    /// Ends it without a word.
    pub fn kill9(&mut self) {
        self.program.kill9();
    }

    /// From now on it answers nothing, and its connections stay open.
    pub fn pause(&mut self) {
        self.program.pause();
    }

    /// It goes on.
    pub fn resume(&mut self) {
        self.program.resume();
    }

    /// Ends it if it runs, and starts it on the same port with what it has stored.
    pub fn restart(&mut self) {
        self.program.stop();
        self.program.start_again();
        self.until_ready();
    }

    /// The same, with nothing of what it had stored.
    ///
    /// # Panics
    /// If that cannot be removed.
    pub fn restart_empty(&mut self) {
        self.program.stop();
        let stored = self.folder.path().join("jetstream");
        if stored.exists() {
            fs::remove_dir_all(stored).expect("what it stored can be removed");
        }
        self.program.start_again();
        self.until_ready();
    }

    /// What a monitoring page says, e.g. `/jsz?streams=true`.
    pub fn page(&self, path: &str) -> Option<String> {
        page(self.monitoring, path)
    }

    /// Everything it has logged.
    pub fn log(&self) -> String {
        self.program.said()
    }

    fn until_ready(&mut self) {
        let monitoring = self.monitoring;
        self.program.until_ready(|| is_healthy(monitoring));
    }
}

fn is_healthy(monitoring: u16) -> bool {
    page(monitoring, "/healthz").is_some_and(|page| page.contains("\"ok\""))
}

fn configuration(options: &NatsOptions, port: u16, monitoring: u16, folder: &Path) -> String {
    let mut text = format!("listen: \"127.0.0.1:{port}\"\nhttp: \"127.0.0.1:{monitoring}\"\n");
    // It puts a folder `jetstream` into this one. Nobody listens to its reports.
    let _ = writeln!(text, "jetstream {{ store_dir: {:?} }}", folder.display().to_string());
    if let Some(bytes) = options.payload_bytes_max {
        let _ = writeln!(text, "max_payload: {bytes}");
    }
    text + &options.more
}

fn page(port: u16, path: &str) -> Option<String> {
    let (status, body) = http::get(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), path)?;
    (status == 200).then_some(body)
}

/// Three servers that keep JetStream's streams together.
#[derive(Debug)]
pub struct NatsCluster {
    nodes: Vec<Nats>,
}

impl NatsCluster {
    /// Starts it and waits until it has a leader.
    pub fn start() -> Self {
        let routes = [free_port(), free_port(), free_port()];
        let all: Vec<String> = routes.iter().map(|port| format!("\"nats://127.0.0.1:{port}\"")).collect();
        let node = |(at, port): (usize, &u16)| {
            let more = format!(
                "server_name: \"node{at}\"\ncluster {{ name: \"three\", listen: \"127.0.0.1:{port}\", routes: [{}] }}\n",
                all.join(", ")
            );
            Nats::launch(&NatsOptions { more, ..NatsOptions::default() })
        };
        let nodes: Vec<Nats> = routes.iter().enumerate().map(node).collect();
        let mut cluster = Self { nodes };
        cluster.nodes.iter_mut().for_each(Nats::until_ready);
        eventually("JetStream has a leader", || cluster.leader().is_some());
        cluster
    }

    /// Its servers, in the order of their names.
    pub fn nodes(&mut self) -> &mut [Nats] {
        &mut self.nodes
    }

    /// Where clients may connect, in the order of the servers.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Nats::url).collect()
    }

    /// Which of its servers leads JetStream's own group, if it is known.
    pub fn leader(&self) -> Option<usize> {
        let page = self.nodes.iter().find_map(|node| node.page("/jsz"))?;
        let (_, after) = page.split_once("\"leader\": \"node")?;
        after.split('"').next()?.parse().ok()
    }
}
