//! Suites that print TAP, each run against a server of its own: every folder of `conformance/` with a `package.json` is
//! a part in Node.js; others have a file beside this one that sets them up.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{cargo, cluster, log};
use crate::process::{self, Finished};
use crate::report::Outcome;
use crate::server::Server;
use crate::setup::{self, NpmProblem};
use crate::workspace::Workspace;

const LIMIT: Duration = Duration::from_secs(600);

/// Options of a server whose clients meet its heartbeats, and are not lost when the machine is busy.
pub const HEARTBEATS: [&str; 4] = ["--client-heartbeat", "1s", "--client-pong-timeout", "5s"];

/// What `sdk/js` is built into for the server to serve.
const BUNDLES: [&str; 2] = ["duplex.js", "duplex.mjs"];

/// The suite that drives a browser.
const BROWSER: &str = "browser";

/// The suite that also wants an application behind its clients, which is an example of the server.
const SIGNALR: (&str, &str) = ("signalr", "signalr_suite");

/// All clients of a suite come from one address, and many of them connect thousands of times.
const CROWD: [&str; 2] = ["--connections-per-address-burst", "1000000"];

/// What a suite is played against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    Server,
    /// Three nodes behind a balancer, which look like one server.
    Cluster,
}

impl Host {
    fn program(self, workspace: &Workspace) -> PathBuf {
        match self {
            Self::Server => workspace.target.join("debug/duplex"),
            Self::Cluster => cluster::debug_program(workspace),
        }
    }

    fn nodes(self) -> &'static str {
        match self {
            Self::Server => "1",
            Self::Cluster => cluster::NODES,
        }
    }

    /// What the part is called in which a suite is played against it.
    pub fn part(self, suite: &str) -> String {
        match self {
            Self::Server => suite.to_owned(),
            Self::Cluster => format!("three-{suite}"),
        }
    }
}

/// The suites there are, in order.
pub fn names(workspace: &Workspace) -> Vec<String> {
    let folders = fs::read_dir(workspace.root.join("conformance"))
        .map_or_else(|_| Vec::new(), |f| f.flatten().collect());
    let suites = folders.iter().filter(|folder| folder.path().join("package.json").is_file());
    let mut names: Vec<String> =
        suites.map(|suite| suite.file_name().to_string_lossy().into_owned()).collect();
    // It brings its own cluster.
    names.retain(|name| name != cluster::NAME);
    names.sort();
    names
}

pub fn check(workspace: &Workspace, name: &str, host: Host) -> Outcome {
    let folder = workspace.root.join("conformance").join(name);
    let mut node = node(&folder);
    if name == BROWSER {
        // One browser at a time is enough for a small machine.
        node.arg("--test-concurrency=1");
        match setup::chromium(workspace) {
            Ok(chromium) => node.env("CHROMIUM", chromium),
            Err(missing) => return Outcome::skip(missing),
        };
    }
    if name == SIGNALR.0 {
        match cargo::example(workspace, SIGNALR.1) {
            Ok(program) => node.env("DUPLEX_APPLICATION", program),
            Err(finished) => {
                return Outcome::fail(format!("{}: {}", SIGNALR.1, finished.note()), finished.output);
            }
        };
    }
    match npm_packages(workspace, &folder) {
        Ok(()) => run(workspace, name, node, &CROWD, host),
        Err(outcome) => outcome,
    }
}

/// The client in `sdk/js`: what it is built into must be what the server was built with, and its tests must pass.
pub fn sdk(workspace: &Workspace) -> Outcome {
    const NAME: &str = "sdk";
    let folder = workspace.root.join("sdk/js");
    if let Err(outcome) = npm_packages(workspace, &folder) {
        return outcome;
    }
    let bundles =
        || BUNDLES.map(|bundle| fs::read(workspace.root.join("crates/server/assets").join(bundle)).ok());
    let committed = bundles();
    for script in ["build", "size"] {
        let mut npm = Command::new("npm");
        npm.args(["run", script]).current_dir(&folder);
        let finished = process::run(&mut npm, &log(workspace, &format!("{NAME}-{script}")), LIMIT);
        if !finished.succeeded() {
            return Outcome::fail(format!("npm run {script}: {}", finished.note()), finished.output);
        }
    }
    if bundles() != committed {
        let note =
            "crates/server/assets had other bundles than sdk/js makes; they are there now: commit them";
        return Outcome::fail(note, "");
    }
    run(workspace, NAME, node_with_websocket(&folder), &[], Host::Server)
}

/// Node.js before 22 has a WebSocket only if asked, and takes everything in a folder `test` for tests, so they are named.
fn node_with_websocket(folder: &Path) -> Command {
    let mut node = node(folder);
    node.env("NODE_OPTIONS", "--experimental-websocket");
    let tests =
        fs::read_dir(folder.join("test")).map_or_else(|_| Vec::new(), |files| files.flatten().collect());
    let names = tests.iter().map(|test| test.file_name().to_string_lossy().into_owned());
    node.args(names.filter(|name| name.ends_with(".test.mjs")).map(|name| format!("test/{name}")));
    node
}

pub fn node(folder: &Path) -> Command {
    // Without a path: how `node --test` reads one differs between versions.
    let mut node = Command::new("node");
    node.args(["--test", "--test-reporter=tap"]).current_dir(folder).env("NO_COLOR", "1");
    node
}

