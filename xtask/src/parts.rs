//! The parts of `cargo xtask test`, and how a run of them is told.

mod autobahn;
mod cargo;
mod cluster;
mod python;
mod rust;
mod suites;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::process::Finished;
use crate::report::{Outcome, Tally, Verdict};
use crate::workspace::Workspace;
use crate::{floors, tidy, walls};
use suites::Host;

/// Which parts to run, and how thoroughly.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Request {
    depth: Depth,
    /// Empty means all.
    only: Vec<String>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// What takes seconds.
    Fast,
    #[default]
    Usual,
    /// With tests of minutes, and the compression cases of Autobahn.
    Full,
}

impl Request {
    pub fn fast() -> Self {
        Self { depth: Depth::Fast, only: Vec::new() }
    }

    pub fn parse(args: &[String]) -> Result<Self, String> {
        let mut request = Self::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match (arg.as_str(), arg.strip_prefix("--only=")) {
                ("--full", _) => request.depth = Depth::Full,
                ("--only", _) => {
                    let names =
                        args.next().ok_or("--only needs the names of parts, e.g. --only fmt,walls")?;
                    request.select(names);
                }
                (_, Some(names)) => request.select(names),
                (other, None) => return Err(format!("no option `{other}`; there are --full and --only A,B")),
            }
        }
        Ok(request)
    }

    fn select(&mut self, names: &str) {
        self.only.extend(names.split(',').map(|name| name.trim().to_string()));
    }

    fn wants(&self, part: &Part) -> bool {
        if self.only.is_empty() {
            match self.depth {
                Depth::Fast => part.fast,
                Depth::Usual => !part.long,
                Depth::Full => true,
            }
        } else {
            self.only.contains(&part.name)
        }
    }
}

/// A check with a name.
struct Part {
    name: String,
    /// Belongs to `cargo xtask check`.
    fast: bool,
    /// Belongs to `cargo xtask test --full` alone.
    long: bool,
    needs: Needs,
    check: Box<dyn Fn(&Workspace) -> Outcome>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    /// The program, as `build` leaves it.
    Build,
}

fn part(name: &str, check: impl Fn(&Workspace) -> Outcome + 'static) -> Part {
    Part { name: name.into(), fast: false, long: false, needs: Needs::Nothing, check: Box::new(check) }
}

impl Part {
    fn fast(self) -> Self {
        Self { fast: true, ..self }
    }

    fn long(self) -> Self {
        Self { long: true, ..self }
    }

    fn after_build(self) -> Self {
        Self { needs: Needs::Build, ..self }
    }
}

/// Everything there is to run, in order.
fn all(workspace: &Workspace, depth: Depth) -> Vec<Part> {
    let mut parts = vec![
        part("fmt", cargo::fmt).fast(),
        part("clippy", cargo::clippy).fast(),
        part("walls", |w| judged(walls::check(w), "no crate reaches where it may not")).fast(),
        part("tidy", |w| match tidy::check(w) {
            Ok(tidy) => Outcome::judge(&tidy.violations, tidy.sizes),
            Err(problem) => Outcome::fail(problem, ""),
        })
        .fast(),
        part("floors", |w| judged(floors::check(w), "every version is above its floor")).fast(),
    ];
    parts.push(match depth {
        Depth::Fast => part("unit", cargo::unit_tests).fast(),
        Depth::Usual | Depth::Full => part("tests", move |workspace| cargo::tests(workspace, depth)),
    });
    parts.extend([
        part("doc", cargo::doc),
        part("deny", cargo::deny),
        part("build", cargo::build),
        part("autobahn", move |w| autobahn::check(w, depth)).after_build(),
    ]);
    parts.push(part("sdk", suites::sdk).after_build());
    parts.extend(played(workspace, Host::Server));
    parts.push(part(cluster::NAME, move |w| cluster::audit(w, depth)).after_build());
    parts.extend(played(workspace, Host::Cluster).into_iter().map(Part::long));
    parts
}

/// What other people's clients do, each suite a part.
fn played(workspace: &Workspace, host: Host) -> Vec<Part> {
    let of = |suite: &str, play: Play| {
        let check = move |workspace: &Workspace| match host {
            Host::Server => play(workspace, host),
            Host::Cluster => cluster::redis(workspace).map_or_else(Outcome::skip, |()| play(workspace, host)),
        };
        part(&host.part(suite), check).after_build()
    };
    let suites = suites::names(workspace).into_iter().map(|name| {
        let suite = name.clone();
        of(&name, Box::new(move |workspace, host| suites::check(workspace, &suite, host)))
    });
    let mut parts: Vec<Part> = suites.collect();
    parts.push(of("python", Box::new(python::check)));
    parts.push(of("rust", Box::new(rust::check)));
    parts
}

type Play = Box<dyn Fn(&Workspace, Host) -> Outcome>;

fn judged(result: Result<Vec<crate::report::Violation>, String>, note: &str) -> Outcome {
    result.map_or_else(|problem| Outcome::fail(problem, ""), |violations| Outcome::judge(&violations, note))
}

