//! A request or an answer is judged the same whole and byte by byte.
#![no_main]

use duplex_websocket::Compression;
use duplex_websocket::handshake::{
    ClientHandshake, ClientRequest, HttpVersion, RequestReader, check, parse_request,
};
use libfuzzer_sys::fuzz_target;

const REQUEST: ClientRequest<'static> = ClientRequest {
    host: "chat.example",
    target: "/",
    key: *b"the sample nonce",
    protocols: &["chat"],
    compression: Compression::PerMessage,
    headers: &[],
};

fn upgrade<'a>(headers: impl Iterator<Item = (&'a str, &'a [u8])> + Clone) {
    let Ok(offer) = check("GET", HttpVersion::Http11, headers) else { return };
    let wanted = offer.protocols().next().map(str::to_owned);
    let accept = offer.accept(wanted.as_deref(), Compression::PerMessage);
    let response = String::from_utf8(accept.response()).expect("our answer is text");
    let lines = 2 + accept.headers().count();
    assert_eq!(response.matches("\r\n").count(), lines, "no header smuggles a line");
    assert_eq!(response.matches('\n').count(), lines);
}

fuzz_target!(|bytes: &[u8]| {
    let whole = parse_request(bytes);
    let mut reader = RequestReader::default();
    let stepwise =
        (0..=bytes.len()).map(|end| reader.read(&bytes[..end])).find(|read| !matches!(read, Ok(None)));
    assert_eq!(stepwise.unwrap_or(Ok(None)), whole);
    if let Ok(Some((head, length))) = whole {
        assert!(length <= bytes.len());
        upgrade(head.headers());
    }

    let mut handshake = ClientHandshake::new(&REQUEST);
    let whole = ClientHandshake::new(&REQUEST).read(bytes);
    let stepwise =
        (0..=bytes.len()).map(|end| handshake.read(&bytes[..end])).find(|read| !matches!(read, Ok(None)));
    assert_eq!(stepwise.unwrap_or(Ok(None)), whole);

    // The same bytes as the two headers with a grammar of their own, in a request that is good otherwise.
    let (extensions, protocols) = bytes.split_at(bytes.len() / 2);
    upgrade(
        [
            ("Host", &b"chat.example"[..]),
            ("Upgrade", b"websocket"),
            ("Connection", b"Upgrade"),
            ("Sec-WebSocket-Version", b"13"),
            ("Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="),
            ("Sec-WebSocket-Extensions", extensions),
            ("Sec-WebSocket-Protocol", protocols),
        ]
        .into_iter(),
    );
});
