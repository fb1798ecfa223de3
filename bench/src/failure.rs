//! Why a run ends without figures.

use std::io;
use std::time::Duration;

use crate::subjects::Subject;

/// A benchmark that lost a message, a client or a server has nothing to report; this says which.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    #[error("{what}: not done within {} s", .within.as_secs())]
    Deadline { what: String, within: Duration },
    #[error("a client got publication {got} where {expected} was due: messages were lost or mixed up")]
    OutOfOrder { expected: u64, got: u64 },
    #[error("the server closed a client's connection ({how})")]
    Disconnected { how: String },
    #[error("the server broke the protocol: {0}")]
    Misbehaved(String),
    #[error("the server ended before its time ({status}); its log: {log}")]
    ServerEnded { status: String, log: String },
    #[error(
        "there is no server at {path}: run `cargo build --release` first, or name one with --server PATH"
    )]
    NoServer { path: String },
    #[error("{needed} open files are needed and {allowed} are allowed: raise `ulimit -n`, or take --quick")]
    TooFewFiles { needed: u64, allowed: u64 },
    #[error("{0} cannot be measured on this system")]
    Unmeasurable(&'static str),
    #[error("{subject}: {source}")]
    Of { subject: &'static str, source: Box<Failure> },
    #[error("interrupted")]
    Interrupted,
}

impl Failure {
    /// For `map_err`: an I/O error with what was being done.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// For `map_err`: whose failure it is. An interrupt is nobody's.
    pub fn of(subject: Subject) -> impl FnOnce(Self) -> Self {
        move |failure| match failure {
            Self::Interrupted => Self::Interrupted,
            failure => Self::Of { subject: subject.name(), source: Box::new(failure) },
        }
    }
}
