//! Several nodes: an audit of what clients get while nodes are killed, and every suite against a cluster that looks like one server.

use std::path::PathBuf;
use std::time::Duration;

use super::{Depth, cargo, log, suites};
use crate::process;
use crate::report::Outcome;
use crate::setup;
use crate::workspace::Workspace;

/// The folder of the audit.
pub const NAME: &str = "cluster";

/// The program that starts a cluster; the server lies beside it.
pub const PROGRAM: &str = "duplex-cluster";

/// How many nodes that program starts.
pub const NODES: &str = "3";

const LIMIT: Duration = Duration::from_secs(900);

/// The audit: short, and with the program that is optimized where there is time.
pub fn audit(workspace: &Workspace, depth: Depth) -> Outcome {
    if let Err(missing) = redis(workspace) {
        return Outcome::skip(missing);
    }
    let program = match depth {
        Depth::Full => {
            let build = cargo::release_build(workspace);
            if !build.succeeded() {
                return Outcome::fail(format!("the release build: {}", build.note()), build.output);
            }
            workspace.target.join("release").join(PROGRAM)
        }
        Depth::Fast | Depth::Usual => debug_program(workspace),
    };
    let folder = workspace.root.join("conformance").join(NAME);
    if let Err(outcome) = suites::npm_packages(workspace, &folder) {
        return outcome;
    }
    let mut node = suites::node(&folder);
    // One cluster at a time: it is load enough.
    node.arg("--test-concurrency=1").env("DUPLEX_CLUSTER", program);
    if depth == Depth::Full {
        node.env("DUPLEX_DEPTH", "full");
    }
    suites::counted(process::run(&mut node, &log(workspace, NAME), LIMIT))
}

/// What a cluster needs.
pub fn redis(workspace: &Workspace) -> Result<(), setup::Missing> {
    setup::BROKERS
        .iter()
        .filter(|broker| broker.name == "redis")
        .try_for_each(|b| setup::broker(workspace, b))
}

/// As `build` leaves it.
pub fn debug_program(workspace: &Workspace) -> PathBuf {
    workspace.target.join("debug").join(PROGRAM)
}
