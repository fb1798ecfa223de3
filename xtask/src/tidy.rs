//! What a program can keep of the house style: sizes, words, habits, links, reasons.

mod links;
mod manifest;
mod source;
mod text;

use std::path::Path;

use crate::report::Violation;
use crate::workspace::{Source, Workspace};

/// What `tidy` found.
pub struct Tidy {
    pub violations: Vec<Violation>,
    /// A line about the functions of the product.
    pub sizes: String,
}

/// Checks every file of the repository.
pub fn check(workspace: &Workspace) -> Result<Tidy, String> {
    let sources = workspace.sources()?;
    let exists = |path: &Path| workspace.root.join(path).exists();
    let violations = sources.iter().flat_map(|source| judge(source, &exists)).collect();
    Ok(Tidy { violations, sizes: source::sizes(&sources) })
}

fn judge(source: &Source, exists: &dyn Fn(&Path) -> bool) -> Vec<Violation> {
    let findings =
        [source::judge(source), text::judge(source), manifest::judge(source), links::judge(source, exists)];
    let findings = findings.into_iter().flatten();
    let violations =
        findings.map(|Finding { line, rule, fix }| Violation { file: source.path.clone(), line, rule, fix });
    violations.collect()
}

/// A violation in a file that is known.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    line: usize,
    rule: String,
    fix: String,
}

fn finding(line: usize, rule: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding { line, rule: rule.into(), fix: fix.into() }
}

#[cfg(test)]
fn sample(path: &str, text: &str) -> Source {
    Source { path: path.into(), text: text.into() }
}

#[cfg(test)]
fn rules(findings: Vec<Finding>) -> Vec<String> {
    findings.into_iter().map(|f| format!("{} {}", f.line, f.rule)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_judged_by_every_rule_book() {
        let text = "fn f() { x.unwrap(); } \n";
        let found = judge(&sample("crates/core/src/lib.rs", text), &|_| true);
        let found: Vec<_> = found.iter().map(|v| v.rule.as_str()).collect();
        assert_eq!(found, ["public items may go undocumented", "bare `unwrap`", "trailing whitespace"]);
    }
}
