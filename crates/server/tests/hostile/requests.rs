//! 3.1, rows 4 and 10: HTTP/1.1 requests by which servers have been flooded or led astray.
//!
//! What is accepted here though some servers refuse it:
//! - Lines of the head that end in LF alone: RFC 9112, 2.2 allows it. Lines between chunks must end in CRLF.
//! - Content-Length twice with the same value: RFC 9112, 6.3 and RFC 9110, 8.6 allow one of them to be taken.
//! - Content-Length together with Transfer-Encoding: RFC 9112, 6.1 allows the request to be processed by its chunks if
//!   the connection is closed after the answer, which is what happens.

use crate::support::options;
use crate::support::wire::Wire;
use crate::table::{Door, Expect, Row, check, play, row};

/// A publication that is all right.
const GOOD: &str = r#"{"channel":"a","data":1}"#;
/// A request that must never be answered, since it is the body of another.
const SMUGGLED: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn get(headers: &str) -> String {
    format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")
}

fn post(headers: &str, body: &str) -> String {
    format!("POST /api/v1/publish HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n{body}")
}

fn chunked(body: &str) -> String {
    post("Transfer-Encoding: chunked\r\n", body)
}

fn one_chunk(body: &str) -> String {
    format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
}

#[test]
fn a_head_has_an_end() {
    let headers = |count: usize| (0..count).map(|n| format!("X-{n}: 1\r\n")).collect::<String>();
    // As long as the longest head but without an end, so that all of it is read before it is refused.
    let mut endless = get("").trim_end().to_owned() + "\r\nX: ";
    endless.push_str(&"a".repeat((16 << 10) - endless.len()));
    let drip = play(|wire: &mut Wire| {
        wire.drip(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ");
        // Ends early when the server has hung up, which makes every further write fail at once.
        wire.drip(&[b'a'; 1 << 20]);
    });
    check(
        options(),
        [
            row("3.1/4 a head of 16 KiB", Door::Tcp, endless, Expect::Refused(431)),
            row(
                "3.1/4 a head of 20 KiB",
                Door::Tcp,
                get(&format!("X: {}\r\n", "a".repeat(20 << 10))),
                Expect::Refused(431),
            ),
            row("3.1/4 100 headers", Door::Tcp, get(&headers(99)), 200),
            row("3.1/4 101 headers", Door::Tcp, get(&headers(100)), Expect::Refused(431)),
            row("3.1/4 1,000 headers", Door::Tcp, get(&headers(1_000)), Expect::Refused(431)),
            row("3.1/4 a header of 1 MB byte by byte", Door::Tcp, drip, Expect::Refused(431)),
        ],
    );
}

#[test]
fn nothing_hides_behind_a_body() {
    let smuggling = |name: &str, headers: &str, body: &str, status| {
        row(format!("3.1/10 {name}"), Door::Tcp, post(headers, body) + SMUGGLED, Expect::Refused(status))
    };
    let chunks = one_chunk(GOOD);
    let te = "Transfer-Encoding: chunked\r\n";
    check(
        options(),
        [
            smuggling("a length, then chunks", &format!("Content-Length: 4\r\n{te}"), &chunks, 200),
            smuggling("chunks, then a length", &format!("{te}Content-Length: 4\r\n"), &chunks, 200),
            smuggling(
                "chunks and a length, no body",
                &format!("{te}Content-Length: 4\r\n"),
                "0\r\n\r\n",
                400,
            ),
            smuggling("two lengths", "Content-Length: 24\r\nContent-Length: 0\r\n", GOOD, 400),
            smuggling("two lengths in a list", "Content-Length: 24, 0\r\n", GOOD, 400),
            smuggling("length +5", "Content-Length: +5\r\n", "hello", 400),
            smuggling("length -5", "Content-Length: -5\r\n", "hello", 400),
            smuggling("length 0x5", "Content-Length: 0x5\r\n", "hello", 400),
            smuggling("length 5 5", "Content-Length: 5 5\r\n", "hello", 400),
            smuggling("an empty length", "Content-Length:\r\n", "hello", 400),
            smuggling("a length of 2^64", "Content-Length: 18446744073709551616\r\n", "hello", 400),
            smuggling("another coding", "Transfer-Encoding: xchunked\r\n", &chunks, 400),
            smuggling("chunked is not last", "Transfer-Encoding: chunked, identity\r\n", &chunks, 400),
            smuggling("a space before the colon", "Transfer-Encoding : chunked\r\n", &chunks, 400),
        ],
    );
}

#[test]
fn a_malformed_request_is_refused_and_the_connection_closed() {
    let head = |name: &str, headers: &str| {
        row(format!("3.1/10 {name}"), Door::Tcp, get(headers) + SMUGGLED, Expect::Refused(400))
    };
    let body = |name: &str, body: &str| {
        row(format!("3.1/10 {name}"), Door::Tcp, chunked(body) + SMUGGLED, Expect::Refused(400))
    };
    let endless_extension = format!("1;{}\r\n1\r\n0\r\n\r\n", "a".repeat(1 << 20));
    let http_10 = post("Transfer-Encoding: chunked\r\n", &one_chunk(GOOD)).replace("HTTP/1.1", "HTTP/1.0");
    let rows: Vec<Row> = vec![
        head("obs-fold", "X: a\r\n b\r\n"),
        head("a bare CR in a value", "X: a\rb\r\n"),
        head("a NUL in a value", "X: a\0b\r\n"),
        head("a line without a colon", "X\r\n"),
        head("a header without a name", ": a\r\n"),
        head("a name with a space", "X Y: a\r\n"),
        row(
            "3.1/10 a space before the first header",
            Door::Tcp,
            get("").replace("Host", " Host"),
            Expect::Refused(400),
        ),
        row(
            "3.1/10 two spaces in the request line",
            Door::Tcp,
            get("").replace("GET ", "GET  "),
            Expect::Refused(400),
        ),
        row("3.1/10 no request", Door::Tcp, "\u{16}\u{3}\u{1}\u{2}\0\u{1}".to_owned(), Expect::Refused(400)),
        row("3.1/10 chunks in HTTP/1.0", Door::Tcp, http_10, Expect::Refused(400)),
        body("a chunk size of 2^64", "10000000000000000\r\n1\r\n0\r\n\r\n"),
        body("a chunk size of 2^68 - 1", "FFFFFFFFFFFFFFFFF\r\n1\r\n0\r\n\r\n"),
        body("a negative chunk size", "-1\r\n1\r\n0\r\n\r\n"),
        body("a chunk size of +1", "+1\r\n1\r\n0\r\n\r\n"),
        body("a chunk size of 0x1", "0x1\r\n1\r\n0\r\n\r\n"),
        body("no chunk size", "\r\n1\r\n0\r\n\r\n"),
        body("a chunk longer than its size", "1\r\n12\r\n0\r\n\r\n"),
        body("a chunk line that ends in LF", "1\n1\n0\n\n"),
        body("an LF in a chunk extension", "1;a\n1\r\n0\r\n\r\n"),
        body("a chunk extension of 1 MB", &endless_extension),
    ];
    check(options(), rows);
}

#[test]
fn what_the_standard_allows_is_answered() {
    let bare_lf = get("").replace("\r\n", "\n");
    let twice = post("Content-Length: 24\r\nContent-Length: 24\r\n", GOOD);
    let extended = chunked(&format!("{:x};name=value\r\n{GOOD}\r\n0\r\n\r\n", GOOD.len()));
    let trailers = chunked(&format!("{:x}\r\n{GOOD}\r\n0\r\nX: 1\r\n\r\n", GOOD.len()));
    let pipelined = play(|wire: &mut Wire| {
        wire.send(get("").repeat(3).as_bytes());
        (0..2).for_each(|_| assert_eq!(wire.response().expect("a response").status, 200));
    });
    check(
        options(),
        [
            row("3.1/10 lines that end in LF", Door::Tcp, bare_lf, 200),
            row("3.1/10 the same length twice", Door::Tcp, twice, 200),
            row("3.1/10 a chunk extension", Door::Tcp, extended, 200),
            row("3.1/10 a trailer", Door::Tcp, trailers, 200),
            row("3.1/10 an empty line before the request", Door::Tcp, format!("\r\n{}", get("")), 200),
            row("3.1/10 three requests at once", Door::Tcp, pipelined, 200),
        ],
    );
}

#[test]
fn a_body_has_an_end() {
    let long = " ".repeat(65_536) + GOOD;
    let length = long.len();
    let exact = format!("{GOOD}{}", " ".repeat(65_536 - GOOD.len()));
    check(
        options(),
        [
            row(
                "3.10/102 a body of exactly the limit",
                Door::Tcp,
                post("Content-Length: 65536\r\n", &exact),
                200,
            ),
            row(
                "3.10/102 one longer",
                Door::Tcp,
                post(&format!("Content-Length: {length}\r\n"), &long),
                Expect::Refused(413),
            ),
            row(
                "3.10/102 100 MB declared",
                Door::Tcp,
                post("Content-Length: 100000000\r\n", ""),
                Expect::Refused(413),
            ),
            row(
                "3.10/102 100 MB declared, a little more than the limit sent",
                Door::Tcp,
                post("Content-Length: 100000000\r\n", &long),
                Expect::Refused(413),
            ),
            row(
                "3.10/102 a longer one in chunks",
                Door::Tcp,
                chunked(&one_chunk(&long)),
                Expect::Refused(413),
            ),
            row("3.10/102 an empty body", Door::Tcp, post("Content-Length: 0\r\n", ""), 400),
            row("3.10/102 null", Door::Tcp, post("Content-Length: 4\r\n", "null"), 400),
            row("3.10/102 []", Door::Tcp, post("Content-Length: 2\r\n", "[]"), 400),
            row("3.10/102 [null]", Door::Tcp, post("Content-Length: 6\r\n", "[null]"), 400),
        ],
    );
}
