//! Version floors: below these a dependency has a known fault that reaches us.

use crate::report::Violation;
use crate::workspace::{Source, Workspace};

/// Package and the first version without the fault; each floor stands for one or more public advisories.
const FLOORS: [(&str, Version); 17] = [
    ("aws-lc-sys", Version(0, 39, 0)),
    ("bytes", Version(1, 11, 1)),
    ("crossbeam-channel", Version(0, 5, 15)),
    ("h2", Version(0, 4, 16)),
    ("hyper", Version(1, 12, 0)),
    ("jsonwebtoken", Version(10, 3, 0)),
    ("prost", Version(0, 6, 1)),
    ("quinn-proto", Version(0, 11, 18)),
    ("rustls", Version(0, 23, 46)),
    ("rustls-webpki", Version(0, 103, 13)),
    ("slab", Version(0, 4, 11)),
    ("time", Version(0, 3, 47)),
    ("tokio", Version(1, 44, 2)),
    ("tonic", Version(0, 12, 3)),
    ("tracing-subscriber", Version(0, 3, 20)),
    ("tungstenite", Version(0, 20, 1)),
    ("zlib-rs", Version(0, 4, 0)),
];

/// Major, minor, patch; a pre-release counts as the version before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u64, u64, u64);

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let text = text.split('+').next().unwrap_or(text);
        let (numbers, pre_release) = text.split_once('-').map_or((text, false), |(n, _)| (n, true));
        let mut numbers = numbers.split('.').map(str::parse);
        let (major, minor, patch) = (numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?);
        Some(if pre_release { Self(major, minor, patch).before() } else { Self(major, minor, patch) })
    }

    fn before(self) -> Self {
        match self {
            Self(major, 0, 0) => Self(major.saturating_sub(1), u64::MAX, u64::MAX),
            Self(major, minor, 0) => Self(major, minor - 1, u64::MAX),
            Self(major, minor, patch) => Self(major, minor, patch - 1),
        }
    }
}

/// Checks every lock file of the repository.
pub fn check(workspace: &Workspace) -> Result<Vec<Violation>, String> {
    let locks: Vec<Source> =
        workspace.sources()?.into_iter().filter(|s| s.file_name() == "Cargo.lock").collect();
    if locks.is_empty() {
        return Err("there is no Cargo.lock to check version floors against".into());
    }
    Ok(locks.iter().flat_map(judge).collect())
}

fn judge(lock: &Source) -> Vec<Violation> {
    let lines: Vec<&str> = lock.text.lines().collect();
    let mut violations = Vec::new();
    for (at, pair) in lines.windows(2).enumerate() {
        let (Some(name), Some(version)) = (value(pair[0], "name"), value(pair[1], "version")) else {
            continue;
        };
        let Some((_, floor)) = FLOORS.iter().find(|(package, _)| *package == name) else { continue };
        if Version::parse(version).is_none_or(|found| found < *floor) {
            let Version(major, minor, patch) = floor;
            violations.push(Violation {
                file: lock.path.clone(),
                line: at + 2,
                rule: format!("{name} {version} is below the floor {major}.{minor}.{patch}"),
                fix: format!("raise it in Cargo.toml and run `cargo update -p {name}`"),
            });
        }
    }
    violations
}

fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.strip_prefix(key)?.trim_start().strip_prefix('=')?.trim().strip_prefix('"')?.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(packages: &[(&str, &str)]) -> Vec<String> {
        let entry = |(name, version): &(&str, &str)| {
            format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n")
        };
        let text = packages.iter().map(entry).collect::<String>();
        judge(&Source { path: "Cargo.lock".into(), text })
            .into_iter()
            .map(|v| format!("{} {}", v.line, v.rule))
            .collect()
    }

    #[test]
    fn versions_below_a_floor_are_named() {
        let found = judged(&[("h2", "0.4.16"), ("h2", "0.4.15"), ("bytes", "1.9.9"), ("left-pad", "0.0.1")]);
        assert_eq!(
            found,
            ["6 h2 0.4.15 is below the floor 0.4.16", "9 bytes 1.9.9 is below the floor 1.11.1"]
        );
    }

    #[test]
    fn a_pre_release_is_below_its_release_and_an_unreadable_version_is_below_all() {
        assert_eq!(judged(&[("rustls", "0.23.46-rc.1"), ("slab", "new")]).len(), 2);
        assert_eq!(
            judged(&[("rustls", "0.24.0-dev.0"), ("zlib-rs", "0.4.0-rc.1"), ("tokio", "1.54.1+x")]).len(),
            1
        );
    }
}
