//! The server of a scenario: one process, or three nodes on one Redis behind a balancer that sends each request to the next.

use std::net::SocketAddr;
use std::path::Path;

use duplex_rigs::{Balancer, Mode, Node, Nodes, Redis};

use crate::support::program::{Program, duplex};

const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../conformance/scenarios/server.toml");

/// What a scenario is played on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    One,
    Three,
}

pub enum House {
    One(Option<Program>, SocketAddr),
    Three(Box<Cluster>),
}

pub struct Cluster {
    balancer: Balancer,
    nodes: Nodes,
    redis: Redis,
}

/// How a house ends before it is there again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Drained,
    Killed,
}

impl House {
    pub fn build(host: Host) -> Self {
        match host {
            Host::One => {
                let server = start("127.0.0.1:0");
                let address = server.address;
                Self::One(Some(server), address)
            }
            Host::Three => Self::Three(Box::new(Cluster::start())),
        }
    }

    /// Where clients and backends go.
    pub fn address(&self) -> SocketAddr {
        match self {
            Self::One(_, address) => *address,
            Self::Three(cluster) => cluster.balancer.address(),
        }
    }

    /// Each of the nodes by itself.
    pub fn nodes(&self) -> Vec<SocketAddr> {
        match self {
            Self::One(_, address) => vec![*address],
            Self::Three(cluster) => cluster.nodes.addresses(),
        }
    }

    /// Ends, and is there again, with no history.
    pub fn restart(&mut self, end: End) {
        match self {
            Self::One(server, address) => {
                let mut last = server.take().expect("it runs");
                last.signal(if end == End::Drained { "-TERM" } else { "-KILL" });
                last.end();
                drop(last);
                *server = Some(start(&address.to_string()));
            }
            Self::Three(cluster) => cluster.restart(end),
        }
    }
}

impl Cluster {
    fn start() -> Self {
        let redis = Redis::start();
        let arguments = ["--config", CONFIG, "--shards", "2"].map(Into::into);
        let settings = [("DUPLEX_BROKER__URL", redis.url())];
        let settings = settings.each_ref().map(|(name, value)| (*name, value.as_str()));
        let nodes = Nodes::start(Path::new(env!("CARGO_BIN_EXE_duplex")), 3, &arguments, &settings);
        let balancer = Balancer::start(Mode::Requests, &nodes.addresses());
        Self { balancer, nodes, redis }
    }

    fn restart(&mut self, end: End) {
        match end {
            // One after the other, as it is done.
            End::Drained => self.nodes.all().iter_mut().for_each(|node| {
                node.program().stop();
                node.start_again();
            }),
            End::Killed => {
                self.nodes.all().iter_mut().for_each(|node| node.program().kill9());
                self.nodes.all().iter_mut().for_each(Node::start_again);
            }
        }
        self.redis.restart();
    }
}

fn start(listen: &str) -> Program {
    Program::run(duplex(&["serve", "--config", CONFIG, "--listen", listen, "--shards", "2"]))
}
