//! A master, its replica, and three Sentinels who agree which is which.

use std::fs;
use std::process::Command;

use super::{Redis, RedisOptions, SERVER, cli};
use crate::{Folder, Program, eventually, free_port};

const MASTER: &str = "main";

/// Two servers under three Sentinels.
#[derive(Debug)]
pub struct RedisSentinel {
    servers: Vec<Redis>,
    sentinels: Vec<Sentinel>,
}

#[derive(Debug)]
struct Sentinel {
    program: Program,
    port: u16,
    // Dropped last: the process uses it.
    _folder: Folder,
}

impl RedisSentinel {
    /// Starts all and waits until they know each other.
    pub fn start() -> Self {
        let master = Redis::start();
        let replica = RedisOptions::default().with("replicaof", format!("127.0.0.1 {}", master.port()));
        let replica = Redis::start_with(&replica);
        let sentinels = (0..3).map(|_| Sentinel::of(master.port())).collect();
        let rig = Self { servers: vec![master, replica], sentinels };
        eventually("the Sentinels know each other and the replica", || rig.is_complete());
        rig
    }

    /// What the master is called among the Sentinels.
    pub fn name(&self) -> &'static str {
        MASTER
    }

    /// Where the Sentinels listen.
    pub fn ports(&self) -> Vec<u16> {
        self.sentinels.iter().map(|sentinel| sentinel.port).collect()
    }

    /// Where the master listens, as the Sentinels see it.
    pub fn master_port(&self) -> u16 {
        let answer = self.ask(&["get-master-addr-by-name", MASTER]);
        answer.lines().nth(1).and_then(|port| port.parse().ok()).expect("there is a master")
    }

    /// Both servers: who is the master changes.
    pub fn servers(&mut self) -> &mut [Redis] {
        &mut self.servers
    }

    /// The server that listens there.
    ///
    /// # Panics
    /// If it is none of ours.
    pub fn server_at(&mut self, port: u16) -> &mut Redis {
        self.servers.iter_mut().find(|server| server.port() == port).expect("it is one of the two")
    }

    /// Has the replica become the master, and waits until all Sentinels say so.
    pub fn fail_over(&mut self) {
        let before = self.master_port();
        // It is refused for as long as the last one is not over.
        eventually("a failover begins", || self.ask(&["failover", MASTER]) == "OK");
        self.until_master_is_not(before);
        eventually("the former master follows", || self.is_complete());
    }

    /// Ends the master without a word. The Sentinels notice, after a second.
    pub fn kill_master(&mut self) {
        let port = self.master_port();
        self.server_at(port).kill9();
    }

    /// Waits until all Sentinels agree that the master is not this one.
    pub fn until_master_is_not(&self, port: u16) {
        let agrees = |sentinel: &Sentinel| {
            let answer = cli(sentinel.port, &["sentinel", "get-master-addr-by-name", MASTER]);
            answer.lines().nth(1).is_some_and(|now| now != port.to_string())
        };
        eventually("the Sentinels agree on another master", || self.sentinels.iter().all(agrees));
    }

    fn ask(&self, arguments: &[&str]) -> String {
        cli(self.sentinels[0].port, &[&["sentinel"], arguments].concat())
    }

    /// The replica is up to date and each Sentinel knows it and the two others.
    fn is_complete(&self) -> bool {
        let knows = |sentinel: &Sentinel| {
            let master = cli(sentinel.port, &["sentinel", "master", MASTER]);
            let lines: Vec<&str> = master.lines().collect();
            let is = |name: &str, value: &str| lines.windows(2).any(|pair| pair == [name, value]);
            is("num-slaves", "1") && is("num-other-sentinels", "2") && is("flags", "master")
        };
        let follows = |server: &Redis| server.cli(&["INFO", "replication"]).contains("master_link_status:up");
        self.sentinels.iter().all(knows) && self.servers.iter().any(follows)
    }
}

impl Sentinel {
    fn of(master: u16) -> Self {
        let folder = Folder::new("sentinel");
        let port = free_port();
        let file = folder.path().join("sentinel.conf");
        let text = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor {MASTER} 127.0.0.1 {master} 2\n\
            sentinel down-after-milliseconds {MASTER} 1000\nsentinel failover-timeout {MASTER} 3000\n",
            folder.path().display()
        );
        fs::write(&file, text).expect("the folder can be written to");
        let mut command = Command::new(SERVER);
        command.arg(&file).arg("--sentinel");
        let mut program = Program::start(command, &folder.path().join("log"));
        program.until_ready(|| cli(port, &["PING"]) == "PONG");
        Self { program, port, _folder: folder }
    }
}

impl RedisSentinel {
    /// Ends one of the Sentinels without a word.
    pub fn kill_sentinel(&mut self, number: usize) {
        self.sentinels[number].program.kill9();
    }
}
