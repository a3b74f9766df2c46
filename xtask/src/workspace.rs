//! Where things are in this workspace, and its cargo.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::output::Result;

/// The workspace's root, from whichever folder the command was called.
pub(crate) fn root() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// The cargo that runs us, in the workspace's root.
///
/// `cargo run` describes our own package to us in variables. Some build scripts (ring's) run again when these change, and
/// with them half of the dependencies would be compiled anew by each change between `cargo dev` and `cargo build`.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let name_bytes = name.as_encoded_bytes();
        if name_bytes.starts_with(b"CARGO_PKG_") || name_bytes.starts_with(b"CARGO_MANIFEST_") {
            cargo.env_remove(name);
        }
    }
    cargo.current_dir(root());
    cargo
}

/// Collects the files in `folder` and below whose names end so.
pub(crate) fn find_files(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) -> Result<()> {
    // Where nothing stands before a name, `folder` is empty.
    let here = if folder == Path::new("") {
        Path::new(".")
    } else {
        folder
    };
    for entry in fs::read_dir(here)? {
        let path = folder.join(entry?.file_name());
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            // `target` has no sources of ours, and nor has what begins with a dot.
            if name != "target" && !name.starts_with('.') {
                find_files(&path, extension, found)?;
            }
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    Ok(())
}
