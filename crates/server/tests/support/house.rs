//! A server with a healthy neighbour on it, and rows that are tried there: after each one the neighbour must be well, and
//! nothing may be left of whoever was there.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use duplex::Options;

use super::neighbour::Neighbour;
use super::{Levels, Running, eventually, start};

pub struct House {
    neighbour: Neighbour,
    tried: usize,
    wrong: Vec<String>,
    /// Dropped when the neighbour has gone: it would be waited for.
    server: Running,
}

/// What there is when only the neighbour is there.
const BASELINE: Levels = Levels::of(1, 1);

impl House {
    pub fn open(options: Options) -> Self {
        let server = start(options);
        let mut neighbour = Neighbour::join(server.address);
        neighbour.check();
        server.settle(BASELINE);
        Self { neighbour, tried: 0, wrong: Vec::new(), server }
    }

    /// Tries a row; what is wrong with it is noted and does not keep back others.
    pub fn try_row(&mut self, name: impl Into<String>, act: impl FnOnce(SocketAddr)) {
        self.tried += 1;
        let address = self.server.address;
        let tried = catch_unwind(AssertUnwindSafe(|| {
            act(address);
            self.neighbour.check();
            self.settle();
        }));
        if let Err(panic) = tried {
            self.wrong.push(format!("{}: {}", name.into(), message(&*panic)));
            self.neighbour = Neighbour::join(address);
        }
    }

    /// Waits until there is only the neighbour. That its connection is the only one, too, is looked at in the end.
    fn settle(&self) {
        let gauges = self.server.gauges();
        let now = || (gauges.sessions(), gauges.subscriptions());
        eventually(|| format!("nothing is left, now {:?}", now()), || now() == (1, 1));
    }

    /// Fails with all that was wrong.
    pub fn judge(mut self) {
        self.neighbour.check();
        let Self { wrong, tried, server, .. } = &self;
        assert!(wrong.is_empty(), "{} of {tried} rows:\n{}", wrong.len(), wrong.join("\n"));
        server.settle(BASELINE);
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a text")
}
