//! Several nodes of the server that is tested, each a process.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Folder, Program, free_port, http};

const BROKER: &str = "DUPLEX_BROKER__URL";
/// What they know each other by.
const SECRET: &str = "a secret that the nodes of a test share";

/// The nodes of a cluster. What they have in common, such as their broker, is told by their arguments.
#[derive(Debug)]
pub struct Nodes {
    nodes: Vec<Node>,
    // Dropped last: the logs are in it.
    folder: Folder,
}

/// One node, on a port that it keeps over all its lives.
#[derive(Debug)]
pub struct Node {
    program: Program,
    address: SocketAddr,
}

impl Nodes {
    /// Starts `count` of them as `program serve --listen ADDRESS ARGUMENTS…`, each with these variables in its environment, such
    /// as `DUPLEX_BROKER__URL`, and waits until all are ready. Those that have a broker listen for each other, too.
    ///
    /// # Panics
    /// If one of them is not ready in time.
    pub fn start(program: &Path, count: usize, arguments: &[OsString], settings: &[(&str, &str)]) -> Self {
        let folder = Folder::new("nodes");
        let start = |number: usize| {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
            let mut command = Command::new(program);
            command.args(["serve", "--listen", &address.to_string()]).args(arguments);
            // Nothing else of the environment sets them up.
            let inherited = std::env::vars_os().map(|(name, _)| name);
            for name in inherited.filter(|name| name.to_string_lossy().starts_with("DUPLEX_")) {
                command.env_remove(name);
            }
            command.envs(settings.iter().copied());
            if settings.iter().any(|(name, value)| *name == BROKER && *value != "memory") {
                command.env("DUPLEX_CLUSTER__LISTEN", format!("127.0.0.1:{}", free_port()));
                command.env("DUPLEX_CLUSTER__SECRET", SECRET);
            }
            Node { program: Program::start(command, &log(&folder, number)), address }
        };
        let mut nodes: Vec<Node> = (0..count).map(start).collect();
        nodes.iter_mut().for_each(Node::until_ready);
        Self { nodes, folder }
    }

    /// Where they listen.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.address).collect()
    }

    /// One of them.
    pub fn node(&mut self, number: usize) -> &mut Node {
        &mut self.nodes[number]
    }

    /// All of them.
    pub fn all(&mut self) -> &mut [Node] {
        &mut self.nodes
    }

    /// Where each of them writes what it has to say.
    pub fn logs(&self) -> Vec<PathBuf> {
        (0..self.nodes.len()).map(|number| log(&self.folder, number)).collect()
    }

    /// Everything that they have printed, one after the other.
    pub fn said(&self) -> String {
        self.nodes.iter().map(Node::said).collect()
    }
}

fn log(folder: &Folder, number: usize) -> PathBuf {
    folder.path().join(format!("{number}.log"))
}

impl Node {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything that it has printed.
    pub fn said(&self) -> String {
        self.program.said()
    }

    /// Its process, to be killed, paused and resumed.
    pub fn program(&mut self) -> &mut Program {
        &mut self.program
    }

    /// Starts it after it has ended, and waits until it is ready.
    pub fn start_again(&mut self) {
        self.program.start_again();
        self.until_ready();
    }

    /// Whether it takes clients: its answer to `GET /readyz`.
    pub fn is_ready(&self) -> bool {
        http::get(self.address, "/readyz").is_some_and(|(status, _)| status == 200)
    }

    /// Waits until it takes clients.
    ///
    /// # Panics
    /// With what it printed if it ends before, or takes too long.
    pub fn until_ready(&mut self) {
        let address = self.address;
        self.program.until_ready(|| http::get(address, "/readyz").is_some_and(|(status, _)| status == 200));
    }
}
