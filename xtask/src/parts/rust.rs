//! rust_socketio against our Socket.IO, signalr-client against our SignalR: `conformance/rust`, a cargo project outside the workspace.

use std::process::Command;
use std::time::Duration;

use super::log;
use super::suites::{self, Host};
use crate::process;
use crate::report::Outcome;
use crate::setup;
use crate::workspace::Workspace;

/// The first build compiles some 200 crates.
const BUILD_LIMIT: Duration = Duration::from_secs(1200);

pub fn check(workspace: &Workspace, host: Host) -> Outcome {
    if let Err(missing) = setup::openssl(workspace) {
        return Outcome::skip(missing);
    }
    let folder = workspace.root.join("conformance/rust");
    let target = workspace.target.join("rust");
    let mut build = workspace.cargo(&["build", "--locked", "--manifest-path"]);
    build.arg(folder.join("Cargo.toml")).arg("--target-dir").arg(&target);
    let built = process::run(&mut build, &log(workspace, "rust-build"), BUILD_LIMIT);
    if !built.succeeded() {
        return Outcome::fail(format!("cannot build the client: {}", built.note()), built.output);
    }
    let mut suite = Command::new(target.join("debug/duplex-conformance-rust"));
    suite.current_dir(folder);
    suites::run(workspace, "rust", suite, &suites::HEARTBEATS, host)
}
