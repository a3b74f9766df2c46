//! Clusters whose data outlives the process, and what is left of them when one was killed.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Stdio;

use crate::account::Account;
use crate::find::{Find, find, find_offline};
use crate::folder::{Folder, random_hex};
use crate::lock::lock;
use crate::process::command_line;
use crate::server::Place;
use crate::setup::{configure, initialize};
use crate::{Cluster, Error, Stop};

impl Cluster {
    /// The cluster in `folder`, made there at first use, with the same data, password and, if it is free, port
    /// every time. Only its owner can enter the folder. A server that an earlier process has left there is stopped first.
    ///
    /// # Errors
    /// If another process uses the folder; if the data needs another version of PostgreSQL than there is; as root, if the
    /// folder is one that the server's user cannot reach; and as [`Cluster::temporary`].
    pub fn persistent(folder: &Path) -> Result<Self, Error> {
        Self::persistent_with(folder, find)
    }

    /// The same, and PostgreSQL is not brought if it is not there.
    ///
    /// # Errors
    /// As [`Cluster::persistent`].
    pub fn persistent_offline(folder: &Path) -> Result<Self, Error> {
        Self::persistent_with(folder, find_offline)
    }

    fn persistent_with(folder: &Path, find: Find) -> Result<Self, Error> {
        let account = Account::find()?;
        let home = open(folder, &account)?;
        let lock = lock(&home)?;
        let data = home.join("data");
        let programs = find(&account, Some(&data))?;
        let place = Place {
            programs,
            log: home.join("log"),
            last: Stop::Fast,
            account,
            data,
        };
        stop_leftover(&place)?;
        let sockets = Folder::create(&place.account)?;
        let (password, is_new) = password(&home)?;
        let had_data = place.data.exists();
        if !had_data {
            create_data(&place, &sockets, &password)?;
        }
        let port_file = home.join("port");
        let last_port = fs::read_to_string(&port_file)
            .ok()
            .and_then(|text| text.trim().parse().ok());
        let cluster = Self::start_first(place, sockets, password, last_port)?.with_lock(lock);
        fs::write(&port_file, cluster.port().to_string())
            .map_err(|error| Error::because("cannot write the port", error))?;
        if had_data && is_new {
            cluster.set_password()?;
        }
        Ok(cluster)
    }

    /// Removes a persistent cluster with all its data. Nothing happens if there is none.
    ///
    /// # Errors
    /// If another process uses it, or the folder cannot be removed.
    pub fn remove(folder: &Path) -> Result<(), Error> {
        if !folder.exists() {
            return Ok(());
        }
        let account = Account::find()?;
        let home = open(folder, &account)?;
        let _lock = lock(&home)?;
        let data = home.join("data");
        // Data of a version that is gone can be removed, and has no server.
        if let Ok(programs) = find_offline(&account, Some(&data)) {
            stop_leftover(&Place {
                programs,
                log: home.join("log"),
                last: Stop::Fast,
                account,
                data,
            })?;
        }
        fs::remove_dir_all(&home).map_err(|error| {
            Error::because(format_args!("cannot remove {}", home.display()), error)
        })
    }
}

/// Creates the folder, or takes it over as it is.
fn open(folder: &Path, account: &Account) -> Result<std::path::PathBuf, Error> {
    let fail = |error| Error::because(format_args!("cannot use {}", folder.display()), error);
    fs::create_dir_all(folder).map_err(fail)?;
    let home = fs::canonicalize(folder).map_err(fail)?;
    if !account.trusts(home.metadata().map_err(fail)?.uid()) {
        return Err(Error::new(format!(
            "{} belongs to another user",
            home.display()
        )));
    }
    account.give(&home)?;
    fs::set_permissions(&home, Permissions::from_mode(0o700)).map_err(fail)?;
    account.check_reachable(&home)?;
    Ok(home)
}

/// The password, and whether it is a new one.
fn password(home: &Path) -> Result<(String, bool), Error> {
    let path = home.join("password");
    if let Ok(password) = fs::read_to_string(&path)
        && !password.is_empty()
    {
        return Ok((password, false));
    }
    let password = random_hex()?;
    fs::write(&path, &password)
        .map_err(|error| Error::because(format_args!("cannot write {}", path.display()), error))?;
    Ok((password, true))
}

/// All or nothing: an interrupted `initdb` leaves no data behind that looks complete.
fn create_data(place: &Place, sockets: &Folder, password: &str) -> Result<(), Error> {
    let unfinished = place.data.with_extension("unfinished");
    let fail = |error| Error::because("cannot create the data", error);
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(fail)?;
    }
    initialize(place, sockets, password, &unfinished)?;
    configure(&unfinished, [].iter())?;
    fs::rename(&unfinished, &place.data).map_err(fail)
}

/// Stops a server that still runs on the data, because the watchdog was killed as well or is still at work.
fn stop_leftover(place: &Place) -> Result<(), Error> {
    let pid_file = place.data.join("postmaster.pid");
    let text = fs::read_to_string(&pid_file).unwrap_or_default();
    let Some(pid) = text
        .lines()
        .next()
        .and_then(|line| line.trim().parse::<u32>().ok())
    else {
        return Ok(());
    };
    // If nobody has this number, PostgreSQL sees that itself, and checks for more.
    let Some(command) = command_line(pid) else {
        return Ok(());
    };
    if !command.contains(&*place.data.to_string_lossy()) {
        // The number has gone to another process, or its process is dead but not buried: PostgreSQL would be misled.
        return fs::remove_file(&pid_file)
            .map_err(|error| Error::because("cannot remove a stale postmaster.pid", error));
    }
    let output = place
        .account
        .command(place.programs.path("pg_ctl"))
        .args([
            "stop",
            "--silent",
            "--wait",
            "--timeout=60",
            "--mode=fast",
            "--pgdata",
        ])
        .arg(&place.data)
        .current_dir(&place.data)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Error::because("cannot run pg_ctl", error))?;
    if output.status.success() || !pid_file.exists() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr)
        .trim_end()
        .to_owned();
    Err(Error::because(
        format_args!("cannot stop the PostgreSQL server that still runs as process {pid}"),
        message,
    ))
}
