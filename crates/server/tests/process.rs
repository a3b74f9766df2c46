//! A service as a process: its command line, its settings, its exit codes.

#![expect(clippy::unwrap_used, reason = "it is a test, its helpers included")]

mod clock;

use std::net::{Ipv4Addr, TcpListener};
use std::process::Output;

use clock::{Folder, free_address};

/// Checks the exit code and that it is explained in one line without the canary, and returns that line.
#[track_caller]
fn failed(output: &Output, code: i32) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with("clock: "), "{text}");
    assert!(
        !text.contains("canary") && output.stdout.is_empty(),
        "{text}"
    );
    text
}

#[test]
fn the_command_line_is_checked() {
    let folder = Folder::new();
    let unknown = failed(&folder.clock(&["server"], &[]).output().unwrap(), 2);
    assert!(unknown.contains("serve, migrate, healthcheck"), "{unknown}");
    failed(&folder.clock(&["serve", "now"], &[]).output().unwrap(), 2);
    let help = folder.clock(&["--help"], &[]).output().unwrap();
    assert!(
        help.status.success() && String::from_utf8_lossy(&help.stdout).contains("SHUTDOWN_TIMEOUT")
    );
}

#[test]
fn a_bad_setting_is_one_line_that_names_it() {
    let folder = Folder::new();
    let url = "postgres://someone:canary@127.0.0.1/shop?conection_limit=5";
    for (settings, named) in [
        (vec![], "DATABASE_URL"),
        (vec![("DATABASE_URL", url)], "connection_limit"),
        (vec![("PORT", "canary")], "PORT"),
        (vec![("MIGRATE", "canary")], "MIGRATE"),
        (vec![("APP_ENV", "canary")], "APP_ENV"),
    ] {
        let line = failed(&folder.clock(&[], &settings).output().unwrap(), 78);
        assert!(line.contains(named), "{line}");
    }
}

/// A folder with this `.env`.
fn env_file(text: &str) -> Folder {
    let folder = Folder::new();
    std::fs::write(folder.0.join(".env"), text).unwrap();
    folder
}

#[test]
fn the_env_file_is_read_and_the_environment_wins() {
    let folder = env_file("PORT=canary\n");
    let line = failed(&folder.clock(&["healthcheck"], &[]).output().unwrap(), 78);
    assert!(
        line.contains("PORT") && line.contains("line 1 of "),
        "{line}"
    );
    let port = free_address().port().to_string();
    let line = failed(
        &folder
            .clock(&["healthcheck"], &[("PORT", &port)])
            .output()
            .unwrap(),
        1,
    );
    assert!(line.contains("no answer"), "{line}");
}

#[test]
fn a_line_of_the_env_file_is_named_but_not_shown() {
    for (text, named) in [
        ("PORT=4000\nDATABASE_URL='canary\n", "line 2 of "),
        ("\nDATABASE_URL canary\n", "line 2 is not NAME=value"),
        ("DATABASE_URL=postgres://u:canary@h/d?a=b", "line 1 of "),
    ] {
        let folder = env_file(text);
        let line = failed(&folder.clock(&[], &[]).output().unwrap(), 78);
        assert!(line.contains(".env") && line.contains(named), "{line}");
    }
}

// node's dotenv takes values as they are; Rust's substitutes. HOST is the one value that an error shows.
#[test]
fn a_value_of_the_env_file_is_taken_as_it_is() {
    for (value, taken) in [
        ("pa$word", "pa$word"),
        ("\"pa$word\"", "pa$word"),
        ("'pa$word'", "pa$word"),
        ("`pa$word`", "pa$word"),
        ("\"a${HOME}b\" # c", "a${HOME}b"),
        ("a b\\c # d", "a b\\c"),
    ] {
        let folder = env_file(&format!("\u{feff}export HOST={value}\r\nPORT=1\r\n"));
        let line = failed(&folder.clock(&["healthcheck"], &[]).output().unwrap(), 78);
        assert!(line.contains(&format!("it is {taken:?}")), "{line}");
        assert!(!line.contains("conda"), "{line}");
    }
}

// conda sets HOST to the kind of machine that it compiles for.
#[test]
fn a_host_that_is_none_ends_only_what_needs_an_address() {
    let folder = Folder::new();
    let url = local_postgres::database();
    let host = "x86_64-conda-linux-gnu";
    let settings = [("HOST", host), ("DATABASE_URL", &*url)];
    for subcommand in ["serve", "healthcheck"] {
        let line = failed(
            &folder.clock(&[subcommand], &settings).output().unwrap(),
            78,
        );
        for said in [host, "the environment", "conda"] {
            assert!(line.contains(said), "{line}");
        }
    }
    let migrated = folder.clock(&["migrate"], &settings).output().unwrap();
    assert!(migrated.status.success(), "{migrated:?}");
    let examined = folder.clock(&["doctor"], &settings).output().unwrap();
    let text = String::from_utf8_lossy(&examined.stdout);
    assert!(text.contains("metrics at port 4000"), "{examined:?}");
    assert!(
        text.contains("migrations: the database has all of them"),
        "{text}"
    );
}

#[test]
fn a_taken_port_is_named() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let settings = [
        ("DATABASE_URL", "postgres://someone:canary@127.0.0.1/shop"),
        ("PORT", &port),
    ];
    let line = failed(&Folder::new().clock(&[], &settings).output().unwrap(), 1);
    assert!(line.contains(&port) && line.contains("PORT"), "{line}");
}

#[test]
fn migrate_ends_with_0_or_says_why_not() {
    let folder = Folder::new();
    let url = local_postgres::database();
    assert!(
        folder
            .clock(&["migrate"], &[("DATABASE_URL", &url)])
            .status()
            .unwrap()
            .success()
    );
    let down = format!("postgres://someone:canary@{}/shop", free_address());
    let settings = [("DATABASE_URL", down.as_str()), ("RUST_LOG", "off")];
    failed(&folder.clock(&["migrate"], &settings).output().unwrap(), 1);
}
