//! The repository: where it is, which files belong to it, which packages it has.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Directories that hold no sources of ours when git is not there to say so.
const NOT_OURS: [&str; 4] = ["target", "node_modules", ".git", "corpus"];

/// The root of the repository and what `cargo metadata` says about it.
pub struct Workspace {
    pub root: PathBuf,
    /// Where cargo builds to.
    pub target: PathBuf,
    pub packages: Vec<Package>,
}

/// A member of the workspace.
pub struct Package {
    pub name: String,
    /// Relative to the root, e.g. `crates/core`.
    pub folder: PathBuf,
    pub dependencies: Vec<Dependency>,
}

/// A line of a dependency table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    pub name: String,
    pub kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Normal,
    Dev,
    Build,
}

/// A file of the repository that is text.
pub struct Source {
    /// Relative to the root.
    pub path: PathBuf,
    pub text: String,
}

impl Source {
    pub fn extension(&self) -> &str {
        self.path.extension().and_then(|e| e.to_str()).unwrap_or("")
    }

    pub fn file_name(&self) -> &str {
        self.path.file_name().and_then(|e| e.to_str()).unwrap_or("")
    }
}

impl Workspace {
    pub fn find() -> Result<Self, String> {
        // Where cargo runs us now, not where we were compiled: a copied build folder stays right.
        let manifest =
            std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let manifest = PathBuf::from(manifest);
        let root = manifest.parent().ok_or("xtask has no parent folder")?.to_path_buf();
        let mut cargo = cargo_in(&root);
        cargo.args(["metadata", "--format-version", "1", "--no-deps", "--offline"]);
        let output = cargo.output().map_err(|e| format!("cannot run cargo metadata: {e}"))?;
        if !output.status.success() {
            return Err(format!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr)));
        }
        let metadata = serde_json::from_slice(&output.stdout).map_err(|e| format!("cargo metadata: {e}"))?;
        Ok(Self::from_metadata(root, &metadata))
    }

    fn from_metadata(root: PathBuf, metadata: &Value) -> Self {
        let packages = metadata["packages"].as_array().map_or(&[][..], Vec::as_slice);
        let packages = packages.iter().map(|p| Package::from_metadata(&root, p)).collect();
        let target = metadata["target_directory"].as_str().map_or(root.join("target"), PathBuf::from);
        Self { root, target, packages }
    }

    /// `cargo args…`, started at the root.
    pub fn cargo(&self, args: &[&str]) -> Command {
        let mut cargo = cargo_in(&self.root);
        cargo.args(args);
        cargo
    }

    /// The text files that git tracks or would track, in order.
    pub fn sources(&self) -> Result<Vec<Source>, String> {
        let mut paths = match self.git_files() {
            Some(paths) => paths,
            None => walk(&self.root).map_err(|e| format!("cannot list the files: {e}"))?,
        };
        paths.sort();
        paths.dedup();
        Ok(paths.into_iter().filter_map(|path| self.read(path)).collect())
    }

    /// Nothing for files that are gone, binary, or links.
    fn read(&self, path: PathBuf) -> Option<Source> {
        let full = self.root.join(&path);
        if !fs::symlink_metadata(&full).ok()?.is_file() {
            return None;
        }
        let text = String::from_utf8(fs::read(&full).ok()?).ok()?;
        (!text.contains('\0')).then_some(Source { path, text })
    }

    fn git_files(&self) -> Option<Vec<PathBuf>> {
        let mut git = Command::new("git");
        git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(&self.root);
        let output = git.output().ok().filter(|o| o.status.success())?;
        let list = String::from_utf8(output.stdout).ok()?;
        let files: Vec<PathBuf> =
            list.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from).collect();
        // None at all means that an outer repository ignores us: then git does not know.
        (!files.is_empty()).then_some(files)
    }
}

impl Package {
    fn from_metadata(root: &Path, package: &Value) -> Self {
        let manifest = Path::new(package["manifest_path"].as_str().unwrap_or(""));
        let folder = manifest.parent().unwrap_or(manifest);
        let dependencies = package["dependencies"].as_array().map_or(&[][..], Vec::as_slice);
        Self {
            name: package["name"].as_str().unwrap_or("").to_string(),
            folder: folder.strip_prefix(root).unwrap_or(folder).to_path_buf(),
            dependencies: dependencies.iter().map(Dependency::from_metadata).collect(),
        }
    }
}

impl Dependency {
    fn from_metadata(dependency: &Value) -> Self {
        let kind = match dependency["kind"].as_str() {
            Some("dev") => Kind::Dev,
            Some("build") => Kind::Build,
            _ => Kind::Normal,
        };
        Self { name: dependency["name"].as_str().unwrap_or("").to_string(), kind }
    }
}

fn cargo_in(root: &Path) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What is kept in files or parsed has no colours, whatever the settings of a CI are.
    cargo.current_dir(root).env("CARGO_TERM_COLOR", "never");
    cargo
}

/// Every file below `root`, for a copy of the repository without git.
fn walk(root: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let path = entry.path();
            let ours = entry.file_name().to_str().is_some_and(|name| !NOT_OURS.contains(&name));
            if ours && entry.file_type()?.is_dir() {
                folders.push(path);
            } else if ours && let Ok(relative) = path.strip_prefix(root) {
                files.push(relative.to_path_buf());
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_read_with_their_folder_and_the_kind_of_each_dependency() {
        let metadata = r#"{"target_directory":"/r/out","packages":[{"name":"duplex-core","manifest_path":"/r/crates/core/Cargo.toml",
            "dependencies":[{"name":"bytes","kind":null},{"name":"proptest","kind":"dev"},{"name":"cc","kind":"build"}]}]}"#;
        let workspace = Workspace::from_metadata("/r".into(), &serde_json::from_str(metadata).unwrap());
        assert_eq!(workspace.target, Path::new("/r/out"));
        let core = &workspace.packages[0];
        assert_eq!((core.name.as_str(), core.folder.as_path()), ("duplex-core", Path::new("crates/core")));
        let kinds: Vec<_> = core.dependencies.iter().map(|d| (d.name.as_str(), d.kind)).collect();
        assert_eq!(kinds, [("bytes", Kind::Normal), ("proptest", Kind::Dev), ("cc", Kind::Build)]);
    }

    #[test]
    fn the_repository_lists_its_own_sources_and_nothing_built() {
        let workspace = Workspace::find().unwrap();
        let sources = workspace.sources().unwrap();
        assert!(sources.iter().any(|s| s.path == Path::new("xtask/src/workspace.rs")));
        assert!(sources.iter().all(|s| !s.path.starts_with("target")));
        let walked = walk(&workspace.root.join("xtask")).unwrap();
        assert!(walked.contains(&PathBuf::from("src/workspace.rs")));
    }
}
