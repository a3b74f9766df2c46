//! Data that `initdb` has made once, which temporary clusters are copied from: a copy takes a tenth of the time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

use crate::Error;
use crate::bring::cache_folder;
use crate::folder::{Folder, random_hex};
use crate::lock::wait_for;
use crate::server::Place;
use crate::setup::{INITDB, initialize};

/// Copies the data of an empty cluster into `place`. Its password is one that nobody knows.
pub(crate) fn copy(place: &Place, folder: &Folder) -> Result<(), Error> {
    let cache = cache_folder(&place.account)
        .ok_or_else(|| Error::new("there is no cache folder to keep data in"))?;
    let data = kept(&cache, place, folder)?;
    let copied = place
        .account
        .command("cp")
        .arg("-Rp")
        .args([&data, &place.data])
        .current_dir(folder.path())
        .stderr(Stdio::null())
        .status();
    if copied.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    let _ = fs::remove_dir_all(&place.data);
    Err(Error::new("the data cannot be copied"))
}

/// The folder with the data, which is made if it is not there. One process makes it, and others wait.
fn kept(cache: &Path, place: &Place, folder: &Folder) -> Result<PathBuf, Error> {
    let data = cache.join(name(place));
    let is_whole = || data.join("PG_VERSION").exists();
    if is_whole() {
        return Ok(data);
    }
    let fail = |error| Error::because(format_args!("cannot use {}", cache.display()), error);
    fs::create_dir_all(cache).map_err(fail)?;
    place.account.check_reachable(cache)?;
    let _lock = wait_for(cache)?;
    if !is_whole() {
        let made = folder.path().join("made");
        initialize(place, folder, &random_hex()?, &made)?;
        // Into another file system in two steps, of which only the last one counts.
        let part = cache.join("data-part");
        for left in [&part, &data] {
            let _ = fs::remove_dir_all(left);
        }
        let mut copy = Command::new("cp");
        let copied = copy.arg("-Rp").args([&made, &part]).status();
        let _ = fs::remove_dir_all(&made);
        if !copied.map_err(fail)?.success() {
            return Err(Error::new("the data cannot be kept"));
        }
        fs::rename(&part, &data).map_err(fail)?;
    }
    Ok(data)
}

/// Another one for each PostgreSQL, and for whatever else `initdb` is told.
fn name(place: &Place) -> String {
    let made_by = format!("{} {INITDB:?}", place.programs);
    let hash = Sha256::digest(made_by);
    let hash: String = hash[..6].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("data-{}-{hash}", place.programs.major)
}
