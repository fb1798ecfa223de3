//! 3.1, rows 1–3, 7–9 and 13: opening handshakes that are not right.

use duplex::Options;

use crate::support::options;
use crate::support::wire::UPGRADE;
use crate::table::{Door, Expect, Row, check, row};

/// The request of [`UPGRADE`] with one part in the place of another.
fn upgrade(part: &str, instead: &str) -> String {
    assert!(UPGRADE.contains(part), "{part:?} is not in the request");
    format!("GET /ws HTTP/1.1\r\n{}\r\n", UPGRADE.replace(part, instead))
}

/// The right request with headers added.
fn with(headers: &str) -> String {
    format!("GET /ws HTTP/1.1\r\n{UPGRADE}{headers}\r\n")
}

#[test]
fn only_a_whole_upgrade_request_opens_a_websocket() {
    let version = "Sec-WebSocket-Version: 13\r\n";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    // RFC 6455, 4.4: the answer names the version that would do.
    let upgrade_required = || Expect::Answer(426, vec![("sec-websocket-version", Some("13"))]);
    let missing = [
        ("no Upgrade", "Upgrade: websocket\r\n", ""),
        ("another Upgrade", "Upgrade: websocket", "Upgrade: h2c"),
        ("no Connection", "Connection: Upgrade\r\n", ""),
        ("another Connection", "Connection: Upgrade", "Connection: keep-alive"),
        ("no version", version, ""),
        ("version 8", "Version: 13", "Version: 8"),
        ("version 013", "Version: 13", "Version: 013"),
        ("two versions", version, "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 13\r\n"),
    ];
    let keys = [
        ("no key", key, ""),
        ("two keys", key, &key.repeat(2)),
        ("an empty key", key, "Sec-WebSocket-Key:\r\n"),
        ("a key of 15 bytes", key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j\r\n"),
        ("a key of 17 bytes", key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZWE=\r\n"),
        ("a key that is not base64", key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j-_==\r\n"),
    ];
    let row_1 = missing.map(|(name, part, instead)| {
        row(format!("3.1/1 {name}"), Door::Tcp, upgrade(part, instead), upgrade_required())
    });
    let row_2 = keys
        .map(|(name, part, instead)| row(format!("3.1/2 {name}"), Door::Tcp, upgrade(part, instead), 400));
    let not_get = ["POST", "PUT", "get"].map(|method| {
        let request = format!("{method} /ws HTTP/1.1\r\n{UPGRADE}\r\n");
        row(format!("3.1/1 method {method}"), Door::Tcp, request, Expect::Answer(400, vec![]))
    });
    let body =
        row("3.1/1 a body in front of the frames", Door::Tcp, with("Content-Length: 5\r\n") + "hello", 400);
    check(options(), row_1.into_iter().chain(row_2).chain(not_get).chain([body]));
}

#[test]
fn a_request_says_once_and_rightly_whom_it_means() {
    let host = "Host: localhost\r\n";
    let in_10 = with("").replace("HTTP/1.1", "HTTP/1.0");
    // RFC 9112, 3.2: 400 to any request without Host, with more than one, or with one that is not valid.
    check(
        options(),
        [
            row("3.1/3 no Host", Door::Tcp, upgrade(host, ""), 400),
            row("3.1/3 two Hosts", Door::Tcp, upgrade(host, &host.repeat(2)), 400),
            row("3.1/3 an empty Host", Door::Tcp, upgrade(host, "Host:\r\n"), 400),
            row("3.1/3 a Host with a space", Door::Tcp, upgrade(host, "Host: local host\r\n"), 400),
            row("3.1/3 a Host with a slash", Door::Tcp, upgrade(host, "Host: localhost/x\r\n"), 400),
            row("3.1/3 a Host with a user", Door::Tcp, upgrade(host, "Host: a@localhost\r\n"), 400),
            row("3.1/3 a port beyond 65535", Door::Tcp, upgrade(host, "Host: localhost:65536\r\n"), 400),
            row("3.1/3 HTTP/1.0", Door::Tcp, in_10, 400),
            row(
                "3.1/3 HTTP/2.0 in text",
                Door::Tcp,
                with("").replace("HTTP/1.1", "HTTP/2.0"),
                Expect::Refused(400),
            ),
            row(
                "3.1/3 HTTP/1.1 in lower case",
                Door::Tcp,
                with("").replace("HTTP", "http"),
                Expect::Refused(400),
            ),
        ],
    );
}

#[test]
fn a_foreign_page_gets_through_no_door() {
    const DOORS: [(&str, &str); 4] = [
        ("GET /ws", UPGRADE),
        ("GET /echo", UPGRADE),
        ("GET /sse?channels=news", "Host: localhost\r\n"),
        ("POST /api/v1/publish", "Host: localhost\r\nContent-Length: 0\r\n"),
    ];
    let foreign = [
        "https://evil.example",
        "null",
        "https://ok.example.evil",
        "https://evil-ok.example",
        "http://ok.example",
        "https://ok.example:444",
        "https://ok.example@evil.example",
        "http://localhost:1",
        "",
        "https://ok.example\r\nOrigin: https://evil.example",
    ];
    let row_at = |door: (&str, &str), headers: String, expect: u16| {
        let (line, standard) = door;
        let name = format!("3.1/7 {line}, {}", headers.trim_end().replace("\r\n", " and "));
        row(name, Door::Tcp, format!("{line} HTTP/1.1\r\n{standard}{headers}\r\n"), expect)
    };
    let refused = DOORS
        .into_iter()
        .flat_map(|door| foreign.map(move |origin| row_at(door, format!("Origin: {origin}\r\n"), 403)));
    let rebound = DOORS.map(|(line, standard)| {
        let request = format!("{line} HTTP/1.1\r\n{}\r\n", standard.replace("localhost", "rebound.example"));
        row(format!("3.1/7 {line} by a rebound name"), Door::Tcp, request, 403)
    });
    let welcome = ["https://ok.example", "HTTPS://OK.example:443", "http://localhost", "http://LOCALHOST:80"];
    let welcome = welcome.map(|origin| row_at(DOORS[0], format!("Origin: {origin}\r\n"), 101));
    // A program sends no origin; there are no cookies here that it could be abused for.
    let program = row("3.1/7 no origin", Door::Tcp, with(""), 101);
    let allowed_origins = vec!["https://ok.example".parse().expect("an origin")];
    check(Options { allowed_origins, ..options() }, refused.chain(rebound).chain(welcome).chain([program]));
}

#[test]
fn what_a_client_offers_is_taken_or_declined_and_nothing_else() {
    const DEFLATE: &str = "permessage-deflate";
    let protocols = |offer: &str, chosen| {
        let name = format!("3.1/8 Sec-WebSocket-Protocol: {offer:.40}");
        let expect = Expect::Answer(101, vec![("sec-websocket-protocol", chosen)]);
        row(name, Door::Tcp, with(&format!("Sec-WebSocket-Protocol: {offer}\r\n")), expect)
    };
    let row_8 = [
        // As many as fit into a head of 16 KiB.
        protocols(&"a,".repeat(7_000), None),
        protocols(&("a,".repeat(7_000) + "duplex.v1.json"), Some("duplex.v1.json")),
        protocols(",,, ,", None),
        protocols("", None),
        protocols("__proto__", None),
        protocols("DUPLEX.V1.JSON", None),
        protocols("duplex.v1.json;q=1", None),
    ];
    let declined = [
        "constructor".to_owned(),
        format!("{DEFLATE}; constructor"),
        format!("{DEFLATE}; client_no_context_takeover; client_no_context_takeover"),
        format!("{DEFLATE}; server_max_window_bits=7"),
        format!("{DEFLATE}; server_max_window_bits=16"),
        format!("{DEFLATE}; client_max_window_bits=99"),
        format!("{DEFLATE}; server_max_window_bits=\"15"),
        "x,".repeat(1_000),
        format!("{DEFLATE}; a,").repeat(600),
        ";=,\"".repeat(100),
    ];
    let row_9 = declined.map(|offer| {
        let name = format!("3.1/9 Sec-WebSocket-Extensions: {offer:.60}");
        let expect = Expect::Answer(101, vec![("sec-websocket-extensions", None)]);
        row(name, Door::Tcp, with(&format!("Sec-WebSocket-Extensions: {offer}\r\n")), expect)
    });
    check(options(), row_8.into_iter().chain(row_9));
}

#[test]
fn a_strange_address_leads_nowhere() {
    let get = |name: &str, target: String, expect: Expect| {
        let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        row(format!("3.1/13 {name}"), Door::Tcp, request, expect)
    };
    let upgrading = |name: &str, target: &str, expect: u16| {
        row(format!("3.1/13 {name}"), Door::Tcp, with("").replace("/ws", target), expect)
    };
    let long = "a".repeat(12 << 10);
    check(
        options(),
        [
            get("a path of 12 KiB", format!("/{long}"), Expect::Status(404)),
            get("a path of 16 KiB", format!("/{}", "a".repeat(16 << 10)), Expect::Refused(431)),
            get("a NUL, encoded", "/%00".to_owned(), Expect::Status(404)),
            get("a NUL", "/\0".to_owned(), Expect::Refused(400)),
            get("dots, encoded", "/%2e%2e/%2e%2e/etc/passwd".to_owned(), Expect::Status(404)),
            get("dots", "/../../etc/passwd".to_owned(), Expect::Status(404)),
            get("a path encoded that would be right", "/%77%73".to_owned(), Expect::Status(404)),
            get("overlong UTF-8", "/%c0%ae%c0%ae".to_owned(), Expect::Status(404)),
            // Understood as the authority that CONNECT would name; there is nothing at such an address.
            get("a path without a slash", "ws".to_owned(), Expect::Status(404)),
            get("an unknown transport", "/socket.io/?transport=__proto__".to_owned(), Expect::Status(400)),
            upgrading("a NUL in a channel", "/ws?channels=%00", 400),
            upgrading("overlong UTF-8 in a channel", "/ws?channels=%c0%af", 400),
            upgrading("a channel without a name", "/ws?channels=a,,b", 400),
            upgrading("a channel of 256 bytes", &format!("/ws?channels={}", "a".repeat(256)), 400),
            upgrading("an unknown parameter", "/ws?transport=__proto__", 101),
        ]
        .into_iter()
        .collect::<Vec<Row>>(),
    );
}
