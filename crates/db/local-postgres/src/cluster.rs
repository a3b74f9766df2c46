//! A cluster: its data, its settings, and its server, which may run or not.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::account::Account;
use crate::find::find;
use crate::folder::{Folder, random_hex};
use crate::lock::Lock;
use crate::port::{free_port, is_free};
use crate::programs::{Programs, is_in_path};
use crate::server::{Failure, Place, Server};
use crate::setup::{configure, initialize};
use crate::sql::{Session, statements};
use crate::{Error, Stop, kept};

/// What a temporary cluster saves time with, and room for many tests at once. A crash of the server loses no
/// commit all the same, only one of the machine does.
const TEMPORARY: [(&str, &str); 4] = [
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("max_wal_size", "256MB"),
    ("max_connections", "300"),
];

/// How long a start waits for a port or for data that something else still holds.
const PATIENCE: Duration = Duration::from_secs(15);

/// A private PostgreSQL server with its data. Dropping it stops the server and removes what is temporary; the death of
/// this process, `kill -9` included, does the same.
///
/// The superuser is `postgres` with a random password, which TCP connections (127.0.0.1 only) have to give. The
/// unix socket lies in a folder that only the server's user can enter and asks for none.
pub struct Cluster {
    // Fields are dropped in this order: the server stops before the folder of its socket goes.
    server: Mutex<Option<Server>>,
    place: Place,
    /// Holds the socket and, of a temporary cluster, everything else.
    folder: Folder,
    port: u16,
    password: String,
    /// Keeps other processes away from data that survives.
    _lock: Option<Lock>,
}

impl Cluster {
    /// A new, empty cluster on a free port, tuned for tests: no `fsync`, 300 connections.
    ///
    /// # Errors
    /// If PostgreSQL is missing, too old, or does not start.
    pub fn temporary() -> Result<Self, Error> {
        Self::temporary_with(&[])
    }

    /// The same with further settings of `postgresql.conf`, which win: `("max_connections", "20")`.
    ///
    /// # Errors
    /// As [`Cluster::temporary`].
    pub fn temporary_with(settings: &[(&str, &str)]) -> Result<Self, Error> {
        let account = Account::find()?;
        let folder = Folder::create_fast(&account)?;
        let place = Place {
            programs: find(&account, None)?,
            data: folder.path().join("data"),
            log: folder.path().join("log"),
            last: Stop::Immediate,
            account,
        };
        let password = random_hex()?;
        let copied = kept::copy(&place, &folder).is_ok();
        if !copied {
            initialize(&place, &folder, &password, &place.data)?;
        }
        configure(&place.data, TEMPORARY.iter().chain(settings))?;
        let cluster = Self::start_first(place, folder, password, None)?;
        if copied {
            cluster.set_password()?;
        }
        Ok(cluster)
    }

    /// The URL of a database over TCP, `postgres://postgres:PASSWORD@127.0.0.1:PORT/database`.
    pub fn url(&self, database: &str) -> String {
        format!(
            "postgres://postgres:{}@127.0.0.1:{}/{database}",
            self.password, self.port
        )
    }

    /// The URL of a database through the unix socket.
    pub fn socket_url(&self, database: &str) -> String {
        let (password, port, folder) = (&self.password, self.port, self.folder.path().display());
        format!("postgres://postgres:{password}@localhost:{port}/{database}?host={folder}")
    }

    /// The TCP port, the same for the cluster's whole life.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// PostgreSQL's data folder.
    pub fn data_folder(&self) -> &Path {
        &self.place.data
    }

    /// The folder of the unix socket, for `psql -h`.
    pub fn socket_folder(&self) -> &Path {
        self.folder.path()
    }

    /// Which PostgreSQL it is: `PostgreSQL 18.4 (brought) in FOLDER`.
    pub fn postgres(&self) -> String {
        self.place.programs.to_string()
    }

    /// A `psql` that can be run: the first in `PATH`, or the one that belongs to the server, if there is any.
    pub fn psql(&self) -> Option<PathBuf> {
        let own = || Some(self.place.programs.path("psql")).filter(|path| path.is_absolute());
        if is_in_path("psql") {
            Some("psql".into())
        } else {
            own()
        }
    }

