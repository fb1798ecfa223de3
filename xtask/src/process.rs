//! Runs programs with a deadline and keeps what they print in a file.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How often a running program is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How a program ended, and all that it printed.
pub struct Finished {
    pub end: End,
    pub output: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    Succeeded,
    /// It ended by itself, in a way that is not success.
    Failed(String),
    /// It was ended because its time was over.
    TimedOut(Duration),
    NotStarted(String),
}

impl Finished {
    pub fn succeeded(&self) -> bool {
        self.end == End::Succeeded
    }

    /// One line for people.
    pub fn note(&self) -> String {
        match &self.end {
            End::Succeeded => "ok".into(),
            End::Failed(status) => status.clone(),
            End::TimedOut(after) => format!("stopped after its limit of {} s", after.as_secs()),
            End::NotStarted(problem) => format!("could not be started: {problem}"),
        }
    }
}

/// Runs `command` to its end; its output also stays in `log`.
pub fn run(command: &mut Command, log: &Path, limit: Duration) -> Finished {
    match Running::start(command, log) {
        Ok(running) => running.finish(limit),
        Err(problem) => Finished { end: End::NotStarted(problem.to_string()), output: String::new() },
    }
}

/// Whether `command` runs and succeeds, its output dropped.
pub fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

/// A program that runs; dropping it ends it and what it started.
pub struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    pub fn start(command: &mut Command, log: &Path) -> io::Result<Self> {
        if let Some(folder) = log.parent() {
            fs::create_dir_all(folder)?;
        }
        let out = File::create(log)?;
        let err = out.try_clone()?;
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn()?;
        Ok(Self { child, log: log.to_path_buf() })
    }

    /// Waits for the end, at most for `limit`.
    pub fn finish(mut self, limit: Duration) -> Finished {
        let until = Instant::now() + limit;
        let end = loop {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => break End::Succeeded,
                Ok(Some(status)) => break End::Failed(status.to_string()),
                Ok(None) if Instant::now() < until => thread::sleep(LOOK_EVERY),
                Ok(None) => break End::TimedOut(limit),
                Err(problem) => break End::Failed(problem.to_string()),
            }
        };
        if end != End::Succeeded {
            self.end();
        }
        Finished { end, output: self.output() }
    }

    /// How it ended, if it has ended by itself.
    pub fn ended(&mut self) -> Option<String> {
        self.child.try_wait().map_or_else(|e| Some(e.to_string()), |status| status.map(|s| s.to_string()))
    }

    /// What it has printed so far.
    pub fn output(&self) -> String {
        fs::read(&self.log)
            .map_or_else(|e| e.to_string(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    fn end(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let family: Vec<String> = descendants(self.child.id()).iter().map(u32::to_string).collect();
            if !family.is_empty() {
                succeeds(Command::new("sh").args(["-c", "kill -KILL \"$@\"", "sh"]).args(family));
            }
            // Both fail only when it has ended meanwhile.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// The processes that `root` started, and those that they started. Empty where there is no `/proc`.
fn descendants(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc").map_or_else(
        |_| Vec::new(),
        |entries| {
            entries.flatten().filter_map(|e| parent_of(e.file_name().to_str()?.parse().ok()?)).collect()
        },
    );
    let mut family = vec![root];
    let mut at = 0;
    while let Some(&parent) = family.get(at) {
        family.extend(parents.iter().filter(|(_, p)| *p == parent).map(|(child, _)| *child));
        at += 1;
    }
    family.split_off(1)
}

/// The process and its parent, from `PID (NAME) STATE PARENT …`; the name may contain anything.
fn parent_of(process: u32) -> Option<(u32, u32)> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    Some((process, after_name.split_whitespace().nth(1)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("xtask-process-{}-{name}", std::process::id()))
    }

    fn shell(script: &str, name: &str, limit: Duration) -> Finished {
        let log = log(name);
        let finished = run(Command::new("sh").args(["-c", script]), &log, limit);
        let _ = fs::remove_file(log);
        finished
    }

    #[test]
    fn output_of_both_kinds_is_kept_and_the_status_is_told() {
        let fine = shell("echo out; echo err >&2", "fine", Duration::from_secs(10));
        assert!(fine.succeeded());
        assert_eq!(fine.output, "out\nerr\n");
        let bad = shell("exit 3", "bad", Duration::from_secs(10));
        assert_eq!((bad.succeeded(), bad.note().as_str()), (false, "exit status: 3"));
        let absent = run(&mut Command::new("no-such-program"), &log("absent"), Duration::from_secs(10));
        assert!(absent.note().starts_with("could not be started"));
    }

    #[test]
    fn a_program_over_its_limit_ends_with_all_that_it_started() {
        let late = shell("sleep 300 & echo $!; wait", "late", Duration::from_millis(300));
        assert_eq!(late.end, End::TimedOut(Duration::from_millis(300)));
        let child: u32 = late.output.trim().parse().unwrap();
        // Whoever is killed takes a moment to die.
        let until = Instant::now() + Duration::from_secs(10);
        let is_gone =
            || fs::read_to_string(format!("/proc/{child}/stat")).map_or(true, |stat| stat.contains(" Z "));
        while !is_gone() {
            assert!(Instant::now() < until, "{child} is still running");
            thread::sleep(LOOK_EVERY);
        }
    }
}
