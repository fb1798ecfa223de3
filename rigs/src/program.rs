//! Processes that a test starts, pauses, kills and starts again.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use crate::{LOOK_AGAIN, PATIENCE};

static TETHER: OnceLock<Vec<OsString>> = OnceLock::new();

/// From now on programs are started by this command, which gets theirs as arguments and sees to it that they end with this
/// process: for one that may be killed and then has no time to end them.
pub fn tether(command: Vec<OsString>) {
    // Once is enough.
    let _ = TETHER.set(command);
}

/// The command that starts `command`.
fn tethered(command: Command) -> Command {
    let Some((program, arguments)) = TETHER.get().and_then(|tether| tether.split_first()) else {
        return command;
    };
    let mut around = Command::new(program);
    around.args(arguments).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => around.env(name, value),
            None => around.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        around.current_dir(folder);
    }
    around
}

/// A program and how it is started. It is killed when dropped.
#[derive(Debug)]
pub struct Program {
    command: Command,
    log: PathBuf,
    child: Option<Child>,
}

impl Program {
    /// Starts `command`; what it prints goes to the end of `log`.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(command: Command, log: &Path) -> Self {
        let mut program = Self { command: tethered(command), log: log.to_path_buf(), child: None };
        program.start_again();
        program
    }

    /// Starts it again after it has ended, exactly as before.
    ///
    /// # Panics
    /// If it still runs, or cannot be started.
    pub fn start_again(&mut self) {
        assert!(!self.is_running(), "{:?} runs already", self.command.get_program());
        let log = File::options().create(true).append(true).open(&self.log).expect("a log can be written");
        let errors = log.try_clone().expect("a file can be opened twice");
        self.command.stdin(Stdio::null()).stdout(log).stderr(errors);
        let child = self.command.spawn();
        self.child =
            Some(child.unwrap_or_else(|e| panic!("{:?} cannot be started: {e}", self.command.get_program())));
    }

    /// Its process; of the last one if it has ended.
    ///
    /// # Panics
    /// Never: it has been started.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it has been started").id()
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Whether it ended well, if it has ended.
    pub fn succeeded(&mut self) -> Option<bool> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        Some(status.success())
    }

    /// Ends it without a word, as `kill -9` does.
    pub fn kill9(&mut self) {
        if let Some(child) = &mut self.child {
            // Both fail only when it has ended meanwhile.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Panics
    /// If it does not.
    pub fn stop(&mut self) {
        self.signal(Signal::TERM);
        self.wait();
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// If it does not.
    pub fn wait(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.is_running() {
            assert!(Instant::now() < deadline, "it has not ended:\n{}", self.said());
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// From now on it does nothing, and its sockets stay open (SIGSTOP).
    pub fn pause(&mut self) {
        self.signal(Signal::STOP);
    }

    /// It goes on (SIGCONT).
    pub fn resume(&mut self) {
        self.signal(Signal::CONT);
    }

    fn signal(&mut self, signal: Signal) {
        if !self.is_running() {
            return;
        }
        let pid = Pid::from_raw(self.pid().cast_signed()).expect("a child is not process 0");
        // It cannot have been waited for, so its number is still its own.
        kill_process(pid, signal).expect("a child can be sent signals");
    }

    /// Everything that it has printed, over all its lives.
    pub fn said(&self) -> String {
        fs::read(&self.log)
            .map_or_else(|e| e.to_string(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Waits until `is_ready`.
    ///
    /// # Panics
    /// With what it printed if it ends before, or is not ready in time.
    pub(crate) fn until_ready(&mut self, mut is_ready: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_ready() {
            assert!(self.is_running(), "{:?} ended at once:\n{}", self.command.get_program(), self.said());
            assert!(Instant::now() < deadline, "it is not ready within {PATIENCE:?}:\n{}", self.said());
            thread::sleep(LOOK_AGAIN);
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill9();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Folder;

    fn shell(script: &str, folder: &Folder) -> Program {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Program::start(command, &folder.path().join("log"))
    }

    fn state(pid: u32) -> Option<char> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.trim_start().chars().next()
    }

    #[test]
    fn a_program_ends_when_it_is_asked_to_and_can_start_again() {
        let folder = Folder::new("program");
        let mut program = shell("echo once; exec sleep 300", &folder);
        let first = program.pid();
        crate::eventually("it has said it", || program.said() == "once\n");
        program.stop();
        program.start_again();
        assert!(program.is_running() && program.pid() != first);
        crate::eventually("it has said it twice", || program.said() == "once\nonce\n");
        program.kill9();
        assert!(!program.is_running());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_program_that_is_paused_runs_on_when_it_may_and_ends_when_it_is_dropped() {
        let folder = Folder::new("program");
        let mut program = shell("exec sleep 300", &folder);
        let pid = program.pid();
        program.pause();
        crate::eventually("it is stopped", || state(pid) == Some('T'));
        program.resume();
        crate::eventually("it goes on", || state(pid) == Some('S'));
        program.pause();
        drop(program);
        assert_eq!(state(pid), None);
    }
}