/// Runs what is asked for, all of it even after a failure, and tells the sum in the last line.
pub fn run(workspace: &Workspace, request: &Request) -> Result<ExitCode, String> {
    let parts = selected(all(workspace, request.depth), request)?;
    let mut screen = Screen::new();
    let mut tally = Tally::default();
    let mut built = true;
    for part in &parts {
        screen.begins(&part.name);
        let started = Instant::now();
        let outcome = match part.needs {
            Needs::Build if !built => Outcome::fail("not run: the build failed", ""),
            Needs::Build | Needs::Nothing => (part.check)(workspace),
        };
        built &= part.name != "build" || outcome.verdict() == Verdict::Passed;
        screen.ends(&part.name, started.elapsed(), &outcome);
        tally.add(&part.name, &outcome);
    }
    println!();
    for remark in tally.remarks() {
        println!("{remark}");
    }
    println!("{tally}");
    Ok(if tally.failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What was asked for and what that needs. An unknown name is an error, not an empty run.
fn selected(parts: Vec<Part>, request: &Request) -> Result<Vec<Part>, String> {
    if let Some(unknown) = request.only.iter().find(|name| parts.iter().all(|part| part.name != **name)) {
        let names: Vec<&str> = parts.iter().map(|part| part.name.as_str()).collect();
        return Err(format!("no part `{unknown}`; there are {}", names.join(", ")));
    }
    let needs_build = parts.iter().any(|part| request.wants(part) && part.needs == Needs::Build);
    let wanted = |part: &Part| request.wants(part) || (part.name == "build" && needs_build);
    Ok(parts.into_iter().filter(wanted).collect())
}

/// Where the output of a part is kept.
fn log(workspace: &Workspace, name: &str) -> PathBuf {
    workspace.target.join(format!("xtask/{name}.log"))
}

/// A part that is one program: it passes if the program succeeds.
fn plain(finished: Finished) -> Outcome {
    if finished.succeeded() { Outcome::pass("") } else { Outcome::fail(finished.note(), finished.output) }
}

/// Tells the parts one by one; with colours and a line in the making only for people.
struct Screen {
    for_people: bool,
}

impl Screen {
    fn new() -> Self {
        Self { for_people: io::stdout().is_terminal() && std::env::var_os("CI").is_none() }
    }

    fn begins(&mut self, name: &str) {
        if self.for_people {
            print!("{name:<12} …");
        }
        // A screen that cannot be written to must not end the run.
        let _ = io::stdout().flush();
    }

    fn ends(&mut self, name: &str, took: Duration, outcome: &Outcome) {
        if self.for_people {
            print!("\r\x1b[K");
        }
        let verdict = self.paint(outcome.verdict());
        println!(
            "{}",
            format!("{name:<12}{:>7.1} s  {verdict}  {}", took.as_secs_f64(), tell(outcome)).trim_end()
        );
        if outcome.verdict() == Verdict::Failed && !outcome.detail.is_empty() {
            println!("{}\n", outcome.detail.trim_end());
        }
    }

    fn paint(&self, verdict: Verdict) -> String {
        let (word, colour) = match verdict {
            Verdict::Passed => ("ok    ", 32),
            Verdict::Failed => ("FAILED", 31),
            Verdict::Skipped => ("SKIP  ", 33),
        };
        if self.for_people { format!("\x1b[{colour}m{word}\x1b[0m") } else { word.into() }
    }
}

/// Counts where there is something to count, and the note.
fn tell(outcome: &Outcome) -> String {
    let mut words = Vec::new();
    if outcome.passed + outcome.failed + outcome.skipped > 1 {
        words.push(format!("{} passed, {} failed", outcome.passed, outcome.failed));
        if outcome.skipped > 0 {
            words.push(format!("{} skipped", outcome.skipped));
        }
    }
    if !outcome.note.is_empty() {
        words.push(outcome.note.clone());
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(args: &[&str]) -> Result<Request, String> {
        Request::parse(&args.iter().map(|arg| arg.to_string()).collect::<Vec<_>>())
    }

    fn names(request: &Request) -> Result<String, String> {
        let parts = vec![
            part("fmt", cargo::fmt).fast(),
            part("doc", cargo::doc),
            part("build", cargo::build),
            part("autobahn", cargo::doc).after_build(),
        ];
        Ok(selected(parts, request)?.iter().map(|p| p.name.as_str()).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn a_run_has_what_was_asked_for_and_what_that_needs() {
        assert_eq!(names(&request(&[]).unwrap()).unwrap(), "fmt doc build autobahn");
        assert_eq!(names(&Request::fast()).unwrap(), "fmt");
        assert_eq!(names(&request(&["--only", "fmt,doc"]).unwrap()).unwrap(), "fmt doc");
        assert_eq!(names(&request(&["--only=autobahn", "--full"]).unwrap()).unwrap(), "build autobahn");
    }

    #[test]
    fn unknown_names_and_options_are_errors() {
        let unknown = names(&request(&["--only", "fmt,clipy"]).unwrap()).unwrap_err();
        assert_eq!(unknown, "no part `clipy`; there are fmt, doc, build, autobahn");
        assert!(request(&["--all"]).is_err());
        assert!(request(&["--only"]).is_err());
    }

    #[test]
    fn counts_are_told_where_there_is_more_than_one() {
        assert_eq!(tell(&Outcome::pass("")), "");
        assert_eq!(
            tell(&Outcome { passed: 3, skipped: 1, ..Outcome::default() }),
            "3 passed, 0 failed, 1 skipped"
        );
        assert_eq!(tell(&Outcome::skip("no npm")), "no npm");
    }
}
