//! A private folder that is removed when nobody uses it any more.

use std::fs::{self, DirBuilder};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::Error;
use crate::account::Account;

/// A unix socket's path has room for about a hundred bytes; the rest of them is for our folder's and the socket's names.
const LONGEST_PARENT: usize = 60;

/// Kilobytes that have to be free in memory: many times what tests and the log of their changes take.
const ROOM_IN_MEMORY: u64 = 4 * 1024 * 1024;

/// A folder under the system's temporary one, mode 0700, owned by the server's user.
///
/// A `sh` process removes it as soon as all write ends of its pipe are closed: ours, by drop or death, and those given away
/// with [`Folder::claim`].
pub(crate) struct Folder {
    path: PathBuf,
    remover: Child,
}

impl Folder {
    pub(crate) fn create(account: &Account) -> Result<Self, Error> {
        Self::create_in(&parent(account)?, account)
    }

    /// In the machine's memory if there is room, where a database is made in a tenth of the time, else as
    /// [`Folder::create`]. `TMPDIR` wins.
    pub(crate) fn create_fast(account: &Account) -> Result<Self, Error> {
        match memory(account) {
            Some(memory) if std::env::var_os("TMPDIR").is_none() => {
                Self::create_in(memory, account)
            }
            _ => Self::create(account),
        }
    }

    fn create_in(parent: &Path, account: &Account) -> Result<Self, Error> {
        let path = parent.join(format!("reservoir-{}", &random_hex()?[..12]));
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|error| {
                Error::because(format_args!("cannot create {}", path.display()), error)
            })?;
        // In a group of its own, so that Ctrl-C in the terminal does not reach it.
        let remover = Command::new("sh")
            .args([
                "-c",
                r#"cat >/dev/null; rm -rf -- "$1""#,
                "local-postgres-remover",
            ])
            .arg(&path)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| Error::because("cannot run sh", error))?;
        let folder = Self { path, remover };
        account.give(&folder.path)?;
        Ok(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Something to inherit for a process that uses the folder: it is not removed before that process is gone.
    pub(crate) fn claim(&self) -> Result<Stdio, Error> {
        let Some(pipe) = &self.remover.stdin else {
            return Ok(Stdio::null());
        };
        let pipe = std::os::fd::AsFd::as_fd(pipe).try_clone_to_owned();
        pipe.map(|pipe: OwnedFd| Stdio::from(pipe))
            .map_err(|error| Error::because("cannot copy a file descriptor", error))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(self.remover.stdin.take());
        let _ = self.remover.wait();
    }
}

/// Where the server's user can get to, and short enough for a socket.
fn parent(account: &Account) -> Result<PathBuf, Error> {
    let candidates = [std::env::temp_dir(), "/tmp".into(), "/var/tmp".into()];
    let fits = |path: &PathBuf| {
        path.is_dir()
            && path.as_os_str().len() <= LONGEST_PARENT
            && account.check_reachable(path).is_ok()
    };
    let found = candidates
        .into_iter()
        .filter_map(|path| fs::canonicalize(path).ok())
        .find(fits);
    found.ok_or_else(|| Error::new("neither TMPDIR nor /tmp nor /var/tmp is a folder that the PostgreSQL server's user can enter"))
}

/// Linux's folder in memory, if a database and its log have room there, which in a container they often have not.
fn memory(account: &Account) -> Option<&'static Path> {
    let folder = Path::new("/dev/shm");
    if !folder.is_dir() || account.check_reachable(folder).is_err() {
        return None;
    }
    let output = Command::new("df").arg("-Pk").arg(folder).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let free: u64 = text
        .lines()
        .nth(1)?
        .split_whitespace()
        .nth(3)?
        .parse()
        .ok()?;
    (free >= ROOM_IN_MEMORY).then_some(folder)
}

/// 32 hexadecimal digits that nobody can guess.
pub(crate) fn random_hex() -> Result<String, Error> {
    let mut bytes = [0_u8; 16];
    let read = fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(|error| Error::because("cannot read /dev/urandom", error))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
