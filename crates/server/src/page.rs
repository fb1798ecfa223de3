//! The first page.

use duplex_transport::http::{Body, content};
use http::{HeaderValue, Response, StatusCode, header};

const PAGE: &str = include_str!("../assets/index.html");

/// Nothing from elsewhere is loaded, and no other page may frame this one.
const POLICY: &str = "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; \
    connect-src 'self' ws: wss:; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'";

pub(crate) fn index() -> Response<Body> {
    let mut response = content(StatusCode::OK, "text/html; charset=utf-8", PAGE);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}
