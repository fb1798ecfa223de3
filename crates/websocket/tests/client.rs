//! The opening handshake, seen from the client (RFC 6455, 4.1).

use duplex_websocket::Compression;
use duplex_websocket::handshake::{
    Agreed, ClientHandshake, ClientRequest, HeadError, InvalidRequest, Rejected, check, parse_request,
};

const REQUEST: ClientRequest<'static> = ClientRequest {
    host: "chat.example:8000",
    target: "/connect",
    key: *b"the sample nonce",
    protocols: &["chat", "superchat"],
    compression: Compression::PerMessage,
    headers: &[("Origin", "http://chat.example")],
};

const UPGRADED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
const ACCEPT: &str = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

#[test]
fn the_request_says_what_was_asked() {
    assert_eq!(
        String::from_utf8(REQUEST.head().unwrap()).unwrap(),
        "GET /connect HTTP/1.1\r\nHost: chat.example:8000\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: chat, superchat\r\n\
         Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n\
         Origin: http://chat.example\r\n\r\n"
    );
}

#[test]
fn a_request_cannot_smuggle_lines() {
    let evil = "a\r\nX-Evil: 1";
    for (request, expected) in [
        (ClientRequest { host: evil, ..REQUEST }, InvalidRequest::Host),
        (ClientRequest { host: "", ..REQUEST }, InvalidRequest::Host),
        (ClientRequest { target: "/a b", ..REQUEST }, InvalidRequest::Target),
        (ClientRequest { target: "/\r\n", ..REQUEST }, InvalidRequest::Target),
        (ClientRequest { target: "connect", ..REQUEST }, InvalidRequest::Target),
        (ClientRequest { protocols: &["a, b"], ..REQUEST }, InvalidRequest::Protocol),
        (ClientRequest { protocols: &[""], ..REQUEST }, InvalidRequest::Protocol),
        (ClientRequest { headers: &[("A", "b\nc")], ..REQUEST }, InvalidRequest::Header),
        (ClientRequest { headers: &[("A:", "b")], ..REQUEST }, InvalidRequest::Header),
    ] {
        assert_eq!(request.head(), Err(expected));
    }
}

#[test]
fn client_and_server_agree() {
    for compression in [Compression::Off, Compression::PerMessage] {
        let request = ClientRequest { compression, ..REQUEST };
        let sent = request.head().unwrap();
        let (head, length) = parse_request(&sent).unwrap().unwrap();
        assert_eq!(length, sent.len());
        let accept = check(head.method, head.version, head.headers())
            .unwrap()
            .accept(Some("superchat"), Compression::PerMessage);
        let agreed = Agreed { protocol: Some("superchat".to_owned()), compression };
        let answer = [&accept.response()[..], b"\x81\x00"].concat();
        let outcome = ClientHandshake::new(&request).read(&answer);
        assert_eq!(outcome, Ok(Some((agreed, answer.len() - 2))));
    }
}

#[test]
fn an_answer_is_judged_the_same_however_it_is_cut() {
    let answer = format!("{UPGRADED}{ACCEPT}\r\n");
    let agreed = Agreed { protocol: None, compression: Compression::Off };
    for cut in 0..answer.len() {
        let mut handshake = ClientHandshake::new(&REQUEST);
        assert_eq!(handshake.read(&answer.as_bytes()[..cut]), Ok(None));
        assert_eq!(handshake.read(answer.as_bytes()), Ok(Some((agreed.clone(), answer.len()))));
    }
}

#[test]
fn an_answer_must_agree_to_what_was_asked() {
    let deflate = "Sec-WebSocket-Extensions: permessage-deflate";
    for (answer, expected) in [
        ("HTTP/1.1 200 OK\r\n\r\n".to_owned(), Rejected::Status { status: 200 }),
        ("HTTP/1.1 426 Upgrade Required\r\n\r\n".to_owned(), Rejected::Status { status: 426 }),
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n".to_owned(), Rejected::NotUpgraded),
        (format!("{}{ACCEPT}\r\n", UPGRADED.replace("1.1", "1.0")), Rejected::NotUpgraded),
        (format!("{}{ACCEPT}\r\n", UPGRADED.replace("websocket", "h2c")), Rejected::NotUpgraded),
        (format!("{}{ACCEPT}\r\n", UPGRADED.replace(": Upgrade", ": close")), Rejected::NotUpgraded),
        (format!("{UPGRADED}\r\n"), Rejected::WrongAccept),
        (format!("{UPGRADED}{}\r\n", ACCEPT.replace("s3p", "S3p")), Rejected::WrongAccept),
        (format!("{UPGRADED}{ACCEPT}{ACCEPT}\r\n"), Rejected::WrongAccept),
        (format!("{UPGRADED}{ACCEPT}Sec-WebSocket-Protocol: other\r\n\r\n"), Rejected::UnknownProtocol),
        (
            format!("{UPGRADED}{ACCEPT}Sec-WebSocket-Protocol: chat, superchat\r\n\r\n"),
            Rejected::UnknownProtocol,
        ),
        (format!("{UPGRADED}{ACCEPT}{deflate}\r\n\r\n"), Rejected::UnknownExtension),
        (format!("{UPGRADED}{ACCEPT}Sec-WebSocket-Extensions: other\r\n\r\n"), Rejected::UnknownExtension),
        ("SSH-2.0-OpenSSH_9.6\r\n\r\n".to_owned(), Rejected::Head(HeadError::Malformed)),
    ] {
        assert_eq!(ClientHandshake::new(&REQUEST).read(answer.as_bytes()), Err(expected), "{answer}");
    }
    let request = ClientRequest { compression: Compression::Off, ..REQUEST };
    let answer = format!("{UPGRADED}{ACCEPT}{deflate}; server_no_context_takeover\r\n\r\n");
    assert_eq!(ClientHandshake::new(&request).read(answer.as_bytes()), Err(Rejected::UnknownExtension));
}
