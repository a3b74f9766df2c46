//! A second server that follows a first one by streaming replication, as in production.

use std::fs;
use std::process::{Command, Stdio};

use crate::Error;
use crate::account::Account;
use crate::cluster::Cluster;
use crate::folder::{Folder, random_hex};
use crate::server::{Place, Stop};
use crate::setup::configure;

impl Cluster {
    /// A standby of this cluster, on a free port: a copy of its data that then streams what changes, and takes reads. Its
    /// users and passwords are the same. It keeps its data when the primary goes.
    ///
    /// ```no_run
    /// # fn example() -> Result<(), local_postgres::Error> {
    /// let primary = local_postgres::Cluster::temporary()?;
    /// let standby = primary.standby()?;
    /// primary.stop(local_postgres::Stop::Immediate)?;
    /// standby.promote()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// If it cannot be copied or does not start.
    pub fn standby(&self) -> Result<Self, Error> {
        let account = Account::find()?;
        let folder = Folder::create_fast(&account)?;
        let place = Place {
            programs: self.programs().clone(),
            data: folder.path().join("data"),
            log: folder.path().join("log"),
            last: Stop::Immediate,
            account,
        };
        self.copy_data(&place)?;
        // Through the socket, which asks for no password.
        let primary = format!(
            "host={} port={} user=postgres application_name=standby_{}",
            self.socket_folder().display(),
            self.port(),
            &random_hex()?[..8]
        );
        // Asked for often, so that a primary that comes back is followed soon.
        let settings = [
            ("primary_conninfo", primary.as_str()),
            ("wal_retrieve_retry_interval", "100ms"),
        ];
        configure(&place.data, settings.iter())?;
        Self::start_first(place, folder, self.password().to_owned(), None)
    }

    /// Copies the data of the running server, as `pg_basebackup` would, which is not part of every distribution.
    fn copy_data(&self, place: &Place) -> Result<(), Error> {
        let fail = |error| Error::because("cannot copy the primary's data", error);
        // One session: the server forgets the copy with the session that began it.
        let mut session = self.session("postgres")?;
        session.query("select pg_backup_start('standby', true)")?;
        // Files that go while they are copied are in the log that is replayed, and not missed.
        Command::new("cp")
            .arg("-a")
            .args([self.data_folder(), &place.data])
            .stderr(Stdio::null())
            .status()
            .map_err(fail)?;
        let label = session.query("select labelfile from pg_backup_stop(false)")?;
        fs::write(place.data.join("backup_label"), label.join("\n")).map_err(fail)?;
        for of_the_primary in ["postmaster.pid", "postmaster.opts"] {
            fs::remove_file(place.data.join(of_the_primary)).map_err(fail)?;
        }
        fs::write(place.data.join("standby.signal"), "").map_err(fail)?;
        // What the server itself removes is written by our user, who may be another one.
        for of_ours in ["backup_label", "standby.signal"] {
            place.account.give(&place.data.join(of_ours))?;
        }
        Ok(())
    }

    /// Makes a standby a primary, and waits until it is one.
    ///
    /// # Errors
    /// If it is none, or does not run.
    pub fn promote(&self) -> Result<(), Error> {
        match self.sql("postgres", "select pg_promote(true, 60)")?.trim() {
            "t" => Ok(()),
            _ => Err(Error::new("the standby was not promoted within 60 s")),
        }
    }
}
