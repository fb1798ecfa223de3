//! Which crate may import which, and what the pure ones may not touch.
//!
//! The walls are drawn in ARCHITECTURE.md; this is the check. Manifests are read through `cargo metadata`, sources
//! as tokens, so comments and strings may say what they like.

use std::path::Path;

use crate::lex::{self, Language};
use crate::outline::{self, NamedPath};
use crate::report::Violation;
use crate::workspace::{Dependency, Kind, Package, Source, Workspace};

/// One of our crates and what it may import of ours.
struct Wall {
    package: &'static str,
    /// Its name in sources.
    name: &'static str,
    may: Imports,
    nature: Nature,
}

enum Imports {
    Only(&'static [&'static str]),
    Everything,
}

#[derive(PartialEq, Eq)]
enum Nature {
    /// No runtime, no I/O, no clock, no randomness.
    Pure,
    /// Touches the world.
    Worldly,
}

const WALLS: [Wall; 8] = [
    wall("duplex-core", "duplex_core", Imports::Only(&[]), Nature::Pure),
    wall("duplex-websocket", "duplex_websocket", Imports::Only(&[]), Nature::Pure),
    wall("duplex-protocol", "duplex_protocol", Imports::Only(&["duplex-core"]), Nature::Pure),
    wall("duplex-engine", "duplex_engine", Imports::Only(&["duplex-core"]), Nature::Worldly),
    wall("duplex-broker", "duplex_broker", Imports::Only(&["duplex-core"]), Nature::Worldly),
    wall(
        "duplex-transport",
        "duplex_transport",
        Imports::Only(&["duplex-core", "duplex-websocket"]),
        Nature::Worldly,
    ),
    wall(
        "duplex-client",
        "duplex_client",
        Imports::Only(&["duplex-core", "duplex-websocket"]),
        Nature::Worldly,
    ),
    wall("duplex", "duplex", Imports::Everything, Nature::Worldly),
];

const fn wall(package: &'static str, name: &'static str, may: Imports, nature: Nature) -> Wall {
    Wall { package, name, may, nature }
}

/// What a pure crate may not touch: where the path starts or what it contains, and the way out.
struct Ban {
    path: &'static [&'static str],
    place: Place,
    what: &'static str,
    fix: &'static str,
}

enum Place {
    Start,
    Anywhere,
}

const RUNTIME: &str = "have the caller do the I/O and pass bytes in and out";
const CLOCK: &str = "take `now` as an argument";
const RANDOM: &str = "take the id, mask or seed as an argument";

const BANS: [Ban; 18] = [
    ban(&["tokio"], Place::Start, "a runtime", RUNTIME),
    ban(&["async_std"], Place::Start, "a runtime", RUNTIME),
    ban(&["smol"], Place::Start, "a runtime", RUNTIME),
    ban(&["mio"], Place::Start, "sockets", RUNTIME),
    ban(&["socket2"], Place::Start, "sockets", RUNTIME),
    ban(&["hyper"], Place::Start, "a server", RUNTIME),
    ban(&["hyper_util"], Place::Start, "a server", RUNTIME),
    ban(
        &["std", "net"],
        Place::Start,
        "the network",
        "move the socket to `transport`; addresses are `core::net` arguments",
    ),
    ban(&["std", "fs"], Place::Start, "files", "have the caller read the file and pass its contents"),
    ban(&["std", "env"], Place::Start, "the environment", "take the setting as an argument"),
    ban(&["std", "process"], Place::Start, "processes", "return an error and let the caller act on it"),
    ban(&["std", "thread"], Place::Start, "threads", "keep state in values; the shard owns the thread"),
    ban(&["Instant", "now"], Place::Anywhere, "the clock", CLOCK),
    ban(&["SystemTime", "now"], Place::Anywhere, "the clock", CLOCK),
    ban(&["rand"], Place::Start, "randomness", RANDOM),
    ban(&["rand_core"], Place::Start, "randomness", RANDOM),
    ban(&["getrandom"], Place::Start, "randomness", RANDOM),
    ban(&["fastrand"], Place::Start, "randomness", RANDOM),
];

