//! The parts that are cargo commands.

use std::path::PathBuf;
use std::time::Duration;

use super::{Depth, log, plain};
use crate::process::{self, Finished};
use crate::report::Outcome;
use crate::setup;
use crate::workspace::Workspace;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

pub fn fmt(workspace: &Workspace) -> Outcome {
    if let Err(missing) = setup::component(workspace, "fmt", "rustfmt") {
        return Outcome::skip(missing);
    }
    plain(cargo(workspace, "fmt", &["fmt", "--all", "--check"], 60 * SECOND))
}

pub fn clippy(workspace: &Workspace) -> Outcome {
    if let Err(missing) = setup::component(workspace, "clippy", "clippy") {
        return Outcome::skip(missing);
    }
    let args = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    plain(cargo(workspace, "clippy", &args, 20 * MINUTE))
}

/// All tests; those that are ignored, because they take minutes, where there is time. Tests that need a broker which is not there are left out: they are in modules that are called like it.
pub fn tests(workspace: &Workspace, depth: Depth) -> Outcome {
    let mut args: Vec<String> = ["test", "--workspace", "--no-fail-fast"].map(String::from).into();
    let missing: Vec<(&str, String)> = setup::BROKERS
        .iter()
        .filter_map(|broker| Some((broker.name, setup::broker(workspace, broker).err()?)))
        .collect();
    args.push("--".into());
    if depth == Depth::Full {
        args.push("--include-ignored".into());
    }
    for (name, _) in &missing {
        args.extend(["--skip".into(), format!("{name}::")]);
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut outcome = counted(cargo(workspace, "tests", &args, 30 * MINUTE));
    if outcome.note.is_empty() {
        let reasons: Vec<String> = missing.into_iter().map(|(_, reason)| reason).collect();
        outcome.note = reasons.join("; ");
    }
    outcome
}

pub fn unit_tests(workspace: &Workspace) -> Outcome {
    let args = ["test", "--workspace", "--no-fail-fast", "--lib", "--bins"];
    counted(cargo(workspace, "unit", &args, 20 * MINUTE))
}

pub fn doc(workspace: &Workspace) -> Outcome {
    let mut command = workspace.cargo(&["doc", "--workspace", "--no-deps"]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    plain(process::run(&mut command, &log(workspace, "doc"), 20 * MINUTE))
}

/// The advisory database is not asked: it needs the network at every run, and `floors` is always there.
pub fn deny(workspace: &Workspace) -> Outcome {
    if !process::succeeds(&mut workspace.cargo(&["deny", "--version"])) {
        return Outcome::skip("no cargo-deny: `cargo install cargo-deny`");
    }
    let args = ["deny", "check", "bans", "licenses", "sources"];
    plain(cargo(workspace, "deny", &args, 5 * MINUTE))
}

pub fn build(workspace: &Workspace) -> Outcome {
    plain(cargo(workspace, "build", &["build", "-p", "duplex", "-p", "duplex-rigs"], 20 * MINUTE))
}

/// Builds an example of the server: the program.
pub fn example(workspace: &Workspace, name: &str) -> Result<PathBuf, Finished> {
    let args = ["build", "-p", "duplex", "--example", name];
    let finished = cargo(workspace, name, &args, 20 * MINUTE);
    let program = workspace.target.join("debug/examples").join(name);
    if finished.succeeded() { Ok(program) } else { Err(finished) }
}

pub fn release_build(workspace: &Workspace) -> Finished {
    cargo(workspace, "release", &["build", "--release", "-p", "duplex", "-p", "duplex-rigs"], 30 * MINUTE)
}

fn cargo(workspace: &Workspace, name: &str, args: &[&str], limit: Duration) -> Finished {
    process::run(&mut workspace.cargo(args), &log(workspace, name), limit)
}

/// Sums the `test result:` lines; a run that fails without a failed test, or that says nothing, is one failure.
fn counted(finished: Finished) -> Outcome {
    let lines = finished.output.lines().filter_map(|line| line.strip_prefix("test result: "));
    let mut outcome = Outcome::default();
    let mut programs = 0;
    for line in lines {
        outcome.passed += count(line, "passed");
        outcome.failed += count(line, "failed");
        outcome.skipped += count(line, "ignored") + count(line, "filtered");
        programs += 1;
    }
    if !finished.succeeded() {
        outcome.failed = outcome.failed.max(1);
        outcome.note = finished.note();
    } else if programs == 0 {
        outcome.failed = 1;
        outcome.note = "no test was run".into();
    }
    outcome.detail = finished.output;
    outcome
}

/// `N` of `N what;`.
fn count(line: &str, what: &str) -> usize {
    let words: Vec<&str> = line.split([' ', ';', '.']).collect();
    let found = words.windows(2).find(|pair| pair[1] == what);
    found.and_then(|pair| pair[0].parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::End;

    fn counts(end: End, output: &str) -> (usize, usize, usize) {
        let outcome = counted(Finished { end, output: output.into() });
        (outcome.passed, outcome.failed, outcome.skipped)
    }

    const FINE: &str = "running 3 tests\ntest result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s\n\
        test result: ok. 40 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n";

    #[test]
    fn results_of_all_test_programs_are_summed() {
        assert_eq!(counts(End::Succeeded, FINE), (42, 0, 1));
        let bad = format!("{FINE}test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured\n");
        assert_eq!(counts(End::Failed("exit status: 101".into()), &bad), (43, 2, 1));
    }

    #[test]
    fn tests_that_were_left_out_are_skipped() {
        let output =
            "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out; finished in 0.1s";
        assert_eq!(counts(End::Succeeded, output), (2, 0, 3));
    }

    #[test]
    fn a_run_that_breaks_or_says_nothing_is_a_failure() {
        assert_eq!(counts(End::Failed("exit status: 101".into()), "error: could not compile"), (0, 1, 0));
        assert_eq!(counts(End::TimedOut(SECOND), FINE), (42, 1, 1));
        assert_eq!(counts(End::Succeeded, ""), (0, 1, 0));
    }
}
