//! From the distribution, without root: what is not installed yet, into a folder.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::part::Part;
use crate::Error;

/// What stands in a program's place: it finds the libraries that have come with it.
const PROGRAM: &str = r#"#!/bin/sh
root=$(dirname "$0")/../root
for libraries in "$root"/usr/lib/*-linux-gnu*; do LD_LIBRARY_PATH=$libraries:$LD_LIBRARY_PATH; done
export LD_LIBRARY_PATH
exec "$root"/usr/lib/postgresql/*/bin/"$(basename "$0")" "$@"
"#;

/// Puts `home` into `part`: PostgreSQL `major`, or the version that the distribution names. `apt-get` checks what it brings.
pub(crate) fn bring(apt_get: &Path, major: Option<u32>, part: &Part) -> Result<(), Error> {
    let fail = |error| Error::because("cannot unpack the packages", error);
    for folder in ["lists/partial", "archives/partial", "home/root", "home/bin"] {
        fs::create_dir_all(part.path(folder)).map_err(fail)?;
    }
    let apt = Apt { apt_get, part };
    // The machine's own lists may be missing or old, and only root can renew them.
    let machines = apt.download(Lists::Machine, major);
    machines.or_else(|_| {
        fs::remove_dir_all(part.path("archives")).map_err(fail)?;
        fs::create_dir_all(part.path("archives/partial")).map_err(fail)?;
        apt.run(Lists::Own, apt_get, &["update"])?;
        apt.download(Lists::Own, major)
    })?;
    for archive in fs::read_dir(part.path("archives")).map_err(fail)? {
        let archive = archive.map_err(fail)?.path();
        if archive.extension().is_some_and(|ending| ending == "deb") {
            part.run(
                Command::new("dpkg-deb")
                    .arg("-x")
                    .arg(archive)
                    .arg("home/root"),
            )?;
        }
    }
    for program in ["initdb", "pg_ctl", "postgres", "psql"] {
        fs::write(part.path("home/bin").join(program), PROGRAM).map_err(fail)?;
    }
    Ok(())
}

/// Where it is written which packages there are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lists {
    Machine,
    Own,
}

struct Apt<'a> {
    apt_get: &'a Path,
    part: &'a Part,
}

impl Apt<'_> {
    fn run(&self, lists: Lists, program: &Path, arguments: &[&str]) -> Result<String, Error> {
        let folder = |name, path| format!("{name}={}", self.part.path(path).display());
        let mut apt = Command::new(program);
        apt.args([
            "-qq",
            "-o",
            "Debug::NoLocking=1",
            "-o",
            "APT::Sandbox::User=root",
        ])
        .args(["-o", "Acquire::Retries=1", "-o", "Acquire::Languages=none"])
        .args(["-o", &folder("Dir::Cache", "")]);
        if lists == Lists::Own {
            apt.args(["-o", &folder("Dir::State::lists", "lists")]);
        }
        self.part.run(apt.args(arguments))
    }

    fn download(&self, lists: Lists, major: Option<u32>) -> Result<(), Error> {
        let package = match major {
            Some(major) => format!("postgresql-{major}"),
            None => {
                let depends = ["depends", "postgresql"];
                newest(&self.run(lists, Path::new("apt-cache"), &depends)?)?
            }
        };
        let install = ["install", "--yes", "--download-only", "--reinstall"];
        let install = [&install[..], &["--no-install-recommends", &package]].concat();
        self.run(lists, self.apt_get, &install).map(drop)
    }
}

/// The `postgresql-15` on which the package `postgresql` depends.
fn newest(depends: &str) -> Result<String, Error> {
    let mut packages = depends
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "));
    let found = packages.find(|package| package.starts_with("postgresql-"));
    found
        .map(str::to_owned)
        .ok_or_else(|| Error::new("knows no package of PostgreSQL"))
}
