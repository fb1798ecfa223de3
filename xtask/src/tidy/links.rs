//! Relative links in Markdown lead somewhere.

use std::path::{Component, Path, PathBuf};

use super::{Finding, finding};
use crate::workspace::Source;

pub fn judge(source: &Source, exists: &dyn Fn(&Path) -> bool) -> Vec<Finding> {
    if source.extension() != "md" {
        return Vec::new();
    }
    let folder = source.path.parent().unwrap_or(Path::new(""));
    let broken =
        targets(&source.text).into_iter().filter(|(_, target)| !leads_somewhere(target, folder, exists));
    broken
        .map(|(line, target)| {
            finding(line, format!("dead link ({target})"), "point it at a file that exists")
        })
        .collect()
}

fn leads_somewhere(target: &str, folder: &Path, exists: &dyn Fn(&Path) -> bool) -> bool {
    let path = target.split(['#', '?']).next().unwrap_or(target);
    let elsewhere = target.contains("://") || target.starts_with("mailto:") || path.is_empty();
    let path = match path.strip_prefix('/') {
        Some(from_root) => PathBuf::from(from_root),
        None => folder.join(path),
    };
    elsewhere || inside(&path).is_some_and(|path| exists(&path))
}

/// The path without `..`, unless it leaves the repository.
fn inside(path: &Path) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => clean.pop().then_some(())?,
            Component::CurDir => {}
            part => clean.push(part),
        }
    }
    Some(clean)
}

/// The line and target of each link outside code.
fn targets(markdown: &str) -> Vec<(usize, &str)> {
    let mut targets = Vec::new();
    let mut fenced = false;
    for (at, line) in markdown.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            targets.extend(line_targets(line).into_iter().map(|target| (at + 1, target)));
        }
    }
    targets
}

fn line_targets(line: &str) -> Vec<&str> {
    let mut targets = Vec::new();
    let mut from = 0;
    while let Some(found) = line[from..].find("](") {
        let start = from + found + 2;
        let length = line[start..].find([')', ' ']).unwrap_or(line.len() - start);
        let in_code = line[..start].matches('`').count() % 2 == 1;
        if !in_code {
            targets.push(line[start..start + length].trim_matches(['<', '>']));
        }
        from = start + length;
    }
    let definition = line.strip_prefix('[').and_then(|rest| rest.split_once("]: "));
    targets.extend(definition.and_then(|(_, rest)| rest.split_whitespace().next()));
    targets
}

#[cfg(test)]
mod tests {
    use super::super::{rules, sample};
    use super::*;

    #[test]
    fn links_lead_to_files_that_exist() {
        let text = "[a](b.md) ![p](../img/c.png#x) [r](/README.md \"title\")\n[d](gone.md) [e](../../out.md)\n[f]: gone.md\n";
        let there = ["docs/b.md", "img/c.png", "README.md"].map(Path::new);
        let found = rules(judge(&sample("docs/a.md", text), &|path| there.contains(&path)));
        assert_eq!(found, ["2 dead link (gone.md)", "2 dead link (../../out.md)", "3 dead link (gone.md)"]);
    }

    #[test]
    fn code_anchors_and_addresses_are_not_files() {
        let text =
            "[a](#b) [c](https://x.y/z) [m](mailto:a@b.c) `[d](e)`\n```text\n[f](g)\n```\n[h](https://x.y)\n";
        assert_eq!(rules(judge(&sample("a.md", text), &|_| false)), [""; 0]);
    }
}
