//! Redis: one server, one with Sentinels, a cluster.

mod cluster;
mod sentinel;

pub use cluster::RedisCluster;
pub use sentinel::RedisSentinel;

use std::process::Command;

use crate::{Folder, Program, free_port};

const SERVER: &str = "redis-server";
const CLI: &str = "redis-cli";

/// What a server keeps over its own end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Persistence {
    /// Nothing.
    #[default]
    None,
    /// Everything that it has answered (the append-only file).
    Everything,
}

/// How a server is set up.
#[derive(Debug, Clone, Default)]
pub struct RedisOptions {
    /// Where it listens; a free port unless it is said.
    pub port: Option<u16>,
    /// What it keeps over its own end.
    pub persistence: Persistence,
    /// Beyond this it takes nothing more (`noeviction`), bytes.
    pub memory_bytes_max: Option<u64>,
    /// More options and their values.
    pub more: Vec<(String, String)>,
}

impl RedisOptions {
    fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.more.push((name.to_owned(), value.to_string()));
        self
    }
}

/// A running `redis-server`.
#[derive(Debug)]
pub struct Redis {
    program: Program,
    port: u16,
    // Dropped last: the process uses it.
    _folder: Folder,
}

impl Redis {
    /// Starts one that keeps nothing.
    pub fn start() -> Self {
        Self::start_with(&RedisOptions::default())
    }

    /// Starts one.
    ///
    /// # Panics
    /// If it is not ready in time.
    pub fn start_with(options: &RedisOptions) -> Self {
        let folder = Folder::new("redis");
        let port = options.port.unwrap_or_else(free_port);
        let mut command = Command::new(SERVER);
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
        command.args(["--save", "", "--enable-debug-command", "local"]).arg("--dir").arg(folder.path());
        let appends = match options.persistence {
            Persistence::None => "no",
            Persistence::Everything => "yes",
        };
        command.args(["--appendonly", appends]);
        if let Some(bytes) = options.memory_bytes_max {
            command.args(["--maxmemory", &bytes.to_string(), "--maxmemory-policy", "noeviction"]);
        }
        for (name, value) in &options.more {
            command.args([&format!("--{name}"), value]);
        }
        let program = Program::start(command, &folder.path().join("log"));
        let mut redis = Self { program, port, _folder: folder };
        redis.until_ready();
        redis
    }

    /// Where it listens, on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process; of the last one if it has ended.
    pub fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// As clients want it.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
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

    /// Ends it if it runs, and starts it on the same port, with what it keeps.
    pub fn restart(&mut self) {
        self.program.stop();
        self.program.start_again();
        self.until_ready();
    }

    /// What `redis-cli` answers, without the newline at the end.
    ///
    /// # Panics
    /// Without `redis-cli`.
    pub fn cli(&self, arguments: &[&str]) -> String {
        cli(self.port, arguments)
    }

    /// Everything it has logged.
    pub fn log(&self) -> String {
        self.program.said()
    }

    fn until_ready(&mut self) {
        let port = self.port;
        self.program.until_ready(|| cli(port, &["PING"]) == "PONG");
    }
}

fn cli(port: u16, arguments: &[&str]) -> String {
    let mut command = Command::new(CLI);
    command.args(["-h", "127.0.0.1", "-p", &port.to_string()]).args(arguments);
    let output = command.output().expect("redis-cli comes with the server");
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}
