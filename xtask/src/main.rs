//! The tasks of this repository: `cargo xtask` prints them.
//!
//! `lex` and `outline` read sources, `walls`, `tidy` and `floors` judge them; `process`, `setup` and `server` start
//! what a part needs, and `parts` is the list of everything that `cargo xtask test` runs.

#![forbid(unsafe_code)]

mod floors;
mod lex;
mod outline;
mod parts;
mod process;
mod report;
mod server;
mod setup;
mod tidy;
mod walls;
mod workspace;

use std::process::{Command, ExitCode};

use report::Violation;
use workspace::Workspace;

const HELP: &str = "\
The tasks of this repository.

usage: cargo xtask COMMAND

  check              the fast part: format, clippy, walls, tidy, version floors, unit tests
  test [--full]      everything CI runs; --full adds tests of minutes, Autobahn's compression cases and every suite against a cluster
       [--only A,B]  only these parts, e.g. --only fmt,autobahn
  walls              which crate may import which, and what the pure ones may not touch
  tidy               sizes, forbidden words and habits, links, dependency reasons
  bench [ARGS]       build in release mode and run the benchmark with ARGS (--help lists them)
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = Workspace::find().and_then(|workspace| run(&workspace, &args));
    result.unwrap_or_else(|problem| {
        eprintln!("xtask: {problem}");
        ExitCode::from(2)
    })
}

fn run(workspace: &Workspace, args: &[String]) -> Result<ExitCode, String> {
    let Some((command, rest)) = args.split_first() else {
        print!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    };
    match command.as_str() {
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        "walls" => Ok(show("walls", &walls::check(workspace)?)),
        "tidy" => {
            let tidy = tidy::check(workspace)?;
            println!("{}", tidy.sizes);
            Ok(show("tidy", &tidy.violations))
        }
        "test" => parts::run(workspace, &parts::Request::parse(rest)?),
        "check" => parts::run(workspace, &parts::Request::fast()),
        "bench" => bench(workspace, rest),
        other => Err(format!("no command `{other}`; `cargo xtask` lists them")),
    }
}

fn show(rule_book: &str, violations: &[Violation]) -> ExitCode {
    for violation in violations {
        println!("{violation}");
    }
    println!("{rule_book}: {} violations", violations.len());
    if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn bench(workspace: &Workspace, args: &[String]) -> Result<ExitCode, String> {
    let build = ["build", "--release", "-p", "duplex", "-p", "duplex-bench"];
    let program = workspace.target.join("release/duplex-bench");
    let built = workspace.cargo(&build).status().map_err(|e| format!("cannot run cargo: {e}"))?;
    if !built.success() {
        return Err("the release build failed".into());
    }
    let ran = Command::new(&program).args(args).current_dir(&workspace.root).status();
    let ran = ran.map_err(|e| format!("cannot run {}: {e}", program.display()))?;
    Ok(if ran.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
