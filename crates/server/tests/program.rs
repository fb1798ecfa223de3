//! The program itself: what it prints, how it ends, and what it costs its system.

#![cfg(target_os = "linux")]

mod support;

use std::net::TcpListener;

use duplex_websocket::Deflater;

use support::eventually;
use support::frames::{Incoming, client_frame};
use support::http::{Events, request};
use support::native::{Client, Ending};
use support::program::{Program, duplex, fails};
use support::wire::{DEFLATE, Wire};

#[test]
fn it_says_where_everything_is_and_everything_is_there() {
    let program = Program::start(&[]);
    let Program { address, greeting, .. } = &program;
    for part in [
        format!("http://{address}/"),
        format!("ws://{address}/ws"),
        format!("http://{address}/sse?channels=lobby"),
        format!("http://{address}/api/v1/publish"),
        format!("ws://{address}/echo"),
        format!("http://{address}/healthz"),
        format!("http://{address}/readyz"),
    ] {
        assert!(greeting.contains(&part), "{part} in {greeting}");
    }
    for (path, body) in [("/healthz", "ok\n"), ("/readyz", "ready\n")] {
        let response = request(*address, &format!("GET {path} HTTP/1.1"), "");
        assert_eq!((response.status, &*response.body), (200, body));
    }
    assert!(request(*address, "GET / HTTP/1.1", "").body.contains("<html"));
    Client::connect(*address).leave();
}

#[test]
fn a_signal_ends_it_when_the_clients_were_told() {
    for signal in ["-TERM", "-INT"] {
        let mut program = Program::start(&[]);
        let mut clients: Vec<Client> = (0..5).map(|_| Client::subscribe(program.address, "news").0).collect();
        let mut events = Events::open(program.address, "/sse?channels=news", "");
        events.subscribed();
        program.signal(signal);
        clients.iter_mut().for_each(|client| assert_eq!(client.ending(), Ending::Closed(1012)));
        assert!(events.next().is_some_and(|goodbye| goodbye.starts_with("retry: ")));
        assert_eq!(events.next(), None);
        assert_eq!(program.end().code(), Some(0), "{signal}");
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut program = Program::start(&[]);
    // Does not answer the close frame, so that the server waits.
    let mut stubborn = Wire::websocket(program.address, "/ws?channels=a", "");
    // Before that it is no client yet, and nothing is waited for.
    assert!(stubborn.text().contains("connected"));
    program.signal("-TERM");
    while !matches!(stubborn.next(), Incoming::Close(Some(1012), _)) {}
    program.signal("-TERM");
    assert_eq!(program.end().code(), Some(1));
}

#[test]
fn a_client_that_never_answers_does_not_keep_it_from_ending() {
    let mut program = Program::start(&[]);
    let _stubborn = Wire::websocket(program.address, "/ws?channels=a", "");
    program.signal("-TERM");
    assert_eq!(program.end().code(), Some(0));
}

#[test]
fn a_taken_port_is_named_with_the_option_that_helps() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let said = fails(duplex(&["serve", "--listen", &address]));
    assert!(said.contains(&address) && said.contains("--listen"), "{said}");
}

#[test]
fn without_authentication_it_listens_for_this_machine_only() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let said = fails(duplex(&["serve", "--listen", address]));
        assert!(said.contains("not a loopback address") && said.contains("127.0.0.1"), "{said}");
    }
}

#[test]
fn a_wrong_argument_is_named() {
    for (arguments, named) in [
        (&["serve", "--listen", "nowhere"][..], "--listen"),
        (&["serve", "--listen", "127.0.0.1"], "--listen"),
        (&["serve", "--listen", "127.0.0.1:65536"], "--listen"),
        (&["serve", "--shards", "0"], "--shards"),
        (&["serve", "--shards", "65"], "--shards"),
        (&["serve", "--allow-origin", "ok.example"], "--allow-origin"),
        (&["serve", "--allow-origin", "*"], "--allow-origin"),
        (&["serve", "--websocket-message-bytes-max", "0"], "--websocket-message-bytes-max"),
        (&["serve", "--client-outbox-bytes-max=-1"], "--client-outbox-bytes-max"),
        (&["serve", "--client-messages-per-second", "many"], "--client-messages-per-second"),
        (&["serve", "--client-subscriptions-max", "0"], "--client-subscriptions-max"),
        (&["serve", "--no-such-option"], "--no-such-option"),
        (&["sing"], "sing"),
    ] {
        let said = fails(duplex(arguments));
        assert!(said.contains(named), "{arguments:?}: {said}");
    }
}

