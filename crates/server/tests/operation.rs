//! What an operator does: configures, reloads, drains; and what the limits on connections do.

#![cfg(target_os = "linux")]

mod support;

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use support::http::{Events, Response, request};
use support::native::{Client, Ending};
use support::program::{Program, duplex, fails};
use support::tokens::{API_KEY, SECRET};
use support::wire::Wire;
use support::{eventually, options, start};

/// A configuration file that is gone when the test is over.
struct Config(PathBuf);

impl Config {
    fn new(test: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("duplex-{test}-{}.toml", std::process::id()));
        let config = Self(path);
        config.write(text);
        config
    }

    fn write(&self, text: &str) {
        let head = format!(
            "[auth]\nhmac_secret = \"{SECRET}\"\n[api]\nkeys = [\"test:{API_KEY}\"]\n\
             [namespace.default]\nallow.subscribe = \"user\"\nallow.publish = \"user\"\n"
        );
        fs::write(&self.0, head + text).expect("a file in the folder for such files");
    }

    fn serve(&self) -> Program {
        let mut command = duplex(&["serve", "--listen", "127.0.0.1:0", "--config"]);
        command.arg(&self.0).env("RUST_LOG", "info");
        Program::run(command)
    }

    fn check(&self) -> Command {
        let mut command = duplex(&["check", "--config"]);
        command.arg(&self.0);
        command
    }
}

