use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

use super::{Balancer, Mode};
use crate::PATIENCE;

/// Answers each connection with what `answer` makes of it.
fn backend(answer: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let answer = answer.clone();
            thread::spawn(move || answer(stream));
        }
    });
    address
}

/// One that says its name to each request, in chunks, and how long the request's body was.
fn named(name: &'static str) -> SocketAddr {
    backend(move |mut stream| {
        while let Some((head, body)) = request(&mut stream) {
            let length = body.len();
            let text = format!("{name} {length}");
            let begin = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n", text.len());
            stream.write_all(format!("{begin}{text}\r\n0\r\n\r\n").as_bytes()).unwrap();
            if head.contains("Connection: close") {
                return;
            }
        }
    })
}

/// A request with a `Content-Length`.
fn request(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let head = until(stream, b"\r\n\r\n")?;
    let length =
        head.split_once("Content-Length: ").map_or("0", |(_, rest)| rest.split('\r').next().unwrap());
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).ok()?;
    Some((head, body))
}

fn until(stream: &mut TcpStream, end: &[u8]) -> Option<String> {
    let mut read = Vec::new();
    let mut byte = [0];
    while !read.ends_with(end) {
        stream.read_exact(&mut byte).ok()?;
        read.push(byte[0]);
    }
    Some(String::from_utf8(read).unwrap())
}

fn connect(balancer: &Balancer) -> TcpStream {
    let stream = TcpStream::connect(balancer.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn ask(stream: &mut TcpStream, text: &str) -> String {
    stream.write_all(text.as_bytes()).unwrap();
    let answer = until(stream, b"0\r\n\r\n").unwrap();
    answer.lines().rev().nth(2).unwrap().to_owned()
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn each_request_of_a_connection_goes_to_the_next_backend() {
    let backends = [named("a"), named("b"), named("c")];
    let balancer = Balancer::start(Mode::Requests, &backends);
    let mut stream = connect(&balancer);
    let post = "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello";
    let answers = [GET, post, GET, GET].map(|text| ask(&mut stream, text));
    assert_eq!(answers, ["a 0", "b 5", "c 0", "a 0"]);
    assert_eq!(balancer.sent_to(backends[0]), 2);
}

#[test]
fn requests_sent_ahead_are_answered_in_their_order() {
    let balancer = Balancer::start(Mode::Requests, &[named("a"), named("b")]);
    let mut stream = connect(&balancer);
    stream.write_all(GET.repeat(2).as_bytes()).unwrap();
    let answers = [ask(&mut stream, ""), ask(&mut stream, "")];
    assert_eq!(answers, ["a 0", "b 0"]);
}

#[test]
fn connections_stay_where_they_are_in_the_other_mode() {
    let balancer = Balancer::start(Mode::Connections, &[named("a"), named("b")]);
    let (mut one, mut other) = (connect(&balancer), connect(&balancer));
    assert_eq!([ask(&mut one, GET), ask(&mut one, GET)], ["a 0", "a 0"]);
    assert_eq!(ask(&mut other, GET), "b 0");
}

#[test]
fn who_refuses_is_passed_over_and_backends_can_change() {
    let absent = SocketAddr::from(([127, 0, 0, 1], crate::free_port()));
    let balancer = Balancer::start(Mode::Requests, &[absent, named("a")]);
    let mut stream = connect(&balancer);
    assert_eq!([ask(&mut stream, GET), ask(&mut stream, GET)], ["a 0", "a 0"]);
    balancer.set_backends(&[named("b")]);
    assert_eq!(ask(&mut stream, GET), "b 0");
    balancer.set_backends(&[absent]);
    stream.write_all(GET.as_bytes()).unwrap();
    assert!(until(&mut stream, b"\r\n\r\n").unwrap().starts_with("HTTP/1.1 502 "));
}

#[test]
fn an_upgraded_connection_passes_whatever_either_says() {
    let echo = backend(|mut stream| {
        until(&mut stream, b"\r\n\r\n").unwrap();
        stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\nfirst").unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        stream.write_all(&all).unwrap();
    });
    let balancer = Balancer::start(Mode::Requests, &[echo]);
    let mut stream = connect(&balancer);
    stream.write_all(b"GET / HTTP/1.1\r\nUpgrade: echo\r\n\r\nearly ").unwrap();
    until(&mut stream, b"first").unwrap();
    stream.write_all(b"late").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "early late");
}

#[test]
fn an_endless_response_comes_as_it_is_said_and_ends_with_its_client() {
    let (ended, end) = std::sync::mpsc::sync_channel(1);
    let endless = backend(move |mut stream| {
        until(&mut stream, b"\r\n\r\n").unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\none\n").unwrap();
        // It ends, or breaks off, when its client has gone.
        let _ = stream.read(&mut [0]);
        ended.send(()).unwrap();
    });
    let balancer = Balancer::start(Mode::Requests, &[endless]);
    let mut stream = connect(&balancer);
    stream.write_all(GET.as_bytes()).unwrap();
    until(&mut stream, b"one\n").unwrap();
    drop(stream);
    end.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn an_answer_that_breaks_off_breaks_off_for_the_client() {
    let broken = backend(|mut stream| {
        until(&mut stream, b"\r\n\r\n").unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").unwrap();
    });
    let balancer = Balancer::start(Mode::Requests, &[broken]);
    let mut stream = connect(&balancer);
    stream.write_all(GET.as_bytes()).unwrap();
    let mut answer = Vec::new();
    assert!(stream.read_to_end(&mut answer).is_err(), "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn a_closed_balancer_goes_on_with_who_is_connected() {
    let mut balancer = Balancer::start(Mode::Requests, &[named("a")]);
    let mut stream = connect(&balancer);
    assert_eq!(ask(&mut stream, GET), "a 0");
    balancer.close();
    crate::eventually("it refuses", || TcpStream::connect(balancer.address()).is_err());
    assert_eq!(ask(&mut stream, GET), "a 0");
}