const fn ban(path: &'static [&'static str], place: Place, what: &'static str, fix: &'static str) -> Ban {
    Ban { path, place, what, fix }
}

impl Ban {
    fn forbids(&self, path: &NamedPath<'_>) -> bool {
        let segments = &path.segments[..];
        match self.place {
            // A lone word may be a variable that is called like the crate.
            Place::Start => segments.starts_with(self.path) && (segments.len() > 1 || path.imported),
            Place::Anywhere => segments.windows(self.path.len()).any(|part| part == self.path),
        }
    }

    fn forbids_package(&self, name: &str) -> bool {
        matches!(self.path, [only] if *only == name.replace('-', "_"))
    }
}

impl Wall {
    fn of(package: &str) -> Option<&'static Wall> {
        WALLS.iter().find(|wall| wall.package == package)
    }

    fn lets_in(&self, other: &str) -> bool {
        match self.may {
            Imports::Only(list) => list.contains(&other),
            Imports::Everything => true,
        }
    }

    fn fix(&self) -> String {
        match self.may {
            Imports::Only([]) => {
                format!("{} imports nothing of ours: pass values in, or put the noun here", self.package)
            }
            Imports::Only(list) => {
                format!("{} imports only {}: meet in `server`", self.package, list.join(" and "))
            }
            Imports::Everything => "the server sees everything".into(),
        }
    }
}

/// Checks manifests and sources of the crates.
pub fn check(workspace: &Workspace) -> Result<Vec<Violation>, String> {
    let sources = workspace.sources()?;
    let mut violations = Vec::new();
    for package in workspace.packages.iter().filter(|p| p.folder.starts_with("crates")) {
        let manifest_path = package.folder.join("Cargo.toml");
        let manifest = sources.iter().find(|s| s.path == manifest_path).map_or("", |s| &s.text);
        violations.extend(judge_manifest(package, manifest));
        let Some(wall) = Wall::of(&package.name) else { continue };
        let code = sources.iter().filter(|s| s.path.starts_with(package.folder.join("src")));
        violations.extend(code.filter(|s| s.extension() == "rs").flat_map(|s| judge_source(wall, s)));
    }
    Ok(violations)
}

fn judge_manifest(package: &Package, manifest: &str) -> Vec<Violation> {
    let file = package.folder.join("Cargo.toml");
    let Some(wall) = Wall::of(&package.name) else {
        let rule = format!("{} has no wall", package.name);
        return vec![Violation {
            file,
            line: 1,
            rule,
            fix: "say in xtask/src/walls.rs what it may import".into(),
        }];
    };
    let broken = package.dependencies.iter().filter_map(|dependency| {
        let (rule, fix) = judge_dependency(wall, dependency)?;
        let line = manifest.lines().position(|l| names_dependency(l, &dependency.name)).map_or(1, |i| i + 1);
        Some(Violation { file: file.clone(), line, rule, fix })
    });
    broken.collect()
}

fn names_dependency(line: &str, name: &str) -> bool {
    let after = line
        .strip_prefix(name)
        .or_else(|| line.split_once("dependencies.").and_then(|(_, l)| l.strip_prefix(name)));
    after.is_some_and(|rest| rest.starts_with([' ', '.', '=', ']']))
}

/// The rule that a dependency breaks, and the way out.
fn judge_dependency(wall: &Wall, dependency: &Dependency) -> Option<(String, String)> {
    let name = dependency.name.as_str();
    let Some(other) = Wall::of(name) else {
        let ban = BANS.iter().find(|ban| ban.forbids_package(name))?;
        let broken = wall.nature == Nature::Pure && dependency.kind != Kind::Dev;
        return broken
            .then(|| (format!("{} depends on {} ({name})", wall.package, ban.what), ban.fix.into()));
    };
    match dependency.kind {
        Kind::Normal | Kind::Build if !wall.lets_in(name) => {
            Some((format!("{} depends on {name}", wall.package), wall.fix()))
        }
        Kind::Dev if other.lets_in(wall.package) => {
            let rule = format!("{} tests with {name}, which is built on it", wall.package);
            Some((rule, format!("move the test to {name}")))
        }
        _ => None,
    }
}

