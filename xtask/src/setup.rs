//! Finds what the parts need on this machine and installs what may be installed.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process;
use crate::workspace::Workspace;

const INSTALL_LIMIT: Duration = Duration::from_secs(600);

/// Why something is not there, in words for a skipped part.
pub type Missing = String;

/// The first of `names` on the `PATH`.
pub fn on_path(names: &[&str]) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let folders: Vec<PathBuf> = env::split_paths(&path).collect();
    names.iter().flat_map(|name| folders.iter().map(move |f| f.join(name))).find(|file| file.is_file())
}

/// `cargo fmt` or `cargo clippy`, added to the toolchain if need be.
pub fn component(workspace: &Workspace, subcommand: &str, component: &str) -> Result<(), Missing> {
    let there = || process::succeeds(workspace.cargo(&[subcommand]).arg("--version"));
    if there() {
        return Ok(());
    }
    let mut rustup = Command::new("rustup");
    let log = workspace.target.join(format!("xtask/install-{component}.log"));
    process::run(rustup.args(["component", "add", component]), &log, INSTALL_LIMIT);
    if there() { Ok(()) } else { Err(format!("no {component}: `rustup component add {component}`")) }
}

/// A browser to drive. Debian's is installed when that is allowed.
pub fn chromium(workspace: &Workspace) -> Result<PathBuf, Missing> {
    let installed = || {
        let named = env::var_os("CHROMIUM").map(PathBuf::from).filter(|path| path.is_file());
        named.or_else(|| on_path(&["chromium", "chromium-browser", "google-chrome"]))
    };
    if let Some(found) = installed() {
        return Ok(found);
    }
    let hint = "no chromium: `apt-get install chromium`, or set CHROMIUM";
    let said = debian_packages(workspace, "chromium").map_err(|_| hint)?;
    installed().ok_or_else(|| format!("{hint} (apt-get: {said})"))
}

/// Installs packages of Debian if that is allowed, and tells what came of it.
fn debian_packages(workspace: &Workspace, names: &str) -> Result<String, NotAllowed> {
    if on_path(&["apt-get"]).is_none() || !is_root() {
        return Err(NotAllowed);
    }
    let script = format!("apt-get update && apt-get install -y --no-install-recommends {names}");
    let mut apt = Command::new("sh");
    apt.args(["-c", &script]).env("DEBIAN_FRONTEND", "noninteractive");
    let log = workspace.target.join(format!("xtask/install-{}.log", names.replace(' ', "-")));
    Ok(process::run(&mut apt, &log, INSTALL_LIMIT).note())
}

/// There is no apt-get, or we are not its user.
struct NotAllowed;

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout.trim_ascii() == b"0")
}

/// The packages that the lock file in `folder` names, installed if they are absent or older than it.
pub fn npm_packages(workspace: &Workspace, folder: &Path) -> Result<(), NpmProblem> {
    let Some(npm) = on_path(&["npm"]).filter(|_| on_path(&["node"]).is_some()) else {
        return Err(NpmProblem::Missing("no node and npm on the PATH".into()));
    };
    if npm_is_fresh(folder) {
        return Ok(());
    }
    let log = workspace.target.join("xtask/install-npm.log");
    let mut ci = Command::new(npm);
    ci.args(["ci", "--no-audit", "--no-fund"]).current_dir(folder);
    let finished = process::run(&mut ci, &log, INSTALL_LIMIT);
    if finished.succeeded() { Ok(()) } else { Err(NpmProblem::Failed(finished.note(), finished.output)) }
}

pub enum NpmProblem {
    Missing(Missing),
    /// `npm ci` failed: how, and what it printed.
    Failed(String, String),
}

/// npm writes its own copy of the lock file when it is done.
fn npm_is_fresh(folder: &Path) -> bool {
    let modified = |path: &str| fs::metadata(folder.join(path)).and_then(|m| m.modified()).ok();
    match (modified("node_modules/.package-lock.json"), modified("package-lock.json")) {
        (Some(installed), Some(locked)) => installed >= locked,
        _ => false,
    }
}

