//! The command line.

mod publish;
mod remote;
mod subscribe;
mod token;

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, value_parser};

use crate::config::{self, DEFINITIONS, Definition};
use crate::options::Mode;
use crate::{Options, Server};

/// Runs the program with the arguments of the process.
pub fn run() -> ExitCode {
    let matches = command().get_matches();
    let outcome = match matches.subcommand() {
        Some(("check", given)) => options(given).and_then(|options| check(&options)),
        Some(("reference", given)) => {
            let page = given.get_one::<String>("page").map_or("configuration", String::as_str);
            print!("{}", if page == "errors" { config::errors() } else { config::reference() });
            Ok(())
        }
        Some(("token", given)) => token::mint(given),
        Some(("pub", given)) => return publish::run(given),
        Some(("sub", given)) => return subscribe::run(given),
        Some((_, given)) => serve(given),
        None => {
            serve(&command().get_matches_from(["duplex", "serve"]).remove_subcommand().expect("just named").1)
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problems) => {
            problems.iter().for_each(|problem| eprintln!("duplex: {problem}"));
            ExitCode::FAILURE
        }
    }
}

fn command() -> Command {
    Command::new("duplex")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A real-time messaging server: every client on the same channels.")
        .after_help("Without a command it serves with the defaults.")
        .subcommand(configured(
            "serve",
            "Serve clients. In dev mode: everybody on this machine may publish and subscribe",
        ))
        .subcommand(configured("check", "Check the configuration without starting anything"))
        .subcommand(
            Command::new("reference").about("Print a reference page, in Markdown").arg(
                Arg::new("page").value_parser(["configuration", "errors"]).default_value("configuration"),
            ),
        )
        .subcommand(publish::command())
        .subcommand(subscribe::command())
        .subcommand(token::command())
}

/// A command that takes the configuration: a file, and a flag for each option.
fn configured(name: &'static str, about: &'static str) -> Command {
    let file = Arg::new("config").long("config").env("DUPLEX_CONFIG").value_name("FILE");
    let file =
        file.value_parser(value_parser!(PathBuf)).help("Configuration file, see docs/configuration.md");
    Command::new(name).about(about).arg(file).args(DEFINITIONS.iter().filter_map(flag))
}

fn flag(definition: &'static Definition<Options>) -> Option<Arg> {
    let default = definition.show(&Options::default());
    let default = if default.is_empty() { String::new() } else { format!(" [default: {default}]") };
    let help = format!("{}{default}", definition.doc.replace('`', ""));
    Some(Arg::new(definition.path).long(definition.flag()?).value_name("VALUE").help(help))
}

/// The configuration, or all that is wrong with it.
fn options(given: &ArgMatches) -> Result<Options, Vec<String>> {
    let flags = DEFINITIONS
        .iter()
        .filter(|definition| definition.flag().is_some())
        .filter_map(|definition| Some((definition.path, given.get_one::<String>(definition.path)?.clone())));
    let file = given.get_one::<PathBuf>("config").map(PathBuf::as_path);
    let loaded = config::load(file, std::env::vars(), flags);
    loaded.map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

fn check(options: &Options) -> Result<(), Vec<String>> {
    Server::check_options(options).map_err(|error| vec![error.to_string()])?;
    println!("the configuration is right");
    Ok(())
}

fn serve(given: &ArgMatches) -> Result<(), Vec<String>> {
    let options = options(given)?;
    start_logging();
    serve_until_signal(options, given).map_err(|error| vec![error.to_string()])
}

fn start_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
}

fn serve_until_signal(options: Options, given: &ArgMatches) -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Signals are caught before anything is promised.
    let mut signals = runtime.block_on(async { Signals::new() })?;
    let mode = options.mode;
    let server = Server::start(options)?;
    greet(server.address(), server.secure_address(), mode);
    while runtime.block_on(signals.next()) == Wish::Reload {
        reload(&server, given);
    }
    tracing::info!("stopping; a second signal stops at once");
    std::thread::spawn(move || {
        while runtime.block_on(signals.next()) == Wish::Reload {}
        std::process::exit(1);
    });
    server.stop();
    Ok(())
}

/// Reads the configuration again. If anything is wrong with it, everything stays as it is.
fn reload(server: &Server, given: &ArgMatches) {
    let reloaded =
        options(given).and_then(|options| server.reload(options).map_err(|error| vec![error.to_string()]));
    match reloaded {
        Ok(changes) if changes.is_empty() => tracing::info!("reloaded: nothing has changed"),
        Ok(changes) => changes.iter().for_each(|change| tracing::info!("reloaded: {change}")),
        Err(problems) => {
            problems.iter().for_each(|problem| tracing::error!("not reloaded: {problem}"));
            tracing::error!("not reloaded: the configuration before stays in force");
        }
    }
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Wish {
    Stop,
    Reload,
}

struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.interrupt.recv() => Wish::Stop,
            _ = self.terminate.recv() => Wish::Stop,
            _ = self.hangup.recv() => Wish::Reload,
        }
    }
}

fn greet(address: SocketAddr, secure: Option<SocketAddr>, mode: Mode) {
    let version = env!("CARGO_PKG_VERSION");
    if mode == Mode::Closed {
        let secure = secure.map_or_else(String::new, |secure| format!(" and https://{secure}/"));
        return println!(
            "duplex {version} listens on http://{address}/{secure} and lets in clients with tokens and backends with keys"
        );
    }
    let secure = secure.map_or_else(String::new, |secure| {
        format!("\n  by TLS               https://{secure}/            wss://{secure}/ws")
    });
    println!(
        "duplex {version} in dev mode: every program on this machine may publish and subscribe

  a page to try it     http://{address}/
  WebSocket            ws://{address}/ws            ws://{address}/ws?channels=lobby
  Server-Sent Events   http://{address}/sse?channels=lobby
  Socket.IO            http://{address}/             docs/socketio.md
  SignalR              http://{address}/signalr      docs/signalr.md
  without WebSocket    http://{address}/session
  client for pages     http://{address}/duplex.js
  publish              curl -d '{{\"channel\":\"lobby\",\"data\":\"hello\"}}' http://{address}/api/v1/publish
  echo                 ws://{address}/echo
  health               http://{address}/healthz    http://{address}/readyz{secure}

Ctrl-C stops it."
    );
}
