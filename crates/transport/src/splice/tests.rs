use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream as Blocking};
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use super::*;

/// Longer than anything here takes.
const LONG: Patience = Patience { stall: Duration::from_secs(60), leave: Duration::from_secs(60) };

fn pair() -> (Blocking, Blocking) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = Blocking::connect(listener.local_addr().unwrap()).unwrap();
    (near, listener.accept().unwrap().0)
}

/// A client and a server with a splice between them, which ends by itself.
fn spliced(upward: Upward, patience: Patience) -> (Blocking, Blocking, JoinHandle<()>) {
    let ((client, near), (server, far)) = (pair(), pair());
    let running = spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let own = |stream: Blocking| {
                stream.set_nonblocking(true).unwrap();
                tokio::net::TcpStream::from_std(stream).unwrap().into()
            };
            let (early, first) = (Bytes::from_static(b"early "), Bytes::from_static(b"first "));
            Splice { client: own(near), early, server: own(far), first, upward, patience }.run().await;
        });
    });
    (client, server, running)
}

fn rest(stream: &mut Blocking) -> Vec<u8> {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    rest
}

#[test]
fn each_side_gets_all_that_the_other_says_and_learns_that_it_has_ended() {
    let (mut client, mut server, running) = spliced(Upward::Passed, LONG);
    let long = vec![7; 4 << 20];
    client.write_all(b"up").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&mut server), b"early up");
    let mut writing = server.try_clone().unwrap();
    let said = long.clone();
    let saying = spawn(move || {
        writing.write_all(&said).unwrap();
        writing.shutdown(Shutdown::Write).unwrap();
    });
    let got = rest(&mut client);
    assert!(got.starts_with(b"first ") && got[6..] == long, "{}", got.len());
    saying.join().unwrap();
    running.join().unwrap();
}

#[test]
fn who_has_nothing_to_say_is_not_heard_and_its_end_is_the_end() {
    let (mut client, mut server, running) = spliced(Upward::Dropped, LONG);
    client.write_all(b"another request").unwrap();
    server.write_all(b"down").unwrap();
    let mut got = [0; 10];
    client.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"first down");
    drop(client);
    assert_eq!(rest(&mut server), b"");
    running.join().unwrap();
}

#[test]
fn a_client_that_takes_nothing_holds_little_and_is_let_go() {
    let patience = Patience { stall: Duration::from_millis(200), ..LONG };
    let (client, mut server, running) = spliced(Upward::Passed, patience);
    // It goes on until nobody takes more.
    let chunk = vec![7; 64 << 10];
    let taken = (0..4_096).take_while(|_| server.write_all(&chunk).is_ok()).count();
    assert!(taken < 4_096, "all was taken");
    running.join().unwrap();
    drop(client);
}

#[test]
fn a_side_that_does_not_end_with_the_other_has_its_time() {
    let patience = Patience { leave: Duration::from_millis(200), ..LONG };
    let (mut client, server, running) = spliced(Upward::Passed, patience);
    server.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&mut client), b"first ");
    running.join().unwrap();
}
