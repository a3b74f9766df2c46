//! Whom the server runs as: us, or, because PostgreSQL refuses to run as root, another existing user.

use std::ffi::OsStr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::Error;

/// The users tried in root's place, in this order.
const STAND_INS: [&str; 3] = ["postgres", "nobody", "daemon"];

/// The user that owns the data and runs the server.
#[derive(Clone)]
pub(crate) struct Account(Option<StandIn>);

#[derive(Clone)]
struct StandIn {
    uid: u32,
    gid: u32,
    name: &'static str,
}

impl Account {
    /// Ourselves, unless we are root.
    pub(crate) fn find() -> Result<Self, Error> {
        if id(&["-u"]) != Some(0) {
            return Ok(Self(None));
        }
        let stand_in = STAND_INS.into_iter().find_map(|name| {
            let (uid, gid) = (id(&["-u", name])?, id(&["-g", name])?);
            (uid != 0).then_some(StandIn { uid, gid, name })
        });
        match stand_in {
            Some(stand_in) => Ok(Self(Some(stand_in))),
            None => Err(Error::new(format!(
                "PostgreSQL refuses to run as root, and none of the users {} exists: create one, or run this as another user",
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
