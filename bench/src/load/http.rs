//! As much of HTTP/1.1 as a load generator needs: requests as short as they may be, and the heads of answers.

/// The head of an answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Head {
    pub status: u16,
    /// Bytes of it, the empty line included.
    pub length: usize,
    pub body: Body,
}

/// How far the body of an answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    Bytes(usize),
    /// To the end of the connection.
    Endless,
}

/// Bytes that are no head of an answer that any of the servers has a reason to send.
#[derive(Debug, PartialEq, Eq)]
pub struct Unreadable;

/// The head at the start of `bytes`, or `None` while it is incomplete.
pub fn head(bytes: &[u8]) -> Result<Option<Head>, Unreadable> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let text = str::from_utf8(&bytes[..end]).map_err(|_| Unreadable)?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(status).ok_or(Unreadable)?;
    // RFC 9110, 15.3.5: there is no body, and no word about its length.
    let mut body = if status == 204 { Body::Bytes(0) } else { Body::Endless };
    for line in lines {
        let (name, value) = line.split_once(':').ok_or(Unreadable)?;
        if name.eq_ignore_ascii_case("content-length") {
            body = Body::Bytes(value.trim().parse().map_err(|_| Unreadable)?);
        }
        // Nobody here has a reason for chunks.
        if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(Unreadable);
        }
    }
    Ok(Some(Head { status, length: end + 4, body }))
}

/// Of `HTTP/1.1 200 OK`, 200.
fn status(line: &str) -> Option<u16> {
    line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

/// A request without a body.
pub fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
}

/// A request with a body.
pub fn post(target: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_when_its_last_byte_is_there() {
        let text = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\ncontent-LENGTH: 12\r\n\r\n";
        for cut in 0..text.len() {
            assert_eq!(head(&text.as_bytes()[..cut]), Ok(None), "cut at {cut}");
        }
        let whole = [text, "hello"].concat();
        let expected = Head { status: 200, length: text.len(), body: Body::Bytes(12) };
        assert_eq!(head(whole.as_bytes()), Ok(Some(expected)));
    }

    #[test]
    fn a_body_without_a_length_goes_on_unless_the_status_says_that_there_is_none() {
        for (text, status, body) in [
            ("HTTP/1.1 200 OK\r\n\r\n", 200, Body::Endless),
            ("HTTP/1.1 204 No Content\r\n\r\n", 204, Body::Bytes(0)),
            ("HTTP/1.1 410 Gone\r\nContent-Length:0\r\n\r\n", 410, Body::Bytes(0)),
        ] {
            let length = text.len();
            assert_eq!(head(text.as_bytes()), Ok(Some(Head { status, length, body })), "{text:?}");
        }
    }

    #[test]
    fn what_no_server_should_send_is_refused() {
        for text in [
            "HTTP/1.0 200 OK\r\n\r\n",
            "HTTP/1.1 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        ] {
            assert_eq!(head(text.as_bytes()), Err(Unreadable), "{text:?}");
        }
    }
}
