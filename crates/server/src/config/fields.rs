//! Options that are not numbers: how each is read and shown.

use std::fmt::Display;

use duplex_broker::NatsMedium;
use duplex_engine::{Deflate, Recovery, UserLimited, Visibility, Who};

use crate::auth::{Anonymous, Expiry, PrivateAddresses};
use crate::options::{AtStart, ConnectionRecovery, Mode, Slow, Version2};

/// A value that is one of a few words.
pub(crate) trait Choice: Sized + Copy + PartialEq + 'static {
    /// The words, and what they stand for.
    const WORDS: &'static [(&'static str, Self)];

    fn read(text: &str) -> Result<Self, String> {
        let found = Self::WORDS.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        found.ok_or_else(|| {
            let words: Vec<&str> = Self::WORDS.iter().map(|(word, _)| *word).collect();
            format!("{text:?} is none of {}", words.join(", "))
        })
    }

    fn word(self) -> String {
        let found = Self::WORDS.iter().find(|(_, value)| *value == self);
        found.map_or_else(String::new, |(word, _)| (*word).to_owned())
    }
}

impl Choice for Mode {
    const WORDS: &'static [(&'static str, Self)] = &[("true", Self::Dev), ("false", Self::Closed)];
}

impl Choice for ConnectionRecovery {
    const WORDS: &'static [(&'static str, Self)] = &[("true", Self::On), ("false", Self::Off)];
}

impl Choice for Version2 {
    const WORDS: &'static [(&'static str, Self)] = &[("true", Self::Allowed), ("false", Self::Refused)];
}

impl Choice for Who {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("backend", Self::Backend),
        ("token", Self::Token),
        ("subscriber", Self::Subscriber),
        ("user", Self::User),
        ("anyone", Self::Anyone),
    ];
}

impl Choice for Visibility {
    const WORDS: &'static [(&'static str, Self)] =
        &[("off", Self::Hidden), ("on", Self::Asked), ("announced", Self::Announced)];
}

impl Choice for Recovery {
    const WORDS: &'static [(&'static str, Self)] =
        &[("off", Self::Off), ("stream", Self::Stream), ("cache", Self::Cache)];
}

impl Choice for UserLimited {
    const WORDS: &'static [(&'static str, Self)] = &[("true", Self::Yes), ("false", Self::No)];
}

impl Choice for Deflate {
    const WORDS: &'static [(&'static str, Self)] = &[("true", Self::On), ("false", Self::Off)];
}

impl Choice for Slow {
    const WORDS: &'static [(&'static str, Self)] =
        &[("disconnect", Self::Disconnect), ("drop_oldest", Self::DropOldest), ("latest", Self::Latest)];
}

impl Choice for Expiry {
    const WORDS: &'static [(&'static str, Self)] = &[("true", Self::Required), ("false", Self::Optional)];
}

impl Choice for NatsMedium {
    const WORDS: &'static [(&'static str, Self)] = &[("file", Self::File), ("memory", Self::Memory)];
}

impl Choice for AtStart {
    const WORDS: &'static [(&'static str, Self)] = &[("wait", Self::Wait), ("exit", Self::Exit)];
}

impl Choice for Anonymous {
    const WORDS: &'static [(&'static str, Self)] = &[("true", Self::Allowed), ("false", Self::Refused)];
}

impl Choice for PrivateAddresses {
    const WORDS: &'static [(&'static str, Self)] = &[("true", Self::Allowed), ("false", Self::Refused)];
}

/// What the names of everything in a broker begin with.
pub(crate) fn prefix(text: &str) -> Result<String, String> {
    let is_right = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match (1..=64).contains(&text.len()) && text.chars().all(is_right) {
        true => Ok(text.to_owned()),
        false => Err(format!("{text:?} is not 1 to 64 letters, digits, '-', '_' or '.'")),
    }
}

/// An optional value; empty text is none.
pub(crate) fn optional<T>(
    text: &str,
    read: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, String> {
    if text.is_empty() { Ok(None) } else { read(text).map(Some) }
}

pub(crate) fn show_optional<T: Display>(value: Option<&T>) -> String {
    value.map_or_else(String::new, T::to_string)
}

/// The parts of a list, which are separated by commas.
pub(crate) fn list<T>(text: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(read).collect()
}
