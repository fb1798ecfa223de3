//! The servers that are compared, and how each is started.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::deadline::Deadline;
use crate::failure::Failure;
use crate::load::dialect::{Dialect, Role};
use crate::load::http;
use crate::load::link::upgrade_request;
use crate::load::manner::Manner;
use crate::load::signalr::Encoding;
use crate::load::wire::Transport;
use crate::measure::{self, Cores};

/// One of the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Subject {
    /// This project's server, by its native protocol where the work says no other.
    Duplex,
    /// The same, whose subscribers speak Socket.IO.
    DuplexSocketio,
    /// The same, whose subscribers speak SignalR in JSON.
    DuplexSignalr,
    /// The same in MessagePack.
    DuplexSignalrMessagepack,
    /// A bare loop over epoll and send.
    Floor,
    /// npm `ws`.
    Ws,
    /// npm `socket.io`, with one transport only.
    Socketio,
}

impl Subject {
    /// As tables call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Duplex => "duplex",
            Self::DuplexSocketio => "duplex, Socket.IO",
            Self::DuplexSignalr => "duplex, SignalR",
            Self::DuplexSignalrMessagepack => "duplex, SignalR MessagePack",
            Self::Floor => "bare epoll",
            Self::Ws => "npm ws",
            Self::Socketio => "socket.io",
        }
    }

    /// As flags and files call it.
    pub fn key(self) -> &'static str {
        match self {
            Self::Duplex => "duplex",
            Self::DuplexSocketio => "duplex-socketio",
            Self::DuplexSignalr => "duplex-signalr",
            Self::DuplexSignalrMessagepack => "duplex-signalr-messagepack",
            Self::Floor => "floor",
            Self::Ws => "ws",
            Self::Socketio => "socketio",
        }
    }

    /// Whether it is the server of this project.
    pub fn is_ours(self) -> bool {
        self == Self::Duplex || self.is_foreign()
    }

    /// Whether it is ours with subscribers that speak another protocol than the native one.
    pub fn is_foreign(self) -> bool {
        matches!(self, Self::DuplexSocketio | Self::DuplexSignalr | Self::DuplexSignalrMessagepack)
    }

    /// The package that npm installs for it.
    pub fn npm_package(self) -> Option<&'static str> {
        match self {
            Self::Ws => Some("ws"),
            Self::Socketio => Some("socket.io"),
            _ => None,
        }
    }

    /// How its clients speak over a WebSocket.
    pub fn dialect(self) -> Dialect {
        match self {
            Self::Duplex => Dialect::Native,
            Self::DuplexSocketio => Dialect::SocketIoVerbs,
            Self::DuplexSignalr => Dialect::SignalR(Encoding::Json),
            Self::DuplexSignalrMessagepack => Dialect::SignalR(Encoding::MessagePack),
            Self::Floor | Self::Ws => Dialect::Bare,
            Self::Socketio => Dialect::SocketIo,
        }
    }

    /// How its clients poll, if they can.
    pub fn polling(self) -> Option<Transport> {
        match self {
            Self::Duplex => Some(Transport::Requests(Manner::Poll)),
            Self::Socketio => Some(Transport::Requests(Manner::EngineIo)),
            _ => None,
        }
    }

    /// The request that it answers as soon as it is ready, and the status of the answer.
    fn readiness(self, transport: Transport) -> (String, &'static str) {
        match (self, transport) {
            _ if self.is_ours() => (http::get("/readyz"), "200"),
            // A good request for a poll would leave a session behind.
            (_, Transport::Requests(_)) => (http::get(self.dialect().path(Role::Subscriber)), "400"),
            (_, Transport::WebSocket(dialect)) => (upgrade_request(dialect.path(Role::Subscriber)), "101"),
        }
    }
}

/// Starts servers.
pub struct Starter {
    /// The binary of this project.
    pub server: PathBuf,
    /// The folder with the npm peers.
    pub peers: PathBuf,
    /// Where the servers' output goes.
    pub logs: PathBuf,
    pub cores: Cores,
}

/// A server that runs, until this is dropped.
pub struct Server {
    child: Child,
    pub subject: Subject,
    pub address: SocketAddr,
    /// From just before the process was started until its first good answer.
    pub start: Duration,
}

impl Starter {
    /// Starts a server for clients with WebSockets and waits until it is ready.
    pub fn start(&self, subject: Subject, deadline: &Deadline) -> Result<Server, Failure> {
        self.start_for(subject, Transport::WebSocket(subject.dialect()), deadline)
    }

    /// The same for clients with this transport.
    pub fn start_for(
        &self,
        subject: Subject,
        transport: Transport,
        deadline: &Deadline,
    ) -> Result<Server, Failure> {
        self.launch(subject, transport, free_address()?, &[], deadline)
    }

    /// The same with settings of ours: `HISTORY__BYTES_MAX` for `history.bytes_max`.
    pub fn start_with(
        &self,
        subject: Subject,
        settings: &[(&str, &str)],
        deadline: &Deadline,
    ) -> Result<Server, Failure> {
        self.launch(subject, Transport::WebSocket(subject.dialect()), free_address()?, settings, deadline)
    }

