//! The finder, on folders with pretended installations.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{among, choose, found};
use crate::account::Account;
use crate::choice::{Choice, Network, Source};

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

/// `PG_BIN=folder`.
fn only(folder: impl Into<PathBuf>) -> Choice {
    Choice {
        source: Source::Either,
        network: Network::Allowed,
        folder: Some(folder.into()),
    }
}

fn error(data: Option<(u32, &Path)>, choice: &Choice) -> String {
    let account = Account::find().unwrap();
    choose(&account, data, choice).unwrap_err().to_string()
}

#[test]
fn an_old_version_is_named_and_not_used() {
    let machine = Machine::new("old");
    let error = error(None, &only(machine.install("bin", "14.9")));
    let expected = format!("(found: 14 in {}/bin)", machine.0.display());
    assert!(error.contains(&expected), "{error}");
}

#[test]
fn the_first_fit_wins_and_existing_data_gets_its_own_version() {
    let machine = Machine::new("many");
    let folders = [
        machine.install("14", "14.9"),
        machine.install("16", "16.3 (Debian 16.3-1)"),
        machine.install("17", "17beta1"),
    ];
    assert_eq!(among(&folders, None).unwrap().major, 16);
    assert_eq!(among(&folders, Some(17)).unwrap().major, 17);
    let unfit = found(&among(&folders, Some(18)).unwrap_err());
    assert!(unfit.starts_with(" (found: 14 in "), "{unfit}");
}

#[test]
fn data_of_15_met_by_18_says_what_to_do() {
    let machine = Machine::new("data");
    let choice = only(machine.install("bin", "18.4"));
    let error = error(Some((15, Path::new("/data"))), &choice);
    for part in [
        "PostgreSQL 15, which made the data in /data, is not here (found: 18 in ",
        "none was brought: PG_BIN is set",
        "The data is as it was.",
        "install PostgreSQL 15",
        "PG_BIN",
        "pg_dump",
        "cargo dev --fresh",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn data_of_15_is_never_a_reason_to_bring_18() {
    for (source, reason) in [
        (Source::System, "RESERVOIR_PG=system forbids it"),
        (
            Source::Bundled,
            "RESERVOIR_PG=bundled takes only what is brought, PostgreSQL 18",
        ),
    ] {
        let choice = Choice {
            source,
            network: Network::Allowed,
            folder: None,
        };
        // A version that is nowhere installed.
        let error = error(Some((9, Path::new("/data"))), &choice);
        assert!(
            error.starts_with("PostgreSQL 9, which made the data in /data"),
            "{error}"
        );
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn what_was_found_says_what_it_is_and_where() {
    let machine = Machine::new("says");
    let programs = among(&[machine.install("bin", "16.3 (Debian 16.3-1)")], None).unwrap();
    let expected = format!("PostgreSQL 16.3 (installed) in {}/bin", machine.0.display());
    assert_eq!(programs.to_string(), expected);
}
