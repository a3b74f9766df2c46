//! Finding PostgreSQL's programs on this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Error;

/// The oldest major version this project runs on.
const OLDEST: u32 = 15;

/// The programs of one installation.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    folder: PathBuf,
    pub(crate) major: u32,
}

impl Programs {
    /// The first installation that is new enough; if there is data already, the one of exactly the version that made it.
    pub(crate) fn find(data: Option<&Path>) -> Result<Self, Error> {
        let existing = data.and_then(|data| {
            let version = fs::read_to_string(data.join("PG_VERSION")).ok()?;
            Some((version.trim().parse().ok()?, data))
        });
        choose(&candidates(), existing)
    }

    pub(crate) fn path(&self, program: &str) -> PathBuf {
        let path = self.folder.join(program);
        // Some systems keep the client's programs apart from the server's; then PATH has them.
        if path.exists() { path } else { program.into() }
    }

    fn in_folder(folder: &Path) -> Option<Self> {
        // Follows links such as /usr/local/bin/postgres to the folder that has all the programs.
        let postgres = fs::canonicalize(folder.join("postgres")).ok()?;
        let folder = postgres.parent()?.to_owned();
        if !folder.join("initdb").exists() {
            return None;
        }
        let output = Command::new(&postgres).arg("--version").output().ok()?;
        let major = major(&String::from_utf8_lossy(&output.stdout))?;
        Some(Self { folder, major })
    }
}

/// Picks from a list of folders, in which earlier ones win.
fn choose(folders: &[PathBuf], existing: Option<(u32, &Path)>) -> Result<Programs, Error> {
    let mut unfit: Vec<Programs> = Vec::new();
    for folder in folders {
        let Some(programs) = Programs::in_folder(folder) else {
            continue;
        };
        if programs.major >= OLDEST && existing.is_none_or(|(version, _)| version == programs.major)
        {
            return Ok(programs);
        }
        if !unfit.iter().any(|known| known.folder == programs.folder) {
            unfit.push(programs);
        }
    }
    Err(missing(&unfit, existing))
}

fn missing(unfit: &[Programs], existing: Option<(u32, &Path)>) -> Error {
    let found: Vec<String> = unfit
        .iter()
        .map(|programs| format!("{} in {}", programs.major, programs.folder.display()))
        .collect();
    let found = if found.is_empty() {
        String::new()
    } else {
        format!(" (found: {})", found.join(", "))
    };
    if let Some(folder) = std::env::var_os("PG_BIN") {
        let folder = Path::new(&folder).display();
        return Error::new(format!(
            "PG_BIN names {folder}, where the programs of PostgreSQL {OLDEST} or newer are not{found}."
        ));
    }
    match existing {
        Some((version, data)) if !unfit.is_empty() => Error::new(format!(
            "PostgreSQL {version}, which made the data in {}, is not installed{found}.\nInstall it, or remove the data.",
            data.display()
        )),
        _ => {
            let how = installation(&fs::read_to_string("/etc/os-release").unwrap_or_default());
            Error::new(format!(
                "PostgreSQL {OLDEST} or newer is not installed{found}.\n{how}"
            ))
        }
    }
}

/// How to install PostgreSQL, from the text of /etc/os-release (empty on macOS).
fn installation(os_release: &str) -> String {
    if cfg!(target_os = "macos") {
        return "Install it with `brew install postgresql@17`, or get Postgres.app from https://postgresapp.com.".to_owned();
    }
    let names: Vec<&str> = os_release
        .lines()
        .filter_map(|line| {
            line.strip_prefix("ID=")
                .or_else(|| line.strip_prefix("ID_LIKE="))
        })
        .flat_map(|value| value.trim_matches('"').split(' '))
        .collect();
    let command = names.iter().find_map(|name| match *name {
        "debian" | "ubuntu" => Some("sudo apt-get install postgresql"),
        "fedora" | "rhel" | "centos" => {
            Some("sudo dnf install postgresql-server postgresql-contrib")
        }
        "alpine" => Some("apk add postgresql postgresql-contrib"),
        "arch" => Some("sudo pacman -S postgresql"),
        "suse" | "opensuse" => Some("sudo zypper install postgresql-server postgresql-contrib"),
        _ => None,
    });
    match command {
        Some(command) => format!("Install it with `{command}`. A server that the package starts is neither needed nor in the way."),
        None => "Install your system's package of the PostgreSQL server (initdb, postgres, pg_ctl, psql), or put its folder into PATH.".to_owned(),
    }
}

/// Where installations are, the most wanted first. The folder that `PG_BIN` names is the only one.
fn candidates() -> Vec<PathBuf> {
    if let Some(folder) = std::env::var_os("PG_BIN") {
        return vec![folder.into()];
    }
    let mut folders: Vec<PathBuf> = std::env::var_os("PATH")
        .map(|path| std::env::split_paths(&path).collect())
        .unwrap_or_default();
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        folders.push(String::from_utf8_lossy(&output.stdout).trim().into());
    }
    let versioned = [
        ("/usr/lib/postgresql", "", "bin"),          // Debian, Ubuntu
        ("/usr", "pgsql-", "bin"),                   // Fedora, RHEL (PGDG)
        ("/usr/libexec", "postgresql", ""),          // Alpine
        ("/opt/homebrew/opt", "postgresql@", "bin"), // Homebrew, Apple silicon
        ("/usr/local/opt", "postgresql@", "bin"),    // Homebrew, Intel
        ("/home/linuxbrew/.linuxbrew/opt", "postgresql@", "bin"), // Homebrew, Linux
        ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
    ];
    folders.extend(
        versioned
            .into_iter()
            .flat_map(|(parent, prefix, rest)| versions(Path::new(parent), prefix, rest)),
    );
    folders
}

/// The folders `parent/prefixVERSION/rest`, highest version first.
fn versions(parent: &Path, prefix: &str, rest: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let version = leading_number(name.strip_prefix(prefix)?)?;
            Some((version, entry.path().join(rest)))
        })
        .collect();
    found.sort_by(|one, other| other.cmp(one));
    found.into_iter().map(|(_, path)| path).collect()
}

/// The 17 of `postgres (PostgreSQL) 17.2 (Debian 17.2-1)` and of `postgres (PostgreSQL) 17beta1`.
fn major(version: &str) -> Option<u32> {
    leading_number(version.split_once("(PostgreSQL) ")?.1)
}

fn leading_number(text: &str) -> Option<u32> {
    let end = text
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(text.len());
    text[..end].parse().ok()
}

#[cfg(test)]
#[path = "programs_tests.rs"]
mod tests;
