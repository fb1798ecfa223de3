//! What commands that talk to a running server have in common.

use std::fmt;
use std::future::Future;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgMatches};
use duplex_client::{Client, ConnectError, Options, Times, Token, Transport};

const URL: &str = "http://127.0.0.1:8000";

/// Somebody sits before it: long enough for a poll behind a bad proxy, and for a try again.
const CONNECT_MAX: Duration = Duration::from_secs(4);

/// Why a command did not do what it was asked to, in a sentence that says what to do.
#[derive(Debug)]
pub(super) struct Failure(String);

impl Failure {
    pub fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }

    pub fn at_line(self, number: u64) -> Self {
        Self(format!("line {number}: {}", self.0))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where the server is, and who we are.
pub(super) fn arguments() -> [Arg; 3] {
    let url = Arg::new("url").long("url").env("DUPLEX_URL").value_name("URL").default_value(URL);
    let token = Arg::new("token").long("token").env("DUPLEX_TOKEN").value_name("TOKEN").hide_env_values(true);
    let transport = Arg::new("transport").long("transport").value_name("NAME");
    [
        url.help("Address of the server: http, https, ws or wss"),
        token.help(
            "Says who you are, see docs/auth.md. Prefer the variable: command lines can be read by others",
        ),
        transport
            .value_parser(Transport::ALL.map(Transport::name))
            .help("Use only this transport [default: the best that gets through]"),
    ]
}

/// The client that these arguments ask for. It must be made inside a runtime.
pub(super) fn client(given: &ArgMatches) -> Result<Client, Failure> {
    Client::new(url(given), options(given)).map_err(|error| unreachable(given, &error))
}

/// The same, when it is connected.
pub(super) async fn connect(given: &ArgMatches) -> Result<Client, Failure> {
    Client::connect(url(given), options(given)).await.map_err(|error| unreachable(given, &error))
}

fn url(given: &ArgMatches) -> &str {
    given.get_one::<String>("url").map_or(URL, String::as_str)
}

fn options(given: &ArgMatches) -> Options {
    let text = |name: &str| given.get_one::<String>(name);
    let token = text("token").filter(|token| !token.is_empty()).cloned().map_or(Token::None, Token::Fixed);
    let chosen = text("transport").and_then(|name| name.parse().ok());
    let transports = chosen.map_or(Transport::ALL.to_vec(), |transport| vec![transport]);
    let times = Times { connect: CONNECT_MAX, ..Times::default() };
    Options { token, transports, times, ..Options::default() }
}

fn unreachable(given: &ArgMatches, error: &ConnectError) -> Failure {
    let url = url(given);
    Failure(match error {
        ConnectError::Address(error) => format!("--url {url:?}: {error}"),
        ConnectError::Refused(end) => format!("{url} does not let us in: {end}. {}", advice(end.code)),
        ConnectError::Timeout { last, .. } => {
            format!(
                "cannot reach {url}: {}. Is a server running there? `duplex serve` starts one",
                last.reason
            )
        }
        ConnectError::NoTransport | ConnectError::NobodyTrusted => format!("cannot reach {url}: {error}"),
    })
}

/// What to do when the server does not want us.
pub(super) fn advice(code: u16) -> &'static str {
    match code {
        3500 | 3005 | 3507 | 401 | 403 => "Give a valid token in DUPLEX_TOKEN; `duplex token` makes one",
        3504 => "Close another connection of this user",
        _ => "docs/errors.md says what the code means",
    }
}

/// Says something on the standard error; if nobody listens there, that is all right.
pub(super) fn tell(sentence: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "duplex: {sentence}");
}

/// Runs a command that talks to a server, and says what went wrong.
pub(super) fn run(command: impl Future<Output = Result<(), Failure>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tell(format_args!("cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(command);
    // A read of the standard input that is under way would be waited for.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tell(&failure);
            ExitCode::FAILURE
        }
    }
}
