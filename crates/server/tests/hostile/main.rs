//! What a server must survive, as a table: each row is sent to a server with a healthy neighbour on it, and after each
//! row the neighbour must be well and nothing may be left of the one who sent it. Rows are numbered as in the catalogue
//! of hostile inputs: section, number, what it is.

#[path = "../support/mod.rs"]
mod support;
mod table;

mod handshake;
mod requests;
mod cuts;
mod framing;
mod compression;
mod messages;
mod commands;
mod waiting;
mod polling;
