//! python-socketio against our Socket.IO, pysignalr and signalrcore against our SignalR: `conformance/python`, in a virtual environment below the build folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::log;
use super::suites::{self, Host};
use crate::process::{self, Finished};
use crate::report::Outcome;
use crate::setup;
use crate::workspace::Workspace;

const INSTALL_LIMIT: Duration = Duration::from_secs(300);

pub fn check(workspace: &Workspace, host: Host) -> Outcome {
    let folder = workspace.root.join("conformance/python");
    let python = match setup::python3(workspace) {
        Ok(python) => python,
        Err(missing) => return Outcome::skip(missing),
    };
    match install(workspace, &python, &folder.join("requirements.txt")) {
        Ok(python) => {
            let mut suite = Command::new(python);
            suite.args(["-B", "run.py"]).current_dir(folder);
            // A client that leaves may wait for the next one; `stage.py` says why.
            suites::run(workspace, "python", suite, &suites::HEARTBEATS, host)
        }
        Err(finished) => {
            Outcome::fail(format!("cannot install the clients: {}", finished.note()), finished.output)
        }
    }
}

/// Makes the environment, once per list of versions, and tells its Python.
fn install(workspace: &Workspace, python: &Path, versions: &Path) -> Result<PathBuf, Finished> {
    let folder = workspace.target.join("python");
    let wanted = fs::read_to_string(versions).unwrap_or_default();
    let stamp = folder.join("installed.txt");
    let own = folder.join("venv/bin/python");
    if own.is_file() && fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(own);
    }
    // Absent is as good as removed; anything else shows in the installation.
    let _ = fs::remove_dir_all(&folder);
    step(workspace, Command::new(python).args(["-m", "venv"]).arg(folder.join("venv")))?;
    let mut packages = Command::new(&own);
    packages.args(["-m", "pip", "install", "--disable-pip-version-check", "-r"]);
    step(workspace, packages.arg(versions))?;
    // Without the stamp the next run installs again: slower, not wrong.
    let _ = fs::write(stamp, wanted);
    Ok(own)
}

fn step(workspace: &Workspace, command: &mut Command) -> Result<(), Finished> {
    let finished = process::run(command, &log(workspace, "python-install"), INSTALL_LIMIT);
    if finished.succeeded() { Ok(()) } else { Err(finished) }
}
