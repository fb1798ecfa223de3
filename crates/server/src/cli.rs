//! The command line.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use duplex_core::{Rate, ShardSet};
use duplex_engine::Settings;
use duplex_websocket::Limits;

use crate::{Options, Origin, Server};

/// A real-time messaging server: every client on the same channels.
///
/// Without a command it serves with the defaults.
#[derive(Debug, Parser)]
#[command(name = "duplex", version)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve clients, in dev mode: everybody on this machine may publish and subscribe.
    Serve(Box<Serve>),
}

#[derive(Debug, Parser)]
struct Serve {
    /// Loopback address to listen on; port 0 lets the system choose one.
    #[arg(long, env = "DUPLEX_LISTEN", default_value = "127.0.0.1:8000")]
    listen: SocketAddr,
    /// Threads that serve clients [default: one per core].
    #[arg(long, env = "DUPLEX_SHARDS", value_parser = clap::value_parser!(u8).range(1..=ShardSet::MAX as i64))]
    shards: Option<u8>,
    /// Origin of a foreign page that may connect, such as http://localhost:3000; may be given several times.
    #[arg(long = "allow-origin", env = "DUPLEX_ALLOW_ORIGIN", value_delimiter = ',', value_name = "ORIGIN")]
    allowed_origins: Vec<Origin>,
    /// Longest message a client may send, bytes.
    #[arg(long, env = "DUPLEX_MESSAGE_BYTES_MAX", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(1_024..=67_108_864))]
    message_bytes_max: u32,
    /// Most fragments a WebSocket message may come in.
    #[arg(long, env = "DUPLEX_FRAGMENTS_MAX", default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    fragments_max: u32,
    /// Bytes that may wait for one client before it is disconnected as slow.
    #[arg(long, env = "DUPLEX_OUTBOX_BYTES_MAX", default_value_t = 1_048_576, value_parser = clap::value_parser!(u32).range(65_536..=1_073_741_824))]
    outbox_bytes_max: u32,
    /// Messages one client may send per second, and at once.
    #[arg(long, env = "DUPLEX_MESSAGES_PER_SECOND", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    messages_per_second: u32,
    /// Channels one client may be subscribed to.
    #[arg(long, env = "DUPLEX_SUBSCRIPTIONS_MAX", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    subscriptions_max: u32,
}

impl Serve {
    fn options(self) -> Options {
        let defaults = Options::default();
        Options {
            listen: self.listen,
            shards: self.shards.map_or(defaults.shards, usize::from),
            allowed_origins: self.allowed_origins,
            websocket: Limits {
                message_bytes: self.message_bytes_max as usize,
                fragments: self.fragments_max,
                ..defaults.websocket
            },
            settings: Settings {
                outbox_bytes: self.outbox_bytes_max as usize,
                subscriptions: self.subscriptions_max as usize,
                messages: Rate { per_second: self.messages_per_second, burst: self.messages_per_second },
                ..defaults.settings
            },
            ..defaults
        }
    }
}

/// Runs the program with the arguments of the process.
pub fn run() -> ExitCode {
    start_logging();
    let serve = match Cli::parse().command {
        Some(Command::Serve(serve)) => *serve,
        None => Serve::parse_from(["duplex serve"]),
    };
    match serve_until_signal(serve.options()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("duplex: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
}

fn serve_until_signal(options: Options) -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Signals are caught before anything is promised.
    let mut signals = runtime.block_on(async { Signals::new() })?;
    let server = Server::start(options)?;
    greet(server.address());
    runtime.block_on(signals.next());
    tracing::info!("stopping: clients are asked to come back; a second signal stops at once");
    std::thread::spawn(move || {
        runtime.block_on(signals.next());
        std::process::exit(1);
    });
    server.stop();
    Ok(())
}

struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

fn greet(address: SocketAddr) {
    let version = env!("CARGO_PKG_VERSION");
    println!(
        "duplex {version} in dev mode: every program on this machine may publish and subscribe

  a page to try it     http://{address}/
  WebSocket            ws://{address}/ws            ws://{address}/ws?channels=lobby
  Server-Sent Events   http://{address}/sse?channels=lobby
  publish              curl -d '{{\"channel\":\"lobby\",\"data\":\"hello\"}}' http://{address}/api/v1/publish
  echo                 ws://{address}/echo
  health               http://{address}/healthz    http://{address}/readyz

Ctrl-C stops it."
    );
}