fn judge_source(wall: &Wall, source: &Source) -> Vec<Violation> {
    let code = lex::views(&source.text, Language::Rust).code;
    let tokens = lex::tokens(&code);
    let tests = outline::test_lines(&tokens);
    let in_tests = |line| is_test_file(&source.path) || tests.iter().any(|region| region.contains(&line));
    let mut violations = Vec::new();
    for path in outline::paths(&tokens) {
        if let Some((rule, fix)) = judge_path(wall, &path, in_tests(path.line)) {
            violations.push(Violation { file: source.path.clone(), line: path.line, rule, fix });
        }
    }
    violations.dedup();
    violations
}

fn judge_path(wall: &Wall, path: &NamedPath<'_>, in_tests: bool) -> Option<(String, String)> {
    let written = path.segments.join("::");
    let named = WALLS.iter().find(|other| other.name == path.segments[0] && other.package != wall.package);
    if let Some(other) = named.filter(|_| path.segments.len() > 1 || path.imported) {
        let kind = if in_tests { Kind::Dev } else { Kind::Normal };
        let (_, fix) = judge_dependency(wall, &Dependency { name: other.package.into(), kind })?;
        return Some((format!("{} imports {written}", wall.package), fix));
    }
    if wall.nature == Nature::Worldly || in_tests {
        return None;
    }
    let ban = BANS.iter().find(|ban| ban.forbids(path))?;
    Some((format!("{} touches {} ({written})", wall.package, ban.what), ban.fix.into()))
}

