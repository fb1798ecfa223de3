//! Folders that go when they are no longer needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A folder of its own below the system's for temporary files; it is removed when dropped.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// An empty folder; `purpose` is part of its name.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn new(purpose: &str) -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("duplex-{purpose}-{}-{number}", std::process::id()));
        // A process of the same number may have left one behind.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("temporary folders can be made");
        Self { path }
    }

    /// Removes what processes left behind that were killed and had no time for it.
    pub fn clear_left_behind() {
        let Ok(entries) = fs::read_dir(std::env::temp_dir()) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if owner(&name).is_some_and(|owner| !Path::new(&format!("/proc/{owner}")).exists()) {
                // Another may be doing the same.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left behind is in the way of nobody.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// The process that made a folder of this name.
fn owner(name: &str) -> Option<u32> {
    let (rest, number) = name.strip_prefix("duplex-")?.rsplit_once('-')?;
    number.parse::<u32>().ok()?;
    rest.rsplit_once('-')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn what_a_dead_process_left_behind_is_cleared() {
        let own = Folder::new("folder");
        // No process has this number: it is beyond what Linux gives.
        let left = std::env::temp_dir().join("duplex-folder-4194999-0");
        fs::create_dir_all(&left).unwrap();
        Folder::clear_left_behind();
        assert!(own.path().exists() && !left.exists());
        assert_eq!(owner("duplex-conformance-Xy1"), None);
    }

    #[test]
    fn a_folder_goes_with_what_is_in_it() {
        let folder = Folder::new("folder");
        let path = folder.path().to_path_buf();
        fs::write(path.join("file"), "text").unwrap();
        assert!(Folder::new("folder").path() != path);
        drop(folder);
        assert!(!path.exists());
    }
}
