//! Clients that speak TLS.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use duplex::{Options, Server, StartError, Tls};
use duplex_websocket::Opcode;
use serde_json::json;

use support::frames::Incoming;
use support::http::{publish, request};
use support::native::Client;
use support::tunnel::{self, Certificate};
use support::wire::Wire;
use support::{PATIENCE, Running, eventually, options, start};

fn secure(certificate: &Certificate) -> Options {
    let tls = Tls {
        listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        certificate: Some(certificate.certificate.clone()),
        key: Some(certificate.key.clone()),
    };
    Options { tls, ..options() }
}

fn by_tls(server: &Running) -> SocketAddr {
    server.server().secure_address().expect("it listens")
}

#[test]
fn both_versions_carry_everything_whatever_its_size() {
    let certificate = Certificate::new("versions");
    let server = start(secure(&certificate));
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let address = tunnel::to(by_tls(&server), certificate.trusted(&[version]));
        assert_eq!(request(address, "GET /healthz HTTP/1.1", "").body, "ok\n", "{version:?}");
        let mut echo = Wire::websocket(address, "/echo", "");
        for length in [0, 1, 125, 16_383, 16_384, 16_385, 60_000] {
            let payload: Vec<u8> = (0..length).map(|at: usize| at.to_le_bytes()[0]).collect();
            echo.send_frame(Opcode::Binary, &payload);
            assert_eq!(echo.next(), Incoming::Binary(payload), "{version:?}, {length} bytes");
        }
        // More than one record at once, in small pieces, and many at once.
        echo.drip(b"\x89\x80\x00\x00\x00\x00");
        assert_eq!(echo.next(), Incoming::Pong(Vec::new()));
        (0..500).for_each(|number| echo.send_text(&number.to_string()));
        (0..500).for_each(|number| assert_eq!(echo.text(), number.to_string()));
    }
}

#[test]
fn who_reads_slowly_gets_all_of_it_in_order() {
    let certificate = Certificate::new("slow");
    let mut open = secure(&certificate);
    open.settings.outbox_bytes = 64 << 20;
    let server = start(open);
    let address = tunnel::to(by_tls(&server), certificate.trusted(rustls::DEFAULT_VERSIONS));
    let (mut slow, _) = Client::subscribe(address, "news");
    let text = "x".repeat(10_000);
    for number in 0..300 {
        let body = json!({ "channel": "news", "data": [number, text] }).to_string();
        assert_eq!(publish(server.address, &body)["offset"], number + 1);
    }
    for number in 0..300 {
        assert_eq!(slow.publication()["data"][0], number);
    }
    slow.leave();
}

#[test]
fn a_certificate_that_changes_is_shown_to_whoever_comes_then() {
    let certificate = Certificate::new("renewed");
    let server = start(secure(&certificate));
    let before = certificate.trusted(rustls::DEFAULT_VERSIONS);
    let mut client = Client::connect(tunnel::to(by_tls(&server), before.clone()));
    certificate.renew();
    let after = certificate.trusted(rustls::DEFAULT_VERSIONS);
    let is_believed = |config: &std::sync::Arc<_>| {
        let mut wire = Wire::connect(tunnel::to(by_tls(&server), std::sync::Arc::clone(config)));
        wire.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        wire.response().is_some_and(|response| response.status == 200)
    };
    eventually(|| "the new one is shown".to_owned(), || is_believed(&after));
    assert!(!is_believed(&before));
    // It is half-written, or does not fit: the one before stays.
    std::fs::write(&certificate.key, "not a key").unwrap();
    let wrong = server.server().reload(secure(&certificate)).unwrap_err().to_string();
    assert!(wrong.starts_with("tls.key: "), "{wrong}");
    assert!(is_believed(&after));
    certificate.renew();
    server.reload(secure(&certificate));
    assert!(is_believed(&certificate.trusted(rustls::DEFAULT_VERSIONS)));
    assert!(client.ask(&json!({ "id": 2, "ping": {} }))["error"].is_null());
    client.leave();
}

#[test]
fn who_does_not_speak_tls_is_let_go() {
    let certificate = Certificate::new("strangers");
    let mut hasty = secure(&certificate);
    hasty.timeouts.head = Duration::from_millis(300);
    let server = start(hasty);
    for said in
        [&b""[..], b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", &[0; 70_000]]
    {
        let mut stranger = TcpStream::connect(by_tls(&server)).unwrap();
        stranger.set_read_timeout(Some(PATIENCE)).unwrap();
        drop(stranger.write_all(said));
        let mut answer = Vec::new();
        // It may be reset, with what it said still unread.
        drop(stranger.read_to_end(&mut answer));
        assert!(answer.is_empty() || answer[0] == 21, "an alert at most: {answer:?}");
    }
    eventually(|| "they hold nothing".to_owned(), || server.server().connections() == 0);
}

#[test]
fn what_is_wrong_is_said_with_the_option() {
    let right = Certificate::new("right");
    let other = Certificate::new("other");
    let wrong = |tls: Tls| {
        let started = Server::start(Options { tls, ..options() });
        started.err().map(|error: StartError| error.to_string()).expect("it does not start")
    };
    let listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let (certificate, key) = (Some(right.certificate.clone()), Some(right.key.clone()));
    for (tls, beginning) in [
        (Tls { listen: None, certificate: certificate.clone(), key: key.clone() }, "tls.listen: "),
        (Tls { listen, certificate: None, key: key.clone() }, "tls.certificate: set the file"),
        (Tls { listen, certificate: certificate.clone(), key: None }, "tls.key: set the file"),
        (Tls { listen, certificate: key.clone(), key: key.clone() }, "tls.certificate: "),
        (Tls { listen, certificate: certificate.clone(), key: certificate.clone() }, "tls.key: "),
        (Tls { listen, certificate: certificate.clone(), key: Some(other.key.clone()) }, "tls.key: "),
        (
            Tls { listen, certificate: Some("/nowhere.pem".into()), key: key.clone() },
            "tls.certificate: /nowhere.pem: ",
        ),
        (
            Tls { listen: Some(([1, 2, 3, 4], 1).into()), certificate, key },
            "tls.listen: 1.2.3.4:1 is not a loopback",
        ),
    ] {
        let text = wrong(tls);
        assert!(text.starts_with(beginning), "{text}");
    }
}
