//! What the stories are played on: the server under test, its HTTP API, and servers of a story's own.

use std::fmt::Debug;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use reqwest::blocking::Client;
use serde_json::Value;

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Why a story fails.
pub type Failure = Box<dyn std::error::Error>;

/// The server that every story may use, and the program for those that want one of their own.
pub struct Place {
    pub url: String,
    pub program: String,
}

/// A promise, and what shows that it is kept.
pub struct Story {
    pub name: String,
    pub play: Box<Play>,
}

type Play = dyn Fn(&Place) -> Result<(), Failure>;

/// A channel that nobody has used.
pub fn fresh() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("rust-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// They are the same.
pub fn equal<T: PartialEq + Debug>(found: T, expected: T) -> Result<(), Failure> {
    if found == expected { Ok(()) } else { Err(format!("expected {expected:?}, found {found:?}").into()) }
}

/// One for all: each reads the certificates of the system, which takes a while.
fn http() -> &'static Client {
    static HTTP: LazyLock<Client> =
        LazyLock::new(|| Client::builder().timeout(PATIENCE).build().expect("the options are fine"));
    &HTTP
}

/// Asks the HTTP API as a backend does.
pub fn api(url: &str, path: &str, body: &Value) -> Result<Value, Failure> {
    let answer = http().post(format!("{url}/api/v1/{path}")).json(body).send()?;
    Ok(answer.error_for_status()?.json()?)
}

/// Publishes `bytes`, given in base64, as a client over polling does: the client under test has no event with
/// anything beside its bytes, and the HTTP API has no bytes.
pub fn publish_bytes(url: &str, channel: &str, event: &str, base64: &str) -> Result<(), Failure> {
    let http = http();
    let address = format!("{url}/socket.io/?EIO=4&transport=polling");
    let open = http.get(&address).send()?.error_for_status()?.text()?;
    let open: Value = serde_json::from_str(open.strip_prefix('0').ok_or("no open packet")?)?;
    let address = format!("{address}&sid={}", open["sid"].as_str().ok_or("no sid")?);
    let say = |packets: String| http.post(&address).body(packets).send()?.error_for_status();
    let hear = || http.get(&address).send()?.error_for_status()?.text();
    say("40".into())?;
    let connected = hear()?;
    let event = format!(r#"["$publish","{channel}","{event}",{{"_placeholder":true,"num":0}}]"#);
    say(format!("451-7{event}\x1eb{base64}"))?;
    let published = hear()?;
    say("1".into())?;
    match (connected.as_str(), published.as_str()) {
        (connected, published)
            if connected.starts_with("40{") && published.starts_with("437[{\"channel\"") =>
        {
            Ok(())
        }
        other => Err(format!("bytes were not published: {other:?}").into()),
    }
}

/// A server that can be killed and started again at the same address.
pub struct Server {
    pub url: String,
    program: String,
    address: String,
    options: &'static [&'static str],
    child: Child,
}

impl Server {
    pub fn start(program: &str, options: &'static [&'static str]) -> Result<Self, Failure> {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.to_string();
        let child = run(program, &address, options)?;
        Ok(Self { url: format!("http://{address}"), program: program.into(), address, options, child })
    }

    /// It ends without a word.
    pub fn kill(&mut self) -> Result<(), Failure> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// A token for a user, if it has the configuration of the scenarios.
    pub fn token(&self, user: &str) -> Result<String, Failure> {
        const SECRET: &str = "a secret that only the scenarios know";
        let made =
            Command::new(&self.program).args(["token", "--secret", SECRET, "--user", user]).output()?;
        Ok(String::from_utf8(made.stdout)?.trim().to_owned())
    }

    /// It is there again.
    pub fn again(&mut self) -> Result<(), Failure> {
        self.child = run(&self.program, &self.address, self.options)?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It fails when it has ended already.
        let _ = self.kill();
    }
}

fn run(program: &str, address: &str, options: &[&str]) -> Result<Child, Failure> {
    let mut command = Command::new(program);
    command.args(["serve", "--listen", address]).args(options).stdout(Stdio::null()).stderr(Stdio::null());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("DUPLEX_")) {
        command.env_remove(name);
    }
    let child = command.spawn()?;
    let until = Instant::now() + PATIENCE;
    let http = http();
    while !http
        .get(format!("http://{address}/readyz"))
        .send()
        .is_ok_and(|answer| answer.status().is_success())
    {
        if Instant::now() > until {
            return Err("the server was not ready in time".into());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(child)
}
