//! A client on real sockets, before a server that says what the test says.

mod fallback;
mod liveness;
mod support;