pub fn npm_packages(workspace: &Workspace, folder: &Path) -> Result<(), Outcome> {
    setup::npm_packages(workspace, folder).map_err(|problem| match problem {
        NpmProblem::Missing(missing) => Outcome::skip(missing),
        NpmProblem::Failed(note, output) => Outcome::fail(format!("npm ci: {note}"), output),
    })
}

/// Runs a suite against a server of its own, which has these options.
pub fn run(workspace: &Workspace, name: &str, mut suite: Command, options: &[&str], host: Host) -> Outcome {
    let name = host.part(name);
    let server_log = log(workspace, &format!("{name}-server"));
    let program = host.program(workspace);
    let mut server = match Server::start(&program, options, &server_log) {
        Ok(server) => server,
        Err(problem) => return Outcome::fail("no server", problem),
    };
    suite.env("DUPLEX_URL", format!("http://{}", server.address())).env("DUPLEX_PROGRAM", &program);
    suite.env("DUPLEX_NODES", host.nodes());
    let mut outcome = counted(process::run(&mut suite, &log(workspace, &name), LIMIT));
    if let Some(fault) = server.fault() {
        outcome.failed += 1;
        outcome.note = fault;
    }
    if outcome.failed > 0 {
        outcome.detail += &format!("\n--- the server said\n{}", server.output());
    }
    outcome
}

/// Reads the sums at the end of TAP. A test that prints `SKIP: reason` passes for Node and is skipped for us.
pub fn counted(finished: Finished) -> Outcome {
    let sum = |what: &str| -> Option<usize> {
        let mut lines = finished.output.lines().rev();
        lines.find_map(|line| line.strip_prefix("# ")?.strip_prefix(what)?.trim().parse().ok())
    };
    let said = finished.output.lines().map(|line| line.trim_start_matches(['#', ' ']));
    let skips: Vec<&str> = said.filter_map(|line| line.strip_prefix("SKIP:")).map(str::trim).collect();
    // Node counts a file without tests as one test that is called like the file.
    let is_file = |line: &&str| line.starts_with("ok ") && line.ends_with("js");
    let skipped_files = finished.output.lines().filter(is_file).count().min(skips.len());
    let reported = sum("pass ").is_some();
    let mut outcome = Outcome {
        passed: sum("pass ").unwrap_or(0).saturating_sub(skipped_files),
        failed: sum("fail ").unwrap_or(0) + sum("cancelled ").unwrap_or(0),
        skipped: sum("skipped ").unwrap_or(0) + skips.len(),
        note: skips.iter().chain(&skipped_tests(&finished.output)).copied().collect::<Vec<_>>().join("; "),
        detail: String::new(),
    };
    if !finished.succeeded() || !reported {
        outcome.failed = outcome.failed.max(1);
        outcome.note =
            if reported { finished.note() } else { format!("no sum of results, {}", finished.note()) };
    } else if outcome.passed + outcome.failed + outcome.skipped == 0 {
        outcome.failed = 1;
        outcome.note = "no test was run".into();
    }
    outcome.detail = finished.output;
    outcome
}

/// `name # SKIP reason` of each test that Node skipped.
fn skipped_tests(tap: &str) -> Vec<&str> {
    let results = tap.lines().filter_map(|line| line.trim_start().strip_prefix("ok "));
    results.filter(|result| result.contains(" # SKIP")).filter_map(|r| Some(r.split_once(" - ")?.1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::End;

    fn counts(end: End, output: &str) -> (usize, usize, usize) {
        let outcome = counted(Finished { end, output: output.into() });
        (outcome.passed, outcome.failed, outcome.skipped)
    }

    fn tap(pass: usize, fail: usize, skipped: usize) -> String {
        format!(
            "ok 1 - a\n1..1\n# tests 9\n# pass {pass}\n# fail {fail}\n# cancelled 0\n# skipped {skipped}\n# todo 0\n"
        )
    }

    #[test]
    fn the_sums_of_node_are_ours() {
        assert_eq!(counts(End::Succeeded, &tap(5, 0, 1)), (5, 0, 1));
        assert_eq!(counts(End::Failed("exit status: 1".into()), &tap(5, 2, 0)), (5, 2, 0));
    }

    #[test]
    fn a_loud_skip_is_not_a_pass() {
        let whole_file = format!("# SKIP: no chromium\nok 2 - page.test.mjs\n{}", tap(2, 0, 0));
        assert_eq!(counts(End::Succeeded, &whole_file), (1, 0, 1));
        let one_thing = format!("# SKIP: no IPv6\n{}", tap(1, 0, 0));
        assert_eq!(counts(End::Succeeded, &one_thing), (1, 0, 1));
    }

    #[test]
    fn a_skipped_test_is_named_with_its_reason() {
        let output = format!("ok 1 - b\nok 2 - curl # SKIP no curl\n{}", tap(1, 0, 1));
        assert_eq!(counted(Finished { end: End::Succeeded, output }).note, "curl # SKIP no curl");
    }

    #[test]
    fn a_suite_that_breaks_or_runs_nothing_is_a_failure() {
        assert_eq!(counts(End::Failed("exit status: 1".into()), "SyntaxError"), (0, 1, 0));
        assert_eq!(counts(End::TimedOut(LIMIT), &tap(5, 0, 0)), (5, 1, 0));
        assert_eq!(counts(End::Succeeded, &tap(0, 0, 0)), (0, 1, 0));
        assert_eq!(counts(End::Succeeded, ""), (0, 1, 0));
    }
}
