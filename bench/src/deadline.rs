//! Every wait has an end: its deadline, or the user's Ctrl-C.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::failure::Failure;

/// Set by SIGINT and SIGTERM.
#[derive(Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From here on SIGINT and SIGTERM ask the run to end instead of ending it: guards then stop the servers.
    pub fn listen(&self) -> Result<(), Failure> {
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            // A second signal does not wait for us.
            signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&self.0))
                .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&self.0)))
                .map_err(Failure::io("cannot listen for signals"))?;
        }
        Ok(())
    }

    /// A deadline for `what`, from now.
    pub fn deadline(&self, what: impl Into<String>, within: Duration) -> Deadline {
        Deadline { what: what.into(), within, end: Instant::now() + within, interrupt: self.clone() }
    }
}

/// The latest end of one phase.
pub struct Deadline {
    what: String,
    within: Duration,
    end: Instant,
    interrupt: Interrupt,
}

impl Deadline {
    /// Fails when the time is up or the user has asked to end.
    pub fn check(&self) -> Result<(), Failure> {
        if self.interrupt.0.load(Ordering::Relaxed) {
            return Err(Failure::Interrupted);
        }
        if Instant::now() > self.end {
            return Err(Failure::Deadline { what: self.what.clone(), within: self.within });
        }
        Ok(())
    }
}
