//! PostgreSQL's programs: those of one folder.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The oldest major version this project runs on.
pub(crate) const OLDEST: u32 = 15;

/// How programs have come to this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Installed,
    Brought,
}

/// The programs of one folder.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    pub(crate) folder: PathBuf,
    pub(crate) major: u32,
    version: String,
    origin: Origin,
}

impl Programs {
    /// Those in `folder`, if they are there and can be run.
    pub(crate) fn in_folder(folder: &Path, origin: Origin) -> Option<Self> {
        // Follows links such as /usr/local/bin/postgres to the folder that has all the programs.
        let postgres = fs::canonicalize(folder.join("postgres")).ok()?;
        let folder = postgres.parent()?.to_owned();
        if !folder.join("initdb").exists() {
            return None;
        }
        let output = Command::new(&postgres).arg("--version").output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = version(&text)?.to_owned();
        Some(Self {
            folder,
            major: leading_number(&version)?,
            version,
            origin,
        })
    }

    pub(crate) fn path(&self, program: &str) -> PathBuf {
        let path = self.folder.join(program);
        // Some systems keep the client's programs apart from the server's; then PATH has them.
        if path.exists() { path } else { program.into() }
    }
}

/// `PostgreSQL 18.4 (brought) in /home/ada/.cache/reservoir/postgres-18.4-npm/bin`
impl fmt::Display for Programs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = match self.origin {
            Origin::Installed => "installed",
            Origin::Brought => "brought",
        };
        let (version, folder) = (&self.version, self.folder.display());
        write!(formatter, "PostgreSQL {version} ({origin}) in {folder}")
    }
}

/// Whether there is such a program to run.
pub(crate) fn is_in_path(program: impl AsRef<Path>) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(&program).is_file())
}

/// The 17.2 of `postgres (PostgreSQL) 17.2 (Debian 17.2-1)`.
fn version(text: &str) -> Option<&str> {
    text.split_once("(PostgreSQL) ")?
        .1
        .split_whitespace()
        .next()
}

/// The 17 of `17.2` and of `17beta1`.
pub(crate) fn leading_number(text: &str) -> Option<u32> {
    let end = text
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(text.len());
    text[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{leading_number, version};

    #[test]
    fn version_texts_are_read() {
        assert_eq!(
            version("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"),
            Some("15.18")
        );
        assert_eq!(version("postgres (PostgreSQL) 18devel"), Some("18devel"));
        assert_eq!(version("postgres"), None);
        assert_eq!(leading_number("18devel"), Some(18));
        assert_eq!(leading_number("latest"), None);
    }
}