/// A Python 2.7, the only one that the Autobahn test suite runs on.
pub fn python27() -> Result<PathBuf, Missing> {
    let named = env::var_os("PYTHON27").map(PathBuf::from);
    let candidates = named.into_iter().chain(pyenv_pythons()).chain(on_path(&["python2.7"]));
    let is_27 = |python: &PathBuf| {
        let version = Command::new(python).arg("-V").output();
        version.is_ok_and(|o| o.status.success() && [o.stdout, o.stderr].concat().starts_with(b"Python 2.7"))
    };
    let hint = "no Python 2.7: `pyenv install 2.7.18`, or set PYTHON27";
    candidates.into_iter().find(is_27).ok_or_else(|| hint.into())
}

fn pyenv_pythons() -> Vec<PathBuf> {
    let home = env::var_os("HOME").map(|home| Path::new(&home).join(".pyenv"));
    let Some(root) = env::var_os("PYENV_ROOT").map(PathBuf::from).or(home) else { return Vec::new() };
    let versions = fs::read_dir(root.join("versions")).map_or_else(|_| Vec::new(), |v| v.flatten().collect());
    let versions = versions.iter().filter(|v| v.file_name().to_string_lossy().starts_with("2.7"));
    versions.map(|v| v.path().join("bin/python")).collect()
}

/// A Python that makes virtual environments, 3.9 or newer. What Debian has apart is installed when that is allowed.
pub fn python3(workspace: &Workspace) -> Result<PathBuf, Missing> {
    let named = env::var_os("PYTHON").map(PathBuf::from);
    let candidates = named.into_iter().chain(on_path(&["python3"]));
    let runs = |python: &PathBuf, code: &str| process::succeeds(Command::new(python).args(["-c", code]));
    let is_new = |python: &PathBuf| runs(python, "import sys; sys.exit(sys.version_info < (3, 9))");
    let python =
        candidates.into_iter().find(is_new).ok_or("no Python 3.9 or newer: install it, or set PYTHON")?;
    let makes_environments = || runs(&python, "import ensurepip, venv");
    if makes_environments() {
        return Ok(python);
    }
    let hint = format!("{} has no venv: `apt-get install python3-venv`", python.display());
    let said = debian_packages(workspace, "python3-venv").map_err(|_| hint.clone())?;
    if makes_environments() { Ok(python) } else { Err(format!("{hint} (apt-get: {said})")) }
}

/// A server that nodes meet through, and what tests talk to it with.
pub struct Broker {
    /// As in the names of tests that need it.
    pub name: &'static str,
    programs: &'static [&'static str],
    /// Of Debian.
    packages: &'static str,
}

/// All that there are tests for.
pub const BROKERS: [Broker; 2] = [
    Broker {
        name: "redis",
        programs: &["redis-server", "redis-cli"],
        packages: "redis-server redis-sentinel redis-tools",
    },
    Broker { name: "nats", programs: &["nats-server"], packages: "nats-server" },
];

/// A broker that tests can start. Debian's is installed when that is allowed; it may start one of its own, which is in
/// nobody's way.
pub fn broker(workspace: &Workspace, broker: &Broker) -> Result<(), Missing> {
    let is_there = |name: &&str| on_path(&[*name]).is_some() || Path::new("/usr/sbin").join(name).is_file();
    let there = || broker.programs.iter().all(is_there);
    if there() {
        return Ok(());
    }
    let hint = format!("no {}: `apt-get install {}`", broker.name, broker.packages);
    let said = debian_packages(workspace, broker.packages).map_err(|_| hint.clone())?;
    if there() { Ok(()) } else { Err(format!("{hint} (apt-get: {said})")) }
}

/// What the crate `native-tls` is built on: OpenSSL and the tool that finds it. Other systems bring their own.
pub fn openssl(workspace: &Workspace) -> Result<(), Missing> {
    let there = || {
        !cfg!(target_os = "linux")
            || process::succeeds(Command::new("pkg-config").args(["--exists", "openssl"]))
    };
    if there() {
        return Ok(());
    }
    let hint = "no OpenSSL to build with: `apt-get install pkg-config libssl-dev`";
    let said = debian_packages(workspace, "pkg-config libssl-dev").map_err(|_| hint)?;
    if there() { Ok(()) } else { Err(format!("{hint} (apt-get: {said})")) }
}
