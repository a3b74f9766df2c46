//! Settings that cannot be read end the process with one clear line, and never with a secret in it.

use crate::process::run;

const CANARY: &str = "canary-7f3a";

/// What the process says before it ends with `code`.
fn said(subcommand: &str, settings: &[(&str, &str)], code: i32) -> String {
    let output = run(subcommand, settings);
    let everything = [output.stdout, output.stderr]
        .map(|bytes| String::from_utf8(bytes).unwrap())
        .concat();
    assert_eq!(
        output.status.code(),
        Some(code),
        "{settings:?}: {everything}"
    );
    assert!(
        !everything.contains(CANARY),
        "a secret is out: {everything}"
    );
    assert_eq!(
        everything.trim().lines().count(),
        1,
        "{settings:?}: {everything}"
    );
    everything
}

#[test]
fn a_bad_setting_is_named() {
    let url = &*format!("postgres://ada:{CANARY}@127.0.0.1:1/x");
    for (name, value, by_migrate) in [
        ("PORT", "http", false),
        ("PORT", "65536", false),
        ("PORT", "-1", false),
        ("HOST", "local host", false),
        ("APP_ENV", "staging", true),
        ("SHUTDOWN_TIMEOUT", "soon", false),
        ("MIGRATE", "maybe", true),
        ("RUST_LOG", "=loud=", true),
    ] {
        let settings = [("DATABASE_URL", url), (name, value)];
        let text = said("serve", &settings, 78);
        assert!(text.contains(name), "{text}");
        if by_migrate {
            let text = said("migrate", &settings, 78);
            assert!(text.contains(name), "{text}");
        }
    }
}

#[test]
fn a_bad_database_url_is_named_by_its_key() {
    let with = |parameters: &str| {
        format!("postgres://ada:{CANARY}@127.0.0.1:1/x?password={CANARY}&{parameters}")
    };
    for (parameters, named) in [
        ("connection_limt=5", "connection_limit"),
        ("connection_limit=many", "connection_limit"),
        ("pool_timeout=-1", "pool_timeout"),
        ("sslmode=maybe", "sslmode"),
    ] {
        for subcommand in ["serve", "migrate"] {
            let said = said(subcommand, &[("DATABASE_URL", &with(parameters))], 78);
            assert!(said.contains(named), "{parameters}: {said}");
        }
    }
    for url in [
        CANARY.to_owned(),
        format!("mysql://ada:{CANARY}@127.0.0.1/x"),
        format!("postgres://ada:{CANARY}@[/x"),
    ] {
        let said = said("serve", &[("DATABASE_URL", &url)], 78);
        assert!(said.contains("DATABASE_URL"), "{said}");
    }
    assert!(said("serve", &[], 78).contains("DATABASE_URL"));
}

#[test]
fn each_variable_with_a_url_is_read_at_the_start_and_named() {
    let url = &*format!("postgres://ada:{CANARY}@127.0.0.1:1/x");
    let bad = &*format!("{url}?max=5");
    for (name, value) in [
        ("DIRECT_URL", bad),
        ("DATABASE_REPLICA_URLS", bad),
        ("PGCHANNELBINDING", "require"),
        ("PGOPTIONS", CANARY),
    ] {
        for subcommand in ["serve", "migrate"] {
            let said = said(subcommand, &[("DATABASE_URL", url), (name, value)], 78);
            assert!(said.contains(name), "{said}");
        }
    }
    // An empty one is none: then the file is read, also one that an editor began with a mark.
    let file = std::env::temp_dir().join(format!("url-{}", std::process::id()));
    std::fs::write(&file, format!("\u{feff}{bad}\r\n")).unwrap();
    let file = file.to_str().unwrap();
    for empty in ["", " \n"] {
        let settings = [("DATABASE_URL", empty), ("DATABASE_URL_FILE", file)];
        let said = said("serve", &settings, 78);
        assert!(said.contains("write `connection_limit`"), "{said}");
    }
    std::fs::remove_file(file).unwrap();
}

#[test]
fn a_subcommand_that_is_none_is_named() {
    let said = said("sevre", &[], 2);
    assert!(said.contains("sevre") && said.contains("serve"), "{said}");
}

#[test]
fn help_lists_the_subcommands_and_settings() {
    let output = run("--help", &[]);
    assert!(output.status.success());
    let help = String::from_utf8(output.stdout).unwrap();
    for word in [
        "serve",
        "migrate",
        "healthcheck",
        "DATABASE_URL",
        "PORT",
        "4004",
    ] {
        assert!(help.contains(word), "{word}: {help}");
    }
}
