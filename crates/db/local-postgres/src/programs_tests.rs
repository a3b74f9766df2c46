//! The finder, on folders with pretended installations.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{choose, installation, leading_number, major, versions};

/// A folder that is removed at the end of the test.
struct Machine(PathBuf);

impl Machine {
    fn new(name: &str) -> Self {
        let folder =
            std::env::temp_dir().join(format!("local-postgres-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(fs::canonicalize(folder).unwrap())
    }

    fn install(&self, folder: &str, version: &str) -> PathBuf {
        let folder = self.0.join(folder);
        fs::create_dir_all(&folder).unwrap();
        for program in ["postgres", "initdb"] {
            let path = folder.join(program);
            fs::write(
                &path,
                format!("#!/bin/sh\necho '{program} (PostgreSQL) {version}'\n"),
            )
            .unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        folder
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn without_postgresql_the_error_says_what_to_install() {
    let error = choose(&[PathBuf::from("/nonexistent")], None)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("PostgreSQL 15 or newer is not installed.\nInstall"),
        "{error}"
    );
}

#[test]
fn an_old_version_is_named_and_not_used() {
    let machine = Machine::new("old");
    let error = choose(&[machine.install("bin", "14.9")], None)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(&format!("(found: 14 in {}/bin)", machine.0.display())),
        "{error}"
    );
}

#[test]
fn the_first_fit_wins_and_existing_data_gets_its_own_version() {
    let machine = Machine::new("many");
    let folders = [
        machine.install("14", "14.9"),
        machine.install("16", "16.3 (Debian 16.3-1)"),
        machine.install("17", "17beta1"),
    ];
    let data = Path::new("/data");
    assert_eq!(choose(&folders, None).unwrap().major, 16);
    assert_eq!(choose(&folders, Some((17, data))).unwrap().major, 17);
    let error = choose(&folders, Some((18, data))).unwrap_err().to_string();
    assert!(
        error.starts_with(
            "PostgreSQL 18, which made the data in /data, is not installed (found: 14 in "
        ),
        "{error}"
    );
}

#[test]
fn folders_by_version_come_highest_first() {
    let machine = Machine::new("versions");
    for version in ["9.6", "15", "17", "nonsense"] {
        machine.install(&format!("{version}/bin"), version);
    }
    let found = versions(&machine.0, "", "bin");
    let expected: Vec<PathBuf> = ["17", "15", "9.6"]
        .iter()
        .map(|version| machine.0.join(version).join("bin"))
        .collect();
    assert_eq!(found, expected);
    assert!(versions(Path::new("/nonexistent"), "", "bin").is_empty());
}

#[test]
fn version_texts_are_read() {
    assert_eq!(
        major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"),
        Some(15)
    );
    assert_eq!(major("postgres (PostgreSQL) 18devel"), Some(18));
    assert_eq!(major("postgres"), None);
    assert_eq!(leading_number("latest"), None);
}

#[cfg(not(target_os = "macos"))]
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
        assert!(installation(os_release).contains(command), "{os_release}");
    }
}
