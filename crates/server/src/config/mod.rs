//! Configuration: what is set where, checked before anything starts.
//!
//! Each option is defined once, in `definitions.rs`. The file, the environment, the command line, `duplex check` and the
//! reference page are all made from that list.

mod definitions;
mod fields;
mod units;
mod sources;
mod changes;
mod reference;

pub use changes::{Change, Effect, changes};
pub(crate) use definitions::{DEFINITIONS, Definition};
pub use reference::{errors, reference};
pub use sources::{ConfigError, Source, load};

/// Reads a time such as `30s` or `1h`, in whole seconds.
pub(crate) fn seconds(text: &str) -> Result<u64, &'static str> {
    units::Unit::Time.parse(text).map(|ms| ms / 1_000)
}
