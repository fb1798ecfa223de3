//! The WebSocket protocol as values: bytes in, events out, frames ready to send.
//!
//! RFC 6455 framing and opening handshake, and RFC 7692 `permessage-deflate`. There is no I/O, no clock and no
//! randomness in here: the caller reads sockets, counts seconds and draws masks. Whatever a peer sends becomes an
//! [`Event`], a [`Violation`] or a [`handshake::Refusal`]; a panic would be our bug. Nothing allocates by what a
//! header declares, only by what has arrived.
//!
//! ```
//! use duplex_websocket::{Compression, Decoder, Event, Inflater, Limits, Opcode, Role, encode};
//!
//! let mut wire = Vec::new();
//! encode::masked(Opcode::Text, b"hello", [1, 2, 3, 4], &mut wire);
//!
//! let mut inflater = Inflater::new();
//! let mut decoder = Decoder::new(Role::Server, Compression::Off);
//! let (used, event) = decoder.decode(&mut wire, &Limits::default(), &mut inflater).unwrap();
//! assert_eq!((used, event), (11, Some(Event::Text("hello"))));
//! ```

#![warn(missing_docs)]

mod limits;
mod violation;

mod close;

mod decode;
mod head;
mod mask;

pub mod encode;

mod deflate;

pub mod handshake;

pub use close::CloseCode;
pub use decode::{Compression, Decoder, Event, Role};
pub use deflate::{DEFLATE_MIN_BYTES, Deflater, Inflater};
pub use encode::Kind;
pub use head::Opcode;
pub use limits::Limits;
pub use violation::Violation;