#[test]
fn a_wrong_setting_in_the_environment_is_named() {
    let mut command = duplex(&["serve"]);
    command.env("DUPLEX_SERVER__SHARDS", "none");
    let said = fails(command);
    assert!(said.contains("DUPLEX_SERVER__SHARDS"), "{said}");
}

#[test]
fn options_reach_the_server() {
    let program = Program::start(&[
        "--websocket-message-bytes-max",
        "2048",
        "--client-subscriptions-max",
        "3",
        "--client-messages-per-second",
        "7",
        "--client-messages-burst",
        "7",
        "--allow-origin",
        "https://ok.example,https://also.example",
    ]);
    let mut wire = Wire::websocket(program.address, "/ws", "Origin: https://also.example\r\n");
    wire.send_text(r#"{"id":1,"connect":{}}"#);
    let connected = wire.text();
    for part in [r#""message_bytes_max":2048"#, r#""subscriptions_max":3"#] {
        assert!(connected.contains(part), "{connected}");
    }
    wire.send(&client_frame(0x81, br#"{"ping":{}}"#).repeat(100));
    let frames = wire.until_end();
    assert!(matches!(frames.last(), Some(Incoming::Close(Some(3013), _))), "{frames:?}");
}

#[test]
fn clients_that_come_and_go_leave_no_descriptor() {
    let program = Program::start(&[]);
    Client::connect(program.address).leave();
    let before = program.descriptors();
    for _ in 0..5 {
        let clients: Vec<Client> = (0..50).map(|_| Client::connect(program.address)).collect();
        let cut: Vec<Wire> =
            (0..50).map(|_| Wire::websocket(program.address, "/ws?channels=a", "")).collect();
        clients.into_iter().for_each(Client::leave);
        cut.into_iter().for_each(Wire::reset);
    }
    eventually(
        || format!("{before} descriptors again, now {}", program.descriptors()),
        || program.descriptors() <= before,
    );
}

#[test]
fn memory_is_taken_for_what_came_and_not_for_what_was_announced() {
    const RISE_KIB_MAX: u64 = 8 << 10;
    let program = Program::start(&[]);
    let mut bomb = Vec::new();
    Deflater::new().compress(&vec![0; 16 << 20], &mut bomb);
    let inputs = [
        client_frame(0xc2, &bomb),
        [&[0x82, 0xff][..], &(1u64 << 62).to_be_bytes(), &[0; 4]].concat(),
        [&[0x82, 0xff][..], &(1u64 << 30).to_be_bytes(), &[0; 4]].concat(),
    ];
    let send_all = || {
        for input in &inputs {
            let mut wire = Wire::websocket(program.address, "/echo", DEFLATE);
            wire.send(input);
            assert!(matches!(wire.until_end().last(), Some(Incoming::Close(Some(1009), _))));
        }
    };
    // The first ones make the server take its working memory.
    (0..4).for_each(|_| send_all());
    let before = program.peak_kib();
    (0..50).for_each(|_| send_all());
    let rise = program.peak_kib() - before;
    assert!(rise < RISE_KIB_MAX, "{rise} KiB more than the {before} KiB before");
}

#[test]
fn it_writes_nothing_to_its_log_that_a_client_wrote_unescaped() {
    let mut command = duplex(&["serve", "--listen", "127.0.0.1:0"]);
    command.env("RUST_LOG", "debug");
    let mut program = Program::run(command);
    let mut wire = Wire::websocket(program.address, "/ws", "");
    wire.send_text(r#"{"id":1,"connect":{}}"#);
    wire.text();
    wire.send_text("{\"\u{1b}[31m\n\":");
    drop(wire.until_end());
    program.signal("-TERM");
    assert!(program.end().success());
    let log = program.said();
    assert!(log.contains("closing"), "there is a log: {log}");
    assert!(!log.contains('\u{1b}'), "{log:?}");
}
