//! Making a cluster's data.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use crate::Error;
use crate::folder::Folder;
use crate::server::Place;

/// What `initdb` is told wherever the data is.
pub(crate) const INITDB: [&str; 6] = [
    "--username=postgres",
    "--encoding=UTF8",
    "--auth-local=trust",
    "--auth-host=scram-sha-256",
    // Letters of all languages have an upper and a lower case, as in PostgreSQL's Docker image.
    if cfg!(target_os = "macos") {
        "--locale=en_US.UTF-8"
    } else {
        "--locale=C.UTF-8"
    },
    // A machine that loses power in the next seconds loses nothing that anybody has worked on.
    "--no-sync",
];

/// Runs `initdb` into `data`.
pub(crate) fn initialize(
    place: &Place,
    folder: &Folder,
    password: &str,
    data: &Path,
) -> Result<(), Error> {
    let password_file = folder.path().join("password");
    fs::write(&password_file, password)
        .map_err(|error| Error::because("cannot write the password for initdb", error))?;
    place.account.give(&password_file)?;
    let output = place
        .account
        .command(place.programs.path("initdb"))
        .args(INITDB)
        .arg(format!("--pwfile={}", password_file.display()))
        .arg("--pgdata")
        .arg(data)
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(folder.claim()?)
        .stderr(Stdio::piped())
        .spawn()
        .and_then(std::process::Child::wait_with_output)
        .map_err(|error| Error::because("cannot run initdb", error))?;
    let _ = fs::remove_file(&password_file);
    if output.status.success() {
        return Ok(());
    }
    Err(Error::because(
        "initdb failed",
        String::from_utf8_lossy(&output.stderr).trim_end(),
    ))
}

/// Adds settings to `postgresql.conf`.
pub(crate) fn configure<'a>(
    data: &Path,
    settings: impl Iterator<Item = &'a (&'a str, &'a str)>,
) -> Result<(), Error> {
    let mut text =
        String::from("listen_addresses = '127.0.0.1'\ntimezone = 'UTC'\nlog_timezone = 'UTC'\n");
    for (name, value) in settings {
        text.push_str(&format!("{name} = '{}'\n", value.replace('\'', "''")));
    }
    let file = fs::OpenOptions::new()
        .append(true)
        .open(data.join("postgresql.conf"));
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| Error::because("cannot write postgresql.conf", error))
}