impl Drop for Config {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

/// A token as the command makes it.
fn minted(arguments: &[&str]) -> String {
    let output = duplex(&[&["token"], arguments].concat()).env("DUPLEX_AUTH__HMAC_SECRET", SECRET).output();
    let output = output.expect("the program runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("a token is ASCII").trim().to_owned()
}

fn signed_in(address: SocketAddr, token: &str) -> Client {
    let mut client = Client::open(address, "/ws");
    let connected = client.ask(&json!({ "id": 1, "connect": { "token": token } }));
    assert!(connected["connected"]["user"].is_string(), "{connected}");
    client
}

#[test]
fn a_configuration_is_checked_without_starting_anything() {
    let config = Config::new("check", "[namespace.chat]\nrecovery = \"cache\"\n");
    let output = config.check().output().expect("the program runs");
    assert!(
        output.status.success() && output.stdout.starts_with(b"the configuration is right"),
        "{output:?}"
    );
    for (text, parts) in [
        (
            "[client]\nheartbeet = \"5s\"\n",
            &["client.heartbeet: no such option; did you mean client.heartbeat?"][..],
        ),
        (
            "[client]\nheartbeat = \"5\"\n[namespace.chat]\nhistori.size = 3\npresence = \"loud\"\n",
            &[
                "client.heartbeat: \"5\" is not a time",
                "namespace.chat.history.size?",
                "is none of off, on, announced",
            ],
        ),
        (
            "[namespace.chat]\npattern = \"(\"\n",
            &["namespace.chat.pattern: \"(\" is not a regular expression"],
        ),
        ("[namespace.chat.overload]\nkey = \"k\"\n", &["namespace.chat.overload.key: only counts with"]),
        ("[broken", &["is not TOML"]),
    ] {
        config.write(text);
        let said = fails(config.check());
        assert!(parts.iter().all(|part| said.contains(part)), "{parts:?} in {said}");
        assert!(!said.contains(SECRET) && !said.contains(API_KEY), "{said}");
    }
    let mut nobody = duplex(&["check"]);
    nobody.env("DUPLEX_SERVER__DEV", "false");
    assert!(fails(nobody).contains("no client could connect"));
}

#[test]
fn a_reload_counts_for_those_who_are_connected_and_a_bad_one_changes_nothing() {
    let config = Config::new("reload", "[client]\nsubscriptions_max = 3\n");
    let mut program = config.serve();
    let token = minted(&["--user", "alice"]);
    let mut client = signed_in(program.address, &token);
    let mut subscribe = |channel: &str| {
        let answer = client.ask(&json!({ "id": 2, "subscribe": { "channel": channel } }));
        client.ask(&json!({ "id": 3, "unsubscribe": { "channel": channel } }));
        answer["error"]["code"].as_u64()
    };
    assert_eq!(subscribe("chat:1"), Some(102));
    config.write("[client]\nsubscriptions_max = 4\n[namespace.chat]\nallow.subscribe = \"user\"\n[server]\nshards = 7\n");
    program.signal("-HUP");
    eventually(|| "the new namespace is there".to_owned(), || subscribe("chat:1").is_none());
    config.write("[client]\nsubscriptions_max = 0\n");
    program.signal("-HUP");
    // A third reload, which is seen, comes after the second.
    thread::sleep(Duration::from_millis(200));
    assert_eq!(subscribe("chat:1"), None);
    program.signal("-TERM");
    assert!(program.end().success());
    let log = program.said();
    for part in [
        "reloaded: client.subscriptions_max: 3 -> 4",
        "reloaded: namespace.chat.allow.subscribe: none -> user",
        "-> 7 (counts after a restart)",
        "not reloaded:",
        "client.subscriptions_max: 0 is below the minimum 1",
        "the configuration before stays in force",
    ] {
        assert!(log.contains(part), "{part} in {log}");
    }
    assert!(!log.contains(SECRET) && !log.contains(API_KEY) && !log.contains(&token), "{log}");
}

#[test]
fn a_token_made_for_a_try_lets_its_bearer_in() {
    let config = Config::new("token", "[namespace.room]\npresence = \"on\"\n");
    let program = config.serve();
    let token = minted(&["--user", "alice", "--info", r#"{"name":"A"}"#, "--allow-presence", "room:*"]);
    let mut client = signed_in(program.address, &token);
    let room = minted(&["--user", "alice", "--subscription", "room:1"]);
    let answer = client.ask(&json!({ "id": 2, "subscribe": { "channel": "room:1", "token": room } }));
    assert_eq!(answer["subscribed"]["channel"], "room:1", "{answer}");
    let answer = client.ask(&json!({ "id": 3, "presence": { "channel": "room:1" } }));
    assert_eq!(answer["presence"]["members"][0]["info"], json!({ "name": "A" }), "{answer}");
    let head = format!("POST /api/v1/presence HTTP/1.1\r\nAuthorization: Bearer {API_KEY}");
    let response = request(program.address, &head, r#"{"channel":"room:1"}"#);
    assert!(response.status == 200 && response.body.contains(r#""clients":1"#), "{response:?}");
    assert!(fails(duplex(&["token", "--user", "a", "--secret", "short"])).contains("at least 32"));
}

#[test]
fn clients_are_sent_away_at_a_pace_and_the_load_balancer_is_told_first() {
    const CLIENTS: usize = 100;
    let arguments = ["--drain-notice", "500ms", "--drain-clients-per-second", "200", "--drain-spread", "1s"];
    let mut program = Program::start(&arguments);
    let mut clients: Vec<Client> =
        (0..CLIENTS).map(|_| Client::subscribe(program.address, "news").0).collect();
    program.signal("-TERM");
    let begin = Instant::now();
    eventually(
        || "it says that it is not ready".to_owned(),
        || request(program.address, "GET /readyz HTTP/1.1", "").status == 503,
    );
    Client::connect(program.address).leave();
    for client in &mut clients {
        let frame = client.next();
        assert!(frame["closing"]["after_ms"].as_u64().is_some_and(|ms| (1..=1_001).contains(&ms)), "{frame}");
        assert_eq!(client.ending(), Ending::Closed(1012));
    }
    assert!(
        begin.elapsed() > Duration::from_millis(800),
        "100 clients, 200 a second, after half a second of notice"
    );
    drop(clients);
    assert!(program.end().success());
}

#[test]
fn a_server_that_stops_takes_nobody_in_by_connections_that_are_still_open() {
    const OPENINGS: [&str; 4] = [
        "GET /socket.io/?EIO=4&transport=polling",
        "POST /signalr/negotiate?negotiateVersion=1",
        "POST /session",
        "GET /sse?channels=news",
    ];
    let mut program = Program::start(&["--drain-clients-per-second", "20"]);
    let clients: Vec<Client> = (0..100).map(|_| Client::connect(program.address)).collect();
    let ask = |wire: &mut Wire, line: &str| {
        wire.send(format!("{line} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n").as_bytes());
        wire.response().expect("an answer")
    };
    let mut kept: Vec<Wire> = OPENINGS.iter().map(|_| Wire::connect(program.address)).collect();
    for wire in &mut kept {
        let response = ask(wire, "GET /healthz");
        assert_eq!((response.status, response.header("connection")), (200, None));
    }
    program.signal("-TERM");
    eventually(|| "nobody can connect".to_owned(), || TcpStream::connect(program.address).is_err());
    for (wire, opening) in kept.iter_mut().zip(OPENINGS) {
        let response = ask(wire, opening);
        assert_eq!((response.status, response.header("connection")), (503, Some("close")), "{opening}");
        assert!(response.header("retry-after").is_some(), "{opening}");
    }
    drop(clients);
    assert!(program.end().success());
}

#[test]
fn without_file_descriptors_it_says_so_and_does_not_spin() {
    let mut command = Command::new("sh");
    let script =
        format!("ulimit -n 64; exec {} serve --listen 127.0.0.1:0 --shards 1", env!("CARGO_BIN_EXE_duplex"));
    command.args(["-c", &script]).env("RUST_LOG", "error");
    command
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null());
    let mut program = Program::run(command);
    let mut held: Vec<Wire> = (0..100).map(|_| Wire::connect(program.address)).collect();
    let turned_away =
        |wire: &mut Wire| wire.response().is_some_and(|response: Response| response.status == 503);
    assert!(turned_away(held.last_mut().expect("there are some")), "the last one is told to come back");
    let before = program.ticks();
    thread::sleep(Duration::from_secs(1));
    assert!(program.ticks() - before < 20, "a fifth of a processor for nothing");
    drop(held);
    eventually(
        || "it serves again".to_owned(),
        || {
            let mut wire = Wire::connect(program.address);
            wire.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
            wire.response().is_some_and(|response| response.status == 200)
        },
    );
    program.signal("-TERM");
    assert!(program.end().success());
}

/// Asks for a WebSocket, and says what the answer is.
fn upgrade(address: SocketAddr, target: &str, headers: &str) -> (Wire, Response) {
    let mut wire = Wire::connect(address);
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    );
    wire.send(request.as_bytes());
    let response = wire.response().expect("an answer");
    (wire, response)
}

#[test]
fn a_full_server_turns_connections_away() {
    let mut full = options();
    full.connections.node = 3;
    let server = start(full);
    let held: Vec<Client> = (0..3).map(|_| Client::connect(server.address)).collect();
    let response = Wire::connect(server.address).response().expect("an answer without a request");
    assert_eq!((response.status, response.header("retry-after")), (503, Some("5")));
    held.into_iter().for_each(Client::leave);
    eventually(
        || "there is room again".to_owned(),
        || {
            let mut wire = Wire::connect(server.address);
            wire.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
            wire.response().is_some_and(|response| response.status == 200)
        },
    );
}

#[test]
fn an_address_behind_a_proxy_has_only_so_many_clients() {
    let mut few = options();
    few.connections.per_address = 2;
    let server = start(few);
    let from = |address: &str| format!("X-Forwarded-For: 203.0.113.1, {address}\r\n");
    let one = upgrade(server.address, "/ws", &from("198.51.100.7"));
    let two = upgrade(server.address, "/ws", &from("198.51.100.7"));
    let three = upgrade(server.address, "/ws", &from("198.51.100.7"));
    assert_eq!([one.1.status, two.1.status, three.1.status], [101, 101, 429]);
    assert!(three.1.header("retry-after").is_some(), "{:?}", three.1);
    assert_eq!(upgrade(server.address, "/ws", &from("198.51.100.8")).1.status, 101);
    assert_eq!(upgrade(server.address, "/ws", "").1.status, 101, "the proxy itself is not counted");
    one.0.reset();
    eventually(
        || "there is room again".to_owned(),
        || upgrade(server.address, "/ws", &from("198.51.100.7")).1.status == 101,
    );
}

#[test]
fn in_a_storm_those_who_come_back_are_let_in_first() {
    let mut stormy = options();
    stormy.connections.clients = duplex_core::Rate { per_second: 1, burst: 8 };
    let server = start(stormy);
    let statuses: Vec<u16> = (0..8).map(|_| upgrade(server.address, "/ws", "").1.status).collect();
    assert_eq!(statuses, [101, 101, 101, 101, 101, 101, 503, 503]);
    assert_eq!(upgrade(server.address, "/ws?returning=true", "").1.status, 101);
    let mut back = Events::open(server.address, "/sse?channels=a", "Last-Event-ID: 1:1:a\r\n");
    assert_eq!(back.subscribed()["recovered"], false);
    let late = upgrade(server.address, "/ws?returning=true", "").1;
    assert!(late.status == 503 && late.header("retry-after").is_some(), "{late:?}");
}
