//! Rules for manifests and lock files: a reason for every dependency, no download addresses.

use super::{Finding, finding};
use crate::workspace::Source;

pub fn judge(source: &Source) -> Vec<Finding> {
    match source.file_name() {
        "Cargo.toml" => reasons(&source.text),
        "package-lock.json" => addresses(&source.text),
        _ => Vec::new(),
    }
}

/// A comment stands above each dependency or above the block of lines it belongs to. Our own crates need none, and
/// what is inherited from the workspace has its reason there.
fn reasons(manifest: &str) -> Vec<Finding> {
    let mut reader = Reader::default();
    let missing = manifest.lines().enumerate().filter_map(|(at, line)| {
        let name = reader.unexplained(line.trim())?;
        Some(finding(at + 1, format!("`{name}` has no reason"), "say above it in a comment why it is needed"))
    });
    missing.collect()
}

/// Reads a manifest line by line.
#[derive(Default)]
struct Reader {
    in_table: bool,
    /// A comment stands above, in this block.
    explained: bool,
    /// Open brackets of a value that goes on over several lines.
    depth: usize,
}

impl Reader {
    /// The dependency that this line declares without a reason.
    fn unexplained<'a>(&mut self, line: &'a str) -> Option<&'a str> {
        if self.depth > 0 {
            self.track(line);
            return None;
        }
        if line.is_empty() {
            self.explained = false;
            return None;
        }
        if line.starts_with('#') {
            self.explained = true;
            return None;
        }
        if let Some(header) = line.strip_prefix('[') {
            return self.header(header.trim_matches(['[', ']']));
        }
        let (key, value) = line.split_once('=')?;
        self.track(value);
        let name = key.trim().split('.').next().unwrap_or(key);
        let elsewhere =
            key.contains(".workspace") || value.contains("workspace = true") || value.contains("path = ");
        (self.in_table && !self.explained && !elsewhere).then_some(name)
    }

    /// `[dependencies]` opens a table; `[dependencies.name]` is one dependency.
    fn header<'a>(&mut self, header: &'a str) -> Option<&'a str> {
        let explained = self.explained;
        self.explained = false;
        self.in_table = header.ends_with("dependencies");
        let (_, name) = header.rsplit_once("dependencies.")?;
        (!explained).then_some(name)
    }

    fn track(&mut self, value: &str) {
        for c in value.chars() {
            match c {
                '[' | '{' => self.depth += 1,
                ']' | '}' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
    }
}

fn addresses(lock: &str) -> Vec<Finding> {
    let fix = "run `npm install --omit-lockfile-registry-resolved`";
    let lines = lock.lines().enumerate().filter(|(_, line)| line.contains("\"resolved\": \"http"));
    lines.map(|(at, _)| finding(at + 1, "download address in a lock file", fix)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{rules, sample};
    use super::*;

    fn breaks(manifest: &str) -> Vec<String> {
        rules(judge(&sample("crates/x/Cargo.toml", manifest)))
    }

    #[test]
    fn every_dependency_has_a_reason() {
        let manifest = "[package]\nname = \"x\"\n\n[dependencies]\na = \"1\"\n# Reason.\nb = \"1\"\nc = { version = \"1\" }\n\nd = \"1\"\n";
        assert_eq!(breaks(manifest), ["5 `a` has no reason", "10 `d` has no reason"]);
        let tables = "[workspace.dependencies]\na = \"1\"\n[target.'cfg(unix)'.dev-dependencies]\nb = \"1\"\n[build-dependencies.c]\nversion = \"1\"\n";
        assert_eq!(breaks(tables).len(), 3);
    }

    #[test]
    fn groups_inherited_and_own_crates_are_explained_elsewhere() {
        let manifest = "# Why.\n[dependencies]\na.workspace = true\nb = { workspace = true, features = [\"x\"] }\nc = { path = \"../c\" }\n\
            # Why.\nd = { version = \"1\", features = [\n  \"x = y\",\n] }\ne = \"1\"\n\n# Why.\n[dependencies.f]\nversion = \"1\"\n\n[features]\ng = []\n";
        assert_eq!(breaks(manifest), [""; 0]);
    }

    #[test]
    fn lock_files_carry_no_addresses() {
        let lock = "{\n \"resolved\": \"https://host/a.tgz\",\n \"resolved\": \"sdk/js\",\n \"integrity\": \"\"\n}\n";
        assert_eq!(rules(judge(&sample("a/package-lock.json", lock))), ["2 download address in a lock file"]);
    }
}
