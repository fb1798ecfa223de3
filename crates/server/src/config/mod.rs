//! Configuration: what is set where, checked before anything starts.
//!
//! Each option is defined once, in `definitions.rs`. The file, the environment, the command line, `duplex check` and the
//! reference page are all made from that list.

mod definitions;
mod units;
mod sources;
mod reference;

pub(crate) use definitions::{DEFINITIONS, Definition};
pub use reference::reference;
pub use sources::{ConfigError, Source, load};
