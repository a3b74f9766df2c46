//! Whom the server runs as: us, or, because PostgreSQL refuses to run as root, another user.

use std::ffi::OsStr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::Error;
use crate::say::say;

/// The users tried in root's place, in this order.
const STAND_INS: [&str; 4] = ["postgres", "nobody", "daemon", MADE];

/// The one that is made if there is none of the others.
const MADE: &str = "reservoir";

/// What makes it, on most systems and on those with BusyBox.
const MAKERS: [(&str, &[&str]); 2] = [
    ("useradd", &["--system", "--no-create-home", "--user-group"]),
    ("adduser", &["-S", "-D", "-H"]),
];

/// The user that owns the data and runs the server.
#[derive(Clone)]
pub(crate) struct Account(Option<StandIn>);

#[derive(Clone)]
struct StandIn {
    uid: u32,
    gid: u32,
    name: &'static str,
}

impl StandIn {
    fn find() -> Option<Self> {
        STAND_INS.into_iter().find_map(|name| {
            let (uid, gid) = (id(&["-u", name])?, id(&["-g", name])?);
            (uid != 0).then_some(Self { uid, gid, name })
        })
    }

    /// Another process may make it at the same time: what counts is that it is there.
    fn make() -> Option<Self> {
        for (maker, arguments) in MAKERS {
            let _ = Command::new(maker).args(arguments).arg(MADE).output();
            if let Some(made) = Self::find() {
                say(format_args!(
                    "PostgreSQL refuses to run as root: made the user {MADE} for it, by {maker}."
                ));
                return Some(made);
            }
        }
        None
    }
}

impl Account {
    /// Ourselves, unless we are root.
    pub(crate) fn find() -> Result<Self, Error> {
        if id(&["-u"]) != Some(0) {
            return Ok(Self(None));
        }
        match StandIn::find().or_else(StandIn::make) {
            Some(stand_in) => Ok(Self(Some(stand_in))),
            None => Err(Error::new(format!(
                "PostgreSQL refuses to run as root, none of the users {} exists, and `useradd --system {MADE}` fails: \
                 create one, or run this as another user",
                STAND_INS.join(", ")
            ))),
        }
    }

    /// A command that runs as this user, untouched by `PG…` variables meant for another server.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = clean_command(program);
        if let Some(stand_in) = &self.0 {
            command.uid(stand_in.uid).gid(stand_in.gid);
        }
        command
    }

    /// Whether the server runs as another user than we do.
    pub(crate) fn is_stand_in(&self) -> bool {
        self.0.is_some()
    }

    /// Makes the user the owner of `path`.
    pub(crate) fn give(&self, path: &Path) -> Result<(), Error> {
        let Some(stand_in) = &self.0 else {
            return Ok(());
        };
        chown(path, Some(stand_in.uid), Some(stand_in.gid)).map_err(|error| {
            Error::because(
                format_args!("cannot give {} to {}", path.display(), stand_in.name),
                error,
            )
        })
    }

    /// Whether `uid` is ours or this user's.
    pub(crate) fn trusts(&self, uid: u32) -> bool {
        match &self.0 {
            Some(stand_in) => uid == 0 || uid == stand_in.uid,
            None => id(&["-u"]) == Some(uid),
        }
    }

    /// An error if the user cannot get to what is in `folder`, as in a folder under /root.
    pub(crate) fn check_reachable(&self, folder: &Path) -> Result<(), Error> {
        let Some(stand_in) = &self.0 else {
            return Ok(());
        };
        let closed = |folder: &&Path| {
            folder.metadata().is_ok_and(|metadata| {
                let enter = if metadata.uid() == stand_in.uid {
                    0o100
                } else {
                    0o001
                };
                metadata.permissions().mode() & enter == 0
            })
        };
        match folder.ancestors().find(closed) {
            None => Ok(()),
            Some(closed) => Err(Error::new(format!(
                "PostgreSQL refuses to run as root, and the user {} cannot enter {}: choose another folder than {}",
                stand_in.name,
                closed.display(),
                folder.display()
            ))),
        }
    }
}

/// A command that no `PG…` variable reaches and whose messages are English.
fn clean_command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"PG") {
            command.env_remove(name);
        }
    }
    command.env("LC_ALL", "C");
    command
}

fn id(arguments: &[&str]) -> Option<u32> {
    let output = Command::new("id").args(arguments).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}
