//! Where systems install PostgreSQL's programs, and how.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::programs::leading_number;

/// Where installations are, the most wanted first.
pub(crate) fn folders() -> Vec<PathBuf> {
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

/// The commands that install PostgreSQL and npm.
pub(crate) struct Installation {
    pub(crate) postgres: &'static str,
    pub(crate) npm: &'static str,
}

impl Installation {
    /// Those of this machine.
    pub(crate) fn here() -> Self {
        if cfg!(target_os = "macos") {
            return Self {
                postgres: "brew install postgresql@18",
                npm: "brew install node",
            };
        }
        Self::of_system(&fs::read_to_string("/etc/os-release").unwrap_or_default())
    }

    /// From the text of /etc/os-release.
    fn of_system(os_release: &str) -> Self {
        let names = os_release.lines().filter_map(|line| {
            line.strip_prefix("ID=")
                .or_else(|| line.strip_prefix("ID_LIKE="))
        });
        let mut names = names.flat_map(|value| value.trim_matches('"').split(' '));
        let found = names.find_map(|name| match name {
            "debian" | "ubuntu" => Some((
                "sudo apt-get install postgresql",
                "sudo apt-get install npm",
            )),
            "fedora" | "rhel" | "centos" => Some((
                "sudo dnf install postgresql-server postgresql-contrib",
                "sudo dnf install nodejs-npm",
            )),
            // Of the packages that npm has, none runs with musl.
            "alpine" => Some((
                "apk add postgresql postgresql-contrib",
                "apk add postgresql postgresql-contrib",
            )),
            "arch" => Some(("sudo pacman -S postgresql", "sudo pacman -S npm")),
            "suse" | "opensuse" => Some((
                "sudo zypper install postgresql-server postgresql-contrib",
                "sudo zypper install npm",
            )),
            _ => None,
        });
        let (postgres, npm) = found.unwrap_or((
            "your system's package of the PostgreSQL server (initdb, postgres, pg_ctl)",
            "your system's package of npm",
        ));
        Self { postgres, npm }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_by_version_come_highest_first() {
        let parent = std::env::temp_dir().join(format!("local-postgres-{}", std::process::id()));
        for version in ["9.6", "15", "17", "nonsense"] {
            fs::create_dir_all(parent.join(version).join("bin")).unwrap();
        }
        let found = versions(&parent, "", "bin");
        let expected = ["17", "15", "9.6"].map(|version| parent.join(version).join("bin"));
        assert_eq!(found, expected);
        assert!(versions(Path::new("/nonexistent"), "", "bin").is_empty());
        fs::remove_dir_all(parent).unwrap();
    }

    #[test]
    fn each_system_gets_its_own_advice() {
        for (os_release, command) in [
            (
                "NAME=\"Linux Mint\"\nID=linuxmint\nID_LIKE=\"ubuntu debian\"\n",
                "sudo apt-get install postgresql",
            ),
            ("ID=fedora\n", "sudo dnf install postgresql-server"),
            (
                "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n",
                "sudo dnf install postgresql-server",
            ),
            ("ID=alpine\n", "apk add postgresql"),
            ("ID=manjaro\nID_LIKE=arch\n", "sudo pacman -S postgresql"),
            ("ID=nixos\n", "package of the PostgreSQL server"),
        ] {
            let advice = Installation::of_system(os_release).postgres;
            assert!(advice.contains(command), "{os_release}");
        }
    }
}
