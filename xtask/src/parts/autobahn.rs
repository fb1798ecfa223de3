//! The Autobahn test suite against `/echo`: 517 cases for RFC 6455 and RFC 7692, judged without mercy.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Depth, cargo, log};
use crate::process::{self, Finished, Running};
use crate::report::Outcome;
use crate::server::Server;
use crate::setup;
use crate::workspace::Workspace;

const INSTALL_LIMIT: Duration = Duration::from_secs(300);

/// The suite sends messages of 16 MiB, some of them in 262,144 fragments.
const SERVER_OPTIONS: [&str; 12] = [
    "--websocket-message-bytes-max",
    "33554432",
    "--websocket-fragments-max",
    "1000000",
    "--client-outbox-bytes-max",
    "67108864",
    "--client-messages-per-second",
    "1000000",
    "--client-messages-burst",
    "1000000",
    "--websocket-inflated-bytes-per-second",
    "4095MiB",
];

/// Cases that have no right answer: what we do there is reported, not judged.
const INFORMATIONAL: [&str; 3] = ["7.1.6", "7.13.1", "7.13.2"];

/// Some cases, run by one process: results are written only when all are through.
struct Group {
    name: &'static str,
    cases: &'static [&'static str],
    /// How many there are; fewer results mean that the suite did not do its work.
    count: usize,
    limit: Duration,
}

const FRAMING: Group = Group {
    name: "framing",
    cases: &["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "8.*", "9.*", "10.*", "11.*"],
    count: 301,
    limit: Duration::from_secs(300),
};

/// The two halves take five minutes each, most of it in the suite, so they run side by side.
const COMPRESSION: [Group; 2] = [
    Group { name: "compression-12", cases: &["12.*"], count: 90, limit: Duration::from_secs(1200) },
    Group { name: "compression-13", cases: &["13.*"], count: 126, limit: Duration::from_secs(1200) },
];

pub fn check(workspace: &Workspace, depth: Depth) -> Outcome {
    let python = match setup::python27() {
        Ok(python) => python,
        Err(missing) => return Outcome::skip(missing),
    };
    let suite = match install(workspace, &python) {
        Ok(suite) => suite,
        Err(finished) => {
            return Outcome::fail(format!("cannot install the suite: {}", finished.note()), finished.output);
        }
    };
    let build = cargo::release_build(workspace);
    if !build.succeeded() {
        return Outcome::fail("the release build failed", build.output);
    }
    let program = workspace.target.join("release/duplex");
    let mut server = match Server::start(&program, &SERVER_OPTIONS, &log(workspace, "autobahn-server")) {
        Ok(server) => server,
        Err(problem) => return Outcome::fail("no server", problem),
    };
    let mut results = run_groups(workspace, &suite, &server, &[FRAMING]);
    if depth == Depth::Full {
        results.absorb(run_groups(workspace, &suite, &server, &COMPRESSION));
    }
    if let Some(fault) = server.fault() {
        results.bad.push(fault);
    }
    report(workspace, results, &server)
}

/// Installs the suite below the build folder, away from the packages of the user. Done once per list of versions.
fn install(workspace: &Workspace, python: &Path) -> Result<PathBuf, Finished> {
    let folder = workspace.target.join("autobahn");
    let versions = workspace.root.join("conformance/autobahn");
    let wanted = fs::read_to_string(versions.join("requirements.txt")).unwrap_or_default();
    let stamp = folder.join("installed.txt");
    let suite = folder.join("venv/bin/wstest");
    if suite.is_file() && fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(suite);
    }
    for leftover in ["bootstrap", "venv"] {
        // Absent is as good as removed; anything else shows in the installation.
        let _ = fs::remove_dir_all(folder.join(leftover));
    }
    let mut bootstrap = Command::new(python);
    bootstrap
        .args(["-m", "pip", "install", "--disable-pip-version-check", "--target"])
        .arg(folder.join("bootstrap"));
    step(workspace, bootstrap.arg("-r").arg(versions.join("bootstrap.txt")))?;
    let mut venv = Command::new(python);
    venv.env("PYTHONPATH", folder.join("bootstrap")).args(["-m", "virtualenv"]);
    step(workspace, venv.arg(folder.join("venv")))?;
    let mut packages = Command::new(folder.join("venv/bin/python"));
    packages.args(["-m", "pip", "install", "--disable-pip-version-check", "-r"]);
    step(workspace, packages.arg(versions.join("requirements.txt")))?;
    // Without the stamp the next run installs again: slower, not wrong.
    let _ = fs::write(stamp, wanted);
    Ok(suite)
}

fn step(workspace: &Workspace, command: &mut Command) -> Result<(), Finished> {
    let finished = process::run(command, &log(workspace, "autobahn-install"), INSTALL_LIMIT);
    if finished.succeeded() { Ok(()) } else { Err(finished) }
}