/// A module of tests in a file of its own.
fn is_test_file(path: &Path) -> bool {
    let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or("");
    let folder_of_tests = path.parent().is_some_and(|p| p.iter().any(|part| part == "tests"));
    folder_of_tests || stem == "tests" || stem.ends_with("_tests")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines and rules that a source breaks, as `line rule`.
    fn breaks(package: &str, text: &str) -> Vec<String> {
        let source = Source { path: "crates/x/src/lib.rs".into(), text: text.into() };
        let wall = Wall::of(package).expect("a crate with a wall");
        judge_source(wall, &source).iter().map(|v| format!("{} {}", v.line, v.rule)).collect()
    }

    fn depends(package: &str, on: &str, kind: Kind) -> Option<(String, String)> {
        judge_dependency(
            Wall::of(package).expect("a crate with a wall"),
            &Dependency { name: on.into(), kind },
        )
    }

    #[test]
    fn columns_do_not_see_each_other() {
        let cases = [
            ("duplex-core", "use duplex_websocket::Frame;"),
            ("duplex-websocket", "fn f() { duplex_core::x() }"),
            ("duplex-protocol", "use {std::fmt, duplex_engine::Hub};"),
            ("duplex-engine", "pub use ::duplex_broker as b;"),
            ("duplex-broker", "extern crate duplex_engine;"),
            ("duplex-transport", "use duplex_protocol::native;"),
            ("duplex-client", "use duplex_engine::Shard;"),
            ("duplex-engine", "use duplex::config;"),
        ];
        for (package, text) in cases {
            assert_eq!(breaks(package, text).len(), 1, "{package}: {text}");
        }
    }

    #[test]
    fn what_lies_below_may_be_imported() {
        let cases = [
            ("duplex-protocol", "use duplex_core::Step;"),
            ("duplex-transport", "use duplex_websocket::Decoder; use duplex_core::Link;"),
            ("duplex-client", "use duplex_websocket::Decoder;"),
            ("duplex", "use duplex_engine::Hub; use duplex_broker::Memory; use tokio::net::TcpListener;"),
            (
                "duplex-transport",
                "let (a, b) = tokio::io::duplex(64); use tokio::io::duplex; let duplex = a;",
            ),
            ("duplex-websocket", "//! duplex_websocket::Decoder\nuse duplex_websocket::Decoder;"),
        ];
        for (package, text) in cases {
            assert_eq!(breaks(package, text), [""; 0], "{package}: {text}");
        }
    }

    #[test]
    fn pure_crates_touch_neither_runtime_nor_clock_nor_chance() {
        let cases = [
            ("use tokio::sync::mpsc;", "1 duplex-core touches a runtime (tokio::sync::mpsc)"),
            ("\nfn f() { tokio::select! {} }", "2 duplex-core touches a runtime (tokio::select)"),
            ("use std::{fmt, net::IpAddr};", "1 duplex-core touches the network (std::net::IpAddr)"),
            ("let t = Instant::now();", "1 duplex-core touches the clock (Instant::now)"),
            (
                "let t = std::time::SystemTime::now();",
                "1 duplex-core touches the clock (std::time::SystemTime::now)",
            ),
            ("use rand::Rng;", "1 duplex-core touches randomness (rand::Rng)"),
            ("getrandom::fill(&mut id);", "1 duplex-core touches randomness (getrandom::fill)"),
            ("std::thread::spawn(f);", "1 duplex-core touches threads (std::thread::spawn)"),
            ("use std::fs;", "1 duplex-core touches files (std::fs)"),
        ];
        for (text, wanted) in cases {
            assert_eq!(breaks("duplex-core", text), [wanted], "{text}");
        }
        assert_eq!(breaks("duplex-engine", "use tokio::time; let t = Instant::now();"), [""; 0]);
    }

    #[test]
    fn comments_strings_names_and_tests_are_free() {
        let text = "//! Without tokio::net and Instant::now().\n/* std::fs */\nlet a = \"std::net::x rand::y\";\n\
            let b = r#\"tokio::spawn \"#; let rand = 4; rand + self.tokio; now.instant();\n\
            #[cfg(test)]\nmod tests {\n  use std::time::Instant;\n  fn t() { Instant::now(); std::thread::spawn(f); }\n}\n";
        assert_eq!(breaks("duplex-core", text), [""; 0]);
        assert_eq!(breaks("duplex-core", &format!("{text}fn g() {{ Instant::now(); }}")).len(), 1);
    }

    #[test]
    fn manifests_obey_the_same_walls() {
        let broken = [
            ("duplex-core", "bytes-duplex", Kind::Normal, false),
            ("duplex-core", "duplex-engine", Kind::Normal, true),
            ("duplex-protocol", "duplex-websocket", Kind::Build, true),
            ("duplex-protocol", "duplex-websocket", Kind::Dev, false),
            ("duplex-websocket", "tokio", Kind::Normal, true),
            ("duplex-websocket", "tokio", Kind::Dev, false),
            ("duplex-engine", "getrandom", Kind::Normal, false),
            ("duplex-core", "duplex-engine", Kind::Dev, true),
            ("duplex-transport", "duplex", Kind::Dev, true),
            ("duplex-websocket", "duplex-client", Kind::Dev, true),
            ("duplex-broker", "duplex-engine", Kind::Dev, false),
            ("duplex", "duplex-client", Kind::Normal, false),
        ];
        for (package, on, kind, wanted) in broken {
            assert_eq!(depends(package, on, kind).is_some(), wanted, "{package} on {on} as {kind:?}");
        }
    }

    #[test]
    fn a_violation_points_at_the_line_of_the_manifest() {
        let dependency = Dependency { name: "duplex-engine".into(), kind: Kind::Normal };
        let package = Package {
            name: "duplex-core".into(),
            folder: "crates/core".into(),
            dependencies: vec![dependency],
        };
        let manifest = "[dependencies]\nduplex-engine-x = \"1\"\nduplex-engine.workspace = true\n";
        let found = judge_manifest(&package, manifest);
        assert_eq!(found.iter().map(|v| v.line).collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn a_new_crate_needs_a_wall() {
        let package =
            Package { name: "duplex-new".into(), folder: "crates/new".into(), dependencies: vec![] };
        assert_eq!(judge_manifest(&package, "")[0].rule, "duplex-new has no wall");
    }
}
