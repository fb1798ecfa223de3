//! The opening handshake (RFC 6455, 4) over lists of headers, so that it works behind any HTTP server and alone.
//!
//! A server calls [`check`] with the request it got, then [`Offer::accept`]. Without an HTTP server in front,
//! [`RequestReader`] finds the request in the received bytes and [`Accept::response`] is the answer. A client sends
//! [`ClientRequest::head`] and feeds the answer to [`ClientHandshake::read`].

mod client;
mod extension;
mod fields;
mod head;
mod key;
mod server;

pub use client::{Agreed, ClientHandshake, ClientRequest, InvalidRequest, Rejected};
pub use head::{HEAD_BYTES_MAX, HEADERS_MAX, HeadError, RequestHead, RequestReader, parse_request};
pub use server::{Accept, HttpVersion, Offer, Refusal, check};
