//! The program itself, as a process of its own.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use super::eventually;

/// The program, with nothing of the environment that would set it up.
pub fn duplex(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_duplex"));
    let settings = std::env::vars().map(|(name, _)| name).filter(|name| name.starts_with("DUPLEX_"));
    settings.for_each(|name| {
        command.env_remove(name);
    });
    command.args(arguments).env("RUST_LOG", "warn").stdin(Stdio::null()).stdout(Stdio::piped());
    command.stderr(Stdio::piped());
    command
}

/// A running program; it is killed when the test is over.
pub struct Program {
    child: Child,
    pub address: SocketAddr,
    /// What it printed before it was ready.
    pub greeting: String,
    /// Kept, so that it can go on printing.
    stdout: BufReader<ChildStdout>,
}

impl Program {
    /// Starts it with two shards on a free port, and waits until it has said where.
    pub fn start(arguments: &[&str]) -> Self {
        Self::run(duplex(&[&["serve", "--listen", "127.0.0.1:0", "--shards", "2"], arguments].concat()))
    }

    pub fn spawn(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the program starts");
        let stdout = BufReader::new(child.stdout.take().expect("its output is piped"));
        Self { child, address: SocketAddr::from(([0; 4], 0)), greeting: String::new(), stdout }
    }

    pub fn run(command: Command) -> Self {
        let mut program = Self::spawn(command);
        // The last words of its greeting, in dev mode and out of it.
        while !["Ctrl-C", "backends with keys"].iter().any(|words| program.greeting.contains(words)) {
            let length = program.stdout.read_line(&mut program.greeting).expect("it prints text");
            assert_ne!(length, 0, "only {:?}", program.greeting);
        }
        let address = program.greeting.split_once("http://").and_then(|(_, rest)| rest.split_once('/'));
        program.address = address.and_then(|(address, _)| address.parse().ok()).expect("an address");
        program
    }

    pub fn signal(&self, signal: &str) {
        let kill = Command::new("kill").arg(signal).arg(self.child.id().to_string()).status();
        assert!(kill.expect("there is a kill command").success());
    }

    /// Waits until it has ended.
    pub fn end(&mut self) -> ExitStatus {
        let mut status = None;
        eventually(
            || "the program ends".to_owned(),
            || {
                status = self.child.try_wait().expect("a child can be waited for");
                status.is_some()
            },
        );
        status.expect("it has ended")
    }

    /// All it wrote to its log, once it has ended.
    pub fn said(&mut self) -> String {
        let mut said = String::new();
        let stderr = self.child.stderr.take().expect("its log is piped");
        BufReader::new(stderr).read_to_string(&mut said).expect("it speaks UTF-8");
        said
    }

    /// Processor time it has used, in hundredths of a second.
    pub fn ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        let stat = stat.expect("a running process has its times");
        // proc_pid_stat(5): utime and stime are the 14th and 15th, and the name before them may hold anything.
        let fields = stat.rsplit_once(')').expect("the name stands in parentheses").1.split_whitespace();
        fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
    }

    pub fn descriptors(&self) -> usize {
        let folder = std::fs::read_dir(format!("/proc/{}/fd", self.child.id()));
        folder.expect("a running process has a folder").count()
    }

    /// The most memory it ever had, KiB.
    pub fn peak_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("a running process has a status");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        peak.and_then(|peak| peak.trim().strip_suffix(" kB")?.parse().ok()).expect("a peak")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs it to its end, which must be a failure, and returns what it said about that.
pub fn fails(command: Command) -> String {
    let mut program = Program::spawn(command);
    assert!(!program.end().success(), "it must not start");
    program.said()
}
