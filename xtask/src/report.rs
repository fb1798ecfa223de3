//! What checks and parts say: violations of a rule, outcomes of a part, the sum of a run.

use std::fmt;
use std::path::PathBuf;

/// A broken rule, with where it is broken and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Relative to the root of the repository.
    pub file: PathBuf,
    /// Counted from 1; 1 also when the whole file is meant.
    pub line: usize,
    pub rule: String,
    pub fix: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}; {}", self.file.display(), self.line, self.rule, self.fix)
    }
}

/// How a part ended.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub passed: usize,
    pub failed: usize,
    pub skipped: usize,
    /// One line: a figure, or the reason of a skip.
    pub note: String,
    /// Shown in full when the part failed.
    pub detail: String,
}

impl Outcome {
    pub fn pass(note: impl Into<String>) -> Self {
        Self { passed: 1, note: note.into(), ..Self::default() }
    }

    pub fn fail(note: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { failed: 1, note: note.into(), detail: detail.into(), ..Self::default() }
    }

    pub fn skip(reason: impl Into<String>) -> Self {
        Self { skipped: 1, note: reason.into(), ..Self::default() }
    }

    /// One pass when nothing is violated, else one failure for each violation.
    pub fn judge(violations: &[Violation], note: impl Into<String>) -> Self {
        if violations.is_empty() {
            return Self::pass(note);
        }
        let lines: Vec<String> = violations.iter().map(Violation::to_string).collect();
        let note = format!("{} violations", violations.len());
        Self { failed: violations.len(), note, detail: lines.join("\n"), ..Self::default() }
    }

    pub fn verdict(&self) -> Verdict {
        match (self.failed, self.passed) {
            (1.., _) => Verdict::Failed,
            (0, 0) => Verdict::Skipped,
            (0, _) => Verdict::Passed,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Passed,
    Failed,
    Skipped,
}

/// The sum over the parts of a run.
#[derive(Debug, Default)]
pub struct Tally {
    passed: usize,
    failed: usize,
    skipped: usize,
    remarks: Vec<String>,
}

impl Tally {
    pub fn add(&mut self, part: &str, outcome: &Outcome) {
        self.passed += outcome.passed;
        self.failed += outcome.failed;
        self.skipped += outcome.skipped;
        match outcome.verdict() {
            Verdict::Failed => self.remarks.push(format!("FAILED {part}: {}", outcome.note)),
            Verdict::Skipped => self.remarks.push(format!("SKIP {part}: {}", outcome.note)),
            Verdict::Passed if outcome.skipped > 0 && !outcome.note.is_empty() => {
                self.remarks.push(format!("SKIP in {part}: {}", outcome.note));
            }
            Verdict::Passed => {}
        }
    }

    /// What failed or was skipped, to be repeated at the end.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    pub fn failed(&self) -> bool {
        self.failed > 0
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(f, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_names_skips_only_when_there_are_some() {
        let mut tally = Tally::default();
        tally.add("tests", &Outcome { passed: 7, ..Outcome::default() });
        assert_eq!(tally.to_string(), "7 passed, 0 failed");
        tally.add("deny", &Outcome::skip("cargo-deny is not installed"));
        tally.add("fmt", &Outcome::fail("differs", ""));
        assert_eq!(tally.to_string(), "7 passed, 1 failed, 1 skipped");
        assert_eq!(tally.remarks(), ["SKIP deny: cargo-deny is not installed", "FAILED fmt: differs"]);
    }

    #[test]
    fn a_part_that_did_nothing_counts_as_skipped_not_as_passed() {
        assert_eq!(Outcome::default().verdict(), Verdict::Skipped);
    }
}
