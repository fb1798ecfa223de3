//! The engine without sockets and without waiting: clients are links that write into a string, time is a number.

mod support;
mod delivery;
mod recovery;
mod identity;
mod presence;
mod overload;
mod away;