    /// What the server has logged, for a look after a failure.
    pub fn log_file(&self) -> &Path {
        &self.place.log
    }

    /// Creates an empty database, whatever was done to `template1`.
    ///
    /// # Errors
    /// If it exists, or the server does not run.
    pub fn create_database(&self, name: &str) -> Result<(), Error> {
        let name = name.replace('"', "\"\"");
        self.sql(
            "postgres",
            &format!(r#"create database "{name}" template template0"#),
        )
        .map(drop)
    }

    /// Runs SQL as superuser and gives what it answers: rows as lines, no header, fields separated by `|`. Each statement
    /// commits by itself; the first that fails is the last. Statements only, none of `psql`'s own commands.
    ///
    /// # Errors
    /// With the server's message, if a statement fails or the server does not run.
    pub fn sql(&self, database: &str, sql: &str) -> Result<String, Error> {
        let run = || {
            let mut session = self.session(database)?;
            let mut lines = Vec::new();
            for statement in statements(sql) {
                lines.extend(session.query(statement)?);
            }
            Ok::<_, Error>(lines.join("\n").trim_end().to_owned())
        };
        run().map_err(|error| Error::because(format_args!("SQL on {database}"), error))
    }

    /// Stops the server and waits until it has gone. Nothing happens if it is stopped already.
    ///
    /// # Errors
    /// If it still runs after 60 s; [`Stop::Smart`] waits without end.
    pub fn stop(&self, mode: Stop) -> Result<(), Error> {
        let mut server = self.server();
        match server.as_mut() {
            Some(running) => running.stop(mode)?,
            None => return Ok(()),
        }
        *server = None;
        Ok(())
    }

    /// Starts a stopped server, on the same port, and waits until it answers. A server that runs is left alone, one that
    /// has crashed is started anew.
    ///
    /// # Errors
    /// If it does not start within 60 s, or its port stays taken.
    pub fn start(&self) -> Result<(), Error> {
        let mut server = self.server();
        if let Some(running) = server.as_mut()
            && running.answers(self.port)?
        {
            return Ok(());
        }
        *server = None;
        *server = Some(Server::start_patiently(
            &self.place,
            &self.folder,
            self.port,
        )?);
        Ok(())
    }

    /// [`Cluster::stop`], then [`Cluster::start`].
    ///
    /// # Errors
    /// As these two.
    pub fn restart(&self, mode: Stop) -> Result<(), Error> {
        self.stop(mode)?;
        self.start()
    }

    pub(crate) fn session(&self, database: &str) -> Result<Session, Error> {
        Session::open(self.folder.path(), self.port, database)
    }

    pub(crate) fn programs(&self) -> &Programs {
        &self.place.programs
    }

    pub(crate) fn password(&self) -> &str {
        &self.password
    }

    /// Starts on `port` or, if there is none or it is taken, on a free one.
    pub(crate) fn start_first(
        place: Place,
        folder: Folder,
        password: String,
        port: Option<u16>,
    ) -> Result<Self, Error> {
        let mut port = match port {
            Some(port) if is_free(port) => port,
            _ => free_port()?,
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            match Server::start(&place, &folder, port) {
                Ok(server) => {
                    return Ok(Self {
                        server: Mutex::new(Some(server)),
                        place,
                        folder,
                        port,
                        password,
                        _lock: None,
                    });
                }
                Err(failure) if Instant::now() > deadline => return Err(failure.explain(port)),
                Err(Failure::PortTaken) => port = free_port()?,
                Err(Failure::DataInUse) => std::thread::sleep(Duration::from_millis(100)),
                Err(Failure::Other(error)) => return Err(error),
            }
        }
    }

    /// Makes the server's password the one we give out.
    pub(crate) fn set_password(&self) -> Result<(), Error> {
        self.sql(
            "postgres",
            &format!("alter role postgres password '{}'", self.password),
        )
        .map(drop)
    }

    pub(crate) fn with_lock(self, lock: Lock) -> Self {
        Self {
            _lock: Some(lock),
            ..self
        }
    }

    fn server(&self) -> MutexGuard<'_, Option<Server>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
