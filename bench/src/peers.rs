//! What node and npm have to say before the npm peers can run.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::failure::Failure;
use crate::subjects::version;

/// Installs the peers if they are not. `Err` says why they cannot run.
pub fn prepare(folder: &Path) -> Result<(), String> {
    let node = version(Path::new("node")).ok_or("node is not installed")?;
    if folder.join("node_modules/ws").exists() && folder.join("node_modules/socket.io").exists() {
        return Ok(());
    }
    eprintln!("installing the npm peers (node {node})");
    let status = Command::new("npm")
        .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .status()
        .map_err(|error| format!("npm cannot be run: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("npm ci failed ({status})")) }
}

/// Version of an installed package.
pub fn package_version(folder: &Path, package: &str) -> Result<String, Failure> {
    let path = folder.join("node_modules").join(package).join("package.json");
    let text = fs::read(&path).map_err(Failure::io(format!("cannot read {}", path.display())))?;
    let manifest: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    Ok(manifest["version"].as_str().unwrap_or("unknown").to_owned())
}
