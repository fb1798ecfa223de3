//! The first page, and the client that it and every other page can use.

use duplex_transport::http::{Body, content};
use http::{HeaderValue, Response, StatusCode, header};

const PAGE: &str = include_str!("../assets/index.html");
/// Made from `sdk/js`: a script that defines `Duplex`, and the same as a module.
const SCRIPT: &str = include_str!("../assets/duplex.js");
const MODULE: &str = include_str!("../assets/duplex.mjs");

/// Nothing from elsewhere is loaded, and no other page may frame this one.
const POLICY: &str = "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; \
    connect-src 'self' ws: wss:; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'";

/// `/duplex.js`.
pub(crate) fn script() -> Response<Body> {
    javascript(SCRIPT)
}

/// `/duplex.mjs`.
pub(crate) fn module() -> Response<Body> {
    javascript(MODULE)
}

fn javascript(text: &'static str) -> Response<Body> {
    let mut response = content(StatusCode::OK, "text/javascript; charset=utf-8", text);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// `/`.
pub(crate) fn index() -> Response<Body> {
    let mut response = content(StatusCode::OK, "text/html; charset=utf-8", PAGE);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}