/// Runs the groups side by side.
fn run_groups(workspace: &Workspace, suite: &Path, server: &Server, groups: &[Group]) -> Results {
    let folder = workspace.target.join("autobahn");
    let start = |group: &Group| -> Result<Running, String> {
        let reports = folder.join(group.name);
        // A result of an earlier run must not pass for one of this run.
        let _ = fs::remove_dir_all(&reports);
        let plan = folder.join(format!("{}.json", group.name));
        let agent = json!({ "agent": "duplex", "url": format!("ws://{}/echo", server.address()) });
        let text = json!({
            "outdir": reports, "servers": [agent], "cases": group.cases, "exclude-cases": [], "exclude-agent-cases": {}
        });
        fs::write(&plan, text.to_string()).map_err(|e| e.to_string())?;
        let mut wstest = Command::new(suite);
        wstest.args(["-m", "fuzzingclient", "-s"]).arg(&plan).current_dir(&folder);
        Running::start(&mut wstest, &log(workspace, &format!("autobahn-{}", group.name)))
            .map_err(|e| e.to_string())
    };
    let running: Vec<_> = groups.iter().map(start).collect();
    let mut results = Results::default();
    for (group, running) in groups.iter().zip(running) {
        let finished = running.map(|running| running.finish(group.limit));
        let index = fs::read_to_string(folder.join(group.name).join("index.json"));
        results.absorb(match (finished, index) {
            (Err(problem), _) => Results::broken(group, &problem),
            (Ok(finished), _) if !finished.succeeded() => Results::broken(group, &finished.note()),
            (Ok(_), Err(problem)) => Results::broken(group, &format!("no results: {problem}")),
            (Ok(_), Ok(index)) => judge(group, &index),
        });
    }
    results
}

/// What came of the cases.
#[derive(Debug, Default)]
struct Results {
    good: usize,
    /// Cases with another result than `OK`, and what went wrong with a whole group.
    bad: Vec<String>,
    behaviours: BTreeMap<String, usize>,
}

impl Results {
    fn broken(group: &Group, problem: &str) -> Self {
        Self { bad: vec![format!("{}: {problem}", group.name)], ..Self::default() }
    }

    fn absorb(&mut self, other: Self) {
        self.good += other.good;
        self.bad.extend(other.bad);
        for (behaviour, count) in other.behaviours {
            *self.behaviours.entry(behaviour).or_default() += count;
        }
    }

    fn summary(&self) -> String {
        let counts: Vec<String> =
            self.behaviours.iter().map(|(name, count)| format!("{count} {name}")).collect();
        format!("{} cases: {}", self.behaviours.values().sum::<usize>(), counts.join(", "))
    }
}

fn judge(group: &Group, index: &str) -> Results {
    let index: Value = serde_json::from_str(index).unwrap_or_default();
    let Some(cases) = index["duplex"].as_object() else {
        return Results::broken(group, "no results of ours");
    };
    let mut results = Results::default();
    for (case, result) in cases {
        let text = |field: &str| result[field].as_str().unwrap_or("nothing");
        let (behaviour, close) = (text("behavior"), text("behaviorClose"));
        *results.behaviours.entry(behaviour.into()).or_default() += 1;
        let expected = if INFORMATIONAL.contains(&case.as_str()) { "INFORMATIONAL" } else { "OK" };
        if behaviour == expected && (close == "OK" || close == expected) {
            results.good += 1;
        } else {
            let code = &result["remoteCloseCode"];
            results.bad.push(format!("{case}: {behaviour}, close {close} (code {code})"));
        }
    }
    if cases.len() != group.count {
        results.bad.push(format!("{}: {} results, {} expected", group.name, cases.len(), group.count));
    }
    results
}

fn report(workspace: &Workspace, results: Results, server: &Server) -> Outcome {
    let summary = results.summary();
    let mut lines = vec![summary.clone()];
    lines.extend(results.bad.iter().cloned());
    let file = workspace.target.join("autobahn/summary.txt");
    if let Err(problem) = fs::write(&file, lines.join("\n") + "\n") {
        lines.push(format!("cannot write {}: {problem}", file.display()));
    }
    if !results.bad.is_empty() {
        lines.push(format!("--- the server said\n{}", server.output()));
    }
    Outcome {
        passed: results.good,
        failed: results.bad.len(),
        skipped: 0,
        note: summary,
        detail: lines.join("\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: Group = Group { name: "three", cases: &[], count: 3, limit: Duration::ZERO };

    fn judged(cases: &[(&str, &str, &str)]) -> Results {
        let result = |(case, behaviour, close): &(&str, &str, &str)| {
            (
                case.to_string(),
                json!({ "behavior": behaviour, "behaviorClose": close, "remoteCloseCode": 1000 }),
            )
        };
        let cases: serde_json::Map<String, Value> = cases.iter().map(result).collect();
        judge(&THREE, &json!({ "duplex": cases }).to_string())
    }

    #[test]
    fn ok_and_the_three_informational_cases_are_good() {
        let results = judged(&[
            ("1.1.1", "OK", "OK"),
            ("7.1.6", "INFORMATIONAL", "INFORMATIONAL"),
            ("10.1.1", "OK", "OK"),
        ]);
        assert_eq!((results.good, results.bad.len()), (3, 0));
        assert_eq!(results.summary(), "3 cases: 1 INFORMATIONAL, 2 OK");
    }

    #[test]
    fn anything_else_is_bad() {
        let bad = [
            ("6.4.1", "NON-STRICT", "OK"),
            ("12.1.1", "UNIMPLEMENTED", "OK"),
            ("9.3.1", "FAILED", "FAILED"),
            ("1.1.1", "OK", "UNCLEAN"),
            ("1.1.1", "OK", "WRONG CODE"),
            ("1.1.1", "INFORMATIONAL", "INFORMATIONAL"),
            ("7.1.6", "OK", "OK"),
        ];
        for (case, behaviour, close) in bad {
            let results = judged(&[(case, behaviour, close), ("2.1", "OK", "OK"), ("2.2", "OK", "OK")]);
            assert_eq!((results.good, results.bad.len()), (2, 1), "{case} {behaviour} {close}");
        }
    }

    #[test]
    fn missing_results_are_bad() {
        assert_eq!(judged(&[("1.1.1", "OK", "OK")]).bad, ["three: 1 results, 3 expected"]);
        assert_eq!(judge(&THREE, "").bad, ["three: no results of ours"]);
        assert_eq!(judge(&THREE, "{\"x\":{}}").bad, ["three: no results of ours"]);
    }
}