    /// One of several of ours that run at the same time.
    pub fn start_at(
        &self,
        address: SocketAddr,
        settings: &[(&str, &str)],
        deadline: &Deadline,
    ) -> Result<Server, Failure> {
        let subject = Subject::Duplex;
        self.launch(subject, Transport::WebSocket(subject.dialect()), address, settings, deadline)
    }

    fn launch(
        &self,
        subject: Subject,
        transport: Transport,
        address: SocketAddr,
        settings: &[(&str, &str)],
        deadline: &Deadline,
    ) -> Result<Server, Failure> {
        let log = self.logs.join(format!("{}-{}.log", subject.key(), address.ip()));
        let mut command = self.command(subject, transport, address)?;
        let output = File::create(&log).map_err(Failure::io(format!("cannot create {}", log.display())))?;
        let errors = output.try_clone().map_err(Failure::io("cannot share the log"))?;
        command.envs(settings.iter().map(|(key, value)| (format!("DUPLEX_{key}"), value)));
        command.stdin(Stdio::piped()).stdout(output).stderr(errors);
        self.cores.enter_server()?;
        let begin = Instant::now();
        let child = command.spawn();
        self.cores.enter_load()?;
        let what = format!("cannot start {}", command.get_program().display());
        let child = child.map_err(Failure::io(what))?;
        let mut server = Server { child, subject, address, start: Duration::ZERO };
        server.await_ready(transport, &log, deadline)?;
        server.start = begin.elapsed();
        Ok(server)
    }

    fn command(
        &self,
        subject: Subject,
        transport: Transport,
        address: SocketAddr,
    ) -> Result<Command, Failure> {
        let mut command = match subject {
            Subject::Floor => {
                Command::new(std::env::current_exe().map_err(Failure::io("cannot find our own binary"))?)
            }
            Subject::Ws | Subject::Socketio => Command::new("node"),
            _ => Command::new(&self.server),
        };
        match subject {
            Subject::Floor => command.arg("floor").arg(address.to_string()),
            Subject::Ws | Subject::Socketio => command
                .arg(self.peers.join(format!("{}.mjs", subject.key())))
                .arg(address.port().to_string())
                .arg(match transport {
                    Transport::WebSocket(_) => "websocket",
                    Transport::Requests(_) => "polling",
                })
                .env("NODE_ENV", "production"),
            _ => {
                command.args(["serve", "--listen"]).arg(address.to_string());
                // The default rate is a guard against floods, and a publisher of this load is one.
                command.args(["--shards", "1", "--client-messages-per-second", "1000000"]);
                command.args(["--client-messages-burst", "1000000"])
            }
        };
        Ok(command)
    }
}

impl Server {
    /// Resident memory once it has stood still for a second, or after ten. `rest` keeps the clients alive for a while.
    pub fn settled_bytes(
        &self,
        mut rest: impl FnMut(Duration) -> Result<(), Failure>,
    ) -> Result<f64, Failure> {
        const STILL_BYTES: u64 = 64 * 1024;
        let mut reference = self.resident_bytes()?;
        let mut still = 0;
        for _ in 0..100 {
            rest(Duration::from_millis(100))?;
            let now = self.resident_bytes()?;
            if now.abs_diff(reference) > STILL_BYTES {
                reference = now;
                still = 0;
                continue;
            }
            still += 1;
            if still == 10 {
                break;
            }
        }
        Ok(self.resident_bytes()? as f64)
    }

    /// CPU time it has used so far.
    pub fn cpu_time(&self) -> Result<Duration, Failure> {
        measure::cpu_time(self.child.id())
    }

    /// Memory it occupies, bytes.
    pub fn resident_bytes(&self) -> Result<u64, Failure> {
        measure::resident_bytes(self.child.id())
    }

    fn await_ready(&mut self, transport: Transport, log: &Path, deadline: &Deadline) -> Result<(), Failure> {
        let (request, status) = self.subject.readiness(transport);
        while !answers(self.address, &request, status) {
            deadline.check()?;
            if let Some(status) = self.child.try_wait().map_err(Failure::io("cannot watch the server"))? {
                return Err(Failure::ServerEnded { status: status.to_string(), log: last_lines(log) });
            }
            thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails only if it is dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last word of what `program --version` says: `0.1.0`, `v20.1.0`. `None` if it cannot be run.
pub fn version(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let word = text.split_ascii_whitespace().last()?;
    output.status.success().then(|| word.to_owned())
}

/// The next address that nobody listens on. Not one of the system's choosing: those are the ports that outgoing
/// connections get, and one that connects to a free one of them may meet itself.
fn free_address() -> Result<SocketAddr, Failure> {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    for _ in 0..10_000 {
        let port = 20_000 + NEXT.fetch_add(1, Ordering::Relaxed) % 10_000;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err(Failure::Unmeasurable("without a free port, nothing"))
}

/// Whether the server answers `request` with `status`.
fn answers(address: SocketAddr, request: &str, status: &str) -> bool {
    let wait = Duration::from_secs(1);
    let Ok(mut stream) = TcpStream::connect_timeout(&address, wait) else { return false };
    let mut head = [0; 12];
    stream.set_read_timeout(Some(wait)).is_ok()
        && stream.write_all(request.as_bytes()).is_ok()
        && stream.read_exact(&mut head).is_ok()
        && head.ends_with(status.as_bytes())
}

fn last_lines(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join(" | ")
}
