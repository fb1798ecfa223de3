//! The heads of HTTP/1.1 messages: just enough to know where a message ends (RFC 9112, 6.3).

use super::body::Body;

/// Longer ones are not read: what they introduce passes as it comes.
pub(super) const HEAD_BYTES_MAX: usize = 256 * 1024;

/// Where the head ends that `bytes` begin with.
pub(super) fn end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// What the head of a message says about its end and about what comes after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    /// The three words of the first line.
    first: [String; 3],
    length: Option<u64>,
    coding: Coding,
    connection: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Plain,
    Chunked,
}

/// What becomes of a connection after a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    Keep,
    Close,
}

impl Head {
    /// Nothing for what is no head of HTTP/1.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut lines = text.split("\r\n");
        let mut words = lines.next()?.splitn(3, ' ').map(str::to_owned);
        let first = [words.next()?, words.next()?, words.next().unwrap_or_default()];
        let mut head = Self { first, length: None, coding: Coding::Plain, connection: String::new() };
        for line in lines.filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':')?;
            head.note(&name.to_ascii_lowercase(), value.trim())?;
        }
        head.is_http().then_some(head)
    }

    fn note(&mut self, name: &str, value: &str) -> Option<()> {
        match name {
            "content-length" => self.length = Some(value.parse().ok()?),
            "transfer-encoding" if value.eq_ignore_ascii_case("chunked") => self.coding = Coding::Chunked,
            "transfer-encoding" => return None,
            "connection" => self.connection = value.to_ascii_lowercase(),
            _ => {}
        }
        Some(())
    }

    fn is_http(&self) -> bool {
        self.version().starts_with("HTTP/1.")
    }

    /// First in a response, last in a request.
    fn version(&self) -> &str {
        let [first, _, last] = &self.first;
        if first.starts_with("HTTP/") { first } else { last }
    }

    /// Of a response.
    pub(super) fn status(&self) -> Option<u16> {
        self.first[1].parse().ok()
    }

    /// Of a request.
    pub(super) fn method(&self) -> &str {
        &self.first[0]
    }

    /// The body of a request with this head.
    pub(super) fn request_body(&self) -> Body {
        self.body(Body::Over)
    }

    /// The body of a response with this head, to a request with that method.
    pub(super) fn response_body(&self, method: &str) -> Body {
        match self.status() {
            _ if method == "HEAD" => Body::Over,
            Some(100..200 | 204 | 304) => Body::Over,
            _ => self.body(Body::UntilClose),
        }
    }

    fn body(&self, otherwise: Body) -> Body {
        match (self.coding, self.length) {
            (Coding::Chunked, _) => Body::chunked(),
            (Coding::Plain, Some(length)) => Body::of(length),
            (Coding::Plain, None) => otherwise,
        }
    }

    pub(super) fn after(&self) -> After {
        let says = |word: &str| self.connection.split(',').any(|option| option.trim() == word);
        match self.version() {
            "HTTP/1.1" if !says("close") => After::Keep,
            _ => After::Close,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Head> {
        Head::parse(text.as_bytes())
    }

    #[test]
    fn a_head_says_how_its_message_ends() {
        let post = parse("POST /a HTTP/1.1\r\nContent-Length: 5\r\n\r\n").unwrap();
        assert_eq!((post.request_body(), post.after()), (Body::of(5), After::Keep));
        let chunked = parse("POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        assert_eq!(chunked.request_body(), Body::chunked());
        let get = parse("GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Close\r\n\r\n").unwrap();
        assert_eq!((get.request_body(), get.after()), (Body::Over, After::Close));
        assert_eq!(parse("GET / HTTP/1.0\r\n\r\n").unwrap().after(), After::Close);
    }

    #[test]
    fn a_response_without_a_length_goes_on_until_its_connection_ends() {
        let endless = parse("HTTP/1.1 200 OK\r\n\r\n").unwrap();
        assert_eq!(endless.response_body("GET"), Body::UntilClose);
        assert_eq!(endless.response_body("HEAD"), Body::Over);
        let nothing = parse("HTTP/1.1 204 No Content\r\nX: y\r\n\r\n").unwrap();
        assert_eq!(nothing.response_body("GET"), Body::Over);
        assert_eq!(parse("HTTP/1.1 101 \r\n\r\n").unwrap().status(), Some(101));
    }

    #[test]
    fn what_is_no_head_is_none() {
        for text in
            ["\r\n\r\n", "hello\r\n\r\n", "GET / HTTP/2\r\n\r\n", "GET / HTTP/1.1\r\nno colon\r\n\r\n"]
        {
            assert_eq!(parse(text), None, "{text:?}");
        }
        assert_eq!(parse("POST / HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\n"), None);
        assert_eq!(Head::parse(b"GET /\xff HTTP/1.1\r\n\r\n"), None);
    }

    #[test]
    fn a_head_ends_with_an_empty_line() {
        assert_eq!(end(b"GET / HTTP/1.1\r\n\r\nrest"), Some(18));
        assert_eq!(end(b"GET / HTTP/1.1\r\n\r"), None);
    }
}
