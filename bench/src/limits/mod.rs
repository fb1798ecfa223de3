//! What our server keeps up under hostile or unlucky clients: limits, not races.

pub mod crowd;
pub mod events;
pub mod idle;
pub mod stalled;
pub mod storm;
pub mod ticker;
pub mod words;
