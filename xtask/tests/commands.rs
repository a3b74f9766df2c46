//! The commands as they are run, with another program in cargo's place, so that nothing is built.

#![expect(clippy::unwrap_used, reason = "a test that cannot run has failed")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A program that prints its arguments and fails; removed at the end.
struct NoCargo(PathBuf);

impl NoCargo {
    fn new(test: &str) -> Self {
        let name = format!("reservoir-no-cargo-{}-{test}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, "#!/bin/sh\necho \"cargo $*\"\nexit 1\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
        Self(path)
    }
}

impl Drop for NoCargo {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// All that the command prints; it has to fail, because nothing can be built.
fn run(test: &str, arguments: &[&str], database_url: &str) -> String {
    let cargo = NoCargo::new(test);
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(arguments)
        .env("CARGO", &cargo.0)
        .env("DATABASE_URL", database_url)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8(printed).unwrap();
    assert!(!output.status.success(), "{printed}");
    assert!(!printed.contains("canary"), "{printed}");
    printed
}

const AWAY: &str = "postgres://user:canary@db.example.com:6543/shop";
const HERE: &str = "postgres://user:canary@127.0.0.2:1/shop";

#[test]
fn dev_names_a_given_database_before_it_does_anything() {
    let printed = run("named", &["dev"], AWAY);
    let first = printed.lines().next().unwrap_or_default();
    assert!(
        first.contains("`shop`") && first.contains("db.example.com:6543"),
        "{printed}"
    );
}

#[test]
fn dev_puts_no_sample_data_on_another_machine() {
    let printed = run("away", &["dev"], AWAY);
    assert!(printed.contains("No sample data"), "{printed}");
    assert!(!printed.contains("--package sample"), "{printed}");
    let printed = run("away-asked", &["dev", "--sample"], AWAY);
    assert!(
        printed.contains("error: sample data is put only into a database on this machine"),
        "{printed}"
    );
    assert!(!printed.contains("cargo build"), "{printed}");
}

#[test]
fn dev_without_a_terminal_puts_sample_data_into_a_given_database_only_with_the_option() {
    let printed = run("unasked", &["dev"], HERE);
    assert!(printed.contains("`--sample`"), "{printed}");
    assert!(!printed.contains("--package sample"), "{printed}");
    let printed = run("asked", &["dev", "--sample"], HERE);
    assert!(!printed.contains("No sample data"), "{printed}");
}

#[test]
fn dev_takes_no_url_without_a_database() {
    for url in [
        "postgres://user:canary@localhost",
        "postgres://localhost/?host=/canary",
    ] {
        let printed = run("nameless", &["dev"], url);
        assert!(
            printed.contains("names no database") && printed.contains("@host:5432/database"),
            "{printed}"
        );
        assert!(!printed.contains("cargo build"), "{printed}");
    }
}

#[test]
fn fill_wants_a_number_and_a_database_on_this_machine() {
    for (test, rows, url, reason) in [
        ("fill-unsaid", &["fill"][..], HERE, "how many rows"),
        (
            "fill-twice",
            &["fill", "--rows", "5", "--rows", "6"],
            HERE,
            "how many rows",
        ),
        (
            "fill-none",
            &["fill", "--rows", "0"],
            HERE,
            "--rows takes a number",
        ),
        (
            "fill-away",
            &["fill", "--rows", "5"],
            AWAY,
            "only into a database on this machine",
        ),
        (
            "fill-fresh",
            &["fill", "--rows", "5", "--fresh"],
            HERE,
            "DATABASE_URL is set",
        ),
    ] {
        let printed = run(test, rows, url);
        assert!(printed.contains(reason), "{test}: {printed}");
        assert!(!printed.contains("cargo build"), "{test}: {printed}");
    }
}

#[test]
fn prepare_says_what_it_is_doing() {
    let printed = run("prepare", &["prepare", "--check"], "");
    for part in [
        "Starting a temporary PostgreSQL",
        "migrations",
        "Compiling customer, ",
        "cargo check",
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    // Cargo says which crate it is at.
    assert!(!printed.contains("--quiet"), "{printed}");
}
