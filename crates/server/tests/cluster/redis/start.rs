//! Redis is not there when a node starts.

use std::net::SocketAddr;
use std::process::Command;

use duplex_rigs::{Folder, Program, Redis, RedisOptions, eventually, free_port};

use crate::stage::{page, program, publish};

fn node(redis: u16, at_start: &str, folder: &Folder) -> (Program, SocketAddr) {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut command = Command::new(program());
    command.args(["serve", "--listen", &address.to_string(), "--broker-at-start", at_start]);
    command.env("DUPLEX_BROKER__URL", format!("redis://127.0.0.1:{redis}"));
    (Program::start(command, &folder.path().join("log")), address)
}

#[test]
fn a_node_waits_for_it_and_is_ready_when_it_is_there() {
    let folder = Folder::new("start");
    let port = free_port();
    let (mut node, address) = node(port, "wait", &folder);
    eventually("it listens", || std::net::TcpStream::connect(address).is_ok());
    assert_eq!(page(address, "/readyz").0, 503);
    assert!(node.is_running());
    let _redis = Redis::start_with(&RedisOptions { port: Some(port), ..RedisOptions::default() });
    eventually("it is ready", || page(address, "/readyz").0 == 200);
    publish(address, 1);
}

#[test]
fn a_node_that_shall_not_wait_ends_and_says_why_in_a_line() {
    let folder = Folder::new("start");
    let (mut node, _) = node(free_port(), "exit", &folder);
    node.wait();
    assert_eq!(node.succeeded(), Some(false));
    let said = node.said();
    let last = said.lines().last().unwrap_or_default();
    assert!(last.starts_with("duplex: broker.url: "), "{said}");
}
