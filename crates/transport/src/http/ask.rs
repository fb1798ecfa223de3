//! A request of which the connection is kept: its answer goes on, or makes something else of it.

use std::io;

use crate::Stream;
use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Response, StatusCode, header};

use super::{Body, HEAD_BYTES_MAX, HEADERS_MAX, raw};

/// Longest body of an answer that does not go on, bytes: such an answer says what is wrong.
const BODY_BYTES_MAX: usize = 64 << 10;

/// The answer to a request that was sent on a bare connection.
pub enum Asked {
    /// An ordinary one; the connection is done with.
    Whole(Response<Body>),
    /// One that goes on until the connection ends; the bytes are the first of its body.
    Endless(Response<()>, Stream, Bytes),
    /// Something else is spoken from now on; the bytes are the first of it.
    Switched(Response<Body>, Stream, Bytes),
}

/// Sends the head of a request that has no body, and reads the answer as far as it must be there now.
///
/// # Errors
/// The connection broke, or what came is no answer.
pub async fn ask(stream: Stream, head: &[u8]) -> io::Result<Asked> {
    raw::write(&stream, head).await?;
    let mut read = BytesMut::with_capacity(1 << 10);
    let (head, length) = loop {
        if let Some(found) = parse(&read)? {
            break found;
        }
        if read.len() > HEAD_BYTES_MAX {
            return Err(malformed());
        }
        fill(&stream, &mut read).await?;
    };
    let _ = read.split_to(length);
    if head.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Asked::Switched(head.map(|()| Body::default()), stream, read.freeze()));
    }
    let Some(length) = body_length(&head)? else {
        return Ok(Asked::Endless(head, stream, read.freeze()));
    };
    while read.len() < length {
        fill(&stream, &mut read).await?;
    }
    read.truncate(length);
    Ok(Asked::Whole(head.map(|()| read.freeze().into())))
}

/// How long a body is; `None` if it goes on until the connection ends (RFC 9112, 6.3).
fn body_length(head: &Response<()>) -> io::Result<Option<usize>> {
    if head.status() == StatusCode::NO_CONTENT {
        return Ok(Some(0));
    }
    let Some(length) = head.headers().get(header::CONTENT_LENGTH) else { return Ok(None) };
    let length = length.to_str().ok().and_then(|length| length.parse().ok());
    length.filter(|length| *length <= BODY_BYTES_MAX).map(Some).ok_or_else(malformed)
}

/// The head of an answer at the start of `bytes`, and its length, if all of it is there.
fn parse(bytes: &[u8]) -> io::Result<Option<(Response<()>, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = head.parse(bytes).map_err(|_| malformed())? else {
        return Ok(None);
    };
    let status = StatusCode::from_u16(head.code.unwrap_or_default()).map_err(|_| malformed())?;
    let mut response = Response::new(());
    *response.status_mut() = status;
    for field in head.headers {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| malformed())?;
        let value = HeaderValue::from_bytes(field.value).map_err(|_| malformed())?;
        response.headers_mut().append(name, value);
    }
    Ok(Some((response, length)))
}

async fn fill(stream: &Stream, read: &mut BytesMut) -> io::Result<()> {
    loop {
        stream.readable().await?;
        match read_some(stream, read) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

fn read_some(stream: &Stream, read: &mut BytesMut) -> io::Result<usize> {
    let mut buffer = [0; 2 << 10];
    let length = stream.try_read(&mut buffer)?;
    read.extend_from_slice(&buffer[..length]);
    Ok(length)
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not an answer in HTTP/1.1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_when_all_of_its_head_is_there() {
        let text = b"HTTP/1.1 404 Not Found\r\nvary: a\r\nVary: b\r\ncontent-length: 3\r\n\r\nno\n";
        let head = text.len() - 3;
        for cut in 0..head {
            assert!(parse(&text[..cut]).unwrap().is_none(), "{cut}");
        }
        let (response, length) = parse(text).unwrap().unwrap();
        assert_eq!(
            (length, response.status(), body_length(&response).unwrap()),
            (head, StatusCode::NOT_FOUND, Some(3))
        );
        assert_eq!(response.headers().get_all("vary").iter().count(), 2);
        let endless = parse(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").unwrap().unwrap().0;
        assert_eq!(body_length(&endless).unwrap(), None);
        for wrong in ["HTTP/1.1 nonsense", "SSH-2.0-x\r\n\r\n"] {
            assert!(parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
        let long = parse(b"HTTP/1.1 200 OK\r\ncontent-length: 65537\r\n\r\n").unwrap().unwrap().0;
        assert!(body_length(&long).is_err());
    }
}
